"""Conjugate gradients on crossbars, and iterative refinement around them.

    python docs/examples/conjugate_gradient.py [--device taox-hfox] [--out DIR] [--quick]

A stiffness matrix (bcsstk02) is programmed on one, two and three residual slices. lineax's
conjugate gradients take the crossbars for the matrix: they converge, but to the solution
of what the arrays hold. Refinement computes the residual digitally and lets conjugate
gradients solve for the correction, roughly. It gains digits where the error of the arrays
is small beside the inverse of the condition number, and none where it is not.

Writes `conjugate_gradient.png`. `--quick` leaves three slices out.
"""

import argparse
from pathlib import Path

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import scipy.io
from matplotlib.figure import Figure

import sedma_jax as sj

MATRIX = Path(__file__).parents[2] / "data" / "bcsstk02.mtx"


def refine(A, b, arrays, scale, steps=12):
    """Relative residuals of refinement, and the analog products up to each of them."""
    inner = lx.CG(rtol=1e-2, atol=0.0, norm=jnp.linalg.norm, max_steps=2 * len(b))

    @jax.jit
    def correct(z):
        residual = b - A @ z
        found = lx.linear_solve(arrays, scale * residual, inner, throw=False)
        return z + scale * found.value, found.stats["num_steps"]

    z, products = jnp.zeros_like(b), [0]
    residuals = [1.0]
    while len(products) <= steps and residuals[-1] > 1e-12:
        z, used = correct(z)
        products.append(products[-1] + int(used))
        residuals.append(float(jnp.linalg.norm(b - A @ z) / jnp.linalg.norm(b)))
    return products, residuals


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=sj.devices.PRESETS, default="taox-hfox")
    parser.add_argument("--out", type=Path, default=Path(), help="folder of the picture")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    A = np.asarray(scipy.io.mmread(MATRIX).todense(), np.float64)
    b = A @ np.ones(len(A))
    # Symmetric: rows and columns have the same factors.
    scale = np.asarray(sj.linalg.equilibrate(A).rows)
    scaled = scale[:, None] * A * scale
    print(f"condition number {np.linalg.cond(A):.3g}, scaled {np.linalg.cond(scaled):.3g}")

    figure = Figure(figsize=(5, 3.6), layout="constrained", dpi=150)
    axis = figure.subplots()
    colours = {1: "#E69F00", 2: "#0072B2", 3: "#009E73"}
    for slices in (1, 2) if options.quick else (1, 2, 3):
        colour = colours[slices]
        crossbar, _ = sj.program_residual(
            scaled,
            sj.devices.PRESETS[options.device],
            slices=slices,
            array=A.shape,
            key=jax.random.key(0),
        )
        arrays = sj.linalg.CrossbarLinearOperator(
            crossbar, tags=lx.positive_semidefinite_tag
        )
        alone = lx.linear_solve(
            arrays,
            jnp.asarray(scale * b),
            lx.CG(rtol=1e-10, atol=0.0, norm=jnp.linalg.norm, max_steps=4 * len(A)),
            throw=False,
        )
        found = scale * np.asarray(alone.value)
        floor = float(np.linalg.norm(b - A @ found) / np.linalg.norm(b))
        products, residuals = refine(jnp.asarray(A), jnp.asarray(b), arrays, scale)
        best = int(np.argmin(residuals))
        print(
            f"{slices} slices: conjugate gradients alone {floor:.1e} after "
            f"{int(alone.stats['num_steps'])} products; refined {residuals[best]:.1e} "
            f"after {products[best]} in {best} steps"
        )
        axis.plot(products, residuals, ".-", color=colour, label=f"{slices} slices")
        axis.axhline(floor, color=colour, linestyle=":")
    axis.set_yscale("log")
    axis.set_ylim(1e-16, 1e3)
    axis.set_xlabel("analog products")
    axis.set_ylabel("relative residual")
    axis.set_title("refined (lines), conjugate gradients alone (dotted)", fontsize=9)
    axis.legend(frameon=False)
    options.out.mkdir(parents=True, exist_ok=True)
    figure.savefig(options.out / "conjugate_gradient.png")
    print(f"wrote {options.out / 'conjugate_gradient.png'}")


if __name__ == "__main__":
    main()
