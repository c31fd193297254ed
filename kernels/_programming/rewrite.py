"""Program arrays by rewriting each cell until it reads right, or draw the outcome directly.

An attempt erases the cell and sets it to its target by one pulse whose amplitude is chosen
for the target, as the gate voltage of the access transistor sets a compliance current.
It lands at `clip(t + sigma_c2c z, 0, 1)`, a fraction of the range of the read current,
whatever the cell held before. A cell within the band of its target keeps its state; the
others are written again, at most `iterations` times. (Incremental trains start where the
last one ended, so that the outcome of `write_and_verify` has no such distribution.)

Since attempts are independent, the stopped process has a distribution in closed form. With
`p` the chance that one attempt is accepted and `q = 1 - p`, the number of attempts is
geometric, the accepted value is a normal conditioned on the band, whatever the number, and
with probability `q**iterations` the last failure remains, a normal conditioned on being
outside.
One uniform `v` in (0, 1] gives all of this by inversion: the number of attempts is the `k`
with `q**k < v <= q**(k - 1)`, and `v / q**(k - 1)` is uniform between `q` and 1, so that it
also gives the position of the value in the band.
"""

import math

import equinox as eqx
import jax
import jax.lax as lax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from .._cells.device import Device
from .._cells.pulse import Response
from .._numerics.count import add_counts, row_counts, total_count
from .._numerics.gradients import root
from .._numerics.random import bits, normal
from .closed_loop import (
    VerifyRule,
    WriteStats,
    cell_conductance,
    gaussian,
    hidden_state,
    visible_state,
)
from .scheme import Scheme

_GILES = (  # of the centre, and of the tails
    (2.81022636e-08, -0.000200214257),
    (3.43273939e-07, 0.000100950558),
    (-3.5233877e-06, 0.00134934322),
    (-4.39150654e-06, -0.00367342844),
    (0.00021858087, 0.00573950773),
    (-0.00125372503, -0.0076224613),
    (-0.00417768164, 0.00943887047),
    (0.246640727, 1.00167406),
    (1.50140941, 2.83297682),
)


def _rewrite_and_verify(
    target: Float[Array, "polarity rows cols"],
    initial: Float[Array, "polarity rows cols"],
    used: Bool[Array, "rows cols"],
    device: Device,
    response: Response,
    rule: VerifyRule,
    *,
    key: PRNGKeyArray,
) -> tuple[Float[Array, "polarity rows cols"], WriteStats]:
    del response
    dtype = target.dtype
    cycle_key, read_key = jr.split(key)
    used = jnp.broadcast_to(used[None], target.shape)
    erased = cell_conductance(jnp.zeros((), dtype), device)

    def sense(state, iteration):
        noise = gaussian(
            device.sigma_read, state.shape, dtype, key=jr.fold_in(read_key, iteration)
        )
        return target - visible_state(state, device) - noise

    def step(carry):
        state, error, pending, stats = carry
        noise = normal(jr.fold_in(cycle_key, stats.iterations), state.shape, dtype)
        aim = jnp.clip(target + device.sigma_c2c * noise, 0, 1)
        after = jnp.where(pending, hidden_state(aim, device), state)
        stats = WriteStats(
            pulses=add_counts(stats.pulses, total_count(2 * pending.astype(jnp.uint32))),
            iterations=stats.iterations + 1,
            write_energy=stats.write_energy
            + _sum(pending, _erase(state, erased, device))
            + _sum(pending, _set(after, erased, device)),
            verify_energy=stats.verify_energy + _sum(pending, _read(after, device)),
            write_latency=stats.write_latency
            + _rows(pending, dtype) * (device.t_ltp + device.t_ltd),
            verify_latency=stats.verify_latency + _rows(pending, dtype) * device.t_read,
            unfinished=stats.unfinished,
            residual=stats.residual,
        )
        error = jnp.where(pending, sense(after, stats.iterations), error)
        stats = jax.tree.map(lambda new, old: new.astype(old.dtype), stats, carry[3])
        return after, error, pending & (jnp.abs(error) > rule.band), stats

    zero, none = jnp.zeros((), dtype), jnp.zeros((), jnp.int32)
    read = _sum(used, _read(initial, device)).astype(dtype)
    waited = (_rows(used, dtype) * device.t_read).astype(dtype)
    stats = WriteStats(
        pulses=none,
        iterations=none,
        write_energy=zero,
        verify_energy=read,
        write_latency=zero,
        verify_latency=waited,
        unfinished=none,
        residual=zero,
    )
    error = jnp.where(used, sense(initial, 0), 0)
    state, error, pending, stats = lax.while_loop(
        lambda carry: jnp.any(carry[2]) & (carry[3].iterations < rule.iterations),
        step,
        (initial, error, jnp.abs(error) > rule.band, stats),
    )
    return state, _finish(stats, error, pending, used)


