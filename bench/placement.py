"""Anneal random placement problems, beside the default scheduler's rule.

    python bench/placement.py [--agents 200] [--nodes 50] [--seed 0]

Communities of about eight agents, log-normal volumes, nodes in racks and zones with
latency / bandwidth of 0.05/3, 0.25/1.25 and 1/0.5, memory and CPU two thirds used. The
wall time counts compilation.
"""

import argparse
import time

import jax.numpy as jnp
import jax.random as jr
import numpy as np
from sedma_jax.kernels import PlacementProblem, placement_cost

from sedma_jax.deploy import place


def instance(n: int, m: int, seed: int) -> PlacementProblem:
    """Draw `n` agents in communities and `m` nodes in racks and zones."""
    draw = np.random.default_rng(seed)
    zones = max(1, round(m / 25)) if m > 10 else 2
    racks = max(zones, round(m / 5))
    rack = np.sort(np.arange(m) % racks)
    zone = (np.arange(racks) * zones // racks)[rack]
    distance = np.where(rack[:, None] != rack[None], 0.25 / 1.25, 0.05 / 3)
    distance = np.where(zone[:, None] != zone[None], 1 / 0.5, distance)
    np.fill_diagonal(distance, 0)
    community, start = np.zeros(n, int), 0
    count = 0
    while start < n:
        size = max(2, draw.poisson(8))
        community[start : start + size] = count
        count, start = count + 1, start + size
    volumes: dict[tuple[int, int], float] = {}
    for k in range(count):
        members = np.where(community == k)[0]
        for a in range(len(members)):
            for b in range(a + 1, len(members)):
                if draw.random() < 0.45 or b == a + 1:
                    volumes[members[a], members[b]] = draw.lognormal(1.5, 0.8)
    for _ in range(int(1.2 * n)):
        a, b = sorted(draw.integers(0, n, 2))
        if a != b and (a, b) not in volumes:
            volumes[a, b] = draw.lognormal(-0.5, 0.8)
    shuffled = draw.permutation(n)
    edges = np.array([(shuffled[a], shuffled[b]) for a, b in volumes])
    volume = np.array(list(volumes.values()))
    memory, cpu = draw.lognormal(0.3, 0.6, n), draw.lognormal(-0.3, 0.5, n)
    kinds = max(2, n // 25)
    model, weights = draw.integers(0, kinds, n), draw.uniform(0.5, 3.0, kinds)
    share = draw.choice([1.0, 1.0, 2.0], m)
    share = share / share.sum()
    # Room for the base, and for the weights that spreading costs.
    shared = weights.sum() / kinds * min(kinds, max(2.0, n / m * 0.35))
    room = np.maximum(
        share * (memory.sum() / 0.7) + 0.4 + shared, memory.max() + weights.max() + 0.5
    )
    cores = np.maximum(share * (cpu.sum() / 0.7) + 0.1, cpu.max())
    rows: list[list[tuple[int, float]]] = [[] for _ in range(n)]
    for (a, b), v in zip(edges, volume, strict=True):
        rows[a].append((b, v))
        rows[b].append((a, v))
    degree = max(map(len, rows))
    neighbours = np.tile(np.arange(n)[:, None], (1, degree))
    carried = np.zeros((n, degree))
    for a, row in enumerate(rows):
        for k, (b, v) in enumerate(row):
            neighbours[a, k], carried[a, k] = b, v
    real = lambda x: jnp.asarray(np.asarray(x, np.float32))
    whole = lambda x: jnp.asarray(np.asarray(x, np.int32))
    return PlacementProblem(
        first=whole(edges[:, 0]),
        second=whole(edges[:, 1]),
        volume=real(volume),
        neighbours=whole(neighbours),
        neighbour_volume=real(carried),
        memory=real(memory),
        cpu=real(cpu),
        model=whole(model),
        group=whole(np.zeros(n)),
        allowed=jnp.ones((n, m), bool),
        home=whole(np.zeros(n)),
        move_cost=real(np.zeros(n)),
        move_budget=real(np.inf),
        distance=real(distance),
        node_memory=real(room),
        node_cpu=real(cores),
        base=real(np.full(m, 0.4)),
        weights=real([*weights, 0.0]),
        lambda_mem=real(0.5),
        groups=1,
    )


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


def main() -> None:
    """Print the costs of one instance."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--agents", type=int, default=200)
    parser.add_argument("--nodes", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--key", type=int, default=0)
    options = parser.parse_args()
    problem = instance(options.agents, options.nodes, options.seed)
    default = placement_cost(problem, jnp.asarray(least_allocated(problem)))
    start = time.perf_counter()
    found = place(problem, prove_seconds=60, key=jr.key(options.key))
    seconds = time.perf_counter() - start
    print(
        f"{options.agents} agents on {options.nodes} nodes, {len(problem.first)} edges: "
        f"{float(found.cost.total):.2f} in {seconds:.1f} s with compilation "
        f"({found.proposals:.2g} proposals, optimal: {found.optimal}); "
        f"LeastAllocated {float(default.total):.2f}"
    )


if __name__ == "__main__":
    main()
