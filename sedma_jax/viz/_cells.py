"""Pictures of the cells of an array: conductances, errors, losses in wires."""

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from ._style import (
    BLUE,
    GREY,
    ORANGE,
    colour_bar,
    despine,
    map_figure,
    new_figure,
    numbers,
    same_shape,
)

_POLARITIES = ("positive", "negative")


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
    values = numbers(conductance, "conductance")
    if values.ndim == 2:
        values = values[None]
    if values.ndim != 3 or len(values) > 2:
        raise ValueError(
            "`sedma_jax.viz.conductance_map` needs shape (rows, cols) or (polarity, rows, "
            f"cols) with 1 or 2 polarities. Got {np.shape(conductance)}. Pass one tile."
        )
    figure = map_figure(values.shape[1:], len(values))
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
    colour_bar(axes[-1], image, "conductance (µS)")
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
    target, programmed = same_shape(
        "programming_error_histogram", target=target, programmed=programmed
    )
    error = (programmed - target).ravel() * 1e6
    mean, std = error.mean(), error.std()
    figure = new_figure(5.0, 3.4)
    axis = figure.subplots()
    bins = min(60, max(10, round(error.size**0.5)))
    axis.hist(error, bins=bins, color=BLUE, edgecolor="white", linewidth=0.4)
    axis.axvline(0.0, color=GREY, linewidth=1.0)
    axis.axvline(
        mean,
        color=ORANGE,
        linestyle="--",
        label=f"mean {mean:.3g} µS, std {std:.3g} µS",
    )
    axis.set_xlabel("programmed - target conductance (µS)")
    axis.set_ylabel("cells")
    # The legend lies above the axes, where no bar can overlap it.
    axis.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False)
    despine(axis)
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
    ideal, actual = same_shape("ir_drop_map", ideal=ideal, actual=actual)
    if ideal.ndim != 2:
        raise ValueError(
            "`sedma_jax.viz.ir_drop_map` needs matrices of shape (rows, cols). "
            f"Got {ideal.shape}. Pass one tile and polarity at a time."
        )
    scale = np.abs(ideal).max() or 1.0
    drop = 100 * (ideal - actual) / scale
    signed = drop.min() < 0
    limit = np.abs(drop).max()
    figure = map_figure(drop.shape)
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
    colour_bar(axis, image, "IR drop (% of max)")
    return figure
