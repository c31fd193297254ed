"""Retention from the conductances of cells at several times after programming.

Either law is a straight line for each cell, solved in closed form:

    g(t) = g_0 (1 + c log(1 + t / t_0))     in log(1 + t / t_0), for relaxation,
    log g(t) = log g_0 - nu log(1 + t / t_0)   in the same, for the power law.

`t_0`, common to all cells, is where the squares of all relative residuals are least. The
spread of `c` or `nu` over the cells is that of the fits without their own standard errors.
"""

import os
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize_scalar

from ..kernels import (
    POSITIVE,
    LogarithmicRelaxation,
    PolynomialCurve,
    PowerLawDrift,
    check_numbers,
)
from ._columns import MIXED, columns_of, finite, refusal, unit_of

_CALL = "sedma_jax.devices.fit_retention"
LAWS = ("logarithmic", "power")
_LEAST_CELLS, _LEAST_TIMES = 3, 4
# Half of the 95 % quantile of the chi-squared law of one parameter.
_UNLIKELY = 1.92


class RetentionFit(NamedTuple):
    """What `fit_retention` found.

    - `model`: for `age`.
    - `t_0`: of the law, in seconds.
    - `start`: conductance of each cell at time 0, in siemens.
    - `coefficient`, `error`: `c` or `nu` of each cell, and its standard error.
    - `residuals`: relative ones, of shape (cells, times).
    - `rms`: their root mean square: the noise of a read, if the law holds.
    - `r2`: share of the variance in time, summed over the cells, that the law explains.

    **Example:**

        >>> t = np.array([1.0, 10.0, 100.0, 1000.0, 1e4])
        >>> g = np.outer([1e-5, 2e-5, 3e-5], (1 + t / 20) ** -0.05)
        >>> found = sj.devices.fit_retention(t, g, law="power", t_0=20.0)
        >>> print(found.coefficient.round(4))
        [0.05 0.05 0.05]
    """

    model: LogarithmicRelaxation | PowerLawDrift
    t_0: float
    start: np.ndarray
    coefficient: np.ndarray
    error: np.ndarray
    residuals: np.ndarray
    rms: float
    r2: float


def fit_retention(
    time: ArrayLike | str | os.PathLike,
    conductance: ArrayLike | None = None,
    *,
    unit: str = "S",
    law: str = "logarithmic",
    t_0: float | None = None,
) -> RetentionFit:
    """Fit a law of retention to cells that were read at several times.

    **Arguments:**

    - `time`: since programming, in seconds, ascending from 0 or later; or one CSV file with
        a column of times, then one of conductances for each cell, and at most one line of
        heading.
    - `conductance`: of shape (cells, times), positive.
    - `unit`: of the conductances, one of S, mS, uS, nS.
    - `law`: "logarithmic" for a `LogarithmicRelaxation`, or "power" for a `PowerLawDrift`
        with the same statistics at every conductance.
    - `t_0`: of the law, in seconds; None finds it.

    **Raises:** `ValueError` for fewer than 3 cells or 4 times, 3 with `t_0`, for NaN, for
    times that do not ascend, for a cell that changes its unit, where the data leave `t_0`
    open, and for conductances that grow under the power law, which has no such cells.

    **Example:**

        >>> t = np.array([0.0, 1.0, 10.0, 100.0, 1000.0])
        >>> g = np.outer([1e-5, 2e-5, 3e-5], 1 - 0.02 * np.log1p(t / 5))
        >>> found = sj.devices.fit_retention(t, g)
        >>> round(found.model.mean, 4), round(found.t_0, 2), found.r2 > 0.999
        (-0.02, 5.0, True)
    """
    if law not in LAWS:
        wanted = f"`law` to be one of {', '.join(LAWS)}"
        raise refusal(_CALL, wanted, repr(law), "Try both, and compare `rms`.")
    check_numbers(_CALL, POSITIVE, "It is a time, in seconds.", t_0=t_0)
    times, g = _measured(time, conductance, unit, 3 if t_0 is not None else _LEAST_TIMES)
    if t_0 is None:
        t_0 = _time_constant(times, g, law)
    start, coefficient, error, residuals = _lines(times, g, law, float(t_0))
    total = np.sum((g / g.mean(axis=1, keepdims=True) - 1) ** 2)
    mean = float(coefficient.mean())
    spread = float(np.sqrt(max(coefficient.var(ddof=1) - np.mean(error**2), 0.0)))
    if law == "power" and mean <= 0:
        remedy = 'Take `law="logarithmic"`, which has both signs.'
        raise refusal(_CALL, "conductances that fall", f"nu = {mean:.3g}", remedy)
    reference = float(g.mean())
    constant = lambda value: PolynomialCurve((value,), reference)
    model = (
        LogarithmicRelaxation(mean, spread, float(t_0))
        if law == "logarithmic"
        else PowerLawDrift(constant(mean), constant(spread), float(t_0))
    )
    return RetentionFit(
        model,
        float(t_0),
        start,
        coefficient,
        error,
        residuals,
        float(np.sqrt(np.mean(residuals**2))),
        float(1 - np.sum(residuals**2) / total) if total > 0 else 0.0,
    )


