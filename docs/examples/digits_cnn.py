"""Handwritten digits: digital, naive analog and hardware-aware analog accuracy.

    python docs/examples/digits_cnn.py [--quick] [--out DIR]

A network is trained digitally, and then goes on for as many steps once more, digitally
("naive") or against the hardware; both are programmed on crossbars. scikit-learn's 1797
digits, 8 x 8, a fifth of them for the test.
"""

import argparse
import json
import time
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from sklearn.datasets import load_digits

import sedma_jax as sj


class Network(eqx.Module):
    """Two convolutions and a linear layer; 1,962 weights."""

    first: eqx.nn.Conv2d
    second: eqx.nn.Conv2d
    last: eqx.nn.Linear

    def __init__(self, *, key):
        keys = jr.split(key, 3)
        self.first = eqx.nn.Conv2d(1, 8, 3, padding=1, key=keys[0])
        self.second = eqx.nn.Conv2d(8, 16, 3, padding=1, key=keys[1])
        self.last = eqx.nn.Linear(64, 10, key=keys[2])

    def __call__(self, x, *, key):
        keys = jr.split(key, 3)
        pool = eqx.nn.MaxPool2d(2, 2)
        x = pool(jax.nn.relu(self.first(x, key=keys[0])))
        x = pool(jax.nn.relu(self.second(x, key=keys[1])))
        return self.last(x.ravel(), key=keys[2])


def load():
    """Images `(n, 1, 8, 8)` from 0 to 1 and labels, to train and to test."""
    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    x = jnp.asarray(digits.images[order, None] / 16, jnp.float32)
    y = jnp.asarray(digits.target[order], jnp.int32)
    return (x[360:], y[360:]), (x[:360], y[:360])


@eqx.filter_jit
def train(model, xs, ys, steps, *, key):
    """Train by Adam with batches of 64; a hardware-aware model against its hardware."""
    optimiser = optax.adam(3e-3)
    params, rest = eqx.partition(model, eqx.is_inexact_array)

    def loss(params, x, y, key):
        programming_key, read_key = jr.split(key)
        model = sj.nn.draw_programming(eqx.combine(params, rest), key=programming_key)
        logits = jax.vmap(lambda x, key: model(x, key=key))(x, jr.split(read_key, len(x)))
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

    def step(carry, key):
        params, state = carry
        batch_key, noise_key = jr.split(key)
        batch = jr.choice(batch_key, len(xs), (64,))
        gradient = jax.grad(loss)(params, xs[batch], ys[batch], noise_key)
        updates, state = optimiser.update(gradient, state)
        return (optax.apply_updates(params, updates), state), None

    start = params, optimiser.init(params)
    (params, _), _ = jax.lax.scan(step, start, jr.split(key, steps))
    return eqx.combine(params, rest)


@eqx.filter_jit
def accuracy(model, xs, ys, *, key):
    """Share of digits told right, each read once."""
    logits = jax.vmap(lambda x, key: model(x, key=key))(xs, jr.split(key, len(xs)))
    return jnp.mean(jnp.argmax(logits, axis=1) == ys)


def settings(device):
    """Ways to program and convert: those of `analogize`, from fine to coarse."""
    coarse = sj.acceptance_band(device, half_width=0.15)
    return {
        "verified, 8 bits": dict(dac=sj.DAC(8), adc=sj.ADC(8)),
        "verified, 4 bits": dict(dac=sj.DAC(4), adc=sj.ADC(4)),
        "band 0.15, 6 bits": dict(rule=coarse, dac=sj.DAC(6), adc=sj.ADC(6)),
        "open loop, 6 bits": dict(scheme=sj.open_loop, dac=sj.DAC(6), adc=sj.ADC(6)),
    }


def study(names, kinds, seeds, steps):
    """One record for each material, setting and seed."""
    (xs, ys), test = load()
    program = eqx.filter_jit(sj.nn.analogize)
    records, digital = [], {}
    for seed in range(seeds):
        keys = jr.split(jr.key(seed), 3)
        start = train(Network(key=keys[0]), xs, ys, steps, key=keys[1])
        digital[seed] = start, train(start, xs, ys, steps, key=keys[2])
    for name in names:
        device = sj.devices.PRESETS[name]
        for kind, options in settings(device).items():
            if kinds is not None and kind not in kinds:
                continue
            begin = time.perf_counter()
            for seed, (start, longer) in digital.items():
                train_key, array_key, read_key = jr.split(jr.fold_in(jr.key(seed), 9), 3)
                aware = sj.nn.hardware_aware(
                    start, device, clip=2.5, **{"scheme": sj.sampled_rewrite, **options}
                )
                aware = sj.nn.plain(train(aware, xs, ys, steps, key=train_key))
                record = dict(material=name, setting=kind, seed=seed)
                record["digital"] = float(accuracy(longer, *test, key=read_key))
                for label, model in (("naive", longer), ("aware", aware)):
                    analog = program(model, device, key=array_key, **options)
                    record[label] = float(accuracy(analog, *test, key=read_key))
                records.append(record)
            rows = [r for r in records if (r["material"], r["setting"]) == (name, kind)]
            cells = [
                f"{np.mean(v):.3f} ± {np.std(v):.3f}"
                for v in (
                    [r[label] for r in rows] for label in ("digital", "naive", "aware")
                )
            ]
            seconds = time.perf_counter() - begin
            print(f"{name:10} {kind:18}", *cells, f"{seconds:5.0f} s", flush=True)
    return records


def plot(records, path):
    """Bars of the mean over seeds, with the spread."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    groups = sorted({(r["material"], r["setting"]) for r in records})
    figure, axes = plt.subplots(figsize=(9, 4), layout="constrained")
    for place, label in enumerate(("digital", "naive", "aware")):
        values = [
            [r[label] for r in records if (r["material"], r["setting"]) == group]
            for group in groups
        ]
        axes.bar(
            np.arange(len(groups)) + 0.27 * (place - 1),
            [np.mean(v) for v in values],
            0.25,
            yerr=[np.std(v) for v in values],
            label=label,
        )
    axes.set_xticks(range(len(groups)), [f"{m}\n{s}" for m, s in groups], fontsize=5)
    axes.set_ylabel("accuracy on 360 digits")
    axes.legend()
    figure.savefig(path, dpi=150)
    plt.close(figure)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one material, one key")
    parser.add_argument("--out", type=Path, help="folder for JSON and plot")
    args = parser.parse_args()
    print(f"{'material':10} {'setting':18} digital        naive analog   hardware-aware")
    if args.quick:
        records = study(["epiram"], {"open loop, 6 bits"}, 1, 60)
    else:
        records = study([*sj.devices.PRESETS], None, 5, 600)
    if args.out is not None:
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / "digits_cnn.json").write_text(json.dumps(records, indent=1))
        plot(records, args.out / "digits_cnn.png")


if __name__ == "__main__":
    main()
