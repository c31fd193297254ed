"""What a choice brought, as one figure: time and memory, energy, and error.

    reward = log(reference / cost) - w_energy log(E / 1 nJ) - w_error log(d / 1e-4)

`cost` is Eq. 4 as measured, in seconds, and `reference` that of the largest arrays side by
side as their data sheets have it. `E` is the energy of programming for each entry of the
matrix, and `d` the relative error of the corrected product. Logarithms make the figure of
one matrix comparable with that of another, and the weights exchange rates: with 0.1, ten
per cent less energy are worth one per cent less cost.
"""

import dataclasses
import math

import numpy as np

_ENERGY, _ERROR = 1e-9, 1e-4
# Below these an outcome counts as this good: nothing programmed, an exact product.
_LEAST_ENERGY, _LEAST_ERROR = 1e-18, 1e-12


@dataclasses.dataclass(frozen=True)
class RewardWeights:
    """What energy and error count beside Eq. 4, both from 0 up."""

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
    """What a product took.

    - `seconds`: of programming and reading.
    - `cost`: Eq. 4: these seconds, and the price of the memory.
    - `energy`: of programming, in joules for each entry of the matrix.
    - `error`: relative, of the corrected product.
    """

    seconds: float
    cost: float
    energy: float
    error: float


def reward(measured: Measured, reference: float, weights: RewardWeights) -> float:
    """The figure that is to be large; `reference` is in seconds."""
    energy = max(measured.energy, _LEAST_ENERGY) / _ENERGY
    error = max(measured.error, _LEAST_ERROR) / _ERROR
    return (
        math.log(reference / measured.cost)
        - weights.energy * math.log(energy)
        - weights.error * math.log(error)
    )


def mean_error(errors) -> float:
    """Of the vectors of a batch, the mean of those that are finite; 0 if there is none."""
    errors = np.asarray(errors, float)
    errors = errors[np.isfinite(errors)]
    return float(errors.mean()) if errors.size else 0.0
