"""Program arrays by closed-loop write-and-verify, cell by cell.

Every round reads each unfinished cell back, works out how many identical pulses should
close the distance to its target, and applies them; pulses land with cycle-to-cycle noise,
so rounds repeat until a stopping rule holds. Targets and readings are *visible* states: the
read current through the access transistor as a fraction of its range, which is what a sense
amplifier sees. A cell that once reads right is left alone.

The last cells of an array take several times the rounds of the average one. So that the
work follows the unfinished cells, each row is packed to its unfinished cells as they
become fewer. Packing changes no number: the noise of a cell is addressed by its place in
the array and the round.
"""

from functools import partial

import equinox as eqx
import jax
import jax.lax as lax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float, Int, Key, PRNGKeyArray, UInt

from ._closed_loop import (
    VerifyRule,
    WriteStats,
    cell_conductance,
    pulses_for,
    visible_state,
)
from ._device import Device
from ._pulse import Response, move_state
from ._random import normal_at

# Shares of a row that unfinished cells are packed to. Three loops compile.
_PACKED = (8, 64)


class _Lanes(eqx.Module):
    """Cells side by side, by array and row."""

    target: Float[Array, "arrays rows lanes"]
    state: Float[Array, "arrays rows lanes"]
    pulses: Float[Array, "arrays rows lanes"]
    pending: Bool[Array, "arrays rows lanes"]
    cell: UInt[Array, "arrays rows lanes"]
    response: Response


class _Progress(eqx.Module):
    """Where each array stands; `settled` is the squared error of its finished cells."""

    alive: Bool[Array, " arrays"]
    settled: Float[Array, " arrays"]
    norm: Float[Array, " arrays"]
    widest: Int[Array, " arrays"]
    stats: WriteStats


def write_and_verify(
    target: Float[Array, "polarity rows cols"],
    initial: Float[Array, "polarity rows cols"],
    used: Bool[Array, "rows cols"],
    device: Device,
    response: Response,
    rule: VerifyRule,
    *,
    key: PRNGKeyArray,
) -> tuple[Float[Array, "polarity rows cols"], WriteStats]:
    """Program one array, of one cell a weight or of two, in closed loop.

    **Arguments:**

    - `target`: visible states to reach, from 0 to 1.
    - `initial`: states of the cells before, from 0 to 1.
    - `used`: the weights that hold a matrix entry; other cells are left alone.
    - `device`, `response`: the technology, and the curvature of each cell.
    - `rule`: stopping rule.
    - `key`: key of the cycle-to-cycle and verify-read noise of this array.

    **Returns:**

    The states reached, from 0 to 1, and what it took.
    """
    response = jax.tree.map(lambda u: u[None] if u.ndim else u, response)
    state, stats = write_and_verify_arrays(
        target[None], initial[None], used[None], device, response, rule, key=key[None]
    )
    return state[0], jax.tree.map(lambda figure: figure[0], stats)


