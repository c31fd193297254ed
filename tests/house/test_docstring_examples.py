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
from public_names import ROOT, TREES, docstring, module_name, public_modules

import sedma_jax as sj

GIVEN = {"jax": jax, "jnp": jnp, "jr": jr, "np": np, "sj": sj}
HOW = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE

MODULES = public_modules()
FILES = dict.fromkeys(source for names in MODULES.values() for source, _ in names)
SLOW = {
    "sedma_jax/_run.py",  # Algorithm 1 from the memory to the manifests
    "sedma_jax/comm/_runners/process.py",  # each process imports JAX
    "sedma_jax/memory/_adaptive.py",  # its part up to the product
}


def texts(names):
    """Source, name and docstring of each public function and class, schemes included."""
    for source, name in names:
        if callable(getattr(import_module(module_name(source)), name)):
            yield source, name, docstring(TREES[source], name)


def test_public_modules_are_found():
    assert {"sedma_jax", "sedma_jax.kernels", "sedma_jax.nn.flax"} <= set(MODULES)
    assert sum(map(len, MODULES.values())) > 300


@pytest.mark.parametrize("module", MODULES)
def test_every_function_and_class_has_an_example(module):
    known = list(texts(MODULES[module]))
    without = [name for _, name, text in known if ">>> " not in text]
    assert not without, f"{len(without)} of {len(known)} names of `{module}` have none"


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


def runs():
    """Each file in float64, in which all tests run, and in float32, as users have it."""
    for source in FILES:
        path = source.relative_to(ROOT).as_posix()
        for x64 in (True, False):
            marks = [pytest.mark.slow] if path in SLOW or not x64 else []
            bits = 64 if x64 else 32
            yield pytest.param(source, x64, marks=marks, id=f"{path}-float{bits}")


@pytest.mark.parametrize(("source", "x64"), [*runs()])
@pytest.mark.usefixtures("own_folder")
def test_examples_print_what_they_say(source, x64):
    names = [pair for names in MODULES.values() for pair in names if pair[0] == source]
    said = []
    with jax.enable_x64(x64):
        for _, name, text in texts(names):
            test = doctest.DocTestParser().get_doctest(text, GIVEN, name, str(source), None)
            doctest.DocTestRunner(optionflags=HOW, verbose=False).run(test, out=said.append)
    assert not said, "".join(said)
