"""Anneal random placement problems and public call graphs, beside other methods.

    python -m bench.deploy.placement [--limit 60] [--pressure 0] [--only NAME]

Random problems have communities of about eight agents, log-normal volumes, nodes in racks
and zones with latency / bandwidth of 0.05/3, 0.25/1.25 and 1/0.5, and two thirds of memory
and CPU used. Call graphs are those of DeathStarBench and Sock Shop as Blueprint (2023) has
them; their volumes are not public, and are drawn. Writes `bench/results/placement.json` and
`placement.md`.
"""

import json
import time
from pathlib import Path

import jax.numpy as jnp
import jax.random as jr
import numpy as np
from sedma_jax.kernels import PlacementProblem, memory_price, placement_cost

from bench.deploy.placement_baselines import greedy, integer_program, least_allocated
from bench.shared import RESULTS, parser_of, write_json
from sedma_jax.deploy import Infeasible, place, prove

GRAPHS = Path(__file__).with_name("callgraphs.json")
PRICE = 0.5  # per GB, on an idle cluster
# Best known costs, from hours of several solvers elsewhere; the first one is proven.
RANDOM = {(20, 10): 21.479, (200, 50): 261.6, (2000, 200): 4028.0}


def instance(n: int, m: int, seed: int, lambda_mem: float = 0.5) -> PlacementProblem:
    """Draw `n` agents in communities and `m` nodes in racks and zones."""
    draw = np.random.default_rng(seed)
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
    return _on_cluster(draw, edges, volume, n, m, lambda_mem)


def call_graph(name: str, m: int, seed: int, lambda_mem: float = 0.5) -> PlacementProblem:
    """Put a public benchmark's call graph on `m` nodes; its volumes are drawn."""
    draw = np.random.default_rng(seed)
    named = json.loads(GRAPHS.read_text())[name]["edges"]
    services = sorted({service for edge in named for service in edge})
    edges = np.array([[services.index(service) for service in edge] for edge in named])
    volume = draw.lognormal(1.5, 0.8, len(edges))
    return _on_cluster(draw, edges, volume, len(services), m, lambda_mem)


def _on_cluster(draw, edges, volume, n, m, lambda_mem):
    zones = max(1, round(m / 25)) if m > 10 else 2
    racks = max(zones, round(m / 5))
    rack = np.sort(np.arange(m) % racks)
    zone = (np.arange(racks) * zones // racks)[rack]
    distance = np.where(rack[:, None] != rack[None], 0.25 / 1.25, 0.05 / 3)
    distance = np.where(zone[:, None] != zone[None], 1 / 0.5, distance)
    np.fill_diagonal(distance, 0)
    memory, cpu = draw.lognormal(0.3, 0.6, n), draw.lognormal(-0.3, 0.5, n)
    kinds = max(2, n // 25)
    model, weights = draw.integers(0, kinds, n), draw.uniform(0.5, 3.0, kinds)
    share = draw.choice([1.0, 1.0, 2.0], m)
    share = share / share.sum()
    # There is room for the base, and for the copies of weights that spreading costs.
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
        lambda_mem=real(lambda_mem),
        groups=1,
    )


def compare(problem: PlacementProblem, limit: float, key: int) -> dict:
    """Cost and seconds of every method; no cost if a method found no placement."""
    agents = len(problem.memory)
    methods = {
        "ours": lambda: place(problem, prove_seconds=0, key=jr.key(key)).nodes,
        "default scheduler's rule": lambda: least_allocated(problem),
        "greedy": lambda: greedy(problem),
        "scipy milp": lambda: integer_program(problem, limit),
    }
    found = {}
    if agents <= 30:
        methods["ours, proven"] = lambda: (
            place(problem, prove_seconds=limit, key=jr.key(key)).nodes
        )
        methods["CP-SAT alone"] = lambda: prove(problem, seconds=limit).placement
    elif agents > 500:
        del methods["scipy milp"]  # four million variables
    for name, method in methods.items():
        start = time.perf_counter()
        try:
            nodes = method()
        except Infeasible as error:
            print(f"  {name}: {error}")
            nodes = None
        seconds = time.perf_counter() - start
        cost = None if nodes is None else placement_cost(problem, jnp.asarray(nodes))
        feasible = cost is not None and bool(cost.feasible)
        found[name] = {
            "cost": None if cost is None else round(float(cost.total), 3),
            "feasible": feasible,
            "seconds": round(seconds, 2),
        }
        print(f"  {name}: {found[name]}", flush=True)
    return found


def report(results: dict) -> str:
    """A table of all methods."""
    lines = [
        "# Placement, side by side",
        "",
        "`sedma bench run placement`; seconds with compilation; (x) overfills a node.",
        "",
        "| instance | method | cost | seconds | best known |",
        "| --- | --- | ---: | ---: | ---: |",
    ]
    for name, result in results["instances"].items():
        for method, figures in result["methods"].items():
            cost = "none" if figures["cost"] is None else f"{figures['cost']:.4g}"
            mark = "" if figures["feasible"] or figures["cost"] is None else " (x)"
            known = result["best_known"] or ""
            lines.append(
                f"| {name} | {method} | {cost}{mark} | {figures['seconds']} | {known} |"
            )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Compare on all instances."""
    parser = parser_of(__doc__)
    parser.add_argument("--limit", type=float, default=60, help="seconds per solver")
    parser.add_argument("--pressure", type=float, default=0.0, help="of memory, 0 to 1")
    parser.add_argument("--only", help="part of an instance's name")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--key", type=int, default=0)
    options = parser.parse_args()
    lambda_mem = float(memory_price(PRICE, options.pressure))
    problems = {
        f"{n} agents, {m} nodes": (
            lambda n=n, m=m: instance(n, m, options.seed, lambda_mem)
        )
        for n, m in RANDOM
    }
    for name in json.loads(GRAPHS.read_text()):
        problems[name] = lambda name=name: call_graph(name, 10, options.seed, lambda_mem)
    standard = options.pressure == 0 and options.seed == 0
    known = dict(zip(problems, RANDOM.values(), strict=False)) if standard else {}
    results = {"lambda_mem": lambda_mem, "limit": options.limit, "instances": {}}
    path = RESULTS / "placement.json"
    if options.only and path.exists():
        results["instances"] = json.loads(path.read_text())["instances"]
    for name, make in problems.items():
        if options.only and options.only not in name:
            continue
        print(name, flush=True)
        results["instances"][name] = {
            "best_known": known.get(name),
            "methods": compare(make(), options.limit, options.key),
        }
        write_json(path, results)
        path.with_suffix(".md").write_text(report(results))


if __name__ == "__main__":
    main()
