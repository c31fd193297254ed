"""Cost and constraints of a placement after one move or swap, without a full evaluation."""

from collections.abc import Callable

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from .placement import NodeLoads, PlacementProblem

DENSE = 2**11  # agents times agents or nodes, up to which edges are kept as matrices


class Edges(eqx.Module):
    """The edges of a small problem as matrices, as looking each one up would be slow."""

    volume: Float[Array, "agents agents"]
    here: Float[Array, "agents nodes"]  # cost of an agent's edges if it were on a node


class Proposals(eqx.Module):
    """Proposed moves, each of an agent to a node, perhaps in exchange for a partner."""

    agent: Int[Array, " width"]
    node: Int[Array, " width"]
    partner: Int[Array, " width"]
    swap: Bool[Array, " width"]


class Changes(eqx.Module):
    """What each proposal would change."""

    cost: Float[Array, " width"]
    excess: Float[Array, " width"]
    possible: Bool[Array, " width"]
    sizes: Float[Array, "3 width"]  # memory, cores and agents that the new node gains
    overhead_old: Float[Array, " width"]  # change of overhead on the old node, in GB
    overhead_new: Float[Array, " width"]  # change of overhead on the new node, in GB
    moved: Float[Array, " width"]  # change of the number of agents away from home


def _over(
    problem: PlacementProblem,
    memory: Float[Array, " width"],
    cpu: Float[Array, " width"],
    node: Int[Array, " width"],
) -> Float[Array, " width"]:
    """Capacity exceeded on nodes, in mean capacities."""
    over = jnp.maximum(memory - problem.node_memory[node], 0) / jnp.mean(
        problem.node_memory
    )
    return over + jnp.maximum(cpu - problem.node_cpu[node], 0) / jnp.mean(problem.node_cpu)


def excess_of(problem: PlacementProblem, load: NodeLoads) -> Float[Array, ""]:
    """By how much a placement breaks its constraints: mean capacities, agents and moves."""
    memory = jnp.maximum(load.memory - problem.node_memory, 0)
    cpu = jnp.maximum(load.cpu - problem.node_cpu, 0)
    return (
        jnp.sum(memory) / jnp.mean(problem.node_memory)
        + jnp.sum(cpu) / jnp.mean(problem.node_cpu)
        + jnp.sum(jnp.maximum(load.of_group[:, :-1] - 1, 0))
        + jnp.maximum(load.moved - problem.move_budget, 0)
    )


def edge_matrices(
    problem: PlacementProblem, placement: Int[Array, " agents"]
) -> Edges | None:
    """The edges as matrices; None where the problem is too large for that."""
    agents, nodes = problem.allowed.shape
    if agents * max(agents, nodes) > DENSE:
        return None
    volume = jnp.zeros((agents, agents), problem.memory.dtype)
    volume = volume.at[jnp.arange(agents)[:, None], problem.neighbours].add(
        problem.neighbour_volume
    )
    here = jnp.matmul(volume, problem.distance[placement], precision="highest")
    return Edges(volume, here)


def _travel(
    problem: PlacementProblem,
    placement: Int[Array, " agents"],
    edges: Edges | None,
    agent: Int[Array, " width"],
    partner: Int[Array, " width"],
) -> tuple[Callable[..., Float[Array, " width"]], Float[Array, " width"]]:
    """A function for the cost change of an agent's edges, and the volume to its partner."""
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


def changes(
    problem: PlacementProblem,
    placement: Int[Array, " agents"],
    load: NodeLoads,
    edges: Edges | None,
    proposals: Proposals,
) -> Changes:
    """Change of cost and of excess for every proposal, each taken by itself."""
    agent, node = proposals.agent, proposals.node
    partner, swap = proposals.partner, proposals.swap
    old = placement[agent]
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
    more = sizes - one[None] * back_sizes  # gained by the new node, lost by the old one
    mine, theirs = problem.model[agent], problem.model[partner]
    alike = (mine == theirs) & swap
    here_mine, here_theirs = load.of_model[old, mine], load.of_model[old, theirs]
    there_mine, there_theirs = load.of_model[node, mine], load.of_model[node, theirs]
    # Weights arrive with the first agent of a model, and leave with the last.
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
    return Changes(
        cost=cost,
        excess=excess,
        possible=possible,
        sizes=more,
        overhead_old=here,
        overhead_new=there,
        moved=gone + returned,
    )
