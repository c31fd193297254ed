"""Program a matrix and solve with it, in one call."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import lineax as lx
import numpy as np
import scipy.sparse
from jaxtyping import Array, Bool, Float, Int, Num, PRNGKeyArray

from .._arguments import check_progress, device_of
from .._crossbar.crossbar import Crossbar
from .._keys import check_key
from .._programming.options import Progress, programming_from
from .._programming.program_stats import ProgramStats
from .._programming.residual import program_residual
from .._tiling.partition import Matrix, Sparse, checked_array, checked_sparse
from ..kernels import Device, check_callable, relative_size, whole
from ._analog_system import check_tolerance
from ._crossbar_operator import CrossbarLinearOperator
from ._equilibration import Equilibration, equilibrate
from ._flexible_gmres import FlexibleGMRES
from ._refinement import IterativeRefinement
from ._sparse_operator import SparseLinearOperator

_Entries = scipy.sparse.coo_array


class RESULTS(lx.RESULTS):  # pyright: ignore[reportGeneralTypeIssues]
    """How `solve` ended: the codes of `lineax`, and three that say more than these.

    - `successful`: the residuals, computed digitally, are within `rtol`.
    - `not_contractive`: the error of the device is too large for the condition number.
    - `rounding_limited`: the residual is as small as the rounding errors in computing it.
    - `out_of_range`: the dtype of residuals cannot hold the solution.
    - `max_steps_reached`: the residual was still falling.

    **Example:**

        >>> from functools import partial
        >>> A, b = np.array([[4.0, 1.0], [1.0, 3.0]]), np.array([1.0, 2.0])
        >>> one_step = partial(sj.linalg.IterativeRefinement, max_steps=1)
        >>> options = dict(method=one_step, rtol=1e-6, array=2, throw=False, key=jr.key(0))
        >>> result = sj.linalg.solve(A, b, "epiram", **options).result
        >>> bool(result == sj.linalg.RESULTS.max_steps_reached)  # a step gains 100 x
        True
    """

    not_contractive = (
        "The device's error is too large for the condition number of this matrix: steps "
        "do not contract the residual. Allow more `slices`, scale the matrix "
        "(`equilibrated=True`), take `FlexibleGMRES` with a larger `restart`, or a device "
        "with smaller errors."
    )
    rounding_limited = (
        "The residual is as small as its own rounding errors, and no device lowers it "
        "further. Ask for a larger `rtol`; `|b|` is small beside `|A| |z|`, since the "
        "matrix is ill-conditioned for this `b`."
    )
    out_of_range = (
        "The solution lies beyond the range of the dtype, or so close to zero that its "
        "digits are lost. Rescale `A` or `b`, or use double precision: "
        "`jax.config.update('jax_enable_x64', True)`."
    )


class Solution(eqx.Module):
    """A solved system, and what the solution took.

    - `value`: `z`, in the dtype of residuals.
    - `result`: how the solve ended; `RESULTS[result]` is the text, empty for success.
    - `residual`: `|b - A z| / |b|`, computed digitally with the matrix as given.
    - `scaled_residual`: the same of the equilibrated system, which says more about `z`.
    - `analog_products`, `digital_products`: numbers of products with the programmed and
        with the given matrix.
    - `iterations`: number of outer iterations.
    - `contraction`: the mean factor by which an iteration multiplied the residual, at the
        last number of slices; above one if steps of refinement diverge.
    - `slices`: arrays that hold each tile.
    - `stats`: what programming took, each slice counted once.
    - `crossbar`, `scaling`: the programmed matrix, for solving with another `b`.

    **Example:**

        >>> A, b = np.array([[4.0, 1.0], [1.0, 3.0]]), np.array([1.0, 2.0])
        >>> solution = sj.linalg.solve(A, b, "epiram", rtol=1e-5, array=2, key=jr.key(0))
        >>> bool(jnp.all(jnp.abs(A @ solution.value - b) < 1e-4)), solution.slices
        (True, 1)
        >>> bool(solution.analog_products > solution.digital_products > 0)
        True
    """

    value: Float[Array, " n"]
    result: RESULTS
    residual: Float[Array, ""]
    scaled_residual: Float[Array, ""]
    analog_products: Int[Array, ""]
    digital_products: Int[Array, ""]
    iterations: Int[Array, ""]
    contraction: Float[Array, ""]
    slices: int = eqx.field(static=True)
    stats: ProgramStats
    crossbar: Crossbar
    scaling: Equilibration | None


def solve(
    A: Matrix,
    b: Num[Array | np.ndarray, " n"],
    device: Device | str,
    *,
    method: Callable[..., lx.AbstractLinearSolver] = FlexibleGMRES,
    rtol: float = 1e-10,
    slices: int | tuple[int, int] = (1, 4),
    equilibrated: bool = True,
    array: tuple[int, int] | int = (256, 256),
    progress: Progress | None = None,
    throw: bool = True,
    key: PRNGKeyArray,
) -> Solution:
    """Program a matrix and solve `A z = b` on the arrays, to digital accuracy.

    The matrix is equilibrated and programmed; analog products correct the solution, and
    the residual is computed digitally, in the default floating dtype. If the device's
    error does not contract, another residual slice is programmed beside the others
    (`program_residual`), and the solve goes on from the best solution so far.

    This function cannot be used inside `jit` or `grad`, since sizes depend on values; there
    use `lineax.linear_solve(A, b, FlexibleGMRES(analog, ...))`.

    **Arguments:**

    - `A`: square matrix, dense, scipy sparse or BCOO.
    - `b`: right-hand side.
    - `device`: the technology.
    - `method`: `FlexibleGMRES` or `IterativeRefinement`, or a `functools.partial` of one
        with other settings; it is called with `analog`, `rtol` and `scaling`.
    - `rtol`: relative residual to reach, at least 8 times the machine epsilon, both of the
        system as given and of the equilibrated one. The first alone says little about a
        badly scaled matrix, whose largest rows hide all others.
    - `slices`: arrays per tile: a number, or the first and the last number to try.
    - `equilibrated`: whether `diag(r) A diag(c)` is programmed, with factors from
        `equilibrate`, instead of `A`.
    - `array`, `progress`: as in `program`.
    - `throw`: raise an error unless the residual is reached; if false, `result` says so.
    - `key`: typed key of the randomness of programming and of reading.

    **Raises:**

    - `ValueError`: if `A` is not square, `b` does not fit, or one of them holds NaN or
        infinity; if a row or column of `A` is zero; if `rtol` is too small for the
        dtype, as 1e-10 is in single precision; if `slices` are below 1 or not in order.
    - `RuntimeError`: with the text of the result, if `throw` and the residual is not
        reached.

    **Example:**

        >>> A, b = np.array([[4.0, 1.0], [1.0, 3.0]]), np.array([1.0, 2.0])
        >>> solution = sj.linalg.solve(A, b, "epiram", rtol=1e-5, array=2, key=jr.key(0))
        >>> print(np.asarray(11 * solution.value).round(2))  # A^-1 b = (1, 7) / 11
        [1. 7.]
    """
    check_key(key)
    call = "linalg.solve"
    device = device_of(call, device)
    check_progress(call, progress)
    array = programming_from(call, None, array=array).array
    wanted = "a solver, such as `FlexibleGMRES`"
    if method not in (FlexibleGMRES, IterativeRefinement):
        check_callable(f"sedma_jax.{call}", wanted, "Or leave it out.", method=method)
    pair = (slices, slices) if whole(slices) is not None else slices
    counts = [whole(s) or 0 for s in pair] if isinstance(pair, tuple | list) else []
    first, last = counts if len(counts) == 2 else (0, 0)
    if not 1 <= first <= last:
        raise ValueError(
            "`sedma_jax.linalg.solve` needs `slices` of at least 1, the first to try not "
            f"above the last. Got {slices=}. The default is `slices=(1, 4)`."
        )
    dtype = jnp.result_type(float)
    check_tolerance("sedma_jax.linalg.solve", rtol, dtype)
    b = checked_array(b, "b", ndim=1).astype(dtype)
    matrix, operator = _exact(A, dtype)
    if operator.out_size() != operator.in_size() or b.size != operator.out_size():
        raise ValueError(
            "`sedma_jax.linalg.solve` needs a square `A` and as many entries in `b`. Got "
            f"{operator.out_size()} x {operator.in_size()} and {b.size}. For least squares "
            "solve the normal equations."
        )
    scaling = equilibrate(matrix) if equilibrated else None
    scaled = matrix if scaling is None else _scaled(matrix, scaling)
    program_key, read_key = jr.split(key)
    analog = digital = iterations = jnp.zeros((), jnp.int32)
    options, count = {}, first
    while True:
        crossbar, stats = program_residual(
            scaled, device, slices=count, array=array, progress=progress, key=program_key
        )
        # Numbers of the device become arrays, so that all devices share a compilation.
        held = jax.tree.map(jnp.asarray, crossbar)
        image = CrossbarLinearOperator(held, key=jr.fold_in(read_key, count))
        solver = method(analog=image, rtol=rtol, scaling=scaling)
        found = _linear_solve(operator, b, solver, options)
        analog += found.stats["analog_products"]
        digital += found.stats["digital_products"]
        iterations += found.stats["num_steps"]
        if count == last or not bool(found.result == lx.RESULTS.stagnation):
            break
        options, count = {"y0": found.value}, count + 1
    result = RESULTS.promote(found.result)
    if bool(result == RESULTS.breakdown):
        result = RESULTS.out_of_range
    if bool(result == RESULTS.stagnation):
        limited = bool(_at_rounding(operator, found.value, b, scaling, rtol))
        result = RESULTS.rounding_limited if limited else RESULTS.not_contractive
    if throw and not bool(result == RESULTS.successful):
        raise RuntimeError(
            f"`sedma_jax.linalg.solve` needs a residual of {rtol}. Got "
            f"{float(found.stats['residual']):.3g}, and of the scaled system "
            f"{float(found.stats['scaled_residual']):.3g}, after {int(iterations)} steps "
            f"with up to {count} slices; a step multiplied it by "
            f"{float(found.stats['contraction']):.3g}. {RESULTS[result]}"
        )
    return Solution(
        value=found.value,
        result=result,
        residual=found.stats["residual"],
        scaled_residual=found.stats["scaled_residual"],
        analog_products=analog,
        digital_products=digital,
        iterations=iterations,
        contraction=found.stats["contraction"],
        slices=count,
        stats=stats,
        crossbar=crossbar,
        scaling=scaling,
    )


@eqx.filter_jit
def _linear_solve(
    operator: lx.AbstractLinearOperator,
    b: Float[Array, " n"],
    solver: lx.AbstractLinearSolver,
    options: dict[str, Any],
) -> lx.Solution:
    return lx.linear_solve(operator, b, solver, options=options, throw=False)


def _exact(
    A: Matrix, dtype: Any
) -> tuple[_Entries | Float[Array, "m n"], lx.AbstractLinearOperator]:
    """The matrix in the dtype of residuals, and the operator of its digital products."""
    if isinstance(A, Sparse):
        entries = scipy.sparse.coo_array(checked_sparse(A), dtype=dtype)
        return entries, SparseLinearOperator.of(entries)
    dense = checked_array(A, "A", ndim=2).astype(dtype)
    return dense, lx.MatrixLinearOperator(dense)


def _scaled(
    A: _Entries | Float[Array, "m n"], scaling: Equilibration
) -> _Entries | Float[Array, "m n"]:
    # By exponents: a factor times an entry may leave the range on the way to a product that
    # is near 1.
    rows, columns = (
        np.frexp(np.asarray(factors))[1] - 1 for factors in (scaling.rows, scaling.columns)
    )
    if not isinstance(A, scipy.sparse.coo_array):
        return jnp.asarray(np.ldexp(np.asarray(A), rows[:, None] + columns[None]))
    scaled = A.copy()
    scaled.data = np.ldexp(A.data, rows[A.row] + columns[A.col])
    return scaled


@eqx.filter_jit
def _at_rounding(
    operator: lx.AbstractLinearOperator,
    value: Float[Array, " n"],
    b: Float[Array, " n"],
    scaling: Equilibration | None,
    rtol: float | Float[Array, ""],
) -> Bool[Array, ""]:
    """Whether a residual above `rtol` is within the rounding errors of computing it.

    These are at most `gamma(n + 1) (|A| |z| + |b|)`, entry by entry (Higham 2002,
    section 3.5).
    """
    residual = b - operator.mv(value)
    units = (b.size + 1) * jnp.finfo(b.dtype).eps / 2
    absolute = jax.tree.map(jnp.abs, operator)
    errors = units / (1 - units) * (absolute.mv(jnp.abs(value)) + jnp.abs(b))
    within = jnp.asarray(True)
    for rows in (jnp.ones_like(b), *(() if scaling is None else (scaling.rows,))):
        allowed = jnp.maximum(relative_size(rows * errors, rows * b), rtol)
        within = within & (relative_size(rows * residual, rows * b) <= allowed)
    return within
