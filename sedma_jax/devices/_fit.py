"""A device from measured trains of identical pulses.

The mean over cells and cycles is fitted by `start + (end - start) s(x)`, `s` the law of
`Device`, in least squares (SciPy, trust region). What is left gives the noise:
over `n` pulses two reads differ by the variance `n c**2 + 2 r**2`, with `c` the noise of
one pulse and `r` that of one read; a line through the variances of the first lags has both.
"""

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import least_squares

from ..kernels import Device, TabulatedCurve, shown
from ._columns import columns_of, refusal, unit_of

_CALL = "sedma_jax.devices.fit"
_LEAST_PULSES = 8
_LARGEST_CURVATURE = 40.0


class Quality(NamedTuple):
    """How well one direction was fitted; all but `r2` in the unit of the conductances.

    - `r2`: share of the variance of the mean trace that the curve explains.
    - `rms`: root mean square distance of the mean trace from the curve.
    - `label_error`: standard error of the nonlinearity label, in label units: as large as
        the label, and the label is not identified.
        It is that of the exponential law, also for tables.
    - `curve`: the fitted trace, and `mean` the measured one, in siemens.

    **Example:**

        >>> up = np.linspace(1e-6, 1e-5, 65)  # siemens; a straight line, fitted as one
        >>> quality = sj.devices.fit(up, up[::-1]).ltp
        >>> quality.rms < 1e-9, quality.curve.shape
        (True, (65,))
    """

    r2: float
    rms: float
    label_error: float
    curve: np.ndarray
    mean: np.ndarray


class Fit(NamedTuple):
    """What `fit` found.

    - `device`: with the window, the labels or tables, and the noise that were found.
    - `ltp`, `ltd`: the quality of both directions.
    - `read_noise`, `pulse_noise`: deviations of a read and of one pulse, in siemens.

    **Example:**

        >>> up = np.linspace(1e-6, 1e-5, 65)  # siemens
        >>> found = sj.devices.fit(up, up[::-1])
        >>> round(float(found.device.g_min) * 1e6, 3), found.read_noise < 1e-9
        (1.0, True)
    """

    device: Device
    ltp: Quality
    ltd: Quality
    read_noise: float
    pulse_noise: float


def fit(
    ltp: ArrayLike | str | os.PathLike,
    ltd: ArrayLike | None = None,
    *,
    unit: str | None = "S",
    window: Sequence[float] | None = None,
    tabulated: bool = False,
) -> Fit:
    """Fit a device to conductances measured after each of a train of identical pulses.

    **Arguments:**

    - `ltp`, `ltd`: conductances after each pulse of potentiation and depression, of shape
        (pulses,), (cells, pulses) or (cells, cycles, pulses); or one CSV file with a column
        of each, and at most one line of heading.
    - `unit`: of the conductances, one of S, mS, uS, nS; None for normalised weights, which
        need `window`.
    - `window`: conductances, in siemens, that the lowest and highest fitted values are.
    - `tabulated`: take the smoothed mean trace as a table, in place of a label.

    **Returns:** a `Fit`. The spread of labels over cells, `sigma_d2d`, is found from three
    cells up, and includes the error of each fit.

    **Raises:** `ValueError` for fewer than 8 pulses, NaN, constant traces, traces in the
    wrong direction or in another unit.

    Source of the law: Chen, Peng & Yu (2018), IEEE TCAD 37, 3067, Eq. 8-10.

    **Example:**

        >>> x = np.linspace(0, 1, 65)
        >>> up = 1e-6 + 9e-6 * np.expm1(-2 * x) / np.expm1(-2)
        >>> found = sj.devices.fit(up, 1.1e-5 - up)
        >>> round(float(found.device.g_max) * 1e6, 3), round(found.ltp.r2, 6)
        (10.0, 1.0)
    """
    traces = _traces(ltp, ltd)
    scale = _unit(unit, window)
    parts = [
        _direction(name, trace * scale) for name, trace in zip(_NAMES, traces, strict=True)
    ]
    if tabulated:
        parts = [_by_table(part) for part in parts]
    low = min(min(p.ends) for p in parts)
    high = max(max(p.ends) for p in parts)
    if unit is not None and not 0 <= low < high <= 0.1:
        got = f"a fitted window of {low:.3g} to {high:.3g} S"
        raise _refusal("conductances from 0 to 0.1 siemens", got, "Check `unit`.")
    width = high - low
    noise = [p.noise for p in parts]
    pulse, read = (float(np.sqrt(np.mean(np.square(v)))) for v in zip(*noise, strict=True))
    g_min, g_max = (low, high) if window is None else map(float, window)
    factor = (g_max - g_min) / width
    shapes: dict[str, Any] = {}
    labels = [_label(p.curvature) for p in parts]
    for name, part, label in zip(_NAMES, parts, labels, strict=True):
        if tabulated:
            shapes[f"curve_{name}"] = part.table
        else:
            shapes[f"nonlinearity_{name}"] = _within(name, label, part.label_error)
    if not tabulated:
        cells = [_spread(name, t * scale) for name, t in zip(_NAMES, traces, strict=True)]
        shapes["sigma_d2d"] = float(np.sqrt(np.mean(np.square(cells))))
    # Pulses that cross the whole window, where a direction covers less of it.
    count = lambda part: max(1.0, (part.mean.size - 1) * width / abs(np.ptp(part.ends)))
    device = Device(
        g_min,
        g_max,
        count(parts[0]),
        count(parts[1]),
        sigma_c2c=pulse / width,
        sigma_read=read / width,
        **shapes,
    )
    moved = lambda g: g_min + (g - low) * factor
    up, down = (
        Quality(p.r2, p.rms * factor, p.label_error, moved(p.curve), moved(p.mean))
        for p in parts
    )
    return Fit(device, up, down, read * factor, pulse * factor)


