"""Statistics of measured arrays: programming noise, retention drift, read noise.

Each effect is a small record with one function, from which the caller composes a model:

    g = program_noise(programming, g_target, key=programming_key)
    g = drift(retention, g, time, key=drift_key)
    g = read_noise(read, g, time, key=read_key)

Times are in seconds from the end of programming; conductances are in siemens. A key
identifies an array of cells: the same key gives every cell the same drift at all times.
`sedma_jax.noise_models` has the published figures.
"""

import abc
import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float, PRNGKeyArray

from .._numerics.requirements import (
    FINITE,
    FROM_ZERO,
    NUMBER,
    POSITIVE,
    check_callable,
    check_numbers,
    known_numbers,
    shown,
)
from .device import Scalar
from .noise_curves import AbstractCurve, check_curves, evaluate_polynomial


def standard_uniform(
    key: PRNGKeyArray, shape: tuple[int, ...], dtype: DTypeLike
) -> Float[Array, " *shape"]:
    """Draw from the uniform distribution of zero mean and unit variance.

    This is the counterpart of `jax.random.normal`, of the same arguments; its full width is
    `sqrt(12)`.

    **Example:**

        >>> draws = sj.kernels.standard_uniform(jr.key(0), (1000,), jnp.float32)
        >>> bool(jnp.max(jnp.abs(draws)) <= 3**0.5)  # half of the width, sqrt(12)
        True
        >>> bool(abs(jnp.std(draws) - 1) < 0.1)
        True
    """
    half_width = math.sqrt(3)
    return jr.uniform(key, shape, dtype, -half_width, half_width)


def _check_model(
    model: Any, t_read: Scalar | None = None, t_0: Scalar | None = None, **curves: Any
) -> None:
    """Refuse what makes no statistics: curves, distribution, limits and times."""
    call = f"sedma_jax.kernels.{type(model).__name__}"
    check_curves(call, **curves)
    check_callable(
        call,
        "a function of key, shape and dtype",
        "Such as `jax.random.normal`.",
        distribution=model.distribution,
    )
    limits = {"g_min": model.g_min, "g_max": model.g_max}
    check_numbers(call, NUMBER, "It is in siemens; infinity is no limit.", **limits)
    low, high = map(known_numbers, limits.values())
    if low is not None and high is not None and not np.all(low < high):
        raise ValueError(
            f"`{call}` needs `g_min < g_max`, in siemens. Got g_min={shown(model.g_min)}, "
            f"g_max={shown(model.g_max)}. Are they swapped?"
        )
    check_numbers(call, POSITIVE, "It is the time of a read, in seconds.", t_read=t_read)
    check_numbers(call, FROM_ZERO, "It is an age, in seconds.", t_0=t_0)


class ProgrammingNoise(eqx.Module):
    """Statistics of the difference between target and programmed conductance.

    - `deviation`: standard deviation, in siemens, as a function of the target; it is
        taken as zero where the fit falls below zero.
    - `distribution`: `(key, shape, dtype) -> draws` of zero mean and unit variance,
        such as `jax.random.normal` or `standard_uniform`. Static.
    - `g_min`, `g_max`: limits of the result, in siemens. Use `-inf` to keep draws
        below zero.
    - `shift`: mean of the difference, in siemens, as a function of the target; None is 0.

    **Example:**

        >>> deviation = sj.noise_models.independent(1e-7)
        >>> model = sj.kernels.ProgrammingNoise(deviation, g_max=1e-5)
        >>> g = sj.kernels.program_noise(model, jnp.full(100, 1e-5), key=jr.key(0))
        >>> bool(jnp.max(g) <= 1e-5)
        True
    """

    deviation: AbstractCurve
    distribution: Callable[..., Array] = eqx.field(static=True, default=jr.normal)
    g_min: Scalar = 0.0
    g_max: Scalar = math.inf
    shift: AbstractCurve | None = None

    def __check_init__(self):
        _check_model(self, deviation=self.deviation)
        if self.shift is not None:
            check_curves("sedma_jax.kernels.ProgrammingNoise", shift=self.shift)


