"""How much memory a job takes, known before it is accepted.

Measured on one job of each kind, beside what a process has after its imports (MB of
`VmData`): 405 for 67 x 67, of which the compiler takes nearly all; 286 more for 64
partitions, 926 more for 398 of a sparse matrix; 1,310 more for 10,000,000 rows with one
entry, 254 more for a batch of 10,000 vectors of 100 entries. Each figure below is above
what these come to.
"""

import numpy as np
from scipy.sparse import coo_array

_COMPILER = 600 * 10**6
_PER_CELL = 80  # bytes of an array's cell: conductances, targets, progress of programming
_PER_NUMBER = 200  # bytes of a number of x or y: their corrections, with all intermediates
_PER_STORED = 64  # bytes of a stored entry of a sparse matrix
_SIDE = 256  # lines of an array


def bytes_needed(matrix: np.ndarray | coo_array, x: np.ndarray) -> int:
    """The bytes that a corrected product takes at most, beside the tensors of its job."""
    m, n = matrix.shape
    batch = x.size // x.shape[-1]
    if isinstance(matrix, coo_array):
        wide = -(-n // _SIDE)
        places = matrix.row.astype(np.int64) // _SIDE * wide
        places += matrix.col.astype(np.int64) // _SIDE
        arrays = len(np.unique(places))
        stored = matrix.nnz
    else:
        arrays, stored = -(-m // _SIDE) * -(-n // _SIDE), 0
    return (
        _COMPILER
        + arrays * _SIDE**2 * _PER_CELL
        + (m + n) * batch * _PER_NUMBER
        + stored * _PER_STORED
        + matrix.dtype.itemsize * (stored or m * n) * 3
    )
