"""Random telegraph noise against the closed forms of a two-state Markov process."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from sedma_jax.kernels import (
    TelegraphNoise,
    TrapGroup,
    Traps,
    draw_traps,
    drift,
    telegraph_state,
)
from tolerances import mean_atol, var_atol

import sedma_jax as sj

CELLS, TAU_0, TAU_1 = 40_000, 3.0, 1.5


@pytest.fixture(scope="module")
def states():
    tau = lambda value: jnp.full(CELLS, value)
    traps = Traps(tau(1.0), tau(TAU_0), tau(TAU_1))
    at = lambda time: telegraph_state(traps, time, 0.5, levels=8, key=jr.key(3))
    return np.asarray(jax.jit(jax.vmap(at))(jnp.arange(257.0) * 0.5))


def test_traps_are_full_for_their_share_of_the_time(states):
    full = TAU_1 / (TAU_0 + TAU_1)
    bound = mean_atol(np.sqrt(full * (1 - full)), CELLS)
    assert np.abs(states.mean(axis=1) - full).max() < bound * 1.2  # over 257 times


@pytest.mark.parametrize("lag", [1, 2, 7, 16])
@pytest.mark.parametrize("first", [0, 1, 127, 200])
def test_the_autocorrelation_decays_with_both_rates(states, first, lag):
    full = TAU_1 / (TAU_0 + TAU_1)
    one, other = states[first] - full, states[first + lag] - full
    expected = np.exp(-0.5 * lag * (1 / TAU_0 + 1 / TAU_1))
    # The product is bounded by max(full, 1 - full)**2.
    spread = max(full, 1 - full) ** 2 / (full * (1 - full))
    got = np.mean(one * other) / (full * (1 - full))
    assert abs(got - expected) < mean_atol(spread, CELLS)


def test_the_process_has_no_memory_beyond_its_state(states):
    # P(full at 9 | full at 8) is the same whatever the state at 7 was.
    rate = 0.5 * (1 / TAU_0 + 1 / TAU_1)
    full = TAU_1 / (TAU_0 + TAU_1)
    expected = full + (1 - full) * np.exp(-rate)
    for before in (False, True):
        among = states[8] & (states[7] == before)
        got = states[9][among].mean()
        assert abs(got - expected) < mean_atol(0.5, int(among.sum()))


def test_a_state_depends_on_key_place_and_time_alone():
    model = TelegraphNoise(0.7, 0.2, 2.0, 4.0, 0.3, 0.5)
    g = jnp.full((5, 7), 1e-5)
    alone = drift(model, g, 12.0, key=jr.key(5))
    many = jax.vmap(lambda t: drift(model, g, t, key=jr.key(5)))(jnp.array([3.0, 12.0]))
    np.testing.assert_array_equal(many[1], alone)
    assert (many[0] != alone).any()
    assert (drift(model, g, 12.9, key=jr.key(5)) == alone).all()


def test_traps_have_the_statistics_asked_for():
    model = TelegraphNoise(0.25, 0.1, 2.0, 4.0, amplitude_spread=0.4, tau_spread=0.8)
    traps = draw_traps(model, (CELLS,), jnp.float64, key=jr.key(1))
    has = np.asarray(traps.amplitude) > 0
    assert abs(has.mean() - 0.25) < mean_atol(np.sqrt(0.25 * 0.75), CELLS)
    amplitude = np.asarray(traps.amplitude)[has]
    logs = np.log(amplitude / (1 - amplitude)) - np.log(0.1 / 0.9) + np.log(0.1)
    assert abs(logs.mean() - np.log(0.1)) < mean_atol(0.4, has.sum())
    for tau, median in ((traps.tau_0, 2.0), (traps.tau_1, 4.0)):
        assert abs(np.log(tau).mean() - np.log(median)) < mean_atol(0.8, CELLS)


def test_traps_of_a_group_share_a_factor():
    # Always full, and of equal amplitude but for the factor F: g = (1 + r F)**-2.
    full = TelegraphNoise(1.0, 0.01, 1e-6, 1e6, levels=2)
    group = TrapGroup((full, full), common_spread=0.5)
    g = drift(group, jnp.ones(20_000), 3.0, key=jr.key(4))
    factor = np.log((np.asarray(g) ** -0.5 - 1) * 0.99 / 0.01)
    assert abs(factor.mean()) < mean_atol(0.5, 20_000)
    assert abs(factor.var() - 0.25) < var_atol(0.5, 20_000)


def test_a_crossbar_jumps_between_two_conductances():
    A = np.random.default_rng(0).normal(size=(6, 5))
    crossbar = sj.program_exactly(A, sj.devices.EPIRAM)
    model = TelegraphNoise(1.0, 0.2, 2.0, 2.0)
    seen = [sj.age(crossbar, model, float(t), key=jr.key(0)) for t in range(6)]
    ratios = np.stack([s.conductance / crossbar.conductance for s in seen])
    assert np.isclose(ratios, 1).any() and np.isclose(ratios, 0.8).any()
    assert (np.isclose(ratios, 1) | np.isclose(ratios, 0.8)).all()


@pytest.mark.parametrize(
    "change",
    [
        {"share": 1.5},
        {"amplitude": -0.1},
        {"tau_0": 0.0},
        {"tau_1": np.nan},
        {"tau_spread": -1.0},
        {"t_step": 0.0},
        {"levels": 31},
    ],
)
def test_nonsense_is_refused_by_name(change):
    good = dict(share=0.5, amplitude=0.1, tau_0=1.0, tau_1=1.0)
    with pytest.raises(ValueError, match=f"`{next(iter(change))}`"):
        TelegraphNoise(**(good | change))


@pytest.mark.parametrize(
    "make, name",
    [
        (lambda trap: TrapGroup(()), "models"),
        (lambda trap: TrapGroup((trap,), -0.1), "common_spread"),
    ],
)
def test_a_group_of_nonsense_is_refused_by_name(make, name):
    with pytest.raises(ValueError, match=f"`{name}`"):
        make(TelegraphNoise(0.5, 0.1, 1.0, 1.0))
