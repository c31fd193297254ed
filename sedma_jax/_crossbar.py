"""Program a matrix on crossbar arrays, and multiply by it."""

from collections.abc import Callable
from functools import partial

import equinox as eqx
import jax
import jax.core
import jax.dtypes
import jax.lax as lax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ._abstract_crossbar import AbstractCrossbar
from ._converters import ADC, DAC, convert, drive_lines
from ._partition import Matrix, Partition, assemble, checked_array, partition
from .kernels import (
    Device,
    Response,
    VerifyRule,
    WriteStats,
    acceptance_band,
    accumulate,
    cell_conductance,
    column_scale,
    differential,
    draw_response,
    join_outputs,
    nominal_response,
    read_tiles,
    signed_weights,
    split_inputs,
    visible_state,
    write_and_verify,
)

Scaling = Callable[[Float[Array, "tiles rows cols"]], Float[Array, "tiles cols"]]
Mapping = Callable[[Float[Array, "rows cols"]], Float[Array, "polarity rows cols"]]
Progress = Callable[[int, int], None]

# Arrays programmed by one call of the compiled loop: a power of two up to this, so that
# matrices of any size share a few compilations and a progress bar has something to show.
_CHUNK = 32


class Crossbar(AbstractCrossbar):
    """A matrix as the crossbar arrays hold it.

    - `weights`: what each tile multiplies with, signed, in units of its scale.
    - `conductance`: of every cell, in siemens; one cell a weight, or a positive and a
        negative one.
    - `scale`: factor of each bit line, applied after conversion.
    - `inputs`, `outputs`: place of each tile in the grid.
    - `device`: the technology.
    - `shape`: of the matrix.
    """

    weights: Float[Array, "tiles rows cols"]
    conductance: Float[Array, "tiles polarity rows cols"]
    scale: Float[Array, "tiles cols"]
    inputs: Int[Array, " tiles"]
    outputs: Int[Array, " tiles"]
    device: Device
    shape: tuple[int, int] = eqx.field(static=True)

    def read(self, x, dac, adc, key):
        return read(self, x, dac, adc, key)

    def stored_matrix(self):
        return assemble(self.weights * self.scale[:, None, :], self)


class ProgramStats(eqx.Module):
    """What programming a matrix took.

    - `per_array`: the figures of each tile, in the order of `Crossbar.weights`.
    - `pulses`: write pulses.
    - `energy`: joules, of pulses and of verify reads.
    - `latency`: seconds. Arrays work side by side; where there are fewer arrays than
        tiles they are used again, pass after pass, and a pass lasts as long as its
        slowest array.
    - `write_energy`, `write_latency`: the share of the pulses.
    - `passes`: times that the arrays were used.
    """

    per_array: WriteStats
    pulses: Float[Array, ""]
    energy: Float[Array, ""]
    latency: Float[Array, ""]
    write_energy: Float[Array, ""]
    write_latency: Float[Array, ""]
    passes: int = eqx.field(static=True)


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


