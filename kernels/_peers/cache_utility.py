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

    **Example:**

        >>> hits, size = jnp.array([6.0, 6.0]), jnp.array([2.0, 2.0])
        >>> idle = jnp.array([0.0, 3600.0])
        >>> print(sj.kernels.cache_utility(hits, idle, size, 3600.0))  # 6 / 2, then half
        [3.  1.5]
    """
    return accesses_per_hour * jnp.exp2(-idle / half_life) / size


def worth_keeping(
    utility: Float[Array, " entries"],
    size: Float[Array, " entries"],
    capacity: Float[Array, ""] | float,
) -> Bool[Array, " entries"]:
    """Mark the entries that remain after evicting the lowest utility until the rest fits.

    `size` and `capacity` share a unit; among equal utilities the later entry goes first.

    **Example:**

        >>> utility, size = jnp.array([1.0, 3.0, 2.0]), jnp.array([4.0, 4.0, 4.0])
        >>> print(sj.kernels.worth_keeping(utility, size, 8.0))
        [False  True  True]
    """
    order = jnp.argsort(-utility, stable=True)
    kept = jnp.cumsum(size[order]) <= capacity
    return jnp.zeros(utility.shape, bool).at[order].set(kept)
