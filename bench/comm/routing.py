"""Table 6: peers by score, by distance, by lot in simulated networks, over seeds.

    python -m bench.comm.routing [--seeds 10] [--peers-simulated 1000] [--results DIR]

The simulator and its fit to five real peers are those of `network.py`, which also says how
far its predictions are off. Each seed draws a network and its requests, the same for every
policy. "no short-term" of the paper has no counterpart here; "static weights" are never
learnt. Bandwidth is that of one delivered tensor of 1 MiB per second, failed attempts
included.
"""

import json

from bench.comm.network import SHARE, bandwidth, fit, population, simulated
from bench.shared import RESULTS, machine, parser_of, write_json


def main():
    """Simulate and write `routing.json`."""
    parser = parser_of(__doc__, seeds=10, results=True)
    parser.add_argument("--peers-simulated", type=int, default=1000)
    options = parser.parse_args()
    about, size = machine(), options.peers_simulated
    fitted = fit(json.loads((RESULTS / "five_peers_trace.json").read_text()))
    figures = simulated(
        max(1, size // SHARE),
        lambda seed: population(size, fitted, seed),
        options.seeds,
        lambda late, state, network: bandwidth(late),
    )
    record = {
        "machine": about,
        "seeds": options.seeds,
        "peers": size,
        "figures": figures,
    }
    write_json(options.results / "routing.json", record)


if __name__ == "__main__":
    main()
