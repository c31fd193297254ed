"""Programming noise, read noise and retention tables against closed forms."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from scipy import stats
from sedma_jax.kernels import (
    ProgrammingNoise,
    StationaryReadNoise,
    program_noise,
    read_noise,
    sample_retention,
    standard_uniform,
)
from sedma_jax.kernels._cells.noise_models import flicker_growth

from sedma_jax import noise_models as models
from tests.tolerances import gamma, kolmogorov_smirnov, mean_atol, var_atol

US = 1e-6
N = 200_000
DAY = 86400.0

# Published figures, highest power first, in microsiemens; the divisor of g; the range.
POLYNOMIALS = {
    "wan-1s": (models.WAN_2022_1S, [-16.815, 45.393, -43.853, 16.03, 0.348], 40, 40),
    "wan-1d": (models.WAN_2022_1D, [-16.458, 47.095, -50.773, 22.086, 0.701], 40, 40),
    "wan-2d": (models.WAN_2022_2D, [-11.934, 37.062, -43.507, 20.274, 0.782], 40, 40),
    "wan-cubic": (models.WAN_2022_CUBIC, [1.536e-4, -0.01167, 0.2374, 1.053], 1, 39),
    "cmo-fine": (models.CMO_HFOX_PROGRAMMING_FINE, [0.00106879, 0.00081107], 1, 88),
    "cmo-coarse": (
        models.CMO_HFOX_PROGRAMMING_COARSE,
        [0.01129027418, 0.0112185391],
        1,
        88,
    ),
    "milo": (models.MILO_2021_PROGRAMMING, [-0.009107, 4.782321], 1, 225),
    "pcm": (models.PCM_PROGRAMMING, [-1.1731, 1.965, 0.26348], 25, 25),
    "joshi": (
        models.JOSHI_2020_PROGRAMMING,
        [-0.00178767, 0.07585724, 0.28638599],
        1,
        25,
    ),
    "hermes-1": (
        models.HERMES_1_PROGRAMMING,
        [0.68841818, -2.16310839, 2.32443916, 0.15781817],
        10.35,
        10.35,
    ),
    "hermes-2": (
        models.HERMES_2_PROGRAMMING,
        [4.68961419, -8.48101252, 4.71806468, 0.16603222],
        20.7,
        20.7,
    ),
}


def sorted_samples(samples):
    return np.sort(np.asarray(samples, np.float64))


def assert_law(samples, cdf):
    """Kolmogorov-Smirnov distance within what chance allows."""
    samples = sorted_samples(samples)
    ranks = np.arange(1, len(samples) + 1) / len(samples)
    exact = cdf(samples)
    distance = max(np.max(ranks - exact), np.max(exact - ranks + 1 / len(samples)))
    assert distance <= kolmogorov_smirnov(len(samples))


def assert_normal(samples, mean, std):
    samples = np.asarray(samples, np.float64)
    n = samples.size
    np.testing.assert_allclose(samples.mean(), mean, rtol=0, atol=mean_atol(std, n))
    np.testing.assert_allclose(samples.var(), std**2, rtol=0, atol=var_atol(std, n))
    assert_law(samples, stats.norm(mean, std).cdf)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("name", POLYNOMIALS)
def test_deviations_are_the_published_polynomials(name, dtype):
    model, figures, divisor, largest = POLYNOMIALS[name]
    g = jnp.linspace(0, largest * US, 9, dtype=dtype)
    x = np.asarray(g, np.float64) / US / divisor
    expected = np.polyval(figures, x) * US
    # Horner: two roundings for each power of each term, and three for the units.
    magnitude = np.polyval(np.abs(figures), x) * US
    assert model.deviation(g).dtype == dtype
    np.testing.assert_array_less(
        np.abs(np.asarray(model.deviation(g), np.float64) - expected),
        gamma(4 * len(figures) + 4, dtype) * magnitude,
    )


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize(
    "model, level, sigma",
    [
        # standard deviations, in microsiemens, worked out by hand from the figures
        (models.WAN_2022_1S, 40.0, 1.103),
        (models.PCM_PROGRAMMING, 12.5, 0.26348 + 1.965 / 2 - 1.1731 / 4),
        (models.MILO_2021_PROGRAMMING, 100.0, 3.871621),
        (models.sonos_programming(0.1), 10.0, 0.1988665 * -np.expm1(-1000 / 176.3115)),
        (ProgrammingNoise(models.independent(2e-6)), 20.0, 2.0),
        (ProgrammingNoise(models.proportional(0.05)), 20.0, 1.0),
        (ProgrammingNoise(models.inverse_proportional(0.05, 40e-6)), 20.0, 4.0),
    ],
)
def test_programming_noise_is_normal(model, level, sigma, dtype):
    samples = program_noise(model, jnp.full(N, level * US, dtype), key=jr.key(1))
    assert samples.dtype == dtype
    assert_normal(np.asarray(samples, np.float64) / US, level, sigma)


def test_uniform_noise_has_the_width_of_its_source():
    # magnitude 0.1 of CrossSim at g_max 40 uS: 4 uS from end to end
    deviation = models.independent(0.1 * 40e-6 / np.sqrt(12))
    model = ProgrammingNoise(deviation, distribution=standard_uniform)
    samples = program_noise(model, jnp.full(N, 20e-6), key=jr.key(2)) / US
    assert_law(samples, stats.uniform(18, 4).cdf)
    read = StationaryReadNoise(deviation, distribution=standard_uniform)
    same = read_noise(read, jnp.full(N, 20e-6), 1.0, key=jr.key(2)) / US
    np.testing.assert_array_equal(same, samples)


def test_conductances_stop_at_the_limits():
    model = models.PCM_PROGRAMMING
    samples = program_noise(model, jnp.zeros(N), key=jr.key(3))
    zeros = np.mean(np.asarray(samples) == 0)
    assert np.min(samples) == 0
    assert abs(zeros - 0.5) <= mean_atol(0.5, N)
    free = ProgrammingNoise(model.deviation, g_min=-np.inf)
    samples = program_noise(free, jnp.zeros(N), key=jr.key(3))
    assert_normal(np.asarray(samples) / US, 0.0, 0.26348)


def test_inverse_proportional_noise_spares_empty_cells():
    model = ProgrammingNoise(models.inverse_proportional(0.05, 40e-6))
    np.testing.assert_array_equal(program_noise(model, jnp.zeros(9), key=jr.key(4)), 0)


def flicker(age, t_read):
    return np.sqrt(np.log((age + t_read) / (2 * t_read)))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("time", [2.6e-7, 1.0, 3e8])
def test_flicker_noise_grows_with_the_root_of_a_logarithm(time, dtype):
    time = jnp.asarray(time, dtype)
    exact = flicker(float(time), float(jnp.asarray(250e-9, dtype)))
    # The excess over one read is a difference: its relative error is that of the time.
    excess = (float(time) - 250e-9) / 500e-9
    conditioning = 1 + float(time) / 500e-9 / ((1 + excess) * exact**2)
    np.testing.assert_allclose(
        flicker_growth(time, 250e-9), exact, rtol=gamma(8, dtype) * conditioning
    )


def test_flicker_noise_starts_after_one_read_with_a_finite_gradient():
    growth = jax.value_and_grad(lambda t: flicker_growth(t, 1e-6))
    for time in (0.0, 1e-6):
        assert growth(jnp.asarray(time)) == (0, 0)
    value, slope = growth(jnp.asarray(1.0))
    exact = 1 / (2 * float(value) * (1 + 1e-6))
    np.testing.assert_allclose(slope, exact, rtol=gamma(10, np.float64))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize(
    "model, level, time, sigma",
    [
        (
            models.PCM_READ,
            12.5,
            1e4,
            12.5 * 0.0088 / 0.5**0.65 * flicker(10020, 250e-9),
        ),
        # below 0.8 % of g_max the quality saturates
        (models.PCM_READ, 0.1, 0.0, 0.1 * 0.2 * flicker(20, 250e-9)),
        (
            models.HERMES_1_READ,
            10.35 * 0.5,
            DAY,
            10.35
            * 0.5
            * np.polyval([0.0664, -0.1352, 0.0768, 0.0088], 0.5)
            * flicker(DAY + 200, 512e-9),
        ),
        (
            models.HERMES_1_READ,
            10.35 * 0.05,
            DAY,
            10.35 * 0.05 * (-0.0078 * np.log(0.05) + 0.0038) * flicker(DAY + 200, 512e-9),
        ),
        (
            models.HERMES_2_READ,
            20.7 * 0.5,
            1.0,
            20.7
            * 0.5
            * np.polyval([0.0069, -0.0280, 0.0211, 0.0123], 0.5)
            * flicker(301, 512e-9),
        ),
        (
            models.HERMES_2_READ,
            20.7 * 0.1,
            1.0,
            20.7 * 0.1 * (-0.0117 * np.log(0.1) - 0.0069) * flicker(301, 512e-9),
        ),
        (
            models.CMO_HFOX_READ,
            50.0,
            1e4,
            0.0277316483 * np.log10(50) * flicker(1e4, 1e-6),
        ),
        (models.sonos_read(0.1), 5.0, 1.0, 0.1258037 * -np.expm1(-500 / 215.36557)),
    ],
)
def test_read_noise_is_normal(model, level, time, sigma, dtype):
    g = jnp.full(N, level * US, dtype)
    samples = read_noise(model, g, time, key=jr.key(5))
    assert samples.dtype == dtype
    if 5 * sigma < level:
        assert_normal(np.asarray(samples, np.float64) / US, level, sigma)
    else:  # clipped at zero
        above = np.asarray(samples, np.float64)[np.asarray(samples) > level * US] / US
        assert_law(above, stats.halfnorm(level, sigma).cdf)


def test_read_noise_takes_its_quality_from_the_programmed_conductance():
    drifted, programmed = jnp.full(N, 10e-6), jnp.full(N, 12.5e-6)
    samples = read_noise(models.PCM_READ, drifted, 0.0, programmed, key=jr.key(6)) / US
    sigma = 10 * 0.0088 / 0.5**0.65 * flicker(20, 250e-9)
    assert_normal(samples, 10, sigma)


# Mean shift and standard deviation, in nA, that CrossSim 3.2 computes for currents of
# 100, 600 and 1500 nA: measured by running its `SONOS` class.
SONOS = {
    0.0: ([0.0, 0.0, 0.0], [8.6084611, 19.2250004, 19.8826346]),
    1.0: ([1.73520898, -1.4902863, -10.2495785], [10.744254, 24.5510637, 25.582198]),
    2.0: ([2.4304577, -3.63618317, -20.1557128], [11.8043138, 27.4084158, 28.7137869]),
    2.5: ([3.02584258, -3.81404726, -22.5305736], [12.206696, 28.4530873, 29.8692991]),
    3.0: ([3.62122746, -3.99191134, -24.9054345], [12.605132, 29.4921677, 31.0245085]),
    4.0: ([3.61766579, -7.78494698, -35.2872206], [13.4072563, 31.8896959, 33.7357196]),
    5.0: ([4.11776281, -7.90567014, -37.3602359], [13.6508993, 32.5901077, 34.5492215]),
}


def two_cells(draws):
    """Mean and deviation of an affine sampler from its draws at -1 and 1."""
    low, high = draws
    return (low + high) / 2, (high - low) / 2


@pytest.mark.parametrize("v_read", [0.06, 0.1])
@pytest.mark.parametrize("days", SONOS)
def test_sonos_retention_agrees_with_crosssim(days, v_read, monkeypatch):
    # Draws of -1 and 1 show the arithmetic without sampling error.
    model = models.sonos_retention(v_read)
    g = jnp.asarray([100.0, 600.0, 1500.0]) * 1e-9 / v_read
    outcomes = []
    for deviate in (-1.0, 1.0):
        monkeypatch.setattr(jr, "normal", lambda *_, d=deviate: jnp.full(3, d))
        outcomes.append(sample_retention(model, g, days * DAY, key=jr.key(0)))
    mean, deviation = two_cells([np.asarray(o) * v_read * 1e9 for o in outcomes])
    shifts, deviations = SONOS[days]
    # nine digits were printed; currents of 1500 nA in float64 add nothing
    np.testing.assert_allclose(mean - [100, 600, 1500], shifts, rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(deviation, deviations, rtol=1e-8)


def test_retention_samples_are_normal_and_keep_their_rank():
    model = models.sonos_retention(0.1)
    g = jnp.full(N, 6e-6)
    one, five, later = (
        sample_retention(model, g, days * DAY, key=jr.key(7)) for days in (1.0, 5.0, 9.0)
    )
    assert_normal(np.asarray(one) * 1e8, 600 - 1.4902863, 24.5510637)
    assert_normal(np.asarray(five) * 1e8, 600 - 7.90567014, 32.5901077)
    np.testing.assert_array_equal(np.argsort(one), np.argsort(five))
    np.testing.assert_array_equal(five, later)


def test_retention_starts_at_the_programming_noise():
    g = jnp.linspace(0, 18e-6, 50)
    start = sample_retention(models.sonos_retention(0.1), g, 0.0, key=jr.key(8))
    programmed = program_noise(models.sonos_programming(0.1), g, key=jr.key(8))
    # a few roundings of either sum, relative to target plus five deviations
    bound = gamma(20, np.float64) * (18e-6 + 1e-6)
    np.testing.assert_allclose(start, programmed, rtol=0, atol=bound)


@pytest.mark.parametrize(
    "sample",
    [
        lambda g, key: program_noise(models.HERMES_2_PROGRAMMING, g, key=key),
        lambda g, key: read_noise(models.HERMES_2_READ, g, 1e3, key=key),
        lambda g, key: read_noise(models.CMO_HFOX_READ, g, 1e3, key=key),
        lambda g, key: sample_retention(models.sonos_retention(0.1), g, DAY, key=key),
    ],
)
def test_jit_and_vmap_agree_with_eager(sample):
    g = jnp.linspace(0, 18e-6, 40).reshape(8, 5)
    keys = jr.split(jr.key(9), 3)
    eager = jnp.stack([sample(g, key) for key in keys])
    # Fused arithmetic rounds otherwise: forty roundings of the largest intermediate,
    # which for the tenth-order polynomial is about ten times the window.
    bound = gamma(40, np.float64) * 10 * 20e-6
    np.testing.assert_allclose(
        jax.vmap(sample, (None, 0))(g, keys), eager, rtol=0, atol=bound
    )
    np.testing.assert_allclose(jax.jit(sample)(g, keys[0]), eager[0], rtol=0, atol=bound)


def test_gradient_of_programming_noise_in_the_target():
    # g + sigma(g) xi has the slope 1 + sigma'(g) xi
    model, key = models.PCM_PROGRAMMING, jr.key(10)
    g = jnp.linspace(8e-6, 20e-6, 7)
    slopes = jax.vmap(jax.grad(lambda x, k: program_noise(model, x, key=k)))(
        g, jr.split(key, 7)
    )
    draws = jax.vmap(lambda k: jr.normal(k, ()))(jr.split(key, 7))
    exact = 1 + (1.965 - 2 * 1.1731 * g / 25e-6) / 25 * draws
    np.testing.assert_allclose(slopes, exact, rtol=0, atol=gamma(20, np.float64))
