"""Where a class of workloads starts from that memory does not know yet."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ._strategy import Recalls, of_regime
from ._workload import VERSION, Workload

# How far each feature of `classify` may be off for a choice to be worth taking over: a
# factor of two in rows or columns, of three in density, a tenth of the matrix in bandwidth
# and its mean, a factor of three in the peak, and whatever symmetry and condition are.
_NEAR = np.array([1.0, 1.0, 0.5, 0.1, 0.1, 0.5, np.inf, np.inf, np.inf])
# Patterns looked at: those of other pools and regimes are among them.
_LOOK = 64


def neighbour(
    memory: Recalls, workload: Workload, suffix: str, regime: int
) -> tuple[str, str] | None:
    """The nearest class with a measured tiling, and the strategy that was best for it.

    **Arguments:**

    - `workload`: the class that is new, and its features.
    - `suffix`: what the names of the classes of this pool end with.
    - `regime`: patterns of other ones do not count.

    **Returns:**

    Name and strategy; None if no class is near.
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
