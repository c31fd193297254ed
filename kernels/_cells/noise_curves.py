"""Curves fitted to measurements: how a spread or exponent depends on conductance.

Each curve maps conductances, in siemens, to the unit of its coefficients. `reference`,
in siemens, makes the conductance dimensionless, `x = g / reference`, so that coefficients
fitted to `g / g_max` or to a number of microsiemens are kept as published.
"""

import abc
import math

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from .device import Scalar

# Logarithms and inverse powers are evaluated from this fraction of `reference` up; the
# published curves saturate far above it.
_SMALLEST = 1e-7


class AbstractCurve(eqx.Module):
    """A quantity as a function of conductance."""

    @abc.abstractmethod
    def __call__(self, conductance: Float[Array, " *cells"]) -> Float[Array, " *cells"]:
        """Evaluate at conductances in siemens, from 0 up."""


class PolynomialCurve(AbstractCurve):
    """`c_0 + c_1 x + c_2 x**2 + ...`, `x = g / reference`.

    - `coefficients`: coefficients from the constant up, in the unit of the result.
    - `reference`: reference conductance, in siemens.
    """

    coefficients: tuple[Scalar, ...]
    reference: Scalar

    def __call__(self, conductance: Float[Array, " *cells"]) -> Float[Array, " *cells"]:
        return evaluate_polynomial(self.coefficients, conductance / self.reference)


class LogarithmicCurve(AbstractCurve):
    """`slope * log(x) + intercept`, natural log, limited to `[lowest, highest]`."""

    slope: Scalar
    intercept: Scalar
    reference: Scalar
    lowest: Scalar = -math.inf
    highest: Scalar = math.inf

    def __call__(self, conductance: Float[Array, " *cells"]) -> Float[Array, " *cells"]:
        x = jnp.maximum(conductance / self.reference, _SMALLEST)
        return jnp.clip(self.slope * jnp.log(x) + self.intercept, self.lowest, self.highest)


class PowerCurve(AbstractCurve):
    """`amplitude * x**exponent`, at most `highest`; 0 where there is no conductance."""

    amplitude: Scalar
    exponent: Scalar
    reference: Scalar
    highest: Scalar = math.inf

    def __call__(self, conductance: Float[Array, " *cells"]) -> Float[Array, " *cells"]:
        x = jnp.maximum(conductance / self.reference, _SMALLEST)
        value = jnp.minimum(self.amplitude * x**self.exponent, self.highest)
        return jnp.where(conductance > 0, value, jnp.zeros_like(value))


class SaturatingCurve(AbstractCurve):
    """`amplitude * (1 - exp(-g / scale))`, `scale` in siemens."""

    amplitude: Scalar
    scale: Scalar

    def __call__(self, conductance: Float[Array, " *cells"]) -> Float[Array, " *cells"]:
        return -self.amplitude * jnp.expm1(-conductance / self.scale)


class PiecewiseCurve(AbstractCurve):
    """One curve below `boundary`, in siemens, and another from there up."""

    boundary: Scalar
    below: AbstractCurve
    above: AbstractCurve

    def __call__(self, conductance: Float[Array, " *cells"]) -> Float[Array, " *cells"]:
        low = conductance < self.boundary
        return jnp.where(low, self.below(conductance), self.above(conductance))


def evaluate_polynomial(
    coefficients: tuple[Scalar, ...] | Float[Array, " terms"],
    x: Float[Array, " *cells"],
) -> Float[Array, " *cells"]:
    """Evaluate `c_0 + c_1 x + ...` by Horner's rule."""
    value = jnp.zeros_like(x)
    for coefficient in reversed(coefficients):
        value = value * x + coefficient
    return value
