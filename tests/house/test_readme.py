"""The Python of README runs as it stands."""

import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parents[2] / "README.md"


def test_examples_run(tmp_path):
    text = README.read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 2
    code = (
        "\n".join(blocks) + "\nassert info.relative_l2_corrected < info.relative_l2_raw\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_commands_name_files_that_exist():
    for path in re.findall(r"(?:bench|data|docs|\.ci)/[\w./-]*\w", README.read_text()):
        assert (README.parent / path).exists(), path
