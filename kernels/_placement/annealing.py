"""Anneal a placement by moves, swaps and block moves.

Simulated annealing (Kirkpatrick et al. 1983, doi 10.1126/science.220.4598.671) over the
problem of `placement.py`. Capacities are soft at first: an overflow of one mean capacity
costs a weight that grows while the temperature falls. The chain remembers the best
placement that breaks no constraint.

One step draws `WIDTH` proposals for one state, and takes the first that the Metropolis
rule accepts. The proposals before it are the rejections that a sequential chain would have
made, and those after it are discarded: the chain is the sequential one, but one step of a
cold chain does the work of dozens (Chandy et al. 1996 call this speculative).
"""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from .._cells.device import Scalar
from .moves import Edges, Proposals, changes, edge_matrices, excess_of
from .placement import NodeLoads, PlacementProblem, node_loads, placement_cost

WIDTH = 48  # proposals per step; a cold chain accepts one in thirty
STEPS = 24  # steps between two block moves
NEIGHBOUR = 0.85  # share of proposals that go to the node of a neighbour
SWAP = 0.5  # share of proposals that swap two agents


class Schedule(eqx.Module):
    """Temperatures and penalties at the ends of a chain, all positive.

    - `hot`, `cold`: first and last temperature, in units of cost.
    - `soft`, `hard`: first and last penalty, in cost per mean capacity exceeded.

    **Example:**

        >>> schedule = sj.kernels.Schedule(*(jnp.array(v) for v in (10.0, 0.1, 1.0, 100.0)))
        >>> float(schedule.hot / schedule.cold)  # temperature falls to a hundredth
        100.0
    """

    hot: Float[Array, ""]
    cold: Float[Array, ""]
    soft: Float[Array, ""]
    hard: Float[Array, ""]


class Annealed(eqx.Module):
    """The result of a chain: the best feasible placement, or the least infeasible one."""

    placement: Int[Array, " agents"]
    cost: Float[Array, ""]  # infinite if none was feasible
    feasible: Bool[Array, ""]
    proposals: Float[Array, ""]  # number that a sequential chain would have made


class _Chain(eqx.Module):
    """The state of a chain, its best feasible placement and its least infeasible one."""

    placement: Int[Array, " agents"]
    load: NodeLoads
    cost: Float[Array, ""]
    excess: Float[Array, ""]
    best: Int[Array, " agents"]
    best_cost: Float[Array, ""]
    least: Int[Array, " agents"]
    least_excess: Float[Array, ""]
    proposals: Float[Array, ""]


def _one_of(
    u: Float[Array, " *draws"], count: int | Int[Array, " *draws"], dtype: jnp.dtype
) -> Int[Array, " *draws"]:
    """A whole number below `count`; `jr.randint` runs two ciphers and compiles slowly."""
    count = jnp.asarray(count, dtype)
    return jnp.minimum((u * count.astype(u.dtype)).astype(dtype), count - 1)


def _proposals(
    problem: PlacementProblem,
    placement: Int[Array, " agents"],
    order: Int[Array, " agents"],
    start: Int[Array, " bounds"],
    key: PRNGKeyArray,
) -> tuple[Proposals, Float[Array, " width"]]:
    """Draw agents, their new nodes and partners to swap with, and uniforms to accept by."""
    agents, nodes = problem.allowed.shape
    u = jr.uniform(key, (7, WIDTH), problem.memory.dtype)
    agent, anywhere = _one_of(u[5], agents, order.dtype), _one_of(u[6], nodes, order.dtype)
    degree = jnp.sum(problem.neighbour_volume[agent] > 0, axis=1, dtype=agent.dtype)
    slot = _one_of(u[0], degree, order.dtype)
    neighbour = problem.neighbours[agent, jnp.maximum(slot, 0)]
    near = (u[1] < NEIGHBOUR) & (degree > 0)
    node = jnp.where(near, placement[neighbour], anywhere)
    # `order` may be some steps old, so that the partner's node is looked up.
    there = start[node + 1] - start[node]
    place = _one_of(u[2], there, order.dtype)
    partner = order[jnp.clip(start[node] + place, 0, agents - 1)]
    swap = (u[3] < SWAP) & (there > 0)
    node = jnp.where(swap, placement[partner], node)
    return Proposals(agent, node, partner, swap), u[4]


