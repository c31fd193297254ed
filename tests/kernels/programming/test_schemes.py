import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from sedma_jax.kernels import (
    VerifyRule,
    cell_conductance,
    draw_response,
    nominal_response,
    visible_state,
)
from sedma_jax.kernels._cells.device import curvature
from sedma_jax.kernels._programming.hadamard_verify import hadamard_matrix, hadamard_read
from tolerances import Z, gamma, mean_atol, var_atol

import sedma_jax as sj

SCHEMES = {
    "open loop": sj.open_loop,
    "write and verify": sj.write_and_verify,
    "hadamard": sj.hadamard_verify,
    "gradient": partial(sj.gradient_programming, vectors_per_row=3),
    "rewrite": sj.rewrite_and_verify,
    "rewrite law": sj.sampled_rewrite,
}
# Straight, silent, and so fine that rounding to whole pulses does not show.
FINE = sj.Device(g_min=1e-6, g_max=1e-5, pulses_ltp=10**6, pulses_ltd=10**6)


def run(scheme, device, target, initial=None, used=None, rule=None, key=None):
    return scheme(
        target,
        jnp.zeros_like(target) if initial is None else initial,
        jnp.ones(target.shape[1:], bool) if used is None else used,
        device,
        nominal_response(device, target.dtype),
        sj.acceptance_band(device) if rule is None else rule,
        key=jr.key(7) if key is None else key,
    )


@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)
def test_what_all_schemes_share(scheme):
    device = dataclasses.replace(sj.devices.TAOX_HFOX, sigma_read=0.01)
    target = jr.uniform(jr.key(0), (2, 3, 4), jnp.float32)
    initial = jnp.full_like(target, 0.25)
    used = jnp.ones((3, 4), bool).at[1].set(False).at[:, 3].set(False)
    rule = VerifyRule(0.01, 50.0, jnp.inf, -1.0, 5)
    program = jax.jit(partial(run, scheme))
    state, stats = program(device, target, initial, used, rule)
    assert state.dtype == stats.write_energy.dtype == stats.residual.dtype == jnp.float32
    assert bool(jnp.all((state == initial) | used[None]))
    assert float(jnp.min(state)) >= 0 and float(jnp.max(state)) <= 1
    assert int(stats.pulses) > 0 and 1 <= int(stats.iterations) <= 5
    again, _ = program(device, target, initial, used, rule, jr.key(7))
    other, _ = program(device, target, initial, used, rule, jr.key(8))
    np.testing.assert_array_equal(state, again)
    assert not np.array_equal(state, other)
    state, stats = program(device, target, initial, jnp.zeros_like(used), rule)
    np.testing.assert_array_equal(state, initial)
    assert all(float(figure) == 0 for figure in jax.tree.leaves(stats))


def test_open_loop_leaves_the_noise_of_its_pulses():
    sigma = 0.004
    device = dataclasses.replace(FINE, pulses_ltp=100, pulses_ltd=50, sigma_c2c=sigma)
    target = jnp.full((1, 100, 100), 0.5)
    initial = jnp.where(jnp.arange(100) < 50, 0.0, 0.7)[None, :, None] + target * 0
    state, stats = run(sj.open_loop, device, target, initial)
    error = np.asarray(state - target)[0]
    # 50 pulses up, or 10 down; the window ends 17 standard deviations away.
    for part, pulses in ((error[:50], 50), (error[50:], 10)):
        std = sigma * np.sqrt(pulses)
        assert abs(part.mean()) < mean_atol(std, part.size)
        assert abs(part.var() - std**2) < var_atol(std, part.size)
    assert int(stats.pulses) == 5000 * 60
    assert float(stats.write_latency) == pytest.approx(50 * 50 * 1e-7 + 50 * 10 * 1e-7)
    assert float(stats.verify_energy) == float(stats.verify_latency) == 0
    np.testing.assert_allclose(stats.residual, np.sqrt((error**2).mean()), rtol=1e-12)
    mean = (cell_conductance(initial, device) + cell_conductance(state, device)) / 2
    count = np.where(np.arange(100) < 50, 50, 10)[:, None]
    np.testing.assert_allclose(
        stats.write_energy, (1e-7 * count * mean[0]).sum(), rtol=1e-9
    )


