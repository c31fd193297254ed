"""The examples in docstrings of devices and their models run."""

import doctest
import importlib

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import sedma_jax as sj

MODULES = (
    "devices._catalogue",
    "devices._file",
    "devices._fit",
    "devices._fit_reads",
    "kernels._cells.pulse_curve",
    "kernels._cells.relaxation",
    "kernels._cells.telegraph",
)


@pytest.mark.parametrize("name", MODULES)
def test_examples_say_what_comes_out(name):
    module = importlib.import_module(f"sedma_jax.{name}")
    known = dict(jax=jax, jnp=jnp, jr=jr, np=np, sj=sj)
    found = doctest.testmod(module, extraglobs=known, optionflags=doctest.ELLIPSIS)
    assert found.failed == 0 and found.attempted > 0
