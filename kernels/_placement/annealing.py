"""Anneal a placement by moves, swaps and block moves.

Simulated annealing (Kirkpatrick et al. 1983, doi 10.1126/science.220.4598.671) over the
problem of `placement.py`. Capacities are soft at first: an overflow of one mean capacity
costs a weight that grows while the temperature falls, and the best placement that breaks
nothing is kept.

One step draws `WIDTH` proposals for one state, and takes the first that the Metropolis
rule accepts. The ones before it are the rejections that a sequential chain would have
made, and the later ones are never made: the chain is the sequential one, but a step of a
cold chain does the work of dozens (Chandy et al. 1996 call it speculative).
"""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from .placement import NodeLoads, PlacementProblem, node_loads, placement_cost

WIDTH = 48  # proposals a step; a cold chain accepts one in thirty
STEPS = 24  # steps between two block moves
DENSE = 2**11  # agents times agents or nodes, up to which edges are kept as matrices
NEIGHBOUR = 0.85  # of proposals, that go to the node of a neighbour
SWAP = 0.5  # of proposals, that swap two agents


class Schedule(eqx.Module):
    """Temperatures in units of cost; penalties in cost per mean capacity exceeded."""

    hot: Float[Array, ""]
    cold: Float[Array, ""]
    soft: Float[Array, ""]
    hard: Float[Array, ""]


class Annealed(eqx.Module):
    """Where a chain came to: the best feasible placement, or the least broken one."""

    placement: Int[Array, " agents"]
    cost: Float[Array, ""]  # infinite where none was feasible
    feasible: Bool[Array, ""]
    proposals: Float[Array, ""]  # that a sequential chain would have made


class _Edges(eqx.Module):
    """The edges of a small problem, where looking each one up takes most of a step."""

    volume: Float[Array, "agents agents"]
    here: Float[Array, "agents nodes"]  # cost of an agent's edges, were it on a node


class _Chain(eqx.Module):
    placement: Int[Array, " agents"]
    load: NodeLoads
    cost: Float[Array, ""]
    excess: Float[Array, ""]
    best: Int[Array, " agents"]
    best_cost: Float[Array, ""]
    least: Int[Array, " agents"]
    least_excess: Float[Array, ""]
    proposals: Float[Array, ""]


def _over(problem, memory, cpu, node):
    """Capacity exceeded on nodes, in mean capacities."""
    over = jnp.maximum(memory - problem.node_memory[node], 0) / jnp.mean(
        problem.node_memory
    )
    return over + jnp.maximum(cpu - problem.node_cpu[node], 0) / jnp.mean(problem.node_cpu)


def _excess(problem, load):
    memory = jnp.maximum(load.memory - problem.node_memory, 0)
    cpu = jnp.maximum(load.cpu - problem.node_cpu, 0)
    return (
        jnp.sum(memory) / jnp.mean(problem.node_memory)
        + jnp.sum(cpu) / jnp.mean(problem.node_cpu)
        + jnp.sum(jnp.maximum(load.of_group[:, :-1] - 1, 0))
        + jnp.maximum(load.moved - problem.move_budget, 0)
    )


def _edges(problem, placement):
    """Edges as matrices; None where that is not worth it."""
    agents, nodes = problem.allowed.shape
    if agents * max(agents, nodes) > DENSE:
        return None
    volume = jnp.zeros((agents, agents), problem.memory.dtype)
    volume = volume.at[jnp.arange(agents)[:, None], problem.neighbours].add(
        problem.neighbour_volume
    )
    here = jnp.matmul(volume, problem.distance[placement], precision="highest")
    return _Edges(volume, here)


def _one_of(u, count, dtype):
    """A whole number below `count`; `jr.randint` takes two ciphers, and long to compile."""
    count = jnp.asarray(count, dtype)
    return jnp.minimum((u * count.astype(u.dtype)).astype(dtype), count - 1)


def _proposals(problem, chain, order, start, key):
    """Draw agents, their new nodes, and whom each would swap with."""
    agents, nodes = problem.allowed.shape
    u = jr.uniform(key, (7, WIDTH), problem.memory.dtype)
    agent, anywhere = _one_of(u[5], agents, order.dtype), _one_of(u[6], nodes, order.dtype)
    degree = jnp.sum(problem.neighbour_volume[agent] > 0, axis=1, dtype=agent.dtype)
    slot = _one_of(u[0], degree, order.dtype)
    neighbour = problem.neighbours[agent, jnp.maximum(slot, 0)]
    near = (u[1] < NEIGHBOUR) & (degree > 0)
    node = jnp.where(near, chain.placement[neighbour], anywhere)
    # `order` may be some steps old: the partner is taken where it is now.
    there = start[node + 1] - start[node]
    place = _one_of(u[2], there, order.dtype)
    partner = order[jnp.clip(start[node] + place, 0, agents - 1)]
    swap = (u[3] < SWAP) & (there > 0)
    node = jnp.where(swap, chain.placement[partner], node)
    return agent, node, partner, swap, u[4]


