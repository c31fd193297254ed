import dataclasses

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import oracles
import pytest
from sedma_jax.kernels import (
    VerifyRule,
    cell_conductance,
    gaussian,
    hidden_state,
    nominal_response,
    visible_state,
    write_and_verify,
)
from sedma_jax.kernels._programming import write_verify as _write_verify
from tolerances import mean_atol, var_atol

import sedma_jax as sj

SHAPE = (2, 5, 16)  # 32 cells a row, so that rows are packed to 2


def compiled(few):
    """`write_and_verify` with another size from which on cells are packed."""

    def write(*arguments, **keywords):
        with pytest.MonkeyPatch.context() as patch:  # while it is traced
            patch.setattr(_write_verify, "_FEW", few)
            return write_and_verify(*arguments, **keywords)

    return jax.jit(write)


# One compilation a shape serves all devices and rules.
PACKED, WHOLE = compiled(0), compiled(2**14)


def run(device, rule, target, used=None, key=None, write=PACKED):
    return write(
        target,
        jnp.zeros_like(target),
        jnp.ones(target.shape[1:], bool) if used is None else used,
        device,
        nominal_response(device, target.dtype),
        rule,
        key=jr.key(7) if key is None else key,
    )


@pytest.mark.parametrize("name", sj.devices.PRESETS)
@pytest.mark.parametrize(
    "rule",
    [
        VerifyRule(0.012, 8.0, 0.7, -1.0, 30),
        VerifyRule(1e-6, float("inf"), float("inf"), 1e-12, 12),
    ],
    ids=["band", "stagnation"],
)
@pytest.mark.parametrize("sigma_read", [0.0, 0.01])
@pytest.mark.parametrize("write", [PACKED, WHOLE], ids=["packed", "whole"])
def test_loop_against_the_cell_by_cell_model(name, rule, sigma_read, write):
    device = dataclasses.replace(sj.devices.PRESETS[name], sigma_read=sigma_read)
    target = np.random.default_rng(5).random(SHAPE)
    state, stats = run(device, rule, jnp.asarray(target), write=write)
    conductance, total = oracles.write_and_verify(target, device, rule, jr.key(7))
    window = device.g_max - device.g_min
    # Differences are those of the curvature, 1e-6 of the window, over the rounds.
    np.testing.assert_allclose(
        (cell_conductance(state, device) - conductance) / window, 0, atol=1e-4
    )
    assert int(stats.pulses) == total["pulses"]
    assert int(stats.iterations) == total["iterations"]
    np.testing.assert_allclose(stats.write_energy, total["energy"], rtol=1e-4)
    np.testing.assert_allclose(stats.write_latency, total["latency"], rtol=1e-12)
    np.testing.assert_allclose(stats.verify_energy, total["verify"], rtol=1e-4)


def test_what_is_known_when_tracing_changes_no_number():
    device = sj.devices.TAOX_HFOX
    rule = sj.acceptance_band(device, iterations=6)  # some cells stay unfinished
    target = jnp.asarray(np.random.default_rng(4).random(SHAPE))
    used = jnp.arange(5 * 16).reshape(5, 16) % 7 != 0
    response = nominal_response(device, target.dtype)
    known = jax.jit(
        lambda target, used: write_and_verify(
            target, jnp.zeros_like(target), used, device, response, rule, key=jr.key(7)
        )
    )
    state, stats = known(target, used)
    expected, traced = run(device, rule, target, used)
    np.testing.assert_allclose(state, expected, rtol=0, atol=1e-13)
    assert 0 < int(stats.unfinished)
    for name, figure in vars(stats).items():
        np.testing.assert_allclose(figure, getattr(traced, name), rtol=1e-12, err_msg=name)


def test_stagnation_stops_when_the_norm_stands_still():
    device = dataclasses.replace(sj.devices.EPIRAM, sigma_c2c=0.0, r_access=0.0)
    target = jnp.asarray(np.random.default_rng(6).random(SHAPE))
    _, forced = run(device, sj.stagnation(tolerance=-1.0), target)
    _, stopped = run(device, sj.stagnation(), target)
    assert int(stopped.iterations) <= int(forced.iterations) <= 21
    # Without noise the only dead band is half a pulse; curvature makes it half a step.
    assert float(stopped.residual) < 1 / 256


