"""Change cells by trains of identical pulses.

The *state* of a cell is the fraction of the conductance window that it has reached. Pulses
move the cell along the response curve of `device.py`, upwards along the potentiation curve
and downwards along the depression curve. The noise of one pulse, `sigma_c2c`, is a share of
the window (Chen, Peng & Yu 2018, IEEE TCAD 37, 3067, Fig. 18); that of `n` independent ones
has a standard deviation of `sigma_c2c * sqrt(n)`.
"""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float, PRNGKeyArray

from .._numerics.gradients import advanced, saturated, saturation_fraction
from .._numerics.random import normal
from .device import Device, Scalar, curvature
from .pulse_curve import AbstractPulseCurve


class Response(eqx.Module):
    """Curvatures of the two pulse responses: one for all cells, or one per cell.

    - `ltp`, `ltd`: of potentiation and of depression.
    - `folded`: present where the cells form pairs, both start at the bottom of their
        window, and at most one of each pair is to be written: the response of that cell.
        A scheme that treats every cell by itself then programs one cell per pair.

    **Example:**

        >>> response = sj.kernels.nominal_response(sj.devices.EPIRAM, jnp.float32)
        >>> bool((response.ltp > 0) & (response.ltd < 0))  # both are steep where they start
        True
    """

    ltp: Float[Array, " *cells"]
    ltd: Float[Array, " *cells"]
    folded: "Response | None" = None


def nominal_response(device: Device, dtype: DTypeLike) -> Response:
    """The response of a device without device-to-device spread, the same for all cells.

    **Arguments:**

    - `device`: its labels `nonlinearity_ltp` and `nonlinearity_ltd` count.
    - `dtype`: of the curvatures.

    **Example:**

        >>> linear = sj.Device(1e-6, 1e-5, pulses_ltp=100, pulses_ltd=100)
        >>> print(sj.kernels.nominal_response(linear, jnp.float32).ltp)
        0.0
    """
    return Response(*curvature(_labels(device, dtype)))


def draw_response(
    device: Device, shape: tuple[int, ...], dtype: DTypeLike, *, key: PRNGKeyArray
) -> Response:
    """Draw each cell's response once, as fabrication leaves it.

    Independent normal draws of standard deviation `sigma_d2d`, in label units, shift the
    two labels of a cell.

    **Example:**

        >>> device = sj.Device(1e-6, 1e-5, pulses_ltp=100, pulses_ltd=100, sigma_d2d=0.1)
        >>> response = sj.kernels.draw_response(device, (4, 3), jnp.float32, key=jr.key(0))
        >>> response.ltp.shape  # a curvature for each cell
        (4, 3)
    """
    spread = normal(key, (2, *shape), np.dtype(dtype)) * device.sigma_d2d
    labels = _labels(device, dtype).reshape((2,) + (1,) * len(shape))
    return Response(*curvature(labels + spread))


def _labels(device: Device, dtype: DTypeLike) -> Float[Array, "2"]:
    return jnp.stack(
        [jnp.asarray(v, dtype) for v in (device.nonlinearity_ltp, device.nonlinearity_ltd)]
    )


def response_curve(
    fraction: Float[Array, " *cells"], u: Float[Array, " *cells"] | Scalar
) -> Float[Array, " *cells"]:
    """State reached from 0 by a fraction of the pulses that cross the window."""
    u = nonzero_curvature(u, fraction.dtype)
    return saturated(fraction, u)


def response_inverse(
    state: Float[Array, " *cells"], u: Float[Array, " *cells"] | Scalar
) -> Float[Array, " *cells"]:
    """Fraction of the pulses that leads to a state; inverse of `response_curve`."""
    u = nonzero_curvature(u, state.dtype)
    # Where the curve is so flat that the state rounds to 1, the logarithm is infinite.
    return jnp.minimum(saturation_fraction(state, u), 1)


def nonzero_curvature(
    u: Float[Array, " *cells"] | Scalar, dtype: DTypeLike
) -> Float[Array, " *cells"]:
    """Replace a curvature of zero by the smallest one that the formulas need."""
    # A straight line is the limit u -> 0. `expm1` and `log1p` keep full precision at the
    # smallest u, so replacing zero costs nothing.
    u = jnp.asarray(u, dtype)
    return u + jnp.where(u == 0, jnp.finfo(dtype).eps, 0).astype(dtype)


