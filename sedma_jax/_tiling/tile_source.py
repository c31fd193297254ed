"""Cut a matrix into tiles a few at a time, in memory that does not grow with it."""

import functools
import hashlib
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.core
import jax.numpy as jnp
import numpy as np

from .._functions import same_function
from ..kernels import global_scale, grid_shape
from .native import as_floats, check_dtype, native_array, programmed_dtype
from .number_range import check_range
from .partition import (
    Matrix,
    Partition,
    Sparse,
    check_finite,
    check_grid,
    checked_sparse,
)

_HASHED_AT_ONCE = 2**24  # bytes


@runtime_checkable
class SlicedMatrix(Protocol):
    """A dense matrix that is read by slices `matrix[a:b, c:d]`, such as a file."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> Any: ...

    def __getitem__(self, item: Any, /) -> Any: ...


class TileSource(eqx.Module):
    """A matrix that gives its tiles on demand.

    - `shape`, `dtype`: of the matrix as it is programmed.
    - `array`: word lines and bit lines of one array.
    - `inputs`, `outputs`: place of each stored tile, in the order of `Partition`.
    - `cut`: the tiles at some positions of that order, `(count, rows, cols)`.
    - `largest`: the largest magnitude in the matrix.
    - `digest`: 256 bits that tell this matrix from another.
    """

    shape: tuple[int, int]
    dtype: np.dtype
    array: tuple[int, int]
    inputs: np.ndarray
    outputs: np.ndarray
    cut: Callable[[np.ndarray], np.ndarray]
    largest: Callable[[], float]
    digest: Callable[[], str]

    def partition(self, positions: np.ndarray, count: int) -> Partition:
        """The tiles at `positions`, and tiles of no use up to `count`.

        These lie outside of the grid, to the right of its outputs: programming finds no
        cell of theirs in use, and their products are added to no output.
        """
        rows, cols = self.array
        spare = count - len(positions)
        outside = grid_shape(self.shape, rows, cols)[1]
        tiles = np.zeros((count, rows, cols), self.dtype)
        tiles[: len(positions)] = self.cut(positions)
        inputs = np.pad(self.inputs[positions], (0, spare))
        outputs = np.pad(self.outputs[positions], (0, spare), constant_values=outside)
        return Partition(
            tiles=jnp.asarray(tiles),
            inputs=jnp.asarray(inputs, jnp.int32),
            outputs=jnp.asarray(outputs, jnp.int32),
            shape=self.shape,
        )

    def local_scaling(self, scaling: Callable) -> Callable:
        """The same scaling for some tiles of the matrix as for all of them."""
        one = jax.ShapeDtypeStruct((1, *self.array), self.dtype)
        if not same_function(scaling, global_scale, one):
            return scaling
        # A pytree whose leaf is traced: another matrix compiles nothing anew.
        largest = jnp.asarray(self.largest() or 1.0, self.dtype)
        return jax.tree_util.Partial(_constant_scale, scale=largest)


def _constant_scale(tiles, scale):
    return jnp.full((tiles.shape[0], tiles.shape[2]), scale, tiles.dtype)


def tile_source(matrix: Matrix | SlicedMatrix, rows: int, cols: int) -> TileSource:
    """Check what can be checked of a matrix without reading it, and prepare to cut it.

    **Arguments:**

    - `matrix`: scipy sparse or BCOO, or anything with `shape`, `dtype` and slices
        `matrix[a:b, c:d]`, such as an array of NumPy or JAX, or `numpy.memmap`. Of the
        latter kind only the slices in use are read, and checked as they are read.
    - `rows`, `cols`: word lines and bit lines of one array.

    **Raises:**

    - `ValueError`: as `program` does.
    """
    check_grid(rows, cols)
    if isinstance(matrix, Sparse):
        return _sparse_source(matrix, rows, cols)
    if isinstance(matrix, jax.core.Tracer):
        raise ValueError(
            "A streamed `A` needs to be known, since it is read piece by piece. Got a "
            "traced array. Stream it outside `jit`, or call `program`."
        )
    sliced = hasattr(matrix, "shape") and hasattr(matrix, "dtype")
    if isinstance(matrix, jax.Array) or not sliced:
        matrix = np.asarray(native_array(matrix, "A"))
    if len(matrix.shape) != 2 or 0 in matrix.shape:
        raise ValueError(
            "`A` needs 2 dimensions and at least one entry. "
            f"Got shape {tuple(matrix.shape)}. Reshape it."
        )
    check_dtype(matrix.dtype, "A")
    return _dense_source(matrix, rows, cols)


def _dense_source(matrix, rows, cols):
    m, n = (int(s) for s in matrix.shape)
    shape = (m, n)
    check_grid(rows, cols, shape)
    dtype = programmed_dtype(matrix.dtype)
    inputs, outputs = (i.ravel() for i in np.indices(grid_shape(shape, rows, cols)))

    def cut(positions):
        tiles = np.zeros((len(positions), rows, cols), dtype)
        for tile, j, i in zip(tiles, inputs[positions], outputs[positions], strict=True):
            block = matrix[i * cols : (i + 1) * cols, j * rows : (j + 1) * rows]
            block = np.asarray(as_floats(native_array(block, "A"), "A"))
            check_finite(block, "A")
            check_range(block, "A", dtype, largest=largest)
            tile[: block.shape[1], : block.shape[0]] = block.T
        return tiles

    def slabs():
        step = max(1, _HASHED_AT_ONCE // (n * matrix.dtype.itemsize))
        for start in range(0, m, step):
            yield np.asarray(native_array(matrix[start : start + step], "A"))

    @functools.cache  # every tile whose numbers vanish asks, and it reads all of them
    def largest():
        # A slab that overflows is refused when its tile is cut.
        with np.errstate(over="ignore"):
            return max(float(np.max(np.abs(slab.astype(dtype)))) for slab in slabs())

    def digest():
        native = np.dtype(matrix.dtype).newbyteorder("=")
        hashed = hashlib.blake2b(f"{shape} {native}".encode(), digest_size=32)
        for slab in slabs():
            hashed.update(slab.view(np.uint8).data)
        return hashed.hexdigest()

    return TileSource(
        shape=shape,
        dtype=dtype,
        array=(rows, cols),
        inputs=inputs,
        outputs=outputs,
        cut=cut,
        largest=largest,
        digest=digest,
    )


def _sparse_source(matrix, rows, cols):
    m, n = (int(s) for s in matrix.shape)
    shape = (m, n)
    check_grid(rows, cols, shape)
    matrix = checked_sparse(matrix)
    row, col, data = matrix.row, matrix.col, matrix.data
    dtype = programmed_dtype(data.dtype)
    count = grid_shape(shape, rows, cols)[1]
    place = (col // rows).astype(np.int64) * count + row // cols
    order = np.argsort(place, kind="stable")
    row, col, data = row[order], col[order], data[order]
    index, start = np.unique(place[order], return_index=True)
    ends = np.append(start, len(data))
    row, col = (row % cols).astype(np.int32), (col % rows).astype(np.int32)

    def cut(positions):
        tiles = np.zeros((len(positions), rows, cols), dtype)
        for tile, position in zip(tiles, positions, strict=True):
            entries = slice(ends[position], ends[position + 1])
            tile[col[entries], row[entries]] = data[entries]
        return tiles

    def digest():
        text = f"{shape} {data.dtype} {rows} {cols}"
        hashed = hashlib.blake2b(text.encode(), digest_size=32)
        for part in (index, ends, row, col, data):
            hashed.update(np.ascontiguousarray(part).data)
        return hashed.hexdigest()

    return TileSource(
        shape=shape,
        dtype=dtype,
        array=(rows, cols),
        inputs=index // count,
        outputs=index % count,
        cut=cut,
        largest=lambda: float(np.max(np.abs(data.astype(dtype)), initial=0)),
        digest=digest,
    )
