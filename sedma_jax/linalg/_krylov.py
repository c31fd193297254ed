"""One cycle of flexible GMRES, shared by outer and inner solvers."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.lax as lax
import jax.numpy as jnp
import jax.scipy.linalg
from jaxtyping import Array, Bool, Float, Int

from ..kernels import safe_norm

Product = Callable[[Float[Array, " n"]], Float[Array, " n"]]
# Maps a residual to a correction, and to the number of analog products that it took.
Precondition = Callable[[Float[Array, " n"]], tuple[Float[Array, " n"], Int[Array, ""]]]


class Cycle(eqx.Module):
    """The result of a cycle.

    - `correction`: what to add to the solution.
    - `steps`: number of products with the matrix.
    - `used`: number of analog products of the preconditioner, in all steps.
    """

    correction: Float[Array, " n"]
    steps: Int[Array, ""]
    used: Int[Array, ""]


class _Arnoldi(eqx.Module):
    """State of a cycle: vectors so far, and the rotated least-squares problem.

    - `basis`, `searched`: `v_j` and `z_j`, one per row.
    - `triangle`, `rotated`: matrix and right-hand side of the triangular system.
    - `rotations`: cosine and sine of each Givens rotation.
    - `step`, `used`: as `steps` and `used` of `Cycle`, so far.
    - `broken`: whether there is no new direction to go on with.
    """

    basis: Float[Array, "steps1 n"]
    searched: Float[Array, "steps n"]
    triangle: Float[Array, "steps steps"]
    rotations: Float[Array, "steps 2"]
    rotated: Float[Array, " steps1"]
    step: Int[Array, ""]
    used: Int[Array, ""]
    broken: Bool[Array, ""]


def dot(matrix: Float[Array, "m n"], vector: Float[Array, " n"]) -> Float[Array, " m"]:
    return jnp.matmul(matrix, vector, precision=lax.Precision.HIGHEST)


def flexible_cycle(
    product: Product,
    precondition: Precondition,
    residual: Float[Array, " n"],
    target: Float[Array, ""],
    limit: Int[Array, ""],
    *,
    steps: int,
) -> Cycle:
    """Minimise the residual over the span of preconditioned Krylov vectors.

    FGMRES of Saad (1993, SIAM J. Sci. Comput. 14, 461, Algorithm 2.2): the vectors
    `z_j = M_j^-1 v_j` are kept, so that the preconditioner may differ from step to step.
    Vectors are made orthogonal by classical Gram-Schmidt done twice (Giraud et al. 2005,
    Numer. Math. 101, 87), and the least-squares problem is solved by Givens rotations.

    **Arguments:**

    - `product`: multiplies with the matrix, digitally.
    - `precondition`: solves for a vector approximately.
    - `residual`: the residual to reduce.
    - `target`: the norm of the residual at which the cycle ends.
    - `limit`: largest number of steps; `steps` bounds it too.
    - `steps`: number of vectors to allocate, at least 1. Static.
    """
    n, dtype = residual.size, residual.dtype
    length = safe_norm(residual)
    first = residual / jnp.where(length == 0, 1, length)
    none = jnp.zeros((), jnp.int32)
    start = _Arnoldi(
        basis=jnp.zeros((steps + 1, n), dtype).at[0].set(first),
        searched=jnp.zeros((steps, n), dtype),
        triangle=jnp.eye(steps, dtype=dtype),
        rotations=jnp.zeros((steps, 2), dtype),
        rotated=jnp.zeros(steps + 1, dtype).at[0].set(length),
        step=none,
        used=none,
        broken=length == 0,
    )

    def proceed(state: _Arnoldi) -> Bool[Array, ""]:
        left = jnp.abs(state.rotated[state.step])
        more = (state.step < limit) & (state.step < steps)
        return more & ~state.broken & (left > target)

    def step(state: _Arnoldi) -> _Arnoldi:
        j = state.step
        searched, used = precondition(state.basis[j])
        image = product(searched)
        size = safe_norm(image)
        column = jnp.zeros(steps + 1, dtype)
        for _ in range(2):
            part = dot(state.basis, image)
            image = image - dot(state.basis.T, part)
            column = column + part
        length = safe_norm(image)
        # The comparison is negated so that NaN ends the cycle.
        broken = ~(length > jnp.finfo(dtype).eps * size)
        column = column.at[j + 1].set(length)
        column, rotation = _rotate(column, state.rotations, j)
        pivot, g = column[j], state.rotated
        # If the product has no new direction at all, as with a singular matrix, the vector
        # is left out.
        lost = ~(jnp.abs(pivot) > 0)
        rows = lax.iota(jnp.int32, steps)
        unit = (rows == j).astype(dtype)
        kept = jnp.where(lost, unit, jnp.where(rows <= j, column[:steps], 0))
        return _Arnoldi(
            basis=state.basis.at[j + 1].set(image / jnp.where(broken, 1, length)),
            searched=state.searched.at[j].set(jnp.where(lost, 0, searched)),
            triangle=state.triangle.at[:, j].set(kept),
            rotations=state.rotations.at[j].set(rotation),
            rotated=g.at[j + 1].set(-rotation[1] * g[j]).at[j].set(rotation[0] * g[j]),
            step=j + 1,
            used=state.used + used,
            broken=broken,
        )

    end = lax.while_loop(proceed, step, start)
    rows = lax.iota(jnp.int32, steps)
    right = jnp.where(rows < end.step, end.rotated[:steps], 0)
    weights = jax.scipy.linalg.solve_triangular(end.triangle, right)
    return Cycle(dot(end.searched.T, weights), end.step, end.used)


def _rotate(
    column: Float[Array, " steps1"],
    rotations: Float[Array, "steps 2"],
    j: Int[Array, ""],
) -> tuple[Float[Array, " steps1"], Float[Array, " 2"]]:
    """Apply the rotations before `j` to a new column, and find rotation `j`."""

    def one(i: Int[Array, ""], column: Float[Array, " steps1"]) -> Float[Array, " steps1"]:
        (c, s), (a, b) = rotations[i], (column[i], column[i + 1])
        return column.at[i].set(c * a + s * b).at[i + 1].set(c * b - s * a)

    column = lax.fori_loop(0, j, one, column)
    length = jnp.hypot(column[j], column[j + 1])
    safe = jnp.where(length == 0, 1, length)
    rotation = jnp.stack([column[j] / safe, column[j + 1] / safe])
    # If both are zero the rotation is the identity.
    rotation = jnp.where(length == 0, jnp.array([1, 0], column.dtype), rotation)
    return column.at[j].set(length), rotation


def inner_solve(
    product: Product, residual: Float[Array, " n"], rtol: float, *, steps: int
) -> tuple[Float[Array, " n"], Int[Array, ""]]:
    """Solve by one cycle of GMRES with analog products alone; also return their number.

    **Arguments:**

    - `product`: the analog product.
    - `residual`: the right-hand side.
    - `rtol`: relative residual at which to stop, as the analog products see it.
    - `steps`: largest number of products. Static.
    """
    none = jnp.zeros((), jnp.int32)
    target = rtol * safe_norm(residual)
    limit = jnp.asarray(steps, jnp.int32)
    same = lambda vector: (vector, none)
    cycle = flexible_cycle(product, same, residual, target, limit, steps=steps)
    return cycle.correction, cycle.steps
