"""What the pictures share: colours, sizes, and how numbers are taken."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from .._tiling.native import real_floats

BLUE, ORANGE, GREY = "#0072B2", "#E69F00", "#666666"
LINES = (BLUE, ORANGE, "#009E73", "#CC79A7", "#D55E00")
MARKERS = "os^Dv"


def new_figure(width: float, height: float) -> Figure:
    return Figure(figsize=(width, height), layout="constrained", dpi=150)


def colour_bar(axis: Any, image: Any, label: str) -> None:
    # An inset is as tall as the image; separate axes would be as tall as the figure.
    beside = axis.inset_axes((1.04, 0.0, 0.05, 1.0))
    axis.figure.colorbar(image, cax=beside, label=label)


def map_figure(shape: tuple[int, ...], panels: int = 1) -> Figure:
    rows, cols = (max(1.2, 3.2 * n / max(shape)) for n in shape)
    return new_figure(2.2 + panels * cols, 0.8 + rows)


def share(fraction: float) -> str:
    return f"{fraction:.1%}" if fraction >= 0.001 or fraction == 0 else "< 0.1%"


def despine(axis: Any) -> None:
    axis.spines[["top", "right"]].set_visible(False)


def numbers(given: ArrayLike, name: str) -> np.ndarray:
    values = real_floats(given, name, integers=np.float64, remedy="Draw its parts apart.")
    return np.asarray(values, np.float64)


def same_shape(function: str, **arrays: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Two arrays as numbers, checked to have one shape."""
    first, second = (numbers(array, name) for name, array in arrays.items())
    if first.shape != second.shape or first.size == 0:
        names = " and ".join(f"`{name}`" for name in arrays)
        raise ValueError(
            f"`sedma_jax.viz.{function}` needs {names} of one shape, not empty. "
            f"Got {first.shape} and {second.shape}. Pass both in the same layout."
        )
    return first, second
