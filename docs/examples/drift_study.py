"""Accuracy of an analog network of digits over the time since it was programmed.

    python docs/examples/drift_study.py [--quick] [--out DIR]

Phase-change cells (`sedma_jax.noise_models.PCM`) are programmed by their published
statistics, drift by a power law and are read with 1/f noise; compensation scales each bit
line by what currents of known inputs have lost.
"""

import argparse
import json
from pathlib import Path

import jax.random as jr
import numpy as np
from digits_cnn import Network, accuracy, load, train

import sedma_jax as sj

TIMES = (1.0, 60.0, 3600.0, 86400.0, 2.6e6, 3.15e7)
READS = 256  # known inputs of each layer's compensation


def plot(records, path):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(layout="constrained")
    for compensate in (False, True):
        chosen = [r for r in records if r["compensated"] == compensate]
        rows = [[r["accuracy"] for r in chosen if r["time"] == t] for t in TIMES]
        label = "compensated" if compensate else "as it drifts"
        mean, spread = (np.array([f(row) for row in rows]) for f in (np.mean, np.std))
        axes.semilogx(TIMES, mean, label=label)
        axes.fill_between(TIMES, mean - spread, mean + spread, alpha=0.2)
    axes.set_xlabel("seconds since programming")
    axes.set_ylabel("accuracy on 360 digits")
    axes.legend()
    figure.savefig(path, dpi=150)
    plt.close(figure)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one key, few steps")
    parser.add_argument("--out", type=Path, help="folder for JSON and plot")
    args = parser.parse_args()
    (xs, ys), test = load()
    steps, seeds = (60, 1) if args.quick else (600, 5)
    records = []
    for seed in range(seeds):
        start_key, train_key, array_key, cells_key, read_key = jr.split(jr.key(seed), 5)
        model = train(Network(key=start_key), xs, ys, steps, key=train_key)
        analog = sj.nn.analogize(model, sj.noise_models.PCM, key=array_key)
        if seed == 0:
            print(sj.nn.inspect(analog))
        for time in TIMES:
            for compensate in (False, True):
                reads = READS if compensate else 0
                old = sj.nn.age(analog, time, compensation_reads=reads, key=cells_key)
                right = float(accuracy(old, *test, key=read_key))
                records.append(
                    dict(seed=seed, time=time, compensated=compensate, accuracy=right)
                )
    for time in TIMES:
        for compensate in (False, True):
            right = [r["accuracy"] for r in records
                     if (r["time"], r["compensated"]) == (time, compensate)]  # fmt: skip
            label = "compensated" if compensate else "as it drifts"
            print(f"{time:10.3g} s  {label:12} {np.mean(right):.3f} ± {np.std(right):.3f}")
    if args.out is not None:
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / "drift_study.json").write_text(json.dumps(records, indent=1))
        plot(records, args.out / "drift_study.png")


if __name__ == "__main__":
    main()
