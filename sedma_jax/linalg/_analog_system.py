"""What both solvers share: a system with an exact and an analog matrix, and progress."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
from jaxtyping import Array, Bool, Float, Int

from ..kernels import (
    FROM_ZERO,
    NUMBER,
    SHARE,
    check_counts,
    check_kind,
    check_numbers,
    power_of_two,
    relative_size,
    safe_norm,
)
from ._equilibration import Equilibration
from ._krylov import inner_solve


class AnalogSystem(eqx.Module):
    """A system `A z = b` whose scaled matrix `diag(r) A diag(c)` the arrays hold.

    - `exact`: `A`, whose products are digital.
    - `analog`: the programmed matrix.
    - `scaling`: `r` and `c`; None if `A` itself is programmed.
    """

    exact: lx.AbstractLinearOperator
    analog: lx.AbstractLinearOperator
    scaling: Equilibration | None

    @property
    def T(self) -> "AnalogSystem":
        """The transposed system."""
        scaling = None if self.scaling is None else self.scaling.T
        return AnalogSystem(self.exact.transpose(), self.analog.transpose(), scaling)

    def rows(self, residual: Float[Array, " n"]) -> Float[Array, " n"]:
        """Turn a residual of `A` into one of the scaled matrix."""
        if self.scaling is None:
            return residual
        return residual * self.scaling.rows.astype(residual.dtype)

    def columns(self, solution: Float[Array, " n"]) -> Float[Array, " n"]:
        """Turn a solution of the scaled system into one of `A`."""
        if self.scaling is None:
            return solution
        return solution * self.scaling.columns.astype(solution.dtype)

    def product(self, vector: Float[Array, " n"]) -> Float[Array, " n"]:
        """A digital product with the scaled matrix."""
        return self.rows(self.exact.mv(self.columns(vector)))

    def analog_product(self, vector: Float[Array, " n"]) -> Float[Array, " n"]:
        """An analog product with the scaled matrix."""
        structure = self.analog.in_structure()
        return self.analog.mv(vector.astype(structure.dtype)).astype(vector.dtype)

    def analog_solve(
        self, residual: Float[Array, " n"], rtol: float, steps: int
    ) -> tuple[Float[Array, " n"], Int[Array, ""]]:
        """Solve the scaled system by analog products alone; also return their number."""
        return inner_solve(self.analog_product, residual, rtol, steps=steps)


class Progress(eqx.Module):
    """The state of a solver.

    - `solution`, `residual`: the current ones, of `A`.
    - `best`, `lowest`: the solution with the smallest scaled residual so far, and its
        residual.
    - `steps`, `analog`, `digital`: numbers of outer iterations, analog and digital
        products.
    - `idle`: outer iterations, or cycles of them, without progress.
    """

    solution: Float[Array, " n"]
    residual: Float[Array, " n"]
    best: Float[Array, " n"]
    lowest: Float[Array, " n"]
    steps: Int[Array, ""]
    analog: Int[Array, ""]
    digital: Int[Array, ""]
    idle: Int[Array, ""]


def check_system(
    solver: Any, operator: lx.AbstractLinearOperator, options: dict[str, Any]
) -> AnalogSystem:
    """The system of a solver and an operator: `AbstractLinearSolver.init` of both solvers.

    **Raises:**

    - `ValueError`: if the operator is not square, or does not map a real vector to a real
        vector; if `analog` or `scaling` has another size; if `rtol` is below the
        precision of the dtype; if a number of steps is below 1.
    """
    name = f"sedma_jax.linalg.{type(solver).__name__}"
    structure, out = operator.in_structure(), operator.out_structure()
    leaf = isinstance(structure, jax.ShapeDtypeStruct) and len(structure.shape) == 1
    if not leaf or not jnp.issubdtype(structure.dtype, jnp.floating):
        raise ValueError(
            f"`{name}` needs an operator from one real vector to another. Got input "
            f"structure {structure}. Flatten it with `jax.flatten_util.ravel_pytree`."
        )
    shape = (operator.out_size(), operator.in_size())
    if shape[0] != shape[1] or structure != out:
        raise ValueError(
            f"`{name}` needs a square operator of one dtype. Got {shape[0]} x {shape[1]}, "
            f"from {structure.dtype} to {out.dtype}. For least squares solve the normal "
            "equations, or take `lineax.LSMR` with a `CrossbarLinearOperator`."
        )
    wanted, remedy = "an operator", "`CrossbarLinearOperator(crossbar, key=key)` is one."
    check_kind(name, lx.AbstractLinearOperator, wanted, remedy, analog=solver.analog)
    scaling = solver.scaling
    sizes = (solver.analog.out_size(), solver.analog.in_size())
    lengths = shape if scaling is None else (scaling.rows.size, scaling.columns.size)
    if sizes != shape or lengths != shape:
        raise ValueError(
            f"`{name}` needs `analog` and `scaling` of the shape {shape} of the operator. "
            f"Got {sizes} and {lengths}. Program the matrix of the system to be solved."
        )
    if options.keys() - {"y0"}:
        raise ValueError(
            f"`{name}` takes one option, `y0`, the solution to start from. "
            f"Got {sorted(options)}. Settings are fields of the solver."
        )
    check_tolerance(name, solver.rtol, structure.dtype)
    for field in ("max_steps", "inner_steps", "restart", "patience"):
        count = getattr(solver, field, None)
        if count is not None:
            remedy = "It is a number of steps."
            check_counts(name, 1, 2**31 - 1, remedy, **{field: count})
    remedy = "It is an absolute residual."
    check_numbers(name, FROM_ZERO, remedy, atol=solver.atol)
    for field in ("inner_rtol", "slowest"):
        share = {field: getattr(solver, field, None)}
        check_numbers(name, SHARE, "It is a share of the residual.", **share)
    return AnalogSystem(operator, solver.analog, scaling)


def check_tolerance(name: str, rtol: float, dtype: Any) -> None:
    """Refuse a tolerance that residuals computed in `dtype` cannot show."""
    least = 8 * float(jnp.finfo(dtype).eps)
    check_numbers(name, NUMBER, "It is a relative residual.", rtol=rtol)
    if not least <= rtol < 1:
        raise ValueError(
            f"`{name}` needs {least:.2g} <= rtol < 1 in {jnp.dtype(dtype)}. Got "
            f"{rtol=}. For smaller ones compute residuals in double precision: "
            "`jax.config.update('jax_enable_x64', True)`, and a matrix in float64."
        )


class Start(eqx.Module):
    """How a solver begins: with `b` divided by a power of two, so that its size is near 1.

    - `unit`: that power of two.
    - `vector`: `b / unit`.
    - `progress`: the initial state, of the system with `vector`.
    - `scaled`: norm of its scaled residual.
    """

    unit: Float[Array, ""]
    vector: Float[Array, " n"]
    progress: Progress
    scaled: Float[Array, ""]


def begin(
    system: AnalogSystem, vector: Float[Array, " n"], options: dict[str, Any]
) -> Start:
    """Begin from `options["y0"]`, or from zero.

    `z` is proportional to `b`; without the unit the squares of a `b` of 1e-20, or of 1e20,
    would leave the range of float32.
    """
    given = options.get("y0")
    unit = power_of_two(vector)
    vector = vector / unit
    solution, residual, digital = jnp.zeros_like(vector), vector, 0
    if given is not None:
        first = jnp.asarray(given, vector.dtype) / unit
        # A start that is out of range beside `b` is as good as none.
        solution = jnp.where(jnp.all(jnp.isfinite(first)), first, solution)
        residual, digital = vector - system.exact.mv(solution), 1
    scaled = safe_norm(system.rows(residual))
    none = jnp.zeros((), jnp.int32)
    start = Progress(
        solution=solution,
        residual=residual,
        best=solution,
        lowest=residual,
        steps=none,
        analog=none,
        digital=none + digital,
        idle=none,
    )
    return Start(unit, vector, start, scaled)


def relative_residuals(
    system: AnalogSystem, residual: Float[Array, " n"], vector: Float[Array, " n"]
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Relative norms of the residual of `A` and of that of the scaled matrix."""
    scaled = relative_size(system.rows(residual), system.rows(vector))
    return relative_size(residual, vector), scaled


