"""When to place anew: Eq. 14 with hysteresis, a cool-down and a budget of moves.

A deployment is placed anew when `performance / expected < theta`, or `utilisation > rho`.
Single measurements are noisy, so the median of the last few counts. Nothing fires within
the cool-down, which doubles each time a placement did not cure its cause; a cause is cured
once the median is past its limit by a margin.
"""

import dataclasses
import statistics
from collections import deque


@dataclasses.dataclass(frozen=True)
class Limits:
    """The limits of Eq. 14, and what keeps placements from alternating.

    - `theta`: the least performance over the expected one.
    - `rho`: the greatest utilisation of a node.
    - `margin`: how far past its limit a cause has to be before it counts as cured.
    - `samples`: measurements whose median counts.
    - `cool_down`: seconds until the next placement; up to 16 times that after failures.
    - `moves`: the greatest number of replicas that one placement moves.
    - `move_share`: cost of a move, as a share of the present cost.
    - `gain`: share of the cost that a placement has to save.
    """

    theta: float = 0.8
    rho: float = 0.85
    margin: float = 0.05
    samples: int = 5
    cool_down: float = 120.0
    moves: int = 10
    move_share: float = 0.01
    gain: float = 0.05

    def __post_init__(self):
        numbers = (self.theta, self.rho, self.margin, self.cool_down)
        numbers += (self.move_share, self.gain)
        if not (all(n >= 0 for n in numbers) and self.samples >= 1 and self.moves >= 1):
            raise ValueError(
                "`Limits` needs shares and seconds of 0 or more, and samples and moves of "
                f"1 or more. Got {self}. Leave them out for the defaults."
            )


class Trigger:
    """Decides from measurements when to place anew, by the clock of the caller."""

    def __init__(self, limits: Limits | None = None):
        self.limits = limits or Limits()
        self._ratios: deque[float] = deque(maxlen=self.limits.samples)
        self._loads: deque[float] = deque(maxlen=self.limits.samples)
        self._fired = -float("inf")
        self._failures = 0  # placements since all causes were cured

    def observe(
        self, ratio: float | None, utilisation: float | None, now: float
    ) -> str | None:
        """Take in one measurement.

        **Arguments:**

        - `ratio`: performance over the expected one; None if it is not known.
        - `utilisation`: of the fullest node, 0 to 1; None if it is not known.
        - `now`: seconds.

        **Returns:** why to place anew, `performance` or `utilisation`, or None.
        """
        limits = self.limits
        for values, value in ((self._ratios, ratio), (self._loads, utilisation)):
            if value is not None:
                values.append(value)
        causes, cured = [], False
        if len(self._ratios) == limits.samples:
            middle = statistics.median(self._ratios)
            if middle < limits.theta:
                causes.append("performance")
            cured = middle > limits.theta + limits.margin
        if len(self._loads) == limits.samples:
            middle = statistics.median(self._loads)
            if middle > limits.rho:
                causes.append("utilisation")
            low = middle < limits.rho - limits.margin
            cured = low and (cured or not self._ratios)
        if cured:
            self._failures = 0
        wait = limits.cool_down * 2 ** min(max(self._failures - 1, 0), 4)
        return causes[0] if causes and now - self._fired >= wait else None

    def fired(self, now: float) -> None:
        """Note that a placement was made; measurements from before no longer count."""
        self._fired = now
        self._failures += 1
        self._ratios.clear()
        self._loads.clear()
