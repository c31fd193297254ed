"""Find the rows of a table nearest to a query, by standardised Euclidean distance."""

import jax.lax as lax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


def nearest_rows(
    table: Float[Array, "rows features"],
    occupied: Bool[Array, " rows"],
    query: Float[Array, " features"],
    *,
    k: int,
) -> tuple[Int[Array, " {k}"], Float[Array, " {k}"]]:
    """Find the `k` occupied rows nearest to a query.

    The distance is `sqrt(sum_f ((t_f - q_f) / s_f)^2)`, with `s_f` the standard deviation
    of feature `f` over the occupied rows, so that features have equal weight whatever
    their units. A feature that is the same in all rows is compared in its own unit.

    **Arguments:**

    - `table`: one row per entry, padded to a fixed size, so that a growing table compiles
        once. The content of unoccupied rows does not matter, as long as it is finite.
    - `occupied`: which rows hold an entry.
    - `query`: features to look for, in the units of the table.
    - `k`: number of rows wanted, from 1 to `rows`. Static.

    **Returns:**

    Indices into the table and distances, nearest first; among equal distances the lower
    index comes first. With fewer than `k` occupied rows the rest have infinite distance.

    **Raises:**

    - `ValueError`: if `k` is not in that range.

    **Example:**

        >>> table = jnp.array([[0.0], [5.0], [9.0]])
        >>> rows, distances = sj.kernels.nearest_rows(
        ...     table, jnp.array([True, True, False]), jnp.array([4.0]), k=1
        ... )
        >>> int(rows[0])
        1
    """
    if not 1 <= k <= len(table):
        raise ValueError(
            "`sedma_jax.kernels.nearest_rows` needs `k` "
            f"from 1 to the {len(table)} rows of its table. Got {k}. Pad the table or "
            "ask for fewer."
        )
    weight = occupied.astype(table.dtype)[:, None]
    count = jnp.maximum(jnp.sum(weight), jnp.ones((), table.dtype))
    # The variance takes two passes: one pass would cancel where a feature is large and
    # varies little.
    mean = jnp.sum(weight * table, axis=0) / count
    variance = jnp.sum(weight * (table - mean[None]) ** 2, axis=0) / count
    scale = jnp.where(variance > 0, jnp.sqrt(variance), jnp.ones_like(variance))
    distance = jnp.sqrt(jnp.sum(((table - query[None]) / scale[None]) ** 2, axis=1))
    # Infinity marks unoccupied rows alone, even where a quotient overflows.
    distance = jnp.minimum(distance, jnp.finfo(table.dtype).max)
    negative, index = lax.top_k(jnp.where(occupied, -distance, -jnp.inf), k)
    return index, -negative
