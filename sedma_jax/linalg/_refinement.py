"""Iterative refinement with an analog inner solve."""

from typing import Any

import jax.lax as lax
import jax.numpy as jnp
import lineax as lx
from jaxtyping import Array, Bool, Float

from ._analog_system import (
    AnalogSystem,
    Progress,
    advance,
    begin,
    check_system,
    conclude,
    excess,
)
from ._equilibration import Equilibration


class IterativeRefinement(lx.AbstractLinearSolver):
    """Solve on the arrays, compute the residual digitally, and repeat.

    Step `k` solves `A~ d = b - A z_k` by GMRES with analog products alone, and adds `d`
    (mixed-precision in-memory computing: Le Gallo et al. 2018, Nature Electronics 1,
    246). If the arrays hold `A~ = A + E` and inner solves are exact, each step multiplies
    the residual by `E A~^-1`. Steps converge if its spectral radius is below one, which
    takes about `cond(A) |E| / |A| < 1`. If it is not, the solver stops with the code
    `stagnation` and the best solution so far.

    `lineax.Solution.stats` has `num_steps`, `analog_products`, `digital_products`, the
    digital `residual` and `scaled_residual`, relative to `b`, and `contraction`, the mean
    factor by which a step multiplied the residual.

    - `analog`: the programmed matrix, e.g. a `CrossbarLinearOperator`; that of
        `diag(r) A diag(c)` if there is `scaling`.
    - `rtol`, `atol`: the solver is done at `|b - A z| <= rtol |b| + atol`; with `scaling`
        the relative residual of the scaled system has to be as small too.
    - `scaling`: factors from `equilibrate`.
    - `max_steps`: largest number of corrections.
    - `inner_steps`: largest number of analog products per correction; by default the
        number of unknowns, up to 200.
    - `inner_rtol`: relative residual at which an inner solve ends, as the arrays see it.
        A value below the contraction gains nothing.
    - `patience`: corrections in a row that may fail to lower the least residual by 5 %.

    **Example:**

        >>> import lineax as lx
        >>> A, b = jnp.array([[4.0, 1.0], [1.0, 3.0]]), jnp.array([1.0, 2.0])
        >>> crossbar, _ = sj.program(A, "epiram", array=2, key=jr.key(0))
        >>> analog = sj.linalg.CrossbarLinearOperator(crossbar, key=jr.key(1))
        >>> solver = sj.linalg.IterativeRefinement(analog, rtol=1e-5)
        >>> stats = lx.linear_solve(lx.MatrixLinearOperator(A), b, solver).stats
        >>> bool(stats["residual"] <= 1e-5), bool(stats["contraction"] < 0.1)
        (True, True)
    """

    analog: lx.AbstractLinearOperator
    rtol: float = 1e-10
    atol: float = 0.0
    scaling: Equilibration | None = None
    max_steps: int = 100
    inner_steps: int | None = None
    inner_rtol: float = 0.01
    patience: int = 4

    def init(
        self, operator: lx.AbstractLinearOperator, options: dict[str, Any]
    ) -> AnalogSystem:
        return check_system(self, operator, options)

    def compute(
        self,
        state: AnalogSystem,
        vector: Float[Array, " n"],
        options: dict[str, Any],
    ) -> tuple[Float[Array, " n"], lx.RESULTS, dict[str, Any]]:
        inner = min(vector.size, 200) if self.inner_steps is None else self.inner_steps
        start = begin(state, vector, options)
        vector, atol = start.vector, self.atol / start.unit

        def converged(now: Progress) -> Bool[Array, ""]:
            return excess(state, now.residual, vector, self.rtol, atol) <= 1

        def proceed(now: Progress) -> Bool[Array, ""]:
            more = (now.steps < self.max_steps) & (now.idle < self.patience)
            return more & ~converged(now) & jnp.all(jnp.isfinite(now.residual))

        def step(now: Progress) -> Progress:
            residual = state.rows(now.residual)
            correction, used = state.analog_solve(residual, self.inner_rtol, inner)
            return advance(
                state, vector, now, correction, steps=1, analog=used, digital=0, gain=0.95
            )

        end = lax.while_loop(proceed, step, start.progress)
        stalled = (end.idle >= self.patience) | ~jnp.all(jnp.isfinite(end.residual))
        return conclude(state, end, start, converged(end), stalled, self.max_steps)

    def transpose(
        self, state: AnalogSystem, options: dict[str, Any]
    ) -> tuple[AnalogSystem, dict[str, Any]]:
        return state.T, {}

    def conj(
        self, state: AnalogSystem, options: dict[str, Any]
    ) -> tuple[AnalogSystem, dict[str, Any]]:
        return state, options

    def assume_full_rank(self) -> bool:
        return True
