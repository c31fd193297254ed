"""Groups of a convolution as a block-diagonal matrix, and the tiles that it needs."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from .._tiling.partition import Partition, common_width, cut


def group_blocks(shape: tuple[int, int], groups: int) -> Bool[np.ndarray, "m n"]:
    """Where a block-diagonal matrix has its blocks."""
    m, n = shape
    return np.kron(np.eye(groups, dtype=bool), np.ones((m // groups, n), bool))


def block_diagonal(weight: Float[Array, "m k"], groups: int) -> Float[Array, "m n"]:
    """The block-diagonal matrix whose blocks lie one below the other in `weight`."""
    m, n = weight.shape
    blocks = weight.reshape(groups, m // groups, n)
    place = jnp.arange(groups)
    whole = jnp.zeros((groups, m // groups, groups, n), weight.dtype)
    return whole.at[place, :, place].set(blocks).reshape(m, groups * n)


def occupied(
    matrix: Float[Array, "m n"], blocks: Bool[np.ndarray, "m n"], array: tuple[int, int]
) -> Partition:
    """The tiles that hold a part of a block, whatever its values."""
    whole = cut(matrix, *array)
    (rows, cols), (m, n) = array, matrix.shape
    inputs, outputs = (i.ravel() for i in np.indices((-(-n // rows), -(-m // cols))))
    kept = np.array(
        [
            blocks[o * cols : (o + 1) * cols, i * rows : (i + 1) * rows].any()
            for i, o in zip(inputs, outputs, strict=True)
        ]
    )
    return Partition(
        tiles=whole.tiles[kept],
        inputs=jnp.asarray(inputs[kept], jnp.int32),
        outputs=jnp.asarray(outputs[kept], jnp.int32),
        shape=(m, n),
        width=common_width(inputs[kept], outputs[kept]),
    )
