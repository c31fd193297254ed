"""Correct a noisy matrix-vector product to first order.

With `A~ = A + E` on the crossbar and `x~ = x + e` in the encoded input,

    p = A x~ + A~ x - A~ x~ = A x - E e                  (MELISO+ 2025, arXiv 2508.13298)

leaves only the product of the two errors; `denoise` is the second order.
"""

import jax.lax as lax
import jax.numpy as jnp
from jaxtyping import Array, Float


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