_NAMES = ("ltp", "ltd")


def _within(name: str, label: float, error: float) -> float:
    """The label with the sign that a device has, or zero where it may as well be zero."""
    least = -9.0 if name == "ltp" else 0.0
    if not least - 5 * error - 0.01 <= label <= 9.0:
        wanted = f"a label of `{name}` from {least:g} to 9 in magnitude"
        raise _refusal(wanted, f"{label:.3g}", "Pass `tabulated=True`.")
    label = max(label, least)
    return label if name == "ltp" else -label


class _Part(NamedTuple):
    ends: tuple[float, float]
    curvature: float
    label_error: float
    r2: float
    rms: float
    curve: np.ndarray
    mean: np.ndarray
    noise: tuple[float, float]
    table: TabulatedCurve | None = None


def _refusal(wanted: str, got: object, remedy: str) -> ValueError:
    return refusal(_CALL, wanted, got, remedy)


def _traces(ltp: Any, ltd: Any) -> tuple[np.ndarray, np.ndarray]:
    if isinstance(ltp, str | os.PathLike):
        columns = "two columns of numbers, LTP and LTD"
        ltp, ltd = columns_of(_CALL, os.fspath(ltp), columns, 2, 2)
    if ltd is None:
        raise _refusal(
            "`ltd` beside `ltp`", "None", "Pass both, or one file of two columns."
        )
    found = []
    for name, values in (("ltp", ltp), ("ltd", ltd)):
        try:
            trace = np.asarray(values, float)
        except (TypeError, ValueError):
            raise _refusal(f"numbers in `{name}`", shown(values), "Same lengths.") from None
        if not 1 <= trace.ndim <= 3 or trace.shape[-1] < _LEAST_PULSES or not trace.size:
            raise _refusal(
                f"at least {_LEAST_PULSES} pulses along the last of one to three axes of "
                f"`{name}`",
                f"shape {trace.shape}",
                "Two figures fit any curve.",
            )
        if not np.isfinite(trace).all():
            raise _refusal(f"`{name}` to be finite", "NaN or infinity", "Leave those out.")
        found.append(
            trace.reshape(
                -1 if trace.ndim < 3 else len(trace),
                *((1, trace.shape[-1]) if trace.ndim < 3 else trace.shape[1:]),
            )
        )
    return found[0], found[1]


def _unit(unit: str | None, window: Any) -> float:
    if unit is None:
        ends = () if window is None else tuple(window)
        if len(ends) != 2 or not 0 <= ends[0] < ends[1] <= 0.1:
            raise _refusal(
                "`window`, two conductances in siemens, with `unit=None`",
                repr(window),
                "Write `window=(1e-6, 1e-5)`.",
            )
        return 1.0
    scale = unit_of(_CALL, unit)
    if window is not None:
        raise _refusal("no `window` beside a `unit`", repr(window), "It is fitted.")
    return scale


def _shape(x: np.ndarray, u: float) -> np.ndarray:
    return x if abs(u) < 1e-6 else np.expm1(-u * x) / np.expm1(-u)