@pytest.mark.parametrize("name", sj.devices.PRESETS)
def test_open_loop_inverts_the_nominal_response(name):
    device = dataclasses.replace(sj.devices.PRESETS[name], sigma_c2c=0.0)
    target = jnp.asarray(np.random.default_rng(1).random((2, 8, 8)))
    initial = jnp.asarray(np.random.default_rng(2).random((2, 8, 8)))
    state, _ = run(sj.open_loop, device, target, initial)
    # Half a pulse, along the steepest parts of the response and of the access transistor.
    labels = (device.nonlinearity_ltp, device.nonlinearity_ltd)
    slopes = [abs(u) / -np.expm1(-abs(u)) for u in map(float, map(curvature, labels))]
    pulses = min(device.pulses_ltp, device.pulses_ltd)
    access = (1 + device.r_access * device.g_max) / (1 + device.r_access * device.g_min)
    bound = 0.5 / pulses * max(slopes) * access * (1 + 1e-9)
    assert float(jnp.max(jnp.abs(visible_state(state, device) - target))) <= bound


def test_patterns_are_those_of_sylvester():
    expected = np.ones((1, 1))
    for _ in range(4):
        expected = np.kron([[1, 1], [1, -1]], expected)
    np.testing.assert_array_equal(hadamard_matrix(16, jnp.float32), expected)
    with pytest.raises(ValueError, match="power of two"):
        hadamard_matrix(12, jnp.float32)


@pytest.mark.parametrize(("rows", "patterns"), [(5, 8), (3, 4)])
def test_decoding_is_exact_and_divides_the_variance(rows, patterns):
    sigma, cols = 0.1, 4000
    seen = jnp.asarray(np.random.default_rng(3).random((2, 5, cols)))
    used = jnp.broadcast_to(jnp.arange(5)[:, None] < rows, (5, cols))
    read = jax.jit(hadamard_read)
    exact = read(seen, used, 0.0, key=jr.key(4))[:, :rows]
    # Two sums of at most 8 terms below 1, the second of sums below 8, over 8.
    np.testing.assert_allclose(
        exact, seen[:, :rows], rtol=0, atol=8 * gamma(17, jnp.float64)
    )
    noise = np.asarray(read(seen, used, sigma, key=jr.key(4))[:, :rows] - exact)
    std = sigma / np.sqrt(patterns)
    assert abs(noise.mean()) < mean_atol(std, noise.size)
    assert abs(noise.var() - std**2) < var_atol(std, noise.size)
    # Decoded errors of one bit line are independent, too.
    product = (noise[:, 0] * noise[:, 1]).ravel()
    assert abs(product.mean()) < mean_atol(std**2, product.size)


def test_hadamard_verify_is_write_and_verify_at_other_costs():
    device = sj.devices.EPIRAM
    target = jnp.asarray(np.random.default_rng(5).random((2, 5, 4)))
    rule = sj.acceptance_band(device, iterations=1)
    expected, single = run(sj.write_and_verify, device, target, rule=rule)
    state, stats = run(sj.hadamard_verify, device, target, rule=rule)
    np.testing.assert_allclose(state, expected, atol=1e-12)
    assert int(stats.pulses) == int(single.pulses)
    np.testing.assert_allclose(stats.residual, single.residual, rtol=1e-9)
    # Eight patterns before and after the round, each on all cells at the read voltage.
    power = 0.0
    for held in (np.zeros(target.shape), np.asarray(expected)):
        g = device.g_min + held * (device.g_max - device.g_min)
        power += (device.v_read**2 / (1 / g + device.r_access)).sum()
    np.testing.assert_allclose(stats.verify_energy, 8 * power * device.t_read, rtol=1e-9)
    assert float(stats.verify_latency) == pytest.approx(2 * 8 * device.t_read)
    assert float(single.verify_latency) == pytest.approx(2 * 5 * device.t_read)


