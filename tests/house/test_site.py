"""The site: its Python runs, its reference is complete, its links and pictures exist."""

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import jax
import pytest

import sedma_jax as sj

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "docs" / "pages"
TEXTS = {
    p.relative_to(PAGES).as_posix(): p.read_text() for p in sorted(PAGES.rglob("*.md"))
}
CODE = {
    page: re.findall(r"```python\n(.*?)```", text, re.S) for page, text in TEXTS.items()
}


@pytest.fixture
def as_users_have_it(tmp_path, monkeypatch):
    """The defaults of JAX, and a folder of one's own."""
    monkeypatch.chdir(tmp_path)
    with (
        jax.enable_x64(False),
        jax.numpy_dtype_promotion("standard"),
        jax.numpy_rank_promotion("allow"),
    ):
        yield


@pytest.mark.parametrize("page", [page for page, blocks in CODE.items() if blocks])
def test_python_of_a_page_runs_and_asserts(page, as_users_have_it):
    names = {"__name__": "page"}
    assert any("assert" in block for block in CODE[page])
    for number, block in enumerate(CODE[page], 1):
        exec(compile(block, f"{page}, block {number}", "exec"), names)


def test_no_python_hides_from_the_test():
    for page, text in TEXTS.items():
        assert not re.search(r"```(py|python3|pycon)\b(?!thon)", text), page


@pytest.fixture(scope="module")
def api_topics():
    sys.path.insert(0, str(ROOT / "docs"))
    try:
        import api_topics
    finally:
        sys.path.remove(str(ROOT / "docs"))
    return api_topics


def test_reference_has_every_public_name_once(api_topics):
    listed = " ".join(names for _, names in api_topics.TOPICS.values()).split()
    assert len(listed) == len(set(listed))
    modules = {name for name in dir(sj) if type(getattr(sj, name)).__name__ == "module"}
    assert set(listed) == set(dir(sj)) - modules
    assert set(api_topics.MODULES) == modules


def test_dir_shows_public_names_only():
    assert all(not name.startswith("_") for name in dir(sj))
    own = {"analogize", "digitize", "inspect", "age", "matrices", "AnalogLinear"}
    names = dir(sj.nn.flax)
    assert own <= set(names)
    for name in names:
        assert getattr(sj.nn.flax, name).__module__ == sj.nn.flax.__name__, name


def test_command_line_page_has_every_option_of_every_command():
    code = "import sys; sys.path[:0] = ['docs']; import hooks; print(hooks.command_line())"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True
    )
    for said in (
        "`sedma run`",
        "`sedma deploy watch`",
        "--memory URL",
        "`sedma job submit`",
    ):
        assert said in done.stdout, said


class _Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.links, self.sources, self.anchors, self.headings = [], [], set(), 0
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.anchors.add(found.get("id"))
        self.anchors.add(found.get("name"))
        self.headings += tag == "h1"
        if tag in ("a", "link") and found.get("href"):
            self.links.append(found["href"])
        if found.get("src"):
            self.sources.append(found["src"])


@pytest.mark.slow
def test_site_is_whole_and_fetches_nothing(tmp_path):
    """Every internal link, anchor, picture, style and script of the built site exists."""
    command = f"-m mkdocs -q build --strict -f {ROOT / 'docs/mkdocs.yml'} -d {tmp_path}"
    done = subprocess.run(
        [sys.executable, *command.split()], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr[-3000:]
    pages = {p: _Page(p.read_text()) for p in sorted(tmp_path.rglob("*.html"))}
    assert len(pages) >= 50
    for path, page in pages.items():
        for source in page.sources:
            assert not urlsplit(source).netloc, f"{path} fetches {source}"
        for link in page.links + page.sources:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc or path.name == "404.html":
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            assert target.exists(), f"{path.relative_to(tmp_path)} links to {link}"
            if parts.fragment and target in pages and parts.fragment != "__skip":
                anchors = pages[target].anchors
                assert unquote(parts.fragment) in anchors, f"{path} links to {link}"
        assert page.headings == 1 or path.name == "404.html", path
        assert "arithmatex" not in path.read_text(), f"{path} has an equation in TeX"
