"""Train on two arrays, of which the fast one collects updates for the slow one."""

import math
from functools import partial
from typing import NamedTuple

import equinox as eqx
import jax
import jax.lax as lax
import jax.numpy as jnp
import jax.random as jr
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from ..kernels import (
    POSITIVE,
    Count,
    Device,
    Response,
    check_counts,
    check_given,
    gaussian,
    pulsed_change,
    state_weight,
    symmetry_point,
    weight_state,
)
from ._in_situ import (
    Cells,
    add_pulses,
    check_window,
    each_leaf,
    flat,
    given_params,
    no_energy,
    no_pulses,
    responses,
    whole,
)


class TikiTakaState(eqx.Module):
    """State of `tiki_taka`.

    - `key`, `energy`: as in `PulsedState`.
    - `fast`: states of the cells of A. The cells of C hold the parameters.
    - `fast_response`, `slow_response`: responses of the cells of A and of C.
    - `fast_pulses`, `slow_pulses`: number of pulses that each cell of A and of C got.
    - `count`: number of updates so far.

    **Example:**

        >>> how = dict(w_max=0.5, transfer_every=2, transfer_rate=1.0)
        >>> optimiser = sj.nn.tiki_taka("epiram", **how, key=jr.key(0))
        >>> weights, change = jnp.zeros((3, 2)), jnp.full((3, 2), 0.01)
        >>> _, state = optimiser.update(change, optimiser.init(weights), weights)
        >>> int(state.count), state.fast.shape, float(state.energy) > 0
        (1, (3, 2), True)
    """

    key: PRNGKeyArray
    fast: PyTree[Float[Array, "rows cols"]]
    fast_response: PyTree[Response]
    slow_response: PyTree[Response]
    fast_pulses: PyTree[Count]
    slow_pulses: PyTree[Count]
    energy: Float[Array, ""]
    count: Int[Array, ""]


def tiki_taka(
    device: Device | str,
    *,
    w_max: float,
    transfer_every: int,
    transfer_rate: float,
    fast_w_max: float | None = None,
    max_pulses: float = jnp.inf,
    key: PRNGKeyArray,
) -> optax.GradientTransformation:
    """Carry out updates on a fast array A, and transfer A column by column to C.

    This is the algorithm Tiki-Taka of Gokmen & Haensch (2020), Front. Neurosci. 14, 103,
    with `gamma = 0`: the parameters are the weights of C. Every update pulses A. The
    reference of A is at the symmetry point of each cell, so that asymmetry pulls A to zero
    instead of pulling C to a wrong value. After every `transfer_every` updates the next
    column of A is read with the read noise of the device, and C gets pulses for
    `transfer_rate` times the result.

    **Arguments:**

    - `device`, `w_max`, `max_pulses`: as for `pulsed_updates`.
    - `transfer_every`: number of updates between transfers, at least 1.
    - `transfer_rate`: change of C per unit weight of A, positive. After `optax.sgd(rate)`,
        C moves at about `rate * transfer_rate / (transfer_every * columns)` times the sum
        of the gradients, for as long as A remembers.
    - `fast_w_max`: half the range of the weights of A; `w_max` if left out.
    - `key`: typed key of the cells and of all updates.

    **Returns:**

    A transformation with a `TikiTakaState`. The last axis of a leaf counts its columns; a
    vector has one column for each entry.

    **Raises:**

    - `ValueError`: as `pulsed_updates` does; if `transfer_every < 1` or
        `transfer_rate <= 0`.

    **Example:**

        >>> how = dict(w_max=0.5, transfer_every=2, transfer_rate=1.0)
        >>> optimiser = sj.nn.tiki_taka("epiram", **how, key=jr.key(0))
        >>> weights, change = jnp.zeros((3, 2)), jnp.full((3, 2), 0.05)
        >>> first, state = optimiser.update(change, optimiser.init(weights), weights)
        >>> second, state = optimiser.update(change, state, weights)  # moves column 0
        >>> print(np.any(first, axis=0), np.any(second, axis=0))
        [False False] [ True False]
    """
    device = check_window("tiki_taka", device, w_max, max_pulses, key)
    fast_w_max = w_max if fast_w_max is None else fast_w_max
    _check_transfer(transfer_every, transfer_rate, fast_w_max)
    arrays = _Arrays(
        device=device,
        w_max=w_max,
        fast_w_max=fast_w_max,
        transfer_every=transfer_every,
        transfer_rate=transfer_rate,
        max_pulses=max_pulses,
    )

    def init(params: PyTree) -> TikiTakaState:
        return _started(params, device, key)

    def update(
        updates: PyTree, state: TikiTakaState, params: PyTree | None = None
    ) -> tuple[PyTree, TikiTakaState]:
        return _updated(arrays, updates, state, given_params("tiki_taka", params))

    # optax annotates a state as a tree of arrays, which excludes records.
    return optax.GradientTransformation(init, update)  # pyright: ignore[reportArgumentType]


class _Arrays(NamedTuple):
    """The arrays A (fast) and C (slow) of Tiki-Taka; see the arguments of `tiki_taka`."""

    device: Device
    w_max: float
    fast_w_max: float
    transfer_every: int
    transfer_rate: float
    max_pulses: float


