"""What a node finds in its own cache: by Eq. 10, by recency, by lot, over a day.

    python bench/caching.py [--seeds 10] [--hours 24] [--results DIR]

A request every ten seconds for one of 300 tensors, popular by Zipf's law with exponent
0.9; every eight hours a third of them, drawn anew, swap their popularity, as when training
gives way to inference and that to aggregation. Sizes are log-normal, of mean 1 MB and
spread 1.5; the cache has room for a tenth of all. "full" is the store of this package, set
forward in time; "LRU" evicts what was asked for longest ago, "lot" whatever. All get the
same requests. Bandwidth is what was not found, in GB an hour at a request a second.
"""

import argparse
import json
import time
from pathlib import Path

# The store keeps time by the clock of the machine: let an hour be over at once.
_clock, AHEAD = time.monotonic, [0.0]
time.monotonic = lambda: _clock() + AHEAD[0]

import numpy as np  # noqa: E402
from machine import machine  # noqa: E402

from sedma_jax.comm._tensors.manifest import describe  # noqa: E402
from sedma_jax.comm._tensors.store import TensorStore  # noqa: E402

TENSORS, EVERY, PHASE, SHARE = 300, 10.0, 8 * 3600.0, 0.1
SCALE = 1000  # bytes of the mean tensor, which stand for 1 MB: only ratios matter


def requests(hours, seed):
    """Sizes in bytes, and the tensor that each request is for."""
    draw = np.random.default_rng(seed)
    sizes = draw.lognormal(-(1.5**2) / 2, 1.5, TENSORS) * SCALE
    sizes = np.maximum(sizes.astype(int), 8)
    rank, asked = draw.permutation(TENSORS), []
    for step in range(int(hours * 3600 / EVERY)):
        if step and step * EVERY % PHASE == 0:
            some = draw.choice(TENSORS, TENSORS // 3, replace=False)
            rank[some] = rank[draw.permutation(some)]
        if step * EVERY % PHASE == 0:
            popular = (1.0 + rank) ** -0.9
            popular /= popular.sum()
            count = int(min(PHASE, hours * 3600 - step * EVERY) / EVERY)
            asked += draw.choice(TENSORS, count, p=popular).tolist()
    return sizes, asked


def of_store(sizes, asked, capacity, _):
    """Which requests the store of this package answers."""
    store, start = TensorStore(capacity), AHEAD[0]
    draw = np.random.default_rng(0)
    arrays = [draw.integers(0, 255, size, np.uint8) for size in sizes]
    manifests = [describe(array) for array in arrays]
    hits = []
    for step, k in enumerate(asked):
        AHEAD[0] = start + step * EVERY
        hits.append(store.get(manifests[k].cid) is not None)
        if not hits[-1]:
            store.add(manifests[k], arrays[k], pinned=False)
    return hits


def of_rule(first_to_go):
    """The same with a rule that says which of the tensors in the cache goes first."""

    def run(sizes, asked, capacity, seed):
        draw, held, hits = np.random.default_rng(seed), {}, []
        for k in asked:
            hits.append(k in held)
            held.pop(k, None)
            if sizes[k] <= capacity:
                held[k] = True  # last in order: asked for last
            while sum(sizes[j] for j in held) > capacity:
                del held[first_to_go(list(held), draw)]
        return hits

    return run


RULES = {
    "full": of_store,
    "LRU": of_rule(lambda held, _: held[0]),
    "lot": of_rule(lambda held, draw: held[draw.integers(len(held))]),
}


def main():
    """Ask, and write `caching.json`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--hours", type=float, default=24)
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    figures = {name: {"hits": [], "byte_hits": [], "gb_per_hour": []} for name in RULES}
    about = machine()
    for seed in range(options.seeds):
        sizes, asked = requests(options.hours, seed)
        each = sizes[asked]
        for name, run in RULES.items():
            hits = np.array(run(sizes, asked, int(SHARE * sizes.sum()), seed))
            missed = float((each * ~hits).mean()) / SCALE * 1e6
            figures[name]["hits"].append(float(hits.mean()))
            figures[name]["byte_hits"].append(float((each * hits).sum() / each.sum()))
            figures[name]["gb_per_hour"].append(3600 * missed / 1e9)
        print(seed, {n: round(f["hits"][-1], 3) for n, f in figures.items()}, flush=True)
    record = {"machine": about, "seeds": options.seeds, "figures": figures}
    (options.results / "caching.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
