"""Read tiles: the analog product of one crossbar array with its inputs.

Word line `r` is driven with a voltage proportional to `v_r`, and bit line `c` collects

    i_c = sum_r w_rc v_r + n_c,

in units of the current range of one cell. Read noise of each cell, independent and of
equal variance, adds up to a normal `n_c` with variance `sigma**2 sum_r v_r**2` a cell of
the pair: one draw an output has exactly the law of one draw a cell. Where the variance of
a cell depends on its state, a second product, `sum_r v_r**2 s_rc**2`, gives that of the
output; draws of other laws than the normal keep their first two moments that way.
"""

import jax
import jax.lax as lax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ._closed_loop import gaussian
from ._device import Scalar


def read_tile(
    weights: Float[Array, "rows cols"],
    voltages: Float[Array, "batch rows"],
    sigma: Scalar,
    variance: Float[Array, "rows cols"] | None = None,
    *,
    key: PRNGKeyArray,
) -> Float[Array, "batch cols"]:
    """Bit-line currents of one tile for a batch of inputs.

    **Arguments:**

    - `weights`: what the cells hold, from -1 to 1.
    - `voltages`: word-line voltages in units of the read voltage.
    - `sigma`: read noise of one weight, standard deviation in units of its range.
    - `variance`: of each weight, in addition to `sigma**2`.
    - `key`: key of the read noise.

    **Returns:**

    Currents in units of the current range of one cell.
    """
    highest = lax.Precision.HIGHEST
    currents = jnp.matmul(voltages, weights, precision=highest)
    squares = voltages**2
    power = jnp.sum(squares, axis=1, keepdims=True)
    if variance is None:
        noise = gaussian(sigma, currents.shape, currents.dtype, key=key)
        return currents + _root(power) * noise
    noise = jr.normal(key, currents.shape, currents.dtype)
    states = jnp.matmul(squares, variance, precision=highest)
    sigma = jnp.asarray(sigma, currents.dtype)
    return currents + _root(sigma**2 * power + states) * noise


def _root(variance):
    """Square root, with no gradient at zero where it would be infinite."""
    return jnp.where(variance > 0, jnp.sqrt(jnp.where(variance > 0, variance, 1)), 0)


def higher_order_currents(
    weights: Float[Array, "tiles 2 rows cols"],
    voltages: Float[Array, "tiles batch rows"],
) -> Float[Array, "tiles batch cols"]:
    """Currents in the square and the cube of the voltages: `v**2 W_2 + v**3 W_3`."""
    squares = voltages**2
    powers = jnp.concatenate([squares, squares * voltages], axis=2)
    stacked = weights.reshape(len(weights), -1, weights.shape[3])
    return jnp.matmul(powers, stacked, precision=lax.Precision.HIGHEST)


def read_tiles(
    weights: Float[Array, "tiles rows cols"],
    voltages: Float[Array, "tiles batch rows"],
    sigma: Scalar,
    index: Int[Array, " tiles"],
    variance: Float[Array, "tiles rows cols"] | None = None,
    *,
    key: PRNGKeyArray,
) -> Float[Array, "tiles batch cols"]:
    """Bit-line currents of many tiles; the noise of a tile depends on its index alone."""

    def read(weights, voltages, index, variance):
        return read_tile(weights, voltages, sigma, variance, key=jr.fold_in(key, index))

    # `vmap` would turn the skipped draws of `gaussian` into drawn ones.
    return lax.map(lambda args: read(*args), (weights, voltages, index, variance))


def accumulate(
    currents: Float[Array, "tiles batch cols"],
    scale: Float[Array, "tiles cols"],
    outputs: Int[Array, " tiles"],
    count: int,
) -> Float[Array, "{count} batch cols"]:
    """Scale the digitised currents of each tile and add those of the same outputs."""
    return jax.ops.segment_sum(currents * scale[:, None, :], outputs, count)
