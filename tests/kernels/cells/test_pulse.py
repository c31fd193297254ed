import dataclasses

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from oracles import Cell
from scipy import stats
from sedma_jax.kernels import apply_pulses, draw_response, nominal_response
from sedma_jax.kernels._cells.pulse import response_curve, response_inverse
from tolerances import kolmogorov_smirnov, mean_atol, var_atol

import sedma_jax as sj

DEVICES = sj.devices.PRESETS
QUIET = {n: dataclasses.replace(d, sigma_c2c=0.0) for n, d in DEVICES.items()}


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("u", [-20.0, -0.5, 0.0, 1e-7, 2.0, 20.0])
def test_inverse_undoes_the_curve(u, dtype):
    fraction = jnp.linspace(0, 1, 101, dtype=dtype)
    state = response_curve(fraction, jnp.asarray(u, dtype))
    assert state.dtype == dtype
    np.testing.assert_allclose(state[jnp.array([0, -1])], [0, 1], atol=1e-6)
    # The inverse magnifies rounding by its slope, at most expm1(|u|) / |u|.
    eps = float(jnp.finfo(dtype).eps)
    slope = np.expm1(abs(u)) / abs(u) if u else 1
    np.testing.assert_allclose(
        response_inverse(state, jnp.asarray(u, dtype)), fraction, atol=8 * eps * slope
    )


@pytest.mark.parametrize("name", DEVICES)
def test_pulses_follow_the_published_model(name):
    device = QUIET[name]
    rng = np.random.default_rng(0)
    start = np.concatenate([[0.0, 1.0, 0.0, 1.0], rng.random(96)])
    pulses = np.concatenate([[-5.0, 5.0, 500.0, -500.0], rng.integers(-300, 300, 96)])
    window = device.g_max - device.g_min
    expected = []
    for s, n in zip(start, pulses, strict=True):
        cell = Cell(device, device.g_min + s * window)
        cell.apply(n, 0.0)
        expected.append((cell.g - device.g_min) / window)
    moved = apply_pulses(
        jnp.asarray(start),
        jnp.asarray(pulses),
        device,
        nominal_response(device, jnp.float64),
        key=jr.key(0),
    )
    # The constant of the oracle comes from a sampled curve, good to 1e-5.
    np.testing.assert_allclose(moved, expected, rtol=0, atol=1e-5)


def test_cycle_noise_grows_with_the_root_of_the_pulses():
    device = dataclasses.replace(
        DEVICES["epiram"], sigma_c2c=0.003, nonlinearity_ltp=0.0, nonlinearity_ltd=0.0
    )
    count = 200_000
    for pulses in (16.0, -64.0):
        start = jnp.full(count, 0.5)
        moved = apply_pulses(
            start,
            jnp.full(count, pulses),
            device,
            nominal_response(device, jnp.float64),
            key=jr.key(1),
        )
        std = 0.003 * abs(pulses) ** 0.5
        step = np.asarray(moved - start)
        assert abs(step.mean() - pulses / 256) < mean_atol(std, count)
        assert abs(step.var() - std**2) < var_atol(std, count)


def test_states_stay_in_the_window_and_untouched_cells_stay():
    device = DEVICES["alox-hfo2"]
    state = jnp.linspace(0, 1, 64)
    pulses = jnp.where(jnp.arange(64) % 2 == 0, 0.0, -500.0)
    moved = apply_pulses(
        state, pulses, device, nominal_response(device, jnp.float64), key=jr.key(2)
    )
    assert moved.min() >= 0
    assert moved.max() <= 1
    np.testing.assert_array_equal(moved[::2], state[::2])


def test_device_spread_has_its_law():
    device = dataclasses.replace(DEVICES["epiram"], sigma_d2d=0.2)
    count = 100_000
    response = draw_response(device, (count,), jnp.float64, key=jr.key(3))
    for u, label in ((response.ltp, 0.5), (response.ltd, -0.5)):
        # The label is a monotone function of u: invert it in closed form.
        v = np.abs(np.asarray(u))
        c = -np.expm1(-v)
        height = 1 / c - 1 / v + np.log(c / v) / v
        drawn = np.sign(u) * 10.101525 * height
        distance = stats.kstest(drawn, stats.norm(label, 0.2).cdf).statistic
        assert distance < kolmogorov_smirnov(count)
    correlation = np.corrcoef(response.ltp, response.ltd)[0, 1]
    assert abs(correlation) < mean_atol(1, count)


def test_batching_does_not_change_a_cell():
    device = DEVICES["ag-asi"]
    response = nominal_response(device, jnp.float32)
    state, pulses = jnp.full((3, 5), 0.4, jnp.float32), jnp.full((3, 5), 3, jnp.float32)
    keys = jr.split(jr.key(4), 3)
    move = lambda s, p, k: apply_pulses(s, p, device, response, key=k)
    together = jax.jit(jax.vmap(move))(state, pulses, keys)
    one_by_one = jnp.stack(
        [jax.jit(move)(*a) for a in zip(state, pulses, keys, strict=True)]
    )
    np.testing.assert_array_equal(together, one_by_one)
    assert together.dtype == jnp.float32
