"""Cost of a placement against sums written out, and changes against full costs."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from sedma_jax.kernels import PlacementProblem, Schedule, anneal, placement_cost
from sedma_jax.kernels._placement.annealing import (
    _Chain,
    _proposals,
    _step,
)
from sedma_jax.kernels._placement.moves import changes, edge_matrices, excess_of
from sedma_jax.kernels._placement.placement import node_loads

AGENTS, NODES, MODELS = 12, 4, 3


@pytest.fixture(scope="module")
def problem():
    random = np.random.default_rng(5)
    volume = np.triu(random.lognormal(size=(AGENTS, AGENTS)), 1)
    volume *= random.random((AGENTS, AGENTS)) < 0.4
    both = volume + volume.T
    first, second = np.nonzero(volume)
    distance = np.abs(np.subtract.outer(np.arange(NODES), np.arange(NODES))) / 2
    return PlacementProblem(
        first=jnp.asarray(first),
        second=jnp.asarray(second),
        volume=jnp.asarray(volume[first, second]),
        neighbours=jnp.tile(jnp.arange(AGENTS), (AGENTS, 1)),
        neighbour_volume=jnp.asarray(both),
        memory=jnp.asarray(random.uniform(0.5, 2, AGENTS)),
        cpu=jnp.asarray(random.uniform(0.1, 1, AGENTS)),
        model=jnp.asarray(random.integers(0, MODELS, AGENTS)),
        group=jnp.asarray([0, 0, 1, 1] + [2] * 8),
        allowed=jnp.asarray(np.ones((AGENTS, NODES), bool)).at[3, 1].set(False),
        home=jnp.asarray(random.integers(0, NODES, AGENTS)),
        move_cost=jnp.asarray(random.uniform(0, 1, AGENTS)),
        move_budget=jnp.asarray(6.0),
        distance=jnp.asarray(distance),
        node_memory=jnp.full(NODES, 8.0),
        node_cpu=jnp.full(NODES, 2.5),
        base=jnp.full(NODES, 0.4),
        weights=jnp.asarray([1.5, 0.7, 0.0]),
        lambda_mem=jnp.asarray(0.5),
        groups=3,
    )


def written_out(p, placement):
    """Cost and excess, from Eq. 11-13 by loops over Python sets."""
    communication = sum(
        float(v) * float(p.distance[placement[i], placement[j]])
        for i, j, v in zip(p.first, p.second, p.volume, strict=True)
    )
    overhead, excess = 0.0, 0.0
    for q in range(NODES):
        here = [i for i in range(AGENTS) if placement[i] == q]
        models = {int(p.model[i]) for i in here}
        shared = sum(float(p.weights[k]) for k in models) + (0.4 if here else 0.0)
        overhead += shared
        excess += max(0, sum(float(p.memory[i]) for i in here) + shared - 8) / 8
        excess += max(0, sum(float(p.cpu[i]) for i in here) - 2.5) / 2.5
        for group in (0, 1):
            excess += max(0, sum(int(p.group[i]) == group for i in here) - 1)
    moved = [i for i in range(AGENTS) if placement[i] != p.home[i]]
    excess += max(0, len(moved) - 6)
    fee = sum(float(p.move_cost[i]) for i in moved)
    return communication + 0.5 * overhead + fee, excess


@pytest.mark.parametrize("seed", range(3))
def test_cost_is_eq_11_to_13(problem, seed):
    placement = np.random.default_rng(seed).integers(0, NODES, AGENTS)
    cost = placement_cost(problem, jnp.asarray(placement))
    expected, excess = written_out(problem, placement)
    np.testing.assert_allclose(cost.total, expected, rtol=1e-12)
    inside = placement[3] != 1
    assert bool(cost.feasible) == (excess == 0 and inside)


def started(problem, seed):
    """A chain, and its agents in the order of their nodes."""
    start = np.random.default_rng(seed).integers(0, NODES, AGENTS)
    zero, placement = jnp.zeros(()), jnp.asarray(start)
    load = node_loads(problem, placement)
    chain = _Chain(
        placement=placement,
        load=load,
        cost=zero,
        excess=zero,
        best=placement,
        best_cost=zero,
        least=placement,
        least_excess=zero,
        proposals=zero,
    )
    order = jnp.argsort(placement)
    offsets = jnp.cumsum(jnp.zeros(NODES + 1, order.dtype).at[placement + 1].add(1))
    return start, chain, order, offsets


@pytest.mark.parametrize("as_matrices", [True, False])
def test_every_proposal_changes_cost_by_what_it_says(problem, as_matrices):
    start, chain, order, offsets = started(problem, 1)
    proposals, _ = _proposals(problem, chain.placement, order, offsets, jr.key(2))
    agent, node = proposals.agent, proposals.node
    partner, swap = proposals.partner, proposals.swap
    edges = edge_matrices(problem, chain.placement) if as_matrices else None
    change = changes(problem, chain.placement, chain.load, edges, proposals)
    cost, excess, possible = change.cost, change.excess, change.possible
    before = written_out(problem, start)
    checked = 0
    for k in range(len(agent)):
        after = start.copy()
        after[agent[k]] = node[k]
        if swap[k]:
            after[partner[k]] = start[agent[k]]
        banned = after[3] == 1
        assert bool(possible[k]) <= (start[agent[k]] != node[k])
        if start[agent[k]] == node[k] or banned:
            continue
        expected = np.subtract(written_out(problem, after), before)
        np.testing.assert_allclose([cost[k], excess[k]], expected, atol=1e-12)
        checked += 1
    assert checked > 20 and bool(jnp.any(swap)) and not bool(jnp.all(swap))


def test_steps_keep_the_costs_of_edges_up_to_date(problem):
    start, chain, order, offsets = started(problem, 3)
    state = chain, edge_matrices(problem, chain.placement)
    warm = Schedule(*(jnp.asarray(x, float) for x in (1, 1, 0.1, 0.1)))
    step = jax.jit(lambda s, k: _step(problem, warm, order, offsets, s, (k, 0.5))[0])
    for k in range(12):
        state = step(state, jr.key(k))
    chain, edges = state
    assert np.sum(np.asarray(chain.placement) != start) > 4
    expected = [
        [
            sum(
                float(v) * float(problem.distance[q, chain.placement[other]])
                for other, v in enumerate(problem.neighbour_volume[i])
            )
            for q in range(NODES)
        ]
        for i in range(AGENTS)
    ]
    np.testing.assert_allclose(edges.here, expected, atol=1e-12)


def test_annealing_keeps_the_best_feasible_and_never_leaves_the_allowed(problem):
    value = lambda x: jnp.asarray(x, float)
    schedule = Schedule(value(1), value(0.005), value(20), value(2000))
    start = jnp.asarray([0, 1, 2, 3] * 3)
    run = jax.jit(
        jax.vmap(lambda key: anneal(problem, start, schedule, rounds=60, key=key))
    )
    result = run(jr.split(jr.key(0), 3))
    assert bool(jnp.all(result.feasible))
    for placement, cost in zip(result.placement, result.cost, strict=True):
        exact, excess = written_out(problem, np.asarray(placement))
        assert excess == 0 and placement[3] != 1
        np.testing.assert_allclose(cost, exact, rtol=1e-9)
    best = placement_cost(problem, start)
    assert float(jnp.min(result.cost)) < float(best.total) or not bool(best.feasible)
    # No single move or swap is known better than the best chain's end.
    least = np.asarray(result.placement[int(jnp.argmin(result.cost))])
    bottom = written_out(problem, least)[0]
    for i in range(AGENTS):
        for q in range(NODES):
            other = least.copy()
            other[i] = q
            cost, excess = written_out(problem, other)
            assert excess > 0 or other[3] == 1 or cost >= bottom - 1e-9


def test_loads_that_fill_a_node_exactly_are_feasible(problem):
    import dataclasses

    filled = dataclasses.replace(
        problem,
        node_memory=node_loads(problem, problem.home).memory,
        node_cpu=jnp.full(NODES, 99.0),
    )
    filled = dataclasses.replace(filled, group=jnp.full(AGENTS, 2))
    home = filled.home
    if home[3] != 1:
        assert bool(placement_cost(filled, home).feasible)
    assert float(excess_of(filled, node_loads(filled, home))) == 0