def _sampled_rewrite(
    target: Float[Array, "polarity rows cols"],
    initial: Float[Array, "polarity rows cols"],
    used: Bool[Array, "rows cols"],
    device: Device,
    response: Response,
    rule: VerifyRule,
    *,
    key: PRNGKeyArray,
) -> tuple[Float[Array, "polarity rows cols"], WriteStats]:
    cells = (target, initial, used)
    loop = lambda: _rewrite_and_verify(*cells, device, response, rule, key=key)
    draw = lambda: _draw_outcome(*cells, key, device=device, rule=rule)
    if isinstance(device.sigma_read, int | float):
        return loop() if device.sigma_read > 0 else draw()
    return lax.cond(device.sigma_read > 0, loop, draw)


def _draw_outcome(target, initial, used, key, *, device, rule):
    dtype = target.dtype
    used = jnp.broadcast_to(used[None], target.shape)
    sigma, band = (jnp.asarray(v, dtype) for v in (device.sigma_c2c, rule.band))
    rounds = jnp.asarray(rule.iterations, dtype)
    width = jnp.where(sigma > 0, band / jnp.where(sigma > 0, sigma, 1), jnp.inf)
    width = width / dtype.type(math.sqrt(2))
    mass, tail = lax.erf(width), lax.erfc(width) / 2
    # Where the band reaches the end of the window, the clip prevents failures there.
    low, high = target > band, 1 - target > band

    def pick(two, one, none):
        return jnp.where(low & high, two, jnp.where(low | high, one, none))

    tiny = jnp.finfo(dtype).tiny
    slopes = jnp.log(jnp.maximum(jnp.stack([2 * tail, tail, 0 * tail]), tiny))
    slope, inverse = pick(*slopes), pick(*(1 / slopes))
    accepted = jnp.stack([mass, (1 + mass) / 2, jnp.ones_like(mass)])
    q, below = pick(2 * tail, tail, 0), jnp.where(low, tail, 0)

    # `q**length` is the uniform.
    length = jnp.log(_unit(key, target.shape, dtype)) * inverse
    failed = length >= rounds
    again = jnp.minimum(jnp.floor(length), rounds - 1)
    # Uniform from `q` to 1, or from 0 to 1 where all attempts failed.
    share = jnp.exp((length - jnp.where(failed, rounds, again)) * slope)
    inside = jnp.clip((share - q) * pick(*(1 / accepted)), 0, 1)
    outside = jnp.minimum(share, 1) * q
    beyond = jnp.where(outside < below, 2 * outside - 1, 1 - 2 * (q - outside))
    # `2 P(z) - 1` of the last draw `z`.
    place = jnp.where(failed, beyond, 2 * below - q + (2 * inside - 1) * pick(*accepted))
    edge = 1 - jnp.finfo(dtype).epsneg
    error = sigma * dtype.type(math.sqrt(2)) * _erf_inv(jnp.clip(place, -edge, edge))
    # Rounding may exceed the band by a unit in the last place.
    error = jnp.where(failed, error, jnp.clip(error, -band, band))
    start = visible_state(initial, device)
    pending = used & (jnp.abs(target - start) > band)
    aim = jnp.where(pending, jnp.clip(target + error, 0, 1), start)
    state = jnp.where(pending, hidden_state(aim, device), initial)

    # Signed and stored; otherwise each figure below would run the cipher again.
    again = jnp.where(pending, jnp.where(failed, -again - 1, again + 1), 0)
    state, again = lax.optimization_barrier((state, again))
    attempts = jnp.abs(again)
    error = jnp.where(used, target - visible_state(state, device), 0)
    rows = jnp.sum(jnp.max(attempts, axis=(0, 2)))
    erased = cell_conductance(jnp.zeros((), dtype), device)
    centre = hidden_state(target, device)
    tries = _erase(centre, erased, device) + _set(centre, erased, device)
    last = _erase(initial, erased, device) + _set(state, erased, device)
    written, more = attempts > 0, jnp.maximum(attempts - 1, 0)
    stats = WriteStats(
        pulses=total_count(row_counts(2 * attempts)),
        iterations=jnp.max(attempts).astype(jnp.int32),
        write_energy=_sum(written, more * tries + last),
        verify_energy=_sum(used, _read(initial, device))
        + _sum(written, more * _read(centre, device) + _read(state, device)),
        write_latency=rows * (device.t_ltp + device.t_ltd),
        verify_latency=(_rows(used, dtype) + rows) * device.t_read,
        unfinished=jnp.zeros((), jnp.int32),
        residual=jnp.zeros((), dtype),
    )
    floating = lambda v: jnp.issubdtype(v.dtype, jnp.floating)
    stats = jax.tree.map(lambda v: v.astype(dtype) if floating(v) else v, stats)
    return state, _finish(stats, error, again < 0, used)


