"""A matrix on crossbar arrays, and its analog product."""

import equinox as eqx
import jax
import jax.core
import jax.dtypes
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ._abstract_crossbar import AbstractCrossbar
from ._converters import ADC, DAC, convert, drive_lines
from ._partition import Partition, Vectors, assemble, checked_array
from ._tile_source import TileSource
from .kernels import (
    Device,
    accumulate,
    grid_shape,
    higher_order_currents,
    join_outputs,
    read_tiles,
    split_inputs,
)


class Crossbar(eqx.Module):
    """A matrix as the crossbar arrays hold it.

    - `weights`: what each tile multiplies with, signed, in units of its scale.
    - `conductance`: of every cell, in siemens; one cell a weight, or a positive and a
        negative one.
    - `scale`: factor of each bit line, applied after conversion.
    - `inputs`, `outputs`: place of each tile in the grid.
    - `device`: the technology.
    - `shape`: of the matrix.
    - `slices`: arrays at each place, whose products add up; one after another in the
        order of tiles.
    - `read_variance`: of each weight, on top of the device's; from `with_read_noise`.
    - `higher_order`: weights of the square and cube of voltages; from
        `with_nonlinear_current`.
    """

    weights: Float[Array, "tiles rows cols"]
    conductance: Float[Array, "tiles polarity rows cols"]
    scale: Float[Array, "tiles cols"]
    inputs: Int[Array, " tiles"]
    outputs: Int[Array, " tiles"]
    device: Device
    shape: tuple[int, int] = eqx.field(static=True)
    slices: int = eqx.field(static=True, default=1)
    read_variance: Float[Array, "tiles rows cols"] | None = None
    higher_order: Float[Array, "tiles 2 rows cols"] | None = None

    def read(self, x, dac, adc, key):
        return read(self, x, dac, adc, key)

    def stored_matrix(self):
        return assemble(self.weights * self.scale[:, None, :], self)


def check_key(key: PRNGKeyArray) -> PRNGKeyArray:
    """Refuse anything but one typed key."""
    if not (
        isinstance(key, jax.Array)
        and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
        and key.shape == ()
    ):
        got = f"{key.dtype}{key.shape}" if hasattr(key, "dtype") else repr(key)
        raise ValueError(
            f"`key` needs to be one typed key. Got {got}. "
            "Make it with `jax.random.key(seed)`, not `jax.random.PRNGKey`."
        )
    return key


def matvec(
    crossbar: AbstractCrossbar,
    x: Vectors,
    *,
    dac: DAC | None = None,
    adc: ADC | None = None,
    key: PRNGKeyArray,
) -> Float[Array, "*batch m"]:
    """Multiply by a programmed matrix, once, on the analog arrays.

    Each tile multiplies its part of `x`; its currents are converted, scaled and added
    digitally. Read noise is drawn anew for every tile, vector and bit line.

    **Arguments:**

    - `crossbar`: from `program` or `program_pool`.
    - `x`: one vector `(n,)`, or `(batch, n)`.
    - `dac`, `adc`: converters; ideal if left out.
    - `key`: typed key of the read noise.

    **Returns:**

    `y`, `(m,)` or `(batch, m)`.

    **Raises:**

    - `ValueError`: if `x` does not fit the matrix, or holds NaN, infinity or complex
        numbers; if `key` is not a typed key.
    """
    check_key(key)
    x = check_vector(x, crossbar)
    y = crossbar.read(jnp.atleast_2d(x), dac, adc, key)
    return y if x.ndim == 2 else y[0]


def check_vector(
    x, crossbar: AbstractCrossbar | Partition | TileSource
) -> Float[Array, "*batch n"]:
    """Check `x` against the matrix, and give it the dtype of the matrix."""
    x = checked_array(x, "x", ndim=(1, 2))
    m, n = crossbar.shape
    if x.shape[-1] != n:
        raise ValueError(
            f"`x` needs {n} entries to multiply a matrix of shape {(m, n)}. "
            f"Got shape {x.shape}. Batches come first: (batch, {n})."
        )
    return x


@jax.jit
def read(
    crossbar: Crossbar,
    x: Float[Array, "batch n"],
    dac: DAC | None,
    adc: ADC | None,
    key: PRNGKeyArray,
) -> Float[Array, "batch m"]:
    """`matvec`, for vectors that are checked already."""
    voltages, drive = drive_lines(x.astype(crossbar.weights.dtype), dac)
    currents = tile_currents(crossbar, voltages, key=key)
    return add_tiles(crossbar, convert(currents, adc)) * drive


def tile_currents(
    crossbar: Crossbar, voltages: Float[Array, "batch n"], *, key: PRNGKeyArray
) -> Float[Array, "tiles batch cols"]:
    """Bit-line currents of every tile, in units of the current range of one cell."""
    parts = split_inputs(voltages, crossbar.weights.shape[1])[crossbar.inputs]
    index, sigma = tile_index(crossbar), read_sigma(crossbar)
    variance = crossbar.read_variance
    currents = read_tiles(crossbar.weights, parts, sigma, index, variance, key=key)
    if crossbar.higher_order is None:
        return currents
    return currents + higher_order_currents(crossbar.higher_order, parts)


def tile_index(crossbar: Crossbar) -> Int[Array, " tiles"]:
    """Place of each tile in the grid and among the slices, which addresses its noise."""
    inputs, outputs = grid_shape(crossbar.shape, *crossbar.weights.shape[1:])
    index = crossbar.inputs * outputs + crossbar.outputs
    if crossbar.slices == 1:
        return index
    slices = jnp.arange(crossbar.slices, dtype=index.dtype)
    return index + inputs * outputs * jnp.repeat(slices, len(index) // crossbar.slices)


def add_tiles(
    crossbar: Crossbar, currents: Float[Array, "tiles batch cols"]
) -> Float[Array, "batch m"]:
    """Scale converted currents and add those of the same outputs, digitally."""
    outputs = -(-crossbar.shape[0] // crossbar.weights.shape[2])
    sums = accumulate(currents, crossbar.scale, crossbar.outputs, outputs)
    return join_outputs(sums, crossbar.shape[0])


def read_sigma(crossbar: Crossbar) -> Float[Array, ""]:
    """Read noise of one weight: of two cells, or of one that spans twice the range."""
    cells = crossbar.conductance.shape[1]
    gain = 2.0 if cells == 1 else np.sqrt(2.0)
    return jnp.asarray(gain * crossbar.device.sigma_read)


def stored_matrix(crossbar: AbstractCrossbar) -> Float[Array, "m n"]:
    """The matrix that the crossbar multiplies with, read without noise."""
    return crossbar.stored_matrix()
