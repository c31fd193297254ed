"""What earlier runs of a class of workloads brought."""

from collections.abc import Sequence
from dataclasses import dataclass

from ._strategy import Remembered, moments, of_regime


@dataclass(frozen=True)
class Before:
    """Rewards that were in memory before a run, of its class, pool and regime.

    - `mean`, `count`: of the strategy that the run took; None and 0 if it is new.
    - `best`, `best_mean`: the strategy with the largest mean, and that; None without any.
    """

    mean: float | None
    count: int
    best: str | None
    best_mean: float | None


def before(patterns: Sequence[Remembered], regime: int, strategy: str) -> Before:
    """Sum up patterns of kind `partition`."""
    known = of_regime(patterns, regime)
    best = max(known, key=lambda p: p.mean, default=None)
    count, mean, _ = moments(of_regime(patterns, regime, strategy=strategy))
    return Before(
        mean if count else None,
        int(count),
        None if best is None else best.choice["strategy"],
        None if best is None else best.mean,
    )
