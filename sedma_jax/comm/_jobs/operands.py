"""The matrix and vectors of a job, put together from its tensors."""

import numpy as np
import scipy.sparse

from .messages import JobRequest
from .tensor_files import TensorFiles

Operand = np.ndarray | scipy.sparse.coo_array

INDICES = ("int32", "int64")
VALUES = ("float32", "float64")


def operands(tensors: TensorFiles, request: JobRequest) -> tuple[Operand, np.ndarray]:
    """Read the matrix and vectors of a job from the disk.

    **Raises:** `ValueError` if they do not fit together.
    """
    parts = {name: tensors.load(cid) for name, cid in request.matrix.items()}
    x = tensors.load(request.vector)
    matrix = _sparse(request, parts) if request.shape else parts["values"]
    if (
        matrix.ndim != 2
        or x.ndim not in (1, 2)
        or x.shape[-1] != matrix.shape[1]
        or not {matrix.dtype.name, x.dtype.name} <= set(VALUES)
    ):
        raise ValueError(
            "`JobClient.submit` needs a matrix (m, n) and vectors (n,) or (batch, n), of "
            f"float32 or float64. Got {matrix.shape} of {matrix.dtype}, {x.shape} of "
            f"{x.dtype}. Check that the vector fits the matrix."
        )
    _check_finite(matrix.data if isinstance(matrix, scipy.sparse.coo_array) else matrix)
    _check_finite(x)
    return matrix, x


def _sparse(request: JobRequest, parts: dict[str, np.ndarray]) -> scipy.sparse.coo_array:
    data, rows, cols = parts["data"], parts["rows"], parts["cols"]
    m, n = request.shape or (0, 0)
    fits = lambda index, end: (
        index.dtype.name in INDICES and 0 <= index.min() and index.max() < end
    )
    if (
        not data.ndim == rows.ndim == cols.ndim == 1
        or not len(data) == len(rows) == len(cols) > 0
        or not (fits(rows, m) and fits(cols, n))
    ):
        raise ValueError(
            "`JobClient.submit` needs for a sparse matrix as many rows and columns as "
            f"data, int32 or int64, within its shape. Got {data.shape}, {rows.shape}, "
            f"{cols.shape} for {(m, n)}. Take them from `scipy.sparse.coo_array`."
        )
    return scipy.sparse.coo_array((data, (rows, cols)), shape=(m, n))


def _check_finite(values: np.ndarray) -> None:
    finite = np.isfinite(values)
    if not finite.all():
        where = int(np.argmin(finite))
        raise ValueError(
            "`JobClient.submit` needs finite numbers. Got "
            f"{np.ravel(values)[where]} in number {where + 1} of the matrix or of the "
            "vectors. Mend it, or leave it out."
        )
