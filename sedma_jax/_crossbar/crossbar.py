"""A matrix on crossbar arrays, and its analog product."""

import dataclasses
import math
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from .._functions import on_device, on_host
from .._keys import check_key
from .._mappings import forgettable, leave_room
from .._tiling.partition import (
    Partition,
    Vectors,
    assemble,
    checked_array,
    grid_place,
)
from .._tiling.tile_source import TileSource
from ..kernels import (
    Count,
    Device,
    Strips,
    add_counts,
    as_count,
    check_kind,
    grid_shape,
    join_outputs,
    read_strips,
    split_inputs,
    strip_currents,
    tiles_from_strips,
    wide_jit,
)
from .abstract_crossbar import AbstractCrossbar, check_readable
from .converters import ADC, DAC, drive_lines, largest_inputs
from .line_converters import line_errors, line_ranges


class Crossbar(eqx.Module):
    """A matrix as the crossbar arrays hold it.

    - `strips`: what each tile multiplies with, signed, in units of its scale, in the
        layout that `matvec` reads fastest: tiles on the same word lines side by side, a
        row for each bit line. `weights` has the same as tiles.
    - `conductance`: of every cell, in siemens; one cell a weight, or a positive and a
        negative one.
    - `scale`: factor of each bit line, applied after conversion.
    - `inputs`, `outputs`: place of each tile in the grid.
    - `device`: the technology.
    - `shape`: of the matrix.
    - `slices`: arrays at each place, whose products add up; one after another in the
        order of tiles.
    - `read_variance`: of each weight, on top of the device's, laid out like `strips`;
        from `with_read_noise`.
    - `higher_order`: weights of the square of the voltages, then of the cube, laid out
        like `strips`; from `with_nonlinear_current`.

    **Example:**

        >>> crossbar = sj.program_exactly(np.ones((5, 7)), "epiram", array=(4, 4))
        >>> crossbar.shape, crossbar.conductance.shape  # 2 x 2 tiles of pairs of cells
        ((5, 7), (4, 2, 4, 4))
    """

    strips: Float[Array, "strips lines rows"]
    conductance: Float[Array, "tiles polarity rows cols"]
    scale: Float[Array, "tiles cols"]
    inputs: Int[Array, " tiles"]
    outputs: Int[Array, " tiles"]
    device: Device
    shape: tuple[int, int] = eqx.field(static=True)
    slices: int = eqx.field(static=True, default=1)
    read_variance: Float[Array, "strips lines rows"] | None = None
    higher_order: Float[Array, "strips lines powers"] | None = None

    @property
    def weights(self) -> Float[Array, "tiles rows cols"]:
        """`strips`, cut into tiles."""
        return tiles_from_strips(self.strips, self.array[1])

    @property
    def array(self) -> tuple[int, int]:
        """Word lines and bit lines of one array."""
        return self.conductance.shape[2], self.conductance.shape[3]

    @property
    def dtype(self):
        """Of the weights, and of results."""
        return self.strips.dtype

    def read(self, x, dac, adc, key):
        # A call of few vectors makes few draws, and its start counts.
        compiled = read if len(x) > 4 else read.plain
        quiet = is_quiet(self)
        # Errors are of each input: none is added to these.
        whole = dac is None or dac.errors is None
        if not (whole and on_host((self, x, dac, adc, key))):
            return compiled(self, x, dac, adc, key, quiet=quiet)
        (batch, n), (m, _), (rows, cols) = x.shape, self.shape, self.array
        # A program serves all matrices of as many arrays, and all batches of a bucket.
        shape = _lines_read(m, cols, quiet), _lines_read(n, rows, quiet)
        vectors = batch if quiet else batch_bucket(batch)
        if shape == self.shape and vectors == batch:
            return compiled(self, x, dac, adc, key, quiet=quiet)
        padded = np.zeros((vectors, shape[1]), self.dtype)
        padded[:batch, :n] = x
        filled, drive = dataclasses.replace(self, shape=shape), largest_inputs(padded, np)
        args = on_device(padded), dac, adc, key, on_device(drive)
        y = compiled(filled, *args, quiet=quiet)
        return on_device(np.asarray(y)[:batch, :m])

    def stored_matrix(self):
        return assemble(self.weights * self.scale[:, None, :], self)