def excess(
    system: AnalogSystem,
    residual: Float[Array, " n"],
    vector: Float[Array, " n"],
    rtol: float,
    atol: float | Float[Array, ""],
) -> Float[Array, ""]:
    """The larger relative residual over the allowed one; up to 1 means converged."""
    size = safe_norm(vector)
    allowed = rtol + atol / jnp.where(size == 0, 1, size)
    return jnp.maximum(*relative_residuals(system, residual, vector)) / allowed


def advance(
    system: AnalogSystem,
    vector: Float[Array, " n"],
    before: Progress,
    correction: Float[Array, " n"],
    *,
    steps: Int[Array, ""] | int,
    analog: Int[Array, ""],
    digital: Int[Array, ""] | int,
    gain: float,
) -> Progress:
    """Correct the solution, compute its residual digitally, and count.

    - `gain`: progress means that the smallest residual falls below this factor of itself.
    """
    solution = before.solution + system.columns(correction)
    residual = vector - system.exact.mv(solution)
    scaled = safe_norm(system.rows(residual))
    least = safe_norm(system.rows(before.lowest))
    better = scaled < least
    return Progress(
        solution=solution,
        residual=residual,
        best=jnp.where(better, solution, before.best),
        lowest=jnp.where(better, residual, before.lowest),
        steps=before.steps + steps,
        analog=before.analog + analog,
        digital=before.digital + digital + 1,
        idle=jnp.where(scaled < gain * least, 0, before.idle + 1),
    )


