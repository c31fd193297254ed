"""Growth of time with the sizes in the paper's O(n m k + p log p + d r).

    python -m bench.system.complexity [--repeats 5] [--quick] [--results DIR]

n m is varied by doubling n = m with arrays of 256 x 256, for programming and one corrected
product. Peers p enter the choice of the best 3 by Eq. 7. Agents d enter the placement on 10
nodes, above 30 agents, where annealing always has as many chains and here as many rounds;
each recompilation r is one more such call. Each time is the median of warm calls. The
exponent is fitted by least squares in logarithms, with its 95 % interval.
"""

import time

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from scipy import stats
from sedma_jax.kernels import peer_scores, peer_terms, select_peers

import sedma_jax as sj
from bench.deploy.placement import instance
from bench.shared import machine, parser_of, write_json
from sedma_jax.deploy import place


def seconds(work, repeats):
    """Median of calls after the first."""
    work()
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return float(np.median(taken))


def product(n):
    A = np.random.default_rng(0).standard_normal((n, n), np.float32)
    x, key, device = np.ones(n, np.float32), jr.key(0), sj.devices.TAOX_HFOX

    def work():
        jax.block_until_ready(sj.corrected_matvec(A, x, device, key=key))

    return work


@jax.jit
def best(terms):
    scores = peer_scores(jnp.ones(3), terms)
    return select_peers(scores, jnp.ones(len(scores), bool), 3)


def choice(p):
    draw = np.random.default_rng(0).uniform(0.1, 1, (3, p)).astype(np.float32)
    terms = peer_terms(*jnp.asarray(draw))
    return lambda: jax.block_until_ready(best(terms))


def placed(d):
    problem = instance(d, 10, 0)
    return lambda: place(problem, prove_seconds=0, rounds=100, key=jr.key(0))


SIZES = {
    "entries of the matrix, n m": (product, [512, 1024, 2048, 4096], 2, "1"),
    "peers, p": (choice, [10**4, 10**5, 10**6, 4 * 10**6], 1, "1, and a logarithm"),
    "agents, d": (placed, [50, 100, 200, 400], 1, "1"),
}


def main():
    """Time, fit and write `complexity.json`."""
    parser = parser_of(__doc__, results=True)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="leave out the largest size")
    options = parser.parse_args()
    record = {"machine": machine(), "points": {}, "fits": {}}
    for name, (make, sizes, power, paper) in SIZES.items():
        sizes = sizes[:-1] if options.quick else sizes
        times = [seconds(make(size), options.repeats) for size in sizes]
        grown = [float(size) ** power for size in sizes]
        fit = stats.linregress(np.log(grown), np.log(times))
        half = float(stats.t.ppf(0.975, len(sizes) - 2) * fit.stderr)
        record["points"][name] = dict(zip(map(str, sizes), times, strict=True))
        record["fits"][name] = {
            "exponent": float(fit.slope),
            "half": half,
            "paper": paper,
        }
        print(name, record["points"][name], record["fits"][name], flush=True)
    write_json(options.results / "complexity.json", record)


if __name__ == "__main__":
    main()
