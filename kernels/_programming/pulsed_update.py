"""Turn requested changes of weights into device pulses.

One cell holds a weight from `-w_max` to `w_max`, measured from a reference in the middle of
its window (the scheme `offset`). A change is requested as the number of pulses that a
linear device would need, rounded up or down at random so that the mean is exact. The cell
responds along its own curve (`_cells/pulse.py`), by less the nearer it is to the end.
Up steps and down steps are equal at the *symmetry point*, to which pulses of both signs
move a cell (Gokmen & Haensch 2020, Front. Neurosci. 14, 103, Sec. "Symmetry point").
"""

import equinox as eqx
import jax.lax as lax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from .._cells.device import Device, Scalar
from .._cells.pulse import Response, move_state, nonzero_curvature
from .._numerics.random import normal, uniform
from .closed_loop import hidden_state, pulse_cost, visible_state


class Pulsed(eqx.Module):
    """The result of one round of pulses.

    - `state`: states of the cells, as fractions of the window.
    - `pulses`: signed whole number of pulses that each cell got.
    - `energy`: energy of all pulses, in joules.
    """

    state: Float[Array, "rows cols"]
    pulses: Float[Array, "rows cols"]
    energy: Float[Array, ""]


def weight_state(
    weights: Float[Array, "rows cols"], w_max: Scalar, device: Device
) -> Float[Array, "rows cols"]:
    """States of the cells that hold weights; those beyond `w_max` are clipped.

    **Arguments:**

    - `weights`: of one cell each, zero at mid-window.
    - `w_max`: weight at the top of the window, positive.
    - `device`: the technology, whose access transistor bends the scale.

    **Example:**

        >>> device = sj.Device(1e-6, 1e-5, pulses_ltp=100, pulses_ltd=100)
        >>> weights = jnp.array([[-2.0, 0.0, 9.0]])
        >>> state = sj.kernels.weight_state(weights, 2.0, device)  # 9 is clipped
        >>> print(np.asarray(state).round(3))
        [[0.  0.5 1. ]]
    """
    return hidden_state((jnp.clip(weights / w_max, -1, 1) + 1) / 2, device)


def state_weight(
    state: Float[Array, "rows cols"], w_max: Scalar, device: Device
) -> Float[Array, "rows cols"]:
    """Weights that cells hold, as reads see them; the inverse of `weight_state`.

    **Example:**

        >>> device = sj.Device(1e-6, 1e-5, pulses_ltp=100, pulses_ltd=100)
        >>> state = jnp.array([[0.0, 0.5, 1.0]])
        >>> print(np.asarray(sj.kernels.state_weight(state, 2.0, device)).round(3))
        [[-2.  0.  2.]]
    """
    return w_max * (2 * visible_state(state, device) - 1)


def requested_pulses(
    change: Float[Array, "rows cols"],
    w_max: Scalar,
    device: Device,
    max_pulses: Scalar = jnp.inf,
    *,
    key: PRNGKeyArray,
) -> Float[Array, "rows cols"]:
    """Signed whole numbers of pulses that change weights by `change` on average.

    The mean step of a weight is `2 w_max / pulses_ltp` upwards and `2 w_max / pulses_ltd`
    downwards. The quotient is rounded at random (Gokmen & Vlasov 2016, Front. Neurosci.
    10, 333, use coincidences of random pulses instead), so that changes far below one pulse
    are applied occasionally and are right on average.

    **Arguments:**

    - `change`: requested change of each weight.
    - `w_max`: weight at the top of the window, positive.
    - `device`: sets the number of pulses that cross the window.
    - `max_pulses`: cap on the pulses of one cell, at least 1.
    - `key`: typed key of the rounding.
    """
    per_window = jnp.where(change > 0, device.pulses_ltp, device.pulses_ltd)
    wanted = jnp.abs(change) * (per_window.astype(change.dtype) / (2 * w_max))
    number = jnp.floor(wanted + uniform(key, change.shape, change.dtype))
    return jnp.sign(change) * jnp.minimum(number, max_pulses)


def pulsed_change(
    state: Float[Array, "rows cols"],
    change: Float[Array, "rows cols"],
    w_max: Scalar,
    device: Device,
    response: Response,
    max_pulses: Scalar = jnp.inf,
    *,
    key: PRNGKeyArray,
) -> Pulsed:
    """Apply one train of pulses to each cell to change the weights.

    **Arguments:**

    - `state`: fraction of the window, from 0 to 1.
    - `change`, `w_max`, `max_pulses`: as for `requested_pulses`.
    - `device`, `response`: the technology, and the curvatures of the cells.
    - `key`: typed key of the rounding and cycle-to-cycle noise.

    **Example:**

        >>> device = sj.Device(1e-6, 1e-5, pulses_ltp=100, pulses_ltd=100)
        >>> response = sj.kernels.nominal_response(device, jnp.float32)
        >>> state, change = (jnp.full((1, 1), v, jnp.float32) for v in (0.5, 0.1))
        >>> known = (state, change, 1.0, device, response)  # weights from -1 to 1
        >>> done = sj.kernels.pulsed_change(*known, key=jr.key(0))
        >>> print(done.pulses, np.asarray(done.state).round(3))
        [[5.]] [[0.55]]
    """
    rounding_key, cycle_key = jr.split(key)
    pulses = requested_pulses(change, w_max, device, max_pulses, key=rounding_key)
    return pulsed_train(state, pulses, device, response, key=cycle_key)


