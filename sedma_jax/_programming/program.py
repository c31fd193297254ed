"""Program a matrix on crossbar arrays."""

from functools import partial
from typing import Any, Unpack

import equinox as eqx
import jax
import jax.core
import jax.dtypes
import jax.lax as lax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Int, PRNGKeyArray

from .._arguments import check_progress, device_of
from .._crossbar.crossbar import Crossbar
from .._functions import same_function
from .._keys import check_key
from .._tiling.partition import Matrix, Partition, partition
from ..kernels import (
    Device,
    Response,
    WriteStats,
    acceptance_band,
    as_scheme,
    cell_conductance,
    differential,
    draw_response,
    hidden_state,
    nominal_response,
    signed_weights,
    visible_state,
    wide_jit,
)
from .options import Programming, ProgrammingOptions, Progress, Scaling, programming_from
from .program_stats import ProgramStats, total_stats

# Arrays programmed by one call of the compiled loop: a few sizes, so that matrices of any
# size share their compilations and a progress bar has something to show.
_CHUNKS = (1, 8, 32)


def program(
    A: Matrix,
    device: Device | str,
    programming: Programming | None = None,
    *,
    progress: Progress | None = None,
    key: PRNGKeyArray,
    **options: Unpack[ProgrammingOptions],
) -> tuple[Crossbar, ProgramStats]:
    """Program a matrix on crossbar arrays.

    The matrix is cut into tiles; each is scaled, mapped to conductances and programmed
    on an array of its own, whose cells differ by the device-to-device spread. Tiles of a
    sparse matrix that are all zero are not programmed. The noise of a tile depends on
    `key` and on the place of the tile alone. Gradients in `A` pass straight through
    (the error of programming counts as a constant; Bengio et al. 2013, arXiv 1308.3432).
    Gradients in fields of the device are pathwise: those of what the cells end at, draws
    and numbers of pulses held fixed. `open_loop` and, of arrays that read without noise,
    `sampled_rewrite` have them in both modes. Schemes with a loop have them in forward
    mode (`jax.jvp`, `jax.jacfwd`) alone: what a stopping rule ends after an unknown number
    of rounds cannot be run backwards, and `jax.grad` then raises JAX's error of
    `while_loop`.

    **Arguments:**

    - `A`: matrix of any shape `m x n`, dense, scipy sparse or BCOO. Integers convert.
    - `device`: the technology, or the name of one of `sedma_jax.devices.PRESETS`.
    - `programming`, `options`: how; a `Programming`, and its fields as keywords: `array`,
        `arrays`, `mapping`, `scaling`, `scheme` and `rule`.
    - `progress`: called with the tiles done and the tiles in all; not inside `jit`.
    - `key`: typed key of all randomness of programming.

    **Returns:**

    The crossbar, and what programming took.

    **Raises:**

    - `ValueError`: if `A` is empty, complex, not numeric or not two-dimensional, or holds
        NaN or infinity; if `key` is not a typed key; if `device` or an option is of
        another kind or out of range.
    """
    check_key(key)
    device = device_of("program", device)
    check_progress("program", progress)
    how = programming_from("program", programming, **options)
    parts = partition(A, *how.array)
    return program_partition(parts, device, how, progress=progress, key=key)


def program_partition(
    parts: Partition,
    device: Device,
    how: Programming,
    *,
    scaling: Scaling | None = None,
    progress: Progress | None = None,
    key: PRNGKeyArray,
) -> tuple[Crossbar, ProgramStats]:
    """`program`, for a matrix that is checked and cut already.

    `scaling` overrules that of `how`, and may hold arrays.
    """
    scaling = how.scaling if scaling is None else scaling
    scale, index, used_rows, used_cols = _prepare(parts, scaling)
    weights, conductance, stats = program_tiles(
        parts.tiles,
        scale,
        index,
        used_rows,
        used_cols,
        device,
        how,
        progress=progress,
        key=key,
    )
    crossbar = Crossbar(
        strips=weights.reshape(-1, parts.width * weights.shape[1], weights.shape[2]),
        conductance=conductance,
        scale=scale,
        inputs=parts.inputs,
        outputs=parts.outputs,
        device=device,
        shape=parts.shape,
    )
    return crossbar, total_stats(stats, how.arrays)


