"""Accuracy of the digits network: digital, naive analog and hardware-aware analog.

    python -m bench.nn.digits [--quick] [--results DIR]

The network and the ways to program and convert are those of `docs/examples/digits_cnn.py`.
For each key a network is trained on 1437 digits of scikit-learn for 600 steps, and then for
600 more, digitally or against the hardware. Both are programmed on crossbars of each
material, with the same key, and read 360 digits that no training saw, each once. "naive" is
the network whose training stayed digital, "aware" the other; "gain" is the mean difference
over keys, with its standard error. Nothing was tuned on the 360 digits.

Keys are lanes of one `vmap`, and the material is an argument, so each way compiles once.
Writes `digits.json` and `digits.md`.
"""

import time
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

import sedma_jax as sj
from bench.shared import machine, parser_of, write_json
from docs.examples.digits_cnn import Network, accuracy, load, settings, train

CLIP = 2.5  # times the root mean square of a bit line


@eqx.filter_jit
def digital_networks(keys, xs, ys, steps):
    """For each key a trained network, and the same after as many steps again."""

    def one(key):
        model_key, first_key, second_key = jr.split(key, 3)
        start = train(Network(key=model_key), xs, ys, steps, key=first_key)
        return start, train(start, xs, ys, steps, key=second_key)

    return eqx.filter_vmap(one)(keys)


@eqx.filter_jit
def aware_networks(starts, keys, xs, ys, steps, device, options):
    """Go on from `starts` against the hardware."""

    def one(start, key):
        how = {"scheme": sj.sampled_rewrite, **options}
        model = sj.nn.hardware_aware(start, device, clip=CLIP, **how)
        return sj.nn.plain(train(model, xs, ys, steps, key=key))

    return eqx.filter_vmap(one)(starts, keys)


@eqx.filter_jit
def digital_accuracies(models, test):
    one = lambda model: accuracy(model, *test, key=jr.key(0))
    return eqx.filter_vmap(one)(models)


@eqx.filter_jit
def analog_accuracies(models, keys, test, device, options):
    """For each key, one programming of the network and one read of each digit."""

    def one(model, key):
        array_key, read_key = jr.split(key)
        analog = sj.nn.analogize(model, device, key=array_key, **options)
        errors = [
            layer.matrix.error for layer in (analog.first, analog.second, analog.last)
        ]
        return accuracy(analog, *test, key=read_key), jnp.stack(errors)

    return eqx.filter_vmap(one)(models, keys)


def as_arrays(tree):
    """Numbers as arrays, since `eqx.filter_jit` compiles anew for each other float."""
    return jax.tree.map(lambda v: jnp.asarray(v) if isinstance(v, float) else v, tree)


def measure(materials, ways, keys, steps, report):
    """Accuracies of each key, material and way."""
    (xs, ys), test = load()
    roots = jax.vmap(jr.key)(jnp.arange(keys))
    starts, longer = digital_networks(roots, xs, ys, steps)
    digital = np.asarray(digital_accuracies(longer, test))
    train_keys, array_keys = (jax.vmap(lambda k, n=n: jr.fold_in(k, n))(roots)
                              for n in (8, 9))  # fmt: skip
    records = []
    for way in settings(sj.devices.EPIRAM):
        if ways is not None and way not in ways:
            continue
        for name in materials:
            device = as_arrays(sj.devices.PRESETS[name])
            options = as_arrays(settings(sj.devices.PRESETS[name])[way])
            aware = aware_networks(starts, train_keys, xs, ys, steps, device, options)
            record = {"material": name, "way": way, "digital": digital.tolist()}
            for label, models in (("naive", longer), ("aware", aware)):
                found, errors = analog_accuracies(models, array_keys, test, device, options)
                record[label] = np.asarray(found).tolist()
                record[f"{label}_weight_errors"] = np.mean(errors, axis=0).tolist()
            unwritten = np.asarray(digital_accuracies(aware, test))
            record["aware_before_programming"] = unwritten.tolist()
            records.append(record)
            report(row_of(record))
    return records


def row_of(record):
    """One line of the table."""
    cells = [record["way"], record["material"]]
    for label in ("digital", "naive", "aware"):
        found = np.array(record[label])
        spread = np.std(found, ddof=1) if len(found) > 1 else np.nan
        cells.append(f"{found.mean():.3f} ± {spread:.3f} ({found.min():.3f})")
    gain = np.subtract(record["aware"], record["naive"])
    error = np.std(gain, ddof=1) / len(gain) ** 0.5 if len(gain) > 1 else np.nan
    cells.append(f"{gain.mean():+.3f} ± {error:.3f}")
    return f"| {' | '.join(cells)} |"


HEAD = """\
| programming and conversion | material | digital | naive analog | hardware-aware | gain |
| --- | --- | --- | --- | --- | --- |"""


def main():
    parser = parser_of(__doc__)
    parser.add_argument("--quick", action="store_true", help="one way, 2 keys, 60 steps")
    parser.add_argument("--keys", type=int, default=5)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--results", metavar="DIR", type=Path)
    options = parser.parse_args()
    about, started = machine(), time.perf_counter()
    ways = None
    if options.quick:
        ways, options.keys, options.steps = {"open loop, 6 bits"}, 2, 60
    print(HEAD, flush=True)
    show = lambda line: print(line, flush=True)
    materials = list(sj.devices.PRESETS)
    rows = measure(materials, ways, options.keys, options.steps, show)
    seconds = time.perf_counter() - started
    print(f"{seconds:.0f} s")
    if options.results:
        found = {"machine": about, "seconds": seconds, "keys": options.keys,
                 "steps": options.steps, "clip": CLIP, "rows": rows}  # fmt: skip
        write_json(options.results / "digits.json", found)
        note = (
            f"\nMean ± standard deviation over {options.keys} keys (least) of the share of "
            "360 digits told right; gain: of hardware-aware training over naive, mean ± "
            "standard error.\n"
        )
        table = "\n".join([HEAD, *map(row_of, rows), note])
        (options.results / "digits.md").write_text(table)


if __name__ == "__main__":
    main()
