"""What earlier runs of a class of workloads brought."""

from collections.abc import Sequence
from dataclasses import dataclass

from ._strategy import Remembered, moments, of_regime


@dataclass(frozen=True)
class EarlierRuns:
    """Rewards that memory held before a run, for its class, pool and regime.

    - `mean`, `count`: of the strategy that the run took; None and 0 if it is new.
    - `best`, `best_mean`: the strategy with the largest mean reward, and that mean; None
        if there were no runs.
    """

    mean: float | None
    count: int
    best: str | None
    best_mean: float | None


def earlier_runs(patterns: Sequence[Remembered], regime: int, strategy: str) -> EarlierRuns:
    """Summarise patterns of kind `partition`."""
    known = of_regime(patterns, regime)
    best = max(known, key=lambda p: p.mean, default=None)
    count, mean, _ = moments(of_regime(patterns, regime, strategy=strategy))
    return EarlierRuns(
        mean=mean if count else None,
        count=int(count),
        best=None if best is None else best.choice["strategy"],
        best_mean=None if best is None else best.mean,
    )
