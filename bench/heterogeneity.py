"""Three classes of nodes on three kinds of lines: who serves, and how long it takes.

    python bench/heterogeneity.py [--seeds 10] [--peers-simulated 300] [--results DIR]

As in the paper's case study: a third each of nodes with 32 cores and 128 GB, 16 and 64, 8
and 16; of each class a third reached directly, by a NAT that was traversed, by a relay.
Peers are those of the simulator of `network.py`, whose parameters are fitted to five real
ones. Assumed, not fitted: a class serves as many tensors at once as it has cores over 8,
and takes twice as long beyond; a NAT costs 1 ms a round trip and a relay 40 ms. A request
is right when it goes to a peer within 10 % of the best in hindsight. Placement of 20 agents
on ten such nodes is that of `placing.py`; "classes unknown" is our placement made as if all
nodes were the mean one, then repaired by the default rule where an agent does not fit.
"""

import argparse
import dataclasses
import json
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from machine import machine
from network import FIRST, HOLDERS, RANKS, STEPS, figures, fit, population
from placement_baselines import least_allocated
from placing import utilisation, workflow
from sedma_jax.kernels import (
    initial_network_state,
    placement_cost,
    rank_by_score,
    simulate_network,
)

from sedma_jax import deploy
from sedma_jax.comm import WeightLearner

RESULTS = Path(__file__).parent / "results"
CORES, MEMORY = np.array([32, 16, 8]), np.array([128, 64, 16])
LINES = np.array([0.0, 1.0, 40.0])  # ms that direct, NAT and relay add to a round trip
REQUESTS = 60  # in a step


def peers_of(size, fitted, seed):
    """A population whose peers have classes and lines; the class of each."""
    rng = np.random.default_rng(seed)
    kind, line = rng.integers(0, 3, size), rng.integers(0, 3, size)
    network = population(size, fitted, seed)
    array = lambda values: jnp.asarray(values, jnp.float32)
    where = lambda n: (n.capacity, n.memory_free, n.access)
    free = array(MEMORY[kind] * rng.uniform(0.3, 0.9, size))
    access = array(5.0 + LINES[line])
    capacity = array(CORES[kind] / 8)
    return eqx.tree_at(where, network, (capacity, free, access))


def routing(size, seeds, fitted):
    """Figures of every policy, a list over seeds."""
    found = {}
    for name, rank in {**RANKS, "static weights": rank_by_score}.items():
        optimiser = WeightLearner()._optimiser if name == "full" else None

        @eqx.filter_jit
        def run(network, key, rank=rank, optimiser=optimiser):
            return simulate_network(
                network,
                initial_network_state(network, optimiser),
                rank,
                steps=STEPS,
                requests=REQUESTS,
                holders=HOLDERS,
                optimiser=optimiser,
                learning_steps=25,
                key=key,
            )

        rows = []
        for seed in range(seeds):
            network = peers_of(size, fitted, seed)
            state, done = run(network, jr.key(seed))
            late = jax.tree.map(lambda x: np.asarray(x[FIRST:]), done)
            row = figures(late.seconds, late.arrived, late.right, late.attempts)
            # What peers of a class serve in the last step, by their number of cores.
            served = np.asarray(state.load * network.capacity)
            strong = np.asarray(network.capacity) == CORES[0] / 8
            row["strong_share"] = float(served[strong].sum() / max(served.sum(), 1e-9))
            rows.append(row)
        found[name] = {of: [row[of] for row in rows] for of in rows[0]}
        print(name, {of: round(float(np.mean(v)), 3) for of, v in found[name].items()})
    return found


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
    """Cost of communication and utilisation of every rule, a list over seeds."""
    names = ("full", "classes unknown", "default scheduler's rule")
    found = {n: {"communication": [], "utilisation": []} for n in names}
    for seed in range(seeds):
        # Three times the agents' memory, so that they do not all fit on one node.
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
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--peers-simulated", type=int, default=300)
    parser.add_argument("--results", type=Path, default=RESULTS)
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
    text = json.dumps(record, indent=1) + "\n"
    (options.results / "heterogeneity.json").write_text(text)


if __name__ == "__main__":
    main()
