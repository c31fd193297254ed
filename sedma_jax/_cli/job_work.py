"""What a service does with a job: a corrected product that memory tunes."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from scipy.sparse import coo_array

from .. import devices
from .._tiling.number_range import narrowed
from ._run.records import adaptive_record

if TYPE_CHECKING:  # an extra
    from ..memory import Memory


def job_worker(memory: "Memory") -> Callable:
    """A function that does jobs in turn, with a short-term memory of its own."""
    from ..memory import ShortTerm, adaptive_matvec

    short_term = ShortTerm()

    def work(
        request: Any, matrix: np.ndarray | coo_array, x: np.ndarray
    ) -> tuple[np.ndarray, dict]:
        nonlocal short_term
        dtype = np.result_type(matrix.dtype, x.dtype)
        if not jax.config.jax_enable_x64:  # pyright: ignore[reportAttributeAccessIssue]
            dtype = np.dtype(np.float32)
        given = matrix.tocsr() if isinstance(matrix, coo_array) else matrix
        given, x = narrowed(given, dtype, "matrix"), narrowed(x, dtype, "x")
        y, info, short_term = adaptive_matvec(
            given,
            x,
            devices.PRESETS[request.device],
            memory=memory,
            short_term=short_term,
            key=jax.random.key(request.seed),
        )
        return np.asarray(y), adaptive_record(request.device, given, request.seed, info)

    return work
