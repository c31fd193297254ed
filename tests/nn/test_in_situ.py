"""Training on devices: each algorithm by a property that its paper claims, in closed form.

Each cell is a problem of its own: from `w**2 / 2` about an optimum, with gradient noise of
one size and either sign. Steps of a symmetric exponential device are `1 -+ w / TAU` times
those at zero, so that plain SGD settles where `g + |g| w / TAU` vanishes in the mean (Wu,
Gokmen, Rasch & Chen 2024, arXiv 2406.12774): at `OPTIMUM / (1 + SIGMA / TAU)`.
"""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
from oracles import pulse_constant
from tolerances import Z, gamma, mean_atol

import sedma_jax as sj
from sedma_jax.nn import (
    agad,
    chopped_tiki_taka,
    mixed_precision,
    pulsed_updates,
    tiki_taka,
    tiki_taka_v2,
)

LINEAR = sj.Device(1e-6, 1e-5, 100, 100)
SOFT = dataclasses.replace(LINEAR, pulses_ltp=200, pulses_ltd=200, nonlinearity_ltp=5.0,
                           nonlinearity_ltd=-5.0)  # fmt: skip
TAU = 1 / np.tanh(1 / pulse_constant(5.0) / 2)
SIGMA, OPTIMUM, CELLS = 0.6, 0.5, (32, 8)
PLAIN = OPTIMUM / (1 + SIGMA / TAU)
HOW = dict(w_max=1.0, transfer_every=1)


@partial(jax.jit, static_argnames=("make", "steps"))
def settled(make, rate, steps, key):
    """Weights and state after `steps` from the optimum."""
    optimiser = optax.chain(optax.sgd(rate), make(key=key))
    w = jnp.full(CELLS, OPTIMUM)

    def step(carry, key):
        w, state = carry
        noise = SIGMA * jr.rademacher(key, CELLS, w.dtype)
        updates, state = optimiser.update(w - OPTIMUM + noise, state, w)
        return (optax.apply_updates(w, updates), state), None

    keys = jr.split(jr.fold_in(key, 1), steps)
    (w, state), _ = jax.lax.scan(step, (w, optimiser.init(w)), keys)
    return w, state[1]


def test_plain_sgd_settles_off_the_optimum():
    w, _ = settled(partial(pulsed_updates, SOFT, w_max=1.0), 0.008, 600, jr.key(0))
    np.testing.assert_allclose(np.mean(w), PLAIN, rtol=0, atol=mean_atol(np.std(w), w.size))


def settle_two_arrays(make, device=SOFT, **how):
    """Mean error, and its slope over the error of the reference with a bound on that."""
    make = partial(make, device, **HOW, transfer_rate=0.004, **how)
    w, state = settled(make, 0.03, 3000, jr.key(0))
    fast = getattr(state.fast, "reference", None)
    offset = np.asarray(state.reference if fast is None else fast)
    offset = offset - np.mean(offset)
    w = np.asarray(w)
    slope = np.sum(offset * w) / np.sum(offset**2)
    left = w - np.mean(w) - slope * offset
    atol = Z * np.std(left) / np.sqrt(np.sum(offset**2))
    return np.mean(w) - OPTIMUM, slope, atol


def test_tiki_taka_shares_the_error_of_its_reference_and_choppers_undo_it():
    # Where A - R vanishes in the mean, the gradient is -SIGMA / TAU times what R is off.
    for make in (tiki_taka, tiki_taka_v2):
        bias, slope, atol = settle_two_arrays(make, reference_error=0.1)
        assert abs(slope + SIGMA / TAU) < atol
        # The filter keeps what it passes on in proportion: what is left of the bias of
        # plain SGD is a fifth and a tenth (Gokmen 2021: fewer pulses of C).
        assert abs(bias) < (OPTIMUM - PLAIN) * (0.25 if make is tiki_taka else 0.1)
    bias, slope, atol = settle_two_arrays(
        chopped_tiki_taka, reference_error=0.1, chop_probability=1.0
    )
    assert abs(slope) < atol < 0.1 * SIGMA / TAU and abs(bias) < 0.1 * (OPTIMUM - PLAIN)
    # AGAD starts at a wrong reference: the symmetry point of this device is at -0.52.
    low = dataclasses.replace(SOFT, nonlinearity_ltp=1.0)
    bias, _, _ = settle_two_arrays(agad, low, chop_every=2)
    assert abs(bias) < 0.1 * (OPTIMUM - PLAIN)


def transferred(make, reads, **how):
    """Weights, state and reads of nothing but the reference of A, without gradients."""
    optimiser = make(LINEAR, **HOW, transfer_rate=0.1, **how, key=jr.key(3))
    w = jnp.zeros((4, 1))

    def step(carry, _):
        w, state = carry
        updates, state = optimiser.update(jnp.zeros_like(w), state, w)
        return (w + updates, state), state.fast.signs

    return jax.lax.scan(step, (w, optimiser.init(w)), None, reads)


