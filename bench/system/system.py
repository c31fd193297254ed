"""Tables 1, 3 and 5: ours, its ablations, Ray and torch.distributed on the same matrices.

    python -m bench.system.system [--seeds 10] [--repetitions 2] [--rivals PYTHON]

The matrices of `partition_memory.py` of at most 128 x 128 entries are repeated from an
empty memory for each seed; figures are those of the last repetition. Every seed runs twice
with the same keys, and the second run, which finds every tiling compiled, counts. Memory
efficiency is the ratio of cells that hold an entry to cells reserved, over all matrices;
throughput is corrected products per second of wall time, with recall, planning, programming
and writing back. The baselines get sparse matrices as dense ones, and multiply exactly.
"static RRAM" is the fixed tiling of 256 x 256 with a smoothing parameter of 1e-12. Latency
is that of 1 MiB from another process over loopback, verified: by our nodes, and by the
baselines that the interpreter of `--rivals` has (Ray and torch; see `baselines.py`).
"""

import json
import subprocess
import sys
import tempfile
import time

import numpy as np
import scipy.sparse

from bench.memory.partition_memory import matrices, stream
from bench.shared import ROOT, add_rivals, machine, module_command, parser_of, write_json
from bench.system.baselines import TRANSFERS
from sedma_jax.comm import EVERYONE, open_node
from sedma_jax.memory import Ablation

LARGEST = 16384  # entries of a matrix
VARIANTS = {
    "full": Ablation(),
    "no long-term": Ablation(long_term=False),
    "no short-term": Ablation(short_term=False),
    "fixed lambda": Ablation(adaptive_lambda=False),
    "static partition": Ablation(adaptive_partition=False),
    "static RRAM": Ablation(adaptive_partition=False, adaptive_lambda=False),
}


def ours(given, seeds, repetitions, largest):
    """Figures of every variant, interleaved so that a busy minute spoils none alone."""
    found = {name: {"efficiency": [], "throughput": []} for name in VARIANTS}
    curves = {name: [] for name in VARIANTS}
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(seeds):
            for name, ablation in VARIANTS.items():
                for turn in ("cold", "warm"):
                    url = f"sqlite:///{folder}/{turn}-{seed}-{name}.db".replace(" ", "-")
                    records = list(stream(given, ablation, url, repetitions, largest, seed))
                found[name]["efficiency"].append(records[-1]["efficiency"])
                found[name]["throughput"].append(records[-1]["products_per_second"])
                curves[name].append([r["products_per_second"] for r in records])
            print(f"seed {seed}: {tidy(found)}", flush=True)
    return found, curves


def tidy(found):
    last = {n: (f["efficiency"][-1], f["throughput"][-1]) for n, f in found.items()}
    return ", ".join(f"{n} {100 * e:.1f} % {t:.1f}/s" for n, (e, t) in last.items())


def hold(count):
    """Serve tensors until stdin closes."""
    with open_node(allowed=frozenset({EVERYONE})) as node:
        seeds = (np.random.default_rng(k) for k in range(count))
        cids = [node.put(rng.integers(0, 255, 2**20, np.uint8)) for rng in seeds]
        print(json.dumps({"address": node.addresses[0], "cids": cids}), flush=True)
        sys.stdin.read()


def latencies(seeds):
    """Milliseconds for 1 MiB from another process: means, a list over seeds, and each.

    Each seed has tensors of its own, since a node keeps what it fetched.
    """
    process = subprocess.Popen(
        module_command("bench.system.system", "hold", TRANSFERS * (seeds + 1)),
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        held = json.loads(process.stdout.readline() if process.stdout else "")
        taken = []
        with open_node(allowed=frozenset({EVERYONE})) as node:
            node.connect(held["address"])
            for cid in held["cids"]:
                start = time.perf_counter()
                node.get(cid)
                taken.append(1e3 * (time.perf_counter() - start))
    finally:
        process.kill()
        process.wait()
    warm = np.reshape(taken, (seeds + 1, TRANSFERS))[1:]
    return warm.mean(1).tolist(), warm.ravel().tolist()


def baselines(python, given, seeds):
    """Figures of the baselines that run, and why the others do not."""
    found, skipped = {}, {}
    names = {"ray": "Ray", "torch": "torch.distributed"}
    if python is None:
        return found, dict.fromkeys(names.values(), "no --rivals PYTHON was named")
    with tempfile.TemporaryDirectory() as folder:
        file = f"{folder}/matrices.npz"
        np.savez(file, **{f"a{k}": A for k, A in enumerate(given)})
        for name, title in names.items():
            done = subprocess.run(
                [str(python), "-m", "bench.system.baselines", name, file, str(seeds)],
                cwd=ROOT,
                capture_output=True,
                text=True,
                timeout=600,
                check=False,
            )
            if done.returncode:
                skipped[title] = (done.stderr.strip().splitlines() or ["failed"])[-1][:200]
            else:
                answer = json.loads(done.stdout.splitlines()[-1])
                found[title] = answer["figures"]
                print(f"{title} {answer['version']}: {answer['figures']}", flush=True)
    return found, skipped


def main():
    """Measure and write `system.json`."""
    if sys.argv[1:2] == ["hold"]:
        return hold(int(sys.argv[2]))
    parser = parser_of(__doc__, seeds=10, results=True)
    parser.add_argument("--repetitions", type=int, default=2)
    parser.add_argument("--largest", type=int, default=LARGEST, help="entries of a matrix")
    add_rivals(parser, default=None)
    options = parser.parse_args()
    about = machine()
    chosen = [(name, A) for name, A in matrices() if np.prod(A.shape) <= options.largest]
    dense = [A.toarray() if scipy.sparse.issparse(A) else A for _, A in chosen]
    figures, skipped = baselines(options.rivals, dense, options.seeds)
    mean, every = latencies(options.seeds)
    mine, curves = ours(chosen, options.seeds, options.repetitions, options.largest)
    mine["full"]["latency"] = mean
    record = {
        "machine": about,
        "seeds": options.seeds,
        "matrices": [name for name, _ in chosen],
        "figures": mine | figures,
        "skipped": skipped,
        "latencies_ms": [round(ms, 3) for ms in every],
        "curves": curves,
    }
    write_json(options.results / "system.json", record)


if __name__ == "__main__":
    main()
