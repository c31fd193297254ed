"""Curves fitted to measurements: how a spread or exponent depends on conductance.

Each curve maps conductances, in siemens, to the unit of its coefficients. `reference`,
in siemens, makes the conductance dimensionless, `x = g / reference`, so that coefficients
fitted to `g / g_max` or to a number of microsiemens are kept as published.
"""

import abc
import math
from typing import Any

import equinox as eqx
import jax.core
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._numerics.requirements import (
    FINITE,
    NUMBER,
    POSITIVE,
    check_kind,
    check_numbers,
    shown,
)
from .device import Scalar

# Logarithms and inverse powers are evaluated from this fraction of `reference` up; the
# published curves saturate far above it.
_SMALLEST = 1e-7


class AbstractCurve(eqx.Module):
    """A quantity as a function of conductance.

    **Example:**

        >>> curve = sj.noise_models.proportional(0.1)
        >>> isinstance(curve, sj.kernels.AbstractCurve)
        True
        >>> print(np.asarray(1e6 * curve(jnp.array([1e-5]))).round(3))  # a tenth of 10 uS
        [1.]
    """

    @abc.abstractmethod
    def __call__(self, conductance: Float[Array, " *cells"]) -> Float[Array, " *cells"]:
        """Evaluate at conductances in siemens, from 0 up."""


_REFERENCE = "It is a conductance, in siemens."


def check_curves(call: str, **curves: Any) -> None:
    """Refuse what is no curve."""
    check_kind(
        call,
        (AbstractCurve, jax.core.Tracer),
        "a curve",
        "Such as `sedma_jax.noise_models.proportional(0.02)`.",
        **curves,
    )


def _check_curve(curve: AbstractCurve, reference: Scalar, **coefficients: Any) -> None:
    call = f"sedma_jax.kernels.{type(curve).__name__}"
    name = "scale" if isinstance(curve, SaturatingCurve) else "reference"
    check_numbers(call, POSITIVE, _REFERENCE, **{name: reference})
    check_numbers(call, FINITE, "It is a coefficient of the fit.", **coefficients)


class PolynomialCurve(AbstractCurve):
    """`c_0 + c_1 x + c_2 x**2 + ...`, `x = g / reference`.

    - `coefficients`: coefficients from the constant up, in the unit of the result.
    - `reference`: reference conductance, in siemens.

    **Example:**

        >>> curve = sj.kernels.PolynomialCurve((1e-7, 2e-7), reference=1e-5)
        >>> sigma = curve(jnp.array([0.0, 1e-5]))  # c_0, and c_0 + c_1
        >>> print(np.asarray(1e6 * sigma).round(3))
        [0.1 0.3]
    """

    coefficients: tuple[Scalar, ...]
    reference: Scalar

    def __check_init__(self):
        call = "sedma_jax.kernels.PolynomialCurve"
        check_polynomials(call, coefficients=self.coefficients)
        _check_curve(self, self.reference)

    def __call__(self, conductance: Float[Array, " *cells"]) -> Float[Array, " *cells"]:
        return evaluate_polynomial(self.coefficients, conductance / self.reference)


class LogarithmicCurve(AbstractCurve):
    """`slope * log(x) + intercept`, natural log, `x = g / reference`.

    - `slope`, `intercept`: in the unit of the result.
    - `reference`: reference conductance, in siemens, positive.
    - `lowest`, `highest`: limits of the result.

    **Example:**

        >>> curve = sj.kernels.LogarithmicCurve(-0.1, 0.2, reference=1e-5, highest=0.3)
        >>> nu = curve(jnp.array([1e-5, 1e-9]))  # the second is limited
        >>> print(np.asarray(nu).round(3))
        [0.2 0.3]
    """

    slope: Scalar
    intercept: Scalar
    reference: Scalar
    lowest: Scalar = -math.inf
    highest: Scalar = math.inf

    def __check_init__(self):
        _check_curve(self, self.reference, slope=self.slope, intercept=self.intercept)
        limits = {"lowest": self.lowest, "highest": self.highest}
        call = "sedma_jax.kernels.LogarithmicCurve"
        check_numbers(call, NUMBER, "Infinity is no limit.", **limits)

    def __call__(self, conductance: Float[Array, " *cells"]) -> Float[Array, " *cells"]:
        x = jnp.maximum(conductance / self.reference, _SMALLEST)
        return jnp.clip(self.slope * jnp.log(x) + self.intercept, self.lowest, self.highest)


