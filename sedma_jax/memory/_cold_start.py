"""Where a new class of workloads, of which memory knows nothing yet, starts from."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from .._long_term import LongTermMemory
from ._strategy import of_regime
from ._workload import VERSION, Workload

# How far apart each feature of `classify` may be for a choice to be worth taking over: a
# factor of two in rows or columns, of three in density, a tenth of the matrix in the
# largest and the mean distance from the diagonal, and a factor of three in the peak.
# Symmetry, condition and roughness do not count.
_NEAR = np.array([1.0, 1.0, 0.5, 0.1, 0.1, 0.5, np.inf, np.inf, np.inf])
# How many patterns are looked at; those of other pools and regimes are among them.
_LOOK = 64


def neighbour(
    memory: LongTermMemory, workload: Workload, suffix: str, regime: int
) -> tuple[str, str] | None:
    """The nearest class with a measured tiling, and the strategy that was best for it.

    **Arguments:**

    - `workload`: the new class, and its features.
    - `suffix`: the end of the names of all classes of this pool.
    - `regime`: patterns of other regimes do not count.

    **Returns:**

    The name of the class and the strategy; None if no class is near.
    """
    patterns: Any = memory.nearest("partition", np.asarray(workload.features), _LOOK)
    near: list[Any] = [
        p for p in of_regime(patterns, regime) if _is_near(p, workload, suffix)
    ]
    if not near:
        return None
    name = near[0].workload
    measured = of_regime(memory.recall("partition", name), regime)
    return name, _best(measured)


def _is_near(pattern: Any, workload: Workload, suffix: str) -> bool:
    if not (pattern.workload.startswith(VERSION) and pattern.workload.endswith(suffix)):
        return False
    apart = np.abs(np.subtract(pattern.features, workload.features))
    return bool(np.all(apart <= _NEAR))


def _best(patterns: Sequence[Any]) -> str:
    return max(patterns, key=lambda p: p.mean).choice["strategy"]
