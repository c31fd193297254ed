"""Linear systems on crossbars: products, energy and residual per matrix and device.

    python -m bench.core.solvers [--seed 0] [--results DIR]

Each matrix of `data/` on each material is solved to a relative residual of 1e-10 of the
matrix as given: by refinement with one slice, by both methods with as many slices as they
ask for, and by flexible GMRES with three; for `b = A 1` and for a normal `b`. The residual
of the equilibrated system (`scaled`) has to be as small. `error` is the relative distance
from `1`, or from NumPy's solution.

Baselines: NumPy in double precision; lineax's GMRES (and CG for the symmetric matrix) on
the crossbars alone, with no digital residual (`alone`); GMRES without arrays, by digital
products.

Energies are those of the cells: for programming, of pulses and verify reads; for reading,
the mean heat over word-line voltages uniform in +-`v_read`. Converters are ideal and not
counted.
"""

from functools import partial
from itertools import product
from pathlib import Path

import jax
import jax.numpy as jnp
import jax.random as jr
import lineax as lx
import numpy as np
from sedma_jax.kernels import expected_read_energy, series_conductance

import sedma_jax as sj
from bench.shared import parser_of, read_matrix, write_json
from sedma_jax.devices import PRESETS
from sedma_jax.linalg import (
    RESULTS,
    CrossbarLinearOperator,
    FlexibleGMRES,
    IterativeRefinement,
    equilibrate,
)

MATRICES = ("bcsstk02", "west0067", "fs_183_1")
RTOL = 1e-10
METHODS = (
    ("refinement", IterativeRefinement, (1, 1)),
    ("refinement", IterativeRefinement, (1, 4)),
    ("fgmres", FlexibleGMRES, (1, 4)),
    ("fgmres", FlexibleGMRES, (3, 3)),
)
CODES = {
    text: name
    for name in ("not_contractive", "rounding_limited", "max_steps_reached", "stagnation")
    for text in [RESULTS[getattr(RESULTS, name)]]
} | {"": "successful"}


def residual(A, z, b):
    return float(np.linalg.norm(b - A @ np.asarray(z)) / np.linalg.norm(b))


def read_energy(crossbar):
    """Mean heat of one product, in joules, over inputs uniform in +-`v_read`."""
    device = crossbar.device
    through = series_conductance(crossbar.conductance, device.r_access)
    squares = jnp.full(through.shape[::2], device.v_read**2 / 3)
    return float(jnp.sum(expected_read_energy(through, squares, device.t_read)))


def analog_alone(found, A, b, symmetric):
    """Residuals of lineax's solvers, which never see the exact matrix here."""
    size = len(b)
    r, c = (np.asarray(v) for v in (found.scaling.rows, found.scaling.columns))
    how = dict(rtol=RTOL, atol=0.0, norm=jnp.linalg.norm)
    solvers = {"gmres": ((), lx.GMRES(**how, restart=size, max_steps=3))}
    if symmetric:
        solvers["cg"] = (
            lx.positive_semidefinite_tag,
            lx.CG(**how, max_steps=4 * size),
        )
    figures = {}
    for name, (tags, solver) in solvers.items():
        arrays = CrossbarLinearOperator(found.crossbar, tags=tags)
        z = lx.linear_solve(arrays, jnp.asarray(r * b), solver, throw=False).value
        figures[name] = residual(A, c * np.asarray(z), b)
    return figures


def digital_alone(A, b):
    """Digital products of GMRES on the equilibrated matrix, and its residual."""
    none = lx.MatrixLinearOperator(jnp.eye(len(b)))
    solver = FlexibleGMRES(
        none,
        RTOL,
        scaling=equilibrate(A),
        inner_steps=1,
        restart=len(b),
        max_steps=4 * len(b),
    )
    operator = lx.MatrixLinearOperator(jnp.asarray(A))
    found = lx.linear_solve(operator, jnp.asarray(b), solver, throw=False)
    return int(found.stats["digital_products"]), residual(A, found.value, b)