def program_tiles(
    tiles: Float[Array, "tiles rows cols"],
    scale: Float[Array, "tiles cols"],
    index: Int[Array, " tiles"],
    used_rows: Int[Array, " tiles"],
    used_cols: Int[Array, " tiles"],
    device: Device,
    how: Programming,
    *,
    progress: Progress | None = None,
    key: PRNGKeyArray,
) -> tuple[
    Float[Array, "tiles cols rows"], Float[Array, "tiles polarity rows cols"], WriteStats
]:
    """Weights, conductances and figures of tiles; `index` addresses their noise.

    Weights come a row for each bit line, as a `Crossbar` keeps them.
    """
    rule = acceptance_band(device) if how.rule is None else how.rule
    write = partial(
        _write_tiles,
        device=device,
        rule=rule,
        mapping=how.mapping,
        scheme=as_scheme(how.scheme),
        # Cells without spread share one response.
        spread=not (isinstance(device.sigma_d2d, float) and device.sigma_d2d == 0),
        exact_reads=isinstance(device.sigma_read, float) and device.sigma_read == 0,
        normless=isinstance(rule.tolerance, int | float) and rule.tolerance < 0,
        key=key,
    )
    return _write_in_chunks(write, (tiles, scale, index, used_rows, used_cols), progress)


@eqx.filter_jit
def _prepare(parts, scaling):
    """What `_write_tiles` needs of each tile but its entries."""
    count, rows, cols = parts.tiles.shape
    m, n = parts.shape
    scale = scaling(parts.tiles) if count else jnp.ones((0, cols), parts.tiles.dtype)
    used_rows = jnp.minimum(n - parts.inputs * rows, rows)
    used_cols = jnp.minimum(m - parts.outputs * cols, cols)
    return lax.stop_gradient(scale), parts.index, used_rows, used_cols


def _write_in_chunks(write, arguments, progress):
    """Program some tiles at a time; the last are padded with tiles of no use."""
    count = len(arguments[0])
    chunk = next((size for size in _CHUNKS if count <= size), _CHUNKS[-1])
    pad = -count % chunk if count else chunk
    if pad:
        arguments = tuple(
            jnp.pad(a, ((0, pad),) + ((0, 0),) * (a.ndim - 1), constant_values=c)
            for a, c in zip(arguments, (0, 1, 0, 0, 0), strict=True)
        )
    if count + pad == chunk:
        done = write(*arguments)
        if progress is not None:
            progress(count, count)
    elif any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(arguments)):
        chunks = tuple(a.reshape(-1, chunk, *a.shape[1:]) for a in arguments)
        done = lax.map(lambda part: write(*part), chunks)
        done = jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), done)
    else:
        done: Any = None
        for start in range(0, count, chunk):
            part = write(*_take(arguments, start, chunk))
            held = min(chunk, count - start)
            if held < chunk:
                part = jax.tree.map(lambda a, held=held: a[:held], part)
            if done is None:
                done = jax.tree.map(
                    lambda a: jnp.zeros((count, *a.shape[1:]), a.dtype), part
                )
            done = _place(done, part, start)
            if progress is not None:
                jax.block_until_ready(part)
                progress(min(start + chunk, count), count)
        return done
    return jax.tree.map(lambda a: a[:count], done) if pad else done


@partial(jax.jit, static_argnames="size")
def _take(whole, start, size):
    """Some tiles, by one call."""
    return jax.tree.map(lambda a: lax.dynamic_slice_in_dim(a, start, size), whole)


@partial(jax.jit, donate_argnums=0)
def _place(whole, part, start):
    """Write some tiles into their places, without a second copy of the others."""
    put = lambda a, b: lax.dynamic_update_slice_in_dim(a, b, start, 0)
    return jax.tree.map(put, whole, part)


