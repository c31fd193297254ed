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

from ._partition import Matrix, Partition, Vectors, assemble, checked_array, partition
from ._program_stats import ProgramStats, total_stats
from ._tile_source import TileSource
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
    digitise,
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
# What `kernels.write_and_verify` takes and returns.
Scheme = Callable[..., tuple[Float[Array, "polarity rows cols"], WriteStats]]

# Arrays programmed by one call of the compiled loop: a power of two up to this, so that
# matrices of any size share a few compilations and a progress bar has something to show.
_CHUNK = 32


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
    """

    weights: Float[Array, "tiles rows cols"]
    conductance: Float[Array, "tiles polarity rows cols"]
    scale: Float[Array, "tiles cols"]
    inputs: Int[Array, " tiles"]
    outputs: Int[Array, " tiles"]
    device: Device
    shape: tuple[int, int] = eqx.field(static=True)
    slices: int = eqx.field(static=True, default=1)


class DAC(eqx.Module):
    """Digital-to-analog converters of the word lines, `bits` with sign.

    The largest magnitude of each input vector is driven as the full read voltage.
    """

    bits: int = eqx.field(static=True)


class ADC(eqx.Module):
    """Analog-to-digital converters of the bit lines, `bits` with sign.

    - `full_scale`: largest current, in units of the current range of one cell; broadcast
        against (tiles, batch, cols). Without it each tile takes the largest current of
        the call as full scale: an ideal automatic range.
    """

    bits: int = eqx.field(static=True)
    full_scale: Float[Array, "..."] | float | None = None


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
    scheme: Scheme = write_and_verify,
    rule: VerifyRule | None = None,
    progress: Progress | None = None,
    key: PRNGKeyArray,
) -> tuple[Crossbar, ProgramStats]:
    """Program a matrix on crossbar arrays.

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
    - `scheme`: `write_and_verify`, `hadamard_verify`, `gradient_programming` or
        `open_loop`, or a function like them.
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
        scheme=scheme,
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
    scheme: Scheme,
    rule: VerifyRule | None,
    progress: Progress | None,
    key: PRNGKeyArray,
) -> tuple[Crossbar, ProgramStats]:
    """`program`, for a matrix that is checked and cut already."""
    rule = acceptance_band(device) if rule is None else rule
    arguments = _prepare(parts, scaling)
    write = partial(
        _write_tiles, device=device, rule=rule, mapping=mapping, scheme=scheme, key=key
    )
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(arguments)):
        weights, conductance, stats = write(*arguments)
    else:
        weights, conductance, stats = _write_in_chunks(write, arguments, progress)
    crossbar = Crossbar(
        weights,
        conductance,
        arguments[1],
        parts.inputs,
        parts.outputs,
        device,
        parts.shape,
    )
    return crossbar, total_stats(stats, arrays)


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


@partial(jax.jit, static_argnames=("mapping", "scheme"))
def _write_tiles(
    tiles, scale, index, used_rows, used_cols, *, device, rule, mapping, scheme, key
):
    shape = tiles.shape[1:]
    dtype = tiles.dtype

    def write(arguments):
        tile, scale, index, used_rows, used_cols = arguments
        row, col = (lax.broadcasted_iota(jnp.int32, shape, axis) for axis in (0, 1))
        used = (row < used_rows) & (col < used_cols)
        ideal = tile / scale[None, :]
        target = lax.stop_gradient(mapping(ideal))
        response_key, write_key = jr.split(jr.fold_in(key, index))
        state, stats = scheme(
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


def matvec(
    crossbar: Crossbar,
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

    - `crossbar`: from `program`.
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
    y = read(crossbar, jnp.atleast_2d(x), dac, adc, key)
    return y if x.ndim == 2 else y[0]


def check_vector(x, crossbar: Crossbar | Partition | TileSource) -> Float[Array, "*batch n"]:
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
    x = x.astype(crossbar.weights.dtype)
    drive = jnp.max(jnp.abs(x), axis=1, keepdims=True)
    drive = jnp.where(drive == 0, 1, drive)
    voltages = x / drive
    if dac is not None:
        voltages = digitise(voltages, 1.0, bits=dac.bits)
    parts = split_inputs(voltages, rows)[crossbar.inputs]
    outputs = -(-crossbar.shape[0] // crossbar.weights.shape[2])
    index = crossbar.inputs * outputs + crossbar.outputs
    if crossbar.slices > 1:
        count = len(index) // crossbar.slices
        places = outputs * -(-crossbar.shape[1] // rows)
        slices = jnp.arange(crossbar.slices, dtype=index.dtype)
        index = index + places * jnp.repeat(slices, count)
    sigma = read_sigma(crossbar)
    currents = read_tiles(crossbar.weights, parts, sigma, index, key=key)
    if adc is not None:
        full_scale = adc.full_scale
        if full_scale is None:
            full_scale = jnp.max(jnp.abs(currents), axis=(1, 2), keepdims=True)
        full_scale = jnp.asarray(full_scale, currents.dtype)
        currents = digitise(
            currents, jnp.broadcast_to(full_scale, currents.shape), bits=adc.bits
        )
    sums = accumulate(currents, crossbar.scale, crossbar.outputs, outputs)
    return join_outputs(sums, crossbar.shape[0]) * drive


def read_sigma(crossbar: Crossbar) -> Float[Array, ""]:
    """Read noise of one weight: of two cells, or of one that spans twice the range."""
    cells = crossbar.conductance.shape[1]
    gain = 2.0 if cells == 1 else np.sqrt(2.0)
    return jnp.asarray(gain * crossbar.device.sigma_read)


def stored_matrix(crossbar: Crossbar) -> Float[Array, "m n"]:
    """The matrix that the crossbar multiplies with, read without noise."""
    return assemble(crossbar.weights * crossbar.scale[:, None, :], crossbar)