def program_noise(
    model: ProgrammingNoise, g_target: Float[Array, " *cells"], *, key: PRNGKeyArray
) -> Float[Array, " *cells"]:
    """Sample programmed conductances `clip(g + shift(g) + sigma(g) xi, g_min, g_max)`.

    **Arguments:**

    - `model`: the statistics.
    - `g_target`: target conductances, in siemens, from 0 up.
    - `key`: key of `xi`, drawn per cell from `model.distribution`.

    **Returns:**

    Conductances in siemens, with the shape and dtype of `g_target`.

    **Example:**

        >>> model = sj.kernels.ProgrammingNoise(sj.noise_models.proportional(0.1))
        >>> g = sj.kernels.program_noise(model, jnp.full(1000, 1e-5), key=jr.key(0))
        >>> bool(abs(jnp.std(g) / 1e-6 - 1) < 0.1)  # a tenth of 10 uS
        True
    """
    draws = model.distribution(key, g_target.shape, g_target.dtype)
    deviation = jnp.maximum(model.deviation(g_target), 0)
    if model.shift is not None:
        centre = g_target + model.shift(g_target)
        return jnp.clip(centre + deviation * draws, model.g_min, model.g_max)
    return jnp.clip(g_target + deviation * draws, model.g_min, model.g_max)


class AbstractReadNoise(eqx.Module):
    """Statistics of the difference between one read and the conductance.

    **Example:**

        >>> isinstance(sj.noise_models.PCM.read, sj.kernels.AbstractReadNoise)
        True
    """

    g_min: eqx.AbstractVar[Scalar]
    g_max: eqx.AbstractVar[Scalar]
    distribution: eqx.AbstractVar[Callable[..., Array]]

    @abc.abstractmethod
    def spread(
        self,
        g: Float[Array, " *cells"],
        time: Float[Array, ""],
        g_programmed: Float[Array, " *cells"],
    ) -> Float[Array, " *cells"]:
        """Standard deviation of a read at `time`, in siemens."""


class StationaryReadNoise(AbstractReadNoise):
    """Noise that does not depend on the time since programming.

    - `deviation`: standard deviation, in siemens, as a function of conductance.
    - `distribution`, `g_min`, `g_max`: as in `ProgrammingNoise`.

    **Example:**

        >>> model = sj.kernels.StationaryReadNoise(sj.noise_models.independent(1e-7))
        >>> g = jnp.full(1000, 1e-5)
        >>> now = sj.kernels.read_noise(model, g, 0.0, key=jr.key(0))
        >>> later = sj.kernels.read_noise(model, g, 1e6, key=jr.key(0))
        >>> bool(jnp.all(now == later))  # time makes no difference
        True
    """

    deviation: AbstractCurve
    distribution: Callable[..., Array] = eqx.field(static=True, default=jr.normal)
    g_min: Scalar = 0.0
    g_max: Scalar = math.inf

    def __check_init__(self):
        _check_model(self, deviation=self.deviation)

    def spread(
        self,
        g: Float[Array, " *cells"],
        time: Float[Array, ""],
        g_programmed: Float[Array, " *cells"],
    ) -> Float[Array, " *cells"]:
        del time, g_programmed
        return self.deviation(g)


class RelativeFlickerNoise(AbstractReadNoise):
    """1/f noise proportional to the conductance: `sigma = g Q(g_programmed) L(t)`.

    `L(t) = sqrt(log((t + t_0 + t_read) / (2 t_read)))` is the amplitude that 1/f noise
    accumulates with age (Nandakumar et al. 2019, IEEE ICECS, 727).

    - `quality`: `Q`, dimensionless, as a function of the programmed conductance.
    - `t_read`: duration of a read, in seconds.
    - `t_0`: age of the cells at time 0, in seconds.
    - `distribution`, `g_min`, `g_max`: as in `ProgrammingNoise`.

    **Example:**

        >>> quality = sj.kernels.PolynomialCurve((0.01,), 1.0)
        >>> model = sj.kernels.RelativeFlickerNoise(quality, t_read=1e-6, t_0=1.0)
        >>> _, variance = sj.kernels.read_moments(model, jnp.array([1e-5]), 0.0)
        >>> sigma = 1e-7 * np.log((1 + 1e-6) / 2e-6) ** 0.5  # g Q L(t)
        >>> print(np.asarray(jnp.sqrt(variance) / sigma).round(3))
        [1.]
    """

    quality: AbstractCurve
    t_read: Scalar
    t_0: Scalar = 0.0
    distribution: Callable[..., Array] = eqx.field(static=True, default=jr.normal)
    g_min: Scalar = 0.0
    g_max: Scalar = math.inf

    def __check_init__(self):
        _check_model(self, self.t_read, self.t_0, quality=self.quality)

    def spread(
        self,
        g: Float[Array, " *cells"],
        time: Float[Array, ""],
        g_programmed: Float[Array, " *cells"],
    ) -> Float[Array, " *cells"]:
        growth = flicker_growth(time + self.t_0, self.t_read)
        return jnp.abs(g) * self.quality(g_programmed) * growth


