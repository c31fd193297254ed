import dataclasses

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from sedma_jax.kernels import (
    Device,
    Response,
    apply_pulses,
    nominal_response,
    pulsed_change,
    state_weight,
    symmetry_point,
    weight_state,
)
from sedma_jax.kernels._programming.pulsed_update import requested_pulses
from tolerances import mean_atol

from sedma_jax import devices

QUIET = dataclasses.replace(devices.AG_ASI, sigma_c2c=0.0)


def test_requests_are_right_in_the_mean_and_to_one_pulse():
    device, w_max, n = Device(1e-6, 1e-5, 50, 80), 0.7, 40_000
    for change, per_window in ((0.031, 50), (-0.031, 80)):
        pulses = requested_pulses(jnp.full((n, 1), change), w_max, device, key=jr.key(1))
        wanted = change * per_window / (2 * w_max)
        assert np.all(np.abs(pulses - wanted) < 1)
        share = abs(wanted) % 1
        atol = mean_atol(np.sqrt(share * (1 - share)), n)
        np.testing.assert_allclose(np.mean(pulses), wanted, atol=atol)
    capped = requested_pulses(jnp.array([[9.0, -9.0]]), w_max, device, 3, key=jr.key(1))
    np.testing.assert_array_equal(capped, [[3, -3]])


def test_weights_and_states_are_inverse():
    weights = jnp.linspace(-0.6, 0.6, 12).reshape(3, 4)
    state = weight_state(weights, 0.5, QUIET)
    held = state_weight(state, 0.5, QUIET)
    np.testing.assert_allclose(held, np.clip(weights, -0.5, 0.5), atol=1e-14)
    # Read through the transistor the middle of the range is not that of the window.
    assert state_weight(jnp.full((1, 1), 0.5), 0.5, devices.ALOX_HFO2)[0, 0] > 0.05


@pytest.mark.parametrize(("start", "change"), [(0.0, 30.0), (1.0, -40.0)])
def test_cells_follow_the_published_curve(start, change):
    # 30 pulses up from the bottom or 40 down from the top, in closed form.
    per_window = QUIET.pulses_ltp if change > 0 else QUIET.pulses_ltd
    response = nominal_response(QUIET, jnp.float64)
    done = pulsed_change(
        jnp.full((1, 1), start), jnp.full((1, 1), 2 * change / per_window), 1.0, QUIET,
        response, key=jr.key(0),
    )  # fmt: skip
    x = abs(change) / per_window
    if change > 0:
        u = float(response.ltp)
        expected = (1 - np.exp(-u * x)) / (1 - np.exp(-u))
    else:
        u = float(response.ltd)  # negative: steepest at the top
        expected = 1 - (1 - np.exp(u * x)) / (1 - np.exp(u))
    np.testing.assert_allclose(done.pulses, [[change]])
    np.testing.assert_allclose(done.state, [[expected]], rtol=1e-12)
    volts, width = (3.2, 300e-6) if change > 0 else (-2.8, 300e-6)
    span = QUIET.g_max - QUIET.g_min
    mean = QUIET.g_min + span * (start + expected) / 2
    np.testing.assert_allclose(done.energy, volts**2 * width * abs(change) * mean)


def test_noise_grows_with_the_root_of_the_pulses():
    device = Device(1e-6, 1e-5, 100, 100, sigma_c2c=0.01)
    n, pulses = 20_000, 16
    done = pulsed_change(
        jnp.full((n, 1), 0.4), jnp.full((n, 1), 2 * pulses / 100), 1.0, device,
        nominal_response(device, jnp.float64), key=jr.key(3),
    )  # fmt: skip
    noise = done.state - 0.4 - pulses / 100
    np.testing.assert_allclose(np.mean(noise), 0, atol=mean_atol(0.04, n))
    np.testing.assert_allclose(np.std(noise), 0.04, rtol=4.9 / np.sqrt(2 * n))


@pytest.mark.parametrize("device", [*devices.PRESETS.values()], ids=[*devices.PRESETS])
def test_alternating_pulses_end_at_the_symmetry_point(device):
    device = dataclasses.replace(device, sigma_c2c=0.0)
    response = nominal_response(device, jnp.float64)
    up, down = (jnp.full(1, sign) for sign in (1.0, -1.0))

    def both(_, state):
        for pulse in (up, down):
            state = apply_pulses(state, pulse, device, response, key=jr.key(0))
        return state

    end = jax.lax.fori_loop(0, 20_000, both, jnp.full(1, 0.1))
    step = 3 / min(device.pulses_ltp, device.pulses_ltd)
    np.testing.assert_allclose(end, symmetry_point(device, response), atol=step)
    near = symmetry_point(device, response)
    if 0.01 < near < 0.99:
        there = apply_pulses(near[None], up, device, response, key=jr.key(0)) - near
        back = apply_pulses(near[None], down, device, response, key=jr.key(0)) - near
        np.testing.assert_allclose(there, -back, rtol=1e-9)


def test_symmetry_points_of_straight_lines():
    for up, down, expected in ((50, 50, 0.5), (50, 80, 1.0), (80, 50, 0.0)):
        device = Device(1e-6, 1e-5, up, down)
        for dtype in (jnp.float32, jnp.float64):
            line = Response(jnp.zeros((), dtype), jnp.zeros((), dtype))
            point = symmetry_point(device, line)
            assert point.dtype == dtype
            assert point == expected
