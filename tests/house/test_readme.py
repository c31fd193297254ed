"""The Python of README runs as it stands."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parents[2] / "README.md"
PAGES = ["docs/decisions.md", "docs/recipes.md", "docs/promises.md", "bench/README.md"]
SITE = README.parent / "docs" / "pages"
PAGES += sorted(p.relative_to(README.parent).as_posix() for p in SITE.rglob("*.md"))


def test_examples_run(tmp_path):
    text = README.read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 1
    code = (
        "\n".join(blocks) + "\nassert info.relative_l2_corrected < info.relative_l2_raw\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_stays_short_and_shows_the_set_up():
    text = README.read_text()
    assert len(text.splitlines()) <= 100
    commands = re.findall(r"^bash \.ci/in-venv .*", text, re.M)
    assert commands[0].startswith("bash .ci/in-venv sedma run data/")
    assert commands[1] == "bash .ci/in-venv pytest -n 2"


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", *PAGES])
def test_pages_name_files_that_exist(page):
    text = (README.parent / page).read_text()
    folders = r"bench|data|docs|kernels|tests|sedma_jax|\.ci"
    paths = re.findall(rf"(?<![\w/.-])(?:{folders})/[\w./-]*\w", text)
    modules = re.findall(r"-m (bench(?:\.[a-z0-9_]+)+)", text)
    for path in [*paths, *(m.replace(".", "/") + ".py" for m in modules)]:
        assert (README.parent / path).exists(), path