def _measured(
    time: Any, conductance: Any, unit: Any, least: int
) -> tuple[np.ndarray, np.ndarray]:
    scale = unit_of(_CALL, unit)
    if isinstance(time, str | os.PathLike):
        columns = f"a column of times and at least {_LEAST_CELLS} of cells"
        found = columns_of(_CALL, os.fspath(time), columns, _LEAST_CELLS + 1, np.inf)
        time, conductance = found[0], found[1:]
    if conductance is None:
        remedy = "Pass both, or one file."
        raise refusal(_CALL, "`conductance` beside `time`", "None", remedy)
    times = finite(_CALL, "time", time)
    g = finite(_CALL, "conductance", conductance) * scale
    if times.ndim != 1 or g.ndim != 2 or g.shape[1] != times.size:
        got, remedy = f"shapes {times.shape} and {g.shape}", "Cells come first."
        raise refusal(_CALL, "`conductance` of shape (cells, times)", got, remedy)
    if len(g) < _LEAST_CELLS or times.size < least:
        wanted = f"at least {_LEAST_CELLS} cells and {least} times"
        got = f"{len(g)} and {times.size}"
        remedy = "Two figures fit any law; a spread takes cells."
        raise refusal(_CALL, wanted, got, remedy)
    if times[0] < 0 or (np.diff(times) <= 0).any():
        remedy = "In seconds since programming; sort them, and leave out what repeats."
        raise refusal(_CALL, "times that ascend from 0 or later", _short(times), remedy)
    if not ((g > 0).all() and g.max() <= 0.1):
        got = f"{g.min():.3g} to {g.max():.3g} S"
        remedy = "Check `unit`; resistances are ohms: pass 1 / R."
        raise refusal(_CALL, "conductances above 0, up to 0.1 siemens", got, remedy)
    change = g.max(axis=1) / g.min(axis=1)
    if (change > MIXED).any():
        number = int(np.argmax(change))
        got = f"a factor of {change[number]:.3g} in cell {number}"
        remedy = "Bring it to one unit; leave out a cell that has failed."
        raise refusal(_CALL, f"cells that change less than {MIXED:.0f}-fold", got, remedy)
    return times, g


def _short(times: np.ndarray) -> str:
    return " ".join(f"{t:g}" for t in times[:6]) + (" ..." if times.size > 6 else "")


def _lines(times: np.ndarray, g: np.ndarray, law: str, t_0: float):
    """Start, coefficient and its standard error of each cell, and relative residuals."""
    growth = np.log1p(times / t_0)
    design = np.stack([np.ones_like(growth), growth], axis=1)
    inverse = np.linalg.inv(design.T @ design)
    values = g if law == "logarithmic" else np.log(g)
    base, slope = inverse @ design.T @ values.T
    rest = values - base[:, None] - slope[:, None] * growth
    variance = np.sum(rest**2, axis=1) / max(times.size - 2, 1)
    if law == "power":
        return np.exp(base), -slope, np.sqrt(variance * inverse[1, 1]), rest
    c = slope / base
    # Of the quotient of two estimates, to first order.
    share = inverse[1, 1] - 2 * c * inverse[0, 1] + c**2 * inverse[0, 0]
    error = np.sqrt(variance * share) / np.abs(base)
    return base, c, error, rest / g.mean(axis=1, keepdims=True)


def _time_constant(times: np.ndarray, g: np.ndarray, law: str) -> float:
    """The `t_0` of least squares; refused where the data do not tell it from its limits."""
    first = times[times > 0]
    low, high = np.log(first[0] / 100), np.log(10 * first[-1])
    # Exact data would have no residuals, and their logarithm no least value.
    floor = 1e-24 * g.size
    misfit = lambda at: (
        0.5 * g.size * np.log(np.sum(_lines(times, g, law, np.exp(at))[3] ** 2) + floor)
    )
    grid = np.linspace(low, high, 121)
    squares = np.array([misfit(at) for at in grid])
    best = int(np.argmin(squares))
    if min(squares[0], squares[-1]) - squares[best] < _UNLIKELY:
        side = "low" if squares[0] <= squares[-1] else "high"
        limit = np.exp(low if side == "low" else high)
        raise refusal(
            _CALL,
            "data that tell `t_0`",
            f"as good a fit at {limit:.3g} s",
            "Pass `t_0`, such as the time of the first read, or read earlier and later.",
        )
    found = minimize_scalar(misfit, bounds=grid[[best - 1, best + 1]], method="bounded")
    return float(np.exp(found.x))
