import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import pulse_constant
from sedma_jax.kernels import series_conductance
from sedma_jax.kernels._cells.device import curvature

import sedma_jax as sj

# `A` normalised to the pulse count, as published beside the labels of the materials.
PUBLISHED = {
    2.4: 0.499181,
    -4.88: -0.200303,
    1.94: 0.629249,
    -0.61: -2.063266,
    0.5: 2.519877,
    0.04: 31.566827,
    -0.63: -1.997332,
}


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_curvature_reproduces_published_constants(dtype):
    labels = jnp.array(list(PUBLISHED), dtype)
    # Six digits are printed; the labels themselves are exact.
    np.testing.assert_allclose(1 / curvature(labels), list(PUBLISHED.values()), rtol=5e-6)
    assert curvature(labels).dtype == dtype


def test_curvature_against_the_sampled_curve():
    labels = np.array([-9.0, -3.3, 1.2, 1.3, 7.0, 9.0])
    expected = [1 / pulse_constant(label) for label in labels]
    # The grid of the oracle misses the peak by a curvature of 1e-10.
    np.testing.assert_allclose(curvature(jnp.array(labels)), expected, rtol=1e-5)
    assert curvature(jnp.zeros(())) == 0


def test_curvature_gradient():
    step = 1e-5
    labels = jnp.array([0.5, 2.4, -4.88])
    slope = jax.jit(jax.grad(lambda x: curvature(x).sum()))(labels)
    up, down = curvature(labels + step), curvature(labels - step)
    np.testing.assert_allclose(slope, (up - down) / (2 * step), rtol=1e-6)


def test_series_conductance_is_the_series_circuit():
    np.testing.assert_allclose(series_conductance(1e-5, 15e3), 1 / (1e5 + 15e3))
    assert series_conductance(0.0, 15e3) == 0


def test_devices_are_pytrees_of_numbers():
    for device in sj.devices.PRESETS.values():
        assert all(isinstance(leaf, int | float) for leaf in jax.tree.leaves(device))
    with pytest.raises(dataclasses.FrozenInstanceError):
        sj.devices.EPIRAM.g_max = 1.0
    mine = dataclasses.replace(sj.devices.EPIRAM, sigma_c2c=0.01)
    assert (mine.sigma_c2c, mine.g_max) == (0.01, sj.devices.EPIRAM.g_max)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("g_min", -1e-6, "g_min"),
        ("g_max", 1e-9, "g_min < g_max"),
        ("g_max", float("nan"), "g_max"),
        ("pulses_ltp", 0, "at least 1"),
        ("nonlinearity_ltd", -9.5, "from -9 to 0"),
        ("sigma_c2c", -0.1, "from 0 up"),
        ("t_read", float("inf"), "finite"),
        ("v_ltp", float("nan"), "volts"),
    ],
)
def test_impossible_devices_are_refused(field, value, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(sj.devices.EPIRAM, **{field: value})
