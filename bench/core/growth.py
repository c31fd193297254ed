"""How times grow with the matrix and with the batch, against the ideal product.

    python -m bench.core.growth [--quick] [--plot FILE]

Products of n = 256 to 8192 at batch 1 and 32, and of n = 4096 at batch 1 to 1024; with
`--quick` of n up to 2048, and of n = 1024 over the batches. Results go to
`bench/results/growth.json`, the plot (which needs the viz extra) to `growth.png` beside it.
"""

import datetime
import statistics
from pathlib import Path

import jax
import jax.lax as lax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

import sedma_jax as sj
from bench.core.speed import compare
from bench.shared import RESULTS, parser_of, write_json


def point(n, batches, rounds):
    """Medians of the analog product (8-bit converters) and of the ideal one."""
    rng = np.random.default_rng(n)
    A = jnp.asarray(rng.standard_normal((n, n), dtype=np.float32))
    crossbar = sj.program_exactly(A, sj.devices.EPIRAM)
    # XLA takes ten times as long if the vector is given as a matrix of one row.
    highest = lax.Precision.HIGHEST
    one = jax.jit(lambda x: jnp.matmul(A, x[0], precision=highest))
    many = jax.jit(lambda x: jnp.matmul(x, A.T, precision=highest))
    how = dict(dac=sj.DAC(8), key=jr.key(0))
    typical = rng.standard_normal((8, n), dtype=np.float32)
    how["adc"] = sj.calibrated_adc(crossbar, typical, bits=8, **how)
    for batch in batches:
        ideal = one if batch == 1 else many
        x = jnp.asarray(rng.standard_normal((batch, n), dtype=np.float32))
        contenders = {
            "ours": lambda x=x: sj.matvec(crossbar, x, **how),
            "ideal": lambda x=x, ideal=ideal: ideal(x),
        }
        times = compare(contenders, rounds, 10)
        medians = {name: statistics.median(own) for name, own in times.items()}
        yield {"n": n, "batch": batch} | medians


def plot(points, largest, path):
    """Times over n, and over the batch."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), layout="constrained")
    over_n, over_batch = figure.subplots(1, 2)
    for name, style in (("ours", "-o"), ("ideal", "--s")):
        for batch in (1, 32):
            line = [p for p in points if p["batch"] == batch]
            axes = ([p["n"] for p in line], [1e3 * p[name] for p in line])
            over_n.loglog(*axes, style, label=f"{name}, batch {batch}")
        line = [p for p in points if p["n"] == largest]
        axes = ([p["batch"] for p in line], [1e3 * p[name] for p in line])
        over_batch.loglog(*axes, style, label=f"{name}, n = {largest}")
    for axis, label in ((over_n, "n"), (over_batch, "batch")):
        axis.set(xlabel=label, ylabel="ms per product")
        axis.legend()
    figure.savefig(path)


def main():
    """Time all points, write them and their plot."""
    parser = parser_of(__doc__)
    parser.add_argument("--quick", action="store_true", help="leave out the largest")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, default=RESULTS / "growth.json", metavar="FILE")
    parser.add_argument("--plot", default=str(RESULTS / "growth.png"), metavar="FILE")
    options = parser.parse_args()
    swept = 1024 if options.quick else 4096
    points = []
    for exponent in range(8, 12 if options.quick else 14):
        n = 2**exponent
        batches = [4**k for k in range(6)] if n == swept else []
        for found in point(n, sorted({1, 32, *batches}), options.rounds):
            points.append(found)
            print(found, flush=True)
    result = {
        "date": datetime.date.today().isoformat(),
        "device": jax.devices()[0].device_kind,
        "versions": {"jax": jax.__version__, "sedma-jax": sj.__version__},
        "points": points,
    }
    write_json(options.out, result)
    plot(points, swept, options.plot)


if __name__ == "__main__":
    main()