def _solve(mean: np.ndarray):
    """Start, end and curvature in least squares, in units of the range of the trace."""
    x = np.linspace(0, 1, mean.size)
    size = np.ptp(mean)
    model = lambda p: p[0] + (p[1] - p[0]) * _shape(x, p[2])
    residual = lambda p: model(p) - mean / size
    first = [mean[0] / size, mean[-1] / size, 1.0]
    limits = ([-np.inf, -np.inf, -_LARGEST_CURVATURE], [np.inf, np.inf, _LARGEST_CURVATURE])
    found = least_squares(
        residual, first, bounds=limits, xtol=1e-14, ftol=1e-14, gtol=1e-14
    )
    return found, model(found.x) * size, size


def _direction(name: str, trace: np.ndarray) -> _Part:
    mean = trace.mean(axis=(0, 1))
    if np.ptp(mean) <= 1e-9 * np.abs(mean).max():
        raise _refusal(
            f"`{name}` to change", f"all of it {mean[0]:.4g}", "Check the column."
        )
    found, curve, size = _solve(mean)
    start, end, u = found.x
    if (end > start) != (name == "ltp"):
        way = "rise" if name == "ltp" else "fall"
        got = f"{start * size:.4g} to {end * size:.4g}"
        raise _refusal(f"`{name}` to {way} from pulse to pulse", got, "Are they swapped?")
    rest = mean - curve
    freedom = mean.size - 3
    jacobian = np.asarray(found.jac)
    covariance = np.linalg.pinv(jacobian.T @ jacobian) * (2 * found.cost / freedom)
    slope = (_label(u + 1e-4) - _label(u - 1e-4)) / 2e-4
    pulse, read = _noise(trace - curve)
    return _Part(
        (float(start * size), float(end * size)),
        float(u),
        float(abs(slope) * np.sqrt(covariance[2, 2])),
        float(1 - np.sum(rest**2) / np.sum((mean - mean.mean()) ** 2)),
        float(np.sqrt(np.mean(rest**2))),
        curve,
        mean,
        (pulse, read),
    )


def _noise(rest: np.ndarray) -> tuple[float, float]:
    """Deviations of one pulse and of one read, from the variances of differences."""
    lags = np.arange(1, max(4, rest.shape[-1] // 20) + 1)
    apart = [np.mean((rest[..., n:] - rest[..., :-n]) ** 2) for n in lags]
    slope, height = np.polyfit(lags, apart, 1)
    return float(np.sqrt(max(slope, 0.0))), float(np.sqrt(max(height, 0.0) / 2))


def _label(u: float) -> float:
    """The label of a curvature, in closed form (see `kernels._cells.device`)."""
    size = abs(u)
    if size < 1e-3:
        return 10.101525 * u / 8
    c = -np.expm1(-size)
    return float(np.sign(u) * 10.101525 * (1 / c - 1 / size + np.log(c / size) / size))


def _spread(name: str, trace: np.ndarray) -> float:
    if len(trace) < 3:
        return 0.0
    labels = [_label(_direction(name, cell[None]).curvature) for cell in trace]
    return float(np.std(labels, ddof=1))


def _by_table(part: _Part) -> _Part:
    """The mean trace as a rising table of at most 33 points, in place of the law."""
    way = np.sign(part.ends[1] - part.ends[0])
    mean = part.mean * way
    points = np.linspace(0, mean.size - 1, min(33, mean.size // 4 + 1))
    half = max((points[1] - points[0]) / 2, 0.5)
    index = np.arange(mean.size)
    smooth = np.array([mean[np.abs(index - p) <= half].mean() for p in points])
    smooth = np.maximum.accumulate(smooth)
    # A plateau has no inverse: the table rises by a thousandth of its range at least.
    smooth = smooth + np.linspace(0, 1e-3, smooth.size) * np.ptp(smooth)
    start, end = smooth[0], smooth[-1]
    curve = np.interp(index, points, smooth) * way
    rest = part.mean - curve
    return part._replace(
        ends=(float(start * way), float(end * way)),
        r2=float(1 - np.sum(rest**2) / np.sum((mean - mean.mean()) ** 2)),
        rms=float(np.sqrt(np.mean(rest**2))),
        curve=curve,
        table=TabulatedCurve(
            jnp.asarray(points / points[-1]), jnp.asarray((smooth - start) / (end - start))
        ),
    )
