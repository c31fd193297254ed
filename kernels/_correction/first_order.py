"""Correct a noisy matrix-vector product to first order.

With `A~ = A + E` on the crossbar and `x~ = x + e` in the encoded input,

    p = A x~ + A~ x - A~ x~ = A x - E e                  (MELISO+ 2025, arXiv 2508.13298)

contains only the product of the two errors; `denoise` is the second-order correction.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from .._numerics.norms import relative_size, safe_norm


def first_order_inputs(
    x: Float[Array, "batch n"], encoded: Float[Array, "batch n"]
) -> Float[Array, "twice_batch n"]:
    """What the crossbar multiplies for `correct_first_order`: `x`, then `x - x~`.

    **Arguments:**

    - `x`: the inputs.
    - `encoded`: `x~`, the inputs as cells hold them.

    **Example:**

        >>> x, encoded = jnp.array([[1.0, 2.0]]), jnp.array([[1.0, 1.5]])
        >>> print(sj.kernels.first_order_inputs(x, encoded))
        [[1.  2. ]
         [0.  0.5]]
    """
    return jnp.concatenate([x, x - encoded])


def correct_first_order(
    analog: Float[Array, "twice_batch m"], exact_encoded: Float[Array, "batch m"]
) -> tuple[Float[Array, "batch m"], Float[Array, "batch m"]]:
    """The plain product `A~ x`, and the one corrected to first order, `A x~ + A~ (x - x~)`.

    **Arguments:**

    - `analog`: products of the crossbar with `first_order_inputs(x, x~)`, in its order.
    - `exact_encoded`: `A x~`, the exact matrix times the input as cells hold it.

    **Example:**

        >>> x, encoded = jnp.array([[1.0]]), jnp.array([[0.9]])
        >>> analog = 2.2 * sj.kernels.first_order_inputs(x, encoded)  # A~ = 2.2, A = 2
        >>> raw, p = sj.kernels.correct_first_order(analog, 2.0 * encoded)
        >>> print(np.asarray([raw[0, 0], p[0, 0]]).round(3))  # off by 10 %, by 10 % of 10 %
        [2.2  2.02]
    """
    raw, difference = jnp.split(analog, 2)
    return raw, exact_encoded + difference


def product_noise(
    raw: Float[Array, " m"],
    p: Float[Array, " m"],
    x: Float[Array, " n"],
    error: Float[Array, " n"],
) -> Float[Array, ""]:
    """Variance of an entry of a corrected product, from the two products measured for it.

    The plain product and the corrected one differ by `raw - p = E x + E e`, while the
    error of `p` is `-E e`. If the errors of the cells are independent of `x` and `e`, the
    variances of the two have the ratio `|e|^2 / |x|^2` for any device, mapping and
    effects. Differences of neighbours exclude what is common to all rows, such as a bias
    of the cells, or drift.

    **Arguments:**

    - `raw`: the plain analog product `A~ x`.
    - `p`: the product corrected to first order.
    - `x`, `error`: the input, and its encoding error `x - x~`.

    **Returns:**

    The mean variance of the entries; zero below two entries.

    **Example:**

        >>> x, error = jnp.ones(4), 0.1 * jnp.array([1.0, -1.0, 1.0, -1.0])
        >>> E = jr.normal(jr.key(0), (1000, 4))  # errors of the cells of a matrix of zeros
        >>> variance = sj.kernels.product_noise(E @ x, -E @ error, x, error)
        >>> bool(abs(variance / 0.04 - 1) < 0.3)  # |error|**2, the variance of `p`
        True
    """
    steps = jnp.diff(raw - p)
    ratio = relative_size(error, x)
    return 0.5 * (ratio * safe_norm(steps)) ** 2 / max(steps.size, 1)
