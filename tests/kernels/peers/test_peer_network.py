"""The simulated network against closed forms, and against NumPy one request at a time."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
from sedma_jax.kernels import PeerNetwork, initial_network_state, simulate_network
from sedma_jax.kernels._peers.peer_network import _peer_events
from tolerances import mean_atol

from sedma_jax import kernels

PEERS, STEPS, REQUESTS = 5, 40, 200


def network(dtype=jnp.float64, **fields):
    """Equal peers on one spot that stay, and send in a second."""
    values = {
        "delay": 0.0,
        "log_seconds": 0.0,
        "log_spread": 0.0,
        "fail_log_seconds": np.log(0.25),
        "fail_log_spread": 0.0,
        "leave": 0.0,
        "back": 0.0,
        "killed_at": np.inf,
        "capacity": np.inf,
        "access": 0.0,
        "idle": 0.5,
        "memory_free": 8.0,
        "shared_log_spread": 0.0,
        **fields,
    }
    arrays = {
        name: jnp.broadcast_to(jnp.asarray(v, dtype), PEERS) for name, v in values.items()
    }
    arrays["shared_log_spread"] = arrays["shared_log_spread"][0]
    lies = jnp.broadcast_to(jnp.asarray(arrays.pop("lies", False), bool), PEERS)
    name = jnp.asarray([0, 1 << 30, 2 << 30, 3 << 30, (3 << 30) + 5], jnp.uint32)
    return PeerNetwork(
        **arrays, lies=lies, name=name, position=jnp.zeros((PEERS, 2), dtype)
    )


def run(network, rank, *, optimiser=None, key):
    # optax multiplies its step count by Python floats.
    with jax.numpy_dtype_promotion("standard"):
        return jax.tree.map(np.asarray, jitted(network, rank, optimiser, key))


@eqx.filter_jit
def jitted(network, rank, optimiser, key):
    state = initial_network_state(network, optimiser)
    return simulate_network(
        network,
        state,
        rank,
        steps=STEPS,
        requests=REQUESTS,
        holders=PEERS,
        optimiser=optimiser,
        key=key,
    )


POLICIES = [kernels.rank_by_score, kernels.rank_by_distance, kernels.rank_at_random]


@pytest.mark.parametrize("rank", POLICIES)
def test_a_dead_peer_costs_its_failures_and_nothing_is_lost(rank):
    state, done = run(network(killed_at=[10, *[np.inf] * 4]), rank, key=jr.key(1))
    assert done.arrived.all() and not state.alive[0]
    assert (done.attempts[:10] == 1).all() and (done.attempts <= 2).all()
    np.testing.assert_allclose(done.seconds, 1 + 0.25 * (done.attempts - 1))
    np.testing.assert_array_equal(done.right, done.attempts == 1)
    np.testing.assert_array_equal(done.sent, 1)  # the dead send nothing
    met = done.attempts[10:] == 2
    if rank is kernels.rank_at_random:
        assert abs(met.mean() - 1 / 5) < mean_atol(np.sqrt(0.16), met.size)
    elif rank is kernels.rank_by_distance:
        # Names 0 and 1 to 3 quarters: a random key is nearest to the first in a quarter.
        assert abs(met.mean() - 1 / 4) < mean_atol(np.sqrt(3 / 16), met.size)
    else:
        assert met[:2].mean() < met.size and met[5:].mean() < 0.01  # success has decayed


def test_a_liar_sends_once_and_is_not_asked_again():
    state, done = run(network(lies=[1, 0, 0, 0, 0]), kernels.rank_at_random, key=jr.key(2))
    np.testing.assert_array_equal(state.exiled, [1, 0, 0, 0, 0])
    assert (done.sent[0] == done.attempts[0]).all() and (done.sent[0] == 2).any()
    assert (done.sent[1:] == 1).all()
    np.testing.assert_allclose(done.seconds[1:], 1)
    again = run(network(lies=[1, 0, 0, 0, 0]), kernels.rank_at_random, key=jr.key(2))
    np.testing.assert_array_equal(done.seconds, again[1].seconds)


def test_nobody_left_and_single_precision_stays():
    where = network(jnp.float32, killed_at=0)
    state, done = run(where, kernels.rank_at_random, key=jr.key(3))
    assert not done.arrived.any() and not done.right.any()
    np.testing.assert_array_equal(done.attempts, PEERS)
    np.testing.assert_allclose(done.seconds, 0.25 * PEERS, rtol=1e-6)
    assert done.seconds.dtype == state.idle.dtype == np.float32


def test_times_are_log_normal_with_round_trips_and_right_is_as_defined():
    spread = 0.3
    where = network(log_spread=spread, access=50.0)
    _, done = run(where, kernels.rank_by_distance, key=jr.key(4))
    logs = np.log(np.asarray(done.seconds) - 0.1)  # 50 ms for the peer and the client
    assert abs(logs.mean()) < mean_atol(spread, logs.size)
    mean, std = kernels.fit_log_normal(jnp.asarray(np.exp(logs).ravel()))
    np.testing.assert_allclose([mean, std], [logs.mean(), logs.std()], rtol=1e-9)
    # The first of five equal peers is within 10 % of the best: by simulation in NumPy.
    times = 0.1 + np.exp(spread * np.random.default_rng(0).normal(size=(10**6, 5)))
    share = (times[:, 0] <= 1.1 * times.min(1)).mean()
    assert abs(done.right.mean() - share) < 2 * mean_atol(0.5, done.right.size)


def test_spreads_of_peers_and_of_requests_are_told_apart():
    rng, (requests, peers) = np.random.default_rng(0), (20_000, 3)
    logs = np.log([1, 2, 5]) + 0.3 * rng.normal(size=(requests, peers))
    logs += 0.7 * rng.normal(size=(requests, 1))
    means, own, shared = kernels.fit_shared_log_normal(jnp.asarray(np.exp(logs)))
    assert (abs(np.asarray(means) - np.log([1, 2, 5])) < mean_atol(0.8, requests)).all()
    # Of a variance of n normal values the relative error is sqrt(2 / n).
    assert abs(own / 0.3 - 1) < mean_atol(1, requests) and abs(shared / 0.7 - 1) < 0.03


def test_who_serves_slowly_is_found_out():
    where = network(log_seconds=np.log([0.09, 0.005, 0.09, 0.09, 0.09]))
    state, done = run(where, kernels.rank_by_score, key=jr.key(9))
    np.testing.assert_allclose(state.service[1], 5)
    assert not done.right.all() and done.right[5:].all()


def test_load_slows_and_is_shared_only_by_those_who_serve():
    state, done = run(network(capacity=REQUESTS / 5), kernels.rank_at_random, key=jr.key(5))
    load = np.asarray(state.load)
    np.testing.assert_allclose(load.sum(), 5)
    # In the steady state a peer with load l takes 1 + l: 2 on average.
    assert abs(done.seconds[1:].mean() - 2) < 0.01
    np.testing.assert_allclose(done.seconds[0], 1)


def test_churn_reaches_its_stationary_share():
    where = network(leave=0.2, back=0.6)

    @eqx.filter_jit
    def shares_over_time(keys):
        def step(state, key):
            state = _peer_events(where, state, key=key)
            return state, state.alive

        return jax.lax.scan(step, initial_network_state(where), keys)[1].mean(1)

    shares = np.asarray(shares_over_time(jr.split(jr.key(6), 300)))
    # Each step forgets 80 % of the last one: almost independent.
    std = np.sqrt(0.75 * 0.25 * 1.2 / 0.8)
    assert abs(np.mean(shares[20:]) - 0.75) < mean_atol(std, 280 * PEERS)


def test_weights_turn_to_what_tells_success_apart():
    where = network(
        killed_at=[0, 0, 0, np.inf, np.inf], memory_free=[1, 1, 1, 30, 30], idle=0
    )

    def some(model, terms, *known, key):
        return jr.uniform(key, terms.shape[:2])  # so that failures are seen too

    state, _ = run(where, some, optimiser=optax.adam(0.05), key=jr.key(7))
    _, latency, memory = state.model.weights
    # Round trips below 1 ms count as 1: the term of latency is 10 for all of them.
    odds = 10 * latency + np.array([1, 30]) / 8 * memory + state.model.bias
    without, with_memory = 1 / (1 + np.exp(-odds))
    assert without < 0.3 and with_memory > 0.9
