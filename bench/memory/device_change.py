"""Decisions until the system recovers from a device that changed without notice.

    python -m bench.memory.device_change [--before 25] [--after 40] [--json] [--out FILE]

A matrix of 64 x 64 comes again and again, on a pool whose fast arrays become slower than
the others in mid-stream: their pulses last 100,000 times as long, while the data sheet that
plans are made from stays as it was. The system has recovered at the first of three
decisions in a row that cost at most a tenth more than the cheapest plan for the arrays as
they then are, found by weighing every plan with the true figures.
"""

import dataclasses
import json
import tempfile
from pathlib import Path

import jax
import numpy as np

import sedma_jax as sj
from bench.shared import machine, parser_of, write_json

# Private: users have the best plan chosen, while this bench weighs a given one.
from sedma_jax._tiling.planning import weigh
from sedma_jax.memory import Ablation, ShortTerm, adaptive_matvec

FAST, FINE = sj.devices.TAOX_HFOX, sj.devices.EPIRAM
WORN = dataclasses.replace(FAST, t_ltp=1e5 * FAST.t_ltp, t_ltd=1e5 * FAST.t_ltd)


def pool(fast):
    """The pool, with the given device in its fast arrays."""
    return sj.Pool([sj.ArrayKind(64, 64, 4, FINE), sj.ArrayKind(32, 32, 16, fast)])


def true_cost(plan, arrays, lam_mem):
    """The cost of a plan by Eq. 4 on the arrays as they are."""
    real = sj.PartitionPlan(arrays, plan.rectangles, plan.shape)
    return float(weigh([real], lam_mem=lam_mem).objective[0])


def stream(ablation, before, after, seed):
    """Cost of each decision over the cheapest plan's, and when changes were noticed."""
    A = np.random.default_rng(0).random((64, 64)).astype(np.float32)
    short_term, excess, noticed = ShortTerm(), [], []
    with tempfile.TemporaryDirectory() as folder:
        memory = sj.memory.open(f"sqlite:///{folder}/patterns.db")
        for step in range(before + after):
            key = jax.random.fold_in(jax.random.key(seed), step)
            actual = pool(FAST if step < before else WORN)
            _, info, short_term = adaptive_matvec(
                A,
                np.ones(64, np.float32),
                pool(FAST),
                memory=memory,
                short_term=short_term,
                ablation=ablation,
                pressure=0.5,
                actual=actual,
                key=key,
            )
            best = sj.plan_partitions(A.shape, actual, lam_mem=info.lam_mem)
            cost = true_cost(info.plan, actual, info.lam_mem)
            excess.append(cost / true_cost(best, actual, info.lam_mem))
            if info.changed:
                noticed.append(step - before + 1)
        memory.close()
    return excess, noticed


def recovery(excess, before):
    """Decisions after the change until three in a row are good, or None."""
    good = [value <= 1.1 for value in excess[before:]]
    for step in range(len(good) - 2):
        if all(good[step : step + 3]):
            return step
    return None


def main():
    parser = parser_of(__doc__, seeds=3)
    parser.add_argument("--before", type=int, default=25)
    parser.add_argument("--after", type=int, default=40)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--out", metavar="FILE", help="write the figures there, as JSON")
    options = parser.parse_args()
    rows = []
    for name, ablation in (
        ("full", Ablation()),
        ("no short-term", Ablation(short_term=False)),
        ("no long-term", Ablation(long_term=False)),
    ):
        for seed in range(options.seeds):
            excess, noticed = stream(ablation, options.before, options.after, seed)
            rows.append(
                {
                    "variant": name,
                    "seed": seed,
                    "recovery": recovery(excess, options.before),
                    "noticed": noticed,
                    "cost_at_once": excess[options.before],
                    "cost_at_end": excess[-1],
                }
            )
    if options.out:
        record = {"after": options.after, "machine": machine(), "rows": rows}
        write_json(Path(options.out), record)
    if options.json:
        print(json.dumps({"rows": rows}))
        return
    print("variant        seed  recovered after  noticed at       cost at once  at the end")
    for r in rows:
        after = "never" if r["recovery"] is None else r["recovery"]
        print(
            f"{r['variant']:14}{r['seed']:5}{after!s:>17}  {r['noticed']!s:16}"
            f"{r['cost_at_once']:13.3g}{r['cost_at_end']:12.3g}"
        )


if __name__ == "__main__":
    main()
