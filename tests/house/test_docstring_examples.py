"""Every public function and class has an example in its docstring, which runs as printed.

CONTRIBUTING says what examples may take as given, and in which modes they hold.
"""

import doctest
from importlib import import_module

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache
from public_names import TREES, docstring, module_name, public_modules

import sedma_jax as sj

GIVEN = {"jax": jax, "jnp": jnp, "jr": jr, "np": np, "sj": sj}
HOW = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE

MODULES = public_modules()
each_module = pytest.mark.parametrize("module", MODULES)
each_precision = pytest.mark.parametrize(
    "x64",
    [True, pytest.param(False, marks=pytest.mark.slow)],
    ids=["float64", "float32"],
)


def texts(module):
    """Name and docstring of each public function and class, schemes included."""
    for source, name in MODULES[module]:
        if callable(getattr(import_module(module_name(source)), name)):
            yield name, docstring(TREES[source], name)


def test_public_modules_are_found():
    assert {"sedma_jax", "sedma_jax.kernels", "sedma_jax.nn.flax"} <= set(MODULES)
    assert sum(map(len, MODULES.values())) > 300


@each_module
def test_every_function_and_class_has_an_example(module):
    without = [name for name, text in texts(module) if ">>> " not in text]
    assert not without, f"{len(without)} names of `{module}` have none"


@pytest.fixture
def own_folder(tmp_path, monkeypatch):
    """Examples write into a folder of this test, and leave no setting behind."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEDMA_MEMORY", f"sqlite:///{tmp_path / 'memory.db'}")
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = {name: jax.config.values[name] for name in names}
    yield
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


@each_precision
@each_module
@pytest.mark.usefixtures("own_folder")
def test_examples_print_what_they_say(module, x64):
    said = []
    with jax.enable_x64(x64):
        for name, text in texts(module):
            test = doctest.DocTestParser().get_doctest(
                text, GIVEN, f"{module}.{name}", None, None
            )
            doctest.DocTestRunner(optionflags=HOW, verbose=False).run(test, out=said.append)
    assert not said, "".join(said)
