"""What a node finds in its own cache over a day: by Eq. 10, by recency, by lot.

    python -m bench.comm.caching [--seeds 10] [--hours 24] [--results DIR]

Every ten seconds one of 300 tensors is requested, by a Zipf distribution with exponent 0.9;
every eight hours a third of the tensors, drawn anew, swap their popularity, as when
training gives way to inference and that to aggregation. Sizes are log-normal, of mean 1 MB
and spread 1.5; the cache has room for a tenth of all. "full" is the store of this package,
set forward in time; "LRU" evicts the tensor requested longest ago, "lot" any. All get the
same requests. Bandwidth is what was not found, in GB per hour at one request per second.
"""

import time

from bench.shared import machine, parser_of, write_json

# The store reads the machine's clock, which is set forward, so that hours pass at once.
_clock, AHEAD = time.monotonic, [0.0]
time.monotonic = lambda: _clock() + AHEAD[0]

import numpy as np  # noqa: E402

# Private: the store is measured alone, without the node around it.
from sedma_jax.comm._tensors.manifest import describe  # noqa: E402
from sedma_jax.comm._tensors.store import TensorStore  # noqa: E402

TENSORS, EVERY, PHASE, SHARE = 300, 10.0, 8 * 3600.0, 0.1
SCALE = 1000  # bytes of the mean tensor, which stand for 1 MB, since only ratios matter


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
    """The same for a rule that says which of the tensors in the cache goes first."""

    def run(sizes, asked, capacity, seed):
        draw, held, hits = np.random.default_rng(seed), {}, []
        for k in asked:
            hits.append(k in held)
            held.pop(k, None)
            if sizes[k] <= capacity:
                held[k] = True  # at the end, as the last one requested
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
    """Send all requests, and write `caching.json`."""
    parser = parser_of(__doc__, seeds=10, results=True)
    parser.add_argument("--hours", type=float, default=24)
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
    write_json(options.results / "caching.json", record)


if __name__ == "__main__":
    main()
