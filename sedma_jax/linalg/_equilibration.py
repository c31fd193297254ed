"""Scale the rows and columns of a matrix before it is stored."""

import math

import equinox as eqx
import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._tiling.partition import Matrix, Sparse, checked_array, checked_sparse
from ..kernels import POSITIVE, check_counts, check_numbers


class Equilibration(eqx.Module):
    """Factors that turn `A` into `diag(rows) A diag(columns)`.

    - `rows`, `columns`: positive; powers of two if `equilibrate` made them.

    **Example:**

        >>> A = np.array([[4.0, 2.0], [0.5, 0.25]])
        >>> scaling = sj.linalg.Equilibration(jnp.array([0.25, 2.0]), jnp.array([1.0, 2.0]))
        >>> print(np.asarray(scaling.rows)[:, None] * A * np.asarray(scaling.columns))
        [[1. 1.]
         [1. 1.]]
        >>> print(scaling.T.rows)  # of the transposed matrix
        [1. 2.]
    """

    rows: Float[Array, " m"]
    columns: Float[Array, " n"]

    def __check_init__(self):
        factors = {"rows": self.rows, "columns": self.columns}
        remedy = "`sedma_jax.linalg.equilibrate` makes them."
        check_numbers("sedma_jax.linalg.Equilibration", POSITIVE, remedy, **factors)

    @property
    def T(self) -> "Equilibration":
        """The factors for the transposed matrix."""
        return Equilibration(self.columns, self.rows)


def equilibrate(A: Matrix, *, rounds: int = 20) -> Equilibration:
    """Find factors that give all rows and columns about the same Euclidean norm.

    Every round divides each row and column by the square root of its norm (Ruiz 2001,
    RAL-TR-2001-034, Algorithm 1 in the 2-norm; Knight, Ruiz & Ucar 2014, SIAM J. Matrix
    Anal. Appl. 35, 931). A symmetric matrix stays symmetric. Factors are rounded to
    powers of two, so that scaling is exact. The error of a device is proportional to the
    largest weight of its array, so that without scaling small columns drown in the error
    of large ones.

    **Arguments:**

    - `A`: matrix, dense, scipy sparse or BCOO; not traced.
    - `rounds`: number of rounds, at least 1. Static.

    **Raises:**

    - `ValueError`: if a row or column is all zero, or `A` is traced or not what `program`
        takes.

    **Example:**

        >>> scaling = sj.linalg.equilibrate(np.diag([4.0, 0.25]))
        >>> print(scaling.rows * jnp.array([4.0, 0.25]) * scaling.columns)
        [1. 1.]
    """
    if isinstance(A, jax.core.Tracer):
        raise ValueError(
            "`sedma_jax.linalg.equilibrate` needs an `A` with known entries. Got a traced "
            "one. Call it outside `jit`; its factors may be used inside."
        )
    remedy = "The default is 20."
    check_counts("sedma_jax.linalg.equilibrate", 1, math.inf, remedy, rounds=rounds)
    if isinstance(A, Sparse):
        entries = checked_sparse(A)
        row, col, data = entries.row, entries.col, entries.data
        m, n = entries.shape
        dtype = data.dtype
    else:
        dense = np.asarray(checked_array(A, "A", ndim=2))
        (m, n), dtype = dense.shape, dense.dtype
        row, col = np.nonzero(dense)
        data = dense[row, col]
    for name, index, count in (("row", row, m), ("column", col, n)):
        empty = np.setdiff1d(np.arange(count), index)
        if empty.size:
            raise ValueError(
                f"`sedma_jax.linalg.equilibrate` needs a nonzero in every {name} of `A`. "
                f"Got {name} {int(empty[0])} with none: `A` is singular. Drop it first."
            )
    # Logarithms are used since squares of entries may leave the range of the dtype.
    size = np.log2(np.abs(data.astype(np.float64)))
    rows, columns = np.zeros(m), np.zeros(n)
    for _ in range(rounds):
        scaled = size + rows[row] + columns[col]
        rows, columns = (
            rows - 0.5 * _log_norms(scaled, row, m),
            columns - 0.5 * _log_norms(scaled, col, n),
        )
    # `t r` and `c / t` scale alike for every `t`; this one centres both in the range of
    # the dtype.
    shift = (rows.mean() - columns.mean()) / 2
    limit = jnp.finfo(dtype).maxexp - 2
    factors = (
        np.exp2(np.clip(np.round(logs), -limit, limit))
        for logs in (rows - shift, columns + shift)
    )
    return Equilibration(*(jnp.asarray(values, dtype) for values in factors))


def _log_norms(size: np.ndarray, index: np.ndarray, count: int) -> np.ndarray:
    """Binary logarithms of the 2-norms of rows or columns, from those of their entries."""
    top = np.full(count, -np.inf)
    np.maximum.at(top, index, size)
    squares = np.bincount(index, np.exp2(2 * (size - top[index])), count)
    return top + 0.5 * np.log2(squares)
