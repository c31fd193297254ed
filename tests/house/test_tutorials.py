"""The tutorials: committed pages are those of today's scripts, and every script runs."""

import importlib.util
import re
from pathlib import Path

import pytest
from missing import missing

FOLDER = Path(__file__).parents[2] / "docs" / "tutorials"
PAGES = FOLDER / "pages"
SCRIPTS = sorted(path for path in FOLDER.glob("*.py") if path.stem != "render")
each_script = pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)


def cells(script):
    """The text and the code cells of a script in percent format."""
    text, code = [], []
    for block in re.split(r"^# %%", script.read_text(), flags=re.M)[1:]:
        kind, _, body = block.partition("\n")
        if "[markdown]" in kind:
            body = re.sub(r"^# ?", "", body, flags=re.M)
        (text if "[markdown]" in kind else code).append(body.strip())
    return text, code


def pictures(page):
    return re.findall(r"!\[[^]]*\]\(([^)]+\.png)\)", page)


def test_every_page_has_a_script_and_every_picture_a_page():
    assert SCRIPTS
    pages = sorted(PAGES.glob("*.md"))
    assert [page.stem for page in pages] == [script.stem for script in SCRIPTS]
    shown = [name for page in pages for name in pictures(page.read_text())]
    assert sorted(shown) == sorted(path.name for path in PAGES.glob("*.png"))


@each_script
def test_the_committed_page_is_that_of_the_script(script):
    text, code = cells(script)
    assert text[0].startswith("# ") and any("assert" in each for each in code)
    page = (PAGES / f"{script.stem}.md").read_text()
    shown = re.findall(r"^```python\n(.*?)\n```$", page, re.M | re.S)
    again = f"run `python docs/tutorials/render.py {script.stem}`"
    assert [each.strip() for each in shown] == code, again
    place = 0
    for each in text:
        place = page.find(each, place)
        assert place >= 0, f"{again}: the page lacks, in its place, {each[:60]!r}"
        place += len(each)


@each_script
def test_lines_of_code_are_counted(script):
    text, code = cells(script)
    claimed = re.findall(r"(\d+)\s+lines\s+of\s+code\s+on\s+this\s+page", "\n".join(text))
    lines = [line.strip() for each in code for line in each.splitlines()]
    counted = sum(bool(line) and not line.startswith("#") for line in lines)
    assert claimed in ([], [str(counted)])


@each_script
def test_pictures_are_small(script):
    page = (PAGES / f"{script.stem}.md").read_text()
    for name in pictures(page):
        data = (PAGES / name).read_bytes()
        assert data.startswith(b"\x89PNG") and len(data) <= 60_000


@pytest.mark.slow
@each_script
def test_the_notebook_of_a_script_runs(script):
    try:
        render = _render()
    except ModuleNotFoundError as error:
        missing("the extra `docs` is missing", error)
    page = (PAGES / f"{script.stem}.md").read_text()
    _, found = render.page(script.stem, render.execute(script))
    assert sorted(found) == sorted(pictures(page))


def _render():
    spec = importlib.util.spec_from_file_location("render", FOLDER / "render.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
