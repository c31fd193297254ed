"""Train on the devices themselves: updates of an optimiser become pulses.

Each weight is one cell, read against a reference (see `sedma_jax.kernels.pulsed_change`).
Both transformations go at the end of a chain and need the parameters, which `optax` passes:

    optimiser = optax.chain(optax.sgd(0.1), pulsed_updates(device, w_max=0.5, key=key))

Use `optax.masked` to leave out leaves that stay digital.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.lax as lax
import jax.numpy as jnp
import jax.random as jr
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from .._keys import check_key
from ..kernels import (
    Device,
    Response,
    draw_response,
    gaussian,
    nominal_response,
    pulsed_change,
    state_weight,
    symmetry_point,
    weight_state,
)

Cells = Float[Array, "rows cols"]


class PulsedState(eqx.Module):
    """State of `pulsed_updates`.

    - `key`: key of the updates to come.
    - `response`: response of the cells of each leaf, drawn once.
    - `pulses`: number of pulses of either sign that each cell got so far, the unit in which
        endurance is measured.
    - `energy`: energy of all pulses so far, in joules.
    """

    key: PRNGKeyArray
    response: PyTree[Response]
    pulses: PyTree[Int[Array, "..."]]
    energy: Float[Array, ""]


class TikiTakaState(eqx.Module):
    """State of `tiki_taka`.

    - `key`, `energy`: as in `PulsedState`.
    - `fast`: states of the cells of A. The cells of C hold the parameters.
    - `fast_response`, `slow_response`: responses of the cells of A and of C.
    - `fast_pulses`, `slow_pulses`: number of pulses that each cell of A and of C got.
    - `count`: number of updates so far.
    """

    key: PRNGKeyArray
    fast: PyTree[Float[Array, "rows cols"]]
    fast_response: PyTree[Response]
    slow_response: PyTree[Response]
    fast_pulses: PyTree[Int[Array, "..."]]
    slow_pulses: PyTree[Int[Array, "..."]]
    energy: Float[Array, ""]
    count: Int[Array, ""]


def pulsed_updates(
    device: Device, *, w_max: float, max_pulses: float = jnp.inf, key: PRNGKeyArray
) -> optax.GradientTransformation:
    """Carry out updates by pulses on devices: nonlinear, asymmetric and noisy.

    An update becomes a whole number of pulses, rounded at random so that its mean is exact
    for a linear device; the weight then moves as the cell does. On a linear device without
    noise that is the update itself, to within one pulse.

    **Arguments:**

    - `device`: the technology. Its device-to-device spread is drawn once, by `init`.
    - `w_max`: the ends of the window stand for the weights `-w_max` and `w_max`. The first
        update clips weights beyond them.
    - `max_pulses`: largest number of pulses of one cell in one update, at least 1.
    - `key`: typed key of the cells and of all updates.

    **Returns:**

    A transformation with a `PulsedState`.

    **Raises:**

    - `ValueError`: if `w_max <= 0` or `max_pulses < 1`, if `key` is not a typed key, or if
        `update` is called without parameters.
    """
    _check("pulsed_updates", w_max, max_pulses, key)

    def init(params):
        cells_key, updates_key = jr.split(key)
        return PulsedState(
            key=updates_key,
            response=_responses(params, device, cells_key),
            pulses=_counts(params),
            energy=_zero(params),
        )

    def update(updates, state, params=None):
        params = _given("pulsed_updates", params)
        next_key, now_key = jr.split(state.key)

        def one(change, weight, response, key):
            w, change = _flat(weight), _flat(change)
            before = weight_state(w, w_max, device)
            done = pulsed_change(
                before, change, w_max, device, response, max_pulses, key=key
            )
            # A cell without pulses keeps its weight bit for bit.
            still = jnp.clip(w, -w_max, w_max)
            after = jnp.where(
                done.pulses == 0, still, state_weight(done.state, w_max, device)
            )
            step = (after - w).reshape(weight.shape).astype(weight.dtype)
            return step, _whole(done.pulses, weight), done.energy

        steps, pulses, energy = _each(one, now_key, updates, params, state.response)
        total = jax.tree.map(jnp.add, state.pulses, pulses)
        return steps, PulsedState(
            key=next_key,
            response=state.response,
            pulses=total,
            energy=state.energy + energy,
        )

    # optax annotates a state as a tree of arrays, which excludes records.
    return optax.GradientTransformation(init, update)  # pyright: ignore[reportArgumentType]


def tiki_taka(
    device: Device,
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
    """
    _check("tiki_taka", w_max, max_pulses, key)
    fast_w_max = w_max if fast_w_max is None else fast_w_max
    _check_transfer(transfer_every, transfer_rate, fast_w_max)
    arrays = _Arrays(device, w_max, fast_w_max, transfer_rate, max_pulses)

    def init(params):
        fast_key, slow_key, updates_key = jr.split(key, 3)
        fast_response = _responses(params, device, fast_key)

        def start(weight, response):
            shape = _flat(weight).shape
            return jnp.broadcast_to(symmetry_point(device, response), shape)

        return TikiTakaState(
            key=updates_key,
            fast=jax.tree.map(start, params, fast_response),
            fast_response=fast_response,
            slow_response=_responses(params, device, slow_key),
            fast_pulses=_counts(params),
            slow_pulses=_counts(params),
            energy=_zero(params),
            count=jnp.zeros((), jnp.int32),
        )

    def update(updates, state, params=None):
        params = _given("tiki_taka", params)
        next_key, now_key = jr.split(state.key)
        count = state.count + 1

        def one(change, weight, fast, fast_response, slow_response, key):
            fast_key, read_key, slow_key = jr.split(key, 3)
            w = _flat(weight)
            a = pulsed_change(
                fast, _flat(change), fast_w_max, device, fast_response, max_pulses,
                key=fast_key,
            )  # fmt: skip
            column = (count // transfer_every - 1) % w.shape[1]

            def transfer():
                read = _read_column(arrays, a.state, fast_response, column, read_key)
                return _pulse_column(arrays, w, read, slow_response, column, slow_key)

            nothing = jnp.zeros_like(w), jnp.zeros_like(w), jnp.zeros((), w.dtype)
            due = count % transfer_every == 0
            step, slow, energy = lax.cond(due, transfer, lambda: nothing)
            step = step + jnp.clip(w, -w_max, w_max) - w
            return (
                step.reshape(weight.shape).astype(weight.dtype),
                a.state,
                _whole(a.pulses, weight),
                _whole(slow, weight),
                a.energy + energy,
            )

        steps, fast, fast_pulses, slow_pulses, energy = _each(
            one, now_key, updates, params, state.fast, state.fast_response,
            state.slow_response,
        )  # fmt: skip
        return steps, TikiTakaState(
            key=next_key,
            fast=fast,
            fast_response=state.fast_response,
            slow_response=state.slow_response,
            fast_pulses=jax.tree.map(jnp.add, state.fast_pulses, fast_pulses),
            slow_pulses=jax.tree.map(jnp.add, state.slow_pulses, slow_pulses),
            energy=state.energy + energy,
            count=count,
        )

    # optax annotates a state as a tree of arrays, which excludes records.
    return optax.GradientTransformation(init, update)  # pyright: ignore[reportArgumentType]


class _Arrays(NamedTuple):
    """The arrays A (fast) and C (slow) of Tiki-Taka; see the arguments of `tiki_taka`."""

    device: Device
    w_max: float
    fast_w_max: float
    transfer_rate: float
    max_pulses: float


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
    whole = jnp.broadcast_to(cells, shape)
    return lax.dynamic_slice_in_dim(whole, column, 1, 1)


def _column_response(
    response: Response, column: Int[Array, ""], shape: tuple[int, ...]
) -> Response:
    """The responses of the cells of one column."""
    return Response(
        _column(response.ltp, column, shape), _column(response.ltd, column, shape)
    )


def _check_transfer(transfer_every: int, transfer_rate: float, fast_w_max: float) -> None:
    for need, value, met in (
        ("transfer_every >= 1", transfer_every, transfer_every >= 1),
        ("transfer_rate > 0", transfer_rate, transfer_rate > 0),
        ("fast_w_max > 0", fast_w_max, fast_w_max > 0),
    ):
        if not met:
            raise ValueError(
                f"`sedma_jax.nn.tiki_taka` needs `{need}`. Got {value}. "
                "To pulse the weights themselves use `pulsed_updates`."
            )


def _check(name: str, w_max: float, max_pulses: float, key: PRNGKeyArray) -> None:
    check_key(key)
    if not (w_max > 0 and max_pulses >= 1):
        raise ValueError(
            f"`sedma_jax.nn.{name}` needs `w_max > 0` and `max_pulses >= 1`. "
            f"Got {w_max=}, {max_pulses=}. Take the largest weight you expect."
        )


def _given(name: str, params: PyTree | None) -> PyTree:
    """The parameters, without which there are no cells to pulse."""
    if params is None:
        raise ValueError(
            f"`sedma_jax.nn.{name}` needs the parameters, whose cells it pulses. Got none. "
            "Call `optimiser.update(gradients, state, params)`."
        )
    return params


def _flat(leaf: Float[Array, "..."]) -> Cells:
    """A leaf as word lines by bit lines; its last axis counts the columns."""
    return leaf.reshape(-1, leaf.shape[-1]) if leaf.ndim else leaf.reshape(1, 1)


def _whole(pulses: Cells, weight: Float[Array, "..."]) -> Int[Array, "..."]:
    """The number of pulses of each cell, in the shape of its leaf."""
    return jnp.abs(pulses).astype(jnp.int32).reshape(weight.shape)


def _counts(params: PyTree) -> PyTree[Int[Array, "..."]]:
    """No pulses so far."""
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, jnp.int32), params)


