"""Weights of peers that follow what decides: latency first, free memory later.

    python -m bench.comm.peer_weights [--requests 300] [--seeds 10] [--out DIR]

Each request draws 10 of 50 peers as holders. The four best by score are asked for 16 parts
each, as `fetch_tensor` does, and the learner is told how many came in time. At first
requests are small: a part takes a round trip, and is late beyond 30 ms. Later they are
bulk: a part of 4 MiB comes from the peer's memory at 1 GB/s or, for the share that does not
fit its free memory, from its disk at 0.1 GB/s, and is late beyond 22 ms. Times scatter by a
log-normal factor of 5 %. None of this is in the learner's model.

A choice is right if the best by score is within 10 % of the quickest holder (SPEC 6). The
default is compared with Adam without the pull towards 0, Eq. 8 with a static rate of 0.01,
weights that are never learnt, a lot, and, as an upper bound, the best fixed weights of each
phase found by search.
Writes `peer_weights.json` and `.png`. Nothing here depends on the speed of the machine.
"""

import itertools
import json
from pathlib import Path

import jax.numpy as jnp
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import optax
from sedma_jax.kernels import peer_terms

from bench.shared import RESULTS, machine, parser_of, write_json
from sedma_jax.comm import WeightLearner

PEERS, HOLDERS, ASKED, PARTS = 50, 10, 4, 16
NEED_GB = 64.0  # memory of a peer that bulk requests need
DURING = 50  # requests right after the shift
DEFAULT = "learnt"
SMOOTHED = 25  # requests per point of the plot


def peers_of(rng):
    """Idle fraction, RTT in ms and free GB of each peer, drawn independently."""
    rtt = np.exp(rng.normal(np.log(30), 1.0, PEERS))
    return rng.uniform(0.2, 1, PEERS), rtt, rng.uniform(0.5, 64, PEERS)


def part_times(peers, bulk, rng):
    """Milliseconds for each part from each peer, and the limit."""
    _, rtt, memory = peers
    scatter = np.exp(rng.normal(0, 0.05, (PARTS, len(rtt))))
    if not bulk:
        return rtt * scatter, 30.0
    fits = np.minimum(memory / NEED_GB, 1)
    return (4.2 * fits + 42 * (1 - fits)) * scatter, 22.0


def requests(count, seed):
    """The same requests for every policy: holders, terms, times, limit."""
    rng = np.random.default_rng(seed)
    peers = peers_of(rng)
    terms = np.asarray(peer_terms(*(jnp.asarray(p, jnp.float32) for p in peers)))
    for turn in range(2 * count):
        holders = rng.choice(PEERS, HOLDERS, replace=False)
        times, limit = part_times([p[holders] for p in peers], turn >= count, rng)
        yield terms[holders], times, limit


def right(scores, times):
    """Whether the best by score is within 10 % of the quickest."""
    whole = times.sum(0)
    return whole[np.argmax(scores)] <= 1.1 * whole.min()


def learnt(count, seed, optimiser):
    """Which choices of a learner were right, and its weights after each."""
    learner, found, weights = WeightLearner(optimiser), [], []
    for terms, times, limit in requests(count, seed):
        scores = terms @ np.asarray(learner.model.weights)
        found.append(right(scores, times))
        for asked in np.argsort(-scores)[:ASKED]:
            learner.record(terms[asked], (times[:, asked] <= limit).sum(), PARTS)
        learner.learn()
        weights.append(np.asarray(learner.model.weights).tolist())
    return found, weights


def fixed(count, seed, weights):
    """Which choices were right with fixed weights, or by lot without."""
    rng = np.random.default_rng(seed + 1000)
    return [
        right(rng.random(HOLDERS) if weights is None else terms @ weights, times)
        for terms, times, _ in requests(count, seed)
    ]