class PowerCurve(AbstractCurve):
    """`amplitude * x**exponent`, `x = g / reference`; 0 where there is no conductance.

    - `amplitude`: value at the reference, in the unit of the result.
    - `exponent`: of any sign.
    - `reference`: reference conductance, in siemens, positive.
    - `highest`: upper limit of the result.

    **Example:**

        >>> curve = sj.kernels.PowerCurve(0.01, -0.5, reference=1e-5, highest=0.2)
        >>> print(np.asarray(curve(jnp.array([1e-5, 1e-7, 1e-9]))).round(3))  # 0.01 x**-0.5
        [0.01 0.1  0.2 ]
    """

    amplitude: Scalar
    exponent: Scalar
    reference: Scalar
    highest: Scalar = math.inf

    def __check_init__(self):
        _check_curve(self, self.reference, amplitude=self.amplitude, exponent=self.exponent)
        call = "sedma_jax.kernels.PowerCurve"
        check_numbers(call, NUMBER, "Infinity is no limit.", highest=self.highest)

    def __call__(self, conductance: Float[Array, " *cells"]) -> Float[Array, " *cells"]:
        x = jnp.maximum(conductance / self.reference, _SMALLEST)
        value = jnp.minimum(self.amplitude * x**self.exponent, self.highest)
        return jnp.where(conductance > 0, value, jnp.zeros_like(value))


class SaturatingCurve(AbstractCurve):
    """`amplitude * (1 - exp(-g / scale))`.

    - `amplitude`: value at large conductance, in the unit of the result.
    - `scale`: in siemens.

    **Example:**

        >>> curve = sj.kernels.SaturatingCurve(1e-7, 1e-6)
        >>> sigma = curve(jnp.array([0.0, 1e-4]))  # none, then all of 100 nS
        >>> print(np.asarray(1e9 * sigma).round(3))
        [  0. 100.]
    """

    amplitude: Scalar
    scale: Scalar

    def __check_init__(self):
        _check_curve(self, self.scale, amplitude=self.amplitude)

    def __call__(self, conductance: Float[Array, " *cells"]) -> Float[Array, " *cells"]:
        return -self.amplitude * jnp.expm1(-conductance / self.scale)


class PiecewiseCurve(AbstractCurve):
    """One curve below a boundary, and another from there up.

    - `boundary`: conductance, in siemens.
    - `below`, `above`: the curves.

    **Example:**

        >>> low, high = (sj.kernels.PolynomialCurve((c,), 1.0) for c in (0.1, 0.2))
        >>> curve = sj.kernels.PiecewiseCurve(5e-6, low, high)
        >>> print(np.asarray(curve(jnp.array([1e-6, 5e-6]))).round(3))
        [0.1 0.2]
    """

    boundary: Scalar
    below: AbstractCurve
    above: AbstractCurve

    def __check_init__(self):
        call = "sedma_jax.kernels.PiecewiseCurve"
        check_numbers(call, FINITE, _REFERENCE, boundary=self.boundary)
        check_curves(call, below=self.below, above=self.above)

    def __call__(self, conductance: Float[Array, " *cells"]) -> Float[Array, " *cells"]:
        low = conductance < self.boundary
        return jnp.where(low, self.below(conductance), self.above(conductance))


def check_polynomials(call: str, **coefficients: Any) -> None:
    """Refuse coefficients that are no finite numbers, or none."""
    for name, values in coefficients.items():
        several = values if isinstance(values, list | tuple) else [values]
        if not several or isinstance(values, str | int | float):
            raise ValueError(
                f"`{call}` needs `{name}` to be coefficients, from the constant up. "
                f"Got {shown(values)}. Write `(0.1, 0.02)`."
            )
        for value in several:
            check_numbers(call, FINITE, "It is from a fit.", **{name: value})


def evaluate_polynomial(
    coefficients: tuple[Scalar, ...] | Float[Array, " terms"],
    x: Float[Array, " *cells"],
) -> Float[Array, " *cells"]:
    """Evaluate `c_0 + c_1 x + ...` by Horner's rule."""
    value = jnp.zeros_like(x)
    for coefficient in reversed(coefficients):
        value = value * x + coefficient
    return value
