"""Place agents on nodes: start from a graph cut, anneal, and prove small cases."""

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import mtkahypar
import numpy as np

from ..._keys import split_key
from ...kernels import PlacementCost, PlacementProblem, Schedule, anneal, placement_cost
from .proof import prove

PROVABLE = 30  # agents; CP-SAT leaves gaps above that (its bounds are near zero)
_LARGE = 500  # agents
_CHAINS = 2  # vmapped, in each of two threads
# Small cases have many short chains, since each may end in a local optimum. Over 14
# problems of 20 and 30 agents with 4 keys each, 8 chains of 1000 rounds end 3.5 % above the
# best known cost, 32 chains of 125 rounds 0.7 %.
_SMALL_CHAINS = 32


class Infeasible(ValueError):
    """No placement meets the constraints; the message says which, and by how much.

    **Example:**

        >>> flow = sj.deploy.default_workflow()
        >>> small = sj.deploy.ClusterNode(name="small", memory="512Mi", cpu="2")
        >>> try:
        ...     sj.deploy.plan(flow.model_copy(update={"nodes": (small,)}), key=jr.key(0))
        ... except sj.deploy.Infeasible as error:
        ...     print(error)
        No placement is possible: agent 0 needs 1.074 GB ... than the roomiest node has; ...
    """


@dataclasses.dataclass(frozen=True)
class Placement:
    """Where every agent goes, and what that costs.

    - `nodes`: number of the node of every agent; a replica is an agent here.
    - `cost`: the parts of its cost, and the excess over capacities.
    - `bound`: no placement costs less; None if no proof was tried.
    - `optimal`: whether that is proven.
    - `proposals`: moves that the annealing tried; 0 if the proof ended in time.

    **Example:**

        >>> placement = sj.deploy.plan(sj.deploy.default_workflow(), key=jr.key(0))
        >>> placement.optimal, placement.proposals, bool(placement.cost.feasible)
        (True, 0.0, True)
    """

    nodes: np.ndarray
    cost: PlacementCost
    bound: float | None
    optimal: bool
    proposals: float


def place(
    problem: PlacementProblem,
    *,
    rounds: int | None = None,
    prove_seconds: float = 10.0,
    start: np.ndarray | None = None,
    key: jax.Array,
) -> Placement:
    """Find a placement near the optimum of Eq. 11-13; for 30 agents or fewer, prove it.

    A problem whose proof ends in time is not annealed.

    **Arguments:**

    - `problem`: agents, edges and nodes. The nodes where agents run now (`home`) are one
        of the starts if moving costs anything or is limited.
    - `rounds`: length of the annealing, 1152 proposals each; by default 125 up to
        30 agents (60 if there is a `start`), 3000 up to 500, and 6000 above. Above 30,
        half as many more follow at penalties that leave no capacity exceeded.
    - `prove_seconds`: wall time of the proof; 0 for none.
    - `start`: node of every agent in a placement that is known to be good, if there is
        one; the result costs no more.
    - `key`: for the annealing.

    **Returns:**

    The best feasible placement. The same key gives the same one in a fresh process, unless
    the proof ran out of time; for 31 to 500 agents mtkahypar's cuts depend on the ones that
    the process made before.

    **Raises:** `Infeasible` if none was found.

    **Example:**

        >>> flow = sj.deploy.default_workflow()
        >>> pair = [sj.deploy.ClusterNode(name=n, memory="4Gi", cpu="2") for n in "ab"]
        >>> flow = flow.model_copy(update={"nodes": tuple(pair)})
        >>> problem = sj.deploy.placement_problem(flow, home=np.array([1]), move_cost=1.0)
        >>> sj.deploy.place(problem, key=jr.key(0)).nodes.tolist()  # moving would cost
        [1]
    """
    impossible = shortages(problem)
    if impossible:
        raise Infeasible("No placement is possible: " + "; ".join(impossible) + ".")
    first_key, second_key = split_key(key)
    agents = problem.memory.shape[0]
    small = agents <= PROVABLE
    proof, candidates = None, [] if start is None else [np.asarray(start)]
    # The proof comes first: after it most small cases need no annealing, which takes
    # seconds to compile.
    if small and prove_seconds > 0:
        proof = prove(problem, hint=start, seconds=prove_seconds)
        if proof.placement is not None:
            candidates.append(proof.placement)
    proposals = 0.0
    if proof is None or not proof.optimal:
        if rounds is None and small:
            rounds = 125 if start is None else 60
        rounds = rounds or (3000 if agents <= _LARGE else 6000)
        keys = (first_key, second_key)
        annealed, proposals = _annealed(problem, rounds, small, start, keys)
        candidates.append(annealed)
    costs = [placed_cost(problem, nodes) for nodes in candidates]
    best = min(range(len(costs)), key=lambda k: _rank(costs[k]))
    nodes, cost = candidates[best], costs[best]
    if not cost.feasible:
        proven = proof is not None and proof.infeasible
        verdict = "It is proven that none is possible." if proven else "None was found."
        raise Infeasible(_excess(cost, verdict))
    bound = None if proof is None else proof.bound
    return Placement(
        nodes=nodes,
        cost=cost,
        bound=bound,
        optimal=proof is not None and proof.optimal,
        proposals=proposals,
    )