def pulsed_train(
    state: Float[Array, "rows cols"],
    pulses: Float[Array, "rows cols"],
    device: Device,
    response: Response,
    *,
    key: PRNGKeyArray,
) -> Pulsed:
    """Apply a train of a known number of pulses to each cell.

    **Arguments:**

    - `state`: fraction of the window, from 0 to 1.
    - `pulses`: signed whole numbers.
    - `device`, `response`: the technology, and the curvatures of the cells.
    - `key`: typed key of the cycle-to-cycle noise.

    **Example:**

        >>> device = sj.Device(1e-6, 1e-5, pulses_ltp=100, pulses_ltd=100)
        >>> response = sj.kernels.nominal_response(device, jnp.float32)
        >>> state, pulses = (jnp.full((1, 1), v, jnp.float32) for v in (0.5, -10))
        >>> done = sj.kernels.pulsed_train(state, pulses, device, response, key=jr.key(0))
        >>> print(np.asarray(done.state).round(3))
        [[0.4]]
    """
    noise = normal(key, state.shape, state.dtype)
    moved = move_state(state, pulses, device, response, noise).astype(state.dtype)
    energy, _ = pulse_cost(pulses[None], state[None], moved[None], device)
    return Pulsed(moved, pulses, energy.astype(state.dtype))


def accumulated_pulses(
    accumulated: Float[Array, "rows cols"],
    w_max: Scalar,
    device: Device,
    max_pulses: Scalar = jnp.inf,
    granularity: Scalar | None = None,
) -> tuple[Float[Array, "rows cols"], Float[Array, "rows cols"]]:
    """The whole pulses that a digital accumulator is worth, and what remains in it.

    With `e` the granularity, `trunc(x / e)` pulses are applied and `x - e trunc(x / e)`
    remains (Nandakumar et al. 2020, Front. Neurosci. 14, 406).

    **Arguments:**

    - `accumulated`: changes of weights not applied yet.
    - `w_max`, `device`, `max_pulses`: as for `pulsed_change`.
    - `granularity`: change of a weight that one pulse stands for, positive; that of a
        linear device, `2 w_max / pulses_ltp` upwards and `2 w_max / pulses_ltd`
        downwards, if left out.

    **Returns:**

    Signed whole numbers of pulses, and the rest of each accumulator.

    **Example:**

        >>> device = sj.Device(1e-6, 1e-5, pulses_ltp=100, pulses_ltd=100)
        >>> gathered = jnp.array([[0.05, -0.07, 0.01]])
        >>> pulses, rest = sj.kernels.accumulated_pulses(gathered, 1.0, device)
        >>> print(pulses, np.asarray(rest).round(3))  # a pulse is 0.02
        [[ 2. -3.  0.]] [[ 0.01 -0.01  0.01]]
    """
    if granularity is None:
        per_window = jnp.where(accumulated > 0, device.pulses_ltp, device.pulses_ltd)
        step = 2 * w_max / per_window.astype(accumulated.dtype)
    else:
        step = jnp.asarray(granularity, accumulated.dtype)
    number = jnp.minimum(jnp.floor(jnp.abs(accumulated) / step), max_pulses)
    pulses = jnp.sign(accumulated) * number
    return pulses, accumulated - pulses * step


def symmetry_point(device: Device, response: Response) -> Float[Array, " *cells"]:
    """State at which one pulse up and one pulse down move a cell by the same amount.

    A pulse moves the state by `a (s + b)`, with `a = expm1(-u / P)` and
    `b = 1 / expm1(-u)` for potentiation, and `a = expm1(u / P)` and the same `b` for
    depression, so that

        s* = -(a_up b_up + a_down b_down) / (a_up + a_down),

    limited to the window. Where both steps are the same everywhere, it is the middle.

    **Arguments:**

    - `device`: sets the number of pulses that cross the window.
    - `response`: curvatures, common or per cell.

    **Example:**

        >>> device = sj.Device(1e-6, 1e-5, 100, 100, 2.0, nonlinearity_ltd=-2.0)
        >>> response = sj.kernels.nominal_response(device, jnp.float32)
        >>> print(np.asarray(sj.kernels.symmetry_point(device, response)).round(2))
        0.5
    """
    dtype = response.ltp.dtype
    if device.curve_ltp is not None or device.curve_ltd is not None:
        return _symmetry_of_curves(device, response)
    ltp = nonzero_curvature(response.ltp, dtype)
    ltd = nonzero_curvature(response.ltd, dtype)
    up, down = jnp.expm1(-ltp / device.pulses_ltp), jnp.expm1(ltd / device.pulses_ltd)
    steps = up / jnp.expm1(-ltp) + down / jnp.expm1(-ltd)
    slope = up + down
    # A slope below rounding belongs to straight lines, which may still differ in height.
    straight = jnp.abs(slope) <= 8 * jnp.finfo(dtype).eps
    height = jnp.where(jnp.abs(steps) <= 8 * jnp.finfo(dtype).eps, 0, steps)
    line = (1 + jnp.sign(height)) / 2
    point = jnp.where(straight, line, -steps / jnp.where(straight, 1, slope))
    return jnp.clip(point, 0, 1).astype(dtype)


def _symmetry_of_curves(device: Device, response: Response) -> Float[Array, " *cells"]:
    """The symmetry point of responses of any shape, by bisection."""
    low = jnp.zeros_like(response.ltp)
    still = jnp.zeros_like(low)

    def halve(_, ends):
        low, high = ends
        middle = (low + high) / 2
        up, down = (
            move_state(middle, still + sign, device, response, still) for sign in (1, -1)
        )
        rises = up + down > 2 * middle
        return jnp.where(rises, middle, low), jnp.where(rises, high, middle)

    low, high = lax.fori_loop(0, 50, halve, (low, low + 1))
    return (low + high) / 2
