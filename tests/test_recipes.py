"""Run the recipes: each block of its own, after the first one and in the page's order."""

import re
from pathlib import Path

import jax
import pytest

PAGE = (Path(__file__).parents[1] / "docs" / "recipes.md").read_text()
RECIPES = [
    (heading, code)
    for section in PAGE.split("\n#")
    for heading in [section.partition("\n")[0].strip("# ")]
    for code in re.findall(r"```python\n(.*?)```", section, re.S)
]


@pytest.fixture(scope="module")
def names():
    return {}


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


@pytest.mark.parametrize(("heading", "code"), RECIPES, ids=[h for h, _ in RECIPES])
def test_recipe(heading, code, names):
    if heading == "Pictures":
        pytest.importorskip("matplotlib")
    exec(compile(code, f"docs/recipes.md: {heading}", "exec"), names)
