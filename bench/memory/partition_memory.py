"""Memory efficiency of tilings on a mixed pool, with and without memory.

    python -m bench.memory.partition_memory [--repetitions 4] [--program 16384]

A stream of 52 matrices (66 to 4096; the files in data/ and generated dense, tall, wide,
banded and sparse ones) is repeated. All are planned; those of at most `--program` entries
are also programmed, multiplied and corrected, and only these teach memory what plans cost.
Memory efficiency is the ratio of cells that hold an entry to cells reserved, given over all
matrices (sum) and as a mean over matrices. Throughput is corrected products per second of
wall time, which covers recall, planning, programming, correction and writing back, over the
matrices that are programmed. For the others it is plans per second. Every variant runs
twice with the same keys, from an empty memory each time: choices do not depend on the
clock, so the second run, which gives the figures, finds every shape of a plan compiled.
Pressure is fixed at one half.
"""

import tempfile
import time

import jax
import matplotlib.pyplot as plt
import numpy as np
import scipy.sparse

import sedma_jax as sj
from bench.shared import parser_of, read_matrix, write_json
from sedma_jax.memory import Ablation, Record, ShortTerm, adaptive_matvec

# Private: users plan only together with a product.
from sedma_jax.memory._decision import decide

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
    "no short-term": Ablation(short_term=False),
    "fixed lambda": Ablation(adaptive_lambda=False),
    "static partition": Ablation(adaptive_partition=False),
    "no long-term": Ablation(long_term=False),
}


def matrices():
    """The stream: name and matrix."""
    rng = np.random.default_rng(0)
    dense = lambda m, n: rng.random((m, n), dtype=np.float32)
    for file in FILES:
        yield file, read_matrix(file).astype(np.float32)
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


def product(A, key, memory, short_term, ablation):
    """One corrected product, and its wall time."""
    x = jax.random.uniform(key, A.shape[1:], "float32")
    start = time.perf_counter()
    _, info, short_term = adaptive_matvec(
        A,
        x,
        POOL,
        memory=memory,
        short_term=short_term,
        ablation=ablation,
        pressure=0.5,
        key=key,
    )
    return info, short_term, time.perf_counter() - start


def planned(A, memory, short_term, ablation, key):
    """A plan alone, for a matrix that is too large to be programmed here."""
    made = decide(A, POOL, memory, short_term, ablation, 0.5, key=key)
    if ablation.long_term:
        choices = {n: {"strategy": n, "regime": made.regime} for n in made.expected}
        memory.record_all(
            Record("partition-law", made.name, choices[name], v)
            for name, v in made.expected.items()
        )
    return made


def rate(count, seconds):
    """`count` per second, or None if nothing was done."""
    return count / seconds if count else None


def cell(value, form):
    """A number in its column, or a dash for what was not measured."""
    return f"{value:{form}}" if value is not None else f"{'-':>{form.split('.')[0]}}"


def stream(given, ablation, url, repetitions, largest, seed=0):
    """Yield a record after each repetition."""
    memory, short_term = sj.memory.open(url), ShortTerm()
    for repetition in range(repetitions):
        held = reserved = seconds = 0.0
        each, rewards, searches, planning = [], [], 0, 0.0
        for number, (_, A) in enumerate(given):
            key = jax.random.fold_in(jax.random.key(seed), 1000 * repetition + number)
            if np.prod(A.shape) <= largest:
                made, short_term, took = product(A, key, memory, short_term, ablation)
                rewards.append(made.reward)
                seconds += took
            else:
                start = time.perf_counter()
                made = planned(A, memory, short_term, ablation, key)
                planning += time.perf_counter() - start
            plan = made.plan
            searches += made.searched
            each.append(plan.memory_efficiency)
            held += plan.memory_efficiency * plan.cells_reserved
            reserved += plan.cells_reserved
        yield {
            "repetition": repetition + 1,
            "efficiency": held / reserved,
            "mean_efficiency": float(np.mean(each)),
            "reward": float(np.mean(rewards)) if rewards else None,
            "searches": searches,
            "products": len(rewards),
            "products_per_second": rate(len(rewards), seconds),
            "plans_per_second": rate(len(given) - len(rewards), planning),
        }
    memory.close()


def draw(results, path):
    """The learning curves: efficiency and throughput over repetitions."""
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.5), layout="constrained")
    for name, records in results.items():
        at = [r["repetition"] for r in records]
        axes[0].plot(at, [100 * r["efficiency"] for r in records], "o-", label=name)
        for axis, of in ((axes[1], "products_per_second"), (axes[2], "plans_per_second")):
            axis.plot(at, np.asarray([r[of] for r in records], float), "o-", label=name)
    axes[0].set(xlabel="repetition", ylabel="memory efficiency, %")
    axes[1].set(xlabel="repetition", ylabel="corrected products per second")
    axes[2].set(xlabel="repetition", ylabel="plans of larger matrices per second")
    for axis in axes:
        axis.set_xticks(at)
    axes[0].legend()
    figure.savefig(path)


def keep(results, count, options):
    """Write the figures and the plot as far as they go."""
    folder = options.results
    record = {"matrices": count, "largest": options.program, "variants": results}
    write_json(folder / "partition_memory.json", record)
    draw(results, folder / "partition_memory.png")
    plt.close("all")


def main():
    parser = parser_of(__doc__, results=True)
    parser.add_argument("--repetitions", type=int, default=4)
    parser.add_argument("--program", type=int, default=16384, metavar="ENTRIES")
    options = parser.parse_args()
    given = list(matrices())
    print(f"{len(given)} matrices")
    print(f"{'variant':17}{'rep':>4}{'sum %':>8}{'mean %':>8}{'reward':>8}", end="")
    print(f"{'searches':>10}{'products/s':>12}{'plans/s':>10}")
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, ablation) in enumerate(VARIANTS.items()):
            how = (options.repetitions, options.program)
            for _ in stream(given, ablation, f"sqlite:///{folder}/{number}-first.db", *how):
                pass
            results[name] = []
            for r in stream(given, ablation, f"sqlite:///{folder}/{number}.db", *how):
                results[name].append(r)
                print(
                    f"{name:17}{r['repetition']:4}{100 * r['efficiency']:8.1f}"
                    f"{100 * r['mean_efficiency']:8.1f}{cell(r['reward'], '8.3f')}"
                    f"{r['searches']:10}{cell(r['products_per_second'], '12.2f')}"
                    f"{cell(r['plans_per_second'], '10.2f')}",
                    flush=True,
                )
                keep(results, len(given), options)


if __name__ == "__main__":
    main()
