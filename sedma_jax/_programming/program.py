"""Program a matrix on crossbar arrays."""

from functools import partial
from typing import Any, Unpack

import equinox as eqx
import jax
import jax.core
import jax.dtypes
import jax.lax as lax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from .._arguments import check_progress, device_of
from .._crossbar.crossbar import Crossbar
from .._functions import on_device, on_host, same_function
from .._keys import check_key
from .._mappings import forgettable, leave_room
from .._tiling.partition import Matrix, Partition, partition
from ..kernels import (
    Count,
    Device,
    Response,
    WriteStats,
    acceptance_band,
    as_count,
    as_scheme,
    cell_conductance,
    column_scale,
    differential,
    draw_response,
    fold_in_count,
    global_scale,
    hidden_state,
    nominal_response,
    signed_weights,
    split_in_two,
    tile_scale,
    visible_state,
    wide_jit,
)
from .chunks import pad_tiles, padded_count, tile_scales, write_in_chunks
from .options import Programming, ProgrammingOptions, Progress, Scaling, programming_from
from .program_stats import ProgramStats, total_stats

_OUR_SCALINGS = (global_scale, tile_scale, column_scale)


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
    - `device`: the technology, or the name of one of `sedma_jax.devices.PULSED`.
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

    **Example:**

        >>> A = np.array([[1.0, 2.0], [3.0, 4.0]])
        >>> crossbar, stats = sj.program(A, "epiram", array=4, key=jr.key(0))
        >>> error = jnp.abs(sj.stored_matrix(crossbar) - A)
        >>> bool(jnp.max(error) < 0.01 * 4), int(stats.pulses) > 0
        (True, True)
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
    leave_room()
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
    lines, rows = parts.width * weights.shape[1], weights.shape[2]
    crossbar = Crossbar(
        strips=weights.reshape(-1, lines, rows),
        conductance=conductance,
        scale=on_device(scale),
        inputs=on_device(parts.inputs),
        outputs=on_device(parts.outputs),
        device=device,
        shape=parts.shape,
    )
    return crossbar, total_stats(stats, how.arrays)


def program_tiles(
    tiles: Float[Array | np.ndarray, "tiles rows cols"],
    scale: Float[Array | np.ndarray, "tiles cols"],
    index: Count | Int[Array | np.ndarray, " tiles"],
    used_rows: Int[Array | np.ndarray, " tiles"],
    used_cols: Int[Array | np.ndarray, " tiles"],
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
    places = as_count(index)
    return write_in_chunks(write, (tiles, scale, places, used_rows, used_cols), progress)


def _prepare(parts: Partition, scaling: Scaling) -> tuple[Any, ...]:
    """What `_write_tiles` needs of each tile but its entries."""
    count, rows, cols = parts.tiles.shape
    m, n = parts.shape
    host = on_host(parts)
    tiles, whole = parts.tiles, count
    if host:
        parts = jax.tree.map(np.asarray, parts)
        # Filled up with zeros, which change none of our scales, tiles of many counts share
        # a program. A scaling of the user's sees the tiles that there are.
        if any(scaling is known for known in _OUR_SCALINGS):
            whole = padded_count(count)
            tiles = tiles if whole == count else parts.tiles
    scale = tile_scales(pad_tiles(tiles, whole), scaling)
    if on_host(scale):
        scale = np.asarray(scale)
    xp = np if host else jnp
    used_rows = xp.minimum(n - parts.inputs * rows, rows)
    used_cols = xp.minimum(m - parts.outputs * cols, cols)
    return scale[:count], parts.index, used_rows, used_cols


@forgettable
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
    cell_keys, write_keys = jax.vmap(lambda place: split_in_two(fold_in_count(key, place)))(
        index
    )
    one = jax.ShapeDtypeStruct((rows, cols), tiles.dtype)
    # Of a differential pair at most one cell is written.
    pairs = same_function(mapping, differential, one)
    polarity = jax.eval_shape(mapping, one).shape[0]
    response = _responses(
        device, (polarity, rows, cols), tiles.dtype, pairs, spread, cell_keys
    )

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
            target, jnp.zeros_like(target), used, device, response, rule, key=write_keys
        )
        weights = lax.map(lambda tile: present(*tile), (state, *each))
    else:
        own = response if spread else None
        weights, state, stats = lax.map(write, (each, own, write_keys))
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

    return jax.vmap(draw)(keys)


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