class AbsoluteFlickerNoise(AbstractReadNoise):
    """1/f noise `sigma = deviation(g) L(t)`, `L` as in `RelativeFlickerNoise`.

    - `deviation`: standard deviation at `L = 1`, in siemens, as a function of the
        conductance at the time of the read.
    - `t_read`: duration of a read, in seconds.
    - `distribution`, `g_min`, `g_max`: as in `ProgrammingNoise`.

    **Example:**

        >>> deviation = sj.noise_models.independent(1e-8)
        >>> model = sj.kernels.AbsoluteFlickerNoise(deviation, t_read=1e-6)
        >>> _, variance = sj.kernels.read_moments(model, jnp.array([1e-5]), 1.0)
        >>> sigma = 1e-8 * np.log((1 + 1e-6) / 2e-6) ** 0.5  # deviation L(t)
        >>> print(np.asarray(jnp.sqrt(variance) / sigma).round(3))
        [1.]
    """

    deviation: AbstractCurve
    t_read: Scalar
    distribution: Callable[..., Array] = eqx.field(static=True, default=jr.normal)
    g_min: Scalar = 0.0
    g_max: Scalar = math.inf

    def __check_init__(self):
        _check_model(self, self.t_read, deviation=self.deviation)

    def spread(
        self,
        g: Float[Array, " *cells"],
        time: Float[Array, ""],
        g_programmed: Float[Array, " *cells"],
    ) -> Float[Array, " *cells"]:
        del g_programmed
        return self.deviation(g) * flicker_growth(time, self.t_read)


def flicker_growth(time: Float[Array, ""], t_read: Scalar) -> Float[Array, ""]:
    """`sqrt(log((t + t_read) / (2 t_read)))`; 0 until one read has passed."""
    # log1p keeps precision just after `t_read`. The inner `where` keeps the infinite
    # derivative of the root at zero out of gradients.
    excess = (time - t_read) / (2 * t_read)
    late = excess > 0
    growth = jnp.sqrt(jnp.log1p(jnp.where(late, excess, jnp.ones_like(excess))))
    return jnp.where(late, growth, jnp.zeros_like(growth))


def read_noise(
    model: AbstractReadNoise,
    g: Float[Array, " *cells"],
    time: Scalar,
    g_programmed: Float[Array, " *cells"] | None = None,
    *,
    key: PRNGKeyArray,
) -> Float[Array, " *cells"]:
    """Sample the conductances of one read.

    **Arguments:**

    - `model`: the statistics.
    - `g`: conductances at the time of the read, in siemens.
    - `time`: time since programming, in seconds, from 0 up.
    - `g_programmed`: conductances before drift, which set the quality of 1/f noise. By
        default `g` is used instead.
    - `key`: key of the read; each read needs a new one.

    **Returns:**

    Conductances in siemens, limited to `[g_min, g_max]` of the model, with the shape
    and dtype of `g`.

    **Example:**

        >>> g, model = jnp.full(100, 1e-5), sj.noise_models.PCM.read
        >>> first = sj.kernels.read_noise(model, g, 60.0, key=jr.key(0))
        >>> second = sj.kernels.read_noise(model, g, 60.0, key=jr.key(1))
        >>> bool(jnp.any(first != second))  # a new key for each read
        True
    """
    g_programmed = g if g_programmed is None else g_programmed
    spread = model.spread(g, jnp.asarray(time, g.dtype), g_programmed)
    draws = model.distribution(key, g.shape, g.dtype)
    return jnp.clip(g + jnp.maximum(spread, 0) * draws, model.g_min, model.g_max)


