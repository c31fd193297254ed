"""Check a matrix and cut it into the tiles that crossbar arrays store."""

from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.core
import jax.dtypes
import jax.numpy as jnp
import numpy as np
import scipy.sparse
from jax.experimental import checkify, sparse as jax_sparse
from jaxtyping import Array, Float, Int, Num

from .._functions import aligned, on_device, on_host
from ..kernels import (
    Count,
    add_counts,
    as_count,
    batched_matvec,
    cut_tiles,
    grid_shape,
    join_outputs,
    join_tiles,
    multiply_count,
    split_inputs,
)
from .native import (
    as_floats,
    check_dtype,
    exactly,
    float_dtype,
    native_array,
    programmed_dtype,
)
from .number_range import check_range, surely_in_range

Vectors = Num[Array | np.ndarray, "*batch n"]
Sparse = scipy.sparse.sparray | scipy.sparse.spmatrix | jax_sparse.BCOO
Matrix = Num[Array | np.ndarray, "m n"] | Sparse
_FEW_ROWS = 2**20  # of a sparse matrix, whatever it holds


class Partition(eqx.Module):
    """The tiles of a matrix that are stored.

    Tile `t` holds `A[i cols:(i+1) cols, j rows:(j+1) rows].T` with `j = inputs[t]` and
    `i = outputs[t]`. Of a dense matrix every tile is stored, in the order of the grid; of
    a sparse one only those with a nonzero. From the first on, each `width` of them have
    the same inputs and outputs that follow one another.
    """

    tiles: Float[Array | np.ndarray, "tiles rows cols"]
    inputs: Int[Array | np.ndarray, " tiles"]
    outputs: Int[Array | np.ndarray, " tiles"]
    shape: tuple[int, int] = eqx.field(static=True)
    width: int = eqx.field(static=True, default=1)

    @property
    def grid(self) -> tuple[int, int]:
        """Tiles along the inputs and along the outputs, stored or not."""
        return grid_shape(self.shape, *self.tiles.shape[1:])

    @property
    def index(self) -> Count:
        """Place of each tile in the grid, which addresses its noise."""
        return grid_place(self.inputs, self.outputs, self.grid)


def grid_place(
    inputs: Int[Array | np.ndarray, " tiles"],
    outputs: Int[Array | np.ndarray, " tiles"],
    grid: tuple[int, int],
) -> Count:
    """Place of tiles in a grid whose number of tiles may exceed 32 bits."""
    if isinstance(inputs, np.ndarray):
        return as_count(inputs.astype(np.int64) * grid[1] + np.asarray(outputs))
    return add_counts(multiply_count(inputs, grid[1]), as_count(outputs))


def partition(matrix: Matrix, rows: int, cols: int) -> Partition:
    """Check a matrix and cut it into tiles of `rows` inputs and `cols` outputs.

    **Raises:**

    - `ValueError`: if the matrix is not two-dimensional, is empty, complex or not
        numeric, or holds NaN or infinity; or if a sparse matrix is traced.
    """
    check_grid(rows, cols)
    if isinstance(matrix, Sparse):
        return _partition_sparse(matrix, rows, cols)
    matrix = checked_array(matrix, "A", ndim=2)
    check_grid(rows, cols, matrix.shape)
    return cut(matrix, rows, cols)


def check_grid(rows: int, cols: int, shape: tuple[int, ...] = (1, 1)) -> None:
    """Refuse arrays of no cell, and sizes at which numbers of lines or cells would wrap.

    Lines are numbered in 32 bits, up to the end of the last tile; so are the cells of a
    pair of arrays. Tiles are not, see `grid_place`.
    """
    if rows < 1 or cols < 1:
        raise ValueError(
            "A crossbar array needs at least one row and one column. "
            f"Got array=({rows}, {cols})."
        )
    if rows * cols >= 2**30:
        raise ValueError(
            f"A crossbar array needs fewer than {2**30:,} cells, which are numbered in 32 "
            f"bits. Got array=({rows}, {cols}). Cut the matrix into smaller tiles."
        )
    if shape[0] + 2 * cols >= 2**31 or shape[1] + 2 * rows >= 2**31:
        raise ValueError(
            f"`A` needs fewer than {2**31:,} rows and columns, which are numbered in 32 "
            f"bits. Got shape {tuple(shape)}. Cut it into several matrices."
        )


def cut(matrix: Float[Array, "m n"], rows: int, cols: int) -> Partition:
    """`partition`, for a dense matrix that is checked already.

    A matrix that is known is cut on the host: a compiled cut would be a program per shape.
    """
    m, n = matrix.shape
    grid = grid_shape((m, n), rows, cols)
    inputs, outputs = (i.ravel().astype(np.int32) for i in np.indices(grid))
    if on_host(matrix):
        tiles = _tiles_on_host(np.asarray(matrix), grid, rows, cols)
        return Partition(
            tiles=tiles, inputs=inputs, outputs=outputs, shape=(m, n), width=grid[1]
        )
    tiles = _tiles(matrix, rows, cols)
    return Partition(
        tiles=tiles,
        inputs=jnp.asarray(inputs),
        outputs=jnp.asarray(outputs),
        shape=(m, n),
        width=grid[1],
    )


