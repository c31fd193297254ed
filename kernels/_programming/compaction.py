"""Pack the chosen lanes of each row side by side.

Whole rows are shifted, because XLA runs a search, a sort or a scatter lane by lane on CPUs.
"""

import jax.lax as lax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int


def count_before(
    chosen: Bool[Array, "arrays rows lanes"],
) -> Int[Array, "arrays rows lanes"]:
    """Count the chosen lanes left of each lane, by doubling (Hillis & Steele 1986)."""
    width = chosen.shape[2]

    # Without a loop, XLA would compute every sum from the start.
    def double(bit, count):
        padded = jnp.pad(count, ((0, 0), (0, 0), (width, 0)))
        return count + lax.dynamic_slice_in_dim(padded, width - (1 << bit), width, 2)

    count = lax.fori_loop(0, _bits(width), double, chosen.astype(jnp.int32))
    return count - chosen.astype(jnp.int32)


def compacted(
    chosen: Bool[Array, "arrays rows lanes"],
    before: Int[Array, "arrays rows lanes"],
    size: int,
) -> tuple[Int[Array, "arrays rows {size}"], Bool[Array, "arrays rows {size}"]]:
    """Find the chosen lanes of each row, in order.

    Each lane moves left by the number of lanes on its left that are not chosen, one bit of
    that number after another from the lowest, so that no two lanes collide (Warren,
    "Hacker's Delight", 7-4).

    **Arguments:**

    - `chosen`: lanes to pack; those beyond the first `size` are dropped.
    - `before`: from `count_before`.
    - `size`: number of lanes after packing, at most that before. Static.

    **Returns:**

    The lane at each place, and whether there is one.
    """
    width = chosen.shape[2]
    place = lax.broadcasted_iota(jnp.int32, chosen.shape, 2)

    def move(bit, over):
        step = 1 << bit
        padded = jnp.pad(over, ((0, 0), (0, 0), (0, width)), constant_values=-1)
        right = lax.dynamic_slice_in_dim(padded, step, width, 2)
        # Every bit of an empty place is set.
        come, stay = (right >= 0) & (right & step != 0), over & step == 0
        return jnp.where(come, right, jnp.where(stay, over, -1))

    over = jnp.where(chosen, place - before, -1)
    over = lax.fori_loop(0, _bits(width), move, over)
    over, place = over[:, :, :size], place[:, :, :size]
    return jnp.where(over >= 0, place + over, 0), over >= 0


def _bits(width: int) -> int:
    """Number of bits of the largest distance between two lanes."""
    return (width - 1).bit_length()
