"""Adaptive smoothing parameter against the best fixed one in hindsight.

    python -m bench.memory.lambda_adaptation [--products 12] [--size 512] [--out FILE]

Smooth, piecewise constant and rough products on four materials. For each there is a stream
of products of one programmed matrix with new vectors; its error is the root of the summed
squares over the stream. "best" is the fixed parameter with the least error, zero or one of
57 from 1e-7 to 1e5, found with the exact products. The columns give the error over that of
`best` and over that of zero: with the parameter chosen from the data of each product alone,
with short-term memory, and with long-term memory too (Eq. 6, as `sedma run --memory` has
it).
"""

import json
import tempfile
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from sedma_jax.kernels import ERROR_PATTERNS

import sedma_jax as sj
from bench.shared import parser_of, write_json
from sedma_jax.memory import ShortTerm

# Private: what memory recalls for a product is otherwise used by `sedma run` alone.
from sedma_jax.memory._strategy import moments

GRID = np.concatenate([[0.0], np.exp(np.linspace(-16, 12, 57))])


def matrices(size, rng):
    """Matrices whose products are smooth, piecewise constant or rough."""
    place = (np.arange(size) + 0.5) / size
    columns = {
        "smooth": np.cos(np.pi * np.arange(6) * place[:, None]),
        "piecewise": (place[:, None] > rng.random(6)).astype(float),
        "rough": rng.normal(size=(size, 6)),
    }
    for name, column in columns.items():
        yield name, (column @ rng.normal(size=(6, size))).astype(np.float32)


@jax.jit
def fixed_errors(p, exact):
    """Squared error of a product for each parameter of the grid."""
    square = lambda lam: jnp.sum((sj.denoise(p, lam) - exact) ** 2)
    return jax.lax.map(square, jnp.asarray(GRID, p.dtype))


def stream(A, device, memory, workload, products, seed):
    """Errors over the stream of the three adaptive choices and of each fixed parameter."""
    program_key, *keys = jax.random.split(jax.random.key(seed), products + 1)
    rng = np.random.default_rng(seed)
    programmed = sj.program(A, device, key=program_key)
    product = partial(sj.corrected_matvec, A, device=device, programmed=programmed)
    sums = np.zeros(3 + len(GRID))
    lams, short_term = [], ShortTerm()
    for key in keys:
        x = rng.normal(size=A.shape[1]).astype(np.float32)
        exact = A.astype(np.float64) @ x
        p, _ = product(x, lam=0.0, key=key)
        recent = short_term.recent_products(workload)
        found = {p.choice["errors"]: p for p in memory.recall("lambda", workload)}
        known = [moments([found[e]] if e in found else []) for e in ERROR_PATTERNS]
        figures = jnp.asarray(known, jnp.float32).T
        weights = (
            sj.RememberedLambda(),
            sj.RememberedLambda(recent=recent),
            sj.RememberedLambda(*figures, recent),
        )
        chosen, infos = zip(*(product(x, lam=lam, key=key) for lam in weights), strict=True)
        choice = infos[2].choice
        short_term = short_term.add_product(workload, choice.statistics)
        errors = {"errors": ERROR_PATTERNS[int(choice.pattern)]}
        memory.record("lambda", workload, errors, float(choice.own.log_lam))
        square = lambda y, exact=exact: np.sum((np.asarray(y, np.float64) - exact) ** 2)
        grid = fixed_errors(p, jnp.asarray(exact, p.dtype))
        sums += np.array([*map(square, chosen), *np.asarray(grid)])
        lams.append(float(infos[2].lam))
    return np.sqrt(sums), float(np.median(lams))


def measure(size, products, seed):
    """One record per kind of signal and material."""
    records = []
    with tempfile.TemporaryDirectory() as folder:
        memory = sj.memory.open(f"sqlite:///{Path(folder) / 'patterns.db'}")
        for signal, A in matrices(size, np.random.default_rng(seed)):
            for name, device in sj.devices.PRESETS.items():
                workload = f"{signal}|{name}"
                errors, lam = stream(A, device, memory, workload, products, seed)
                (alone, recent, both), fixed = errors[:3], errors[3:]
                best = int(np.argmin(fixed))
                records.append(
                    {
                        "signal": signal,
                        "device": name,
                        "best_lambda": float(GRID[best]),
                        "median_lambda": lam,
                        "best_over_zero": float(fixed[best] / fixed[0]),
                        "data_over_best": float(alone / fixed[best]),
                        "recent_over_best": float(recent / fixed[best]),
                        "memory_over_best": float(both / fixed[best]),
                        "memory_over_zero": float(both / fixed[0]),
                    }
                )
        memory.close()
    return records


def main():
    parser = parser_of(__doc__)
    parser.add_argument("--products", type=int, default=12)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--out", metavar="FILE", help="write the figures there, as JSON")
    options = parser.parse_args()
    records = measure(options.size, options.products, options.seed)
    if options.out:
        write_json(Path(options.out), {"rows": records})
    if options.json:
        print(json.dumps({"rows": records}))
        return
    heads = (
        "best lam",
        "median lam",
        "best/0",
        "data/best",
        "recent/best",
        "memory/best",
        "memory/0",
    )
    print(f"{'signal':10}{'device':11}" + "".join(f"{h:>12}" for h in heads))
    for r in records:
        figures = list(r.values())[2:]
        print(f"{r['signal']:10}{r['device']:11}" + "".join(f"{v:12.4g}" for v in figures))
    print(
        f"worst: {max(r['memory_over_best'] for r in records):.4f} of best, "
        f"{max(r['memory_over_zero'] for r in records):.4f} of zero"
    )


if __name__ == "__main__":
    main()
