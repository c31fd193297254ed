"""Train a softmax classifier of digits on the devices: SGD, pulsed updates, Tiki-Taka.

    python docs/examples/in_situ_training.py [--quick] [--out DIR]

The weights are cells of an array, one example at a time, and updates are pulses. Bias is
digital. SGD is the digital yardstick.
"""

import argparse
import json
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from digits_cnn import load

import sedma_jax as sj


def optimisers(device, key):
    """By name, for `(weight, bias)`; only the weight is in cells."""
    rate, w_max = 0.02, 1.0
    pulsed = sj.nn.pulsed_updates(device, w_max=w_max, key=key)
    tiki = sj.nn.tiki_taka(
        device, w_max=w_max, transfer_every=2, transfer_rate=0.5, key=key
    )
    cells = {"weight": True, "bias": False}
    return {
        "sgd": optax.sgd(rate),
        "pulsed": optax.chain(optax.sgd(rate), optax.masked(pulsed, cells)),
        "tiki-taka": optax.chain(optax.sgd(rate), optax.masked(tiki, cells)),
    }


def logits(params, x):
    return params["weight"] @ x + params["bias"]


@partial(jax.jit, static_argnames=("optimiser", "steps"))
def train(optimiser, xs, ys, steps, *, key):
    """Parameters after `steps` single examples, and the final state."""
    params = {"weight": jnp.zeros((10, 64)), "bias": jnp.zeros(10)}

    def loss(params, x, y):
        return optax.softmax_cross_entropy_with_integer_labels(logits(params, x), y)

    def step(carry, key):
        params, state = carry
        place = jr.randint(key, (), 0, len(xs))
        gradient = jax.grad(loss)(params, xs[place], ys[place])
        updates, state = optimiser.update(gradient, state, params)
        return (optax.apply_updates(params, updates), state), None

    carry, _ = jax.lax.scan(step, (params, optimiser.init(params)), jr.split(key, steps))
    return carry


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one material, one key")
    parser.add_argument("--out", type=Path, help="folder for JSON")
    args = parser.parse_args()
    (xs, ys), (test_x, test_y) = load()
    xs, test_x = xs.reshape(len(xs), -1), test_x.reshape(len(test_x), -1)
    names = ["epiram"] if args.quick else [*sj.devices.PRESETS]
    seeds, steps = (1, 2000) if args.quick else (5, 30_000)
    records = []
    for name in names:
        for seed in range(seeds):
            device = sj.devices.PRESETS[name]
            for label, optimiser in optimisers(device, jr.key(seed)).items():
                params, state = train(optimiser, xs, ys, steps, key=jr.key(100 + seed))
                told = jnp.argmax(jax.vmap(lambda x, p=params: logits(p, x))(test_x), 1)
                joules = getattr(getattr(state[-1], "inner_state", None), "energy", 0.0)
                right = float(jnp.mean(told == test_y))
                records.append(
                    dict(material=name, seed=seed, optimiser=label, accuracy=right,
                         energy=float(joules))
                )  # fmt: skip
        for label in ("sgd", "pulsed", "tiki-taka"):
            rows = [r for r in records if (r["material"], r["optimiser"]) == (name, label)]
            right = [r["accuracy"] for r in rows]
            joules = np.mean([r["energy"] for r in rows])
            print(
                f"{name:10} {label:10} accuracy {np.mean(right):.3f} ± {np.std(right):.3f}"
                f"  pulses {joules:.2e} J",
                flush=True,
            )
    if args.out is not None:
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / "in_situ_training.json").write_text(json.dumps(records, indent=1))


if __name__ == "__main__":
    main()