def program(
    A: Matrix,
    device: Device,
    *,
    array: tuple[int, int] = (256, 256),
    arrays: int | None = None,
    mapping: Mapping = differential,
    scaling: Scaling = column_scale,
    rule: VerifyRule | None = None,
    progress: Progress | None = None,
    key: PRNGKeyArray,
) -> tuple[Crossbar, ProgramStats]:
    """Program a matrix on crossbar arrays by closed-loop write-and-verify.

    The matrix is cut into tiles; each is scaled, mapped to conductances and programmed
    on an array of its own, whose cells differ by the device-to-device spread. Tiles of a
    sparse matrix that are all zero are not programmed. The noise of a tile depends on
    `key` and on the place of the tile alone. Gradients in `A` pass straight through
    (the error of programming counts as a constant; Bengio et al. 2013, arXiv 1308.3432).

    **Arguments:**

    - `A`: matrix of any shape `m x n`, dense, scipy sparse or BCOO. Integers convert.
    - `device`: the technology; see `sedma_jax.devices`.
    - `array`: word lines (inputs) and bit lines (outputs) of one array.
    - `arrays`: arrays there are; as many as there are tiles if left out.
    - `mapping`: `differential` (two cells a weight) or `offset` (one).
    - `scaling`: `global_scale`, `tile_scale` or `column_scale`.
    - `rule`: `acceptance_band(device)` if left out, or `stagnation()`.
    - `progress`: called with the tiles done and the tiles in all; not inside `jit`.
    - `key`: typed key of all randomness of programming.

    **Returns:**

    The crossbar, and what programming took.

    **Raises:**

    - `ValueError`: if `A` is empty, complex, not numeric or not two-dimensional, or holds
        NaN or infinity; if `key` is not a typed key; if `arrays < 1`.
    """
    check_key(key)
    if arrays is not None and arrays < 1:
        raise ValueError(f"`sedma_jax.program` needs `arrays >= 1`. Got {arrays=}.")
    return program_partition(
        partition(A, *array),
        device,
        arrays=arrays,
        mapping=mapping,
        scaling=scaling,
        rule=rule,
        progress=progress,
        key=key,
    )


def program_partition(
    parts: Partition,
    device: Device,
    *,
    arrays: int | None,
    mapping: Mapping,
    scaling: Scaling,
    rule: VerifyRule | None,
    progress: Progress | None,
    key: PRNGKeyArray,
) -> tuple[Crossbar, ProgramStats]:
    """`program`, for a matrix that is checked and cut already."""
    arguments = _prepare(parts, scaling)
    weights, conductance, stats = program_tiles(
        *arguments, device, mapping=mapping, rule=rule, progress=progress, key=key
    )
    crossbar = Crossbar(
        weights,
        conductance,
        arguments[1],
        parts.inputs,
        parts.outputs,
        device,
        parts.shape,
    )
    return crossbar, _total(stats, arrays)


def program_tiles(
    tiles: Float[Array, "tiles rows cols"],
    scale: Float[Array, "tiles cols"],
    index: Int[Array, " tiles"],
    used_rows: Int[Array, " tiles"],
    used_cols: Int[Array, " tiles"],
    device: Device,
    *,
    mapping: Mapping,
    rule: VerifyRule | None,
    progress: Progress | None,
    key: PRNGKeyArray,
) -> tuple[
    Float[Array, "tiles rows cols"], Float[Array, "tiles polarity rows cols"], WriteStats
]:
    """Weights, conductances and figures of tiles; `index` addresses their noise."""
    rule = acceptance_band(device) if rule is None else rule
    arguments = (tiles, scale, index, used_rows, used_cols)
    write = partial(_write_tiles, device=device, rule=rule, mapping=mapping, key=key)
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(arguments)):
        return write(*arguments)
    return _write_in_chunks(write, arguments, progress)


@partial(jax.jit, static_argnames=("scaling",))
def _prepare(parts, scaling):
    """What `_write_tiles` needs of each tile."""
    count, rows, cols = parts.tiles.shape
    m, n = parts.shape
    scale = scaling(parts.tiles) if count else jnp.ones((0, cols), parts.tiles.dtype)
    used_rows = jnp.minimum(n - parts.inputs * rows, rows)
    used_cols = jnp.minimum(m - parts.outputs * cols, cols)
    return parts.tiles, lax.stop_gradient(scale), parts.index, used_rows, used_cols


def _write_in_chunks(write, arguments, progress):
    """Program some tiles at a time; the last call is padded with tiles of no use."""
    count = len(arguments[0])
    chunk = min(_CHUNK, 1 << max(count - 1, 0).bit_length())
    pad = -count % chunk if count else chunk
    if pad:
        arguments = [
            jnp.pad(a, ((0, pad),) + ((0, 0),) * (a.ndim - 1), constant_values=c)
            for a, c in zip(arguments, (0, 1, 0, 0, 0), strict=True)
        ]
    done = []
    for start in range(0, count + pad, chunk):
        done.append(write(*(a[start : start + chunk] for a in arguments)))
        if progress is not None:
            jax.block_until_ready(done[-1])
            progress(min(start + chunk, count), count)
    if len(done) == 1 and not pad:
        return done[0]
    return jax.tree.map(lambda *parts: jnp.concatenate(parts)[:count], *done)


