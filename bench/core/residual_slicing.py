"""How the error on bcsstk02 falls with residual slices.

    python -m bench.core.residual_slicing [--slices 4] [--seed 0] [--json] [--plot FILE]

One row per material and number of slices has the relative error of the stored matrix
(Frobenius norm) and of its product with a vector uniform in [0, 1), the factor gained by
the last slice, and the pulses, energy and latency of programming. Everything is in double
precision, on one array of 66 x 66 per slice, without read noise.
"""

import json

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

import sedma_jax as sj
from bench.shared import parser_of, read_matrix
from sedma_jax.devices import PRESETS


def measure(slices, seed=0, names=tuple(PRESETS)):
    """One record per material and number of slices from 1 up."""
    A = np.asarray(read_matrix("bcsstk02.mtx").todense(), np.float64)
    x = np.random.default_rng(seed).random(A.shape[1])
    program_key, read_key = jr.split(jr.key(seed))
    records = []
    for name in names:
        for count in range(1, slices + 1):
            # The first slices are always the same: none depends on those after it.
            crossbar, stats = sj.program_residual(
                A, PRESETS[name], slices=count, array=A.shape, key=program_key
            )
            stored = np.asarray(sj.stored_matrix(crossbar))
            y = np.asarray(sj.matvec(crossbar, x, key=read_key))
            records.append(
                {
                    "device": name,
                    "slices": count,
                    "matrix_error": float(np.linalg.norm(stored - A) / np.linalg.norm(A)),
                    "relative_l2": float(np.linalg.norm(y - A @ x) / np.linalg.norm(A @ x)),
                    "pulses": int(jnp.sum(stats.per_array.pulses)),
                    "energy_j": float(stats.energy),
                    "latency_s": float(stats.latency),
                }
            )
    return records


def main():
    parser = parser_of(__doc__)
    parser.add_argument("--slices", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--plot", metavar="FILE", help="picture (needs the viz extra)")
    arguments = parser.parse_args()
    records = measure(arguments.slices, arguments.seed)
    if arguments.plot:
        from sedma_jax.viz import error_against_slices

        errors = {name: [] for name in PRESETS}
        for r in records:
            errors[r["device"]].append(r["relative_l2"])
        error_against_slices(errors).savefig(arguments.plot)
    if arguments.json:
        print(json.dumps({"rows": records}))
        return
    print(
        f"{'device':10} {'slices':>6} {'matrix':>9} {'gain':>6} {'l2 of Ax':>9}"
        f" {'gain':>6} {'pulses':>9} {'energy J':>9} {'latency s':>9}"
    )
    before = None
    for r in records:
        gains = ["", ""]
        if r["slices"] > 1:
            keys = ("matrix_error", "relative_l2")
            gains = [f"{before[key] / r[key]:.4g}" for key in keys]
        print(
            f"{r['device']:10} {r['slices']:6} {r['matrix_error']:9.3g} {gains[0]:>6}"
            f" {r['relative_l2']:9.3g} {gains[1]:>6} {r['pulses']:9,}"
            f" {r['energy_j']:9.3g} {r['latency_s']:9.3g}"
        )
        before = r


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    main()
