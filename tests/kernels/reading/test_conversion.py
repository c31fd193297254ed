import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, strategies as st
from sedma_jax.kernels import digitise


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_levels_step_and_saturation(bits):
    values = jnp.linspace(-1.5, 1.5, 4001)
    out = np.asarray(digitise(values, 1.0, bits=bits))
    top = 2 ** (bits - 1) - 1
    np.testing.assert_allclose(np.unique(out), np.arange(-top, top + 1) / top, atol=1e-12)
    inside = np.abs(values) <= 1
    assert np.abs(out - values)[inside].max() <= 0.5 / top + 1e-12
    np.testing.assert_array_equal(digitise(-values, 1.0, bits=bits), -out)


@given(st.floats(-10, 10), st.floats(1e-3, 10))
def test_converting_twice_changes_nothing(value, full_scale):
    once = digitise(jnp.array([value]), full_scale, bits=6)
    np.testing.assert_array_equal(digitise(once, full_scale, bits=6), once)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_quantisation_noise_is_uniform(dtype):
    values = jax.random.uniform(jax.random.key(0), (200_000,), dtype, -1.0, 1.0)
    out = digitise(values, 1.0, bits=8)
    assert out.dtype == dtype
    lsb = 1 / 127
    error = np.asarray(out - values, np.float64)
    # Variance of a uniform error: lsb**2 / 12, its own spread lsb**4 / 180.
    bound = 4.9 * lsb**2 / np.sqrt(180 * len(error))
    assert abs(np.mean(error**2) - lsb**2 / 12) < bound


def test_an_empty_range_reads_zero_and_has_a_gradient():
    assert not digitise(jnp.array([0.0, 1.0]), 0.0, bits=8).any()
    slope = jax.grad(lambda v: digitise(v, 0.0, bits=8).sum())(jnp.ones(2))
    assert np.isfinite(slope).all()


@pytest.mark.parametrize("bits", [1, 25])
def test_impossible_resolutions_are_refused(bits):
    with pytest.raises(ValueError, match="`bits` from 2 to 24"):
        digitise(jnp.ones(2), 1.0, bits=bits)
