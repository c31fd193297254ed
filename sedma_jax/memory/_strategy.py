"""Draw a way to lay out a matrix from what is remembered of each."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray
from numpy.typing import ArrayLike

from ..kernels import thompson_sample, update_beliefs

# Rewards are logarithms of costs: a law that is off by a factor of two is off by 0.7.
PRIOR_STD = 0.3


class Record(NamedTuple):
    """Rewards that a choice brought; see `Memory.record`."""

    kind: str
    workload: str
    choice: Mapping[str, Any]
    reward: ArrayLike
    features: ArrayLike | None = None


@runtime_checkable
class Remembered(Protocol):
    """What a pattern of long-term memory has."""

    choice: dict[str, Any]
    count: int
    mean: float
    spread: float


@runtime_checkable
class Recalls(Protocol):
    """The half of a long-term memory that answers."""

    def recall(self, kind: str, workload: str) -> Sequence[Any]:
        """Patterns of a class of workloads."""
        ...

    def nearest(self, kind: str, features: Any, k: int = 8) -> Sequence[Any]:
        """Patterns of a kind whose features are nearest, nearest first."""
        ...


@runtime_checkable
class LongTerm(Recalls, Protocol):
    """What the adaptive product needs of a long-term memory."""

    def record_all(self, records: Sequence[Record]) -> None:
        """Add rewards of several choices, all of them or none."""
        ...


def moments(patterns: Sequence[Remembered]) -> tuple[float, float, float]:
    """Count, mean and spread of rewards of several patterns, as of one."""
    counts = np.array([float(p.count) for p in patterns])
    if not counts.sum():
        return 0.0, 0.0, 0.0
    means = np.array([p.mean for p in patterns])
    spreads = np.nan_to_num([p.spread for p in patterns])
    mean = counts @ means / counts.sum()
    squares = (counts - 1) @ spreads**2 + counts @ (means - mean) ** 2
    return counts.sum(), float(mean), float(np.sqrt(squares / max(counts.sum() - 1, 1)))


def of_regime(patterns: Sequence[Remembered], regime: int, **choice) -> list[Remembered]:
    """Patterns of one regime whose choice agrees."""
    wanted = {"regime": regime, **choice}
    return [p for p in patterns if wanted.items() <= p.choice.items()]


def draw_strategy(
    names: Sequence[str],
    expected: Sequence[float],
    measured: Sequence[Sequence[Remembered]],
    *,
    key: PRNGKeyArray,
) -> int:
    """Thompson sampling: the number of the strategy whose drawn mean is largest.

    **Arguments:**

    - `names`: of the strategies.
    - `expected`: reward of each by the law of Eq. 4.
    - `measured`: patterns of each.
    """
    count, mean, spread = (
        jnp.asarray(v, jnp.result_type(float))
        for v in zip(*map(moments, measured), strict=True)
    )
    prior = jnp.asarray(expected, count.dtype)
    # What was never measured is off from the law by as much as what was.
    tried = count > 0
    bias = jnp.sum(jnp.where(tried, mean - prior, 0)) / jnp.maximum(
        jnp.sum(tried, dtype=prior.dtype), 1
    )
    beliefs = update_beliefs(prior + bias, PRIOR_STD, count, mean, spread)
    # A few sizes of table would save nothing: pools rarely change.
    return int(jnp.argmax(thompson_sample(beliefs, key=key)))
