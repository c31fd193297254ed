"""The reward of a choice: time and memory, energy, and error in one figure.

    reward = log(reference / cost) - w_energy log(E / 1 nJ) - w_error log(d / 1e-4)

`cost` is Eq. 4 as measured, in seconds, and `reference` is Eq. 4 of the largest arrays
laid side by side, by their data sheets. `E` is the energy of programming per entry of the
matrix, and `d` the relative error of the corrected product. Logarithms make rewards of
different matrices comparable, and turn the weights into exchange rates: with 0.1, ten per
cent less energy is worth one per cent less cost.
"""

import dataclasses
import math

import numpy as np
from numpy.typing import ArrayLike

_ENERGY, _ERROR = 1e-9, 1e-4
# Smaller figures count as these: nothing may have been programmed, or a product exact.
_LEAST_ENERGY, _LEAST_ERROR = 1e-18, 1e-12


@dataclasses.dataclass(frozen=True)
class RewardWeights:
    """Weights of energy and error beside Eq. 4, both at least 0 and finite.

    The reward is `log(reference / cost) - energy log(E / 1 nJ) - error log(d / 1e-4)`.
    `cost` is Eq. 4 as measured and `reference` that of the largest arrays laid side by
    side, by their data sheets, both in seconds; `E` and `d` are the energy and the error of
    `Measured`. With a weight of 0.1, ten per cent less energy is worth one per cent less
    cost.

    **Raises:** `ValueError` for a weight below 0 or not finite.

    **Example:**

        >>> weights = sj.memory.RewardWeights(energy=0.2, error=0.0)  # error does not count
        >>> print(round(weights.energy * np.log(2.0), 3))  # what half the energy brings
        0.139
    """

    energy: float = 0.1
    error: float = 0.1

    def __post_init__(self):
        for name, value in dataclasses.asdict(self).items():
            if not 0 <= value < math.inf:
                raise ValueError(
                    f"`RewardWeights` needs `{name}` finite and not negative. Got {value}. "
                    "Zero leaves it out."
                )


@dataclasses.dataclass(frozen=True)
class Measured:
    """What a product cost.

    - `seconds`: time of programming and reading.
    - `cost`: Eq. 4: these seconds plus the price of the memory, in seconds.
    - `energy`: energy of programming, in joules per entry of the matrix.
    - `error`: relative error of the corrected product, in the 2-norm.

    **Example:**

        >>> measured = sj.memory.Measured(seconds=0.1, cost=0.3, energy=1e-9, error=1e-4)
        >>> round(measured.cost - measured.seconds, 3)  # the price of the memory
        0.2
    """

    seconds: float
    cost: float
    energy: float
    error: float


def reward(measured: Measured, reference: float, weights: RewardWeights) -> float:
    """The reward, larger being better; `reference` is in seconds."""
    energy = max(measured.energy, _LEAST_ENERGY) / _ENERGY
    error = max(measured.error, _LEAST_ERROR) / _ERROR
    return (
        math.log(reference / measured.cost)
        - weights.energy * math.log(energy)
        - weights.error * math.log(error)
    )


def mean_error(errors: ArrayLike) -> float:
    """The mean error over a batch, of those that are finite; 0 if none is."""
    values = np.asarray(errors, float)
    values = values[np.isfinite(values)]
    return float(values.mean()) if values.size else 0.0
