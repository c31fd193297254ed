"""Pictures of studies: figures over time with their spread, and the best trade-offs."""

from collections.abc import Mapping, Sequence
from itertools import cycle

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from ..kernels import POSITIVE, check_given
from ..study._table import not_beaten
from ._style import GREY, LINES, MARKERS, ORANGE, despine, new_figure, numbers


def accuracy_over_time(
    times: ArrayLike, accuracy: Mapping[str, ArrayLike], *, label: str = "accuracy"
) -> Figure:
    """Draw a figure over time, with its spread over repeats.

    **Arguments:**

    - `times`: since programming, in seconds, positive.
    - `accuracy`: by name, such as "raw", `(times,)` or `(times, repeats)`.
    - `label`: of what is drawn.

    **Returns:**

    For each name a line through the means, with a band of one sample standard deviation to
    both sides where there are repeats. The axis of time is logarithmic.

    **Raises:** `ValueError` if there is nothing to draw, or shapes do not fit the times.

    **Example:**

        >>> repeats = np.array([[0.98, 0.96], [0.90, 0.94]])
        >>> figure = sj.viz.accuracy_over_time([1.0, 1e6], {"raw": repeats})
        >>> print(figure.axes[0].lines[0].get_ydata().round(3))
        [0.97 0.92]
    """
    call = "sedma_jax.viz.accuracy_over_time"
    seconds = np.atleast_1d(numbers(times, "times"))
    check_given(call, POSITIVE, "The axis of time is logarithmic.", times=seconds)
    lines = {name: numbers(values, name) for name, values in accuracy.items()}
    shapes = {name: line.shape for name, line in lines.items()}
    fits = [s[:1] == seconds.shape and len(s) < 3 and np.prod(s) for s in shapes.values()]
    if seconds.ndim != 1 or not fits or not all(fits):
        raise ValueError(
            f"`{call}` needs values of shape (times,) or (times, repeats), here "
            f"{seconds.shape[0]} times. Got {shapes or 'nothing'}. Put times first."
        )
    figure = new_figure(4.8, 3.4)
    axis = figure.subplots()
    looks = zip(cycle(LINES), cycle(MARKERS), strict=True)
    for (name, line), (colour, marker) in zip(lines.items(), looks, strict=False):
        mean = line if line.ndim == 1 else line.mean(axis=1)
        axis.plot(seconds, mean, color=colour, marker=marker, ms=4, label=name)
        if line.ndim == 2 and line.shape[1] > 1:
            std = line.std(axis=1, ddof=1)
            axis.fill_between(
                seconds, mean - std, mean + std, color=colour, alpha=0.2, linewidth=0
            )
    axis.set(xlabel="time since programming (s)", ylabel=label, xscale="log")
    axis.legend(frameon=False)
    despine(axis)
    return figure


def pareto_front(
    energy: ArrayLike,
    accuracy: ArrayLike,
    names: Sequence[str] | None = None,
    *,
    error: bool = False,
    labels: tuple[str, str] = ("energy (J)", "accuracy"),
) -> Figure:
    """Draw all designs, and the front of those that no other beats in both figures.

    **Arguments:**

    - `energy`: of each design, positive; less is better.
    - `accuracy`: of each design; more is better.
    - `names`: of the designs; those on the front are written beside their points.
    - `error`: less is better of `accuracy` too, which is an error then.
    - `labels`: of both axes.

    **Returns:**

    A cloud of points with stairs through the front; energy on a logarithmic axis.

    **Raises:** `ValueError` if the lengths differ, or an energy is not positive.

    **Example:**

        >>> figure = sj.viz.pareto_front([1e-9, 2e-9, 3e-9], [0.5, 0.9, 0.8])
        >>> print(figure.axes[0].lines[0].get_ydata())  # the third costs more for less
        [0.5 0.9]
    """
    call = "sedma_jax.viz.pareto_front"
    joules, quality = numbers(energy, "energy"), numbers(accuracy, "accuracy")
    written = [] if names is None else list(names)
    count = joules.size if names is None else len(written)
    if not count or joules.shape != (count,) or quality.shape != (count,):
        raise ValueError(
            f"`{call}` needs one energy, one accuracy and, if there are any, one name of "
            f"each design. Got shapes {joules.shape} and {quality.shape}, "
            f"{'no' if names is None else len(written)} names. Pass columns of a table."
        )
    check_given(call, POSITIVE, "The axis of energy is logarithmic.", energy=joules)
    front = np.flatnonzero(
        not_beaten(np.stack([joules, quality if error else -quality], 1))
    )
    front = front[np.argsort(joules[front], kind="stable")]
    figure = new_figure(4.8, 3.6)
    axis = figure.subplots()
    axis.scatter(joules, quality, s=14, color=GREY, alpha=0.5, linewidths=0)
    axis.plot(
        joules[front], quality[front], "o-", ms=5, color=ORANGE, drawstyle="steps-post"
    )
    for place in front if written else ():
        axis.annotate(
            str(written[place]),
            (joules[place], quality[place]),
            xytext=(4, 4),
            textcoords="offset points",
            fontsize=7,
        )
    axis.set(xlabel=labels[0], ylabel=labels[1], xscale="log")
    despine(axis)
    return figure