def test_band_is_kept_by_every_finished_cell():
    device = sj.devices.EPIRAM
    rule = sj.acceptance_band(device, half_width=0.004, iterations=400)
    target = jnp.asarray(np.random.default_rng(8).random((2, 32, 32)))
    state, stats = run(device, rule, target)
    error = np.abs(visible_state(state, device) - target)
    assert int(stats.unfinished) == 0
    assert error.max() <= 0.004
    np.testing.assert_allclose(stats.residual, np.sqrt((error**2).mean()), rtol=1e-12)


def test_cap_limits_the_pulses_of_a_round():
    device = dataclasses.replace(sj.devices.TAOX_HFOX, sigma_c2c=0.0)
    target = jnp.ones((1, 1, 1))
    _, stats = run(device, sj.acceptance_band(device, max_pulses=8, iterations=3), target)
    assert int(stats.pulses) == 24
    assert float(stats.write_latency) == pytest.approx(24 * 50e-9)


def test_cells_that_hold_no_entry_are_left_alone():
    device = sj.devices.ALOX_HFO2
    target = jnp.full((1, 4, 4), 0.7)
    used = jnp.zeros((4, 4), bool).at[1, 2].set(True)
    state, _ = run(device, sj.acceptance_band(device), target, used)
    assert int((state != 0).sum()) == 1
    one, alone = run(device, sj.acceptance_band(device), target[:, :1, :1])
    assert float(one[0, 0, 0]) > 0
    assert int(alone.pulses) > 0
    _, nothing = run(device, sj.acceptance_band(device), target, jnp.zeros((4, 4), bool))
    assert [int(nothing.pulses), int(nothing.iterations)] == [0, 0]
    assert float(nothing.verify_energy) == 0


def test_readings_and_states_are_inverse():
    for device in sj.devices.PRESETS.values():
        state = jnp.linspace(0, 1, 33)
        seen = visible_state(state, device)
        np.testing.assert_allclose(hidden_state(seen, device), state, atol=1e-12)
        cells = [oracles.Cell(device, g) for g in cell_conductance(state, device)]
        np.testing.assert_allclose(seen, [c.reading() for c in cells], atol=1e-12)


def test_verify_noise_has_its_law():
    count = 200_000
    noise = np.asarray(gaussian(0.03, (count,), jnp.float64, key=jr.key(9)))
    assert abs(noise.mean()) < mean_atol(0.03, count)
    assert abs(noise.var() - 0.03**2) < var_atol(0.03, count)
    assert not gaussian(0.0, (8,), jnp.float32, key=jr.key(9)).any()


def test_accepted_states_are_not_biased():
    # Noise of one pulse (0.037) is wider than the band, so accepted states spread at most
    # like a uniform law over it, and from both sides alike.
    device = dataclasses.replace(
        sj.devices.TAOX_HFOX, nonlinearity_ltp=0.0, nonlinearity_ltd=0.0, r_access=0.0
    )
    target = jnp.full((1, 128, 128), 0.5)
    rule = sj.acceptance_band(device, half_width=0.02, iterations=400)
    state, stats = run(device, rule, target)
    error = np.asarray(state - target).ravel()
    assert int(stats.unfinished) == 0
    assert np.abs(error).max() <= 0.02
    assert abs(error.mean()) < mean_atol(0.02 / np.sqrt(3), error.size)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: sj.stagnation(iterations=0), "`iterations` to be at least 1"),
        (lambda: sj.acceptance_band(sj.devices.EPIRAM, iterations=0), "iterations"),
        (lambda: sj.acceptance_band(sj.devices.EPIRAM, max_pulses=0), "max_pulses"),
        (lambda: sj.acceptance_band(sj.devices.EPIRAM, half_width=0.0), "half_width"),
    ],
)
def test_impossible_rules_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
