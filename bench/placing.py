"""Placement of 20 agents on three classes of nodes: ours and the default scheduler's rule.

    python bench/placing.py [--seeds 10] [--results DIR]

Nodes have 32 cores and 128 GB, 16 and 64, 8 and 16, as in the paper's case study, three or
four of each; a seed draws agents, traffic and volumes as `recompile.py` does, each agent
with 2 to 8 GB and 0.5 to 2 cores. Resource utilisation is the mean over used nodes of the
mean of memory and CPU used over allocatable. The cost is Eq. 11-12's, of communication.
"""

import argparse
import json
import random
from pathlib import Path

import jax.numpy as jnp
import jax.random as jr
import numpy as np
from machine import machine
from placement_baselines import least_allocated
from recompile import AGENTS, traffic
from sedma_jax.kernels import placement_cost

from sedma_jax import deploy

CLASSES = (("128G", "32"), ("64G", "16"), ("16G", "8"))


def workflow(seed: int) -> deploy.Workflow:
    """Draw agents and their traffic, on ten nodes of three classes."""
    draw = random.Random(seed)
    agents = [
        deploy.Agent(
            name=f"a{k}",
            entry=f"bench:a{k}",
            image="local/agent:1",
            memory=f"{draw.randrange(2000, 8000)}M",
            cpu=f"{draw.randrange(500, 2000)}m",
        )
        for k in range(AGENTS)
    ]
    edges = [
        deploy.Edge(source=f"a{i}", target=f"a{j}", volume=v)
        for (i, j), v in traffic(draw, list(range(AGENTS))).items()
    ]
    nodes = [
        deploy.Node(name=f"n{q}", memory=m, cpu=c, rack=f"r{q // 3}", zone="z0")
        for q, (m, c) in enumerate(CLASSES[q % 3] for q in range(10))
    ]
    return deploy.Workflow(
        name="bench", agents=tuple(agents), edges=tuple(edges), nodes=tuple(nodes)
    )


def utilisation(problem, nodes) -> float:
    """By the definition above."""
    memory, cpu = np.asarray(problem.memory, float), np.asarray(problem.cpu, float)
    count = len(problem.node_memory)
    asked = np.bincount(nodes, memory, count) / np.asarray(problem.node_memory, float)
    cores = np.bincount(nodes, cpu, count) / np.asarray(problem.node_cpu, float)
    used = np.bincount(nodes, minlength=count) > 0
    return float(np.mean((asked + cores)[used] / 2))


def main():
    """Place and write `placing.json`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    about = machine()
    found = {
        name: {"utilisation": [], "communication": []}
        for name in ("full", "default scheduler's rule")
    }
    for seed in range(options.seeds):
        problem = deploy.placement_problem(workflow(seed))
        for name, nodes in (
            ("full", deploy.place(problem, prove_seconds=2, key=jr.key(seed)).nodes),
            ("default scheduler's rule", least_allocated(problem)),
        ):
            cost = placement_cost(problem, jnp.asarray(nodes))
            found[name]["utilisation"].append(utilisation(problem, np.asarray(nodes)))
            found[name]["communication"].append(float(cost.communication))
        print(seed, {n: {k: v[-1] for k, v in f.items()} for n, f in found.items()})
    record = {"machine": about, "seeds": options.seeds, "figures": found}
    (options.results / "placing.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
