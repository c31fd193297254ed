"""What errors and pages say of installing works today."""

import re
import tomllib
from importlib.metadata import metadata
from pathlib import Path

from sedma_jax._extras import install_hint

ROOT = Path(__file__).parents[2]
FOLDERS = ("sedma_jax", "kernels", "bench", "docs", "README.md", "CONTRIBUTING.md")


def texts():
    for name in FOLDERS:
        top = ROOT / name
        for path in [top] if top.is_file() else sorted(top.rglob("*")):
            if path.suffix in (".py", ".md", ".toml", ".jinja", ".yml"):
                yield path, path.read_text()


def test_nothing_is_installed_from_an_index_that_lacks_it():
    for path, text in texts():
        assert not re.search(r"pip install ['\"]?sedma", text), path


def test_hints_come_from_one_place_and_name_extras_that_exist():
    extras = set(metadata("sedma-jax").get_all("Provides-Extra"))
    for path, text in texts():
        if path.suffix == ".py" and path.name != "_extras.py":
            for extra in re.findall(r"install_hint\(['\"](\w+)['\"]\)", text):
                assert extra in extras, path
            if "sedma_jax" in path.relative_to(ROOT).parts:
                assert not re.search(r"Install with `pip", text), path
    assert "pip install '.[comm]'" in install_hint("comm")


def test_extras_that_pages_install_exist():
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())
    declared = declared["project"]["optional-dependencies"]
    for path, text in texts():
        for names in re.findall(r"pip install '\.\[([\w,]+)\]'", text):
            assert set(names.split(",")) <= set(declared), path