def check_crossbar(call: str, **crossbars: Crossbar) -> None:
    """Refuse what is no `Crossbar`, for the public function `call`; banks have one each."""
    for name, value in crossbars.items():
        if not isinstance(value, Crossbar):
            banks = hasattr(type(value), "stored_matrix")
            remedy = (
                "Call it for the `crossbar` of each of its `banks`."
                if banks
                else "`crossbar, stats = sedma_jax.program(A, device, key=key)` makes one."
            )
            check_kind(
                f"sedma_jax.{call}", Crossbar, "a `Crossbar`", remedy, **{name: value}
            )


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
        numbers; if `key` is not a typed key; if `crossbar` or a converter is none.

    **Example:**

        >>> A, x = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([1.0, 1.0])
        >>> crossbar, _ = sj.program(A, "epiram", array=4, key=jr.key(0))
        >>> y = sj.matvec(crossbar, x, key=jr.key(1))
        >>> bool(jnp.all(jnp.abs(y - A @ x) < 0.02 * np.sum(A, axis=1)))  # 3 and 7
        True
    """
    check_key(key)
    check_readable("matvec", crossbar, dac, adc)
    x = check_vector(x, crossbar)
    leave_room()
    # Through the class: of a bound method equinox would make a pytree at every call. And
    # a reshape starts faster than an index.
    y = type(crossbar).read(crossbar, x.reshape(-1, x.shape[-1]), dac, adc, key)
    return y if x.ndim == 2 else y.reshape(-1)


def check_vector(
    x, crossbar: AbstractCrossbar | Partition | TileSource | Float[Array, "m n"]
) -> Float[Array, "*batch n"]:
    """Check `x` against the matrix: its entries, its size, and what its dtype can hold."""
    held = crossbar.tiles if isinstance(crossbar, Partition) else crossbar
    dtype = getattr(held, "dtype", None)
    x = checked_array(x, "x", ndim=(1, 2), vectors=True, dtype=dtype)
    m, n = crossbar.shape
    if x.shape[-1] != n:
        raise ValueError(
            f"`x` needs {n} entries to multiply a matrix of shape {(m, n)}. "
            f"Got shape {x.shape}. Batches come first: (batch, {n})."
        )
    return x


def is_quiet(crossbar: Crossbar) -> bool:
    """Whether reads are known to have no noise; then no code for it is compiled."""
    sigma = crossbar.device.sigma_read
    return crossbar.read_variance is None and isinstance(sigma, float) and sigma == 0


def _lines_read(used: int, lines: int, quiet: bool) -> int:
    """Word lines or bit lines to read, of arrays with so many `lines`.

    Those beyond the used ones add nothing. But where reads have noise they would widen an
    automatic range of the converters, so that a matrix smaller than an array has none.
    """
    if used >= lines:
        return -(-used // lines) * lines
    return min(lines, 1 << (used - 1).bit_length()) if quiet else used


def batch_bucket(batch: int) -> int:
    """The size from 1, 2, 4, 6, 8, 12, 16, 24, ... up that holds a batch.

    The first batch of a size takes a second to compile where reads draw noise.
    """
    whole = 1 << max(batch - 1, 0).bit_length()
    return whole * 3 // 4 if whole >= 8 and batch <= whole * 3 // 4 else whole


@forgettable
@partial(wide_jit, static_argnames="quiet")
def read(
    crossbar: Crossbar,
    x: Float[Array, "batch n"],
    dac: DAC | None,
    adc: ADC | None,
    key: PRNGKeyArray,
    drive: Float[Array, "batch 1"] | None = None,
    *,
    quiet: bool = False,
) -> Float[Array, "batch m"]:
    """`matvec`, for vectors that are checked already.

    `drive` is what `largest_inputs` returns, where that is known.
    """
    voltages, drive = drive_lines(x.astype(crossbar.dtype), dac, drive, key=key)
    (m, n), (rows, cols) = crossbar.shape, crossbar.array
    rows, cols = min(rows, n), min(cols, m)
    strips = _cropped(laid_strips(crossbar, adc), rows, cols)
    lines = -(-m // cols) * cols
    parts = split_inputs(voltages, rows)
    sigma = 0.0 if quiet else read_sigma(crossbar)
    y = read_strips(strips, parts, sigma, lines, key=key)
    return y[:, :m] * drive


def _cropped(strips: Strips, rows: int, cols: int) -> Strips:
    """Strips without the lines that a matrix smaller than an array leaves unused.

    No unused bit line is converted, and no unused word line is driven.
    """
    count, lines, held = strips.weights.shape
    if (rows, cols) == (held, strips.cols):
        return strips
    # A matrix narrower than an array has one tile to a strip.
    lines = cols if cols < strips.cols else lines
    cut = lambda array: None if array is None else array[:, :lines, :rows]
    higher_order = strips.higher_order
    if higher_order is not None:
        powers = higher_order[:, :lines].reshape(count, lines, -1, held)
        higher_order = powers[..., :rows].reshape(count, lines, -1)
    along = lambda array: None if array is None else array[:, :lines]
    errors = strips.errors
    if errors is not None:
        fields = jax.tree.map(along, dataclasses.replace(errors, search=None))
        errors = dataclasses.replace(fields, search=errors.search)
    return dataclasses.replace(
        strips,
        weights=cut(strips.weights),
        variance=cut(strips.variance),
        higher_order=higher_order,
        scale=along(strips.scale),
        full_scale=along(strips.full_scale),
        cols=cols,
        errors=errors,
    )


def tile_currents(
    crossbar: Crossbar, voltages: Float[Array, "batch n"], *, key: PRNGKeyArray
) -> Float[Array, "tiles batch cols"]:
    """Bit-line currents of every tile, in units of the current range of one cell."""
    rows, cols = crossbar.array
    parts, sigma = split_inputs(voltages, rows), read_sigma(crossbar)
    currents = strip_currents(laid_strips(crossbar, None), parts, sigma, key=key)
    count, batch, _ = currents.shape
    width = currents.shape[2] // cols
    tiles = currents.reshape(count, batch, width, cols).transpose(0, 2, 1, 3)
    return tiles.reshape(count * width, batch, cols)


def laid_strips(crossbar: Crossbar, adc: ADC | None) -> Strips:
    """What the kernels read of a crossbar."""
    rows, cols = crossbar.array
    count, lines, _ = crossbar.strips.shape
    width = lines // cols
    inputs = crossbar.inputs[::width]
    # Of slices each has word lines of its own, and begins with an even number of them.
    blocks, outputs = grid_shape(crossbar.shape, rows, cols)
    whole = width == outputs and count == blocks * crossbar.slices
    slices = jnp.arange(crossbar.slices, dtype=inputs.dtype)
    numbers = blocks + blocks % 2
    number = inputs + numbers * jnp.repeat(slices, count // crossbar.slices)
    lay = crossbar.scale, (count, lines)
    return Strips(
        weights=crossbar.strips,
        variance=crossbar.read_variance,
        higher_order=crossbar.higher_order,
        inputs=inputs,
        start=crossbar.outputs[::width] * cols,
        number=number,
        scale=crossbar.scale.reshape(count, lines),
        full_scale=None if adc is None else line_ranges(adc, *lay),
        cols=cols,
        bits=None if adc is None else jnp.broadcast_to(adc.bits, (count,)),
        paired=whole and blocks % 2 == 0,
        errors=None if adc is None else line_errors(adc, *lay),
        straight=adc is not None and adc.learned,
    )


def tile_index(crossbar: Crossbar) -> Count:
    """Place of each tile in the grid and among the slices, which addresses its noise."""
    grid = grid_shape(crossbar.shape, *crossbar.array)
    index = grid_place(crossbar.inputs, crossbar.outputs, grid)
    if crossbar.slices == 1:
        return index
    before = [grid[0] * grid[1] * number for number in range(crossbar.slices)]
    return add_counts(index, as_count(np.repeat(before, len(index) // crossbar.slices)))


def add_tiles(
    crossbar: Crossbar, currents: Float[Array, "tiles batch cols"]
) -> Float[Array, "batch m"]:
    """Scale converted currents and add those of the same outputs, digitally."""
    outputs = -(-crossbar.shape[0] // crossbar.array[1])
    scaled = currents * crossbar.scale[:, None, :]
    sums = jax.ops.segment_sum(scaled, crossbar.outputs, outputs)
    return join_outputs(sums, crossbar.shape[0])


def read_sigma(crossbar: Crossbar) -> Float[Array, ""]:
    """Read noise of one weight: of two cells, or of one that spans twice the range."""
    cells = crossbar.conductance.shape[1]
    gain = 2.0 if cells == 1 else math.sqrt(2.0)
    return jnp.asarray(gain * crossbar.device.sigma_read)


def stored_matrix(crossbar: AbstractCrossbar) -> Float[Array, "m n"]:
    """The matrix that the crossbar multiplies with, read without noise and converters.

    **Arguments:**

    - `crossbar`: from any function that programs.

    **Returns:**

    `A~`, `(m, n)`, in the unit of `A`, every effect on conductances included.

    **Raises:**

    - `ValueError`: if `crossbar` is none.

    **Example:**

        >>> A = np.array([[1.0, 2.0], [3.0, 4.0]])
        >>> crossbar, _ = sj.program(A, "epiram", array=4, key=jr.key(0))
        >>> error = jnp.abs(sj.stored_matrix(crossbar) - A)
        >>> bool(jnp.max(error) < 0.01 * 4)
        True
    """
    check_readable("stored_matrix", crossbar)
    return crossbar.stored_matrix()


def stored_on_host(crossbar: Crossbar) -> np.ndarray:
    """`stored_matrix` of a crossbar that is known, without a compiled program."""
    rows, cols = crossbar.array
    m, n = crossbar.shape
    inputs, outputs = grid_shape((m, n), rows, cols)
    strips, scale, *places = (
        np.asarray(v)
        for v in (crossbar.strips, crossbar.scale, crossbar.inputs, crossbar.outputs)
    )
    blocks = np.zeros((outputs, cols, inputs, rows), strips.dtype)
    tiles = strips.reshape(-1, cols, rows) * scale[:, :, None]
    for tile, along, across in zip(tiles, *places, strict=True):
        if across < outputs:  # others fill up a chunk
            blocks[across, :, along] += tile
    return blocks.reshape(outputs * cols, inputs * rows)[:m, :n]