def conclude(
    system: AnalogSystem,
    end: Progress,
    start: Start,
    converged: Bool[Array, ""],
    stalled: Bool[Array, ""],
    max_steps: int,
) -> tuple[Float[Array, " n"], lx.RESULTS, dict[str, Any]]:
    """The return value of `compute`: the last solution if converged, else the best one."""
    scaled = start.scaled
    value = jnp.where(converged, end.solution, end.best)
    residual = jnp.where(converged, end.residual, end.lowest)
    residuals = relative_residuals(system, residual, start.vector)
    failed = lx.RESULTS.where(stalled, lx.RESULTS.stagnation, lx.RESULTS.max_steps_reached)
    result = lx.RESULTS.where(converged, lx.RESULTS.successful, failed)
    held = value * start.unit
    # Of what has not converged the reason is told, wherever its best iterate went.
    lost = converged & ~_in_range(held, value)
    result = lx.RESULTS.where(lost, lx.RESULTS.breakdown, result)
    result = lx.RESULTS.where(jnp.isfinite(scaled), result, lx.RESULTS.nonfinite_input)
    # The contraction follows the last residual, not the best: it is above one if steps
    # diverge.
    last = safe_norm(system.rows(end.residual))
    reduction = last / jnp.where(scaled == 0, 1, scaled)
    contraction = reduction ** (1 / jnp.maximum(end.steps, 1).astype(reduction.dtype))
    stats = {
        "num_steps": end.steps,
        "max_steps": max_steps,
        "analog_products": end.analog,
        "digital_products": end.digital,
        "residual": residuals[0],
        "scaled_residual": residuals[1],
        "contraction": contraction,
    }
    return held, result, stats


def _in_range(held: Float[Array, " n"], value: Float[Array, " n"]) -> Bool[Array, ""]:
    """Whether a solution kept its digits when it was multiplied by the unit of `b`."""
    info = jnp.finfo(held.dtype)
    top = jnp.max(jnp.abs(held))
    zero = jnp.all(value == 0)
    return zero | ((top >= info.tiny / info.eps) & (top <= info.max))