def solve(A, b, z, device, solver, slices, seed):
    """The solved system, and a record of the products and energies that it took."""
    found = sj.linalg.solve(
        A,
        b,
        device,
        method=solver,
        rtol=RTOL,
        slices=slices,
        array=A.shape,
        throw=False,
        key=jr.key(seed),
    )
    products = int(found.analog_products)
    return found, {
        "slices": found.slices,
        "slices_allowed": list(slices),
        "analog_products": products,
        "digital_products": int(found.digital_products),
        "iterations": int(found.iterations),
        "contraction": float(found.contraction),
        # Computed here, since the solver states its own.
        "residual": residual(A, found.value, b),
        "scaled_residual": float(found.scaled_residual),
        "error": distance(found.value, z),
        "result": CODES[RESULTS[found.result]],
        "write_energy_j": float(found.stats.energy),
        "read_energy_j": read_energy(found.crossbar) * products,
    }


def distance(found, z):
    return float(np.linalg.norm(found - z) / np.linalg.norm(z))


def describe(A, b, z):
    """Figures of the system itself, and of its solution without arrays."""
    scaling = equilibrate(A)
    scaled = np.asarray(scaling.rows)[:, None] * A * np.asarray(scaling.columns)
    products, reached = digital_alone(A, b)
    return {
        "size": len(A),
        "condition": float(np.linalg.cond(A)),
        "condition_equilibrated": float(np.linalg.cond(scaled)),
        "numpy_residual": residual(A, np.linalg.solve(A, b), b),
        "numpy_error": distance(np.linalg.solve(A, b), z),
        "digital_gmres_products": products,
        "digital_gmres_residual": reached,
    }


def measure(seed, report):
    """One record per system, and one per system, device and method."""
    rows, systems = [], []
    report(
        f"{'device':9} {'method':10} {'slices':>6} {'analog':>7} {'digital':>7} "
        f"{'steps':>5} {'factor':>7} {'residual':>8} {'scaled':>7} {'error':>7} "
        f"{'write J':>8} {'read J':>8}  result"
    )
    for name, rhs in ((name, rhs) for name in MATRICES for rhs in ("ones", "normal")):
        A = np.asarray(read_matrix(f"{name}.mtx").todense(), np.float64)
        rng = np.random.default_rng(seed)
        if rhs == "ones":
            z = np.ones(len(A))
            b = A @ z
        else:
            b = rng.normal(size=len(A))
            z = np.linalg.solve(A, b)
        system = {"matrix": name, "rhs": rhs} | describe(A, b, z)
        systems.append(system)
        report(
            f"{name}, b {rhs}: condition {system['condition']:.2g}, equilibrated "
            f"{system['condition_equilibrated']:.2g}; NumPy "
            f"{system['numpy_residual']:.1e}, error {system['numpy_error']:.1e}; "
            "digital GMRES "
            f"{system['digital_gmres_residual']:.1e} in "
            f"{system['digital_gmres_products']} products"
        )
        for device, (method, solver, slices) in product(PRESETS, METHODS):
            found, row = solve(A, b, z, PRESETS[device], solver, slices, seed)
            if method == "fgmres":
                row["analog_alone"] = analog_alone(found, A, b, bool(np.all(A == A.T)))
            rows.append(
                {"matrix": name, "rhs": rhs, "device": device, "method": method} | row
            )
            alone = row.get("analog_alone", {}).items()
            report(
                f"{device:9} {method:10} {row['slices']:6} {row['analog_products']:7,} "
                f"{row['digital_products']:7} {row['iterations']:5} "
                f"{row['contraction']:7.2g} {row['residual']:8.1e} "
                f"{row['scaled_residual']:7.1e} {row['error']:7.1e} "
                f"{row['write_energy_j']:8.2g} {row['read_energy_j']:8.2g}  {row['result']}"
                + "".join(f"; {key} alone {value:.1e}" for key, value in alone)
            )
    return {"systems": systems, "rows": rows}


def main():
    parser = parser_of(__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", metavar="DIR", type=Path)
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    found = measure(options.seed, partial(print, flush=True))
    done = sum(row["result"] == "successful" for row in found["rows"])
    print(f"{done} of {len(found['rows'])} reached {RTOL}; the others say why not")
    if options.results:
        found |= {"seed": options.seed, "jax": jax.__version__}
        write_json(options.results / "solvers.json", found)


if __name__ == "__main__":
    main()
