"""Decide how to lay out a matrix, from what memory knows of matrices like it.

First the class of the matrix is told (`classify`), then its patterns are recalled, or
those of the nearest class. If memory has the reward that the cost model (Eq. 4) expects of
every strategy, one strategy is drawn by Thompson sampling; otherwise all are weighed. What
came of a decision is written back by `_learning.py`.
"""

import dataclasses
import hashlib
import math
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from .. import devices
from .._long_term import LongTermMemory
from .._tiling.partition import Matrix, Sparse, checked_sparse
from .._tiling.planning import (
    MEMORY_PRICE,
    cheapest,
    grid_plan,
    strategy_names,
    strategy_plans,
    weigh,
)
from .._tiling.pool import PartitionPlan, Pool, checked_question
from .._trace import Trace
from ..kernels import Device, RememberedLambda, memory_price
from ._cold_start import neighbour
from ._device_change import current_regime
from ._pressure import memory_pressure
from ._remembered_lambda import remembered_lambda
from ._short_term import ShortTerm
from ._strategy import Remembered, draw_strategy, moments, of_regime
from ._workload import Workload, classify_checked


@dataclasses.dataclass(frozen=True)
class Ablation:
    """Parts of the system to leave out, for comparison; by default none.

    - `long_term`: recall from and write to long-term memory.
    - `short_term`: correct expectations by recent measurements, and notice changes.
    - `adaptive_lambda`: choose the regularisation parameter λ; otherwise it is that of
        MELISO+.
    - `adaptive_partition`: choose the tiling; otherwise the largest arrays are laid side
        by side.

    **Example:**

        >>> fixed = sj.memory.Ablation(adaptive_lambda=False)  # λ of MELISO+
        >>> fixed.adaptive_lambda, fixed.adaptive_partition
        (False, True)
    """

    long_term: bool = True
    short_term: bool = True
    adaptive_lambda: bool = True
    adaptive_partition: bool = True


@dataclasses.dataclass(frozen=True)
class Decision:
    """How a matrix is to be laid out, and what that was decided from.

    - `name`: of the workload and pool, in memory.
    - `regime`: changes noticed so far; see `_device_change.py`.
    - `recalled`: patterns found, by kind.
    - `expected`: log reward that the cost model expects of each strategy, where memory
        does not have it yet.
    - `searched`: whether every strategy was weighed.
    - `neighbour`: the class whose best strategy was taken over, if this one is new.
    - `reference`: Eq. 4 of the largest arrays side by side, by their data sheets.
    - `megabytes`: memory overhead of `plan`.
    - `lam_mem`: price of memory, in seconds per MB.
    - `occupied`: rows and columns of the nonzeros of a sparse matrix.
    """

    plan: PartitionPlan
    strategy: str
    workload: Workload
    name: str
    regime: int
    recalled: dict[str, Any]
    expected: dict[str, float]
    searched: bool
    neighbour: str | None
    remembered_lambda: RememberedLambda
    reference: float
    megabytes: float
    lam_mem: float
    occupied: Any


class _Tiling(NamedTuple):
    """A strategy and its plan; the rest as in `Decision`."""

    strategy: str
    plan: PartitionPlan
    expected: dict[str, float]
    searched: bool = False


