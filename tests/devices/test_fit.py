"""Fits recover the devices that made the data, and refuse what cannot be identified."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from tolerances import Z

import sedma_jax as sj

PULSES, LOW, HIGH = 200, 1e-6, 1e-5
X = np.linspace(0, 1, PULSES + 1)


def response(u, start=LOW, end=HIGH):
    """The law in NumPy."""
    return start + (end - start) * np.expm1(-u * X) / np.expm1(-u)


def label(u):
    """The label by its definition: the largest distance from the diagonal."""
    x = np.linspace(0, 1, 200_001)
    return 10.101525 * np.max(np.expm1(-u * x) / np.expm1(-u) - x)


@pytest.mark.parametrize("up, down", [(0.5, 3.0), (2.0, 2.0), (5.0, 0.5)])
def test_exact_traces_give_back_their_device(up, down):
    found = sj.devices.fit(response(up) * 1e6, response(down, HIGH, LOW) * 1e6, unit="uS")
    device = found.device
    np.testing.assert_allclose([device.g_min, device.g_max], [LOW, HIGH], rtol=1e-6)
    np.testing.assert_allclose(device.nonlinearity_ltp, label(up), rtol=1e-4)
    np.testing.assert_allclose(device.nonlinearity_ltd, -label(down), rtol=1e-4)
    np.testing.assert_allclose([device.pulses_ltp, device.pulses_ltd], PULSES, rtol=1e-5)
    assert found.ltp.r2 > 1 - 1e-9 and device.sigma_d2d == 0


def test_the_fitted_law_is_that_of_the_simulator():
    """The device that was found follows, pulse by pulse, the trace it came from."""
    up, down = response(3.0), response(1.5, HIGH, LOW)
    device = sj.devices.fit(up, down).device
    line = sj.kernels.nominal_response(device, jnp.float64)
    move = lambda s, n: sj.kernels.apply_pulses(s, n, device, line, key=jr.key(0))
    quiet = dict(sigma_c2c=0.0, sigma_read=0.0)
    device = sj.Device(**{**vars(device), **quiet})
    for start, sign, trace in ((0.0, 1, up), (1.0, -1, down)):
        steps = sign * jnp.arange(PULSES + 1.0)
        got = LOW + (HIGH - LOW) * np.asarray(move(jnp.full(PULSES + 1, start), steps))
        np.testing.assert_allclose(got, trace, atol=1e-4 * (HIGH - LOW))


def test_noise_of_pulses_and_reads_is_told_apart():
    rng = np.random.default_rng(0)
    shape, c, r = (40, 5, PULSES + 1), 2e-8, 1e-7
    made = lambda curve: (
        curve + np.cumsum(rng.normal(0, c, shape), axis=-1) + rng.normal(0, r, shape)
    )
    found = sj.devices.fit(made(response(2.0)), made(response(2.0, HIGH, LOW)))
    # 80,000 differences, not independent over ten lags: bounded by those of 8,000.
    spread = Z * np.sqrt(2 / 8000)
    np.testing.assert_allclose(found.read_noise**2, r**2, rtol=spread)
    # The slope over ten lags has the error of the height, over about five of them.
    assert abs(found.pulse_noise**2 - c**2) < spread * (2 * r**2 + 10 * c**2) / 5
    error = found.ltp.label_error
    assert abs(found.device.nonlinearity_ltp - label(2.0)) < max(Z * error, 0.2)


def test_the_spread_over_cells_is_that_of_their_labels():
    rng = np.random.default_rng(1)
    curvatures = np.abs(rng.normal(2.0, 0.4, 12))
    up = np.stack([response(u) for u in curvatures])
    down = np.stack([response(u, HIGH, LOW) for u in curvatures])
    known = np.std([label(u) for u in curvatures], ddof=1)
    found = sj.devices.fit(up, down).device.sigma_d2d
    np.testing.assert_allclose(found, known, rtol=1e-3)


def test_a_table_follows_a_trace_that_no_label_fits():
    kink = LOW + (HIGH - LOW) * np.interp(X, [0, 0.3, 0.6, 1], [0, 0.1, 0.9, 1])
    found = sj.devices.fit(kink, kink[::-1], tabulated=True)
    share = found.device.curve_ltp.covered(jnp.asarray(X))
    low, high = found.device.g_min, found.device.g_max
    got = low + (high - low) * np.asarray(share)
    # A mean over one of 33 intervals rounds the kinks off by at most a quarter of their
    # slope, 2.7 windows a train, times the interval, and ends by half of it.
    assert np.abs(got - kink).max() < (HIGH - LOW) * 2.7 / 32 / 2
    assert found.ltp.r2 > 0.999


def test_a_file_of_two_columns_is_read_with_and_without_heading(save):
    rows = [f"{a!r},{b!r}" for a, b in zip(X.tolist(), X[::-1].tolist(), strict=True)]
    plain = save("a.csv", "\n".join(rows))
    headed = save("b.csv", "\n".join(["ltp,ltd", *rows]))
    one, two = (
        sj.devices.fit(path, unit=None, window=(LOW, HIGH)) for path in (plain, headed)
    )
    assert one.device.g_max == two.device.g_max == HIGH


UP, DOWN = response(2.0), response(2.0, HIGH, LOW)


@pytest.mark.parametrize(
    "up, down, options, words",
    [
        (UP[:5], DOWN, {}, "at least 8 pulses"),
        (np.full(20, LOW), DOWN, {}, "to change"),
        (np.where(X > 0.9, np.nan, UP), DOWN, {}, "finite"),
        (DOWN, UP, {}, "rise"),
        (UP, None, {}, "`ltd` beside"),
        (UP * 1e6, DOWN * 1e6, {}, "siemens"),
        (UP, UP[::-1], {}, "tabulated"),
        (UP, DOWN, {"unit": "kS"}, "`unit`"),
        (UP, DOWN, {"unit": None}, "`window`"),
        (UP, DOWN, {"window": (1e-6, 1e-5)}, "no `window`"),
        ("missing.csv", None, {}, "missing.csv"),
    ],
)
def test_what_cannot_be_identified_is_refused_in_one_line(up, down, options, words):
    with pytest.raises(ValueError, match=words) as refused:
        sj.devices.fit(up, down, **options)
    assert "\n" not in str(refused.value)
