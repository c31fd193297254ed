"""Shapes of the pulse response beside the exponential law.

A curve tells which share `p` of the window a train of the share `x` of all pulses covers,
`p(0) = 0` and `p(1) = 1`. Potentiation covers it from the bottom up, depression from the
top down; both are described from where they start.
"""

import abc
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._numerics.gradients import saturated, saturation_fraction
from .._numerics.requirements import (
    FINITE,
    FROM_ONE,
    FROM_ZERO,
    check_numbers,
    known_numbers,
    shown,
)

# Exponents nearer to one than this are one: the power would lose its digits.
_NEAR_ONE = 1e-3


class AbstractPulseCurve(eqx.Module):
    """The share of the window that a share of its pulses covers, and the inverse.

    **Example:**

        >>> curve = sj.kernels.SoftBoundCurve(exponent=0.0)  # a straight line
        >>> isinstance(curve, sj.kernels.AbstractPulseCurve)
        True
        >>> float(curve.needed(curve.covered(jnp.array(0.25))))
        0.25
    """

    @abc.abstractmethod
    def covered(self, pulses: Float[Array, " *cells"]) -> Float[Array, " *cells"]:
        """Share of the window that `pulses`, from 0 to 1, cover from its start."""

    @abc.abstractmethod
    def needed(self, share: Float[Array, " *cells"]) -> Float[Array, " *cells"]:
        """Share of the pulses that covers `share`, from 0 to 1; inverse of `covered`."""


class TabulatedCurve(AbstractPulseCurve):
    """A measured response, linear between its points.

    - `pulses`: share of the pulses at each point, ascending from 0 to 1.
    - `shares`: share of the window covered there, ascending from 0 to 1.

    **Raises:** `ValueError` if one of them is not so, or their lengths differ.

    **Example:**

        >>> curve = sj.kernels.TabulatedCurve([0.0, 0.5, 1.0], [0.0, 0.8, 1.0])
        >>> float(curve.covered(jnp.array(0.25)))
        0.4...
    """

    pulses: Float[Array, " points"] = eqx.field(converter=jnp.asarray)
    shares: Float[Array, " points"] = eqx.field(converter=jnp.asarray)

    def __check_init__(self):
        call = "sedma_jax.kernels.TabulatedCurve"
        columns = {"pulses": self.pulses, "shares": self.shares}
        check_numbers(call, FROM_ZERO, "It is a share, from 0 to 1.", **columns)
        for name, values in columns.items():
            known = known_numbers(values)
            if known is None:
                continue
            good = known.ndim == 1 and known.size >= 2 and known[0] == 0 and known[-1] == 1
            if not good or np.any(np.diff(known) <= 0):
                raise ValueError(
                    f"`{call}` needs `{name}` to ascend from 0 to 1, in at least two "
                    f"points. Got {shown(values)}. Divide by the last, and sort."
                )
        if np.shape(self.pulses) != np.shape(self.shares):
            raise ValueError(
                f"`{call}` needs as many `shares` as `pulses`. Got {len(self.shares)} and "
                f"{len(self.pulses)}. Give one of each for every point."
            )

    def covered(self, pulses: Float[Array, " *cells"]) -> Float[Array, " *cells"]:
        return _interpolate(pulses, self.pulses, self.shares)

    def needed(self, share: Float[Array, " *cells"]) -> Float[Array, " *cells"]:
        return _interpolate(share, self.shares, self.pulses)


def _interpolate(x: Any, at: Any, values: Any) -> Any:
    return jnp.interp(x, at.astype(x.dtype), values.astype(x.dtype))


class ExponentialCurve(AbstractPulseCurve):
    """The exponential law, `(1 - exp(-u x)) / (1 - exp(-u))`, of either curvature.

    Labels of a `Device` let both directions be steepest where they start, `u > 0`. With
    `u < 0` a train starts slowly and ends steeply, as where depression runs back along the
    path of potentiation: the tables of ferroelectric synapses then have labels of one sign
    for both directions (Jerry et al. 2017, IEEE IEDM).

    - `curvature`: `u`; 0 is a straight line.

    **Raises:** `ValueError` if it is not finite.

    **Example:**

        >>> curve = sj.kernels.ExponentialCurve(-2 * np.log(3))  # (9**x - 1) / 8
        >>> round(float(curve.covered(jnp.array(0.5))), 4)
        0.25
    """

    curvature: Float[Array, ""] | float = 0.0

    def __check_init__(self):
        call = "sedma_jax.kernels.ExponentialCurve"
        check_numbers(call, FINITE, "0 is a straight line.", curvature=self.curvature)

    def covered(self, pulses: Float[Array, " *cells"]) -> Float[Array, " *cells"]:
        return saturated(pulses, self._curvature(pulses))

    def needed(self, share: Float[Array, " *cells"]) -> Float[Array, " *cells"]:
        # Where the curve is flat the share rounds to 1, and the logarithm is infinite.
        return jnp.minimum(saturation_fraction(share, self._curvature(share)), 1)

    def _curvature(self, like: Float[Array, " *cells"]) -> Float[Array, ""]:
        u = jnp.asarray(self.curvature, like.dtype)
        # The straight line is the limit; the formulas need another number than zero.
        return u + jnp.where(u == 0, jnp.finfo(like.dtype).eps, 0).astype(like.dtype)


