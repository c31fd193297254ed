"""Placement of 20 agents on three classes of nodes: ours and the default scheduler's rule.

    python -m bench.deploy.placing [--seeds 10] [--results DIR]

Nodes have 32 cores and 128 GB, 16 and 64, or 8 and 16, as in the paper's case study, with
three or four of each; a seed draws agents of 2 to 8 GB and 0.5 to 2 cores, their traffic
and volumes. Resource utilisation is the mean, over used nodes, of the mean of memory and
CPU used over allocatable. The cost is that of communication in Eq. 11-12.
"""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
from sedma_jax.kernels import placement_cost

from bench.deploy.drawn import NODES, draw_workflow
from bench.deploy.placement_baselines import least_allocated
from bench.shared import machine, parser_of, write_json
from sedma_jax import deploy

CLASSES = (("128G", "32"), ("64G", "16"), ("16G", "8"))


def workflow(seed: int) -> deploy.Workflow:
    """Draw agents and their traffic, on ten nodes of three classes."""
    nodes = tuple(
        deploy.ClusterNode(name=f"n{q}", memory=m, cpu=c, rack=f"r{q // 3}", zone="z0")
        for q, (m, c) in enumerate(CLASSES[q % 3] for q in range(NODES))
    )
    return draw_workflow(seed, memory=(2000, 8000), cpu=(500, 2000), nodes=nodes)


def utilisation(problem, nodes) -> float:
    """Mean utilisation of memory and CPU over used nodes."""
    memory, cpu = np.asarray(problem.memory, float), np.asarray(problem.cpu, float)
    count = len(problem.node_memory)
    asked = np.bincount(nodes, memory, count) / np.asarray(problem.node_memory, float)
    cores = np.bincount(nodes, cpu, count) / np.asarray(problem.node_cpu, float)
    used = np.bincount(nodes, minlength=count) > 0
    return float(np.mean((asked + cores)[used] / 2))


def main():
    """Place and write `placing.json`."""
    parser = parser_of(__doc__, seeds=10, results=True)
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
    write_json(options.results / "placing.json", record)


if __name__ == "__main__":
    main()
