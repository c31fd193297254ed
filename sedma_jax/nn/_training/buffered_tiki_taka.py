"""Tiki-Taka with a digital filter between its arrays, with choppers, and AGAD.

The three share their flow (Rasch, Carta, Fagbohungbe & Gokmen 2024, Nat. Commun. 15, 7133,
Fig. 1): updates pulse array A; one column of A is read in turn, a digital vector `z` made
of the read is added to the buffer H, and where H is worth a pulse of C, C gets it and H
loses it. With `c` the sign by which the updates of a column were multiplied, and `A` what
is read of it,

    TTv2:    z = A - R,
    c-TTv2:  z = c (A - R),     the sign drawn anew with a probability after each read,
    AGAD:    z = c (A - R'),    the sign turned in regular periods.

R is a reference programmed to the symmetry points of A before training; R' is the average
of recent reads at the end of the period before.
"""

from functools import partial
from typing import NamedTuple

import equinox as eqx
import jax
import jax.lax as lax
import jax.numpy as jnp
import jax.random as jr
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from ...kernels import (
    SHARE,
    Count,
    Device,
    Requirement,
    Response,
    accumulated_pulses,
    check_counts,
    check_given,
    pulsed_change,
    pulsed_train,
    weight_state,
)
from .fast_array import BufferedTikiTakaState, FastArray
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
    Column,
    TwoArrays,
    check_reference,
    column_of,
    programmed_references,
    pulse_column,
    read_column,
    symmetric_start,
    two_arrays,
    with_column,
)


class _Rule(NamedTuple):
    """How signs turn and references follow; see the arguments of the algorithms."""

    chop_probability: float = 0.0
    chop_every: int | None = None
    memory: float | None = None


