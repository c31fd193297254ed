"""Three classes of nodes on three kinds of lines: who serves, and how long it takes.

    python -m bench.system.heterogeneity [--seeds 10] [--peers-simulated 300]

As in the paper's case study, a third each of the nodes have 32 cores and 128 GB, 16 and 64,
and 8 and 16; a third of each class is reached directly, by a NAT that was traversed, and by
a relay. Peers are those of the simulator of `network.py`, whose parameters are fitted to
five real ones. Assumed, not fitted: a class serves as many tensors at once as an eighth of
its cores, and takes twice as long beyond; a NAT adds 1 ms to a round trip and a relay
40 ms. A request is right if it goes to a peer within 10 % of the best in hindsight.
Placement of 20 agents on ten such nodes is that of `placing.py`; "classes unknown" is our
placement made as if all nodes were the mean one, repaired by the default rule where an
agent does not fit.
"""

import dataclasses
import json

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from sedma_jax.kernels import placement_cost

from bench.comm.network import fit, population, simulated
from bench.deploy.placement_baselines import least_allocated
from bench.deploy.placing import utilisation, workflow
from bench.shared import RESULTS, machine, parser_of, write_json
from sedma_jax import deploy

CORES, MEMORY = np.array([32, 16, 8]), np.array([128, 64, 16])
LINES = np.array([0.0, 1.0, 40.0])  # ms that direct, NAT and relay add to a round trip
REQUESTS = 60  # per step


def peers_of(size, fitted, seed):
    """A population whose peers have classes and lines."""
    rng = np.random.default_rng(seed)
    kind, line = rng.integers(0, 3, size), rng.integers(0, 3, size)
    network = population(size, fitted, seed)
    array = lambda values: jnp.asarray(values, jnp.float32)
    where = lambda n: (n.capacity, n.memory_free, n.access)
    free = array(MEMORY[kind] * rng.uniform(0.3, 0.9, size))
    access = array(5.0 + LINES[line])
    capacity = array(CORES[kind] / 8)
    return eqx.tree_at(where, network, (capacity, free, access))


def strong_share(late, state, network) -> dict:
    """The share of the strongest class in the tensors served in the last step."""
    served = np.asarray(state.load * network.capacity)
    strong = np.asarray(network.capacity) == CORES[0] / 8
    return {"strong_share": float(served[strong].sum() / max(served.sum(), 1e-9))}


def routing(size: int, seeds: int, fitted: dict) -> dict:
    """Figures of every policy, lists over seeds."""
    network_of = lambda seed: peers_of(size, fitted, seed)
    return simulated(REQUESTS, network_of, seeds, strong_share)


def blind(problem, key):
    """Our placement as if all nodes were the mean one, repaired where that does not fit."""
    same = dataclasses.replace(
        problem,
        node_memory=jnp.full_like(problem.node_memory, problem.node_memory.mean()),
        node_cpu=jnp.full_like(problem.node_cpu, problem.node_cpu.mean()),
    )
    nodes = np.array(deploy.place(same, prove_seconds=2, key=key).nodes)
    memory, cpu = np.asarray(problem.memory, float), np.asarray(problem.cpu, float)
    room, cores = np.array(problem.node_memory, float), np.array(problem.node_cpu, float)
    for agent, node in enumerate(nodes):
        fits = (room >= memory[agent]) & (cores >= cpu[agent])
        if not fits[node]:
            left = room / np.asarray(problem.node_memory, float)
            node = nodes[agent] = int(np.where(fits, left, -np.inf).argmax())
        room[node] -= memory[agent]
        cores[node] -= cpu[agent]
    return nodes


def placing(seeds):
    """Cost of communication and utilisation of every rule, lists over seeds."""
    names = ("full", "classes unknown", "default scheduler's rule")
    found = {n: {"communication": [], "utilisation": []} for n in names}
    for seed in range(seeds):
        # Agents need three times the memory here, so that one node cannot hold them all.
        given = workflow(seed)
        agents = tuple(
            a.model_copy(update={"memory": f"{int(a.memory[:-1]) * 3}M"})
            for a in given.agents
        )
        problem = deploy.placement_problem(given.model_copy(update={"agents": agents}))
        key = jr.key(seed)
        ways = (
            deploy.place(problem, prove_seconds=2, key=key).nodes,
            blind(problem, key),
            least_allocated(problem),
        )
        for name, nodes in zip(names, ways, strict=True):
            cost = placement_cost(problem, jnp.asarray(nodes))
            found[name]["communication"].append(float(cost.communication))
            found[name]["utilisation"].append(utilisation(problem, np.asarray(nodes)))
        print(seed, {n: f["communication"][-1] for n, f in found.items()})
    return found


def main():
    """Simulate, place, and write `heterogeneity.json`."""
    parser = parser_of(__doc__, seeds=10, results=True)
    parser.add_argument("--peers-simulated", type=int, default=300)
    options = parser.parse_args()
    about = machine()
    fitted = fit(json.loads((RESULTS / "five_peers_trace.json").read_text()))
    record = {
        "machine": about,
        "seeds": options.seeds,
        "peers": options.peers_simulated,
        "figures": routing(options.peers_simulated, options.seeds, fitted),
        "placing": placing(options.seeds),
    }
    write_json(options.results / "heterogeneity.json", record)


if __name__ == "__main__":
    main()
