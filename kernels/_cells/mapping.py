"""Map signed weights to the states of cells, and back.

Weights are first divided by a scale, so that they lie in [-1, 1]. A *differential pair*
holds the positive part in one cell and the negative part in another; the *offset* scheme
holds `(w + 1) / 2` in one cell and subtracts the current of a reference in mid-window.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float


def differential(
    weights: Float[Array, "rows cols"],
) -> Float[Array, "2 rows cols"]:
    """States of a positive and a negative cell for weights from -1 to 1.

    A state is the visible one, a fraction of the range of the read current: the cell that
    carries the weight has its magnitude, the other one is at the bottom of its window.

    **Example:**

        >>> print(sj.differential(jnp.array([[0.5, -1.0]]))[:, 0])  # a pair for each weight
        [[0.5 0. ]
         [0.  1. ]]
    """
    return jnp.stack([jnp.maximum(weights, 0), jnp.maximum(-weights, 0)])


def offset(weights: Float[Array, "rows cols"]) -> Float[Array, "1 rows cols"]:
    """States of one cell, `(w + 1) / 2`, for weights from -1 to 1: zero is mid-window.

    **Example:**

        >>> print(sj.offset(jnp.array([[0.5, -1.0, 0.0]]))[0])  # zero is mid-window
        [[0.75 0.   0.5 ]]
    """
    return (weights[None] + 1) / 2


def signed_weights(
    states: Float[Array, "polarity rows cols"],
) -> Float[Array, "rows cols"]:
    """Weights that one cell (`offset`) or a pair (`differential`) holds, from their states.

    **Example:**

        >>> weights = jnp.array([[0.5, -1.0]])
        >>> print(sj.kernels.signed_weights(sj.differential(weights)))
        [[ 0.5 -1. ]]
    """
    return 2 * states[0] - 1 if states.shape[0] == 1 else states[0] - states[1]


def global_scale(tiles: Float[Array, "tiles rows cols"]) -> Float[Array, "tiles cols"]:
    """One scale for the matrix: its largest magnitude.

    **Arguments:**

    - `tiles`: parts of the matrix, transposed, word lines first.

    **Returns:**

    A scale for each bit line, in the unit of the matrix; 0 where all is zero. Weights
    divided by it lie from -1 to 1.

    **Example:**

        >>> tiles = jnp.array([[[1.0, -2.0]], [[4.0, 3.0]]])  # two tiles of 1 x 2
        >>> print(sj.global_scale(tiles))
        [[4. 4.]
         [4. 4.]]
    """
    return _spread(jnp.max(jnp.abs(tiles), keepdims=True), tiles)


def tile_scale(tiles: Float[Array, "tiles rows cols"]) -> Float[Array, "tiles cols"]:
    """One scale per tile: its largest magnitude. Argument and result as of `global_scale`.

    **Example:**

        >>> tiles = jnp.array([[[1.0, -2.0]], [[4.0, 3.0]]])  # two tiles of 1 x 2
        >>> print(sj.tile_scale(tiles))
        [[2. 2.]
         [4. 4.]]
    """
    return _spread(jnp.max(jnp.abs(tiles), axis=(1, 2), keepdims=True), tiles)


def column_scale(tiles: Float[Array, "tiles rows cols"]) -> Float[Array, "tiles cols"]:
    """One scale per bit line: the largest magnitude on it.

    Argument and result as of `global_scale`. The error of a weight is a share of its scale,
    so that this one leaves the smallest errors.

    **Example:**

        >>> tiles = jnp.array([[[1.0, -2.0]], [[4.0, 3.0]]])  # two tiles of 1 x 2
        >>> print(sj.column_scale(tiles))
        [[1. 2.]
         [4. 3.]]
    """
    return _spread(jnp.max(jnp.abs(tiles), axis=1, keepdims=True), tiles)


def _spread(
    scale: Float[Array, "#tiles 1 #cols"], tiles: Float[Array, "tiles rows cols"]
) -> Float[Array, "tiles cols"]:
    # A column of zeros may have any scale but zero, by which weights are divided.
    scale = jnp.where(scale == 0, 1, scale).astype(tiles.dtype)
    return jnp.broadcast_to(scale[:, 0, :], (tiles.shape[0], tiles.shape[2]))