def _step(
    problem: PlacementProblem,
    schedule: Schedule,
    order: Int[Array, " agents"],
    start: Int[Array, " bounds"],
    state: tuple[_Chain, Edges | None],
    drawn: tuple[PRNGKeyArray, Scalar],
) -> tuple[tuple[_Chain, Edges | None], None]:
    """Take the first proposal that the Metropolis rule accepts, if there is one."""
    (chain, edges), (key, cooling) = state, drawn
    temperature = schedule.hot * (schedule.cold / schedule.hot) ** cooling
    weight = schedule.soft * (schedule.hard / schedule.soft) ** cooling
    proposals, u = _proposals(problem, chain.placement, order, start, key)
    change = changes(problem, chain.placement, chain.load, edges, proposals)
    rise = change.cost + weight * change.excess
    accepted = change.possible & (rise <= -temperature * jnp.log(u))
    some, first = jnp.any(accepted), jnp.argmax(accepted)
    agent, node = proposals.agent[first], proposals.node[first]
    partner = proposals.partner[first]
    swapped = proposals.swap[first] & some
    old = chain.placement[agent]
    nodes, agents = problem.base.shape[0], problem.memory.shape[0]
    on = some.astype(problem.memory.dtype)
    at_old = (jnp.arange(nodes, dtype=old.dtype) == old).astype(on.dtype) * on
    at_new = (jnp.arange(nodes, dtype=node.dtype) == node).astype(on.dtype) * on
    gain = at_new - at_old
    load, back = chain.load, swapped.astype(on.dtype)
    mine, theirs = problem.model[agent], problem.model[partner]
    of_model = load.of_model.at[
        jnp.stack([old, node, old, node]), jnp.stack([mine, mine, theirs, theirs])
    ].add(jnp.stack([-on, on, back, -back]))
    of_group = load.of_group
    if problem.groups > 1:
        mine, theirs = problem.group[agent], problem.group[partner]
        of_group = of_group.at[
            jnp.stack([old, node, old, node]), jnp.stack([mine, mine, theirs, theirs])
        ].add(jnp.stack([-on, on, back, -back]))
    load = NodeLoads(
        memory=load.memory
        + gain * change.sizes[0, first]
        + at_old * change.overhead_old[first]
        + at_new * change.overhead_new[first],
        cpu=load.cpu + gain * change.sizes[1, first],
        agents=load.agents + gain * change.sizes[2, first],
        of_model=of_model,
        of_group=of_group,
        moved=load.moved + on * change.moved[first],
    )
    ids = jnp.arange(agents, dtype=agent.dtype)
    placement = jnp.where((ids == agent) & some, node, chain.placement)
    placement = jnp.where((ids == partner) & swapped, old, placement)
    made = jnp.where(some, first + 1, WIDTH).astype(on.dtype)
    if edges is not None:
        nearer = problem.distance[node] - problem.distance[old]
        gone = on * edges.volume[agent] - back * edges.volume[partner]
        edges = dataclasses.replace(edges, here=edges.here + gone[:, None] * nearer[None])
    chain = _keep(
        chain,
        placement,
        load,
        chain.cost + on * change.cost[first],
        chain.excess + on * change.excess[first],
        made,
    )
    return (chain, edges), None


def _keep(
    chain: _Chain,
    placement: Int[Array, " agents"],
    load: NodeLoads,
    cost: Float[Array, ""],
    excess: Float[Array, ""],
    made: Float[Array, ""],
) -> _Chain:
    """Make the next state of the chain, and remember the best placement seen."""
    # The excess is a sum of many changes, so that a removed overflow leaves rounding.
    small = 64 * jnp.finfo(cost.dtype).eps * load.memory.shape[0]
    better = (excess <= small) & (cost < chain.best_cost)
    calmer = excess < chain.least_excess
    return _Chain(
        placement=placement,
        load=load,
        cost=cost,
        excess=excess,
        best=jnp.where(better, placement, chain.best),
        best_cost=jnp.where(better, cost, chain.best_cost),
        least=jnp.where(calmer, placement, chain.least),
        least_excess=jnp.where(calmer, excess, chain.least_excess),
        proposals=chain.proposals + made,
    )


