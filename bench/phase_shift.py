"""Training, inference, aggregation, and again: how long until a phase is served well.

    python bench/phase_shift.py [--seeds 10] [--cycles 3] [--results DIR]

A phase is a stream of products with matrices of one class: training a dense square one,
inference a wide and small one, aggregation a tall one, 6 products each, on one pool whose
data sheet does not say that pulses of its fast arrays last 100,000 times as long. A phase
runs in a process of its own, as jobs do, whose short-term memory begins anew ("restart"),
or all in one that goes on ("one process"). A
decision is good when it costs at most a tenth more than the cheapest plan for the arrays
as they are. Adaptation to a phase ends with the first good decision after which all are
good but one in four; its latency is what its decisions took of wall time until
then (classify, recall, plan, learn) and, apart, the seconds by which its plans were slower
on the arrays than the best one. The first cycle is new to everybody; the later ones recur,
and are what the paper's -67 % is compared with. Every seed runs twice with the same keys,
and the second run, which finds everything compiled, counts.
"""

import argparse
import json
import tempfile
from pathlib import Path

import jax
import numpy as np
from device_change import FAST, WORN, pool, true_cost
from machine import machine

import sedma_jax as sj
from sedma_jax.memory import Ablation, ShortTerm, adaptive_matvec

PRODUCTS = 6  # in a phase
SHAPES = {"training": (64, 64), "inference": (16, 64), "aggregation": (128, 32)}
VARIANTS = {
    "full": Ablation(),
    "no long-term": Ablation(long_term=False),
    "no short-term": Ablation(short_term=False),
    "neither": Ablation(long_term=False, short_term=False),
}
HOW = ("restart", "one process")
DECIDING = ("classify", "recall", "plan", "learn")


def stream(ablation, restart, cycles, seed, url):
    """Of every phase in turn its decisions: cost over best, seconds lost, seconds taken."""
    rng = np.random.default_rng(seed)
    given = {n: rng.random(s, dtype=np.float32) for n, s in SHAPES.items()}
    memory, short_term, actual = sj.memory.open(url), ShortTerm(), pool(WORN)
    best, step = {}, 0
    for _ in range(cycles):
        for name, A in given.items():
            rows, short_term = [], ShortTerm() if restart else short_term
            for _ in range(PRODUCTS):
                _, info, short_term = adaptive_matvec(
                    A,
                    np.ones(A.shape[1], np.float32),
                    pool(FAST),
                    memory=memory,
                    short_term=short_term,
                    ablation=ablation,
                    pressure=0.5,
                    actual=actual,
                    key=jax.random.fold_in(jax.random.key(seed), step),
                )
                step += 1
                if name not in best:
                    plan = sj.plan_partitions(A.shape, actual, lam_mem=info.lam_mem)
                    best[name] = true_cost(plan, actual, info.lam_mem)
                cost = true_cost(info.plan, actual, info.lam_mem)
                taken = sum(info.seconds[stage] for stage in DECIDING)
                rows.append((cost / best[name], cost - best[name], taken))
            yield rows
    memory.close()


def latency(rows):
    """Decisions, wall seconds and lost seconds of the arrays until all is well."""
    good = [ratio <= 1.1 for ratio, _, _ in rows]
    until = len(rows)  # never: all of the phase
    for step in range(len(rows)):
        if good[step] and np.mean(good[step:]) >= 0.75:
            until = step + 1
            break
    return {
        "decisions": until,
        "seconds": sum(taken for _, _, taken in rows[:until]),
        "lost": sum(lost for _, lost, _ in rows[: until - 1]),
        "good": float(np.mean(good)),
    }


def main():
    """Run every variant, and write `phase_shift.json`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--cycles", type=int, default=2)
    parser.add_argument("--how", nargs="+", choices=HOW, default=HOW)
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    about = machine()
    figures = {}
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(options.seeds):
            for name in options.variants:
                for how in options.how:
                    phases = []
                    for turn in ("cold", "warm"):
                        url = f"sqlite:///{folder}/{turn}-{seed}-{name}-{how}.db"
                        given = (VARIANTS[name], how == "restart", options.cycles, seed)
                        phases = [latency(r) for r in stream(*given, url.replace(" ", "-"))]
                    count = len(SHAPES)
                    parts = {"first": phases[:count], "later": phases[count:]}
                    for part, some in parts.items():
                        # Of a seed the mean of its phases: seeds are independent.
                        into = figures.setdefault(f"{name}, {how}, {part}", {})
                        for of in phases[0]:
                            mean = float(np.mean([p[of] for p in some]))
                            into.setdefault(of, []).append(mean)
            print(seed, {n: f["decisions"][-1] for n, f in figures.items()}, flush=True)
    record = {"machine": about, "seeds": options.seeds, "figures": figures}
    (options.results / "phase_shift.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