def _tiles_on_host(matrix: np.ndarray, grid: tuple[int, int], rows: int, cols: int):
    """`_tiles`, by NumPy: first the blocks of one row of arrays side by side, then each
    turned while the cache holds it, which takes half the time of one copy of all."""
    n = matrix.shape[1]
    inputs, outputs = grid
    tiles = aligned((inputs, outputs, rows, cols), matrix.dtype)
    lines = np.zeros((cols, inputs * rows), matrix.dtype)
    blocks = np.empty((inputs, cols, rows), matrix.dtype)
    for across in range(outputs):
        held = matrix[across * cols : (across + 1) * cols]
        if len(held) < cols or n < inputs * rows:
            lines[: len(held), :n], lines[len(held) :] = held, 0
            held = lines
        blocks[:] = held.reshape(cols, inputs, rows).transpose(1, 0, 2)
        tiles[:, across] = blocks.transpose(0, 2, 1)
    return tiles.reshape(-1, rows, cols)


@partial(jax.jit, static_argnums=(1, 2))
def _tiles(matrix, rows, cols):
    return cut_tiles(matrix, rows, cols).reshape(-1, rows, cols)


def checked_array(
    value,
    name: str,
    *,
    ndim: int | tuple[int, ...],
    vectors: bool = False,
    dtype: Any = None,
) -> Float[Array, "..."]:
    """Convert to a finite real floating array, or say what is wrong with it.

    Of `vectors` along the last axis each has to be within the range of the dtype, which is
    `dtype` if the caller converts the result to that.
    Inside `jit` the values are not known: NaN and infinity flow on, unless the caller
    wraps the computation in `jax.experimental.checkify.checkify`.
    """
    ndim = (ndim,) if isinstance(ndim, int) else ndim
    wanted = " or ".join(str(d) for d in ndim)
    value = native_array(value, name)
    check_dtype(value.dtype, name)
    if value.ndim not in ndim:
        raise ValueError(
            f"`{name}` needs {wanted} dimensions. Got shape {value.shape}. Reshape it."
        )
    if value.size == 0:
        raise ValueError(f"`{name}` needs at least one entry. Got shape {value.shape}.")
    value = as_floats(value, name)
    if not isinstance(value, jax.core.Tracer):
        known = np.asarray(value)
        held = programmed_dtype(value.dtype) if dtype is None else dtype
        if not surely_in_range(known, held, vectors=vectors):
            check_finite(known, name)
            check_range(known, name, held, axis=-1 if vectors else None)
    # `native_array` hands on the array itself that a user gave.
    array = on_device(value, given=True)
    if isinstance(array, jax.core.Tracer):
        # No callback, which would keep the program out of `jax.export` and of the cache:
        # this becomes an error under `checkify` alone, and nothing otherwise.
        checkify.debug_check(
            jnp.all(jnp.isfinite(array)),
            f"`{name}` needs finite entries. Got NaN or infinity. Clean it first.",
        )
    return array


def check_finite(values: np.ndarray, name: str) -> None:
    """Refuse NaN and infinity, and say where the first one is."""
    # Whatever is not finite is an extreme: these passes need no memory.
    if np.isfinite(values.max(initial=0)) and np.isfinite(values.min(initial=0)):
        return
    bad = ~np.isfinite(values)
    if bad.any():
        place = tuple(int(i) for i in np.argwhere(bad)[0])
        raise ValueError(
            f"`{name}` needs finite entries. Got {values[place]} at {place}, "
            f"{int(bad.sum())} such entries in all. Clean it first."
        )


def checked_sparse(matrix: Sparse) -> scipy.sparse.coo_array:
    """The nonzeros of a sparse matrix, each once, finite, real and floating."""
    given: Any = matrix  # the stubs of SciPy give these classes no members
    data, places = None, ()
    if isinstance(matrix, jax_sparse.BCOO):
        if isinstance(matrix.data, jax.core.Tracer):
            raise ValueError(
                "A sparse `A` needs to be known when the program is traced, since its "
                "nonzeros decide which tiles exist. Got a traced BCOO. Program it "
                "outside `jit`, or pass `A.todense()`."
            )
        if matrix.n_batch or matrix.n_dense or matrix.ndim != 2:
            raise ValueError(
                "A sparse `A` needs 2 sparse dimensions. Got a BCOO of shape "
                f"{matrix.shape} with n_batch={matrix.n_batch}, n_dense={matrix.n_dense}."
            )
        index = np.asarray(matrix.indices)
        inside = (index < np.asarray(matrix.shape)).all(1)  # BCOO pads with the shape
        data, places = np.asarray(matrix.data)[inside], tuple(index[inside].T)
    if given.ndim != 2 or 0 in given.shape:
        raise ValueError(
            f"`A` needs 2 dimensions and at least one entry. Got shape {given.shape}."
        )
    check_dtype(given.dtype, "A")
    if data is None:
        entries = _with_sums(given).tocoo()
        data, places = entries.data, (entries.row, entries.col)
    else:
        data = _summable(data)
    entries = _each_once(scipy.sparse.coo_array((data, places), shape=given.shape))
    check_finite(entries.data, "A")
    dtype = programmed_dtype(entries.dtype)
    check_range(entries.data, "A", dtype)
    kept = entries.data != 0
    data = exactly(entries.data[kept], float_dtype(given.dtype), "A").astype(dtype)
    return scipy.sparse.coo_array(
        (data, (entries.row[kept], entries.col[kept])), shape=entries.shape
    )


