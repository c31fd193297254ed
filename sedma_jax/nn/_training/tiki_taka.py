"""Train on two arrays, of which the fast one collects updates for the slow one."""

from functools import partial

import equinox as eqx
import jax
import jax.lax as lax
import jax.numpy as jnp
import jax.random as jr
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from ...kernels import Count, Device, Response, pulsed_change
from .in_situ import (
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
from .two_arrays import (
    TwoArrays,
    check_reference,
    column_of,
    programmed_references,
    pulse_column,
    read_column,
    symmetric_start,
    two_arrays,
)


class TikiTakaState(eqx.Module):
    """State of `tiki_taka`.

    - `key`, `energy`: as in `PulsedState`.
    - `fast`: states of the cells of A. The cells of C hold the parameters.
    - `fast_response`, `slow_response`: responses of the cells of A and of C.
    - `reference`: the weights that reads of A are compared with.
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
    reference: PyTree[Float[Array, "rows cols"]]
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
    reference_error: float = 0.0,
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
    - `reference_error`: standard deviation of the reference of A from the symmetry point,
        drawn once for each cell, as a fraction of `fast_w_max`, from 0 up.
    - `key`: typed key of the cells and of all updates.

    **Returns:**

    A transformation with a `TikiTakaState`. The last axis of a leaf counts its columns; a
    vector has one column for each entry.

    **Raises:**

    - `ValueError`: as `pulsed_updates` does; if `transfer_every < 1`,
        `transfer_rate <= 0` or `reference_error < 0`.

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
    arrays = two_arrays(
        "tiki_taka", device, w_max, transfer_every, transfer_rate, fast_w_max, max_pulses
    )
    check_reference("tiki_taka", reference_error)

    def init(params: PyTree) -> TikiTakaState:
        return _started(arrays, params, reference_error, key)

    def update(
        updates: PyTree, state: TikiTakaState, params: PyTree | None = None
    ) -> tuple[PyTree, TikiTakaState]:
        return _updated(arrays, updates, state, given_params("tiki_taka", params))

    # optax annotates a state as a tree of arrays, which excludes records.
    return optax.GradientTransformation(init, update)  # pyright: ignore[reportArgumentType]


def _started(
    arrays: TwoArrays, params: PyTree, reference_error: float, key: PRNGKeyArray
) -> TikiTakaState:
    """Draw the cells of both arrays; A starts at its symmetry points."""
    fast_key, slow_key, updates_key = jr.split(key, 3)
    fast_response = responses("tiki_taka", params, arrays.device, fast_key)
    start = lambda leaf, own: symmetric_start(arrays, own, flat(leaf).shape)
    fast = jax.tree.map(start, params, fast_response)
    reference = programmed_references(arrays, fast, reference_error, key=fast_key)
    return TikiTakaState(
        key=updates_key,
        fast=fast,
        fast_response=fast_response,
        slow_response=responses("tiki_taka", params, arrays.device, slow_key),
        reference=reference,
        fast_pulses=no_pulses(params),
        slow_pulses=no_pulses(params),
        energy=no_energy(params),
        count=jnp.zeros((), jnp.int32),
    )


def _updated(
    arrays: TwoArrays, updates: PyTree, state: TikiTakaState, params: PyTree
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
        state.reference,
    )
    return steps, TikiTakaState(
        key=next_key,
        fast=fast,
        fast_response=state.fast_response,
        slow_response=state.slow_response,
        reference=state.reference,
        fast_pulses=add_pulses(state.fast_pulses, fast_pulses),
        slow_pulses=add_pulses(state.slow_pulses, slow_pulses),
        energy=state.energy + energy,
        count=count,
    )


def _update_leaf(
    arrays: TwoArrays,
    count: Int[Array, ""],
    change: Array,
    weight: Array,
    fast: Cells,
    fast_response: Response,
    slow_response: Response,
    reference: Cells,
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
        read = read_column(arrays, a.state, column, key=read_key)
        read = read - column_of(reference, column, w.shape)
        pulse = lambda state, own: pulsed_change(
            state, arrays.transfer_rate * read, arrays.w_max, arrays.device, own,
            arrays.max_pulses, key=slow_key,
        )  # fmt: skip
        return pulse_column(arrays, w, slow_response, column, pulse)

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
