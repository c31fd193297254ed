"""Read tiles: the analog product of one crossbar array with its inputs.

Word line `r` is driven with a voltage proportional to `v_r`, and bit line `c` collects

    i_c = sum_r w_rc v_r + n_c,

in units of the current range of one cell. Read noise of each cell, independent and of
equal variance, adds up to a normal `n_c` with variance `sigma**2 sum_r v_r**2` a cell of
the pair: one draw an output has exactly the law of one draw a cell.
"""

import jax
import jax.lax as lax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ._device import Scalar
from ._write_verify import gaussian


def read_tile(
    weights: Float[Array, "rows cols"],
    voltages: Float[Array, "batch rows"],
    sigma: Scalar,
    *,
    key: PRNGKeyArray,
) -> Float[Array, "batch cols"]:
    """Bit-line currents of one tile for a batch of inputs.

    **Arguments:**

    - `weights`: what the cells hold, from -1 to 1.
    - `voltages`: word-line voltages in units of the read voltage.
    - `sigma`: read noise of one weight, standard deviation in units of its range.
    - `key`: key of the read noise.

    **Returns:**

    Currents in units of the current range of one cell.
    """
    highest = lax.Precision.HIGHEST
    currents = jnp.matmul(voltages, weights, precision=highest)
    noise = gaussian(sigma, currents.shape, currents.dtype, key=key)
    # The norm of an input of zeros has no gradient; its noise has none either.
    power = jnp.sum(voltages**2, axis=1, keepdims=True)
    norm = jnp.where(power > 0, jnp.sqrt(jnp.where(power > 0, power, 1)), 0)
    return currents + norm * noise


def read_tiles(
    weights: Float[Array, "tiles rows cols"],
    voltages: Float[Array, "tiles batch rows"],
    sigma: Scalar,
    index: Int[Array, " tiles"],
    *,
    key: PRNGKeyArray,
) -> Float[Array, "tiles batch cols"]:
    """Bit-line currents of many tiles; the noise of a tile depends on its index alone."""

    def read(weights, voltages, index):
        return read_tile(weights, voltages, sigma, key=jr.fold_in(key, index))

    # `vmap` would turn the skipped draws of `gaussian` into drawn ones.
    return lax.map(lambda args: read(*args), (weights, voltages, index))


def accumulate(
    currents: Float[Array, "tiles batch cols"],
    scale: Float[Array, "tiles cols"],
    outputs: Int[Array, " tiles"],
    count: int,
) -> Float[Array, "{count} batch cols"]:
    """Scale the digitised currents of each tile and add those of the same outputs."""
    return jax.ops.segment_sum(currents * scale[:, None, :], outputs, count)