@partial(
    wide_jit,
    static_argnames=("mapping", "scheme", "spread", "exact_reads", "normless"),
)
def _write_tiles(
    tiles,
    scale,
    index,
    used_rows,
    used_cols,
    *,
    device,
    rule,
    mapping,
    scheme,
    spread,
    exact_reads,
    normless,
    key,
):
    # What is known to be absent when the program is traced takes no time when it runs.
    if exact_reads:
        device = eqx.tree_at(lambda d: d.sigma_read, device, 0.0)
    if normless:
        rule = eqx.tree_at(lambda r: r.tolerance, rule, -1.0)
    rows, cols = tiles.shape[1:]
    row, col = (jnp.arange(size, dtype=jnp.int32) for size in (rows, cols))
    keys = jax.vmap(lambda place: jr.split(jr.fold_in(key, place)))(index)
    one = jax.ShapeDtypeStruct((rows, cols), tiles.dtype)
    # Of a differential pair at most one cell is written.
    pairs = same_function(mapping, differential, one)
    polarity = jax.eval_shape(mapping, one).shape[0]
    response = _responses(device, (polarity, rows, cols), tiles.dtype, pairs, spread, keys)

    def used_cells(used_rows, used_cols):
        return (row < used_rows)[:, None] & (col < used_cols)[None]

    def aim(tile, scale, used_rows, used_cols):
        """States to reach, and where."""
        target = mapping(lax.stop_gradient(tile / scale[None]))
        return target, used_cells(used_rows, used_cols)

    def present(state, tile, scale, used_rows, used_cols):
        """Weights of the states that were reached, a row for each bit line."""
        used = used_cells(used_rows, used_cols)
        weights = jnp.where(used, signed_weights(visible_state(state, device)), 0)
        return _straight_through(weights, tile / scale[None]).T

    def write(arguments):
        tile, own, key = arguments
        target, used = aim(*tile)
        cells = own if spread else response
        state, stats = scheme(
            target, jnp.zeros_like(target), used, device, cells, rule, key=key
        )
        return present(state, *tile), state, stats

    # One by one: a tile stays in the cache, and in a loop over all tiles the compiler
    # would round by their number.
    each = tiles, scale, used_rows, used_cols
    if scheme.several is not None:
        target, used = jax.vmap(aim)(*each)
        state, stats = scheme.arrays(
            target, jnp.zeros_like(target), used, device, response, rule, key=keys[:, 1]
        )
        weights = lax.map(lambda tile: present(*tile), (state, *each))
    else:
        own = response if spread else None
        weights, state, stats = lax.map(write, (each, own, keys[:, 1]))
    ideal = tiles / scale[:, None]
    # As with the weights: effects that start from the conductances keep the gradient.
    still = lax.stop_gradient(device)
    wish = cell_conductance(hidden_state(jax.vmap(mapping)(ideal), still), still)
    return weights, _straight_through(cell_conductance(state, device), wish), stats


def _responses(device, shape, dtype, pairs, spread, keys):
    """The response of the cells: one for all, or drawn for each cell of each array."""
    if not spread:
        shared = nominal_response(device, dtype)
        return Response(shared.ltp, shared.ltd, shared if pairs else None)

    def draw(key):
        cells = draw_response(device, shape, dtype, key=key)
        folded = draw_response(device, (1, *shape[1:]), dtype, key=key) if pairs else None
        return Response(cells.ltp, cells.ltd, folded)

    return jax.vmap(draw)(keys[:, 0])


@jax.custom_jvp
def _straight_through(value, wish):
    """`value`, with the derivative of `wish` added, computed only if asked for.

    `value` itself depends on the device, and not on the matrix, which `aim` holds still.
    """
    del wish
    return value


_straight_through.defjvps(
    lambda tangent, out, value, wish: tangent, lambda tangent, out, value, wish: tangent
)