def _erf_inv(x):
    """`lax.erf_inv`, but in float32 by a logarithm that CPUs have vector code for.

    The polynomials are those of Giles (2012), "Approximating the erfinv function", GPU
    Computing Gems, Jade Edition, Table 10.5; relative error below 4e-7.
    """
    if x.dtype != jnp.float32:
        return lax.erf_inv(x)
    w = -jnp.log((1 - x) * (1 + x))
    central = w < 5
    # The root has no derivative at zero, where the other branch is taken.
    w = jnp.where(central, w - 2.5, jnp.sqrt(jnp.where(central, 5, w)) - 3)
    value = jnp.where(central, _GILES[0][0], _GILES[0][1])
    for coefficient in _GILES[1:]:
        value = jnp.where(central, *coefficient) + value * w
    return value * x


def _unit(key, shape, dtype):
    """Uniform in (0, 1], with as many leading zeros as 32 or 64 bits have."""
    size = 8 * dtype.itemsize
    word = bits(key, shape, jnp.uint32 if size == 32 else jnp.uint64)
    return (word.astype(dtype) + dtype.type(0.5)) * dtype.type(2.0**-size)


def _erase(state, erased, device):
    """Energy of the pulse that takes a cell from `state` to the bottom of its window."""
    mean = (cell_conductance(state, device) + erased) / 2
    return device.v_ltd**2 * device.t_ltd * mean


def _set(state, erased, device):
    """Energy of the pulse that takes a cell from the bottom of its window to `state`."""
    mean = (cell_conductance(state, device) + erased) / 2
    return device.v_ltp**2 * device.t_ltp * mean


def _read(state, device):
    conductance = cell_conductance(state, device)
    through = conductance / (1 + device.r_access * conductance)
    return device.v_read**2 * device.t_read * through


def _sum(cells, figure):
    return jnp.sum(jnp.where(cells, figure, 0))


def _rows(cells, dtype):
    # The maximum is of floating-point numbers, for which XLA's library for CPUs is fast.
    return jnp.sum(jnp.max(cells.astype(dtype), axis=(0, 2)))


def _finish(stats, error, pending, used):
    count = jnp.maximum(jnp.sum(used, dtype=error.dtype), 1)
    return eqx.tree_at(
        lambda s: (s.unfinished, s.residual),
        stats,
        (
            jnp.sum(pending, dtype=error.dtype).astype(jnp.int32),
            root(jnp.sum(error**2) / count),
        ),
    )


rewrite_and_verify = Scheme(_rewrite_and_verify)
"""Program one array by rewriting each cell to its target until it reads right.

This is the reference for `sampled_rewrite`, attempt by attempt. Every attempt counts as two
pulses, one that erases (`v_ltd`, `t_ltd`) and one that sets (`v_ltp`, `t_ltp`), and
as one read.

**Arguments:**

- `device`: `sigma_c2c` is the noise of one attempt, as a fraction of the range of the
    read current.
- `response`: not used, because the amplitude is chosen, not the number of pulses.
- `rule`: only `band` and `iterations` are used.
- the others, and what is returned: as for `write_and_verify`.

**Example:**

    >>> how = sj.Programming(array=4, scheme=sj.rewrite_and_verify)
    >>> crossbar, stats = sj.program(np.eye(4), "epiram", how, key=jr.key(0))
    >>> int(stats.pulses) % 2  # one that erases, and one that sets
    0
"""


sampled_rewrite = Scheme(_sampled_rewrite, cellwise=True)
"""Draw the outcome of `rewrite_and_verify` from its distribution, without the loop.

One uniform per cell replaces all attempts. States, pulses, rounds, latencies and
unfinished cells have exactly the joint distribution of the loop. Energies count each
failed attempt at its target, the centre of its distribution, which is exact on average
but for the clipping of the window and the curvature from the access transistor.

The distribution holds if attempts are independent and the verify read is exact. With
read noise (`sigma_read > 0`) the loop itself runs. It does not hold for incremental
pulses (`write_and_verify`), where an attempt starts from the last state.

**Arguments and returns:** as for `rewrite_and_verify`.

**Example:**

    >>> how = sj.Programming(array=4, scheme=sj.sampled_rewrite)
    >>> crossbar, stats = sj.program(np.eye(4), "epiram", how, key=jr.key(0))
    >>> error = jnp.abs(sj.stored_matrix(crossbar) - np.eye(4))
    >>> bool(jnp.max(error) <= 0.0051)  # within the band, a quarter of sigma_c2c
    True
"""
