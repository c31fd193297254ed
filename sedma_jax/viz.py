"""Draw crossbars, errors and costs.

Every function takes arrays or records and returns a `matplotlib.figure.Figure` that belongs
to no window or global state: show it in a notebook, or call its `savefig`. The colours are
those of Okabe & Ito (2008) and of perceptually uniform maps, which colour-blind readers
can tell apart, also in print.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import jax.numpy as jnp
import jax.random as jr
import numpy as np
from numpy.typing import ArrayLike

from ._extras import install_hint
from ._tiling.native import real_floats
from .devices import Fit
from .kernels import Device, MvmCost, apply_pulses, nominal_response

try:
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter
except ImportError as error:
    raise ImportError(
        f"`sedma_jax.viz` needs matplotlib, which is not installed. {install_hint('viz')}"
    ) from error

_BLUE, _ORANGE, _GREY = "#0072B2", "#E69F00", "#666666"
_LINES = (_BLUE, _ORANGE, "#009E73", "#CC79A7", "#D55E00")
_POLARITIES = ("positive", "negative")
_ACRONYMS = {"adc": "ADC", "dac": "DAC"}


def conductance_map(conductance: ArrayLike) -> Figure:
    """Draw the conductance of every cell, with both polarities side by side.

    **Arguments:**

    - `conductance`: in siemens, `(rows, cols)` or `(polarity, rows, cols)`.

    **Returns:**

    A figure with an image for each polarity, on one colour scale.

    **Raises:** `ValueError` for an array of another rank, or with more than 2 polarities.

    **Example:**

        >>> crossbar = sj.program_exactly(np.eye(4), "epiram", array=4)
        >>> figure = sj.viz.conductance_map(crossbar.conductance[0])
        >>> figure.savefig("conductances.png")
        >>> print(figure.axes[0].get_xlabel(), len(figure.axes))  # an image each
        bit line 2
    """
    values = _numbers(conductance, "conductance")
    if values.ndim == 2:
        values = values[None]
    if values.ndim != 3 or len(values) > 2:
        raise ValueError(
            "`sedma_jax.viz.conductance_map` needs shape (rows, cols) or (polarity, rows, "
            f"cols) with 1 or 2 polarities. Got {np.shape(conductance)}. Pass one tile."
        )
    figure = _map_figure(values.shape[1:], len(values))
    axes = figure.subplots(1, len(values), sharey=True, squeeze=False)[0]
    image = None
    for axis, cells, name in zip(axes, values, _POLARITIES, strict=False):
        image = axis.imshow(
            cells * 1e6,
            cmap="viridis",
            vmin=values.min() * 1e6,
            vmax=values.max() * 1e6,
            interpolation="nearest",
        )
        axis.set_xlabel("bit line")
        if len(values) == 2:
            axis.set_title(f"{name} cells")
    axes[0].set_ylabel("word line")
    _colour_bar(axes[-1], image, "conductance (µS)")
    return figure


def programming_error_histogram(target: ArrayLike, programmed: ArrayLike) -> Figure:
    """Draw how far programmed conductances lie from their targets.

    **Arguments:**

    - `target`, `programmed`: in siemens, of the same shape.

    **Returns:**

    A histogram of `programmed - target`, with its mean and standard deviation.

    **Raises:** `ValueError` if the shapes differ.

    **Example:**

        >>> target = sj.program_exactly(np.eye(4), "epiram", array=4).conductance
        >>> crossbar, _ = sj.program(np.eye(4), "epiram", array=4, key=jr.key(0))
        >>> figure = sj.viz.programming_error_histogram(target, crossbar.conductance)
        >>> figure.savefig("errors.png")
    """
    target, programmed = _same_shape(
        "programming_error_histogram", target=target, programmed=programmed
    )
    error = (programmed - target).ravel() * 1e6
    mean, std = error.mean(), error.std()
    figure = _figure(5.0, 3.4)
    axis = figure.subplots()
    bins = min(60, max(10, round(error.size**0.5)))
    axis.hist(error, bins=bins, color=_BLUE, edgecolor="white", linewidth=0.4)
    axis.axvline(0.0, color=_GREY, linewidth=1.0)
    axis.axvline(
        mean,
        color=_ORANGE,
        linestyle="--",
        label=f"mean {mean:.3g} µS, std {std:.3g} µS",
    )
    axis.set_xlabel("programmed - target conductance (µS)")
    axis.set_ylabel("cells")
    # The legend lies above the axes, where no bar can overlap it.
    axis.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False)
    _despine(axis)
    return figure


def ir_drop_map(ideal: ArrayLike, actual: ArrayLike) -> Figure:
    """Draw the part of each value that is lost to line resistance.

    **Arguments:**

    - `ideal`, `actual`: values with ideal and with real wires, `(rows, cols)`: voltages or
        currents of the cells, or effective conductances.

    **Returns:**

    An image of `100 (ideal - actual) / max |ideal|`, in percent, centred on zero if there
    are gains as well as losses.

    **Raises:** `ValueError` if the shapes differ, or are not those of matrices.

    **Example:**

        >>> g = jnp.full((4, 4), 1e-5)
        >>> real = sj.kernels.effective_conductances(g, 10.0, 10.0)
        >>> figure = sj.viz.ir_drop_map(g, real)
        >>> figure.savefig("ir_drop.png")
    """
    ideal, actual = _same_shape("ir_drop_map", ideal=ideal, actual=actual)
    if ideal.ndim != 2:
        raise ValueError(
            "`sedma_jax.viz.ir_drop_map` needs matrices of shape (rows, cols). "
            f"Got {ideal.shape}. Pass one tile and polarity at a time."
        )
    scale = np.abs(ideal).max() or 1.0
    drop = 100 * (ideal - actual) / scale
    signed = drop.min() < 0
    limit = np.abs(drop).max()
    figure = _map_figure(drop.shape)
    axis = figure.subplots()
    image = axis.imshow(
        drop,
        cmap="PuOr_r" if signed else "cividis",
        vmin=-limit if signed else 0.0,
        vmax=limit,
        interpolation="nearest",
    )
    axis.set_xlabel("bit line")
    axis.set_ylabel("word line")
    _colour_bar(axis, image, "IR drop (% of max)")
    return figure


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
    figure = _figure(5.6, 1.2 + 0.36 * len(names))
    axis = figure.subplots()
    titles = [_ACRONYMS.get(name, name) for name in names]
    bars = axis.barh(titles, values, color=_BLUE)
    labels = [f"{energy(value)}  ({_share(value / total)})" for value in values]
    axis.bar_label(bars, labels, padding=4)
    axis.set_xlim(0, max(values) * 1.45)
    axis.xaxis.set_major_formatter(EngFormatter("J"))
    axis.set_xlabel("energy")
    axis.set_title(f"total {energy(total)}")
    _despine(axis)
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
    raw, corrected = _same_shape("correction_errors", raw=raw, corrected=corrected)
    if raw.shape != (len(names),) or not np.all((raw > 0) & (corrected > 0)):
        raise ValueError(
            "`sedma_jax.viz.correction_errors` needs one positive error for each of the "
            f"{len(names)} names. Got raw={raw}, corrected={corrected}. "
            "Leave out devices without an error: a logarithmic axis shows no zero."
        )
    place = np.arange(len(names))
    width = 0.38
    figure = _figure(max(4.2, 1.6 + 1.2 * len(names)), 3.6)
    axis = figure.subplots()
    axis.bar(place - width / 2, raw, width, color=_ORANGE, label="raw")
    axis.bar(place + width / 2, corrected, width, color=_BLUE, label="corrected")
    for x, before, after in zip(place, raw, corrected, strict=True):
        axis.annotate(
            f"÷{before / after:.3g}",
            (x + width / 2, after),
            xytext=(0, 3),
            textcoords="offset points",
            ha="center",
            color=_GREY,
        )
    axis.set_yscale("log")
    lowest, highest = min(raw.min(), corrected.min()), max(raw.max(), corrected.max())
    axis.set_ylim(lowest / 3, highest * 3)
    axis.set_xticks(place, names)
    axis.set_ylabel("relative error")
    axis.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False)
    _despine(axis)
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
    lines = {name: _numbers(values, "errors") for name, values in errors.items()}
    if not lines or not all(
        line.ndim == 1 and line.size and np.all(line > 0) for line in lines.values()
    ):
        raise ValueError(
            "`sedma_jax.viz.error_against_slices` needs positive errors for 1 slice or "
            f"more of each device. Got {lines}. Leave out devices without an error."
        )
    figure = _figure(4.8, 3.6)
    axis = figure.subplots()
    for (name, line), colour, marker in zip(
        lines.items(), cycle(_LINES), cycle("os^Dv"), strict=False
    ):
        slices = np.arange(1, line.size + 1)
        axis.plot(slices, line, color=colour, marker=marker, label=name)
    axis.set_yscale("log")
    axis.set_xticks(np.arange(1, max(line.size for line in lines.values()) + 1))
    axis.set_xlabel("slices")
    axis.set_ylabel("relative error")
    axis.legend(frameon=False)
    _despine(axis)
    return figure


def placement_map(
    shares: Sequence[Mapping], edges: Sequence[tuple[str, str, float]]
) -> Figure:
    """Draw on which node each replica is placed, and the edges between agents.

    **Arguments:**

    - `shares`: from `sedma_jax.deploy.node_shares`.
    - `edges`: source, target and MB per second of every edge.

    **Returns:**

    A figure with a column for each node, headed by its used fractions of memory and CPU.
    An edge is drawn between all replicas of its agents; its width grows with its traffic.

    **Example:**

        >>> node = {"node": "n0", "memory": 0.5, "cpu": 0.25}  # shares in use
        >>> node["replicas"] = ["front-0", "back-0"]
        >>> figure = sj.viz.placement_map([node], [("front", "back", 2.0)])  # 2 MB/s
        >>> figure.savefig("placement.png")
    """
    tallest = max([1, *(len(share["replicas"]) for share in shares)])
    figure = Figure(figsize=(max(3, 1.6 * len(shares)), 1.2 + 0.5 * tallest))
    axis = figure.subplots()
    places = {}
    for column, share in enumerate(shares):
        title = f"{share['node']}\n{share['memory']:.0%} memory\n{share['cpu']:.0%} CPU"
        axis.text(column, -1, title, ha="center", va="center", fontsize=8)
        for row, replica in enumerate(share["replicas"]):
            agent = replica.rpartition("-")[0]
            places.setdefault(agent, []).append((column, row))
            axis.text(
                *(column, row),
                replica,
                ha="center",
                va="center",
                fontsize=8,
                bbox={"boxstyle": "round", "facecolor": "white", "edgecolor": _BLUE},
            )
    most = max([volume for *_, volume in edges], default=1.0)
    for source, target, volume in edges:
        for start in places.get(source, []):
            for end in places.get(target, []):
                colour = _GREY if start[0] == end[0] else _ORANGE
                xs, ys = zip(start, end, strict=True)
                axis.plot(xs, ys, color=colour, lw=0.5 + 2.5 * volume / most, zorder=0)
    axis.set(xlim=(-0.6, len(shares) - 0.4), ylim=(tallest - 0.4, -1.8))
    axis.axis("off")
    return figure


def pulse_fit(found: Fit) -> Figure:
    """Draw measured traces, the curves fitted to them, and the residuals.

    **Arguments:** `found`: from `sedma_jax.devices.fit`. Pulses across, conductance up.

    **Example:**

        >>> up = np.linspace(1e-6, 1e-5, 65)  # siemens
        >>> figure = sj.viz.pulse_fit(sj.devices.fit(up, up[::-1]))
        >>> [axis.get_ylabel() for axis in figure.axes]
        ['conductance (µS)', 'residual (µS)']
    """
    figure = _figure(6.0, 5.0)
    above, below = figure.subplots(2, 1, sharex=True)
    for part, name, colour in ((found.ltp, "LTP", _BLUE), (found.ltd, "LTD", _ORANGE)):
        label = f"{name}, R² {part.r2:.3f}"
        above.plot(part.mean * 1e6, ".", ms=2, color=colour, label=label)
        above.plot(part.curve * 1e6, color=_GREY)
        below.plot((part.mean - part.curve) * 1e6, ".", ms=2, color=colour)
    above.set_ylabel("conductance (µS)")
    below.set(xlabel="pulse", ylabel="residual (µS)")
    above.legend(frameon=False)
    return figure


def pulse_response(device: Device) -> Figure:
    """Draw the conductance of a device over its pulses up, then down, without noise.

    **Example:**

        >>> figure = sj.viz.pulse_response(sj.devices.EPIRAM)
        >>> [line.get_label() for line in figure.axes[0].lines]
        ['LTP', 'LTD']
    """
    figure = _figure(5.0, 3.0)
    axis = figure.subplots()
    axis.set(xlabel="pulse", ylabel="conductance (µS)")
    window = float(device.g_max) - float(device.g_min)
    quiet = dataclasses.replace(device, sigma_c2c=0.0)
    for start, end in ((0.0, device.pulses_ltp), (1.0, -device.pulses_ltd)):
        train = jnp.linspace(0.0, float(end), 201)
        line, cells = nominal_response(device, train.dtype), jnp.full_like(train, start)
        states = apply_pulses(cells, train, quiet, line, key=jr.key(0))
        g = float(device.g_min) + window * np.asarray(states)
        colour, name = (_ORANGE, "LTD") if start else (_BLUE, "LTP")
        axis.plot(np.abs(train), g * 1e6, color=colour, label=name)
    axis.legend(frameon=False)
    return figure


def _figure(width: float, height: float) -> Figure:
    return Figure(figsize=(width, height), layout="constrained", dpi=150)


def _colour_bar(axis: Any, image: Any, label: str) -> None:
    # An inset is as tall as the image; separate axes would be as tall as the figure.
    beside = axis.inset_axes((1.04, 0.0, 0.05, 1.0))
    axis.figure.colorbar(image, cax=beside, label=label)


def _map_figure(shape: tuple[int, ...], panels: int = 1) -> Figure:
    rows, cols = (max(1.2, 3.2 * n / max(shape)) for n in shape)
    return _figure(2.2 + panels * cols, 0.8 + rows)


def _share(fraction: float) -> str:
    return f"{fraction:.1%}" if fraction >= 0.001 or fraction == 0 else "< 0.1%"


def _despine(axis: Any) -> None:
    axis.spines[["top", "right"]].set_visible(False)


def _numbers(given: ArrayLike, name: str) -> np.ndarray:
    numbers = real_floats(given, name, integers=np.float64, remedy="Draw its parts apart.")
    return np.asarray(numbers, np.float64)


def _same_shape(function: str, **arrays: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Two arrays as numbers, checked to have one shape."""
    first, second = (_numbers(array, name) for name, array in arrays.items())
    if first.shape != second.shape or first.size == 0:
        names = " and ".join(f"`{name}`" for name in arrays)
        raise ValueError(
            f"`sedma_jax.viz.{function}` needs {names} of one shape, not empty. "
            f"Got {first.shape} and {second.shape}. Pass both in the same layout."
        )
    return first, second


def __dir__():
    """The pictures; the imports of this file are not shown."""
    own = (n for n, v in globals().items() if getattr(v, "__module__", "") == __name__)
    return sorted(name for name in own if not name.startswith("_"))
