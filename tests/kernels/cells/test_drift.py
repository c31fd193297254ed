"""Retention drift against closed forms."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from scipy import stats
from sedma_jax.kernels import drift
from sedma_jax.kernels._cells.drift import drift_exponents

from sedma_jax import noise_models as models
from tests.tolerances import gamma, kolmogorov_smirnov, mean_atol, var_atol

US = 1e-6
N = 200_000
YEAR = 3.15576e7
POWER_LAWS = {
    "pcm": (models.PCM_DRIFT, 25e-6, 20.0),
    "hermes-1": (models.HERMES_1_DRIFT, 10.35e-6, 200.0),
    "hermes-2": (models.HERMES_2_DRIFT, 20.7e-6, 300.0),
}


def pcm_mean(r):
    return np.clip(-0.0155 * np.log(r) + 0.0244, 0.049, 0.1)


def pcm_deviation(r):
    return np.clip(-0.0125 * np.log(r) - 0.0059, 0.008, 0.045)


def hermes_mean(r):
    low = np.clip(-0.0387 * np.log(r) - 0.0182, 0.072, 0.13)
    return np.where(r < 0.0945, low, -0.0436 * r**2 - 0.0126 * r + 0.0736)


def hermes_1_deviation(r):
    low = np.clip(-0.012 * np.log(r) - 0.0023, 0.0124, 0.04)
    return np.where(r < 0.3039, low, -0.0165 * r**2 + 0.0116 * r + 0.0104)


def hermes_2_deviation(r):
    low = np.clip(-0.0117 * np.log(r) - 0.0057, 0.0091, 0.04)
    return np.where(r < 0.3055, low, -0.0118 * r**2 + 0.0093 * r + 0.0073)


STATISTICS = {
    "pcm": (pcm_mean, pcm_deviation),
    "hermes-1": (hermes_mean, hermes_1_deviation),
    "hermes-2": (hermes_mean, hermes_2_deviation),
}


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("name", POWER_LAWS)
def test_exponents_depend_on_the_target_as_published(name, dtype):
    model, g_max, _ = POWER_LAWS[name]
    # off the boundaries, where one rounding decides the branch
    g = jnp.asarray([0.001, 0.01, 0.05, 0.09, 0.1, 0.2, 0.3, 0.31, 0.6, 1.0], dtype)
    g = g * g_max
    r = np.asarray(g, np.float64) / g_max
    for curve, exact in zip(
        (model.exponent_mean, model.exponent_deviation), STATISTICS[name], strict=True
    ):
        # Up to ten roundings of terms none of which exceeds 0.3 (0.0387 log 1000).
        np.testing.assert_allclose(curve(g), exact(r), rtol=0, atol=gamma(10, dtype) * 0.3)
        assert curve(g).dtype == dtype


@pytest.mark.parametrize("name", POWER_LAWS)
@pytest.mark.parametrize("r", [0.01, 0.6])
def test_exponents_are_folded_normal(name, r):
    model, g_max, _ = POWER_LAWS[name]
    mean, deviation = (float(f(np.asarray(r))) for f in STATISTICS[name])
    nu = np.asarray(drift_exponents(model, jnp.full(N, r * g_max), key=jr.key(1)))
    law = stats.foldnorm(mean / deviation, scale=deviation)
    assert nu.min() >= 0
    np.testing.assert_allclose(nu.mean(), law.mean(), rtol=0, atol=mean_atol(law.std(), N))
    nu = np.sort(nu)
    distance = np.max(np.abs(law.cdf(nu) - np.arange(N) / N))
    assert distance <= kolmogorov_smirnov(N) + 1 / N


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("name", POWER_LAWS)
@pytest.mark.parametrize("time", [1.0, 10 * YEAR])
def test_power_law(name, time, dtype):
    model, g_max, t_0 = POWER_LAWS[name]
    g_target = jnp.linspace(0.02 * g_max, g_max, 30, dtype=dtype)
    g = 0.9 * g_target
    nu = drift_exponents(model, g_target, key=jr.key(2))
    drifted = drift(model, g, time, g_target, key=jr.key(2))
    assert drifted.dtype == dtype
    age = np.log1p(time / t_0)
    exact = np.asarray(g, np.float64) * np.exp(-np.asarray(nu, np.float64) * age)
    # The exponent, rounded four times, is at most nu log(age) < 0.3 * 17.
    np.testing.assert_allclose(drifted, exact, rtol=gamma(8, dtype) * (1 + 0.3 * 17))


@pytest.mark.parametrize("model", [m for m, _, _ in POWER_LAWS.values()])
def test_nothing_drifts_at_time_zero(model):
    g = jnp.linspace(0, 20e-6, 30)
    np.testing.assert_array_equal(drift(model, g, 0.0, key=jr.key(3)), g)
    np.testing.assert_array_equal(drift(models.CMO_HFOX_DRIFT, g, 0.0, key=jr.key(3)), g)


def test_a_key_stands_for_the_same_cells_at_all_times():
    g = jnp.full(50, 10e-6)
    decays = [
        np.log(drift(models.PCM_DRIFT, g, time, key=jr.key(4)) / g)
        for time in (1e2, 1e4, 1e8)
    ]
    ages = [np.log1p(time / 20) for time in (1e2, 1e4, 1e8)]
    nu = drift_exponents(models.PCM_DRIFT, g, key=jr.key(4))
    for decay, age in zip(decays, ages, strict=True):
        # the logarithm of a ratio near one has the absolute error of the ratio
        np.testing.assert_allclose(-decay / age, nu, rtol=0, atol=gamma(20, np.float64))
    other = drift(models.PCM_DRIFT, g, 1e2, key=jr.key(5))
    assert not np.any(np.log(other / g) == decays[0])


def test_gradients_of_the_power_law():
    # d/dt g (1 + t/t_0)^-nu = -nu g(t) / (t + t_0); d/dmean nu is 1 where nu > 0
    model, key, g, time = models.PCM_DRIFT, jr.key(6), jnp.asarray(10e-6), 1e5
    nu = drift_exponents(model, g, key=key)
    value = drift(model, g, time, key=key)
    in_time = jax.grad(lambda t: drift(model, g, t, key=key))(time)
    exact = -nu * value / (time + 20)
    np.testing.assert_allclose(in_time, exact, rtol=gamma(30, np.float64))

    def of_intercept(c):
        mean = type(model.exponent_mean)(-0.0155, c, 25e-6)
        return drift(type(model)(mean, model.exponent_deviation, 20.0), g, time, key=key)

    in_nu = jax.grad(of_intercept)(0.0344)
    exact = -np.log1p(time / 20) * of_intercept(0.0344)
    np.testing.assert_allclose(in_nu, exact, rtol=gamma(30, np.float64))


def test_gradient_is_finite_at_an_empty_cell():
    slope = jax.grad(lambda g: drift(models.PCM_DRIFT, g, 1e3, key=jr.key(7)))(0.0)
    assert np.isfinite(slope)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("time", [1.0, 86400.0, 10 * YEAR])
def test_logarithmic_drift_is_normal(time, dtype):
    g = jnp.full(N, 50e-6, dtype)
    drifted = drift(models.CMO_HFOX_DRIFT, g, time, key=jr.key(8))
    assert drifted.dtype == dtype
    samples = np.asarray(drifted, np.float64) / US
    mean = 50 - 0.08900206 * np.log(time)
    std = 0.04201137 * np.log(time) + 0.41183342
    np.testing.assert_allclose(samples.mean(), mean, rtol=0, atol=mean_atol(std, N))
    np.testing.assert_allclose(samples.var(), std**2, rtol=0, atol=var_atol(std, N))
    samples = np.sort(samples)
    distance = np.max(np.abs(stats.norm(mean, std).cdf(samples) - np.arange(N) / N))
    assert distance <= kolmogorov_smirnov(N) + 1 / N


def test_logarithmic_drift_is_not_extrapolated_to_the_first_second():
    g, model = jnp.full(20, 50e-6), models.CMO_HFOX_DRIFT
    early = drift(model, g, 1e-3, key=jr.key(9))
    np.testing.assert_array_equal(early, drift(model, g, 1.0, key=jr.key(9)))


@pytest.mark.parametrize("model", [models.HERMES_1_DRIFT, models.CMO_HFOX_DRIFT])
def test_jit_and_vmap_agree_with_eager(model):
    g = jnp.linspace(0, 10e-6, 40).reshape(8, 5)
    times = jnp.asarray([0.0, 1.0, 1e6])
    at = lambda time: drift(model, g, time, key=jr.key(10))
    eager = jnp.stack([at(time) for time in times])
    bound = gamma(30, np.float64) * 11e-6
    np.testing.assert_allclose(jax.vmap(at)(times), eager, rtol=0, atol=bound)
    np.testing.assert_allclose(jax.jit(at)(times[2]), eager[2], rtol=0, atol=bound)
