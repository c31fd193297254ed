"""Train on the devices themselves: updates of an optimiser become pulses.

Each weight is one cell, read against a reference (see `sedma_jax.kernels.pulsed_change`).
`pulsed_updates`, like those of the other files here, goes at the end of a chain and needs
the parameters, which `optax` passes:

    optimiser = optax.chain(optax.sgd(0.1), pulsed_updates(device, w_max=0.5, key=key))

Use `optax.masked` to leave out leaves that stay digital.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from ..._arguments import device_of
from ..._keys import check_key
from ...kernels import (
    ONE_OR_MORE,
    POSITIVE,
    Count,
    Device,
    Response,
    add_counts,
    as_count,
    check_given,
    check_numbers,
    draw_response,
    nominal_response,
    pulsed_change,
    state_weight,
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

    **Example:**

        >>> device = sj.Device(g_min=0.0, g_max=1e-5, pulses_ltp=1000, pulses_ltd=1000)
        >>> optimiser = sj.nn.pulsed_updates(device, w_max=0.5, key=jr.key(0))
        >>> weights, change = jnp.zeros((2, 2)), jnp.full((2, 2), 0.01)
        >>> _, state = optimiser.update(change, optimiser.init(weights), weights)
        >>> bool(np.all(np.abs(state.pulses - 10) <= 1))  # a pulse is 1 / 1000 of the range
        True
    """

    key: PRNGKeyArray
    response: PyTree[Response]
    pulses: PyTree[Count]
    energy: Float[Array, ""]


def pulsed_updates(
    device: Device | str, *, w_max: float, max_pulses: float = jnp.inf, key: PRNGKeyArray
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

    **Example:**

        >>> import optax
        >>> device = sj.Device(g_min=0.0, g_max=1e-5, pulses_ltp=1000, pulses_ltd=1000)
        >>> pulses = sj.nn.pulsed_updates(device, w_max=0.5, key=jr.key(0))
        >>> optimiser, w = optax.chain(optax.sgd(0.1), pulses), jnp.zeros((2, 2))
        >>> step, state = optimiser.update(jnp.ones((2, 2)), optimiser.init(w), w)
        >>> bool(jnp.max(jnp.abs(step + 0.1)) <= 0.0011)  # to within a pulse, 1 / 1000
        True
    """
    device = check_window("pulsed_updates", device, w_max, max_pulses, key)

    def init(params: PyTree) -> PulsedState:
        cells_key, updates_key = jr.split(key)
        return PulsedState(
            key=updates_key,
            response=responses("pulsed_updates", params, device, cells_key),
            pulses=no_pulses(params),
            energy=no_energy(params),
        )

    def update(
        updates: PyTree, state: PulsedState, params: PyTree | None = None
    ) -> tuple[PyTree, PulsedState]:
        params = given_params("pulsed_updates", params)
        next_key, now_key = jr.split(state.key)

        def one(
            change: Array, weight: Array, response: Response, key: PRNGKeyArray
        ) -> tuple[Array, Count, Array]:
            w, change = flat(weight), flat(change)
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
            return step, whole(done.pulses, weight), done.energy

        steps, pulses, energy = each_leaf(one, now_key, updates, params, state.response)
        total = add_pulses(state.pulses, pulses)
        return steps, PulsedState(
            key=next_key,
            response=state.response,
            pulses=total,
            energy=state.energy + energy,
        )

    # optax annotates a state as a tree of arrays, which excludes records.
    return optax.GradientTransformation(init, update)  # pyright: ignore[reportArgumentType]


def check_window(
    name: str, device: Device | str, w_max: float, max_pulses: float, key: PRNGKeyArray
) -> Device:
    """The device; refuses what makes no array of it."""
    check_key(key)
    call = f"sedma_jax.nn.{name}"
    check_given(call, POSITIVE, "Take the largest weight you expect.", w_max=w_max)
    check_numbers(call, ONE_OR_MORE, "Infinity is no cap.", max_pulses=max_pulses)
    return device_of(f"nn.{name}", device)


def given_params(name: str, params: PyTree | None) -> PyTree:
    """The parameters, without which there are no cells to pulse."""
    if params is None:
        raise ValueError(
            f"`sedma_jax.nn.{name}` needs the parameters, whose cells it pulses. Got none. "
            "Call `optimiser.update(gradients, state, params)`."
        )
    complexes = [leaf.dtype for leaf in jax.tree.leaves(params) if jnp.iscomplexobj(leaf)]
    if complexes:
        raise ValueError(
            f"`sedma_jax.nn.{name}` needs real parameters. Got dtype {complexes[0]}. Keep "
            "the real and the imaginary part as two leaves."
        )
    return params


def flat(leaf: Float[Array, "..."]) -> Cells:
    """A leaf as word lines by bit lines; its last axis counts the columns."""
    return leaf.reshape(-1, leaf.shape[-1]) if leaf.ndim else leaf.reshape(1, 1)


def whole(pulses: Cells, weight: Float[Array, "..."]) -> Count:
    """The number of pulses of each cell, in the shape of its leaf."""
    return as_count(jnp.abs(pulses).reshape(weight.shape))


def no_pulses(params: PyTree) -> PyTree[Count]:
    """No pulses so far."""
    return jax.tree.map(lambda leaf: as_count(jnp.zeros(leaf.shape, jnp.int32)), params)


def add_pulses(before: PyTree[Count], more: PyTree[Count]) -> PyTree[Count]:
    """The numbers of pulses of each leaf, to 64 bits: cells endure more than `2**31`."""
    return jax.tree.map(
        add_counts, before, more, is_leaf=lambda leaf: isinstance(leaf, Count)
    )


def no_energy(params: PyTree) -> Float[Array, ""]:
    """No energy so far, in the widest dtype of the parameters."""
    dtypes = [leaf.dtype for leaf in jax.tree.leaves(params)]
    return jnp.zeros((), jnp.result_type(*dtypes) if dtypes else None)


def responses(
    name: str, params: PyTree, device: Device, key: PRNGKeyArray
) -> PyTree[Response]:
    """The response of the cells of each leaf, drawn if cells differ."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        if leaf.dtype not in (jnp.float32, jnp.float64):
            raise ValueError(
                f"`sedma_jax.nn.{name}` needs weights of float32 or float64, in which a "
                f"pulse is not rounded away. Got {leaf.dtype} at "
                f"{jax.tree_util.keystr(path)!r}. Convert it with `.astype('float32')`."
            )
    spread = not (isinstance(device.sigma_d2d, float) and device.sigma_d2d == 0)

    def one(leaf: Array, key: PRNGKeyArray) -> Response:
        cells = flat(leaf)
        if spread:
            return draw_response(device, cells.shape, cells.dtype, key=key)
        return nominal_response(device, cells.dtype)

    leaves, tree = jax.tree.flatten(params)
    keys = jr.split(key, len(leaves)) if leaves else []
    return tree.unflatten([one(leaf, key) for leaf, key in zip(leaves, keys, strict=True)])


def each_leaf(
    function: Callable[..., tuple], key: PRNGKeyArray, updates: PyTree, *trees: PyTree
) -> tuple[Any, ...]:
    """Map over leaves, each with its key, and sum the last result of `function`."""
    leaves, tree = jax.tree.flatten(updates)
    others = [tree.flatten_up_to(other) for other in trees]
    keys = jr.split(key, max(len(leaves), 1))
    done = [function(*args) for args in zip(leaves, *others, keys, strict=False)]
    *parts, last = zip(*done, strict=True)
    return *(tree.unflatten(part) for part in parts), sum(last)
