"""Notice that the devices, or the load on them, have changed.

The reward of a run is compared with the earlier rewards of the same strategy, in standard
deviations. `ShortTerm.watched` accumulates these surprises by a cumulative sum
(`kernels.watch`), and an alarm is a change. The number of changes noticed so far is the
*regime*: every pattern carries it, and what was measured before a change does not count
after it.
"""

import math
from collections.abc import Sequence

from ._short_term import ShortTerm
from ._strategy import PRIOR_STD, Remembered, moments


def current_regime(short_term: ShortTerm, patterns: Sequence[Remembered]) -> int:
    """The latest change noticed by this process or, as memory has it, by another one."""
    return max([short_term.regime, *(p.choice.get("regime", 0) for p in patterns)])


def notice_change(
    short_term: ShortTerm,
    statistic: str,
    reward: float,
    earlier: Sequence[Remembered],
) -> tuple[ShortTerm, bool]:
    """Compare a reward with the earlier ones of its strategy.

    **Arguments:**

    - `statistic`: the name under which short-term memory keeps these rewards, for a
        strategy that long-term memory does not know.
    - `earlier`: patterns of the strategy, of the current regime.

    **Returns:**

    The short-term memory, and whether this reward gave the alarm.
    """
    count, mean, spread = moments(earlier)
    if not count:
        recent = short_term.summary(statistic)
        count, mean = int(recent.count), float(recent.mean)
        spread = math.sqrt(float(recent.variance))
    if not count:
        return short_term, False
    # The spread of few rewards is uncertain, so the prior's counts as one of them.
    spread = math.sqrt((PRIOR_STD**2 + (count - 1) * spread**2) / count)
    surprise = (reward - mean) / (spread * math.sqrt(1 + 1 / count))
    return short_term.watched(surprise)
