"""Cut a matrix into tiles that fit crossbar arrays, and join them again.

A tile holds its part of `A` transposed: word lines (rows) carry inputs, bit lines (cols)
carry outputs. Tile `(j, i)` of the grid holds `A[i cols:(i+1) cols, j rows:(j+1) rows].T`,
padded with zeros.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float


def grid_shape(shape: tuple[int, int], rows: int, cols: int) -> tuple[int, int]:
    """Number of tiles along the inputs and the outputs of an `m x n` matrix.

    **Arguments:**

    - `shape`: outputs and inputs, `(m, n)`.
    - `rows`, `cols`: word lines (inputs) and bit lines (outputs) of one array, from 1.

    **Example:**

        >>> sj.kernels.grid_shape((5, 7), rows=4, cols=4)  # 7 inputs, 5 outputs
        (2, 2)
    """
    m, n = shape
    return -(-n // rows), -(-m // cols)


def cut_tiles(
    matrix: Float[Array, "m n"], rows: int, cols: int
) -> Float[Array, "inputs outputs {rows} {cols}"]:
    """Cut a matrix into a grid of tiles of `rows` inputs and `cols` outputs.

    **Example:**

        >>> tiles = sj.kernels.cut_tiles(jnp.array([[1.0, 2.0, 3.0]]), rows=2, cols=1)
        >>> print(tiles[:, 0, :, 0])  # two tiles of two inputs, padded
        [[1. 2.]
         [3. 0.]]
    """
    m, n = matrix.shape
    inputs, outputs = grid_shape((m, n), rows, cols)
    padded = jnp.pad(matrix, ((0, outputs * cols - m), (0, inputs * rows - n)))
    blocks = padded.reshape(outputs, cols, inputs, rows)
    return blocks.transpose(2, 0, 3, 1)


def join_tiles(
    tiles: Float[Array, "inputs outputs rows cols"], shape: tuple[int, int]
) -> Float[Array, "m n"]:
    """Join the tiles of an `m x n` matrix; the inverse of `cut_tiles`.

    **Example:**

        >>> matrix = jnp.arange(15.0).reshape(5, 3)
        >>> tiles = sj.kernels.cut_tiles(matrix, rows=2, cols=2)
        >>> bool(jnp.all(sj.kernels.join_tiles(tiles, (5, 3)) == matrix))
        True
    """
    inputs, outputs, rows, cols = tiles.shape
    m, n = shape
    matrix = tiles.transpose(1, 3, 0, 2).reshape(outputs * cols, inputs * rows)
    return matrix[:m, :n]


def split_inputs(
    x: Float[Array, "batch n"], rows: int
) -> Float[Array, "inputs batch {rows}"]:
    """Cut vectors into the parts that drive each row of tiles, padded with zeros.

    **Example:**

        >>> print(sj.kernels.split_inputs(jnp.array([[1.0, 2.0, 3.0]]), rows=2)[:, 0])
        [[1. 2.]
         [3. 0.]]
    """
    batch, n = x.shape
    inputs = -(-n // rows)
    padded = jnp.pad(x, ((0, 0), (0, inputs * rows - n)))
    return padded.reshape(batch, inputs, rows).transpose(1, 0, 2)


def join_outputs(
    parts: Float[Array, "outputs batch cols"], m: int
) -> Float[Array, "batch {m}"]:
    """Concatenate the outputs of each column of tiles, without padding.

    **Example:**

        >>> parts = jnp.array([[[1.0, 2.0]], [[3.0, 0.0]]])  # two tiles of two outputs
        >>> print(sj.kernels.join_outputs(parts, 3))
        [[1. 2. 3.]]
    """
    outputs, batch, cols = parts.shape
    return parts.transpose(1, 0, 2).reshape(batch, outputs * cols)[:, :m]