@pytest.mark.parametrize("vectors_per_row", [1, 4])
def test_a_gradient_step_contracts_as_derived(vectors_per_row):
    rows, keys = 6, 2000
    batch = vectors_per_row * rows
    scheme = partial(
        sj.gradient_programming, vectors_per_row=vectors_per_row, significance=0.0
    )
    distance = 0.05 * np.random.default_rng(6).normal(size=(1, rows, 2))
    target = jnp.full((1, rows, 2), 0.5)
    rule = VerifyRule(0.0, jnp.inf, jnp.inf, -1.0, 1)

    def step(key):
        return run(scheme, FINE, target, target + distance, rule=rule, key=key)[0]

    left = np.asarray(jax.jit(jax.vmap(step))(jr.split(jr.key(9), keys))) - 0.5
    ratio = (left**2).sum(axis=(1, 2, 3)) / (distance**2).sum()
    expected = 1 - batch / (batch + rows - 1)
    assert abs(ratio.mean() - expected) < Z * ratio.std() / np.sqrt(keys)


def test_gradient_programming_converges_to_least_squares():
    target = jnp.asarray(np.random.default_rng(10).uniform(0.3, 0.5, (2, 4, 3)))
    initial = jnp.full_like(target, 0.4)
    scheme = partial(sj.gradient_programming, vectors_per_row=8, significance=0.0)
    rule = VerifyRule(0.0, jnp.inf, jnp.inf, -1.0, 100)
    state, stats = run(scheme, FINE, target, initial, rule=rule)
    inputs = np.random.default_rng(11).normal(size=(20, 4))
    # One cell of each pair stays at 0.4, and the other takes up the whole difference.
    resting = np.where(target[0] >= target[1], 1, 0)
    kept = np.take_along_axis(np.asarray(state), resting[None], 0)
    np.testing.assert_array_equal(kept, 0.4)
    wanted = inputs @ np.asarray(target[0] - target[1])
    best = np.linalg.lstsq(inputs, wanted, rcond=None)[0]
    held = np.asarray(state[0] - state[1])
    # It stops where no step asks for half a pulse: |S e| < 0.5 / (eta P) for each weight,
    # with eta = 32 / 35 and no eigenvalue of S below 0.1.
    assert int(stats.unfinished) == 0 and int(stats.iterations) < 100
    bound = 0.5 / 1e6 * (35 / 32) * np.sqrt(4) / 0.1
    np.testing.assert_allclose(held, best, rtol=0, atol=bound)


def test_gradient_programming_corrects_what_open_loop_missed():
    device = dataclasses.replace(
        sj.devices.EPIRAM, sigma_c2c=0.001, sigma_d2d=1.0, sigma_read=0.01
    )
    target = jnp.asarray(np.random.default_rng(12).random((1, 8, 8)))
    response = draw_response(device, target.shape, target.dtype, key=jr.key(13))
    rule = sj.acceptance_band(device, iterations=40)
    shared = dict(used=jnp.ones((8, 8), bool), device=device, response=response, rule=rule)
    start, _ = sj.open_loop(target, jnp.zeros_like(target), **shared, key=jr.key(14))
    end, _ = sj.gradient_programming(target, start, **shared, key=jr.key(15))
    inputs = np.random.default_rng(16).normal(size=(50, 8))
    missed = [
        inputs @ np.asarray(visible_state(s, device) - target)[0] for s in (start, end)
    ]
    before, after = (np.sqrt((m**2).mean()) for m in missed)
    assert after < before / 2


def test_steps_that_do_not_stand_out_are_not_taken():
    # One weight is wrong, so that its products are wrong by the same amount up to sign:
    # 8 standard errors for itself, and on average one for the 63 that are right.
    target = jnp.full((1, 64, 1), 0.5)
    initial = target.at[0, 5].add(0.1)
    rule = VerifyRule(0.0, jnp.inf, jnp.inf, -1.0, 1)
    state, stats = run(
        partial(sj.gradient_programming, significance=4.0), FINE, target, initial, rule=rule
    )
    # One of these exceeds four by chance in 63 * 6e-5 = 0.4% of all keys, not with this.
    assert int((state != initial).sum()) == 1
    eta = 64 / 127
    np.testing.assert_allclose(state[0, 5, 0], 0.6 - eta * 0.1, atol=0.5e-6 * (1 + 1e-9))
    assert int(stats.pulses) == round(eta * 1e5)


def test_a_batch_holds_a_vector():
    with pytest.raises(ValueError, match="vectors_per_row >= 1"):
        run(partial(sj.gradient_programming, vectors_per_row=0), FINE, jnp.ones((1, 2, 2)))
