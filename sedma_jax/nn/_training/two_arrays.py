"""Two arrays: columns of the fast one are read, and those of the slow one pulsed."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.lax as lax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from ...kernels import (
    FROM_ZERO,
    POSITIVE,
    Device,
    Response,
    check_counts,
    check_given,
    gaussian,
    state_weight,
    symmetry_point,
    weight_state,
)
from .in_situ import Cells

Column = Float[Array, "rows 1"]


class TwoArrays(NamedTuple):
    """The arrays A (fast) and C (slow); see the arguments of `tiki_taka`."""

    device: Device
    w_max: float
    fast_w_max: float
    transfer_every: int
    transfer_rate: float
    max_pulses: float


def two_arrays(
    call: str,
    device: Device,
    w_max: float,
    transfer_every: int,
    transfer_rate: float,
    fast_w_max: float | None,
    max_pulses: float,
) -> TwoArrays:
    """The arrays of the public function `call`; refuses what makes none."""
    fast = w_max if fast_w_max is None else fast_w_max
    call, remedy = f"sedma_jax.nn.{call}", "To pulse the weights themselves use "
    remedy += "`pulsed_updates`."
    check_counts(call, 1, math.inf, remedy, transfer_every=transfer_every)
    check_given(call, POSITIVE, remedy, transfer_rate=transfer_rate, fast_w_max=fast)
    return TwoArrays(device, w_max, fast, transfer_every, transfer_rate, max_pulses)


def check_reference(call: str, reference_error: float) -> None:
    """Refuse a spread of references that is none."""
    remedy = "Zero is a reference at the symmetry point."
    call = f"sedma_jax.nn.{call}"
    check_given(call, FROM_ZERO, remedy, reference_error=reference_error)


def symmetric_start(arrays: TwoArrays, response: Response, shape: tuple[int, ...]) -> Cells:
    """States of the cells of A at their symmetry points."""
    return jnp.broadcast_to(symmetry_point(arrays.device, response), shape)


def programmed_references(
    arrays: TwoArrays, states: PyTree, reference_error: float, *, key: PRNGKeyArray
) -> PyTree:
    """Weights of A at its symmetry points as references hold them, of each leaf."""
    leaves, tree = jax.tree.flatten(states)
    exact = [state_weight(leaf, arrays.fast_w_max, arrays.device) for leaf in leaves]
    if isinstance(reference_error, int | float) and reference_error == 0:
        return tree.unflatten(exact)
    size = reference_error * arrays.fast_w_max
    keys = jr.split(jr.fold_in(key, 1), max(len(leaves), 1))
    draw = lambda held, key: held + size * jr.normal(key, held.shape, held.dtype)
    return tree.unflatten([draw(*pair) for pair in zip(exact, keys, strict=False)])


def column_of(cells: Float[Array, "..."], column: Int[Array, ""], shape: tuple) -> Column:
    """One column of an array of this shape, in which all cells may share one value."""
    return lax.dynamic_slice_in_dim(jnp.broadcast_to(cells, shape), column, 1, 1)


def with_column(cells: Cells, part: Column, column: Int[Array, ""]) -> Cells:
    """The array with another column."""
    return lax.dynamic_update_slice_in_dim(cells, part, column, 1)


def column_response(response: Response, column: Int[Array, ""], shape: tuple) -> Response:
    """The responses of the cells of one column."""
    return Response(
        column_of(response.ltp, column, shape), column_of(response.ltd, column, shape)
    )


def read_column(
    arrays: TwoArrays, state: Cells, column: Int[Array, ""], *, key: PRNGKeyArray
) -> Column:
    """Read the weights of one column of A, with read noise."""
    device, w_max = arrays.device, arrays.fast_w_max
    read = state_weight(column_of(state, column, state.shape), w_max, device)
    noise = gaussian(device.sigma_read, read.shape, read.dtype, key=key)
    return read + 2 * w_max * noise


def pulse_column(
    arrays: TwoArrays,
    w: Cells,
    response: Response,
    column: Int[Array, ""],
    pulse: Callable[[Column, Response], Any],
) -> tuple[Cells, Cells, Float[Array, ""]]:
    """Pulse one column of C; return steps, pulses and energy."""
    device, w_max = arrays.device, arrays.w_max
    old = column_of(w, column, w.shape)
    own = column_response(response, column, w.shape)
    c = pulse(weight_state(old, w_max, device), own)
    new = state_weight(c.state, w_max, device)
    step = jnp.where(c.pulses == 0, 0, new - old).astype(w.dtype)
    put = lambda part: with_column(jnp.zeros_like(w), part, column)
    return put(step), put(c.pulses), c.energy
