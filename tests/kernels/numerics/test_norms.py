"""Norms of float32 against NumPy in float64, whose range is the square of its range."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sedma_jax.kernels import power_of_two, relative_size, safe_norm
from tolerances import gamma

NUMBERS = np.random.default_rng(0).normal(size=(3, 40)).astype(np.float32)
SCALES = [1e-30, 1e-20, 1.0, 1e20, 1e37]


@pytest.mark.parametrize("scale", SCALES)
def test_norms_hold_at_any_scale(scale):
    numbers = NUMBERS * np.float32(scale)
    exact = np.linalg.norm(numbers.astype(float), axis=1)
    found = safe_norm(jnp.asarray(numbers), axis=1)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, exact, rtol=gamma(42, np.float32))
    whole = np.linalg.norm(numbers.astype(float))
    assert float(safe_norm(jnp.asarray(numbers))) == pytest.approx(
        whole, rel=float(gamma(122, np.float32))
    )


def test_ordinary_norms_are_those_of_jax():
    found, plain = safe_norm(jnp.asarray(NUMBERS)), jnp.linalg.norm(jnp.asarray(NUMBERS))
    assert float(found) == pytest.approx(float(plain), rel=float(gamma(122, np.float32)))


@pytest.mark.parametrize("whole", SCALES)
@pytest.mark.parametrize("error", [1e-30, 1e-10, 1.0])
def test_relative_sizes_are_ratios(whole, error):
    a, b = (NUMBERS[i] * np.float32(s) for i, s in enumerate((error, whole)))
    exact = np.linalg.norm(a.astype(float)) / np.linalg.norm(b.astype(float))
    if not 1e-37 < exact < 1e38:
        return
    found = float(relative_size(jnp.asarray(a), jnp.asarray(b)))
    assert found == pytest.approx(exact, rel=float(gamma(86, np.float32)))


def test_zero_nan_and_infinity_have_the_unit_one():
    zero = jnp.zeros(3)
    assert float(safe_norm(zero)) == 0 and float(power_of_two(zero)) == 1
    assert float(relative_size(jnp.ones(4), jnp.zeros(4))) == 2
    assert float(power_of_two(jnp.asarray([1.0, jnp.nan]))) == 1
    assert bool(jnp.isinf(safe_norm(jnp.asarray([1.0, jnp.inf]))))
    assert float(power_of_two(jnp.asarray([-12.0, 3.0]))) == 8


def test_the_gradient_at_zero_is_zero():
    np.testing.assert_array_equal(jax.grad(safe_norm)(jnp.zeros(3)), 0)
