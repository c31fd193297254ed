"""Check a matrix and cut it into the tiles that crossbar arrays store."""

from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.core
import jax.numpy as jnp
import numpy as np
import scipy.sparse
from jax.experimental import checkify, sparse as jax_sparse
from jaxtyping import Array, Float, Int, Num

from ..kernels import (
    batched_matvec,
    cut_tiles,
    grid_shape,
    join_outputs,
    join_tiles,
    split_inputs,
)
from .native import as_floats, check_dtype, exactly, float_dtype, native_array

Vectors = Num[Array | np.ndarray, "*batch n"]
Sparse = scipy.sparse.sparray | scipy.sparse.spmatrix | jax_sparse.BCOO
Matrix = Num[Array | np.ndarray, "m n"] | Sparse


class Partition(eqx.Module):
    """The tiles of a matrix that are stored.

    Tile `t` holds `A[i cols:(i+1) cols, j rows:(j+1) rows].T` with `j = inputs[t]` and
    `i = outputs[t]`. Of a dense matrix every tile is stored, in the order of the grid; of
    a sparse one only those with a nonzero. From the first on, each `width` of them have
    the same inputs and outputs that follow one another.
    """

    tiles: Float[Array, "tiles rows cols"]
    inputs: Int[Array, " tiles"]
    outputs: Int[Array, " tiles"]
    shape: tuple[int, int] = eqx.field(static=True)
    width: int = eqx.field(static=True, default=1)

    @property
    def grid(self) -> tuple[int, int]:
        """Tiles along the inputs and along the outputs, stored or not."""
        return grid_shape(self.shape, *self.tiles.shape[1:])

    @property
    def index(self) -> Int[Array, " tiles"]:
        """Place of each tile in the grid, which addresses its noise."""
        return self.inputs * self.grid[1] + self.outputs


def partition(matrix: Matrix, rows: int, cols: int) -> Partition:
    """Check a matrix and cut it into tiles of `rows` inputs and `cols` outputs.

    **Raises:**

    - `ValueError`: if the matrix is not two-dimensional, is empty, complex or not
        numeric, or holds NaN or infinity; or if a sparse matrix is traced.
    """
    if rows < 1 or cols < 1:
        raise ValueError(
            "A crossbar array needs at least one row and one column. "
            f"Got array=({rows}, {cols})."
        )
    if isinstance(matrix, Sparse):
        return _partition_sparse(matrix, rows, cols)
    return cut(checked_array(matrix, "A", ndim=2), rows, cols)


@partial(jax.jit, static_argnames=("rows", "cols"))
def cut(matrix: Float[Array, "m n"], rows: int, cols: int) -> Partition:
    """`partition`, for a dense matrix that is checked already."""
    m, n = matrix.shape
    grid = grid_shape((m, n), rows, cols)
    inputs, outputs = (jnp.asarray(i.ravel().astype(np.int32)) for i in np.indices(grid))
    return Partition(_tiles(matrix, rows, cols), inputs, outputs, (m, n), grid[1])


@partial(jax.jit, static_argnums=(1, 2))
def _tiles(matrix, rows, cols):
    return cut_tiles(matrix, rows, cols).reshape(-1, rows, cols)


def checked_array(value, name: str, *, ndim: int | tuple[int, ...]) -> Float[Array, "..."]:
    """Convert to a finite real floating array, or say what is wrong with it.

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
        check_finite(np.asarray(value), name)
    array = jnp.asarray(value)
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
    rows = scipy.sparse.coo_array((data, places), shape=given.shape).tocsr()
    rows.sum_duplicates()
    entries = rows.tocoo()
    check_finite(entries.data, "A")
    kept = entries.data != 0
    data = exactly(entries.data[kept], float_dtype(given.dtype), "A")
    return scipy.sparse.coo_array(
        (data, (entries.row[kept], entries.col[kept])), shape=entries.shape
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
    _, outputs = grid_shape((m, n), rows, cols)
    index, stored = np.unique(
        (col // rows).astype(np.int64) * outputs + row // cols, return_inverse=True
    )
    tiles = np.zeros((index.size, rows, cols), matrix.dtype)
    tiles[stored, col % rows, row % cols] = matrix.data
    places = index // outputs, index % outputs
    return Partition(
        jnp.asarray(tiles),
        jnp.asarray(places[0], jnp.int32),
        jnp.asarray(places[1], jnp.int32),
        (m, n),
        common_width(*places),
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


def assemble(tiles: Float[Array, "tiles rows cols"], places) -> Float[Array, "m n"]:
    """Put stored tiles together; those of one place add up, those not stored are zero.

    `places` is a `Partition` or a `Crossbar`: anything with `inputs`, `outputs`, `shape`.
    """
    grid = grid_shape(places.shape, *tiles.shape[1:])
    blocks = jnp.zeros(grid + tiles.shape[1:], tiles.dtype)
    return join_tiles(blocks.at[places.inputs, places.outputs].add(tiles), places.shape)
