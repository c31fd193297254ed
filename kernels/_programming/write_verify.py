"""Program arrays by closed-loop write-and-verify, cell by cell.

Every round reads each unfinished cell back, computes how many identical pulses should close
the distance to its target, and applies them. Pulses have cycle-to-cycle noise, so that
rounds repeat until a stopping rule holds. Targets and readings are *visible* states: the
read current through the access transistor as a fraction of its range, which is what a sense
amplifier sees. A cell that once reads right gets no more pulses.

The last cells of an array take several times as many rounds as the average one. Each row is
therefore packed to its unfinished cells as they become fewer, so that the work follows
their number. Packing changes no result: the position of a cell in the array and the round
address its noise.
"""

import dataclasses
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.lax as lax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key, PRNGKeyArray

from .._cells.device import Device
from .._cells.pulse import Response, move_state
from .._numerics.cipher import split_in_two
from .._numerics.count import Count, add_counts, row_counts, total_count
from .._numerics.random import normal_pair_at
from .closed_loop import (
    VerifyRule,
    WriteStats,
    cell_conductance,
    pulses_for,
    visible_state,
)
from .compaction import compacted, count_before
from .lanes import Lanes, Progress, Tally
from .scheme import Scheme

# The last unfinished cells of all arrays are packed to this part of a row.
_LAST = 16
# Before that, the cells of one array are packed to these parts.
_SHARES = (4,)
_FEW = 2**14  # up to this many cells, packing is not worth its compilation


def _write_and_verify(
    target: Float[Array, "polarity rows cols"],
    initial: Float[Array, "polarity rows cols"],
    used: Bool[Array, "rows cols"],
    device: Device,
    response: Response,
    rule: VerifyRule,
    *,
    key: PRNGKeyArray,
) -> tuple[Float[Array, "polarity rows cols"], WriteStats]:
    """`_several_arrays`, of one array."""
    response = jax.tree.map(lambda u: u[None] if u.ndim else u, response)
    state, stats = _several_arrays(
        target[None], initial[None], used[None], device, response, rule, key=key[None]
    )
    return state[0], jax.tree.map(lambda figure: figure[0], stats)