class SoftBoundCurve(AbstractPulseCurve):
    """Steps that shrink towards a bound: `dp/dx` proportional to `(bound - p)**exponent`.

    Soft bounds are those of Fusi & Abbott (2007, Nat. Neurosci. 10, 485), by which
    Frascaroli et al. (2018, Sci. Rep. 8, 7178) describe HfO2 cells; aihwkit's
    `PowStepDevice` cites both for its power law. Exponent 1 is the exponential law with
    `u = log(bound / (bound - 1))`. With
    `f(z) = (z**(1 - exponent) - 1) / (1 - exponent)`, or `log z`,
    `f(bound - p(x)) = f(bound) + x (f(bound - 1) - f(bound))`.

    - `exponent`: from 0, a straight line, up.
    - `bound`: in units of the window, at least 1, and above 1 for exponents from 1 up,
        which never reach their bound.

    **Raises:** `ValueError` for a figure out of range.

    **Example:**

        >>> curve = sj.kernels.SoftBoundCurve(exponent=0.5)  # p = 1 - (1 - x)**2
        >>> float(curve.covered(jnp.array(0.5)))
        0.75
    """

    exponent: Float[Array, ""] | float = eqx.field(default=1.0)
    bound: Float[Array, ""] | float = eqx.field(default=1.0)

    def __check_init__(self):
        call = "sedma_jax.kernels.SoftBoundCurve"
        check_numbers(call, FROM_ZERO, "0 is a straight line.", exponent=self.exponent)
        check_numbers(call, FROM_ONE, "It is in units of the window.", bound=self.bound)
        exponent, bound = known_numbers(self.exponent), known_numbers(self.bound)
        if exponent is None or bound is None:
            return
        if np.any((exponent > 1 - 2 * _NEAR_ONE) & (bound < 1 + 1e-6)):
            raise ValueError(
                f"`{call}` needs `bound` above 1 for exponents from 1 up. Got "
                f"bound={shown(self.bound)}, exponent={shown(self.exponent)}. Such steps "
                "never reach their bound: put it outside the window."
            )

    def covered(self, pulses: Float[Array, " *cells"]) -> Float[Array, " *cells"]:
        dtype = pulses.dtype
        bound = jnp.asarray(self.bound, dtype)
        start, end = _power(bound, self.exponent), _power(bound - 1, self.exponent)
        return bound - _root(start + pulses * (end - start), self.exponent)

    def needed(self, share: Float[Array, " *cells"]) -> Float[Array, " *cells"]:
        bound = jnp.asarray(self.bound, share.dtype)
        start, end = _power(bound, self.exponent), _power(bound - 1, self.exponent)
        return (_power(bound - share, self.exponent) - start) / (end - start)


def _power(z, exponent):
    q = 1 - jnp.asarray(exponent, z.dtype)
    near = jnp.abs(q) < _NEAR_ONE
    safe = jnp.where(near, jnp.maximum(z, jnp.finfo(z.dtype).tiny), 1)
    # At zero the power is zero, and its derivative would not be finite.
    positive = z > 0
    power = jnp.where(positive, jnp.where(positive, z, 1) ** jnp.where(near, 1, q), 0)
    return jnp.where(near, jnp.log(safe), (power - 1) / jnp.where(near, 1, q))


def _root(f, exponent):
    q = 1 - jnp.asarray(exponent, f.dtype)
    near = jnp.abs(q) < _NEAR_ONE
    safe_q = jnp.where(near, 1, q)
    base = jnp.maximum(1 + safe_q * f, 0)
    positive = base > 0
    power = jnp.where(positive, jnp.where(positive, base, 1) ** (1 / safe_q), 0)
    return jnp.where(near, jnp.exp(f), power)
