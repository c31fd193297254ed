"""What a service does with a job: a corrected product that memory tunes.

`sedma serve` runs it in a process of its own.
"""

import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from scipy.sparse import coo_array

from .. import devices
from .._tiling.number_range import narrowed
from ..devices._file import named_or_own
from ._run.records import adaptive_record

if TYPE_CHECKING:  # an extra
    from ..memory import Memory

COMMAND = (sys.executable, "-c", "from sedma_jax._cli.job_work import main; main()")


class _Once:
    """A memory that counts the rewards of one job once, however often that is done."""

    def __init__(self, memory: "Memory", token: str):
        self._memory, self._token = memory, token

    def __getattr__(self, name: str) -> Any:
        return getattr(self._memory, name)

    def record_all(self, records: Iterable[Any]) -> None:
        self._memory.record_all(records, once=self._token)


def job_worker(memory: "Memory") -> Callable:
    """A function that does jobs in turn, with a short-term memory of its own."""
    from ..memory import ShortTerm, adaptive_matvec

    short_term = ShortTerm()

    def work(
        request: Any, token: str, matrix: np.ndarray | coo_array, x: np.ndarray
    ) -> tuple[np.ndarray, dict]:
        nonlocal short_term
        device = named_or_own(request.device)
        dtype = np.result_type(matrix.dtype, x.dtype)
        if not jax.config.jax_enable_x64:  # pyright: ignore[reportAttributeAccessIssue]
            dtype = np.dtype(np.float32)
        given = matrix.tocsr() if isinstance(matrix, coo_array) else matrix
        given, x = narrowed(given, dtype, "matrix"), narrowed(x, dtype, "x")
        y, info, short_term = adaptive_matvec(
            given,
            x,
            device,
            memory=_Once(memory, token),  # pyright: ignore[reportArgumentType]
            short_term=short_term,
            key=jax.random.key(request.seed),
        )
        return np.asarray(y), adaptive_record(
            devices.name_of(device), given, request.seed, info
        )

    return work


def _make(setup: dict[str, Any]) -> tuple[Callable, Callable]:
    """A worker as `sedma serve` sets it up, and what settles the rewards of its jobs."""
    from .. import memory  # an extra
    from .._compilation_cache import cache_of_commands

    cache_of_commands(*setup["compilation_cache"])
    long_term = memory.open(setup["memory"])
    jax.block_until_ready(jax.numpy.ones(8) * 2)  # the backend takes memory of its own
    return job_worker(long_term), long_term.settle


def main() -> None:
    """The process of a worker; its argument is the number of the socket it inherits."""
    from ..comm._jobs.worker_child import serve

    serve(int(sys.argv[1]), _make)
