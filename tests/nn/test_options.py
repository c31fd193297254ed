"""Slices, inputs a bit at a time, and effects as options of a layer."""

import dataclasses

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import jaxtyping
import numpy as np
import pytest
from tolerances import Z

import sedma_jax as sj
from sedma_jax.nn import Effects, age, analogize, digitize

# Cells that are written as they are meant to be, and drift by a known exponent.
_ZERO = sj.kernels.PolynomialCurve((0.0,), 1.0)
_NU = sj.kernels.PolynomialCurve((0.05,), 1.0)
WINDOW = sj.noise_models.window(0.0, 1e-4)
DRIFT = sj.kernels.PowerLawDrift(_NU, _ZERO, t_0=20.0)
EXACT = sj.noise_models.MeasuredArray(WINDOW, sj.kernels.ProgrammingNoise(_ZERO), DRIFT)
LINEAR = eqx.nn.Linear(6, 4, key=jr.key(0))
WEIGHT = np.asarray(LINEAR.weight)
HOW = dict(array=8, key=jr.key(1))


def held(model):
    return np.asarray(digitize(model).weight)


def whole_steps(values, steps):
    """Multiples of the largest magnitude of each row over `steps`."""
    largest = np.abs(values).max(axis=-1, keepdims=True)
    return np.round(values / largest * steps) / steps * largest


def test_bits_of_a_weight_share_the_cells():
    analog = analogize(LINEAR, EXACT, slices=3, cell_bits=2, **HOW)
    assert analog.matrix.crossbar.slices == 3
    # A bit line has the scale of its output, and the rest are whole steps of it.
    expected = whole_steps(WEIGHT, 2**6 - 1)
    np.testing.assert_allclose(held(analog), expected, rtol=0, atol=1e-12)


def test_slices_by_statistics_store_what_is_left():
    noise = sj.kernels.ProgrammingNoise(sj.noise_models.independent(1e-6), g_min=-np.inf)
    measured = dataclasses.replace(EXACT, programming=noise)
    big = eqx.nn.Linear(32, 32, key=jr.key(3))
    for slices in (1, 2):
        analog = analogize(big, measured, array=32, slices=slices, key=jr.key(4))
        # Both cells of a pair err by a hundredth of the window, a bit line by its scale:
        # that of the weights, or of what was left of them.
        error = held(analog) - np.asarray(big.weight)
        scale = np.asarray(analog.matrix.crossbar.scale)[-1]
        ratio = np.mean(np.square(error / scale[:, None])) / (2 * 0.01**2)
        assert abs(ratio - 1) < Z * np.sqrt(2 / error.size)
    assert np.all(scale < 0.1)


def test_slices_of_a_device_are_those_of_program_residual():
    how = dict(scheme=sj.sampled_rewrite, array=8, slices=2, key=jr.key(1))
    matrix = sj.nn.program_matrix(WEIGHT, "epiram", **how)
    crossbar, stats = sj.program_residual(WEIGHT, "epiram", **how)
    np.testing.assert_array_equal(matrix.crossbar.strips, crossbar.strips)
    assert matrix.stats.energy == stats.energy and len(matrix.stats.slices) == 2


@pytest.mark.parametrize("pooled", (False, True))
def test_inputs_a_bit_at_a_time(pooled):
    pool = sj.Pool([sj.ArrayKind(8, 8, 1, sj.Device(0.0, 1e-5, 2**60, 2**60))])
    where = dict(plan=pool, scheme=sj.sampled_rewrite) if pooled else dict(array=8)
    device = pool.kinds[0].device if pooled else EXACT
    matrix = sj.nn.program_matrix(WEIGHT, device, input_bits=4, key=jr.key(1), **where)
    x = np.asarray(jr.normal(jr.key(2), (3, 6)))
    y = sj.nn.analog_linear(matrix, jnp.asarray(x), key=jr.key(0))
    expected = whole_steps(x, 7) @ WEIGHT.T
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-12)


def test_cells_drift_and_then_lie_behind_lines():
    g, ohms, seconds = 1e-4, 1000.0, 3600.0
    layer = eqx.tree_at(lambda l: l.weight, LINEAR, jnp.full((1, 1), 2.0))
    effects = Effects(r_word=ohms, r_bit=ohms, seconds=seconds)
    analog = analogize(layer, EXACT, array=1, effects=effects, key=jr.key(1))

    def seen(seconds):
        aged = g * (1 + seconds / 20) ** -0.05
        return 2.0 * aged / (1 + aged * 2 * ohms) / g

    np.testing.assert_allclose(held(analog), seen(seconds), rtol=1e-9)
    # Time counts from programming, and lines do not age.
    for later in (0.0, 1e6):
        old = age(analog, later, key=jr.key(2))
        np.testing.assert_allclose(held(old), seen(later), rtol=1e-9)
    assert analog.matrix.error < 1e-12  # that of programming
    assert sj.nn.inspect(analog, layer)[0].error > 0.1