def decide(
    A: Matrix,
    pool: Pool,
    memory: LongTermMemory | None,
    short_term: ShortTerm,
    ablation: Ablation,
    pressure: float | None,
    *,
    trace: Trace | None = None,
    key: PRNGKeyArray,
) -> Decision:
    """Recall what is known of matrices like `A`, and choose a tiling."""
    trace = Trace() if trace is None else trace
    memory = memory if ablation.long_term else None
    with trace.stage("classify") as said:
        checked = checked_sparse(A) if isinstance(A, Sparse) else A
        occupied = checked.coords if isinstance(checked, Sparse) else None
        workload = classify_checked(checked)
        shape, pool, occupied = checked_question(cast(Any, A).shape, pool, None, occupied)
        said["workload"] = workload.name
    pressure = memory_pressure() if pressure is None else pressure
    lam_mem = float(_price(MEMORY_PRICE, pressure))
    # Pools differ in what is best on them.
    suffix = f"|{_signature(pool)}"
    name = workload.name + suffix
    names = strategy_names(pool)
    with trace.stage("recall") as said:
        recalled = _recall(memory, name)
        regime = 0
        if ablation.short_term:
            regime = current_regime(short_term, recalled["partition"])
        found = None
        if memory is not None and not _expected(recalled, regime).keys() >= set(names):
            found = neighbour(memory, workload, suffix, regime)
        like, borrowed = (None, None) if found is None else found
        known = recalled if like is None else _recall(memory, like)
        said |= {"patterns": sum(map(len, recalled.values())), "neighbour": like}
    recent = short_term if ablation.short_term else ShortTerm()
    with trace.stage("plan") as said:
        how: dict[str, Any] = {
            "occupied": occupied,
            "lam_mem": lam_mem,
            "slowdown": _slowdown(pool, known["speed"], recent, regime),
        }
        largest = _largest(pool)
        reference = grid_plan(shape, pool, largest, occupied)
        expected = _expected(known, regime)
        if not ablation.adaptive_partition:
            tiling = _Tiling(f"grid-{largest}", reference, {})
        elif not expected.keys() >= set(names):
            tiling = _search(names, shape, pool, how, reference)
        elif borrowed is not None:
            plan = _cheapest_plan(borrowed, shape, pool, how)
            tiling = _Tiling(borrowed, plan, expected)
        else:
            strategy = _draw(names, expected, recalled["partition"], regime, key=key)
            tiling = _Tiling(strategy, _cheapest_plan(strategy, shape, pool, how), {})
        said |= {"strategy": tiling.strategy, "explored": not tiling.searched}
    # The reference follows the data sheet, so that a change of the arrays shows.
    sheet = weigh([reference, tiling.plan], occupied=occupied, lam_mem=lam_mem)
    return Decision(
        plan=tiling.plan,
        strategy=tiling.strategy,
        workload=workload,
        name=name,
        regime=regime,
        recalled=recalled,
        expected=tiling.expected,
        searched=tiling.searched,
        neighbour=like,
        remembered_lambda=remembered_lambda(
            known["lambda"],
            regime,
            recent.recent_products(name),
            borrowed=like is not None,
        ),
        reference=float(sheet.objective[0]),
        megabytes=float(sheet.megabytes[1]),
        lam_mem=lam_mem,
        occupied=occupied,
    )


_price = jax.jit(memory_price)


def _recall(memory: LongTermMemory | None, name: str) -> dict[str, Any]:
    kinds = ("partition", "partition-law", "speed", "lambda")
    return {kind: [] if memory is None else memory.recall(kind, name) for kind in kinds}


def _expected(patterns: dict[str, Any], regime: int) -> dict[str, float]:
    """The log reward that the cost model expects of each strategy, as remembered."""
    found = of_regime(patterns["partition-law"], regime)
    return {p.choice["strategy"]: p.mean for p in found}


def _search(
    names: Sequence[str],
    shape: tuple[int, int],
    pool: Pool,
    how: dict[str, Any],
    reference: PartitionPlan,
) -> _Tiling:
    """The cheapest plan of all strategies, and the reward to expect of each."""
    plans, owners = [], []
    for name in names:
        own = strategy_plans(name, shape, pool, **how)
        plans += own
        owners += [name] * len(own)
    cost = weigh([*plans, reference], **how).objective
    base, cost = float(cost[-1]), cost[:-1]
    expected = {
        name: math.log(
            base / min(c for c, o in zip(cost, owners, strict=True) if o == name)
        )
        for name in names
    }
    best = int(np.argmin(cost))
    return _Tiling(owners[best], plans[best], expected, searched=True)


def _draw(
    names: Sequence[str],
    expected: dict[str, float],
    patterns: Sequence[Remembered],
    regime: int,
    *,
    key: PRNGKeyArray,
) -> str:
    """A strategy, drawn by what was expected and measured of each."""
    prior = [expected[name] for name in names]
    measured = [of_regime(patterns, regime, strategy=name) for name in names]
    return names[draw_strategy(names, prior, measured, key=key)]


def _cheapest_plan(
    strategy: str, shape: tuple[int, int], pool: Pool, how: dict[str, Any]
) -> PartitionPlan:
    plans = strategy_plans(strategy, shape, pool, **how)
    return plans[cheapest(weigh(plans, **how))]


def _slowdown(
    pool: Pool, speeds: Sequence[Remembered], recent: ShortTerm, regime: int
) -> tuple[float, ...]:
    """Measured over expected time of each kind of array.

    Long-term memory says so, or else the last samples of short-term memory; 1 without any.
    """
    factors = []
    for kind in pool.kinds:
        device = devices.name_of(cast(Device, kind.device))
        count, mean, _ = moments(of_regime(speeds, regime, device=device))
        if not count:
            mean = float(recent.summary(f"speed {device}", 20).mean)
        factors.append(math.exp(mean))
    return tuple(factors)


def _signature(pool: Pool) -> str:
    """A few characters that tell pools apart."""
    kinds = [
        (k.rows, k.cols, k.count, devices.name_of(cast(Device, k.device)))
        for k in pool.kinds
    ]
    return hashlib.sha256(repr(kinds).encode()).hexdigest()[:10]


def _largest(pool: Pool) -> int:
    sizes = [k.rows * k.cols for k in pool.kinds]
    return sizes.index(max(sizes))
