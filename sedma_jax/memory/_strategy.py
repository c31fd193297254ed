"""Draw a strategy for laying out a matrix, from what is remembered of each."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray
from numpy.typing import ArrayLike

from ..kernels import thompson_sample, update_beliefs

# How far rewards are from what the cost model (Eq. 4) expects. They are logarithms of
# costs: a model that is off by a factor of two is off by 0.7.
PRIOR_STD = 0.3


class Record(NamedTuple):
    """Rewards that a choice brought; see `Memory.record`.

    **Example:**

        >>> tall = sj.memory.Record("tiling", "tall", {"rows": 64}, reward=[1.0, 3.0])
        >>> with sj.memory.open("sqlite://") as memory:
        ...     memory.record_all([tall, tall._replace(workload="wide")])  # both or none
        ...     [pattern.mean for pattern in memory.patterns("tiling")]
        [2.0, 2.0]
    """

    kind: str
    workload: str
    choice: Mapping[str, Any]
    reward: ArrayLike
    features: ArrayLike | None = None


@runtime_checkable
class Remembered(Protocol):
    """What is read of a pattern of long-term memory."""

    choice: dict[str, Any]
    count: int
    mean: float
    spread: float


def moments(patterns: Sequence[Remembered]) -> tuple[float, float, float]:
    """Count, mean and spread of the rewards of several patterns taken together."""
    counts = np.array([float(p.count) for p in patterns])
    if not counts.sum():
        return 0.0, 0.0, 0.0
    means = np.array([p.mean for p in patterns])
    spreads = np.nan_to_num([p.spread for p in patterns])
    mean = counts @ means / counts.sum()
    squares = (counts - 1) @ spreads**2 + counts @ (means - mean) ** 2
    return counts.sum(), float(mean), float(np.sqrt(squares / max(counts.sum() - 1, 1)))


def of_regime(
    patterns: Sequence[Remembered], regime: int, **choice: Any
) -> list[Remembered]:
    """The patterns of one regime whose choice agrees with the fields given."""
    wanted = {"regime": regime, **choice}
    return [p for p in patterns if wanted.items() <= p.choice.items()]


def draw_strategy(
    names: Sequence[str],
    expected: Sequence[float],
    measured: Sequence[Sequence[Remembered]],
    *,
    key: PRNGKeyArray,
) -> int:
    """Draw the number of a strategy by Thompson sampling: the largest drawn mean wins.

    **Arguments:**

    - `names`: names of the strategies.
    - `expected`: the reward of each by the cost model, Eq. 4.
    - `measured`: the patterns of each.
    """
    count, mean, spread = (
        jnp.asarray(v, jnp.result_type(float))
        for v in zip(*map(moments, measured), strict=True)
    )
    prior = jnp.asarray(expected, count.dtype)
    # A strategy that was never measured is taken to be off from the model by as much as
    # the measured ones are on average.
    tried = count > 0
    bias = jnp.sum(jnp.where(tried, mean - prior, 0)) / jnp.maximum(
        jnp.sum(tried, dtype=prior.dtype), 1
    )
    beliefs = update_beliefs(prior + bias, PRIOR_STD, count, mean, spread)
    # A few sizes of table would save nothing: pools rarely change.
    return int(jnp.argmax(thompson_sample(beliefs, key=key)))