def _several_arrays(
    target: Float[Array, "arrays polarity rows cols"],
    initial: Float[Array, "arrays polarity rows cols"],
    used: Bool[Array, "arrays rows cols"],
    device: Device,
    response: Response,
    rule: VerifyRule,
    *,
    key: Key[Array, " arrays"],
) -> tuple[Float[Array, "arrays polarity rows cols"], WriteStats]:
    """Program several arrays, each with its own key.

    This is faster than `vmap`: the first rounds run array by array from the cache, the last
    ones on all arrays together. The numbers are those of one array at a time.
    """
    arrays, polarity, rows, cols = target.shape
    width = polarity * cols
    to_lanes = lambda v: jnp.moveaxis(v, 1, 2).reshape(arrays, rows, width)
    iota = partial(lax.broadcasted_iota, jnp.uint32, (polarity, rows, cols))
    cell = iota(0) * (rows * cols) + iota(1) * cols + iota(2)
    lanes = Lanes(
        target=to_lanes(target),
        state=to_lanes(initial),
        pulses=jnp.zeros((arrays, rows, width), target.dtype),
        cell=to_lanes(jnp.broadcast_to(cell, target.shape)),
        response=jax.tree.map(lambda u: to_lanes(u) if u.ndim else u, response),
    )
    used = to_lanes(jnp.broadcast_to(used[:, None], target.shape))
    keys = _Keys(*jax.vmap(split_in_two)(key))
    advance = partial(_advance, device=device, rule=rule)
    last = max(width // _LAST, 1) if lanes.cell.size > _FEW else 0
    start = partial(_first_read, device=device, rule=rule)
    lanes, progress = _one_by_one(start, advance, lanes, used, keys, last)
    lanes, progress = _packed(advance, lanes, progress, keys, (last,) if last else (), 0)
    state = jnp.moveaxis(lanes.state.reshape(arrays, rows, polarity, cols), 2, 1)

    def figures(arguments):
        """Of one array, since sums over all at once would round by their number."""
        progress, used, target, state = arguments
        norm = progress.norm
        if _exact(device, rule):
            error = jnp.where(used, target - visible_state(state, device), 0)
            norm = jnp.sqrt(jnp.sum(error**2))
        residual = norm / jnp.sqrt(jnp.maximum(jnp.sum(used, dtype=target.dtype), 1))
        floats = {
            "write_energy": progress.write,
            "verify_energy": progress.read,
            "write_latency": jnp.sum(progress.waiting),
            "verify_latency": jnp.sum(progress.reads) * device.t_read,
            "residual": residual,
        }
        return {name: value.astype(target.dtype) for name, value in floats.items()}

    each = lax.map(figures, (progress, used, lanes.target, lanes.state))
    return state, WriteStats(
        pulses=total_count(progress.pulses, (1,)),
        iterations=progress.iterations,
        unfinished=_whole(_left(lanes.pulses)),
        **each,
    )


class _Keys(eqx.Module):
    """Of each array: of the read noise, and of the cycle-to-cycle noise."""

    read: Key[Array, " arrays"]
    cycle: Key[Array, " arrays"]


def _exact(device, rule):
    """Whether it is known at tracing that reads are exact and no norm ends the loop."""
    numbers = device.sigma_read, rule.tolerance
    known = all(isinstance(v, int | float) for v in numbers)
    return known and device.sigma_read == 0 and rule.tolerance < 0


def _first_read(lanes, used, keys, *, device, rule):
    """Read all cells, and choose the first pulses."""
    dtype, total = lanes.target.dtype, partial(jnp.sum, axis=(1, 2))
    # The reading after round `i` has the number `i`.
    last = jnp.full(lanes.cell.shape, 0xFFFFFFFF, jnp.uint32)
    read: Any = 0
    if not _exact(device, rule):
        _, read = _read_noise(device, keys.read, last, lanes.cell, dtype)
    visible = visible_state(lanes.state, device)
    error = jnp.where(used, lanes.target - visible - read, 0)
    error = error.astype(dtype)
    pulses = pulses_for(error, device, rule)
    widest = jnp.max(_left(pulses), axis=1)
    up, down = _longest(pulses)
    zero = jnp.zeros(up.shape, dtype)
    none = zero.astype(jnp.uint32)
    progress = Progress(
        alive=(widest > 0) & (rule.iterations > 0),
        settled=total(jnp.where(pulses == 0, error**2, 0)),
        norm=jnp.sqrt(total(error**2)),
        widest=widest,
        up=up,
        down=down,
        iterations=jnp.zeros(len(up), jnp.int32),
        write=zero[:, 0],
        read=total(jnp.where(used, _read_energy(visible, device), 0)).astype(dtype),
        waiting=zero,
        reads=jnp.max(used.astype(dtype), axis=2),
        pulses=Count(none, none),
    )
    return eqx.tree_at(lambda lane: lane.pulses, lanes, pulses), progress


def _one_by_one(start, advance, lanes, used, keys, until):
    """Read and `advance` one array after another."""
    common = jax.tree.map(lambda u: u.ndim == 0, lanes.response)
    shared, own = eqx.partition(lanes.response, common)

    def one(arguments):
        lanes, used, keys = jax.tree.map(lambda leaf: leaf[None], arguments)
        lanes = eqx.tree_at(
            lambda lane: lane.response,
            lanes,
            eqx.combine(shared, lanes.response),
            is_leaf=lambda leaf: leaf is None,
        )
        lanes, progress = start(lanes, used, keys)
        width = lanes.cell.shape[2]
        sizes = tuple(width // s for s in _SHARES if until and width // s > until)
        lanes, progress = advance(lanes, progress, keys, max((*sizes, until)[0], until))
        lanes, progress = _packed(advance, lanes, progress, keys, sizes, until)
        out = (lanes.state, lanes.pulses, progress)
        return jax.tree.map(lambda leaf: leaf[0], out)

    bare = eqx.tree_at(lambda lane: lane.response, lanes, own)
    state, pulses, progress = lax.map(one, (bare, used, keys))
    parts = lambda lane: (lane.state, lane.pulses)
    return eqx.tree_at(parts, lanes, (state, pulses)), progress


def _packed(advance, lanes, progress, keys, sizes, until):
    """`advance` with the unfinished cells of each row packed to fewer and fewer lanes."""
    if not sizes:
        return lanes, progress
    size, *smaller = sizes
    parts = lambda lane: (lane.state, lane.pulses)

    def pack(carry):
        lanes, progress = carry
        pending = (lanes.pulses != 0) & progress.alive[:, None, None]
        before = count_before(pending)
        source, held = compacted(pending, before, size)
        take = partial(jnp.take_along_axis, axis=2, mode="clip")
        packed = jax.tree.map(lambda v: take(v, source) if v.ndim else v, lanes)
        pulses = jnp.where(held, packed.pulses, 0)
        packed = eqx.tree_at(lambda lane: lane.pulses, packed, pulses)
        following = max((*smaller, until)[0], until)
        packed, progress = advance(packed, progress, keys, following)
        packed, progress = _packed(advance, packed, progress, keys, smaller, until)
        unpack = lambda new, old: jnp.where(pending, take(new, before), old)
        unpacked = jax.tree.map(unpack, parts(packed), parts(lanes))
        return eqx.tree_at(parts, lanes, unpacked), progress

    return lax.cond(jnp.any(progress.alive), pack, lambda carry: carry, (lanes, progress))


def _advance(lanes, progress, keys, until, *, device, rule):
    """Run rounds until no array has more than `until` unfinished cells in a row."""
    dtype, light = lanes.target.dtype, _exact(device, rule)

    def proceed(carry):
        _, progress = carry
        return jnp.any(progress.alive & (progress.widest > until))

    def step(carry):
        # One cipher block of a cell serves two rounds.
        turn = carry[1].iterations.astype(jnp.uint32) // 2
        turn = jnp.broadcast_to(turn[:, None, None], lanes.cell.shape)
        # Both go in one stored array; otherwise XLA would run the cipher three times.
        both = lax.cond(
            jnp.any(carry[1].alive),
            lambda: lax.complex(*_pair(keys.cycle, turn, lanes.cell, dtype)),
            lambda: lax.complex(zero, zero),
        )
        cycles = lax.real(both), lax.imag(both)
        reads = 0, 0
        if not light:
            reads = _read_noise(device, keys.read, turn, lanes.cell, dtype)

        def one_round(carry, noise):
            cells, progress = carry
            cycle, read = noise
            after = _round(cells, progress, lanes, cycle, read, device, rule)
            # The parameters of the device may have another precision.
            return jax.tree.map(lambda new, old: new.astype(old.dtype), after, carry), None

        noise = jnp.stack(cycles), (jnp.stack(reads) if not light else jnp.zeros(2, dtype))
        carry, _ = lax.scan(one_round, carry, noise)
        cells, progress = carry
        widest = jnp.max(_left(cells[1]), axis=1)
        return cells, dataclasses.replace(progress, widest=widest)

    zero = jnp.zeros(lanes.cell.shape, dtype)
    tally = Tally(zero, zero, zero, None if light else zero)
    start = (lanes.state, lanes.pulses, tally), progress
    (state, pulses, tally), progress = lax.while_loop(proceed, step, start)
    settled, total = progress.settled, partial(jnp.sum, axis=(1, 2))
    if tally.error is not None:
        left = jnp.where(pulses == 0, tally.error, 0)
        settled = settled + total(left**2)
    progress = dataclasses.replace(
        progress,
        settled=settled,
        write=progress.write + total(tally.write),
        read=progress.read + total(tally.read),
        pulses=add_counts(progress.pulses, row_counts(tally.pulses)),
    )
    parts = lambda lane: (lane.state, lane.pulses)
    return eqx.tree_at(parts, lanes, (state, pulses)), progress


def _pair(key, turn, cell, dtype):
    return jax.vmap(partial(normal_pair_at, dtype=dtype))(key, turn, cell)


def _read_noise(device, key, turn, cell, dtype):
    """Draw the read noise of two rounds, or nothing if reads have no noise."""

    def draw():
        first, second = _pair(key, turn, cell, dtype)
        return first * device.sigma_read, second * device.sigma_read

    none = jnp.zeros(cell.shape, dtype)
    return lax.cond(jnp.asarray(device.sigma_read) > 0, draw, lambda: (none, none))


def _whole(left):
    """Number of cells left in each array, from the numbers left in each row."""
    return jnp.sum(left.astype(jnp.int32), axis=1, dtype=jnp.int32)


def _round(cells, progress, lanes, cycle, read, device, rule):
    """Pulse the unfinished cells of unfinished arrays, and read them back."""
    (state, pulses, tally), alive = cells, progress.alive
    going = alive[:, None, None]
    applied = jnp.where(going, pulses, 0)
    moved = move_state(state, applied, device, lanes.response, cycle)
    visible = visible_state(moved, device)
    error = lanes.target - visible - read
    wanted = jnp.where(applied != 0, pulses_for(error, device, rule), 0)
    wanted = jnp.where(going, wanted, pulses)
    tally = Tally(
        tally.pulses + jnp.abs(applied),
        tally.write + _pulse_energy(applied, state, moved, device),
        tally.read + jnp.where(applied != 0, _read_energy(visible, device), 0),
        None if tally.error is None else jnp.where(applied != 0, error, tally.error),
    )
    norm, stagnant = progress.norm, False
    if tally.error is not None:
        norm = jnp.sqrt(progress.settled + jnp.sum(tally.error**2, axis=(1, 2)))
        norm = jnp.where(alive, norm, progress.norm)
        change = jnp.abs(norm - progress.norm)
        stagnant = (progress.iterations > 0) & (change < rule.tolerance)
    up, down = (jnp.where(alive[:, None], v, 0) for v in (progress.up, progress.down))
    written = jnp.where((up > 0) | (down > 0), 1, 0).astype(norm.dtype)
    iterations = progress.iterations + alive.astype(jnp.int32)
    waiting = progress.waiting + up * device.t_ltp + down * device.t_ltd
    up, down = _longest(wanted)
    more = jnp.max(jnp.maximum(up, down), axis=1) > 0
    alive = alive & more & (iterations < rule.iterations)
    progress = dataclasses.replace(
        progress,
        alive=alive & jnp.logical_not(stagnant),
        norm=norm,
        up=up,
        down=down,
        iterations=iterations,
        waiting=waiting,
        reads=progress.reads + written,
    )
    return (moved, wanted, tally), progress


def _longest(pulses):
    """Longest trains up and down of the cells of each row."""
    up, down = jnp.max(pulses, axis=2), -jnp.min(pulses, axis=2)
    return jnp.maximum(up, 0), jnp.maximum(down, 0)


def _left(pulses):
    """Number of cells of each row that need pulses."""
    # Floating-point sums are fast in XLA's library for CPUs.
    return jnp.sum(pulses != 0, axis=2, dtype=pulses.dtype)


def _pulse_energy(pulses, before, after, device):
    """Joules of the pulses of each cell: `V**2 t n G`, `G` the mean before and after."""
    up = device.v_ltp**2 * device.t_ltp
    down = device.v_ltd**2 * device.t_ltd
    joules = jnp.where(pulses > 0, up * pulses, -down * pulses)
    return joules * cell_conductance((before + after) / 2, device)


def _read_energy(visible, device):
    """Joules of one read of each cell, from its read current as a fraction of the range."""
    through = lambda g: g / (1 + device.r_access * g)
    low, high = through(device.g_min), through(device.g_max)
    return device.v_read**2 * device.t_read * (low + visible * (high - low))


write_and_verify = Scheme(_write_and_verify, _several_arrays, cellwise=True)
"""Program one array of one or two cells per weight in a closed loop.

**Arguments:**

- `target`: visible states to reach, from 0 to 1.
- `initial`: initial states of the cells, from 0 to 1.
- `used`: the weights that hold a matrix entry; other cells stay unchanged.
- `device`, `response`: the technology, and the curvature of each cell.
- `rule`: stopping rule.
- `key`: key of the cycle-to-cycle and verify-read noise of this array.

**Returns:**

The states reached, from 0 to 1, and the `WriteStats`.

**Example:**

    >>> how = sj.Programming(array=4, scheme=sj.write_and_verify)  # the default
    >>> crossbar, stats = sj.program(np.eye(4), "epiram", how, key=jr.key(0))
    >>> error = jnp.abs(sj.stored_matrix(crossbar) - np.eye(4))
    >>> bool(jnp.max(error) <= 0.0051)  # within the band, a quarter of sigma_c2c
    True
"""