@partial(jax.jit, static_argnames=("mapping",))
def _write_tiles(tiles, scale, index, used_rows, used_cols, *, device, rule, mapping, key):
    shape = tiles.shape[1:]
    dtype = tiles.dtype

    def write(arguments):
        tile, scale, index, used_rows, used_cols = arguments
        rows, cols = (jnp.arange(size, dtype=jnp.int32) for size in shape)
        used = (rows < used_rows)[:, None] & (cols < used_cols)[None]
        ideal = tile / scale[None]
        target = lax.stop_gradient(mapping(ideal))
        response_key, write_key = jr.split(jr.fold_in(key, index))
        state, stats = write_and_verify(
            target,
            jnp.zeros_like(target),
            used,
            device,
            array_response(device, target.shape, dtype, key=response_key),
            rule,
            key=write_key,
        )
        weights = signed_weights(visible_state(state, device).astype(dtype))
        weights = ideal + lax.stop_gradient(jnp.where(used, weights, 0) - ideal)
        return weights, cell_conductance(state, device).astype(dtype), stats

    return lax.map(write, (tiles, scale, index, used_rows, used_cols))


def array_response(
    device: Device, shape: tuple[int, ...], dtype: jnp.dtype, *, key: PRNGKeyArray
) -> Response:
    """Draw the device-to-device spread of one array, if there is any."""
    return lax.cond(
        jnp.asarray(device.sigma_d2d) > 0,
        lambda: draw_response(device, shape, dtype, key=key),
        lambda: jax.tree.map(
            lambda u: jnp.broadcast_to(u, shape), nominal_response(device, dtype)
        ),
    )


@partial(jax.jit, static_argnames=("arrays",))
def _total(stats: WriteStats, arrays: int | None) -> ProgramStats:
    count = len(stats.pulses)
    arrays = max(count if arrays is None else min(arrays, count), 1)
    passes = -(-count // arrays)

    def last(latency):
        padded = jnp.pad(latency, (0, passes * arrays - count))
        return jnp.sum(jnp.max(padded.reshape(passes, arrays), axis=1))

    energy = stats.write_energy + stats.verify_energy
    return ProgramStats(
        stats,
        jnp.sum(stats.pulses.astype(stats.write_energy.dtype)),
        jnp.sum(energy),
        last(stats.write_latency + stats.verify_latency),
        jnp.sum(stats.write_energy),
        last(stats.write_latency),
        passes,
    )


def matvec(
    crossbar: AbstractCrossbar,
    x: Float[Array, "*batch n"],
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


def check_vector(x, crossbar: AbstractCrossbar | Partition) -> Float[Array, "*batch n"]:
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
    rows = crossbar.weights.shape[1]
    voltages, drive = drive_lines(x.astype(crossbar.weights.dtype), dac)
    parts = split_inputs(voltages, rows)[crossbar.inputs]
    outputs = -(-crossbar.shape[0] // crossbar.weights.shape[2])
    index = crossbar.inputs * outputs + crossbar.outputs
    sigma = read_sigma(crossbar)
    currents = read_tiles(crossbar.weights, parts, sigma, index, key=key)
    currents = convert(currents, adc)
    sums = accumulate(currents, crossbar.scale, crossbar.outputs, outputs)
    return join_outputs(sums, crossbar.shape[0]) * drive


def read_sigma(crossbar: Crossbar) -> Float[Array, ""]:
    """Read noise of one weight: of two cells, or of one that spans twice the range."""
    cells = crossbar.conductance.shape[1]
    gain = 2.0 if cells == 1 else np.sqrt(2.0)
    return jnp.asarray(gain * crossbar.device.sigma_read)


def stored_matrix(crossbar: AbstractCrossbar) -> Float[Array, "m n"]:
    """The matrix that the crossbar multiplies with, read without noise."""
    return crossbar.stored_matrix()
