"""What placements are compared with: a scheduler's rule, greedy, an integer program."""

import numpy as np
import scipy.sparse as sp
from scipy.optimize import Bounds, LinearConstraint, milp
from sedma_jax.kernels import PlacementProblem


def least_allocated(problem: PlacementProblem) -> np.ndarray:
    """Place agents in turn by the LeastAllocated score of kube-scheduler, no weights."""
    free = np.asarray(problem.node_memory, float)
    cores = np.asarray(problem.node_cpu, float)
    memory_left, cpu_left = free.copy(), cores.copy()
    placement = []
    for memory, cpu in zip(problem.memory, problem.cpu, strict=True):
        fits = (memory_left >= float(memory)) & (cpu_left >= float(cpu))
        score = (memory_left - float(memory)) / free + (cpu_left - float(cpu)) / cores
        q = int(np.where(fits, score, -np.inf).argmax())
        placement.append(q)
        memory_left[q] -= float(memory)
        cpu_left[q] -= float(cpu)
    return np.array(placement, np.int32)


def greedy(problem: PlacementProblem) -> np.ndarray | None:
    """Place the busiest first, each where it adds least; None if one fits nowhere."""
    memory, cpu = np.asarray(problem.memory, float), np.asarray(problem.cpu, float)
    model, weights = np.asarray(problem.model), np.asarray(problem.weights, float)
    base, distance = np.asarray(problem.base, float), np.asarray(problem.distance, float)
    room = np.asarray(problem.node_memory, float).copy()
    cores = np.asarray(problem.node_cpu, float).copy()
    neighbours = np.asarray(problem.neighbours)
    volume = np.asarray(problem.neighbour_volume, float)
    held = np.zeros((len(room), len(weights)), bool)
    used = np.zeros(len(room), bool)
    nodes = np.full(len(memory), -1, np.int32)
    for i in np.argsort(-volume.sum(1), kind="stable"):
        extra = np.where(used, 0, base) + np.where(held[:, model[i]], 0, weights[model[i]])
        placed = nodes[neighbours[i]] >= 0
        near = nodes[neighbours[i][placed]]
        added = distance[:, near] @ volume[i][placed] + float(problem.lambda_mem) * extra
        fits = (room >= memory[i] + extra) & (cores >= cpu[i])
        if not fits.any():
            return None
        q = int(np.where(fits, added, np.inf).argmin())
        room[q] -= memory[i] + extra[q]
        cores[q] -= cpu[i]
        used[q], held[q, model[i]], nodes[i] = True, True, q
    return nodes


def integer_program(problem: PlacementProblem, seconds: float) -> np.ndarray | None:
    """Place by scipy's HiGHS, nodes in a tree of racks and zones; None if none is found.

    The variables are, in this order: each agent on each node (`n * m`), each edge at each
    level of the tree (`count`), each node in use (`m`), and each kind of weights on each
    node (`kinds * m`). That of an edge and level is at least the share of one end in a
    part, less that of the other; its cost is what crossing that level adds.
    """
    memory, cpu = np.asarray(problem.memory, float), np.asarray(problem.cpu, float)
    weights, model = np.asarray(problem.weights, float)[:-1], np.asarray(problem.model)
    base, price = np.asarray(problem.base, float), float(problem.lambda_mem)
    edges = np.stack([np.asarray(problem.first), np.asarray(problem.second)], 1)
    parts, added = tree_levels(np.asarray(problem.distance, float))
    n, m, kinds, count = len(memory), len(base), len(weights), len(edges) * len(parts)
    node = sp.eye_array(m)
    one_node = sp.hstack(
        [
            sp.kron(sp.eye_array(n), np.ones((1, m))),
            sp.csr_array((n, count + m + kinds * m)),
        ]
    )
    room = sp.hstack(
        [
            sp.kron(memory[None], node),
            sp.csr_array((m, count)),
            sp.diags_array(base),
            sp.kron(weights[None], node),
        ]
    )
    cores = sp.hstack([sp.kron(cpu[None], node), sp.csr_array((m, count + m + kinds * m))])
    upper = sp.vstack(
        [
            *crossings(edges, parts, n, m, m + kinds * m),
            nodes_in_use(n, m, count, kinds * m),
            weights_held(model, kinds, n, m, count),
        ]
    )
    cost = np.r_[
        np.zeros(n * m),
        np.outer(np.asarray(problem.volume, float), added).ravel(),
        price * base,
        price * np.repeat(weights, m),
    ]
    found = milp(
        cost,
        integrality=np.r_[np.ones(n * m), np.zeros(len(cost) - n * m)],
        bounds=Bounds(0, 1),
        constraints=[
            LinearConstraint(one_node, 1, 1),
            LinearConstraint(upper, -np.inf, 0),
            LinearConstraint(room, -np.inf, np.asarray(problem.node_memory, float)),
            LinearConstraint(cores, -np.inf, np.asarray(problem.node_cpu, float)),
        ],
        options={"time_limit": seconds},
    )
    if found.x is None:
        return None
    return found.x[: n * m].reshape(n, m).argmax(1).astype(np.int32)


def tree_levels(distance: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
    """The parts of each level of the tree, as rows over nodes, and what each level adds."""
    m = len(distance)
    steps = np.unique(np.round(distance[~np.eye(m, dtype=bool)], 6))
    parts = [np.eye(m)]
    for step in steps[:-1]:
        parts.append(np.unique(distance <= step + 1e-5, axis=0).astype(float))
    return parts, np.diff(steps, prepend=0)


def crossings(edges: np.ndarray, parts: list[np.ndarray], n: int, m: int, rest: int):
    """For each level, the share of an edge's ends in a part less the edge's variable."""
    count = len(edges)
    ends = sp.csr_array(
        (
            np.r_[np.ones(count), -np.ones(count)],
            (np.r_[:count, :count], edges.T.ravel()),
        ),
        (count, n),
    )
    for k, part in enumerate(parts):
        crossing = sp.kron(ends, sp.csr_array(part))
        level = sp.csr_array(([1.0], ([0], [k])), (1, len(parts)))
        own = sp.kron(sp.kron(sp.eye_array(count), level), np.ones((len(part), 1)))
        yield sp.hstack([crossing, -own, sp.csr_array((crossing.shape[0], rest))])


def nodes_in_use(n: int, m: int, count: int, rest: int):
    """Each agent on a node less that node's use."""
    return sp.hstack(
        [
            sp.eye_array(n * m),
            sp.csr_array((n * m, count)),
            -sp.kron(np.ones((n, 1)), sp.eye_array(m)),
            sp.csr_array((n * m, rest)),
        ]
    )


def weights_held(model: np.ndarray, kinds: int, n: int, m: int, count: int):
    """Each agent with weights on a node less those weights on that node."""
    owners = np.flatnonzero(model < kinds)
    ones, rows = np.ones(len(owners)), np.arange(len(owners))
    chosen = sp.csr_array((ones, (rows, owners)), (len(owners), n))
    kept = sp.csr_array((ones, (rows, model[owners])), (len(owners), kinds))
    node = sp.eye_array(m)
    return sp.hstack(
        [
            sp.kron(chosen, node),
            sp.csr_array((len(owners) * m, count + m)),
            -sp.kron(kept, node),
        ]
    )
