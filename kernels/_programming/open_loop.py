"""Program one array by a single train of pulses per cell, without reading back."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from .._cells.device import Device
from .._cells.pulse import Response, apply_pulses, nominal_response, nominal_train
from .._numerics.count import total_count
from .._numerics.gradients import root
from .closed_loop import (
    VerifyRule,
    WriteStats,
    hidden_state,
    pulse_cost,
    visible_state,
)
from .scheme import Scheme


def _open_loop(
    target: Float[Array, "polarity rows cols"],
    initial: Float[Array, "polarity rows cols"],
    used: Bool[Array, "rows cols"],
    device: Device,
    response: Response,
    rule: VerifyRule,
    *,
    key: PRNGKeyArray,
) -> tuple[Float[Array, "polarity rows cols"], WriteStats]:
    dtype = target.dtype
    nominal = nominal_response(device, dtype)
    wanted = hidden_state(target, device)
    train = jnp.round(nominal_train(initial, wanted, device, nominal))
    train = jnp.clip(train, -rule.max_pulses, rule.max_pulses)
    train = jnp.where(used[None], train, 0).astype(dtype)
    state = apply_pulses(initial, train, device, response, key=key)
    energy, latency = pulse_cost(train, initial, state, device)
    error = jnp.where(used[None], target - visible_state(state, device), 0)
    cells = jnp.maximum(jnp.sum(used) * len(target), 1).astype(dtype)
    nothing = jnp.zeros((), dtype)
    return state, WriteStats(
        pulses=total_count(jnp.abs(train)),
        iterations=jnp.any(train != 0).astype(jnp.int32),
        write_energy=energy.astype(dtype),
        verify_energy=nothing,
        write_latency=latency.astype(dtype),
        verify_latency=nothing,
        unfinished=jnp.sum(jnp.abs(error) > rule.band).astype(jnp.int32),
        residual=root(jnp.sum(error**2) / cells),
    )


open_loop = Scheme(_open_loop)
"""Program one array by the pulses that follow from the nominal response.

The train of a cell is the distance between its state and its target along the
response curve of the data sheet, in whole pulses. How the cell responds to them
depends on its own curve and on cycle-to-cycle noise, of variance `sigma_c2c**2 n`
after `n` pulses. No cell is read, so that the read energy and time are zero.

**Arguments:**

- `rule`: `max_pulses` limits the train; `band` decides which cells are unfinished.
- the others: as for `write_and_verify`.

**Returns:**

The states reached, and the `WriteStats`; `residual` and `unfinished`, which the circuit
does not know, are those of a noise-free read.

**Example:**

    >>> how = sj.Programming(array=4, scheme=sj.open_loop)
    >>> crossbar, stats = sj.program(np.eye(4), "epiram", how, key=jr.key(0))
    >>> bool(stats.energy == stats.write_energy)  # nothing is read back
    True
"""
