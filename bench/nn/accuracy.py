"""Digits classified by products on crossbars: chosen, fixed or no smoothing parameter.

    python -m bench.nn.accuracy [--seeds 10] [--results DIR]

Stands in for COCO, ImageNet and SQuAD, which are not in this repository: the data are the
1797 digits that scikit-learn brings, a fifth of them for the test. Each seed draws the
split, trains a network of 64, 48 and 10 neurons exactly by Adam, and programs both matrices
on every material. "exact" is what Ray and PyTorch multiply with. The figures are the share
of test digits classified correctly, per seed the mean over four materials, and the relative
error of the last layer's products.
"""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax

import sedma_jax as sj
from bench.shared import machine, parser_of, write_json

STEPS, BATCH = 800, 64
FIXED = 1e-12  # smoothing parameter


@eqx.filter_jit
def trained(x, labels, key):
    """Weights of both layers."""
    first, second, batches = jr.split(key, 3)
    scale = lambda n: 1 / np.sqrt(n)
    params = (
        scale(64) * jr.normal(first, (48, 64), "float32"),
        scale(48) * jr.normal(second, (10, 48), "float32"),
    )
    optimiser = optax.adam(3e-3)

    def loss(params, x, labels):
        logits = jax.nn.relu(x @ params[0].T) @ params[1].T
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    def step(carry, key):
        params, state = carry
        some = jr.choice(key, len(x), (BATCH,))
        gradient = jax.grad(loss)(params, x[some], labels[some])
        updates, state = optimiser.update(gradient, state)
        return (optax.apply_updates(params, updates), state), None

    start = params, optimiser.init(params)
    (params, _), _ = jax.lax.scan(step, start, jr.split(batches, STEPS))
    return params


def classified(params, x, products):
    """Scores of the last layer, with a function for the product of each layer."""
    hidden = np.maximum(products[0](params[0], x), 0)
    return np.asarray(products[1](params[1], hidden))


def corrected(lam, device, key, A, x):
    return np.asarray(sj.corrected_matvec(A, x, device, lam=lam, key=key)[0])


def raw(device, key, A, x):
    program_key, read_key = jr.split(key)
    crossbar, _ = sj.program(A, device, key=program_key)
    return np.asarray(sj.matvec(crossbar, x, key=read_key))


def exact(A, x):
    return np.asarray(A, np.float64) @ x if x.ndim == 1 else x @ np.asarray(A, np.float64).T


def main():
    """Train, classify, and write `accuracy.json`."""
    parser = parser_of(__doc__, seeds=10, results=True)
    options = parser.parse_args()
    about, digits = machine(), sj.data.digits()
    x, labels = digits.images.reshape(-1, 64), digits.labels
    names = ("exact", "full", "fixed lambda", "uncorrected")
    figures = {name: {"accuracy": [], "error": []} for name in names}
    for seed in range(options.seeds):
        order = np.random.default_rng(seed).permutation(len(labels))
        test, train = order[:360], order[360:]
        params = trained(jnp.asarray(x[train]), jnp.asarray(labels[train]), jr.key(seed))
        truth = classified(params, x[test], (exact, exact))
        found = {name: [] for name in names}
        for number, device in enumerate(sj.devices.PRESETS.values()):
            keys = jr.split(jr.fold_in(jr.key(seed), number), 2)
            remembered = sj.RememberedLambda()
            ways = {
                "exact": [exact] * 2,
                "full": [partial(corrected, remembered, device, k) for k in keys],
                "fixed lambda": [partial(corrected, FIXED, device, k) for k in keys],
                "uncorrected": [partial(raw, device, k) for k in keys],
            }
            for name, products in ways.items():
                scores = classified(params, x[test], products)
                right = float(np.mean(scores.argmax(1) == labels[test]))
                error = np.linalg.norm(scores - truth) / np.linalg.norm(truth)
                found[name].append((right, float(error)))
        for name, rows in found.items():
            for of, values in zip(("accuracy", "error"), np.mean(rows, 0), strict=True):
                figures[name][of].append(float(values))
        print(seed, {n: np.round(np.mean(r, 0), 4).tolist() for n, r in found.items()})
    record = {"machine": about, "seeds": options.seeds, "figures": figures}
    write_json(options.results / "accuracy.json", record)


if __name__ == "__main__":
    main()
