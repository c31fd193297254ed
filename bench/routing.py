"""Table 6: peers by score, by distance, by lot in simulated networks, over seeds.

    python bench/routing.py [--seeds 10] [--peers-simulated 1000] [--results DIR]

The simulator and its fit to five real peers are those of `network.py`, which also says how
far its predictions are off. Each seed draws a network and its requests, which every policy
gets alike. "no short-term" of the paper has no counterpart here; "static weights" never
learn. Bandwidth is of one delivered tensor of 1 MiB a second, failed attempts included.
"""

import argparse
import json
from pathlib import Path

import equinox as eqx
import jax
import jax.random as jr
import numpy as np
from machine import machine
from network import FIRST, HOLDERS, RANKS, SHARE, STEPS, TENSOR_GB, figures, fit, population
from sedma_jax.kernels import initial_network_state, rank_by_score, simulate_network

from sedma_jax.comm import WeightLearner

RESULTS = Path(__file__).parent / "results"


def main():
    """Simulate and write `routing.json`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--peers-simulated", type=int, default=1000)
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    about = machine()
    fitted = fit(json.loads((RESULTS / "five_peers_trace.json").read_text()))
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
                requests=max(1, options.peers_simulated // SHARE),
                holders=HOLDERS,
                optimiser=optimiser,
                learning_steps=25,
                key=key,
            )[1]

        rows = []
        for seed in range(options.seeds):
            done = run(population(options.peers_simulated, fitted, seed), jr.key(seed))
            late = jax.tree.map(lambda x: np.asarray(x[FIRST:]), done)
            row = figures(late.seconds, late.arrived, late.right, late.attempts)
            sent = late.sent.sum() / late.arrived.sum()
            rows.append(row | {"gb_per_hour": float(3600 * TENSOR_GB * sent)})
        found[name] = {of: [row[of] for row in rows] for of in rows[0]}
        print(name, {of: round(float(np.mean(v)), 3) for of, v in found[name].items()})
    record = {
        "machine": about,
        "seeds": options.seeds,
        "peers": options.peers_simulated,
        "figures": found,
    }
    (options.results / "routing.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