def test_stuck_cells_stay_stuck():
    layer = eqx.nn.Linear(64, 64, key=jr.key(0))
    how = dict(array=64, effects=Effects(p_off=0.3), key=jr.key(1))
    analog = analogize(layer, EXACT, **how)
    dead = held(analog) == 0
    # A weight lies in one cell of its pair.
    assert abs(np.mean(dead) - 0.3) < Z * np.sqrt(0.3 * 0.7 / dead.size)
    old = age(analog, 1e6, key=jr.key(2))
    np.testing.assert_array_equal(held(old) == 0, dead)
    np.testing.assert_allclose(
        held(old)[~dead], held(analog)[~dead] * (1 + 1e6 / 20) ** -0.05, rtol=1e-9
    )


def test_compensation_undoes_a_loss_that_all_cells_share():
    effects = Effects(r_word=50.0, seconds=1e6, compensation_reads=4)
    analog = analogize(LINEAR, EXACT, effects=effects, **HOW)
    fresh = analogize(LINEAR, EXACT, effects=Effects(r_word=50.0), **HOW)
    # What is left follows from lines, through which smaller currents lose less.
    assert np.abs(held(analog) / held(fresh) - 1).max() < 0.02
    lost = analogize(LINEAR, EXACT, effects=Effects(seconds=1e6), **HOW)
    assert np.abs(held(lost) / WEIGHT - (1 + 1e6 / 20) ** -0.05).max() < 1e-9


def test_read_noise_is_an_effect_of_pools_too():
    noise = sj.kernels.StationaryReadNoise(sj.noise_models.independent(1e-6), g_min=-np.inf)
    pool = sj.Pool([sj.ArrayKind(8, 8, 1, sj.Device(0.0, 1e-4, 2**60, 2**60))])
    own = dict(plan=pool, scheme=sj.sampled_rewrite, key=jr.key(1))
    effects = Effects(read=noise)
    matrix = sj.nn.program_matrix(WEIGHT, pool.kinds[0].device, effects=effects, **own)
    x = jnp.ones((4000, 6))
    y = sj.nn.analog_linear(matrix, x, key=jr.key(0))
    scale = np.abs(WEIGHT).max(axis=1)
    variance = 2 * 6 * 0.01**2 * scale**2  # of both cells of six pairs
    ratio = np.var(y, axis=0, ddof=1) / variance
    assert np.abs(ratio - 1).max() < Z * np.sqrt(2 / 4000)


def test_errors_say_what_to_do(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    refused = pytest.raises
    with refused(ValueError, match="`p_on`.*from 0 to 1.*Divide percentages"):
        Effects(p_on=5.0)
    with refused(ValueError, match="`r_bit`.*-1"):
        Effects(r_bit=-1.0)
    with refused(ValueError, match="`drift`.*AbstractDrift"):
        Effects(drift="power")
    with refused(ValueError, match=r"law of drift.*'\[0\]'"):
        analogize([LINEAR], WINDOW, effects=Effects(seconds=1.0), **HOW)
    with refused(ValueError, match="`sedma_jax.nn.Effects`.*0.1"):
        analogize(LINEAR, WINDOW, effects=0.1, **HOW)
    with refused(ValueError, match="arrays of one kind for slices"):
        pool = sj.Pool([sj.ArrayKind(8, 8)])
        analogize(LINEAR, WINDOW, plans={"": pool}, slices=2, **HOW)
    with refused(ValueError, match="through a `dac` or a bit at a time"):
        analogize(LINEAR, WINDOW, input_bits=4, dac=sj.DAC(4), **HOW)
    with refused(ValueError, match="`input_bits` from 2 to 24"):
        analogize(LINEAR, WINDOW, input_bits=1, **HOW)
    with refused(ValueError, match="`cell_bits` from 1 to 23"):
        analogize(LINEAR, WINDOW, cell_bits=0, **HOW)
    with refused(ValueError, match="MultiheadAttention.*`rewritten`"):
        analogize(LINEAR, EXACT, rewritten=True, **HOW)
