"""Decide what is worth keeping in a cache of bounded size.

    utility = accesses per hour * recency / size                      (SEDMA, Eq. 10)

with recency halving every half-life since the last access.
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


def cache_utility(
    accesses_per_hour: Float[Array, " entries"],
    idle: Float[Array, " entries"],
    size: Float[Array, " entries"],
    half_life: Float[Array, ""] | float,
) -> Float[Array, " entries"]:
    """Evaluate Eq. 10 for all entries of a cache.

    **Arguments:**

    - `accesses_per_hour`: rate of accesses, at least 0.
    - `idle`: time since the last access, in seconds, at least 0.
    - `size`: size in MB (10^6 bytes), positive.
    - `half_life`: half-life of the recency, in seconds, positive.

    **Returns:**

    Accesses per hour and per MB, discounted by recency.
    """
    return accesses_per_hour * jnp.exp2(-idle / half_life) / size


def worth_keeping(
    utility: Float[Array, " entries"],
    size: Float[Array, " entries"],
    capacity: Float[Array, ""] | float,
) -> Bool[Array, " entries"]:
    """Mark the entries that remain after evicting the lowest utility until the rest fits.

    `size` and `capacity` share a unit; among equal utilities the later entry goes first.
    """
    order = jnp.argsort(-utility, stable=True)
    kept = jnp.cumsum(size[order]) <= capacity
    return jnp.zeros(utility.shape, bool).at[order].set(kept)
