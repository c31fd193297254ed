"""Tiles side by side along the same word lines, as reads take them."""

import equinox as eqx
from jaxtyping import Array, Float, Int

from .converter_errors import ConverterErrors


class Strips(eqx.Module):
    """Tiles side by side along the same word lines.

    - `weights`: weights that the cells hold, from -1 to 1, one row per bit line.
    - `variance`: variance of each weight, in addition to that of the technology.
    - `higher_order`: weights of the square and the cube of the voltages.
    - `inputs`: index of the voltages that drive the word lines.
    - `start`: index of the output to which the first bit line adds.
    - `number`: number of the word lines, counted over slices; it addresses the noise.
    - `scale`: factor of each bit line, applied after conversion.
    - `full_scale`: full scale of the converter of each bit line, in units of the current
        range of one cell. None for a range that just holds the currents of each tile, of
        each vector anew.
    - `cols`: number of bit lines of one tile. Static.
    - `bits`: bits of the converters, including the sign; None for ideal ones.
    - `paired`: whether each strip spans all outputs, and strips come in pairs of an even
        `number` and the next one. Static.
    - `errors`: of the converters of each bit line; None for ideal ones.
    - `straight`: whether conversion passes gradients to currents and ranges. Static.

    **Example:**

        >>> crossbar = sj.program_exactly(np.eye(4, 6), "epiram", array=(2, 4))
        >>> crossbar.strips.shape, crossbar.weights.shape  # a row for each bit line
        ((3, 4, 2), (3, 2, 4))
    """

    weights: Float[Array, "strips lines rows"]
    variance: Float[Array, "strips lines rows"] | None
    higher_order: Float[Array, "strips lines powers"] | None
    inputs: Int[Array, " strips"]
    start: Int[Array, " strips"]
    number: Int[Array, " strips"]
    scale: Float[Array, "strips lines"]
    full_scale: Float[Array, "strips lines"] | None
    cols: int = eqx.field(static=True)
    bits: Int[Array, " strips"] | None
    paired: bool = eqx.field(static=True)
    errors: ConverterErrors | None = None
    straight: bool = eqx.field(static=True, default=False)


def strips_from_tiles(
    tiles: Float[Array, "tiles rows cols"], width: int
) -> Float[Array, "strips lines rows"]:
    """Lay tiles into strips of `width` tiles, with one row per bit line.

    **Example:**

        >>> tiles = jnp.zeros((4, 2, 3))  # word lines, bit lines
        >>> sj.kernels.strips_from_tiles(tiles, width=2).shape  # 2 strips of 6 bit lines
        (2, 6, 2)
    """
    count, rows, cols = tiles.shape
    return tiles.transpose(0, 2, 1).reshape(count // width, width * cols, rows)


def tiles_from_strips(
    strips: Float[Array, "strips lines rows"], cols: int
) -> Float[Array, "tiles rows {cols}"]:
    """Recover the tiles of strips; the inverse of `strips_from_tiles`.

    **Example:**

        >>> tiles = jnp.arange(24.0).reshape(4, 2, 3)
        >>> strips = sj.kernels.strips_from_tiles(tiles, width=2)
        >>> bool(jnp.all(sj.kernels.tiles_from_strips(strips, cols=3) == tiles))
        True
    """
    count, lines, rows = strips.shape
    return strips.reshape(count * lines // cols, cols, rows).transpose(0, 2, 1)