def write_and_verify_arrays(
    target: Float[Array, "arrays polarity rows cols"],
    initial: Float[Array, "arrays polarity rows cols"],
    used: Bool[Array, "arrays rows cols"],
    device: Device,
    response: Response,
    rule: VerifyRule,
    *,
    key: Key[Array, " arrays"],
) -> tuple[Float[Array, "arrays polarity rows cols"], WriteStats]:
    """`write_and_verify` of several arrays, each with its own key.

    Faster than `vmap`: the first rounds run array by array, out of the cache, the last
    ones on all arrays together. The numbers are those of one array at a time.
    """
    arrays, polarity, rows, cols = target.shape
    width = polarity * cols
    to_lanes = lambda v: jnp.moveaxis(v, 1, 2).reshape(arrays, rows, width)
    cell = lax.broadcasted_iota(jnp.uint32, (polarity, rows, cols), 0) * (rows * cols)
    cell = cell + lax.broadcasted_iota(jnp.uint32, cell.shape, 1) * cols
    cell = cell + lax.broadcasted_iota(jnp.uint32, cell.shape, 2)
    pending = jnp.broadcast_to(used[:, None], target.shape)
    lanes = _Lanes(
        to_lanes(target),
        to_lanes(initial),
        jnp.zeros((arrays, rows, width), target.dtype),
        to_lanes(pending),
        to_lanes(jnp.broadcast_to(cell, target.shape)),
        jax.tree.map(lambda u: to_lanes(u) if u.ndim else u, response),
    )
    zero, none = jnp.zeros(arrays, target.dtype), jnp.zeros(arrays, jnp.int32)
    # The first round, of number -1, only reads: it has no pulses yet.
    stats = WriteStats(none, none - 1, zero, zero, zero, zero, none, zero)
    progress = _Progress(jnp.ones(arrays, bool), zero, zero, none + width, stats)

    advance = partial(_advance, device=device, rule=rule)
    widths = sorted({max(width // share, 1) for share in _PACKED} - {width})[::-1]
    until, *following = [*widths, 0]
    lanes, progress = _one_by_one(advance, lanes, progress, key, until)
    levels, sources = [lanes.state], []
    for size, until in zip(widths, following, strict=True):
        source, lanes = _pack(lanes, progress.alive, size)
        sources.append(source)
        lanes, progress = advance(lanes, progress, key, until)
        levels.append(lanes.state)
    for source in reversed(sources):
        packed = levels.pop()
        place = jnp.indices(source.shape, jnp.int32)[:2]
        levels[-1] = levels[-1].at[place[0], place[1], source].set(packed, mode="drop")
    state = jnp.moveaxis(levels[0].reshape(arrays, rows, polarity, cols), 2, 1)
    cells = jnp.maximum(jnp.sum(used, axis=(1, 2)) * polarity, 1)
    residual = progress.norm / jnp.sqrt(cells.astype(target.dtype))
    return state, eqx.tree_at(lambda s: s.residual, progress.stats, residual)


def _one_by_one(advance, lanes, progress, key, until):
    """`_advance` of one array after another."""
    common = jax.tree.map(lambda u: u.ndim == 0, lanes.response)
    shared, own = eqx.partition(lanes.response, common)

    def one(arguments):
        lanes, progress, key = jax.tree.map(lambda leaf: leaf[None], arguments)
        lanes = eqx.tree_at(
            lambda lane: lane.response,
            lanes,
            eqx.combine(shared, lanes.response),
            is_leaf=lambda leaf: leaf is None,
        )
        lanes, progress = advance(lanes, progress, key, until)
        out = (lanes.state, lanes.pulses, lanes.pending, progress)
        return jax.tree.map(lambda leaf: leaf[0], out)

    bare = eqx.tree_at(lambda lane: lane.response, lanes, own)
    state, pulses, pending, progress = lax.map(one, (bare, progress, key))
    parts = lambda lane: (lane.state, lane.pulses, lane.pending)
    return eqx.tree_at(parts, lanes, (state, pulses, pending)), progress


def _pack(lanes, alive, size):
    """Unfinished cells of each row, side by side; and where each was."""
    pending = lanes.pending & alive[:, None, None]
    slot = jnp.where(pending, jnp.cumsum(pending, axis=2, dtype=jnp.int32) - 1, size)
    array, row, lane = jnp.indices(slot.shape, jnp.int32)
    empty = jnp.full((*slot.shape[:2], size), slot.shape[2], jnp.int32)
    source = empty.at[array, row, slot].set(lane, mode="drop")
    take = lambda v: jnp.take_along_axis(v, source, axis=2, mode="clip")
    packed = jax.tree.map(lambda v: take(v) if v.ndim else v, lanes)
    held = source < slot.shape[2]
    return source, eqx.tree_at(lambda lane: lane.pending, packed, held)


def _advance(lanes, progress, key, until, *, device, rule):
    """Rounds until no array has more unfinished cells in a row than `until`."""
    dtype = lanes.target.dtype
    read_key, cycle_key = jnp.moveaxis(jax.vmap(jr.split)(key), 1, 0)

    def draw(key, iteration):
        at = lambda key, i, cell: normal_at(jr.fold_in(key, i), cell, dtype)
        return jax.vmap(at)(key, iteration, lanes.cell)

    def proceed(carry):
        _, progress = carry
        return jnp.any(progress.alive & (progress.widest > until))

    def step(carry):
        (state, pulses, pending), progress = carry
        alive, stats = progress.alive, progress.stats
        touched = pending & alive[:, None, None]
        pulses = jnp.where(touched, pulses, 0)
        noise = draw(cycle_key, stats.iterations)
        moved = move_state(state, pulses, device, lanes.response, noise)
        read_noise = lax.cond(
            jnp.asarray(device.sigma_read) > 0,
            lambda: draw(read_key, stats.iterations + 1) * device.sigma_read,
            lambda: jnp.zeros(state.shape, dtype),
        )
        error = lanes.target - visible_state(moved, device) - read_noise
        error = jnp.where(touched, error, 0)
        wanted = pulses_for(error, device, rule)
        pending = wanted != 0
        total = partial(jnp.sum, axis=(1, 2))
        settled = progress.settled + total(jnp.where(pending, 0, error**2))
        norm = jnp.sqrt(settled + total(jnp.where(pending, error**2, 0)))
        norm = jnp.where(alive, norm, progress.norm)
        left = jnp.sum(pending, axis=2, dtype=jnp.int32)
        stats = _account(stats, alive, touched, pulses, state, moved, left, device)
        stagnant = (stats.iterations > 1) & (jnp.abs(norm - progress.norm) < rule.tolerance)
        widest = jnp.max(left, axis=1)
        alive = alive & (widest > 0) & ~stagnant & (stats.iterations < rule.iterations)
        return (moved, wanted, pending), _Progress(alive, settled, norm, widest, stats)

    start = (lanes.state, lanes.pulses, lanes.pending)
    (state, pulses, pending), progress = lax.while_loop(proceed, step, (start, progress))
    parts = lambda lane: (lane.state, lane.pulses, lane.pending)
    return eqx.tree_at(parts, lanes, (state, pulses, pending)), progress


def _account(stats, alive, touched, pulses, before, after, left, device):
    """Add one round to the figures of each array."""
    dtype = before.dtype
    total = partial(jnp.sum, axis=(1, 2))
    up, count = pulses > 0, jnp.abs(pulses)
    joules = jnp.where(up, device.v_ltp**2 * device.t_ltp, device.v_ltd**2 * device.t_ltd)
    energy = total(joules * count * cell_conductance((before + after) / 2, device))
    longest_ltp = jnp.sum(jnp.max(jnp.where(up, count, 0), axis=2), axis=1)
    longest_ltd = jnp.sum(jnp.max(jnp.where(up, 0, count), axis=2), axis=1)
    latency = longest_ltp * device.t_ltp + longest_ltd * device.t_ltd
    conductance = cell_conductance(after, device)
    through = conductance / (1 + device.r_access * conductance)
    read = total(jnp.where(touched, device.v_read**2 * device.t_read * through, 0))
    rows = jnp.sum(jnp.any(touched, axis=2), axis=1, dtype=dtype)
    return WriteStats(
        stats.pulses + total(count).astype(jnp.int32),
        stats.iterations + alive.astype(jnp.int32),
        (stats.write_energy + energy).astype(dtype),
        (stats.verify_energy + read).astype(dtype),
        (stats.write_latency + latency).astype(dtype),
        (stats.verify_latency + rows * device.t_read).astype(dtype),
        jnp.where(alive, jnp.sum(left, axis=1, dtype=jnp.int32), stats.unfinished),
        stats.residual,
    )
