"""Compare with badcrossbar 1.1.0 (Joksas & Mehonic 2020, SoftwareX 12, 100617).

Its circuit solver needs neither pycairo nor sigfig, which only draw:
`pip install --no-deps badcrossbar==1.1.0 pathvalidate`.
"""

import logging
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from missing import missing
from sedma_jax.kernels import solve_nodes, transfer_matrix


@pytest.fixture(scope="module")
def compute():
    with warnings.catch_warnings(record=True):  # it warns, always, that cairo is missing
        try:
            from badcrossbar import compute
        except ImportError as error:
            missing("badcrossbar is not installed; the docstring above says how", error)
    logging.getLogger("badcrossbar").setLevel(logging.WARNING)
    return compute


@pytest.mark.parametrize(
    ("shape", "r"),
    [
        ((8, 8), (1.0, 2.0)),
        ((8, 8), (0.0, 2.0)),
        ((8, 8), (2.0, 0.0)),
        ((32, 16), (5.0, 0.3)),
        ((16, 32), (0.3, 5.0)),
        ((64, 64), (0.237, 0.237)),
        ((128, 128), (2.0, 2.0)),
    ],
)
def test_currents_and_node_voltages(compute, shape, r):
    rng = np.random.default_rng(0)
    g = rng.uniform(1e-6, 1e-4, shape)
    v = rng.uniform(-0.5, 0.5, (2, shape[0]))
    theirs = compute(v.T, 1 / g, r_i_word_line=r[0], r_i_bit_line=r[1])
    ours = jax.jit(solve_nodes)(jnp.asarray(g), jnp.asarray(v), *r)
    exact = v @ np.asarray(jax.jit(transfer_matrix)(jnp.asarray(g), *r))
    # Measured: from 4e-15 at 8 x 8 to 5e-14 at 128 x 128, nodes to 8e-14. The condition
    # number of their matrix, near `4 rows**2`, leaves room for 1e-11 each.
    bound = 1e-11
    scale = np.abs(v) @ g
    assert np.all(np.abs(ours.currents - theirs.currents.output) < bound * scale)
    assert np.all(np.abs(exact - theirs.currents.output) < bound * scale)
    for name in ("word_line", "bit_line"):
        node = np.moveaxis(getattr(theirs.voltages, name), 2, 0)
        np.testing.assert_allclose(getattr(ours, name), node, rtol=0, atol=bound)
