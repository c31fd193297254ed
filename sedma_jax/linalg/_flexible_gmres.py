"""Flexible GMRES with an analog preconditioner."""

from typing import Any

import jax.lax as lax
import jax.numpy as jnp
import lineax as lx
from jaxtyping import Array, Bool, Float

from ..kernels import safe_norm
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
from ._krylov import flexible_cycle


class FlexibleGMRES(lx.AbstractLinearSolver):
    """GMRES on the exact matrix, preconditioned by an inner GMRES on the arrays.

    The method is FGMRES (Saad 1993, SIAM J. Sci. Comput. 14, 461). An outer step takes one
    digital product and an inner solve by analog ones, whose noise may differ from step to
    step. Unlike `IterativeRefinement` it copes with a few directions in which the device's
    error does not contract, at one outer step each. It stops with the code `stagnation` if
    a cycle of `restart` steps leaves more than the share `slowest` of the residual: then
    the arrays help too little for this condition number.

    `lineax.Solution.stats` has the entries that `IterativeRefinement` lists.

    - `analog`, `rtol`, `atol`, `scaling`: as in `IterativeRefinement`.
    - `max_steps`: largest number of outer steps, over all cycles.
    - `restart`: outer steps per cycle; two vectors are kept for each step.
    - `inner_steps`, `inner_rtol`: limits of an inner solve, as in `IterativeRefinement`.
    - `slowest`: share of the residual that a cycle may leave. The default is the rate at
        which the default `max_steps` gains ten decades.

    **Example:**

        >>> import lineax as lx
        >>> A, b = jnp.array([[4.0, 1.0], [1.0, 3.0]]), jnp.array([1.0, 2.0])
        >>> crossbar, _ = sj.program(A, "epiram", array=2, key=jr.key(0))
        >>> analog = sj.linalg.CrossbarLinearOperator(crossbar, key=jr.key(1))
        >>> solver = sj.linalg.FlexibleGMRES(analog, rtol=1e-5)
        >>> z = lx.linear_solve(lx.MatrixLinearOperator(A), b, solver).value
        >>> print(np.asarray(11 * z).round(2))  # A^-1 b = (1, 7) / 11
        [1. 7.]
    """

    analog: lx.AbstractLinearOperator
    rtol: float = 1e-10
    atol: float = 0.0
    scaling: Equilibration | None = None
    max_steps: int = 200
    restart: int = 20
    inner_steps: int | None = None
    inner_rtol: float = 0.01
    slowest: float = 0.1

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
        room = min(self.restart, vector.size, self.max_steps)
        start = begin(state, vector, options)
        vector, atol = start.vector, self.atol / start.unit
        precondition = lambda v: state.analog_solve(v, self.inner_rtol, inner)

        def surplus(now: Progress) -> Float[Array, ""]:
            return excess(state, now.residual, vector, self.rtol, atol)

        def converged(now: Progress) -> Bool[Array, ""]:
            return surplus(now) <= 1

        def proceed(now: Progress) -> Bool[Array, ""]:
            more = (now.steps < self.max_steps) & (now.idle < 1)
            return more & ~converged(now) & jnp.all(jnp.isfinite(now.residual))

        def step(now: Progress) -> Progress:
            residual = state.rows(now.residual)
            # The cycle sees the scaled norm only, so it aims at half of what is allowed.
            share = 0.5 / surplus(now)
            cycle = flexible_cycle(
                state.product,
                precondition,
                residual,
                share * safe_norm(residual),
                self.max_steps - now.steps,
                steps=room,
            )
            return advance(
                state,
                vector,
                now,
                cycle.correction,
                steps=cycle.steps,
                analog=cycle.used,
                digital=cycle.steps,
                gain=self.slowest,
            )

        end = lax.while_loop(proceed, step, start.progress)
        stalled = (end.idle >= 1) & (end.steps < self.max_steps)
        stalled = stalled | ~jnp.all(jnp.isfinite(end.residual))
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
