"""Nonlinear cells against the published polynomials in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sedma_jax.kernels import coefficients_through
from sedma_jax.kernels._cells.cell_current import nonlinear_current

from sedma_jax.noise_models import MILO_2021_CURRENT
from tests.tolerances import gamma

QUADRATIC = [0.0001388, 0.001541, 0.005711, 0.007063]  # in log10 of siemens
CUBIC = [8.8710e-05, 6.7919e-04, 1.2968e-03]


def published(g, v):
    u = np.log10(g)
    return g * v + np.polyval(QUADRATIC, u) * v**2 + np.polyval(CUBIC, u) * v**3


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_current_is_the_published_polynomial(dtype):
    g = jnp.linspace(50e-6, 225e-6, 15, dtype=dtype)[:, None]
    v = jnp.linspace(-0.5, 0.5, 11, dtype=dtype)[None, :]
    currents = nonlinear_current(g, v, MILO_2021_CURRENT)
    assert currents.dtype == dtype
    assert currents.shape == (15, 11)
    g64, v64 = np.asarray(g, np.float64), np.asarray(v, np.float64)
    # Expanded about 100 uS no term exceeds g V; the reference cancels 0.1 A in float64.
    bound = gamma(30, dtype) * g64 * np.abs(v64) + gamma(20, np.float64) * 0.1
    assert np.all(np.abs(np.asarray(currents, np.float64) - published(g64, v64)) <= bound)


def test_low_voltage_current_is_ohmic():
    g = jnp.linspace(50e-6, 225e-6, 8)
    slope = jax.vmap(jax.grad(lambda v, g: nonlinear_current(g, v, MILO_2021_CURRENT)))
    np.testing.assert_array_equal(slope(jnp.zeros(8), g), g)


def test_differential_conductance():
    v = jnp.linspace(-0.5, 0.5, 8)
    g = 90e-6
    slope = jax.vmap(
        jax.grad(lambda v: nonlinear_current(jnp.asarray(g), v, MILO_2021_CURRENT))
    )(v)
    u = np.log10(g)
    exact = g + 2 * np.polyval(QUADRATIC, u) * v + 3 * np.polyval(CUBIC, u) * v**2
    np.testing.assert_allclose(slope, exact, rtol=0, atol=gamma(30, np.float64) * 0.1)


def test_an_empty_cell_carries_nothing():
    g, v = jnp.zeros(3), jnp.asarray([-0.5, 0.1, 0.5])
    np.testing.assert_array_equal(nonlinear_current(g, v, MILO_2021_CURRENT), 0)
    slope = jax.grad(lambda g: jnp.sum(nonlinear_current(g, v, MILO_2021_CURRENT)))(g)
    np.testing.assert_array_equal(slope, v)


def test_jit_and_vmap_agree_with_eager():
    g = jnp.linspace(50e-6, 225e-6, 12).reshape(3, 4)
    v = jnp.linspace(-0.5, 0.5, 4)
    current = lambda row: nonlinear_current(row, v, MILO_2021_CURRENT)
    eager = jnp.stack([current(row) for row in g])
    bound = gamma(30, np.float64) * 225e-6
    np.testing.assert_allclose(jax.vmap(current)(g), eager, rtol=0, atol=bound)
    np.testing.assert_allclose(jax.jit(current)(g[0]), eager[0], rtol=0, atol=bound)


def test_a_resistor_in_series_changes_the_coefficients():
    g, a, b, r = 1e-5, 3e-6, 8e-6, 5e4
    u = np.linspace(-0.04, 0.04, 41)
    current = g * u + a * u**2 + b * u**3
    volts = u + r * current
    # The exact curve, taken apart by a fit whose order leaves 1e-9 of it.
    fit = np.polynomial.Polynomial.fit(volts, current, 9).convert().coef
    quadratic, cubic = coefficients_through(*map(jnp.asarray, (g, a, b)), r)
    np.testing.assert_allclose(fit[1], g / (1 + g * r), rtol=1e-7)
    np.testing.assert_allclose(quadratic, fit[2], rtol=1e-5)
    np.testing.assert_allclose(cubic, fit[3], rtol=1e-4)