def _block_step(
    problem: PlacementProblem,
    schedule: Schedule,
    chain: _Chain,
    key: PRNGKeyArray,
    cooling: Float[Array, ""],
) -> _Chain:
    """Swap all agents of two nodes, move an agent with its neighbours, or gather them."""
    temperature = schedule.hot * (schedule.cold / schedule.hot) ** cooling
    weight = schedule.soft * (schedule.hard / schedule.soft) ** cooling
    agents, nodes = problem.allowed.shape
    placement = chain.placement
    u = jr.uniform(key, (5,), problem.memory.dtype)
    choices = (3, agents, nodes, problem.neighbours.shape[1])
    kind, agent, anywhere, near = (
        _one_of(u[k], count, placement.dtype) for k, count in enumerate(choices)
    )
    source = placement[agent]
    neighbour = problem.neighbours[agent, near]
    target = jnp.where(placement[neighbour] != source, placement[neighbour], anywhere)
    beside = jnp.zeros(agents, bool).at[problem.neighbours[agent]].set(True)
    beside = beside.at[agent].set(True)
    whole = jnp.where(
        placement == source, target, jnp.where(placement == target, source, placement)
    )
    together = jnp.where(beside & (placement == source), target, placement)
    gathered = jnp.where(beside & (placement == target), source, placement)
    new = jnp.where(kind == 0, whole, jnp.where(kind == 1, together, gathered))
    load = node_loads(problem, new)
    parts = placement_cost(problem, new)
    excess = excess_of(problem, load)
    allowed = jnp.all(jnp.take_along_axis(problem.allowed, new[:, None], axis=1))
    rise = parts.total - chain.cost + weight * (excess - chain.excess)
    take = allowed & (rise <= -temperature * jnp.log(u[4]))
    choose = lambda yes, no: jnp.where(take, yes, no)
    return _keep(
        chain,
        choose(new, placement),
        jax.tree.map(choose, load, chain.load),
        choose(parts.total, chain.cost),
        choose(excess, chain.excess),
        jnp.ones((), rise.dtype),
    )


def anneal(
    problem: PlacementProblem,
    placement: Int[Array, " agents"],
    schedule: Schedule,
    *,
    rounds: int | Int[Array, ""],
    key: PRNGKeyArray,
) -> Annealed:
    """Anneal one chain from `placement`; `jax.vmap` over keys and starts runs several.

    **Arguments:**

    - `problem`: agents, edges and nodes.
    - `placement`: start of the chain; it may exceed capacities, but every agent must be on
        a node where it is allowed.
    - `schedule`: temperatures and penalties; both change geometrically.
    - `rounds`: number of rounds, each of one block move and `STEPS` steps of `WIDTH`
        proposals.

    **Returns:**

    The best feasible placement seen, or else the one that breaks the constraints least.

    **Example:**

        >>> problem = sj.deploy.placement_problem(sj.deploy.default_workflow())
        >>> schedule = sj.kernels.Schedule(*(jnp.array(v) for v in (10.0, 0.1, 1.0, 100.0)))
        >>> start = jnp.zeros(len(problem.memory), jnp.int32)
        >>> found = sj.kernels.anneal(problem, start, schedule, rounds=1, key=jr.key(0))
        >>> bool(found.feasible)
        True
    """
    dtype = problem.memory.dtype
    nodes = problem.node_memory.shape[0]
    load = node_loads(problem, placement)
    parts = placement_cost(problem, placement)
    excess = excess_of(problem, load)
    infinite = jnp.array(jnp.inf, dtype)
    chain = _Chain(
        placement=placement,
        load=load,
        cost=parts.total,
        excess=excess,
        best=placement,
        best_cost=jnp.where(parts.feasible, parts.total, infinite),
        least=placement,
        least_excess=excess,
        proposals=jnp.zeros((), dtype),
    )

    def one_round(number, chain):
        block_key, steps_key = jr.split(jr.fold_in(key, number))
        # Sums of thousands of changes drift in float32, so they are computed afresh.
        load = node_loads(problem, chain.placement)
        chain = dataclasses.replace(
            chain,
            load=load,
            cost=placement_cost(problem, chain.placement).total,
            excess=excess_of(problem, load),
        )
        cooling = number.astype(dtype) / jnp.asarray(rounds, dtype)
        chain = _block_step(problem, schedule, chain, block_key, cooling)
        order = jnp.argsort(chain.placement).astype(placement.dtype)
        start = jnp.cumsum(
            jnp.zeros(nodes + 1, placement.dtype).at[chain.placement + 1].add(1)
        )
        step = lambda state, key: _step(
            problem, schedule, order, start, state, (key, cooling)
        )
        edges = edge_matrices(problem, chain.placement)
        (chain, _), _ = jax.lax.scan(step, (chain, edges), jr.split(steps_key, STEPS))
        return chain

    chain = jax.lax.fori_loop(0, rounds, one_round, chain)
    found = chain.best_cost < infinite
    return Annealed(
        jnp.where(found, chain.best, chain.least), chain.best_cost, found, chain.proposals
    )
