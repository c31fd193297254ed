"""Retention: how conductance changes between programming and reading.

Times are in seconds from the end of programming. A key identifies an array of cells:
the same key gives every cell the same drift at all times.
"""

import abc

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from .._numerics.requirements import FINITE, NUMBER, POSITIVE, check_numbers
from .device import Scalar
from .noise_curves import AbstractCurve, check_curves

_T_0 = "It is a time, in seconds."


class AbstractDrift(eqx.Module):
    """How conductance changes between programming and reading.

    **Example:**

        >>> isinstance(sj.noise_models.PCM.drift, sj.kernels.AbstractDrift)
        True
    """

    @abc.abstractmethod
    def drifted(
        self,
        g: Float[Array, " *cells"],
        time: Float[Array, ""],
        g_target: Float[Array, " *cells"],
        key: PRNGKeyArray,
    ) -> Float[Array, " *cells"]:
        """Conductances at `time`; `g_target` sets the statistics of the cells."""


class PowerLawDrift(AbstractDrift):
    """Structural relaxation, `g(t) = g ((t + t_0) / t_0)**-nu`, with one `nu` per cell.

    Nandakumar et al. (2019, IEEE ICECS, 727). `nu = |mean + deviation * xi|` with `xi`
    standard normal.

    - `exponent_mean`, `exponent_deviation`: statistics of `nu` before the modulus.
    - `t_0`: time of the first read after programming, in seconds.

    **Example:**

        >>> nu, spread = (sj.kernels.PolynomialCurve((c,), 1.0) for c in (0.05, 0.0))
        >>> model = sj.kernels.PowerLawDrift(nu, spread, t_0=20.0)
        >>> g = sj.kernels.drift(model, jnp.array([1e-5]), 180.0, key=jr.key(0))
        >>> print(np.asarray(1e6 * g).round(3), round(10 * 10**-0.05, 3))  # 200 / 20 = 10
        [8.913] 8.913
    """

    exponent_mean: AbstractCurve
    exponent_deviation: AbstractCurve
    t_0: Scalar

    def __check_init__(self):
        call = "sedma_jax.kernels.PowerLawDrift"
        curves = {"exponent_mean": self.exponent_mean}
        check_curves(call, **curves, exponent_deviation=self.exponent_deviation)
        check_numbers(call, POSITIVE, _T_0, t_0=self.t_0)

    def drifted(
        self,
        g: Float[Array, " *cells"],
        time: Float[Array, ""],
        g_target: Float[Array, " *cells"],
        key: PRNGKeyArray,
    ) -> Float[Array, " *cells"]:
        exponents = drift_exponents(self, g_target, key=key)
        return g * jnp.exp(-exponents * jnp.log1p(time / self.t_0))


def drift_exponents(
    model: PowerLawDrift, g_target: Float[Array, " *cells"], *, key: PRNGKeyArray
) -> Float[Array, " *cells"]:
    """Draw the exponents `nu` of the cells, which are those of `drift` for the same key."""
    draws = jr.normal(key, g_target.shape, g_target.dtype)
    mean = model.exponent_mean(g_target)
    return jnp.abs(mean + model.exponent_deviation(g_target) * draws)


class LogarithmicDrift(AbstractDrift):
    """Relaxation in the logarithm of time, independent of the conductance.

    `g(t) = g + mean_slope * u + (deviation_slope * u + deviation) * xi`, where
    `u = log(t / t_0)` and `xi` is a standard normal number per cell (Falcone et al. 2025,
    arXiv 2502.04524). The model is fitted from `t_0` on: earlier times have the spread of
    `t_0`, and `t = 0` leaves the cells unchanged.

    - `mean_slope`, `deviation_slope`, `deviation`: coefficients, in siemens.
    - `t_0`: time of the first measurement, in seconds.
    - `g_min`: lower limit of the result, in siemens.

    **Example:**

        >>> model = sj.kernels.LogarithmicDrift(-1e-7, 0.0, 0.0, t_0=1.0)
        >>> g = sj.kernels.drift(model, jnp.array([1e-5]), np.e**10, key=jr.key(0))
        >>> print(np.asarray(1e6 * g).round(3))  # ten natural decades of 0.1 uS
        [9.]
    """

    mean_slope: Scalar
    deviation_slope: Scalar
    deviation: Scalar
    t_0: Scalar = 1.0
    g_min: Scalar = 0.0

    def __check_init__(self):
        call = "sedma_jax.kernels.LogarithmicDrift"
        check_numbers(
            call,
            FINITE,
            "It is a coefficient of the fit, in siemens.",
            mean_slope=self.mean_slope,
            deviation_slope=self.deviation_slope,
            deviation=self.deviation,
        )
        check_numbers(call, POSITIVE, _T_0, t_0=self.t_0)
        check_numbers(call, NUMBER, "It is in siemens.", g_min=self.g_min)

    def drifted(
        self,
        g: Float[Array, " *cells"],
        time: Float[Array, ""],
        g_target: Float[Array, " *cells"],
        key: PRNGKeyArray,
    ) -> Float[Array, " *cells"]:
        del g_target
        u = jnp.log(jnp.maximum(time / self.t_0, 1))
        draws = jr.normal(key, g.shape, g.dtype)
        change = self.mean_slope * u + (self.deviation_slope * u + self.deviation) * draws
        return jnp.where(time > 0, jnp.maximum(g + change, self.g_min), g)


def drift(
    model: AbstractDrift,
    g: Float[Array, " *cells"],
    time: Scalar,
    g_target: Float[Array, " *cells"] | None = None,
    *,
    key: PRNGKeyArray,
) -> Float[Array, " *cells"]:
    """Let programmed cells drift.

    **Arguments:**

    - `model`: the model of retention.
    - `g`: programmed conductances, in siemens.
    - `time`: time since programming, in seconds, from 0 up. At 0 nothing has changed.
    - `g_target`: conductances that set the statistics of each cell, in siemens. The
        fitted statistics refer to the target; by default `g` is used instead.
    - `key`: identifies the cells. Use the same key for all times of one array.

    **Returns:**

    Conductances in siemens, with the shape and dtype of `g`.

    **Example:**

        >>> g, model = jnp.array([5e-6, 2e-5]), sj.noise_models.PCM.drift
        >>> hour = sj.kernels.drift(model, g, 3600.0, key=jr.key(0))
        >>> year = sj.kernels.drift(model, g, 3.15e7, key=jr.key(0))  # the same cells
        >>> bool(jnp.all((year < hour) & (hour < g)))
        True
    """
    g_target = g if g_target is None else g_target
    return model.drifted(g, jnp.asarray(time, g.dtype), g_target, key)
