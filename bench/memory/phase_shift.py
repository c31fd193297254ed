"""Training, inference, aggregation, and again: how long until a phase is served well.

    python -m bench.memory.phase_shift [--seeds 10] [--cycles 3] [--results DIR]

A phase is a stream of 6 products with matrices of one class: training a dense square one,
inference a wide and small one, aggregation a tall one. All run on one pool, whose data
sheet does not say that pulses of its fast arrays last 100,000 times as long. Each phase
runs in a process of its own, as jobs do, with a new short-term memory ("restart"), or all
run in one that goes on ("one process"). A decision is good if it costs at most a tenth more
than the cheapest plan for the arrays as they are. Adaptation to a phase ends with the first
good decision from which on at least three in four are good. Its latency is the wall time of
its decisions until then (classify, recall, plan, learn); the seconds by which its plans
were slower on the arrays than the best one are given apart. The first cycle is new to all
variants; the later ones recur, and are compared with the paper's -67 %. Every seed runs
twice with the same keys, and the second run, which finds everything compiled, counts.
"""

import tempfile

import jax
import numpy as np

import sedma_jax as sj
from bench.memory.device_change import FAST, WORN, pool, true_cost
from bench.shared import machine, parser_of, write_json
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
    """Yield the decisions of each phase: cost over best, seconds lost, seconds taken."""
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
    """Decisions, wall seconds and the arrays' lost seconds until a phase is served well."""
    good = [ratio <= 1.1 for ratio, _, _ in rows]
    until = len(rows)  # the whole phase, if it is never served well
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
    parser = parser_of(__doc__, seeds=10, results=True)
    parser.add_argument("--cycles", type=int, default=2)
    parser.add_argument("--how", nargs="+", choices=HOW, default=HOW)
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
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
                        # One mean per seed, since seeds are independent and phases not.
                        into = figures.setdefault(f"{name}, {how}, {part}", {})
                        for of in phases[0]:
                            mean = float(np.mean([p[of] for p in some]))
                            into.setdefault(of, []).append(mean)
            print(seed, {n: f["decisions"][-1] for n, f in figures.items()}, flush=True)
    record = {"machine": about, "seeds": options.seeds, "figures": figures}
    write_json(options.results / "phase_shift.json", record)


if __name__ == "__main__":
    main()