def apply_pulses(
    state: Float[Array, " *cells"],
    pulses: Float[Array, " *cells"],
    device: Device,
    response: Response,
    *,
    key: PRNGKeyArray,
) -> Float[Array, " *cells"]:
    """Apply a signed number of pulses to each cell.

    **Arguments:**

    - `state`: fraction of the window, from 0 to 1.
    - `pulses`: whole numbers; positive ones potentiate, negative ones depress.
    - `device`: the technology.
    - `response`: curvatures, common or per cell.
    - `key`: key of the cycle-to-cycle noise.

    **Returns:**

    New states, from 0 to 1. A cell without pulses keeps its state exactly.

    **Example:**

        >>> device = sj.Device(1e-6, 1e-5, pulses_ltp=100, pulses_ltd=100)  # no noise
        >>> response = sj.kernels.nominal_response(device, jnp.float32)
        >>> state, pulses = (jnp.array(v, jnp.float32) for v in ([0.5] * 3, [25, -25, 0]))
        >>> state = sj.kernels.apply_pulses(state, pulses, device, response, key=jr.key(0))
        >>> print(np.asarray(state).round(3))
        [0.75 0.25 0.5 ]
    """
    noise = normal(key, state.shape, state.dtype)
    return move_state(state, pulses, device, response, noise)


def move_state(
    state: Float[Array, " *cells"],
    pulses: Float[Array, " *cells"],
    device: Device,
    response: Response,
    noise: Float[Array, " *cells"],
) -> Float[Array, " *cells"]:
    """Do what `apply_pulses` does, with standard normal draws that are given as `noise`.

    `n` pulses move a cell by `sigma_c2c sqrt(n)` times its draw, beside the mean move.

    **Example:**

        >>> device = sj.Device(1e-6, 1e-5, pulses_ltp=100, pulses_ltd=100, sigma_c2c=0.01)
        >>> response = sj.kernels.nominal_response(device, jnp.float32)
        >>> state, pulses, noise = (jnp.full(1, v, jnp.float32) for v in (0.0, 25.0, 1.0))
        >>> state = sj.kernels.move_state(state, pulses, device, response, noise)
        >>> print(np.asarray(state).round(3))  # 25 / 100, and 0.01 sqrt(25)
        [0.3]
    """
    up = pulses > 0
    ltp = nonzero_curvature(response.ltp, state.dtype)
    ltd = nonzero_curvature(response.ltd, state.dtype)
    u = jnp.where(up, ltp, ltd)
    # One exponential per device, not per cell.
    span = jnp.where(up, 1 / jnp.expm1(-ltp), 1 / jnp.expm1(-ltd))
    per_window = jnp.where(up, 1 / device.pulses_ltp, 1 / device.pulses_ltd)
    # This is `response_curve(response_inverse(state) + pulses / per_window)`.
    moved = jnp.clip(advanced(state, pulses * per_window, u, span), 0, 1)
    if device.curve_ltp is not None:
        moved = jnp.where(up, _along(device.curve_ltp, state, pulses * per_window), moved)
    if device.curve_ltd is not None:
        down = 1 - _along(device.curve_ltd, 1 - state, -pulses * per_window)
        moved = jnp.where(up, moved, down)
    moved = moved + _cycle_deviation(device, state) * jnp.sqrt(jnp.abs(pulses)) * noise
    return jnp.where(pulses == 0, state, jnp.clip(moved, 0, 1))


def _along(curve: AbstractPulseCurve, share, step):
    """The share of the window covered after `step` more of the pulses."""
    return curve.covered(jnp.clip(curve.needed(share) + step, 0, 1)).astype(share.dtype)


def _cycle_deviation(device: Device, state):
    if device.cycle_noise is None:
        return device.sigma_c2c
    factor = jnp.zeros_like(state)
    for coefficient in reversed(device.cycle_noise):
        factor = factor * state + coefficient
    return jnp.maximum(factor, 0) * device.sigma_c2c


def nominal_train(
    initial: Float[Array, " *cells"],
    wanted: Float[Array, " *cells"],
    device: Device,
    response: Response,
) -> Float[Array, " *cells"]:
    """Signed pulses, not whole ones, that lead from one state to another without noise.

    **Arguments:**

    - `initial`, `wanted`: fractions of the window, from 0 to 1.
    - `device`, `response`: the technology, and the curvatures of the cells.
    """
    up = wanted > initial
    curve = jnp.where(up, response.ltp, response.ltd)
    way = response_inverse(wanted, curve) - response_inverse(initial, curve)
    if device.curve_ltp is not None:
        rise = device.curve_ltp.needed(wanted) - device.curve_ltp.needed(initial)
        way = jnp.where(up, rise, way)
    if device.curve_ltd is not None:
        fall = device.curve_ltd.needed(1 - wanted) - device.curve_ltd.needed(1 - initial)
        way = jnp.where(up, way, -fall)
    return way * jnp.where(up, device.pulses_ltp, device.pulses_ltd)
