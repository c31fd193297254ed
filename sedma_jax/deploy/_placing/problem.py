"""A workflow as arrays: replicas become agents, links become distances."""

import math
from collections.abc import Iterable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from ...kernels import PlacementProblem
from .._workflow.quantity import parse_quantity
from .._workflow.specification import Agent, Workflow, gigabytes

PERIOD = 1.0  # seconds of traffic that the data volume of Eq. 12 counts

_Pairs = dict[tuple[int, int], float]  # MB/s between two replicas, the lower number first


def replica_names(workflow: Workflow) -> list[str]:
    """Name every replica, in the order of the problem's agents: `front-0`, `front-1`.

    **Example:**

        >>> what = dict(entry="app:answer", memory="1Gi", cpu="1")
        >>> front = sj.deploy.Agent(name="front", replicas=2, **what)
        >>> sj.deploy.replica_names(sj.deploy.Workflow(name="tour", agents=(front,)))
        ['front-0', 'front-1']
    """
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
        `move_budget` the greatest number of moves.

    **Returns:**

    Volumes in MB/s, split evenly over replicas; sizes in GB; distances in ms / Gbps.

    **Raises:** `ValueError` for a workflow without nodes, or with numbers that float32
    does not hold.

    **Example:**

        >>> problem = sj.deploy.placement_problem(sj.deploy.default_workflow())
        >>> print(np.asarray(problem.memory).round(2), problem.cpu)  # 1Gi is 1.07 GB
        [1.07] [1.]
        >>> print(np.asarray(problem.node_memory).round(2), problem.distance)
        [4.29] [[0.]]
    """
    if not workflow.nodes:
        raise ValueError(
            "`placement_problem` needs `nodes:` with memory and cpu. Got none. List them, "
            "or compile without a placement."
        )
    agents = [agent for agent in workflow.agents for _ in range(agent.replicas)]
    pairs = _volumes(workflow, agents)
    neighbours, volumes = _adjacency(len(agents), pairs)
    edges = np.array(sorted(pairs), np.int32).reshape(-1, 2)
    models = [model.name for model in workflow.models]
    spread = _spread(workflow)
    return PlacementProblem(
        first=_whole(edges[:, 0]),
        second=_whole(edges[:, 1]),
        volume=_real(pairs[a, b] for a, b in edges.tolist()),
        neighbours=_whole(neighbours),
        neighbour_volume=_real(volumes),
        memory=_real(gigabytes(a.memory) for a in agents),
        cpu=_real(float(parse_quantity(a.cpu)) for a in agents),
        model=_whole(_position(a.model, models) for a in agents),
        group=_whole(_position(a.name, spread) for a in agents),
        allowed=_allowed(workflow, agents),
        home=_whole(np.zeros(len(agents)) if home is None else home),
        move_cost=_real([0.0 if home is None else move_cost] * len(agents)),
        move_budget=jnp.asarray(math.inf if home is None else move_budget, jnp.float32),
        distance=_real(distances(workflow).ravel()).reshape(len(workflow.nodes), -1),
        node_memory=_real(gigabytes(n.memory) for n in workflow.nodes),
        node_cpu=_real(float(parse_quantity(n.cpu)) for n in workflow.nodes),
        base=_real(gigabytes(n.base) for n in workflow.nodes),
        weights=_real([*(gigabytes(m.memory) for m in workflow.models), 0.0]),
        lambda_mem=jnp.asarray(workflow.lambda_mem, jnp.float32),
        groups=len(spread) + 1,
    )


def _volumes(workflow: Workflow, agents: Sequence[Agent]) -> _Pairs:
    """Split the traffic of every edge evenly over pairs of replicas."""
    replicas: dict[str, list[int]] = {}
    for i, agent in enumerate(agents):
        replicas.setdefault(agent.name, []).append(i)
    pairs: _Pairs = {}
    for edge in workflow.edges:
        sources, targets = replicas[edge.source], replicas[edge.target]
        share = edge.volume * edge.rate * PERIOD / (len(sources) * len(targets))
        for i in sources:
            for j in targets:
                pair = (min(i, j), max(i, j))
                pairs[pair] = pairs.get(pair, 0.0) + share
    return pairs


def _adjacency(count: int, pairs: _Pairs) -> tuple[np.ndarray, np.ndarray]:
    """Neighbours of every replica and the volumes to them, padded with itself and zero."""
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


def _spread(workflow: Workflow) -> list[str]:
    """Agents whose replicas go to different nodes; more replicas than nodes cannot."""
    nodes = len(workflow.nodes)
    return sorted(a.name for a in workflow.agents if 1 < a.replicas <= nodes)


def _allowed(workflow: Workflow, agents: Sequence[Agent]) -> jax.Array:
    rows = [[not a.nodes or q.name in a.nodes for q in workflow.nodes] for a in agents]
    return jnp.asarray(np.array(rows, bool))


def _position(name: str | None, names: Sequence[str]) -> int:
    """The place of a name among `names`, and one past the last if it is not there."""
    return names.index(name) if name in names else len(names)


def _real(values: np.ndarray | Iterable[float]) -> jax.Array:
    exact = np.asarray(list(values), np.float64)
    with np.errstate(over="ignore"):
        found = exact.astype(np.float32)
    if (outside := ~np.isfinite(found) | ((found == 0) & (exact != 0))).any():
        raise ValueError(
            "A placement needs volumes, sizes and distances that float32 holds, 1e-45 to "
            f"3.4e38. Got {exact[outside][0]:g}. Choose other units or leave the edge out."
        )
    return jnp.asarray(found)


def _whole(values: np.ndarray | Iterable[int]) -> jax.Array:
    return jnp.asarray(np.asarray(list(values), np.int32))


def distances(workflow: Workflow) -> np.ndarray:
    """Give latency / bandwidth of nodes (Eq. 13) in ms / Gbps, zero on the diagonal.

    **Example:**

        >>> what = dict(memory="4Gi", cpu="2")
        >>> nodes = tuple(sj.deploy.ClusterNode(name=z, zone=z, **what) for z in "ab")
        >>> flow = sj.deploy.default_workflow().model_copy(update={"nodes": nodes})
        >>> print(sj.deploy.distances(flow))  # 1 ms and 4 Gbps from zone to zone
        [[0.   0.25]
         [0.25 0.  ]]
    """
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