def best_fixed(count, seeds):
    """The weights that were right most often in each phase, over a grid of 0 to 1."""
    grid = [np.array(w) for w in itertools.product((0, 0.03, 0.1, 0.3, 1.0), repeat=3)]
    hits = np.array([np.mean([fixed(count, s, w) for s in seeds], 0) for w in grid])
    before, after = hits[:, :count].mean(1), hits[:, count:].mean(1)
    return hits[before.argmax()][:count], hits[after.argmax()][count:]


def summary(found, count):
    """Accuracy in the last half before the shift, right after it, and at the end."""
    parts = {
        "before": found[:, count // 2 : count],
        "during": found[:, count : count + DURING],
        "after": found[:, count + count // 2 :],
    }
    each = {name: part.mean(1) for name, part in parts.items()}
    rounded = {
        name: {
            "mean": round(float(x.mean()), 3),
            "std": round(float(x.std()), 3),
            "each": x.round(4).tolist(),
        }
        for name, x in each.items()
    }
    return rounded | {"relearnt": [relearnt(run[count:]) for run in found]}


def relearnt(after):
    """Requests after the shift until nine in ten of the next 25 are right; all if never."""
    window = np.ones(SMOOTHED) / SMOOTHED
    good = np.convolve(after, window, "valid") >= 0.9
    return int(good.argmax()) if good.any() else len(after)


def main():
    """Compare all policies on the same requests."""
    parser = parser_of(__doc__, seeds=10)
    parser.add_argument("--requests", type=int, default=300, help="per phase")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    count, seeds = options.requests, range(options.seeds)
    curves, trails = {}, {}
    for name, optimiser in {
        DEFAULT: None,
        "without the pull (Adam 0.01)": optax.adam(0.01),
        "static rate (Eq. 8, 0.01)": optax.sgd(0.01),
    }.items():
        runs = [learnt(count, seed, optimiser) for seed in seeds]
        curves[name] = np.array([found for found, _ in runs], float)
        trails[name] = np.mean([weights for _, weights in runs], 0)
    curves["never learnt (1, 1, 1)"] = np.array(
        [fixed(count, s, np.ones(3)) for s in seeds], float
    )
    curves["random"] = np.array([fixed(count, s, None) for s in seeds], float)
    results = {name: summary(found, count) for name, found in curves.items()}
    before, after = best_fixed(count, seeds)
    results["best fixed weights of each phase"] = {
        "before": {"mean": round(float(before[count // 2 :].mean()), 3)},
        "after": {"mean": round(float(after[count // 2 :].mean()), 3)},
    }
    for name, trail in trails.items():
        for phase, at in (("before", count - 1), ("after", 2 * count - 1)):
            results[name][phase]["weights"] = trail[at].round(3).tolist()
    record = {
        "machine": machine(),
        "requests": count,
        "seeds": len(seeds),
        "during": DURING,
        "accuracy": results,
    }
    write_json(options.out / "peer_weights.json", record)
    print(json.dumps(record, indent=1))
    plot(curves, trails, count, options.out / "peer_weights.png")


def plot(curves, trails, count, path):
    """Accuracy over the requests, and the weights of the default learner."""
    figure, (top, bottom) = plt.subplots(2, 1, figsize=(8, 7), sharex=True)
    window = np.ones(SMOOTHED) / SMOOTHED
    for name, found in curves.items():
        smooth = np.convolve(found.mean(0), window, "valid")
        top.plot(np.arange(len(smooth)) + SMOOTHED, smooth, label=name)
    top.set_ylabel(f"right choices, mean of {SMOOTHED}")
    for i, term in enumerate(("availability", "10 ms / latency", "memory / 8 GB")):
        bottom.plot(trails[DEFAULT][:, i], label=term)
    bottom.set_ylabel("weight, learnt")
    bottom.set_xlabel("request")
    for axes in (top, bottom):
        axes.axvline(count, color="grey", linestyle=":")
        axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=100, metadata={"Software": None})


if __name__ == "__main__":
    main()
