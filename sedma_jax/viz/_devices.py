"""Pictures of devices: pulses, and what time does."""

import dataclasses

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import PRNGKeyArray
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from .._keys import check_key
from ..devices import Fit
from ..kernels import (
    POSITIVE,
    AbstractDrift,
    Device,
    apply_pulses,
    check_counts,
    check_given,
    check_kind,
    drift,
    drift_compensation,
    nominal_response,
)
from ._style import BLUE, GREY, LINES, ORANGE, despine, new_figure, numbers

_TIMES = np.geomspace(1.0, 3.15e7, 40)  # a second to a year


def pulse_fit(found: Fit) -> Figure:
    """Draw measured traces, the curves fitted to them, and the residuals.

    **Arguments:** `found`: from `sedma_jax.devices.fit`. Pulses across, conductance up.

    **Example:**

        >>> up = np.linspace(1e-6, 1e-5, 65)  # siemens
        >>> figure = sj.viz.pulse_fit(sj.devices.fit(up, up[::-1]))
        >>> [axis.get_ylabel() for axis in figure.axes]
        ['conductance (µS)', 'residual (µS)']
    """
    figure = new_figure(6.0, 5.0)
    above, below = figure.subplots(2, 1, sharex=True)
    for part, name, colour in ((found.ltp, "LTP", BLUE), (found.ltd, "LTD", ORANGE)):
        label = f"{name}, R² {part.r2:.3f}"
        above.plot(part.mean * 1e6, ".", ms=2, color=colour, label=label)
        above.plot(part.curve * 1e6, color=GREY)
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
    figure = new_figure(5.0, 3.0)
    axis = figure.subplots()
    axis.set(xlabel="pulse", ylabel="conductance (µS)")
    window = float(device.g_max) - float(device.g_min)
    quiet = dataclasses.replace(device, sigma_c2c=0.0)
    for start, end in ((0.0, device.pulses_ltp), (1.0, -device.pulses_ltd)):
        train = jnp.linspace(0.0, float(end), 201)
        line, cells = nominal_response(device, train.dtype), jnp.full_like(train, start)
        states = apply_pulses(cells, train, quiet, line, key=jr.key(0))
        g = float(device.g_min) + window * np.asarray(states)
        colour, name = (ORANGE, "LTD") if start else (BLUE, "LTP")
        axis.plot(np.abs(train), g * 1e6, color=colour, label=name)
    axis.legend(frameon=False)
    return figure


def drift_curves(
    model: AbstractDrift,
    conductance: ArrayLike,
    *,
    times: ArrayLike = _TIMES,
    cells: int = 500,
    key: PRNGKeyArray,
) -> Figure:
    """Draw how cells drift, as they are and with the mean loss compensated.

    **Arguments:**

    - `model`: of retention, such as `sedma_jax.noise_models.PCM.drift`.
    - `conductance`: at programming, in siemens, positive; a line for each.
    - `times`: since programming, in seconds, positive.
    - `cells`: number of cells drawn at each conductance.
    - `key`: typed key, which identifies the cells.

    **Returns:**

    The mean of the cells, in percent of what was programmed, with a band from the 5th to
    the 95th percentile. On the right, all are scaled by one factor at each time: that of
    `sedma_jax.drift_compensation` for a read of all of these cells (Joshi et al. 2020).

    **Raises:** `ValueError` for other conductances, times or models.

    **Example:**

        >>> g = [5e-6, 2e-5]
        >>> figure = sj.viz.drift_curves(sj.noise_models.PCM.drift, g, key=jr.key(0))
        >>> raw, compensated = (axis.lines[-1].get_ydata()[-1] for axis in figure.axes)
        >>> bool(raw < 60 < compensated)  # a year after programming
        True
    """
    call = "sedma_jax.viz.drift_curves"
    check_key(key)
    check_counts(call, 1, np.inf, "It is a number of cells.", cells=cells)
    remedy = "Such as `sedma_jax.noise_models.PCM.drift`."
    check_kind(call, AbstractDrift, "a drift model", remedy, model=model)
    given = np.atleast_1d(numbers(conductance, "conductance")).ravel()
    seconds = np.atleast_1d(numbers(times, "times")).ravel()
    check_given(call, POSITIVE, "It is in siemens.", conductance=given)
    check_given(call, POSITIVE, "The axis of time is logarithmic.", times=seconds)
    fresh = jnp.asarray(np.repeat(given[:, None], cells, axis=1), jnp.result_type(float))
    at = jnp.asarray(seconds, fresh.dtype)
    now = jax.vmap(lambda t: drift(model, fresh, t, key=key))(at)
    factors = jax.vmap(lambda g: drift_compensation(fresh, g))(now)
    left = 100 * np.asarray(now) / np.asarray(fresh)
    figure = new_figure(7.0, 3.2)
    axes = figure.subplots(1, 2, sharex=True, sharey=True)
    scaled = left * np.asarray(factors)[:, None, None]
    for axis, shares, title in zip(
        axes, (left, scaled), ("raw", "compensated"), strict=True
    ):
        for place, g in enumerate(given):
            colour = LINES[place % len(LINES)]
            low, high = np.percentile(shares[:, place], (5, 95), axis=-1)
            axis.fill_between(seconds, low, high, color=colour, alpha=0.2, linewidth=0)
            mean = shares[:, place].mean(axis=-1)
            axis.plot(seconds, mean, color=colour, label=f"{g * 1e6:.3g} µS")
        axis.set(title=title, xlabel="time since programming (s)", xscale="log")
        despine(axis)
    axes[0].set_ylabel("conductance (% of programmed)")
    axes[0].legend(frameon=False)
    return figure
