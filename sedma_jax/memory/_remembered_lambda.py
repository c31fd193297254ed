"""What both memories say of the regularisation parameter λ.

Who decides λ: `corrected_matvec` does, by weighing what is put together here against what
the product's own data say (`kernels/_correction/lambda_memory.py`).
"""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from ..kernels import ERROR_PATTERNS, RecentProducts, RememberedLambda
from ._strategy import Remembered, moments, of_regime


def remembered_lambda(
    patterns: Sequence[Remembered],
    regime: int,
    recent: RecentProducts,
    *,
    borrowed: bool,
) -> RememberedLambda:
    """Moments of log λ for each error pattern, with the last products of this process.

    **Arguments:**

    - `patterns`: of kind `lambda`, from long-term memory.
    - `regime`: patterns of other regimes do not count.
    - `recent`: the last products, from short-term memory.
    - `borrowed`: whether the patterns are those of another class of workloads, which
        together are worth one sample.
    """
    figures = [moments(of_regime(patterns, regime, errors=e)) for e in ERROR_PATTERNS]
    count, mean, spread = np.asarray(figures, jnp.result_type(float)).T
    if borrowed:
        count = np.minimum(count, 1)
    return RememberedLambda(
        count=jnp.asarray(count),
        mean=jnp.asarray(mean),
        spread=jnp.asarray(spread),
        recent=recent,
    )
