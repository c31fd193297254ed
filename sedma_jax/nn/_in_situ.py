"""Train on the devices themselves: updates of an optimiser become pulses.

Each weight is one cell, read against a reference (see `sedma_jax.kernels.pulsed_change`).
Both transformations go at the end of a chain and need the parameters, as `optax` passes:

    optimiser = optax.chain(optax.sgd(0.1), pulsed_updates(device, w_max=0.5, key=key))

Leaves that stay digital are left out by `optax.masked`.
"""

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


class PulsedState(eqx.Module):
    """State of `pulsed_updates`.

    - `key`: of the updates to come.
    - `response`: of the cells of each leaf, drawn once.
    - `pulses`: that each cell got so far, of both signs; what endurance is measured in.
    - `energy`: of all pulses so far, in joules.
    """

    key: PRNGKeyArray
    response: PyTree[Response]
    pulses: PyTree[Int[Array, "..."]]
    energy: Float[Array, ""]


class TikiTakaState(eqx.Module):
    """State of `tiki_taka`.

    - `key`, `energy`: as in `PulsedState`.
    - `fast`: states of the cells of A; those of C hold the parameters.
    - `fast_response`, `slow_response`: of the cells of A and of C.
    - `fast_pulses`, `slow_pulses`: that each cell of A and of C got so far.
    - `count`: updates so far.
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

    An update becomes a whole number of pulses, rounded at random and right in the mean for
    a linear device; the weight then moves as the cell does. On a linear device without
    noise that is the update itself, to within one pulse.

    **Arguments:**

    - `device`: the technology. Its device-to-device spread is drawn once, by `init`.
    - `w_max`: weights at the ends of the window, `-w_max` and `w_max`. Weights beyond are
        clipped by the first update.
    - `max_pulses`: most pulses of one cell in one update, at least 1.
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
            updates_key,
            _responses(params, device, cells_key),
            _counts(params),
            _zero(params),
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
            # Cells without pulses keep their weight to the last bit.
            still = jnp.clip(w, -w_max, w_max)
            after = jnp.where(
                done.pulses == 0, still, state_weight(done.state, w_max, device)
            )
            step = (after - w).reshape(weight.shape).astype(weight.dtype)
            return step, _whole(done.pulses, weight), done.energy

        steps, pulses, energy = _each(one, now_key, updates, params, state.response)
        total = jax.tree.map(jnp.add, state.pulses, pulses)
        return steps, PulsedState(next_key, state.response, total, state.energy + energy)

    # Their types have trees of arrays for states, and no records.
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

    The algorithm Tiki-Taka of Gokmen & Haensch (2020), Front. Neurosci. 14, 103, with
    `gamma = 0`: the parameters are the weights of C. Every update pulses A, whose
    reference is at the symmetry point of each cell, so that asymmetry pulls A to zero and
    not C to a wrong place. Every `transfer_every` updates one column of A, the next in
    turn, is read with the read noise of the device, and C gets pulses for `transfer_rate`
    times what was read.

    **Arguments:**

    - `device`, `w_max`, `max_pulses`: as for `pulsed_updates`.
    - `transfer_every`: updates between transfers, at least 1.
    - `transfer_rate`: change of C for a weight of A, positive. Beside `optax.sgd(rate)`,
        C moves at about `rate * transfer_rate / (transfer_every * columns)` times the sum
        of the gradients, for as long as A remembers.
    - `fast_w_max`: half the range of the weights of A; `w_max` if left out.
    - `key`: typed key of the cells and of all updates.

    **Returns:**

    A transformation with a `TikiTakaState`. Columns are those of the last axis; a vector
    has one for each entry.

    **Raises:**

    - `ValueError`: as `pulsed_updates`; if `transfer_every < 1` or `transfer_rate <= 0`.
    """
    _check("tiki_taka", w_max, max_pulses, key)
    fast_w_max = w_max if fast_w_max is None else fast_w_max
    for name, value, least in (
        ("transfer_every >= 1", transfer_every, transfer_every >= 1),
        ("transfer_rate > 0", transfer_rate, transfer_rate > 0),
        ("fast_w_max > 0", fast_w_max, fast_w_max > 0),
    ):
        if not least:
            raise ValueError(
                f"`sedma_jax.nn.tiki_taka` needs `{name}`. Got {value}. "
                "To pulse the weights themselves use `pulsed_updates`."
            )

    def init(params):
        fast_key, slow_key, updates_key = jr.split(key, 3)
        fast_response = _responses(params, device, fast_key)

        def start(weight, response):
            shape = _flat(weight).shape
            return jnp.broadcast_to(symmetry_point(device, response), shape)

        return TikiTakaState(
            updates_key,
            jax.tree.map(start, params, fast_response),
            fast_response,
            _responses(params, device, slow_key),
            _counts(params),
            _counts(params),
            _zero(params),
            jnp.zeros((), jnp.int32),
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

            def at(cells):
                one = jnp.broadcast_to(cells, w.shape)
                return lax.dynamic_slice_in_dim(one, column, 1, 1)

            def transfer():
                own, old = Response(at(fast_response.ltp), at(fast_response.ltd)), at(w)
                read = state_weight(at(a.state), fast_w_max, device) - state_weight(
                    symmetry_point(device, own), fast_w_max, device
                )
                noise = gaussian(device.sigma_read, read.shape, read.dtype, key=read_key)
                wanted = transfer_rate * (read + 2 * fast_w_max * noise)
                c = pulsed_change(
                    weight_state(old, w_max, device), wanted, w_max, device,
                    Response(at(slow_response.ltp), at(slow_response.ltd)), max_pulses,
                    key=slow_key,
                )  # fmt: skip
                new = state_weight(c.state, w_max, device)
                step = jnp.where(c.pulses == 0, 0, new - old).astype(w.dtype)
                put = lambda part: lax.dynamic_update_slice_in_dim(
                    jnp.zeros_like(w), part, column, 1
                )
                return put(step), put(c.pulses), c.energy

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
            next_key,
            fast,
            state.fast_response,
            state.slow_response,
            jax.tree.map(jnp.add, state.fast_pulses, fast_pulses),
            jax.tree.map(jnp.add, state.slow_pulses, slow_pulses),
            state.energy + energy,
            count,
        )

    # Their types have trees of arrays for states, and no records.
    return optax.GradientTransformation(init, update)  # pyright: ignore[reportArgumentType]