def _travel(problem, placement, edges, agent, partner):
    """Change of cost of an agent's edges, as a function, and the volume to its partner."""
    if edges is not None:
        cost = edges.here
        moved = lambda who, source, target: cost[who, target] - cost[who, source]
        return moved, edges.volume[agent, partner]

    def moved(who, source, target):
        others = placement[problem.neighbours[who]]
        volume = problem.neighbour_volume[who]
        here = problem.distance[source[:, None], others]
        there = problem.distance[target[:, None], others]
        return jnp.sum(volume * (there - here), axis=1)

    beside = problem.neighbours[agent] == partner[:, None]
    return moved, jnp.sum(jnp.where(beside, problem.neighbour_volume[agent], 0), axis=1)


def _changes(problem, chain, edges, agent, node, partner, swap):
    """Change of cost and of excess for every proposal, each by itself."""
    placement, load = chain.placement, chain.load
    old = placement[agent]
    width = jnp.arange(agent.shape[0])
    moved, between = _travel(problem, placement, edges, agent, partner)
    back = moved(partner, node, old) + 2 * between * problem.distance[old, node]
    cost = moved(agent, old, node) + jnp.where(swap, back, 0)

    away = lambda who, where: (where != problem.home[who]).astype(cost.dtype)
    fee = lambda who, source, target: away(who, target) - away(who, source)
    gone = fee(agent, old, node)
    returned = jnp.where(swap, fee(partner, node, old), 0)
    cost += gone * problem.move_cost[agent] + returned * problem.move_cost[partner]

    one = swap.astype(cost.dtype)
    sizes = jnp.stack([problem.memory[agent], problem.cpu[agent], jnp.ones_like(cost)])
    back_sizes = jnp.stack(
        [problem.memory[partner], problem.cpu[partner], jnp.ones_like(cost)]
    )
    more = sizes - one[None] * back_sizes  # what the new node gains, and the old one loses
    mine, theirs = problem.model[agent], problem.model[partner]
    alike = (mine == theirs) & swap
    here_mine, here_theirs = load.of_model[old, mine], load.of_model[old, theirs]
    there_mine, there_theirs = load.of_model[node, mine], load.of_model[node, theirs]
    # Weights that arrive with the first agent of a model, and leave with the last.
    w_mine = jnp.where(alike, 0, problem.weights[mine])
    w_theirs = jnp.where(alike | ~swap, 0, problem.weights[theirs])
    here = jnp.where(here_theirs == 0, w_theirs, 0) - jnp.where(here_mine == 1, w_mine, 0)
    there = jnp.where(there_mine == 0, w_mine, 0) - jnp.where(
        there_theirs == 1, w_theirs, 0
    )
    here -= jnp.where((load.agents[old] == 1) & ~swap, problem.base[old], 0)
    there += jnp.where((load.agents[node] == 0) & ~swap, problem.base[node], 0)
    cost += problem.lambda_mem * (here + there)

    memory, cpu = load.memory, load.cpu
    excess = (
        _over(problem, memory[old] - more[0] + here, cpu[old] - more[1], old)
        + _over(problem, memory[node] + more[0] + there, cpu[node] + more[1], node)
        - _over(problem, memory[old], cpu[old], old)
        - _over(problem, memory[node], cpu[node], node)
    )
    if problem.groups > 1:
        free = problem.groups - 1
        mine, theirs = problem.group[agent], problem.group[partner]
        alike = (mine == theirs) & swap
        count = lambda where, group: load.of_group[where, group]
        leaves = (mine != free) & ~alike
        ones = lambda true: true.astype(excess.dtype)
        excess += ones(leaves & (count(node, mine) > 0))
        excess -= ones(leaves & (count(old, mine) > 1))
        leaves = (theirs != free) & ~alike & swap
        excess += ones(leaves & (count(old, theirs) > 0))
        excess -= ones(leaves & (count(node, theirs) > 1))
    spent = load.moved - problem.move_budget
    excess += jnp.maximum(spent + gone + returned, 0) - jnp.maximum(spent, 0)
    possible = (old != node) & problem.allowed[agent, node]
    possible &= ~swap | problem.allowed[partner, old]
    return cost, excess, possible, (more, here, there, gone + returned, width)