class RetentionTable(eqx.Module):
    """Statistics of an array measured at a few times after programming.

    A cell with target `g` is at `m + amplitude (1 - exp(-m / scale)) xi`, where
    `m = g + sum_k shift_k x**k` and `x = g / reference`. All parameters are linear in time
    between the measurements, and keep their last value afterwards.

    - `times`: times of the measurements, in seconds, ascending.
    - `shifts`: coefficients of the mean shift, in siemens, one row per time.
    - `amplitudes`, `scales`: parameters of the spread, in siemens, one each per time.
    - `reference`: reference conductance, in siemens.
    - `g_min`: lower limit of the result, in siemens.

    **Example:**

        >>> table = sj.kernels.RetentionTable(
        ...     times=jnp.array([0.0, 100.0]),
        ...     shifts=jnp.array([[0.0], [-2e-6]]),
        ...     amplitudes=jnp.zeros(2),
        ...     scales=jnp.full(2, 1e-6),
        ...     reference=1e-5,
        ... )
        >>> g = sj.kernels.sample_retention(table, jnp.array([1e-5]), 50.0, key=jr.key(0))
        >>> print(np.asarray(1e6 * g).round(3))  # half of the shift of -2 uS
        [9.]
    """

    times: Float[Array, " times"]
    shifts: Float[Array, "times terms"]
    amplitudes: Float[Array, " times"]
    scales: Float[Array, " times"]
    reference: Scalar
    g_min: Scalar = 0.0

    def __check_init__(self):
        call = "sedma_jax.kernels.RetentionTable"
        columns = {"amplitudes": self.amplitudes, "scales": self.scales}
        arrays = {"times": self.times, "shifts": self.shifts} | columns
        check_numbers(call, FINITE, "Leave out what was not measured.", **arrays)
        known = {name: known_numbers(value) for name, value in arrays.items()}
        shapes = [v.shape for v in known.values() if v is not None]
        if len(shapes) == len(known):
            counts = {shape[:1] for shape in shapes}
            dims = [len(shape) for shape in shapes]
            if len(counts) > 1 or dims != [1, 2, 1, 1] or 0 in shapes[0]:
                raise ValueError(
                    f"`{call}` needs an entry of `times`, `amplitudes` and `scales`, and a "
                    f"row of `shifts`, for each measurement. Got shapes "
                    f"{dict(zip(arrays, shapes, strict=True))}. Make their lengths equal."
                )
        times = known["times"]
        if times is not None and (np.diff(times) <= 0).any():
            raise ValueError(
                f"`{call}` needs `times` in ascending order, in seconds. "
                f"Got {shown(times.tolist())}. Sort the rows of the table."
            )
        check_numbers(call, FROM_ZERO, "It is in seconds.", times=self.times)
        check_numbers(call, FROM_ZERO, "It is in siemens.", amplitudes=self.amplitudes)
        check_numbers(
            call,
            POSITIVE,
            "It is in siemens.",
            scales=self.scales,
            reference=self.reference,
        )
        check_numbers(call, NUMBER, "It is in siemens.", g_min=self.g_min)


def sample_retention(
    model: RetentionTable,
    g_target: Float[Array, " *cells"],
    time: Scalar,
    *,
    key: PRNGKeyArray,
) -> Float[Array, " *cells"]:
    """Sample conductances `time` seconds after programming, programming noise included.

    At time 0 this is `program_noise` with the first row of the table. The same key
    gives every cell the same standard normal `xi` at all times.

    **Arguments:**

    - `model`: the table.
    - `g_target`: target conductances, in siemens, from 0 up.
    - `time`: since programming, in seconds, from 0 up; after the last row nothing changes.
    - `key`: identifies the cells.

    **Returns:**

    Conductances in siemens, with the shape and dtype of `g_target`.

    **Example:**

        >>> table = sj.noise_models.sonos_retention(v_read=0.1)
        >>> target = jnp.full(1000, 1e-5)
        >>> new = sj.kernels.sample_retention(table, target, 0.0, key=jr.key(0))
        >>> old = sj.kernels.sample_retention(table, target, 5 * 86400.0, key=jr.key(0))
        >>> bool(jnp.std(old) > jnp.std(new))
        True
    """
    dtype = g_target.dtype
    times = jnp.asarray(model.times, dtype)
    at_time = lambda values: jnp.interp(
        jnp.asarray(time, dtype), times, jnp.asarray(values, dtype)
    )
    amplitude, scale = at_time(model.amplitudes), at_time(model.scales)
    shift = jax.vmap(at_time, in_axes=1)(model.shifts)
    mean = g_target + evaluate_polynomial(shift, g_target / model.reference)
    deviation = jnp.maximum(-amplitude * jnp.expm1(-mean / scale), 0)
    draws = jr.normal(key, g_target.shape, dtype)
    return jnp.maximum(mean + deviation * draws, model.g_min)