def _zero(params: PyTree) -> Float[Array, ""]:
    """No energy so far, in the widest dtype of the parameters."""
    dtypes = [leaf.dtype for leaf in jax.tree.leaves(params)]
    return jnp.zeros((), jnp.result_type(*dtypes) if dtypes else None)


def _responses(params: PyTree, device: Device, key: PRNGKeyArray) -> PyTree[Response]:
    """The response of the cells of each leaf, drawn if cells differ."""
    spread = not (isinstance(device.sigma_d2d, float) and device.sigma_d2d == 0)

    def one(leaf, key):
        cells = _flat(leaf)
        if spread:
            return draw_response(device, cells.shape, cells.dtype, key=key)
        return nominal_response(device, cells.dtype)

    leaves, tree = jax.tree.flatten(params)
    keys = jr.split(key, len(leaves)) if leaves else []
    return tree.unflatten([one(leaf, key) for leaf, key in zip(leaves, keys, strict=True)])


def _each(
    function: Callable[..., tuple], key: PRNGKeyArray, updates: PyTree, *trees: PyTree
) -> tuple[Any, ...]:
    """Map over leaves, each with its key, and sum the last result of `function`."""
    leaves, tree = jax.tree.flatten(updates)
    others = [tree.flatten_up_to(other) for other in trees]
    keys = jr.split(key, max(len(leaves), 1))
    done = [function(*args) for args in zip(leaves, *others, keys, strict=False)]
    *parts, last = zip(*done, strict=True)
    return *(tree.unflatten(part) for part in parts), sum(last)