def _started(params: PyTree, device: Device, key: PRNGKeyArray) -> TikiTakaState:
    """Draw the cells of both arrays; A starts at its symmetry points."""
    fast_key, slow_key, updates_key = jr.split(key, 3)
    fast_response = responses("tiki_taka", params, device, fast_key)

    def start(weight: Array, response: Response) -> Cells:
        return jnp.broadcast_to(symmetry_point(device, response), flat(weight).shape)

    return TikiTakaState(
        key=updates_key,
        fast=jax.tree.map(start, params, fast_response),
        fast_response=fast_response,
        slow_response=responses("tiki_taka", params, device, slow_key),
        fast_pulses=no_pulses(params),
        slow_pulses=no_pulses(params),
        energy=no_energy(params),
        count=jnp.zeros((), jnp.int32),
    )


def _updated(
    arrays: _Arrays, updates: PyTree, state: TikiTakaState, params: PyTree
) -> tuple[PyTree, TikiTakaState]:
    """Pulse A of each leaf and, if it is due, transfer a column; steps and new state."""
    next_key, now_key = jr.split(state.key)
    count = state.count + 1
    steps, fast, fast_pulses, slow_pulses, energy = each_leaf(
        partial(_update_leaf, arrays, count),
        now_key,
        updates,
        params,
        state.fast,
        state.fast_response,
        state.slow_response,
    )
    return steps, TikiTakaState(
        key=next_key,
        fast=fast,
        fast_response=state.fast_response,
        slow_response=state.slow_response,
        fast_pulses=add_pulses(state.fast_pulses, fast_pulses),
        slow_pulses=add_pulses(state.slow_pulses, slow_pulses),
        energy=state.energy + energy,
        count=count,
    )


def _update_leaf(
    arrays: _Arrays,
    count: Int[Array, ""],
    change: Array,
    weight: Array,
    fast: Cells,
    fast_response: Response,
    slow_response: Response,
    key: PRNGKeyArray,
) -> tuple[Array, Cells, Count, Count, Float[Array, ""]]:
    """Step of C, state of A, pulses of A and of C, and energy, for one leaf."""
    fast_key, read_key, slow_key = jr.split(key, 3)
    w = flat(weight)
    a = pulsed_change(
        fast, flat(change), arrays.fast_w_max, arrays.device, fast_response,
        arrays.max_pulses, key=fast_key,
    )  # fmt: skip
    column = (count // arrays.transfer_every - 1) % w.shape[1]

    def transfer():
        read = _read_column(arrays, a.state, fast_response, column, read_key)
        return _pulse_column(arrays, w, read, slow_response, column, slow_key)

    nothing = jnp.zeros_like(w), jnp.zeros_like(w), jnp.zeros((), w.dtype)
    due = count % arrays.transfer_every == 0
    step, slow, energy = lax.cond(due, transfer, lambda: nothing)
    step = step + jnp.clip(w, -arrays.w_max, arrays.w_max) - w
    return (
        step.reshape(weight.shape).astype(weight.dtype),
        a.state,
        whole(a.pulses, weight),
        whole(slow, weight),
        a.energy + energy,
    )


def _read_column(
    arrays: _Arrays,
    state: Cells,
    response: Response,
    column: Int[Array, ""],
    key: PRNGKeyArray,
) -> Float[Array, "rows 1"]:
    """Read the weights of one column of A against its symmetry points, with read noise."""
    device, w_max = arrays.device, arrays.fast_w_max
    own = _column_response(response, column, state.shape)
    read = state_weight(_column(state, column, state.shape), w_max, device) - state_weight(
        symmetry_point(device, own), w_max, device
    )
    noise = gaussian(device.sigma_read, read.shape, read.dtype, key=key)
    return read + 2 * w_max * noise


def _pulse_column(
    arrays: _Arrays,
    w: Cells,
    read: Float[Array, "rows 1"],
    response: Response,
    column: Int[Array, ""],
    key: PRNGKeyArray,
) -> tuple[Cells, Cells, Float[Array, ""]]:
    """Pulse one column of C by what was read of A; return steps, pulses and energy."""
    device, w_max = arrays.device, arrays.w_max
    old = _column(w, column, w.shape)
    c = pulsed_change(
        weight_state(old, w_max, device), arrays.transfer_rate * read, w_max, device,
        _column_response(response, column, w.shape), arrays.max_pulses, key=key,
    )  # fmt: skip
    new = state_weight(c.state, w_max, device)
    step = jnp.where(c.pulses == 0, 0, new - old).astype(w.dtype)
    put = lambda part: lax.dynamic_update_slice_in_dim(jnp.zeros_like(w), part, column, 1)
    return put(step), put(c.pulses), c.energy


def _column(
    cells: Float[Array, "..."], column: Int[Array, ""], shape: tuple[int, ...]
) -> Float[Array, "rows 1"]:
    """One column of an array of this shape, in which all cells may share one value."""
    return lax.dynamic_slice_in_dim(jnp.broadcast_to(cells, shape), column, 1, 1)


def _column_response(
    response: Response, column: Int[Array, ""], shape: tuple[int, ...]
) -> Response:
    """The responses of the cells of one column."""
    return Response(
        _column(response.ltp, column, shape), _column(response.ltd, column, shape)
    )


def _check_transfer(transfer_every: int, transfer_rate: float, fast_w_max: float) -> None:
    call = "sedma_jax.nn.tiki_taka"
    remedy = "To pulse the weights themselves use `pulsed_updates`."
    check_counts(call, 1, math.inf, remedy, transfer_every=transfer_every)
    sizes = {"transfer_rate": transfer_rate, "fast_w_max": fast_w_max}
    check_given(call, POSITIVE, remedy, **sizes)
