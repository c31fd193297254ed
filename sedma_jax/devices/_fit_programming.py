"""Programming noise from targets and the conductances that were reached.

The mean of the error is a polynomial in the target, in weighted least squares. So is its
deviation, from the magnitudes of what is left: those of a normal error have the mean
`sqrt(2 / pi)` deviations (Glejser 1969, J. Am. Stat. Assoc. 64, 316). What is left is
divided by `sqrt(1 - h)` first, `h` its leverage: the share of it that the fit took away.
Both have the weights of the deviation, so that they are found in turn.
"""

import os
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ..kernels import PolynomialCurve, ProgrammingNoise, whole
from ._columns import MIXED, columns_of, finite, refusal, unit_of

_CALL = "sedma_jax.devices.fit_programming"
_POINTS_EACH = 10  # per coefficient
_ROUNDS = 50
_GROUPS = 16


class ProgrammingFit(NamedTuple):
    """What `fit_programming` found.

    - `model`: for `perturb`, with `shift` and `deviation` as polynomials of the target over
        the largest one.
    - `shift_errors`, `deviation_errors`: standard errors of their coefficients, in siemens,
        if errors are normal.
    - `residuals`: errors without their mean, in siemens, in the order of the data.
    - `standardised`: the same over the deviation: normal of variance 1, if all is well.
    - `r2`: share of the variance of the errors that the mean explains.
    - `chi2`: of the deviation, over groups of targets: about 1 where it follows the
        polynomial, and well above where it does not, or where errors are not normal.
    - `excess_kurtosis`: of `standardised`: 0 for normal errors, above it with outliers.
    - `groups`: mean target, mean error and deviation of each group, in siemens, for a plot.

    **Example:**

        >>> target = np.tile(np.linspace(1e-6, 1e-5, 10), 50)
        >>> noise = 1e-7 * np.random.default_rng(0).normal(size=500)
        >>> found = sj.devices.fit_programming(target, target + noise)
        >>> found.groups.shape, bool(abs(found.standardised.std() - 1) < 0.1)
        ((10, 3), True)
    """

    model: ProgrammingNoise
    shift_errors: np.ndarray
    deviation_errors: np.ndarray
    residuals: np.ndarray
    standardised: np.ndarray
    r2: float
    chi2: float
    excess_kurtosis: float
    groups: np.ndarray


def fit_programming(
    target: ArrayLike | str | os.PathLike,
    achieved: ArrayLike | None = None,
    *,
    unit: str = "S",
    degree: int = 2,
    shift_degree: int = 1,
) -> ProgrammingFit:
    """Fit the statistics of the difference between target and achieved conductance.

    **Arguments:**

    - `target`, `achieved`: of the same shape, one pair for each cell and attempt; or one
        CSV file with a column of each, and at most one line of heading.
    - `unit`: of both, one of S, mS, uS, nS.
    - `degree`, `shift_degree`: of the polynomials of the deviation and of the mean, from 0.

    **Raises:** `ValueError` for fewer than 10 pairs per coefficient, for no more targets
    than the polynomials have degrees, and never fewer than 2, for NaN, for pairs in
    different units, and where the deviation that is found falls to 0 within the targets.

    **Example:**

        >>> target = np.tile(np.linspace(1e-6, 1e-5, 10), 50)
        >>> noise = 1e-7 * np.random.default_rng(0).normal(size=500)
        >>> found = sj.devices.fit_programming(target, target + noise, degree=0)
        >>> sigma = found.model.deviation(jnp.array(5e-6))
        >>> bool(abs(sigma / 1e-7 - 1) < 0.15)
        True
    """
    degrees = _degrees(degree=degree, shift_degree=shift_degree)
    wanted, error = _pairs(target, achieved, unit)
    flat, off = wanted.ravel(), error.ravel()
    _check(flat, off, degrees)
    reference = float(flat.max())
    x = flat / reference
    spread, mean = (np.vander(x, d + 1, increasing=True) for d in degrees)
    least = 1e-3 * float(np.sqrt(np.mean(off**2)))
    shift, rest, loose, deviation = _in_turn(mean, spread, off, least)
    sigma = np.maximum(spread @ deviation, least)
    if not (spread @ deviation > least).all():
        low = flat[np.argmin(spread @ deviation)]
        raise refusal(
            _CALL,
            "a deviation above 0 at every target",
            f"one of 0 or below at {low:.3g} S with `degree={degrees[0]}`",
            "Take a lower degree, or leave out cells that hit their target exactly.",
        )
    z = rest / np.sqrt(loose) / sigma
    errors = lambda design, scale: (
        scale
        * np.sqrt(
            np.diag(np.linalg.inv((design / sigma[:, None]).T @ (design / sigma[:, None])))
        )
    )
    groups, chi2 = _groups(flat, off, z)
    curve = lambda found: PolynomialCurve(tuple(map(float, found)), reference)
    return ProgrammingFit(
        ProgrammingNoise(curve(deviation), shift=curve(shift)),
        errors(mean, 1.0),
        # The magnitude of a normal number has the variance 1 - 2 / pi.
        errors(spread, float(np.sqrt(np.pi / 2 - 1))),
        rest.reshape(wanted.shape),
        (rest / sigma).reshape(wanted.shape),
        float(1 - np.sum(rest**2) / np.sum((off - off.mean()) ** 2)),
        chi2,
        float(np.mean(z**4) / np.mean(z**2) ** 2 - 3),
        groups,
    )