def tiki_taka_v2(
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
    """Tiki-Taka with a digital buffer, which filters what array A passes on to C.

    This is TTv2 of Gokmen (2021), Front. Artif. Intell. 4, 699148. Instead of pulsing C by
    each read of A, noise included, reads are added to H, and C gets the whole pulses that
    H is worth. So C gets far fewer pulses, and its asymmetry matters less.

    **Arguments:**

    - `device`, `w_max`, `max_pulses`: as for `pulsed_updates`.
    - `transfer_every`, `fast_w_max`, `reference_error`: as for `tiki_taka`.
    - `transfer_rate`: change of H per unit weight of A, positive. The smaller, the more
        reads are averaged: H reaches one pulse of C after `2 w_max / pulses` over
        `transfer_rate` times the weight of A, of reads.
    - `key`: typed key of the cells and of all updates.

    **Returns:**

    A transformation with a `BufferedTikiTakaState`. The last axis of a leaf counts its
    columns; a vector has one column for each entry.

    **Raises:**

    - `ValueError`: as `tiki_taka` does.

    **Example:**

        >>> device = sj.Device(g_min=0.0, g_max=1e-5, pulses_ltp=100, pulses_ltd=100)
        >>> how = dict(w_max=1.0, transfer_every=1, transfer_rate=0.1)
        >>> optimiser = sj.nn.tiki_taka_v2(device, **how, key=jr.key(0))
        >>> weights, change = jnp.zeros((3, 1)), jnp.full((3, 1), 0.1)
        >>> first, state = optimiser.update(change, optimiser.init(weights), weights)
        >>> second, state = optimiser.update(change, state, weights)  # 0.1 (0.1 + 0.2)
        >>> print(np.ravel(first), np.ravel(second).round(3))  # of which 0.02 is a pulse
        [0. 0. 0.] [0.02 0.02 0.02]
    """
    return chopped_tiki_taka(
        device,
        w_max=w_max,
        transfer_every=transfer_every,
        transfer_rate=transfer_rate,
        chop_probability=0.0,
        fast_w_max=fast_w_max,
        reference_error=reference_error,
        max_pulses=max_pulses,
        key=key,
    )


def chopped_tiki_taka(
    device: Device | str,
    *,
    w_max: float,
    transfer_every: int,
    transfer_rate: float,
    chop_probability: float = 0.1,
    fast_w_max: float | None = None,
    reference_error: float = 0.0,
    max_pulses: float = jnp.inf,
    key: PRNGKeyArray,
) -> optax.GradientTransformation:
    """`tiki_taka_v2` with choppers, which average a wrong reference out: c-TTv2.

    The updates of a column of A are multiplied by a sign, and so are the reads; after each
    read of the column the sign turns with some probability. What is constant in the
    reads, such as an error of the reference, is added to H with both signs (Rasch, Carta,
    Fagbohungbe & Gokmen 2024, Nat. Commun. 15, 7133; chopper on the inputs).

    **Arguments:**

    - `device`, `w_max`, `transfer_every`, `transfer_rate`, `fast_w_max`,
        `reference_error`, `max_pulses`, `key`: as for `tiki_taka_v2`.
    - `chop_probability`: of turning after a read, from 0 to 1; 0 is `tiki_taka_v2`.

    **Returns:**

    A transformation with a `BufferedTikiTakaState`.

    **Raises:**

    - `ValueError`: as `tiki_taka` does; if `chop_probability` is not from 0 to 1.

    **Example:**

        >>> how = dict(w_max=0.5, transfer_every=1, transfer_rate=0.1, chop_probability=1.0)
        >>> optimiser = sj.nn.chopped_tiki_taka("epiram", **how, key=jr.key(0))
        >>> weights, change = jnp.zeros((3, 2)), jnp.full((3, 2), 0.05)
        >>> _, state = optimiser.update(change, optimiser.init(weights), weights)
        >>> print(state.fast.signs)  # column 0 was read
        [-1.  1.]
    """
    call = "chopped_tiki_taka"
    device = check_window(call, device, w_max, max_pulses, key)
    arrays = two_arrays(
        call, device, w_max, transfer_every, transfer_rate, fast_w_max, max_pulses
    )
    check_reference(call, reference_error)
    remedy = "0 turns no sign; a tenth is usual."
    check_given(f"sedma_jax.nn.{call}", SHARE, remedy, chop_probability=chop_probability)
    rule = _Rule(chop_probability=chop_probability)
    return _transformation(call, arrays, rule, reference_error, key)


def agad(
    device: Device | str,
    *,
    w_max: float,
    transfer_every: int,
    transfer_rate: float,
    chop_every: int = 10,
    memory: float | None = None,
    fast_w_max: float | None = None,
    max_pulses: float = jnp.inf,
    key: PRNGKeyArray,
) -> optax.GradientTransformation:
    """Analog gradient accumulation with dynamic reference: Tiki-Taka without a reference.

    As `chopped_tiki_taka`, but signs turn in regular periods, and reads are compared with
    the average of recent reads at the end of the period before (Rasch, Carta, Fagbohungbe
    & Gokmen 2024, Nat. Commun. 15, 7133). No symmetry point has to be known; A starts in
    the middle of its window.

    **Arguments:**

    - `device`, `w_max`, `transfer_every`, `transfer_rate`, `fast_w_max`, `max_pulses`,
        `key`: as for `tiki_taka_v2`.
    - `chop_every`: number of reads of a column in one period, at least 1.
    - `memory`: weight of each read in the average, above 0 and at most 1; `5 / chop_every`,
        at most 1, if left out, so that the end of a period counts.

    **Returns:**

    A transformation with a `BufferedTikiTakaState`.

    **Raises:**

    - `ValueError`: as `tiki_taka` does; if `chop_every < 1` or `memory` is out of range.

    **Example:**

        >>> device = sj.Device(g_min=0.0, g_max=1e-5, pulses_ltp=100, pulses_ltd=100)
        >>> how = dict(w_max=1.0, transfer_every=1, transfer_rate=0.1, chop_every=1)
        >>> optimiser = sj.nn.agad(device, **how, key=jr.key(0))
        >>> weights, change = jnp.zeros((2, 1)), jnp.full((2, 1), 0.1)
        >>> _, state = optimiser.update(change, optimiser.init(weights), weights)
        >>> print(np.ravel(state.fast.reference).round(3), state.fast.signs)
        [0.1 0.1] [-1.]
    """
    device = check_window("agad", device, w_max, max_pulses, key)
    arrays = two_arrays(
        "agad", device, w_max, transfer_every, transfer_rate, fast_w_max, max_pulses
    )
    call, remedy = "sedma_jax.nn.agad", "It counts the reads of one column."
    check_counts(call, 1, 2**31 - 1, remedy, chop_every=chop_every)
    memory = min(5 / chop_every, 1.0) if memory is None else memory
    check_given(call, _PART, "1 keeps the last read alone.", memory=memory)
    rule = _Rule(chop_every=chop_every, memory=memory)
    return _transformation("agad", arrays, rule, 0.0, key)


_PART = Requirement(lambda v: (v > 0) & (v <= 1), "above 0 and at most 1")


def _transformation(
    call: str, arrays: TwoArrays, rule: _Rule, reference_error: float, key: PRNGKeyArray
) -> optax.GradientTransformation:
    def init(params: PyTree) -> BufferedTikiTakaState:
        return _started(call, arrays, rule, params, reference_error, key)

    def update(
        updates: PyTree, state: BufferedTikiTakaState, params: PyTree | None = None
    ) -> tuple[PyTree, BufferedTikiTakaState]:
        return _updated(arrays, rule, updates, state, given_params(call, params))

    # optax annotates a state as a tree of arrays, which excludes records.
    return optax.GradientTransformation(init, update)  # pyright: ignore[reportArgumentType]


def _started(
    call: str,
    arrays: TwoArrays,
    rule: _Rule,
    params: PyTree,
    reference_error: float,
    key: PRNGKeyArray,
) -> BufferedTikiTakaState:
    """Draw the cells of both arrays, and the references if they are programmed."""
    fast_key, slow_key, updates_key = jr.split(key, 3)
    response = responses(call, params, arrays.device, fast_key)
    start = lambda leaf, own: _start(arrays, rule, flat(leaf), own)
    state = jax.tree.map(start, params, response)
    reference = programmed_references(arrays, state, reference_error, key=fast_key)

    def fast(leaf: Array, cells: Cells, own: Response, held: Cells) -> FastArray:
        return FastArray(
            state=cells,
            response=own,
            reference=held,
            recent=None if rule.memory is None else held,
            buffer=jnp.zeros_like(flat(leaf)),
            signs=jnp.ones(flat(leaf).shape[1], leaf.dtype),
        )

    return BufferedTikiTakaState(
        key=updates_key,
        fast=jax.tree.map(fast, params, state, response, reference),
        slow_response=responses(call, params, arrays.device, slow_key),
        fast_pulses=no_pulses(params),
        slow_pulses=no_pulses(params),
        energy=no_energy(params),
        count=jnp.zeros((), jnp.int32),
    )


def _start(arrays: TwoArrays, rule: _Rule, w: Cells, response: Response) -> Cells:
    """States of A: at the symmetry points, or mid-window where nobody knows them."""
    if rule.memory is None:
        return symmetric_start(arrays, response, w.shape)
    return weight_state(jnp.zeros_like(w), arrays.fast_w_max, arrays.device)


def _updated(
    arrays: TwoArrays,
    rule: _Rule,
    updates: PyTree,
    state: BufferedTikiTakaState,
    params: PyTree,
) -> tuple[PyTree, BufferedTikiTakaState]:
    """Pulse A of each leaf and, if it is due, transfer a column; steps and new state."""
    next_key, now_key = jr.split(state.key)
    count = state.count + 1
    steps, fast, fast_pulses, slow_pulses, energy = each_leaf(
        partial(_update_leaf, arrays, rule, count),
        now_key,
        updates,
        params,
        state.fast,
        state.slow_response,
    )
    return steps, BufferedTikiTakaState(
        key=next_key,
        fast=fast,
        slow_response=state.slow_response,
        fast_pulses=add_pulses(state.fast_pulses, fast_pulses),
        slow_pulses=add_pulses(state.slow_pulses, slow_pulses),
        energy=state.energy + energy,
        count=count,
    )


def _update_leaf(
    arrays: TwoArrays,
    rule: _Rule,
    count: Int[Array, ""],
    change: Array,
    weight: Array,
    fast: FastArray,
    slow_response: Response,
    key: PRNGKeyArray,
) -> tuple[Array, FastArray, Count, Count, Float[Array, ""]]:
    """Step of C, array A, pulses of A and of C, and energy, for one leaf."""
    fast_key, read_key, chop_key, slow_key = jr.split(key, 4)
    w = flat(weight)
    a = pulsed_change(
        fast.state, flat(change) * fast.signs[None], arrays.fast_w_max, arrays.device,
        fast.response, arrays.max_pulses, key=fast_key,
    )  # fmt: skip
    fast = eqx.tree_at(lambda f: f.state, fast, a.state)
    transfers = count // arrays.transfer_every - 1
    column, turn = transfers % w.shape[1], transfers // w.shape[1] + 1

    def transfer():
        read = read_column(arrays, fast.state, column, key=read_key)
        z = fast.signs[column] * (read - column_of(fast.reference, column, w.shape))
        gathered = column_of(fast.buffer, column, w.shape) + arrays.transfer_rate * z
        pulses, rest = accumulated_pulses(
            gathered, arrays.w_max, arrays.device, arrays.max_pulses
        )
        train = lambda state, own: pulsed_train(
            state, pulses, arrays.device, own, key=slow_key
        )
        done = pulse_column(arrays, w, slow_response, column, train)
        kept = eqx.tree_at(lambda f: f.buffer, fast, with_column(fast.buffer, rest, column))
        return *done, _chopped(rule, kept, read, column, turn, key=chop_key)

    nothing = jnp.zeros_like(w), jnp.zeros_like(w), jnp.zeros((), w.dtype), fast
    due = count % arrays.transfer_every == 0
    step, slow, energy, fast = lax.cond(due, transfer, lambda: nothing)
    step = step + jnp.clip(w, -arrays.w_max, arrays.w_max) - w
    return (
        step.reshape(weight.shape).astype(weight.dtype),
        fast,
        whole(a.pulses, weight),
        whole(slow, weight),
        a.energy + energy,
    )


def _chopped(
    rule: _Rule,
    fast: FastArray,
    read: Column,
    column: Int[Array, ""],
    turn: Int[Array, ""],
    *,
    key: PRNGKeyArray,
) -> FastArray:
    """Array A after the read of a column: its sign, and its dynamic reference."""
    if rule.chop_every is None or fast.recent is None or rule.memory is None:
        turned = jr.bernoulli(key, rule.chop_probability)
        recent, reference = fast.recent, fast.reference
    else:
        turned = turn % rule.chop_every == 0
        old = column_of(fast.recent, column, read.shape[:1] + fast.signs.shape)
        average = old + rule.memory * (read - old)
        recent = with_column(fast.recent, average, column)
        # The end of a period is what the next one is compared with.
        moved = with_column(fast.reference, average, column)
        reference = jnp.where(turned, moved, fast.reference)
    signs = fast.signs.at[column].multiply(jnp.where(turned, -1, 1).astype(read.dtype))
    return FastArray(
        state=fast.state,
        response=fast.response,
        reference=reference,
        recent=recent,
        buffer=fast.buffer,
        signs=signs,
    )