def _step(problem, schedule, order, start, state, drawn):
    (chain, edges), (key, cooling) = state, drawn
    temperature = schedule.hot * (schedule.cold / schedule.hot) ** cooling
    weight = schedule.soft * (schedule.hard / schedule.soft) ** cooling
    agent, node, partner, swap, u = _proposals(problem, chain, order, start, key)
    proposed = agent, node, partner, swap
    cost, excess, possible, parts = _changes(problem, chain, edges, *proposed)
    rise = cost + weight * excess
    accepted = possible & (rise <= -temperature * jnp.log(u))
    some, first = jnp.any(accepted), jnp.argmax(accepted)
    more, here, there, away, width = parts
    agent, node, partner = agent[first], node[first], partner[first]
    swapped = swap[first] & some
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
        load.memory + gain * more[0, first] + at_old * here[first] + at_new * there[first],
        load.cpu + gain * more[1, first],
        load.agents + gain * more[2, first],
        of_model,
        of_group,
        load.moved + on * away[first],
    )
    ids = jnp.arange(agents, dtype=agent.dtype)
    placement = jnp.where((ids == agent) & some, node, chain.placement)
    placement = jnp.where((ids == partner) & swapped, old, placement)
    made = jnp.where(some, width[first] + 1, WIDTH).astype(on.dtype)
    if edges is not None:
        nearer = problem.distance[node] - problem.distance[old]
        gone = on * edges.volume[agent] - back * edges.volume[partner]
        edges = dataclasses.replace(edges, here=edges.here + gone[:, None] * nearer[None])
    chain = _keep(
        chain,
        placement,
        load,
        chain.cost + on * cost[first],
        chain.excess + on * excess[first],
        made,
    )
    return (chain, edges), None


def _keep(chain, placement, load, cost, excess, made):
    """The next state, and the best seen."""
    # Sums of many changes: what is left of a whole overflow is rounding.
    small = 64 * jnp.finfo(cost.dtype).eps * load.memory.shape[0]
    better = (excess <= small) & (cost < chain.best_cost)
    calmer = excess < chain.least_excess
    return _Chain(
        placement,
        load,
        cost,
        excess,
        jnp.where(better, placement, chain.best),
        jnp.where(better, cost, chain.best_cost),
        jnp.where(calmer, placement, chain.least),
        jnp.where(calmer, excess, chain.least_excess),
        chain.proposals + made,
    )


def _block_step(problem, schedule, chain, key, cooling):
    """Swap what two nodes hold, move an agent with its neighbours, or gather them."""
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
    excess = _excess(problem, load)
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
    """Anneal one chain from `placement`; `jax.vmap` over keys and starts makes several.

    **Arguments:**

    - `problem`: agents, edges and nodes.
    - `placement`: where the chain starts; it may break capacities, but every agent must be
        where it is allowed.
    - `schedule`: temperatures and penalties; both change geometrically.
    - `rounds`: rounds of `STEPS` steps of `WIDTH` proposals, and one block move.

    **Returns:**

    The best feasible placement seen, or the one that breaks the constraints least.
    """
    dtype = problem.memory.dtype
    nodes = problem.node_memory.shape[0]
    load = node_loads(problem, placement)
    parts = placement_cost(problem, placement)
    excess = _excess(problem, load)
    infinite = jnp.array(jnp.inf, dtype)
    chain = _Chain(
        placement,
        load,
        parts.total,
        excess,
        placement,
        jnp.where(parts.feasible, parts.total, infinite),
        placement,
        excess,
        jnp.zeros((), dtype),
    )

    def one_round(number, chain):
        block_key, steps_key = jr.split(jr.fold_in(key, number))
        # Sums of thousands of changes drift in float32: take them anew.
        load = node_loads(problem, chain.placement)
        chain = dataclasses.replace(
            chain,
            load=load,
            cost=placement_cost(problem, chain.placement).total,
            excess=_excess(problem, load),
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
        edges = _edges(problem, chain.placement)
        (chain, _), _ = jax.lax.scan(step, (chain, edges), jr.split(steps_key, STEPS))
        return chain

    chain = jax.lax.fori_loop(0, rounds, one_round, chain)
    found = chain.best_cost < infinite
    return Annealed(
        jnp.where(found, chain.best, chain.least), chain.best_cost, found, chain.proposals
    )
