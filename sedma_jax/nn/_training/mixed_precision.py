"""Train on devices with a digital accumulator of updates in front of them."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from ...kernels import (
    POSITIVE,
    Count,
    Device,
    Response,
    accumulated_pulses,
    check_numbers,
    pulsed_train,
    state_weight,
    weight_state,
)
from .in_situ import (
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


class MixedPrecisionState(eqx.Module):
    """State of `mixed_precision`.

    - `key`, `response`, `pulses`, `energy`: as in `PulsedState`.
    - `accumulated`: updates that the cells have not got yet, in the shape of each leaf.

    **Example:**

        >>> device = sj.Device(g_min=0.0, g_max=1e-5, pulses_ltp=100, pulses_ltd=100)
        >>> optimiser = sj.nn.mixed_precision(device, w_max=1.0, key=jr.key(0))
        >>> weights, change = jnp.zeros((2, 2)), jnp.full((2, 2), 0.03)
        >>> _, state = optimiser.update(change, optimiser.init(weights), weights)
        >>> print(np.asarray(state.accumulated[0]).round(3))  # 0.03 less a pulse, 0.02
        [0.01 0.01]
    """

    key: PRNGKeyArray
    response: PyTree[Response]
    accumulated: PyTree[Float[Array, "..."]]
    pulses: PyTree[Count]
    energy: Float[Array, ""]


def mixed_precision(
    device: Device | str,
    *,
    w_max: float,
    granularity: float | None = None,
    max_pulses: float = jnp.inf,
    key: PRNGKeyArray,
) -> optax.GradientTransformation:
    """Gather updates digitally, and pulse a cell when they are worth a pulse.

    This is the mixed-precision training of Nandakumar et al. (2020), Front. Neurosci. 14,
    406: the accumulator `x` adds up updates in high precision; cells get `trunc(x / e)`
    pulses, blindly, and `x` loses `e` for each. On a linear device without noise, weights
    and accumulator together are exactly what digital training gives, so that weights are
    right to within one pulse. It takes one digital number for each weight.

    **Arguments:**

    - `device`, `w_max`: as for `pulsed_updates`.
    - `granularity`: `e`, the change of a weight that one pulse stands for, positive; that
        of a linear device, the window over the number of pulses that cross it, if left out.
    - `max_pulses`: largest number of pulses of one cell in one update, at least 1; what is
        left stays in the accumulator.
    - `key`: typed key of the cells and of all updates.

    **Returns:**

    A transformation with a `MixedPrecisionState`.

    **Raises:**

    - `ValueError`: as `pulsed_updates` does; if `granularity <= 0`.

    **Example:**

        >>> device = sj.Device(g_min=0.0, g_max=1e-5, pulses_ltp=100, pulses_ltd=100)
        >>> optimiser = sj.nn.mixed_precision(device, w_max=1.0, key=jr.key(0))
        >>> weights, state = jnp.zeros(1), optimiser.init(jnp.zeros(1))
        >>> for _ in range(3):  # of 0.015; a pulse is 0.02
        ...     step, state = optimiser.update(jnp.full(1, 0.015), state, weights)
        ...     weights = weights + step
        >>> print(np.asarray(weights).round(3), np.asarray(state.accumulated).round(3))
        [0.04] [0.005]
    """
    device = check_window("mixed_precision", device, w_max, max_pulses, key)
    remedy = "It is in the unit of weights; leave it out for that of a linear device."
    call = "sedma_jax.nn.mixed_precision"
    check_numbers(call, POSITIVE, remedy, granularity=granularity)

    def init(params: PyTree) -> MixedPrecisionState:
        cells_key, updates_key = jr.split(key)
        return MixedPrecisionState(
            key=updates_key,
            response=responses("mixed_precision", params, device, cells_key),
            accumulated=jax.tree.map(jnp.zeros_like, params),
            pulses=no_pulses(params),
            energy=no_energy(params),
        )

    def update(
        updates: PyTree, state: MixedPrecisionState, params: PyTree | None = None
    ) -> tuple[PyTree, MixedPrecisionState]:
        params = given_params("mixed_precision", params)
        next_key, now_key = jr.split(state.key)

        def one(
            change: Array, weight: Array, before: Array, response: Response, key: Array
        ) -> tuple[Array, Array, Count, Array]:
            w = flat(weight)
            pulses, rest = accumulated_pulses(
                flat(before + change), w_max, device, max_pulses, granularity
            )
            cells = weight_state(w, w_max, device)
            done = pulsed_train(cells, pulses, device, response, key=key)
            # A cell without pulses keeps its weight bit for bit.
            still = jnp.clip(w, -w_max, w_max)
            after = jnp.where(pulses == 0, still, state_weight(done.state, w_max, device))
            step = (after - w).reshape(weight.shape).astype(weight.dtype)
            rest = rest.reshape(weight.shape).astype(weight.dtype)
            return step, rest, whole(pulses, weight), done.energy

        steps, rest, pulses, energy = each_leaf(
            one, now_key, updates, params, state.accumulated, state.response
        )
        return steps, MixedPrecisionState(
            key=next_key,
            response=state.response,
            accumulated=rest,
            pulses=add_pulses(state.pulses, pulses),
            energy=state.energy + energy,
        )

    # optax annotates a state as a tree of arrays, which excludes records.
    return optax.GradientTransformation(init, update)  # pyright: ignore[reportArgumentType]
