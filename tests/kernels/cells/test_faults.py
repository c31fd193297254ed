"""Stuck cells: frequencies, exactness, refusals."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from sedma_jax.kernels import apply_faults, draw_faults

from tests.tolerances import mean_atol

SHAPE = (400, 500)
N = 200_000


@pytest.mark.parametrize("p_on, p_off", [(0.1, 0.03), (0.0, 0.5), (1e-3, 0.0)])
def test_faults_have_the_given_frequency(p_on, p_off):
    faults = np.asarray(draw_faults(SHAPE, p_on, p_off, key=jr.key(1)))
    assert faults.dtype == np.int8
    assert set(np.unique(faults)) <= {-1, 0, 1}
    for value, p in ((1, p_on), (-1, p_off)):
        bound = mean_atol(np.sqrt(p * (1 - p)), N)
        assert abs(np.mean(faults == value) - p) <= bound


def test_faults_of_neighbours_are_independent():
    stuck = np.asarray(draw_faults(SHAPE, 0.1, 0.1, key=jr.key(2))) != 0
    pairs = np.mean(stuck[:, ::2] & stuck[:, 1::2])
    assert abs(pairs - 0.04) <= mean_atol(np.sqrt(0.04 * 0.96), N // 2)


def test_certain_faults():
    draw = lambda p_on, p_off: draw_faults((50, 20), p_on, p_off, key=jr.key(3))
    np.testing.assert_array_equal(draw(0.0, 0.0), 0)
    np.testing.assert_array_equal(draw(1.0, 0.0), 1)
    np.testing.assert_array_equal(draw(0.0, 1.0), -1)


@pytest.mark.parametrize("p_on, p_off", [(-0.1, 0.1), (0.6, 0.6), (5.0, 0.0)])
def test_probabilities_out_of_range_are_refused(p_on, p_off):
    with pytest.raises(ValueError, match=r"at most 1 together\. Got p_on="):
        draw_faults((2, 2), p_on, p_off, key=jr.key(0))


def test_probabilities_may_be_traced():
    draw = lambda p: draw_faults((50, 20), p, p, key=jr.key(4))
    np.testing.assert_array_equal(jax.jit(draw)(jnp.asarray(0.2)), draw(0.2))
    both = jax.vmap(draw)(jnp.asarray([0.0, 0.2]))
    np.testing.assert_array_equal(both, jnp.stack([draw(0.0), draw(0.2)]))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_a_measured_map_is_applied_exactly(dtype):
    g = jnp.asarray([[1e-6, 2e-6], [3e-6, 4e-6]], dtype)
    faults = jnp.asarray([[0, 1], [-1, 0]], jnp.int8)
    stuck = apply_faults(g, faults, 5e-7, 9e-6)
    assert stuck.dtype == dtype
    expected = np.asarray([[1e-6, 9e-6], [5e-7, 4e-6]]).astype(dtype)
    np.testing.assert_array_equal(stuck, expected)
    np.testing.assert_array_equal(jax.jit(apply_faults)(g, faults, 5e-7, 9e-6), expected)


def test_stuck_cells_do_not_pass_gradients():
    faults = jnp.asarray([0, 1, -1, 0], jnp.int8)
    total = lambda g: jnp.sum(apply_faults(g, faults, 0.0, 1.0))
    np.testing.assert_array_equal(jax.grad(total)(jnp.full(4, 0.5)), [1, 0, 0, 1])
