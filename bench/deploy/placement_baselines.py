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

    For each edge and level of the tree there is a variable that is at least the share of
    one end in a part, less that of the other; its cost is what crossing that level adds.
    """
    distance = np.asarray(problem.distance, float)
    memory, cpu = np.asarray(problem.memory, float), np.asarray(problem.cpu, float)
    weights, model = np.asarray(problem.weights, float)[:-1], np.asarray(problem.model)
    edges = np.stack([np.asarray(problem.first), np.asarray(problem.second)], 1)
    n, m, kinds = len(memory), len(distance), len(weights)
    steps = np.unique(np.round(distance[~np.eye(m, dtype=bool)], 6))
    parts = [np.eye(m)]
    for step in steps[:-1]:
        parts.append(np.unique(distance <= step + 1e-5, axis=0).astype(float))
    added = np.diff(steps, prepend=0)
    blocks, count = [], len(edges) * len(parts)
    ends = sp.csr_array(
        (
            np.r_[np.ones(len(edges)), -np.ones(len(edges))],
            (np.r_[: len(edges), : len(edges)], edges.T.ravel()),
        ),
        (len(edges), n),
    )
    for k, part in enumerate(parts):
        crossing = sp.kron(ends, sp.csr_array(part))
        levels = sp.csr_array(([1.0], ([0], [k])), (1, len(parts)))
        cost_of = sp.kron(
            sp.kron(sp.eye_array(len(edges)), levels), np.ones((len(part), 1))
        )
        blocks.append(
            sp.hstack(
                [crossing, -cost_of, sp.csr_array((crossing.shape[0], m + kinds * m))]
            )
        )
    one = sp.hstack(
        [
            sp.kron(sp.eye_array(n), np.ones((1, m))),
            sp.csr_array((n, count + m + kinds * m)),
        ]
    )
    node = sp.eye_array(m)
    used = sp.hstack(
        [
            sp.eye_array(n * m),
            sp.csr_array((n * m, count)),
            -sp.kron(np.ones((n, 1)), node),
            sp.csr_array((n * m, kinds * m)),
        ]
    )
    owners = np.flatnonzero(model < kinds)
    chosen = sp.csr_array(
        (np.ones(len(owners)), (np.arange(len(owners)), owners)), (len(owners), n)
    )
    kept = sp.csr_array(
        (np.ones(len(owners)), (np.arange(len(owners)), model[owners])),
        (len(owners), kinds),
    )
    holds = sp.hstack(
        [
            sp.kron(chosen, node),
            sp.csr_array((len(owners) * m, count + m)),
            -sp.kron(kept, node),
        ]
    )
    base = np.asarray(problem.base, float)
    room = sp.hstack(
        [
            sp.kron(memory[None], node),
            sp.csr_array((m, count)),
            sp.diags_array(base),
            sp.kron(weights[None], node),
        ]
    )
    cores = sp.hstack([sp.kron(cpu[None], node), sp.csr_array((m, count + m + kinds * m))])
    volume = np.asarray(problem.volume, float)
    price = float(problem.lambda_mem)
    cost = np.r_[
        np.zeros(n * m),
        np.outer(volume, added).ravel(),
        price * base,
        price * np.repeat(weights, m),
    ]
    upper = sp.vstack([*blocks, used, holds])
    limits = [
        LinearConstraint(one, 1, 1),
        LinearConstraint(upper, -np.inf, 0),
        LinearConstraint(room, -np.inf, np.asarray(problem.node_memory, float)),
        LinearConstraint(cores, -np.inf, np.asarray(problem.node_cpu, float)),
    ]
    whole = np.r_[np.ones(n * m), np.zeros(len(cost) - n * m)]
    found = milp(
        cost,
        integrality=whole,
        bounds=Bounds(0, 1),
        constraints=limits,
        options={"time_limit": seconds},
    )
    if found.x is None:
        return None
    return found.x[: n * m].reshape(n, m).argmax(1).astype(np.int32)