def _check(name, w_max, max_pulses, key):
    check_key(key)
    if not (w_max > 0 and max_pulses >= 1):
        raise ValueError(
            f"`sedma_jax.nn.{name}` needs `w_max > 0` and `max_pulses >= 1`. "
            f"Got {w_max=}, {max_pulses=}. Take the largest weight you expect."
        )


def _given(name, params):
    if params is None:
        raise ValueError(
            f"`sedma_jax.nn.{name}` needs the parameters, whose cells it pulses. Got none. "
            "Call `optimiser.update(gradients, state, params)`."
        )
    return params


def _flat(leaf):
    """A leaf as word lines and bit lines: the columns are those of its last axis."""
    return leaf.reshape(-1, leaf.shape[-1]) if leaf.ndim else leaf.reshape(1, 1)


def _whole(pulses, weight):
    return jnp.abs(pulses).astype(jnp.int32).reshape(weight.shape)


def _counts(params):
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, jnp.int32), params)


def _zero(params):
    dtypes = [leaf.dtype for leaf in jax.tree.leaves(params)]
    return jnp.zeros((), jnp.result_type(*dtypes) if dtypes else None)


def _responses(params, device, key):
    spread = not (isinstance(device.sigma_d2d, float) and device.sigma_d2d == 0)

    def one(leaf, key):
        cells = _flat(leaf)
        if spread:
            return draw_response(device, cells.shape, cells.dtype, key=key)
        return nominal_response(device, cells.dtype)

    leaves, tree = jax.tree.flatten(params)
    keys = jr.split(key, len(leaves)) if leaves else []
    return tree.unflatten([one(leaf, key) for leaf, key in zip(leaves, keys, strict=True)])


def _each(function, key, updates, *trees):
    """Map over leaves, each with a key; the last of what `function` returns is added up."""
    leaves, tree = jax.tree.flatten(updates)
    others = [tree.flatten_up_to(other) for other in trees]
    keys = jr.split(key, max(len(leaves), 1))
    done = [function(*args) for args in zip(leaves, *others, keys, strict=False)]
    *parts, last = zip(*done, strict=True)
    return *(tree.unflatten(part) for part in parts), sum(last)
