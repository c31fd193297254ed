"""Correct a noisy matrix-vector product to first and to second order.

With `A~ = A + E` on the crossbar and `x~ = x + e` in the encoded input,

    p = A x~ + A~ x - A~ x~ = A x - E e                  (MELISO+ 2025, arXiv 2508.13298)

leaves only the product of the two errors. Smoothness of the result then gives

    y* = argmin |y - p|^2 + lam |L y|^2 = (I + lam L^T L)^-1 p        (SEDMA, Eq. 5)

with `L` the first difference.
"""

import jax.lax as lax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ._device import Scalar


def correct_first_order(
    matrix: Float[Array, "m n"],
    programmed: Float[Array, "m n"],
    x: Float[Array, " n"],
    encoded: Float[Array, " n"],
) -> Float[Array, " m"]:
    """First-order correction `A x~ + A~ (x - x~)`, which reads each matrix once."""
    highest = lax.Precision.HIGHEST
    return jnp.matmul(matrix, encoded, precision=highest) + jnp.matmul(
        programmed, x - encoded, precision=highest
    )


def denoise(
    p: Float[Array, " n"], lam: Scalar, *, zero_end: bool = False
) -> Float[Array, " n"]:
    """Solve `(I + lam L^T L) y = p` in O(n).

    The matrix is symmetric, tridiagonal and positive definite. Derivatives in `p` and
    `lam` are those of the solution, by the implicit function theorem.

    **Arguments:**

    - `p`: the signal.
    - `lam`: weight of the roughness, from 0 up.
    - `zero_end`: with false, `L` is the `(n-1) x n` first difference, and a constant
        passes unchanged. With true, `L` is square with last row `e_n`, as in MELISO+:
        the signal continues as zero.

    **Returns:**

    The smooth signal.
    """
    lam = jnp.asarray(lam, p.dtype)
    degree = jnp.full(p.shape, 2, p.dtype).at[0].set(1)
    if not zero_end:
        degree = degree.at[-1].add(-1)

    def apply(y):
        neighbours = jnp.pad(y[1:], (0, 1)) + jnp.pad(y[:-1], (1, 0))
        return y + lam * (degree * y - neighbours)

    def solve(_, b):
        index = jnp.arange(b.size)
        return lax.linalg.tridiagonal_solve(
            jnp.where(index > 0, -lam, 0).astype(b.dtype),
            1 + lam * degree,
            jnp.where(index < b.size - 1, -lam, 0).astype(b.dtype),
            b[:, None],
        )[:, 0]

    return lax.custom_linear_solve(apply, p, solve, symmetric=True)
