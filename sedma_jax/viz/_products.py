"""Pictures of products: where energy goes, and what corrections are worth."""

from collections.abc import Mapping, Sequence
from itertools import cycle

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter
from numpy.typing import ArrayLike

from ..kernels import MvmCost
from ._style import (
    BLUE,
    GREY,
    LINES,
    MARKERS,
    ORANGE,
    despine,
    new_figure,
    numbers,
    same_shape,
    share,
)

_ACRONYMS = {"adc": "ADC", "dac": "DAC"}


def energy_breakdown(cost: MvmCost | Mapping[str, float]) -> Figure:
    """Draw where the joules of a product went.

    **Arguments:**

    - `cost`: an `MvmCost`, or a mapping from component to joules.

    **Returns:**

    Horizontal bars, the largest at the top, each with its energy and share.

    **Raises:** `ValueError` if no component has any energy.

    **Example:**

        >>> figure = sj.viz.energy_breakdown({"adc": 3e-12, "array": 1e-12})
        >>> [label.get_text() for label in figure.axes[0].get_yticklabels()]
        ['array', 'ADC']
    """
    parts = cost.energy_breakdown if isinstance(cost, MvmCost) else cost
    joules = {name: float(value) for name, value in parts.items()}
    total = sum(joules.values())
    if not total > 0:
        raise ValueError(
            "`sedma_jax.viz.energy_breakdown` needs a positive total energy, in joules. "
            f"Got {joules}. Pass a cost in which some component has energy."
        )
    names = sorted(joules, key=joules.__getitem__)
    values = [joules[name] for name in names]
    energy = EngFormatter("J", places=2)
    figure = new_figure(5.6, 1.2 + 0.36 * len(names))
    axis = figure.subplots()
    titles = [_ACRONYMS.get(name, name) for name in names]
    bars = axis.barh(titles, values, color=BLUE)
    labels = [f"{energy(value)}  ({share(value / total)})" for value in values]
    axis.bar_label(bars, labels, padding=4)
    axis.set_xlim(0, max(values) * 1.45)
    axis.xaxis.set_major_formatter(EngFormatter("J"))
    axis.set_xlabel("energy")
    axis.set_title(f"total {energy(total)}")
    despine(axis)
    return figure


def correction_errors(names: Sequence[str], raw: ArrayLike, corrected: ArrayLike) -> Figure:
    """Draw the error of each device before and after correction.

    **Arguments:**

    - `names`: of the devices.
    - `raw`, `corrected`: positive relative errors, one for each name.

    **Returns:**

    Pairs of bars on a logarithmic scale, with the improvement factor above the second bar.

    **Raises:** `ValueError` if the lengths differ or an error is not positive.

    **Example:**

        >>> figure = sj.viz.correction_errors(["epiram"], raw=[0.02], corrected=[0.001])
        >>> figure.axes[0].get_yscale()
        'log'
    """
    raw, corrected = same_shape("correction_errors", raw=raw, corrected=corrected)
    if raw.shape != (len(names),) or not np.all((raw > 0) & (corrected > 0)):
        raise ValueError(
            "`sedma_jax.viz.correction_errors` needs one positive error for each of the "
            f"{len(names)} names. Got raw={raw}, corrected={corrected}. "
            "Leave out devices without an error: a logarithmic axis shows no zero."
        )
    place = np.arange(len(names))
    width = 0.38
    figure = new_figure(max(4.2, 1.6 + 1.2 * len(names)), 3.6)
    axis = figure.subplots()
    axis.bar(place - width / 2, raw, width, color=ORANGE, label="raw")
    axis.bar(place + width / 2, corrected, width, color=BLUE, label="corrected")
    for x, before, after in zip(place, raw, corrected, strict=True):
        axis.annotate(
            f"÷{before / after:.3g}",
            (x + width / 2, after),
            xytext=(0, 3),
            textcoords="offset points",
            ha="center",
            color=GREY,
        )
    axis.set_yscale("log")
    lowest, highest = min(raw.min(), corrected.min()), max(raw.max(), corrected.max())
    axis.set_ylim(lowest / 3, highest * 3)
    axis.set_xticks(place, names)
    axis.set_ylabel("relative error")
    axis.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False)
    despine(axis)
    return figure


def error_against_slices(errors: Mapping[str, ArrayLike]) -> Figure:
    """Draw how the error falls as arrays are added that store the remaining error.

    **Arguments:**

    - `errors`: positive relative errors after 1, 2, ... slices for each device.

    **Returns:**

    A line for each device on a logarithmic scale, where geometric decay is a straight line.

    **Raises:** `ValueError` if there are no errors, or an error is not positive.

    **Example:**

        >>> figure = sj.viz.error_against_slices({"epiram": [1e-2, 1e-4, 1e-6]})
        >>> print(figure.axes[0].get_lines()[0].get_xdata())
        [1 2 3]
    """
    lines = {name: numbers(values, "errors") for name, values in errors.items()}
    if not lines or not all(
        line.ndim == 1 and line.size and np.all(line > 0) for line in lines.values()
    ):
        raise ValueError(
            "`sedma_jax.viz.error_against_slices` needs positive errors for 1 slice or "
            f"more of each device. Got {lines}. Leave out devices without an error."
        )
    figure = new_figure(4.8, 3.6)
    axis = figure.subplots()
    for (name, line), colour, marker in zip(
        lines.items(), cycle(LINES), cycle(MARKERS), strict=False
    ):
        slices = np.arange(1, line.size + 1)
        axis.plot(slices, line, color=colour, marker=marker, label=name)
    axis.set_yscale("log")
    axis.set_xticks(np.arange(1, max(line.size for line in lines.values()) + 1))
    axis.set_xlabel("slices")
    axis.set_ylabel("relative error")
    axis.legend(frameon=False)
    despine(axis)
    return figure