def _degrees(**degrees: Any) -> list[int]:
    for name, value in degrees.items():
        number = whole(value)
        if number is None or not 0 <= number <= 6:
            remedy = "Higher ones follow the scatter."
            raise refusal(_CALL, f"`{name}` from 0 to 6", repr(value), remedy)
    return [int(value) for value in degrees.values()]


def _pairs(target: Any, achieved: Any, unit: Any) -> tuple[np.ndarray, np.ndarray]:
    """Targets and errors, in siemens."""
    scale = unit_of(_CALL, unit)
    if isinstance(target, str | os.PathLike):
        columns = "two columns of numbers, target and achieved"
        target, achieved = columns_of(_CALL, os.fspath(target), columns, 2, 2)
    if achieved is None:
        remedy = "Pass both, or one file of two columns."
        raise refusal(_CALL, "`achieved` beside `target`", "None", remedy)
    wanted, got = finite(_CALL, "target", target), finite(_CALL, "achieved", achieved)
    if wanted.shape != got.shape:
        shapes = f"shapes {wanted.shape} and {got.shape}"
        remedy = "Repeat a target for each cell."
        raise refusal(_CALL, "as many `achieved` as `target`", shapes, remedy)
    return wanted * scale, (got - wanted) * scale


def _check(target: np.ndarray, error: np.ndarray, degrees: list[int]) -> None:
    """Refuse what identifies no such polynomials."""
    least = _POINTS_EACH * (max(degrees) + 1)
    if target.size < least:
        wanted = f"at least {least} pairs for `degree={degrees[0]}`"
        remedy = "Measure more cells, or take a lower degree."
        raise refusal(_CALL, wanted, target.size, remedy)
    if not (target.min() >= 0 and 0 < target.max() <= 0.1):
        got = f"{target.min():.3g} to {target.max():.3g} S"
        remedy = "Check `unit`; resistances are ohms: pass 1 / R."
        raise refusal(_CALL, "targets from 0 to 0.1 siemens", got, remedy)
    some = np.unique(target).size
    if some <= max(*degrees, 1):
        wanted = f"at least {max(*degrees, 1) + 1} different targets"
        remedy = "Noise at one target says nothing of others."
        raise refusal(_CALL, wanted, some, remedy)
    ratio = np.median(((target + error) / target)[target > 0])
    if not 1 / MIXED < ratio < MIXED:
        got = f"achieved ones that are {ratio:.3g} times the targets"
        remedy = "Bring both columns to one."
        raise refusal(_CALL, "both columns in one unit", got, remedy)
    if not np.ptp(error) > 1e-9 * target.max():
        remedy = "Are the columns the same?"
        raise refusal(_CALL, "errors that scatter", f"{error[0]:.3g} S in all", remedy)


def _in_turn(
    mean: np.ndarray, spread: np.ndarray, error: np.ndarray, least: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Coefficients of the mean, what it leaves and how loosely, those of the deviation."""
    sigma = np.full(error.size, max(float(error.std()), least))
    for left in reversed(range(_ROUNDS)):
        shift, rest, loose = _weighted(mean, error, sigma)
        size = np.abs(rest) / np.sqrt(loose) * np.sqrt(np.pi / 2)
        deviation, *_ = _weighted(spread, size, sigma)
        before, sigma = sigma, np.maximum(spread @ deviation, least)
        if not left or np.allclose(sigma, before, rtol=1e-9, atol=0):
            return shift, rest, loose, deviation
    raise AssertionError("there is a last round")


def _weighted(
    design: np.ndarray, values: np.ndarray, sigma: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Coefficients, what they leave, and the share of it that they could not take away."""
    basis, triangle = np.linalg.qr(design / sigma[:, None])
    found = np.linalg.solve(triangle, basis.T @ (values / sigma))
    loose = np.maximum(1 - np.sum(basis**2, axis=1), 1e-6)
    return found, values - design @ found, loose


def _groups(
    target: np.ndarray, error: np.ndarray, z: np.ndarray
) -> tuple[np.ndarray, float]:
    """Rows of a table of targets, and how far the variances of `z` in it are from 1."""
    levels, which = np.unique(target, return_inverse=True)
    if levels.size > 2 * _GROUPS:
        edges = np.quantile(target, np.linspace(0, 1, _GROUPS + 1)[1:-1])
        which = np.searchsorted(edges, target, side="right")
    rows, terms = [], []
    for number in np.unique(which):
        here = which == number
        count = int(here.sum())
        if count < 2:
            continue
        rows.append((target[here].mean(), error[here].mean(), error[here].std(ddof=1)))
        # Of normal numbers the squares have the variance 2.
        terms.append((np.mean(z[here] ** 2) - 1) ** 2 * count / 2)
    return np.array(rows).reshape(-1, 3), float(np.mean(terms)) if terms else float("nan")
