"""Memory efficiency of tilings on a mixed pool, with and without memory.

    python bench/partition_memory.py [--repetitions 4] [--program 65536] [--plot FILE]

A stream of 52 matrices (66 to 4096; the files in data/ and generated dense, tall, wide,
banded and sparse ones) is repeated. All are planned; those of at most `--program` entries
are programmed too, and only these teach memory what plans cost. Memory efficiency is cells
that hold an entry over cells reserved, over all matrices (sum), and the mean of matrices.
Seconds are of planning, of all matrices of a repetition. Pressure is fixed at one half.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import jax
import numpy as np
import scipy.sparse

import sedma_jax as sj
from sedma_jax._files import load_matrix
from sedma_jax.memory import Ablation, ShortTerm
from sedma_jax.memory._decision import decide, learn

DATA = Path(__file__).parents[1] / "data"
FILES = ("bcsstk02.mtx", "west0067.mtx", "fs_183_1.mtx")
FAST, FINE = sj.devices.TAOX_HFOX, sj.devices.EPIRAM
POOL = sj.Pool(
    [
        sj.ArrayKind(256, 256, 64, FINE),
        sj.ArrayKind(128, 128, 64, FAST),
        sj.ArrayKind(32, 32, 256, FAST),
        sj.ArrayKind(8, 8, 1024, FAST),
    ]
)
VARIANTS = {
    "full": Ablation(),
    "no long-term": Ablation(long_term=False),
    "no short-term": Ablation(short_term=False),
    "fixed partition": Ablation(adaptive_partition=False),
}


def matrices():
    """The stream: name and matrix."""
    rng = np.random.default_rng(0)
    dense = lambda m, n: rng.random((m, n), dtype=np.float32)
    for file in FILES:
        yield file, load_matrix(DATA / file).astype(np.float32)
    for n in (66, 70, 90, 100, 130, 150, 183, 200, 250, 300, 500, 700, 1000, 1500, 4096):
        yield f"dense {n}", dense(n, n)
    for long, short in (
        (150, 66),
        (300, 70),
        (500, 100),
        (700, 90),
        (1000, 200),
        (4096, 130),
    ):
        yield f"tall {long}", dense(long, short)
        yield f"wide {long}", dense(short, long)
    for n in (66, 100, 150, 200, 250, 400, 600, 1000, 1200, 1500, 2000):
        offsets = list(range(-2, 3))
        bands = [rng.random(n) for _ in offsets]
        band = scipy.sparse.dia_array((bands, offsets), shape=(n, n))
        yield f"banded {n}", band.tocsr().astype(np.float32)
    for n in (66, 100, 150, 200, 250, 300, 400, 500, 700, 900, 1000):
        random = scipy.sparse.random_array((n, n), density=2 / n, rng=rng)
        yield f"sparse {n}", random.tocsr().astype(np.float32)


def stream(given, ablation, url, repetitions, largest, seed=0):
    """A record after each repetition; the first of all compiles, which takes seconds."""
    memory, short_term = sj.memory.open(url), ShortTerm()
    for repetition in range(repetitions):
        held, reserved, each, rewards = 0.0, 0.0, [], []
        seconds = searches = 0
        for number, (_, A) in enumerate(given):
            key = jax.random.fold_in(jax.random.key(seed), 1000 * repetition + number)
            start = time.perf_counter()
            made = decide(A, POOL, memory, short_term, ablation, 0.5, key=key)
            seconds += time.perf_counter() - start
            searches += made.searched
            plan = made.plan
            each.append(plan.memory_efficiency)
            held += plan.memory_efficiency * plan.cells_reserved
            reserved += plan.cells_reserved
            if np.prod(A.shape) <= largest:
                _, stats = sj.program_pool(A, plan, key=key)
                outcome, short_term = learn(made, stats, None, memory, short_term, ablation)
                rewards.append(outcome.reward)
            elif ablation.long_term:
                for strategy, value in made.law.items():
                    choice = {"strategy": strategy, "regime": made.regime}
                    memory.record("partition-law", made.name, choice, value)
        yield (
            {
                "repetition": repetition + 1,
                "efficiency": held / reserved,
                "mean_efficiency": float(np.mean(each)),
                "reward": float(np.mean(rewards)),
                "searches": searches,
                "planning_seconds": seconds,
            }
        )
    memory.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=4)
    parser.add_argument("--program", type=int, default=65536, metavar="ENTRIES")
    parser.add_argument("--plot", metavar="FILE", help="picture (needs the viz extra)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    given = list(matrices())
    say = (lambda *_, **__: None) if options.json else print
    say(f"{len(given)} matrices")
    say(f"{'variant':17}{'rep':>4}{'sum %':>8}{'mean %':>8}{'reward':>8}", end="")
    say(f"{'searches':>10}{'plans/s':>9}")
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, ablation) in enumerate(VARIANTS.items()):
            url = f"sqlite:///{folder}/{number}.db"
            results[name] = []
            for r in stream(given, ablation, url, options.repetitions, options.program):
                results[name].append(r)
                say(
                    f"{name:17}{r['repetition']:4}{100 * r['efficiency']:8.1f}"
                    f"{100 * r['mean_efficiency']:8.1f}{r['reward']:8.3f}"
                    f"{r['searches']:10}{len(given) / r['planning_seconds']:9.1f}",
                    flush=True,
                )
    if options.json:
        print(json.dumps({"matrices": len(given), "variants": results}))
    if options.plot:
        import matplotlib.pyplot as plt

        figure, axes = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
        for name, records in results.items():
            at = [r["repetition"] for r in records]
            axes[0].plot(at, [100 * r["efficiency"] for r in records], label=name)
            rate = [len(given) / r["planning_seconds"] for r in records]
            axes[1].plot(at, rate, label=name)
        axes[0].set(xlabel="repetition", ylabel="memory efficiency, %")
        axes[1].set(xlabel="repetition", ylabel="matrices planned a second")
        axes[0].legend()
        figure.savefig(options.plot)


if __name__ == "__main__":
    main()