def _each_once(entries: scipy.sparse.coo_array) -> scipy.sparse.coo_array:
    """The entries row by row, those of one place added up.

    By way of CSR where rows are few: it is quicker, but has a number for each row, which
    are 17 GB for 2**31 rows.
    """
    if entries.shape[0] <= _FEW_ROWS + 8 * entries.nnz:
        rows = entries.tocsr()
        rows.sum_duplicates()
        return rows.tocoo()
    order = np.lexsort((entries.col, entries.row))
    row, col, data = entries.row[order], entries.col[order], entries.data[order]
    first = np.ones(row.size, np.bool_)
    first[1:] = (row[1:] != row[:-1]) | (col[1:] != col[:-1])
    starts = np.flatnonzero(first)
    sums = np.add.reduceat(data, starts) if row.size else data
    return scipy.sparse.coo_array(
        (sums.astype(data.dtype), (row[starts], col[starts])), shape=entries.shape
    )


def _summable(data: np.ndarray) -> np.ndarray:
    """Entries in a dtype that SciPy adds up: short integers would wrap."""
    array = native_array(data, "A")
    if array.dtype != np.bool_:
        array = as_floats(array, "A", integers=np.float64)
    return np.asarray(array)


def _with_sums(matrix: Any) -> Any:
    """A matrix of SciPy with entries that it can convert and add up."""
    if matrix.format in ("lil", "dok"):
        matrix = matrix.tocoo()
    data = _summable(matrix.data)
    if matrix.format == "coo":
        parts = data, (matrix.row, matrix.col)
    elif matrix.format == "dia":
        parts = data, matrix.offsets
    else:
        parts = data, matrix.indices, matrix.indptr
    return type(matrix)(parts, shape=matrix.shape)


def _partition_sparse(matrix, rows, cols):
    matrix = checked_sparse(matrix)
    row, col = matrix.row, matrix.col
    m, n = (int(s) for s in matrix.shape)
    check_grid(rows, cols, (m, n))
    _, outputs = grid_shape((m, n), rows, cols)
    index, stored = np.unique(
        (col // rows).astype(np.int64) * outputs + row // cols, return_inverse=True
    )
    tiles = np.zeros((index.size, rows, cols), matrix.dtype)
    tiles[stored, col % rows, row % cols] = matrix.data
    places = index // outputs, index % outputs
    return Partition(
        tiles=jnp.asarray(tiles),
        inputs=jnp.asarray(places[0], jnp.int32),
        outputs=jnp.asarray(places[1], jnp.int32),
        shape=(m, n),
        width=common_width(*places),
    )


def common_width(inputs: np.ndarray, outputs: np.ndarray) -> int:
    """Tiles that can lie side by side on the same word lines, a number for all strips."""
    if not len(inputs):
        return 1
    ends = np.flatnonzero((np.diff(inputs) != 0) | (np.diff(outputs) != 1)) + 1
    return int(np.gcd.reduce(np.append(ends, len(inputs))))


def exact_product(
    A: "Partition | Float[Array, 'm n']", x: Float[Array, "batch n"]
) -> Float[Array, "batch m"]:
    """`A x` at full precision, of a dense matrix or from stored tiles."""
    if not isinstance(A, Partition):
        return batched_matvec(A, x)
    highest = jax.lax.Precision.HIGHEST
    parts = split_inputs(x, A.tiles.shape[1])[A.inputs]
    parts = jnp.matmul(parts, A.tiles, precision=highest)
    sums = jax.ops.segment_sum(parts, A.outputs, A.grid[1])
    return join_outputs(sums, A.shape[0])


def assemble(
    tiles: Float[Array | np.ndarray, "tiles rows cols"], places
) -> Float[Array, "m n"]:
    """Put stored tiles together; those of one place add up, those not stored are zero.

    `places` is a `Partition` or a `Crossbar`: anything with `inputs`, `outputs`, `shape`.
    """
    grid = grid_shape(places.shape, *tiles.shape[1:])
    blocks = jnp.zeros(grid + tiles.shape[1:], tiles.dtype)
    return join_tiles(blocks.at[places.inputs, places.outputs].add(tiles), places.shape)
