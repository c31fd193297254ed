"""Tell classes of matrices apart by figures that are cheap to compute: version 1.

Features, in this order, all finite:

 0  log2 rows                       5  excess of the largest over the mean magnitude, log10
 1  log2 columns                    6  relative asymmetry, 0 symmetric, 1 or more otherwise;
 2  density of nonzeros, log10         sqrt(2) if not square
 3  bandwidth: largest distance     7  lower bound of the condition, log10: 6 steps of
    from the diagonal as a share       bidiagonalisation (Golub & Kahan 1965)
    of the matrix
 4  mean of that distance           8  roughness of `y`: |L y|^2 / |y|^2 / 4, 1 without `y`

The class is a text of the version and coarse levels of these: `v1:dense:square:6:even`. A
level never changes its meaning; another set of features gets another version, so that
memories of the old version are not misread.
"""

import math
from typing import Any, NamedTuple, cast

import numpy as np
import scipy.sparse
from numpy.typing import ArrayLike

from .._tiling.native import real_floats
from .._tiling.partition import Matrix, Sparse, check_finite, checked_sparse

VERSION = "v1"
_STEPS = 6
_ROUNDING = 1e-6  # relative rounding error of single precision, after a few steps


class Workload(NamedTuple):
    """The class of a matrix, and its features.

    - `name`: name of the class, which is stable.
    - `features`: nine figures; see `sedma_jax.memory.classify`.

    **Example:**

        >>> workload = sj.memory.classify(np.eye(64))
        >>> workload.name, workload.features[:2]  # log2 of rows and of columns
        ('v1:banded:square:6:even', (6.0, 6.0))
    """

    name: str
    features: tuple[float, ...]


def classify(A: Matrix, y: ArrayLike | None = None) -> Workload:
    """Tell the class of workloads that a matrix belongs to.

    This takes a few passes over the nonzeros; a sparse matrix stays sparse.

    **Arguments:**

    - `A`: dense, scipy sparse or BCOO.
    - `y`: a product of the matrix, if there is one; a vector or a batch of them.

    **Returns:**

    The class and its features: log2 of rows and columns, log10 of the density, the largest
    and the mean distance from the diagonal as shares of the matrix, log10 of the largest
    over the mean magnitude, asymmetry, log10 of a lower bound of the condition (six steps
    of bidiagonalisation, Golub & Kahan 1965), and roughness of `y`, from 0 if constant to 1
    if alternating.

    **Raises:**

    - `ValueError`: if `A` is no matrix of finite real numbers, or `y` has others.

    **Example:**

        >>> sj.memory.classify(np.ones((256, 64))).name  # 2**7 is the mean side
        'v1:dense:tall:7:even'
        >>> smooth, rough = np.ones(8), np.array([1.0, -1.0] * 4)
        >>> [sj.memory.classify(np.eye(8), y).features[8] for y in (smooth, rough)]
        [0.0, 0.875]
    """
    return classify_checked(checked_sparse(A) if isinstance(A, Sparse) else A, y)


def classify_checked(A: Matrix, y: ArrayLike | None = None) -> Workload:
    """As `classify`, of a sparse matrix that `checked_sparse` has given."""
    if isinstance(A, Sparse):
        entries = cast(scipy.sparse.coo_array, A)
        values = _of_order_one(entries.data)
        (m, n), (rows, cols) = entries.shape, entries.coords
        product = scipy.sparse.coo_array((values, (rows, cols)), shape=(m, n)).tocsr()
    else:
        dense = np.asarray(real_floats(A, "A", integers=np.float64))
        if dense.ndim != 2 or not dense.size:
            raise ValueError(
                f"`A` needs 2 dimensions and at least one entry. Got shape {dense.shape}. "
                "Reshape it."
            )
        check_finite(dense, "A")
        product = _of_order_one(dense)
        (m, n), (rows, cols) = product.shape, product.nonzero()
        values = product[rows, cols]
    count = max(values.size, 1)
    density = values.size / (m * n)
    distance = np.abs(rows / m - cols / n)
    widest = float(distance.max(initial=0.0))
    mean = float(np.abs(values).sum() / count)
    peak = float(np.abs(values).max(initial=0.0)) / mean if mean else 1.0
    asymmetry = _asymmetry(product) if m == n else math.sqrt(2)
    features = (
        math.log2(m),
        math.log2(n),
        math.log10(max(density, 1e-12)),
        widest,
        float(distance.sum() / count),
        math.log10(max(peak, 1.0)),
        asymmetry,
        _condition(product, mean),
        1.0 if y is None else roughness(y),
    )
    return Workload(_name(m, n, density, widest, peak), features)


def roughness(y: ArrayLike) -> float:
    """`|L y|^2 / (4 |y|^2)`: 0 if constant, 1/2 for white noise, 1 if alternating."""
    values = np.asarray(real_floats(y, "y"), np.float64)
    check_finite(values, "y")
    values = _of_order_one(np.atleast_2d(values))
    size = float(np.sum(values**2))
    return float(np.sum(np.diff(values, axis=-1) ** 2)) / (4 * size) if size else 0.0


def _of_order_one(values: np.ndarray) -> np.ndarray:
    """The values over a power of two: no feature depends on scale, and none overflows."""
    top = np.max(np.abs(values), initial=0)
    if not 0 < top < np.inf:
        return values
    return np.ldexp(values, 1 - np.frexp(top)[1])


def _name(m: int, n: int, density: float, widest: float, peak: float) -> str:
    if density > 0.25:
        pattern = "dense"
    elif widest <= 0.1:
        pattern = "banded"
    else:
        pattern = "sparse"
    ratio = m / n
    form = "tall" if ratio >= 2 else "wide" if ratio <= 0.5 else "square"
    size = round(math.log2(m * n) / 2)
    values = "peaked" if peak >= 10 else "even"
    return f"{VERSION}:{pattern}:{form}:{size}:{values}"


def _asymmetry(A: Any) -> float:
    norm: Any = scipy.sparse.linalg.norm if scipy.sparse.issparse(A) else np.linalg.norm
    matrix: Any = A
    size = float(norm(matrix))
    return float(norm(matrix - matrix.T)) / size if size else 0.0


def _condition(A: Any, mean: float) -> float:
    """log10 of the ratio of the extreme singular values of a small bidiagonal matrix."""
    m, n = A.shape
    if mean == 0:
        return 0.0
    v = np.random.default_rng(0).normal(size=n)
    v /= np.linalg.norm(v)
    u, beta, diagonal, above = np.zeros(m), 0.0, [], []
    scaled = lambda w: np.asarray(w, np.float64) / mean  # far from overflow
    for _ in range(min(m, n, _STEPS)):
        u = scaled(A @ v) - beta * u
        alpha = float(np.linalg.norm(u))
        # Below this the steps have spanned the whole range, and would go on with rounding
        # errors.
        if alpha <= _ROUNDING * max(diagonal, default=0.0):
            break
        u /= alpha
        diagonal.append(alpha)
        v_next = scaled(A.T @ u) - alpha * v
        beta = float(np.linalg.norm(v_next))
        above.append(beta)
        if beta <= _ROUNDING * max(diagonal):
            break
        v = v_next / beta
    if not diagonal:
        return 0.0
    small = np.diag(diagonal) + np.diag(above[: len(diagonal) - 1], 1)
    values = np.linalg.svd(small, compute_uv=False)
    return float(np.log10(values[0] / max(values[-1], 1e-15 * values[0])))
