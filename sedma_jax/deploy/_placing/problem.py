"""A workflow as arrays: replicas become agents, links become distances."""

import math

import jax.numpy as jnp
import numpy as np

from ...kernels import PlacementProblem
from .._workflow.quantity import parse_quantity
from .._workflow.specification import Workflow, gigabytes

PERIOD = 1.0  # seconds of traffic that Eq. 12's data volume counts


def replica_names(workflow: Workflow) -> list[str]:
    """Name every replica, in the order of the problem's agents: `front-0`, `front-1`."""
    return [f"{a.name}-{r}" for a in workflow.agents for r in range(a.replicas)]


def placement_problem(
    workflow: Workflow,
    *,
    home: np.ndarray | None = None,
    move_cost: float = 0.0,
    move_budget: float = math.inf,
) -> PlacementProblem:
    """Write a workflow as the problem of Eq. 11-13.

    **Arguments:**

    - `workflow`: needs nodes.
    - `home`: node of every replica now; with it, `move_cost` is the cost of each move and
        `move_budget` the most moves.

    **Returns:**

    Volumes in MB a second, split evenly over replicas; sizes in GB; distances in
    ms / Gbps.

    **Raises:** `ValueError` for a workflow without nodes.
    """
    if not workflow.nodes:
        raise ValueError(
            "A placement needs `nodes:` with memory and cpu. Got none. List them, or "
            "compile without a placement."
        )
    names = [node.name for node in workflow.nodes]
    models = [model.name for model in workflow.models]
    owners = [k for k, a in enumerate(workflow.agents) for _ in range(a.replicas)]
    of_agent: dict[str, list[int]] = {}
    for i, k in enumerate(owners):
        of_agent.setdefault(workflow.agents[k].name, []).append(i)
    pairs: dict[tuple[int, int], float] = {}
    for edge in workflow.edges:
        sources, targets = of_agent[edge.source], of_agent[edge.target]
        share = edge.volume * edge.rate * PERIOD / (len(sources) * len(targets))
        for i in sources:
            for j in targets:
                pair = (min(i, j), max(i, j))
                pairs[pair] = pairs.get(pair, 0.0) + share
    agents = [workflow.agents[k] for k in owners]
    neighbours, volumes = _adjacency(len(agents), pairs)
    spread = {a.name: g for g, a in enumerate(x for x in workflow.agents if x.replicas > 1)}
    # More replicas than nodes cannot be spread.
    spread = {n: g for n, g in spread.items() if len(of_agent[n]) <= len(names)}
    groups = sorted(spread)
    edges = np.array(sorted(pairs), np.int32).reshape(-1, 2)
    real = lambda values: jnp.asarray(np.asarray(list(values), np.float32))
    whole = lambda values: jnp.asarray(np.asarray(list(values), np.int32))
    allowed = [[not a.nodes or q in a.nodes for q in names] for a in agents]
    return PlacementProblem(
        first=whole(edges[:, 0]),
        second=whole(edges[:, 1]),
        volume=real(pairs[a, b] for a, b in edges.tolist()),
        neighbours=whole(neighbours),
        neighbour_volume=real(volumes),
        memory=real(gigabytes(a.memory) for a in agents),
        cpu=real(float(parse_quantity(a.cpu)) for a in agents),
        model=whole(models.index(a.model) if a.model else len(models) for a in agents),
        group=whole(
            groups.index(a.name) if a.name in groups else len(groups) for a in agents
        ),
        allowed=jnp.asarray(np.array(allowed, bool)),
        home=whole(np.zeros(len(agents)) if home is None else home),
        move_cost=real([0.0 if home is None else move_cost] * len(agents)),
        move_budget=jnp.asarray(math.inf if home is None else move_budget, jnp.float32),
        distance=jnp.asarray(distances(workflow).astype(np.float32)),
        node_memory=real(gigabytes(n.memory) for n in workflow.nodes),
        node_cpu=real(float(parse_quantity(n.cpu)) for n in workflow.nodes),
        base=real(gigabytes(n.base) for n in workflow.nodes),
        weights=real([*(gigabytes(m.memory) for m in workflow.models), 0.0]),
        lambda_mem=jnp.asarray(workflow.lambda_mem, jnp.float32),
        groups=len(groups) + 1,
    )


def _adjacency(count, pairs):
    rows: list[list[tuple[int, float]]] = [[] for _ in range(count)]
    for (i, j), volume in sorted(pairs.items()):
        rows[i].append((j, volume))
        rows[j].append((i, volume))
    degree = max(1, *map(len, rows))
    neighbours = np.tile(np.arange(count)[:, None], (1, degree))
    volumes = np.zeros((count, degree))
    for i, row in enumerate(rows):
        for k, (j, volume) in enumerate(row):
            neighbours[i, k], volumes[i, k] = j, volume
    return neighbours, volumes


def distances(workflow: Workflow) -> np.ndarray:
    """Eq. 13: latency / bandwidth in ms / Gbps between nodes, zero on the diagonal."""
    network, nodes = workflow.network, workflow.nodes
    cost = lambda link: link.latency_ms / link.bandwidth_gbps
    found = np.zeros((len(nodes), len(nodes)))
    for p, one in enumerate(nodes):
        for q, other in enumerate(nodes):
            if p == q:
                continue
            if one.zone != other.zone:
                found[p, q] = cost(network.region)
            elif one.rack != other.rack:
                found[p, q] = cost(network.zone)
            else:
                found[p, q] = cost(network.rack)
    return found