def test_what_a_wrong_reference_adds_up_to():
    # 20 times 0.1 (0 - R): a pulse is 0.02, and less than one stays in the buffer. A
    # linear device is the same everywhere, so its symmetry point is the middle.
    (w, state), _ = transferred(tiki_taka_v2, 20, reference_error=0.1)
    offset = -2 * np.asarray(state.fast.reference)
    assert np.max(np.abs(offset)) > 0.1
    pulses = np.trunc(offset / 0.02)
    np.testing.assert_allclose(w, 0.02 * pulses, rtol=0, atol=1e-12)
    np.testing.assert_allclose(state.fast.buffer, offset - w, rtol=0, atol=1e-12)
    # With signs by turns it cancels after each two reads.
    how = dict(reference_error=0.05, chop_probability=1.0)
    (w, state), signs = transferred(chopped_tiki_taka, 20, **how)
    assert not np.any(w) and np.all(np.abs(state.fast.buffer) < 1e-12)
    np.testing.assert_array_equal(signs[:, 0], [-1, 1] * 10)
    # Turned with a probability, runs are geometric.
    n = 2000
    _, signs = transferred(chopped_tiki_taka, n, chop_probability=0.1)
    turned = np.mean(np.diff(np.ravel(signs)) != 0)
    np.testing.assert_allclose(turned, 0.1, rtol=0, atol=mean_atol(0.3, n - 1))
    # In regular periods.
    _, signs = transferred(agad, 12, chop_every=3)
    np.testing.assert_array_equal(np.ravel(signs), [1, 1, -1, -1, -1, 1] * 2)


def test_agad_compares_with_the_period_before():
    # One pulse of 0.02 an update in A; the sign turns after two reads.
    optimiser = agad(LINEAR, **HOW, transfer_rate=0.5, chop_every=2, key=jr.key(0))
    w = jnp.zeros((1, 1))
    state, buffers, update = optimiser.init(w), [], jax.jit(optimiser.update)
    for _ in range(4):
        updates, state = update(jnp.full((1, 1), 0.02), state, w)
        w = w + updates
        buffers.append(float(state.fast.buffer[0, 0] + w[0, 0]))
    # Reads 0.02 and 0.04 against 0, then -0.02 and -0.04 towards it against 0.04.
    expected = 0.5 * np.cumsum([0.02, 0.04, 0.04 - 0.02, 0.04 - 0.0])
    np.testing.assert_allclose(buffers, expected, rtol=0, atol=1e-12)


def test_mixed_precision_moves_whole_pulses_and_loses_nothing():
    keys, steps, cells = jr.split(jr.key(0), 30), 30, (5, 7)
    changes = 0.02 * jax.vmap(lambda key: jr.normal(key, cells))(keys)
    optimiser = optax.chain(optax.sgd(1.0), mixed_precision(LINEAR, w_max=1.0, key=keys[0]))
    params = {"w": jnp.zeros(cells), "none": None}
    state, moved = optimiser.init(params), np.zeros(cells)
    update = jax.jit(optimiser.update)
    for change in changes:
        updates, state = update({"w": change, "none": None}, state, params)
        pulses = np.asarray(updates["w"]) / 0.02
        np.testing.assert_allclose(pulses, np.round(pulses), rtol=0, atol=1e-9)
        moved += np.abs(np.round(pulses))
        params = optax.apply_updates(params, updates)
        assert np.all(np.abs(state[1].accumulated["w"]) < 0.02)
    both = params["w"] + state[1].accumulated["w"]
    atol = gamma(4 * steps, np.float64)
    np.testing.assert_allclose(both, -np.sum(changes, axis=0), rtol=0, atol=atol)
    np.testing.assert_array_equal(state[1].pulses["w"], moved)
    # Capped, the rest waits; a granularity of one's own counts pulses by it.
    own = mixed_precision(LINEAR, w_max=1.0, granularity=0.1, max_pulses=2, key=keys[0])
    w, wanted = jnp.zeros(2), jnp.array([0.35, -0.15])
    updates, state = own.update(wanted, own.init(w), w)
    np.testing.assert_allclose(updates, [0.04, -0.02], rtol=0, atol=1e-12)
    np.testing.assert_allclose(state.accumulated, [0.15, -0.05], rtol=0, atol=1e-12)


def test_mixed_precision_keeps_noise_from_the_cells():
    # Noise of a fifth of a pulse leaves the accumulator once in 25 updates, so that the
    # bias of asymmetric cells is a fifth of that of plain SGD, to first order.
    make = partial(mixed_precision, SOFT, w_max=1.0)
    w, state = settled(make, 0.002 / SIGMA, 3000, jr.key(0))
    assert abs(np.mean(w) - OPTIMUM) < 0.4 * (OPTIMUM - PLAIN)
    assert np.mean(state.pulses) < 2 * 3000 / 25


@pytest.mark.parametrize(
    ("make", "wrong", "message"),
    [
        (tiki_taka, dict(reference_error=-0.1), "`reference_error` from 0 up"),
        (tiki_taka_v2, dict(transfer_every=0), "`transfer_every` to be at least 1"),
        (chopped_tiki_taka, dict(chop_probability=1.5), "`chop_probability` from 0 to 1"),
        (agad, dict(chop_every=0), "`chop_every` to be at least 1"),
        (agad, dict(memory=0.0), "`memory` above 0"),
        (mixed_precision, dict(granularity=0.0), "`granularity` to be positive"),
    ],
)
def test_errors_say_what_to_do(make, wrong, message):
    with pytest.raises(ValueError, match=message):
        more = {} if make is mixed_precision else dict(transfer_every=1, transfer_rate=0.1)
        make(SOFT, w_max=1.0, **more | wrong, key=jr.key(0))
