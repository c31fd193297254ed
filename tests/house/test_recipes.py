"""Run the recipes: each block on its own, after the first one."""

import re
from pathlib import Path

import jax
import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "recipes.md").read_text()
RECIPES = [
    (heading, code)
    for section in PAGE.split("\n#")
    for heading in [section.partition("\n")[0].strip("# ")]
    for code in re.findall(r"```python\n(.*?)```", section, re.S)
]


CODE = dict(RECIPES)
# Blocks that go on from the one before them on the page.
AFTER = {
    "Drift and its compensation": "Read noise",
    "Pictures": "Energy, latency and area of a product",
}


@pytest.fixture(autouse=True, scope="module")
def as_users_have_it():
    """Single precision and free promotion, the defaults of JAX."""
    with (
        jax.enable_x64(False),
        jax.numpy_dtype_promotion("standard"),
        jax.numpy_rank_promotion("allow"),
    ):
        yield


def test_every_block_is_found_and_asserts():
    assert len(RECIPES) == PAGE.count("```python") >= 13
    assert all("assert" in code for heading, code in RECIPES[1:])


@pytest.fixture(scope="module")
def common(as_users_have_it):
    names = {}
    _run("Recipes", names)
    return names


@pytest.mark.parametrize("heading", [heading for heading, _ in RECIPES[1:]])
def test_recipe(heading, common):
    names = dict(common)
    if heading in AFTER:
        _run(AFTER[heading], names)
    _run(heading, names)


def _run(heading, names):
    exec(compile(CODE[heading], f"docs/recipes.md: {heading}", "exec"), names)