# Compiled once for all callers.
_compiled_cost = eqx.filter_jit(placement_cost)


def placed_cost(problem: PlacementProblem, nodes: np.ndarray) -> PlacementCost:
    """Cost and constraints of a placement."""
    return _compiled_cost(problem, jnp.asarray(nodes))


def _rank(cost: PlacementCost) -> tuple[bool, float, float]:
    """Feasible before infeasible, then little excess, then a low cost."""
    excess = np.sum(cost.memory_excess) + np.sum(cost.cpu_excess)
    return not cost.feasible, float(excess), float(cost.total)


def _annealed(
    problem: PlacementProblem,
    rounds: int,
    small: bool,
    start: np.ndarray | None,
    keys: tuple[jax.Array, jax.Array],
) -> tuple[np.ndarray, float]:
    """Anneal chains side by side; return the best placement, and how many proposals."""
    scale = _scale(problem)
    dtype = problem.memory.dtype
    value = lambda x: jnp.asarray(x, dtype)
    # Measured: above 0.3 the advantage of starting from a cut is lost; small cases start
    # from none.
    hot = 3.0 if small else 0.3
    wide = Schedule(value(hot * scale), value(0.005 * scale), value(20), value(2000))
    # Measured at 2000 agents: after the first schedule most chains still exceed a capacity
    # by a little; after this one none does, and the cost is 2 % lower.
    strict = Schedule(value(0.05 * scale), value(0.005 * scale), value(2e3), value(2e4))
    chains = _SMALL_CHAINS if small else _CHAINS
    placements = _starts(problem, small, 2 * chains, start, keys[0])
    first = _side_by_side(problem, placements, wide, rounds, jr.split(keys[1], 2 * chains))
    placements, made = first.placement, first.proposals.sum()
    if not (small and first.feasible.any()):
        again = jr.split(jr.fold_in(keys[1], 1), 2 * chains)
        last = _side_by_side(problem, placements, strict, max(rounds // 2, 1), again)
        placements, made = last.placement, made + last.proposals.sum()
    ranks = [_rank(placed_cost(problem, nodes)) for nodes in placements]
    return placements[ranks.index(min(ranks))], float(made)


def _side_by_side(
    problem: PlacementProblem,
    starts: np.ndarray,
    schedule: Schedule,
    rounds: int,
    keys: jax.Array,
) -> Any:
    """Anneal in two threads, since XLA runs such small steps on one core."""
    run = lambda part: jax.tree.map(
        np.asarray, _run(problem, starts[part], schedule, jnp.asarray(rounds), keys[part])
    )
    with ThreadPoolExecutor(2) as threads:
        ends = list(threads.map(run, (slice(0, None, 2), slice(1, None, 2))))
    return jax.tree.map(lambda *parts: np.concatenate(parts), *ends)


@eqx.filter_jit
def _run(
    problem: PlacementProblem,
    starts: jax.Array | np.ndarray,
    schedule: Schedule,
    rounds: jax.Array,
    keys: jax.Array,
) -> Any:
    chain = lambda start, key: anneal(problem, start, schedule, rounds=rounds, key=key)
    return jax.vmap(chain)(starts, keys)


def _scale(problem: PlacementProblem) -> float:
    """A typical change of cost: an edge between two nodes, or the base of a node."""
    volume = np.asarray(problem.volume)
    distance = np.asarray(problem.distance)
    volume, distance = volume[volume > 0], distance[distance > 0]
    if len(volume) and len(distance):
        return float(np.median(volume) * np.median(distance))
    return float(problem.lambda_mem * np.max(problem.base)) or 1.0


def _starts(
    problem: PlacementProblem,
    small: bool,
    count: int,
    known: np.ndarray | None,
    key: jax.Array,
) -> np.ndarray:
    """Placements that the chains start from: random ones, or cuts of a larger graph."""
    agents, nodes = problem.allowed.shape
    allowed, home = np.asarray(problem.allowed), np.asarray(problem.home)
    random = np.random.default_rng(np.asarray(jr.key_data(key)))
    starts = []
    for k in range(count):
        if small or nodes < 2 or not len(problem.first):
            start = random.integers(0, nodes, agents)
        else:
            start = _cut(problem, seed=k)
        starts.append(start)
    if np.any(np.asarray(problem.move_cost) > 0) or np.isfinite(problem.move_budget):
        starts[0] = starts[1] = home
    if known is not None:
        starts[2] = starts[3] = known
    starts = np.array(starts)
    outside = ~allowed[np.arange(agents), starts]
    starts[outside] = np.broadcast_to(allowed.argmax(axis=1), starts.shape)[outside]
    return starts.astype(np.int32)


_KAHYPAR = mtkahypar.initialize(1)  # threads; a second call in a process is an error


def _cut(problem: PlacementProblem, seed: int) -> np.ndarray:
    """Cut the graph into one block per node, no heavier than the node can carry."""
    nodes = problem.node_memory.shape[0]
    memory, cpu = np.asarray(problem.memory), np.asarray(problem.cpu)
    room, cores = np.asarray(problem.node_memory), np.asarray(problem.node_cpu)
    size = memory / room.sum() + cpu / cores.sum()
    size = np.maximum(size / size.max() * 1000, 1).astype(int)
    volume = np.asarray(problem.volume)
    volume = np.maximum(volume / volume.max() * 10_000, 1).astype(int)
    # Measured, after annealing: the deterministic preset costs 2 % less at 2000 agents and
    # up to 15 % more at 200, where its one cut may be a poor one.
    presets = mtkahypar.PresetType
    preset = presets.DETERMINISTIC if len(memory) > _LARGE else presets.DEFAULT
    mtkahypar.set_seed(seed)
    context = _KAHYPAR.context_from_preset(preset)
    context.set_partitioning_parameters(nodes, 0.05, mtkahypar.Objective.CUT)
    context.logging = False
    edges = np.stack([np.asarray(problem.first), np.asarray(problem.second)], axis=1)
    graph = _KAHYPAR.create_graph(
        context, len(memory), len(edges), edges.tolist(), size.tolist(), volume.tolist()
    )
    share = (room / room.sum() + cores / cores.sum()) / 2
    most = np.ceil(share * size.sum() * 1.05).astype(int) + size.max() // 4
    context.set_individual_target_block_weights(most.tolist())
    return np.array(graph.partition(context).get_partition())


def shortages(problem: PlacementProblem) -> list[str]:
    """Say what no placement can meet: agents without a node, sums above the capacity.

    **Returns:** one phrase for each; without any there may still be no placement.

    **Example:**

        >>> flow = sj.deploy.default_workflow()
        >>> sj.deploy.shortages(sj.deploy.placement_problem(flow))
        []
        >>> slow = sj.deploy.ClusterNode(name="slow", memory="4Gi", cpu="500m")
        >>> flow = flow.model_copy(update={"nodes": (slow,)})
        >>> sj.deploy.shortages(sj.deploy.placement_problem(flow))[0]
        'agent 0 needs 1 cores, 0.5 more than the largest node has'
    """
    memory, cpu = np.asarray(problem.memory), np.asarray(problem.cpu)
    allowed = np.asarray(problem.allowed)
    room = np.asarray(problem.node_memory - problem.base)
    cores, weights = np.asarray(problem.node_cpu), np.asarray(problem.weights)
    model = np.asarray(problem.model)
    problems = []
    for i in range(len(memory)):
        needs = memory[i] + weights[model[i]]
        if not allowed[i].any():
            problems.append(f"agent {i} is allowed on no node")
            continue
        if needs > (best := room[allowed[i]].max()) * (1 + 1e-6):
            problems.append(
                f"agent {i} needs {needs:.4g} GB with its model, {needs - best:.4g} GB "
                "more than the roomiest node has"
            )
        if cpu[i] > (best := cores[allowed[i]].max()) * (1 + 1e-6):
            problems.append(
                f"agent {i} needs {cpu[i]:.4g} cores, {cpu[i] - best:.4g} more than the "
                "largest node has"
            )
    total = memory.sum() + weights[np.unique(model)].sum()
    for name, unit, needed, has in (
        ("memory", "GB", total, np.asarray(problem.node_memory).sum()),
        ("CPU", "cores", cpu.sum(), cores.sum()),
    ):
        if needed > has * (1 + 1e-6):
            problems.append(
                f"all agents need {needed:.4g} {unit} of {name}, {needed - has:.4g} {unit} "
                f"more than the {has:.4g} of all nodes"
            )
    groups, sizes = np.unique(np.asarray(problem.group), return_counts=True)
    for group, size in zip(groups, sizes, strict=True):
        if group != problem.groups - 1 and size > allowed.shape[1]:
            nodes = allowed.shape[1]
            problems.append(f"{size} agents are to be spread over {nodes} nodes")
    return problems


def _excess(cost: PlacementCost, verdict: str) -> str:
    parts = [
        f"node {q} exceeds its {name} by {float(over[q]):.4g} {unit}"
        for name, unit, over in (
            ("memory", "GB", cost.memory_excess),
            ("CPU", "cores", cost.cpu_excess),
        )
        for q in np.flatnonzero(np.asarray(over))
    ]
    if cost.conflicts > 0:
        parts.append(f"{int(cost.conflicts)} replicas share a node with another")
    if cost.budget_excess > 0:
        parts.append(f"{int(cost.budget_excess)} moves above the budget")
    return (
        f"No placement meets the constraints. {verdict} In the least broken one, "
        + ("; ".join(parts) or "an agent is where it is not allowed")
        + ". Add capacity, or ask for less."
    )
