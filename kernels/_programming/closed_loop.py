"""Rules, costs and the general loop of closed-loop programming.

Every round senses the cells, computes how many identical pulses should close the distance
of each to its target, and applies them. Pulses have cycle-to-cycle noise, so that rounds
repeat until a stopping rule holds. Targets and readings are *visible* states: the read
current through the access transistor as a fraction of its range, which is what a sense
amplifier sees.

Two rules are in use. *Stagnation* of the residual norm is the rule of MELISO+ (2025, arXiv
2508.13298); the per-cell *acceptance band* with a pulse cap is that of Wan et al. (2022,
Nature 608, 504, Extended Data Fig. 3).
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.lax as lax
import jax.numpy as jnp
import jax.random as jr
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from .._cells.device import Device, Scalar
from .._cells.pulse import Response, move_state
from .._numerics.count import Count, add_counts, as_count, total_count
from .._numerics.random import normal, normal_pair_at
from .._numerics.requirements import (
    FROM_ZERO,
    NUMBER,
    ONE_OR_MORE,
    POSITIVE,
    ZERO_OR_MORE,
    check_counts,
    check_kind,
    check_numbers,
)

_BAND = "It is a fraction of the range of the read current."


def _check_rule(
    name: str,
    *,
    max_pulses: Any = None,
    caution: Any = None,
    tolerance: Any = None,
    iterations: Any,
) -> None:
    """Refuse what makes no rule, for the public `name`."""
    call = f"sedma_jax.{name}"
    check_numbers(call, ONE_OR_MORE, "Infinity is no cap.", max_pulses=max_pulses)
    check_numbers(call, ZERO_OR_MORE, "Infinity ignores the noise.", caution=caution)
    check_numbers(call, NUMBER, "A negative one ignores the norm.", tolerance=tolerance)
    remedy = "Programming takes at least one round."
    check_counts(call, 1, 2**31 - 1, remedy, iterations=iterations)


class VerifyRule(eqx.Module):
    """When a cell gets pulses, and when the array is finished.

    - `band`: a cell within this distance of its target gets no pulse; fraction of the
        range of the read current.
    - `max_pulses`: largest number of pulses of one cell in one round.
    - `caution`: limits the pulses of one round to the number whose noise is this share of
        the remaining distance, but at least one. Infinite to ignore the noise.
    - `tolerance`: the array is finished when the residual norm changes by less than this
        from one round to the next; negative to ignore the norm.
    - `iterations`: largest number of rounds.

    **Example:**

        >>> rule = sj.VerifyRule(
        ...     band=0.01, max_pulses=10, caution=jnp.inf, tolerance=-1.0, iterations=50
        ... )
        >>> crossbar, _ = sj.program(np.eye(4), "epiram", array=4, rule=rule, key=jr.key(0))
        >>> error = jnp.abs(sj.stored_matrix(crossbar) - np.eye(4))
        >>> bool(jnp.max(error) <= 0.01)  # reads have no noise here
        True
    """

    band: Scalar
    max_pulses: Scalar
    caution: Scalar
    tolerance: Scalar
    iterations: Int[Array, ""] | int

    def __check_init__(self):
        _check_rule(
            "VerifyRule",
            max_pulses=self.max_pulses,
            caution=self.caution,
            tolerance=self.tolerance,
            iterations=self.iterations,
        )
        check_numbers("sedma_jax.VerifyRule", FROM_ZERO, _BAND, band=self.band)


# A rule of numbers that are checked, or computed and not worth waiting for.
_RULE = jax.tree.structure(
    VerifyRule(band=0.0, max_pulses=1.0, caution=0.0, tolerance=0.0, iterations=1)
)


class WriteStats(eqx.Module):
    """The cost and outcome of programming one array; each physical event counts once.

    - `pulses`: number of write pulses over all cells, to 64 bits; the number of each cell
        is a floating one, exact up to 16,777,216 in float32. Integers convert.
    - `iterations`: number of rounds that applied pulses.
    - `write_energy`, `verify_energy`: energy of pulses and reads in the cells, in joules.
    - `write_latency`, `verify_latency`: time, in seconds. Rows are written one after
        another, the cells of a row together, first potentiation, then depression. A round
        reads back only the rows that it wrote.
    - `unfinished`: number of cells that the rule would still have pulsed.
    - `residual`: root mean square distance of the last reading from the target.

    **Example:**

        >>> _, stats = sj.program(np.eye(4), "epiram", array=4, key=jr.key(0))
        >>> each = stats.per_array  # one tile
        >>> bool(each.residual[0] < 0.02), int(each.unfinished[0])
        (True, 0)
    """

    pulses: Count = eqx.field(converter=as_count)
    iterations: Int[Array, " *arrays"]
    write_energy: Float[Array, " *arrays"]
    verify_energy: Float[Array, " *arrays"]
    write_latency: Float[Array, " *arrays"]
    verify_latency: Float[Array, " *arrays"]
    unfinished: Int[Array, " *arrays"]
    residual: Float[Array, " *arrays"]


def acceptance_band(
    device: Device,
    *,
    half_width: Scalar | None = None,
    max_pulses: Scalar = jnp.inf,
    caution: Scalar = 0.7,
    iterations: int = 100,
) -> VerifyRule:
    """Stop each cell when it reads within a band around its target.

    The default half width is a quarter of the noise of one pulse, and at least half a
    pulse: a narrower band needs luck, a wider one wastes accuracy. `n` pulses leave
    noise `sigma_c2c sqrt(n)`, which for a long train exceeds the distance it should
    cover; trains of at most `(caution * distance / sigma_c2c)**2` pulses reach the same
    accuracy with about a third of the pulses and fewer rounds
    (`bench/core/programming_schemes.py`).

    **Arguments:**

    - `device`: the technology that sets the default width.
    - `half_width`: fraction of the range of the read current, positive.
    - `max_pulses`: largest number of pulses of one cell in one round, at least 1.
    - `caution`: ratio of the noise of a train to the distance it should cover, from 0 up;
        `jnp.inf` to ignore the noise.
    - `iterations`: largest number of rounds, at least 1.

    **Raises:**

    - `ValueError`: if `iterations < 1`, `max_pulses < 1`, `caution < 0`,
        `half_width <= 0`, or one of them is NaN.

    **Example:**

        >>> rule = sj.acceptance_band(sj.devices.EPIRAM)
        >>> print(np.asarray(rule.band).round(4))  # a quarter of sigma_c2c
        0.005
        >>> crossbar, _ = sj.program(np.eye(4), "epiram", array=4, rule=rule, key=jr.key(0))
    """
    _check_rule(
        "acceptance_band", max_pulses=max_pulses, caution=caution, iterations=iterations
    )
    check_numbers(
        "sedma_jax.acceptance_band",
        POSITIVE,
        "Leave it out for a width that suits the device.",
        half_width=half_width,
    )
    remedy = "Such as `sedma_jax.devices.EPIRAM`."
    wanted = "a `sedma_jax.Device`"
    check_kind("sedma_jax.acceptance_band", Device, wanted, remedy, device=device)
    width = _half_width(device) if half_width is None else half_width
    return _RULE.unflatten((width, max_pulses, caution, -1.0, iterations))


@jax.jit  # one program instead of four
def _half_width(device):
    step = 1 / jnp.minimum(device.pulses_ltp, device.pulses_ltd)
    return jnp.maximum(0.5 * step, 0.25 * device.sigma_c2c)


def stagnation(
    *, iterations: int = 21, precision: Scalar = 1e-6, tolerance: Scalar = 1e-12
) -> VerifyRule:
    """Stop the array when the norm of its residual no longer changes.

    Every cell further than `precision` from its target gets its full estimated correction
    in every round. The defaults are those of MELISO+, with norms over both cells of a pair.

    **Arguments:**

    - `iterations`: largest number of rounds, at least 1.
    - `precision`: fraction of the range of the read current, from 0.
    - `tolerance`: change of the Frobenius norm below which the array is finished. A
        negative one forces exactly `iterations` rounds, unless no cell needs a pulse.

    **Raises:**

    - `ValueError`: if `iterations < 1`, `precision < 0`, or one of them is NaN.

    **Example:**

        >>> rule = sj.stagnation(iterations=5)
        >>> _, stats = sj.program(np.eye(4), "epiram", array=4, rule=rule, key=jr.key(0))
        >>> bool(stats.per_array.iterations[0] <= 5)
        True
    """
    _check_rule("stagnation", tolerance=tolerance, iterations=iterations)
    check_numbers("sedma_jax.stagnation", FROM_ZERO, _BAND, precision=precision)
    return VerifyRule(
        band=precision,
        max_pulses=jnp.inf,
        caution=jnp.inf,
        tolerance=tolerance,
        iterations=iterations,
    )


def visible_state(
    state: Float[Array, " *cells"], device: Device
) -> Float[Array, " *cells"]:
    """Read current as a fraction of its range, from the state of the cell.

    A state is a fraction of the window, from 0 to 1. In series with `r_access` a cell of
    conductance `G` carries `V G / (1 + G r_access)`.

    **Example:**

        >>> device = sj.Device(0.0, 1e-4, pulses_ltp=100, pulses_ltd=100, r_access=10e3)
        >>> state = sj.kernels.visible_state(jnp.array([0.0, 0.5, 1.0]), device)
        >>> print(np.asarray(state).round(3))  # two times 0.5 / (1 + 0.5)
        [0.    0.667 1.   ]
    """
    window = device.g_max - device.g_min
    load = 1 + device.r_access * (device.g_min + state * window)
    return state * ((1 + device.r_access * device.g_max) / load)


def hidden_state(
    visible: Float[Array, " *cells"], device: Device
) -> Float[Array, " *cells"]:
    """State of the cell behind a reading, from 0 to 1; inverse of `visible_state`.

    **Example:**

        >>> device = sj.Device(0.0, 1e-4, pulses_ltp=100, pulses_ltd=100, r_access=10e3)
        >>> seen = sj.kernels.visible_state(jnp.array([0.5]), device)
        >>> print(np.asarray(sj.kernels.hidden_state(seen, device)).round(3))
        [0.5]
    """
    window = device.g_max - device.g_min
    top = 1 + device.r_access * device.g_max
    bottom = 1 + device.r_access * device.g_min
    return visible * bottom / (top - visible * (device.r_access * window))


def cell_conductance(
    state: Float[Array, " *cells"], device: Device
) -> Float[Array, " *cells"]:
    """Conductance of the cell itself, in siemens, from its state, from 0 to 1.

    **Example:**

        >>> device = sj.Device(1e-6, 1e-5, pulses_ltp=100, pulses_ltd=100)
        >>> g = sj.kernels.cell_conductance(jnp.array([0.0, 1.0]), device)
        >>> print(np.asarray(1e6 * g).round(3))
        [ 1. 10.]
    """
    return device.g_min + state * (device.g_max - device.g_min)


def gaussian(
    sigma: Scalar, shape: tuple[int, ...], dtype: DTypeLike, *, key: PRNGKeyArray
) -> Float[Array, " ..."]:
    """Draw normal noise of standard deviation `sigma`, from 0 up; nothing if it is 0.

    **Example:**

        >>> noise = sj.kernels.gaussian(0.1, (1000,), jnp.float32, key=jr.key(0))
        >>> bool(abs(jnp.std(noise) / 0.1 - 1) < 0.1)
        True
    """
    sigma = jnp.asarray(sigma, dtype)
    return lax.cond(
        sigma > 0,
        lambda: sigma * normal(key, shape, dtype),
        lambda: jnp.zeros(shape, dtype),
    )


class _Loop(eqx.Module):
    state: Float[Array, "polarity rows cols"]
    pulses: Float[Array, "polarity rows cols"]
    norm: Float[Array, ""]
    stagnant: Bool[Array, ""]
    stats: WriteStats


class Sensed(eqx.Module):
    """What the circuit senses of the array between two rounds of pulses.

    - `error`: distance that each cell should move, in visible states; zero if not used.
    - `norm`: root of the summed squares of the distances that were read.
    - `energy`, `latency`: energy and time of these reads, in joules and seconds.
    """

    error: Float[Array, "polarity rows cols"]
    norm: Float[Array, ""]
    energy: Float[Array, ""]
    latency: Float[Array, ""]


Sense = Callable[
    [Float[Array, "polarity rows cols"], Bool[Array, " rows"], PRNGKeyArray], Sensed
]


def closed_loop(
    sense: Sense,
    initial: Float[Array, "polarity rows cols"],
    used: Bool[Array, "rows cols"],
    device: Device,
    response: Response,
    rule: VerifyRule,
    *,
    reopen: bool = False,
    key: PRNGKeyArray,
) -> tuple[Float[Array, "polarity rows cols"], WriteStats]:
    """Sense and pulse in turn until the rule holds, with any way of sensing.

    **Arguments:**

    - `sense`: function of the states, the rows written since the last call and a key,
        which returns what the circuit senses.
    - `reopen`: whether a cell that once read right may get pulses again. Static.
    - the others, and what is returned: as for `write_and_verify`.
    """
    dtype = initial.dtype
    read_key, cycle_key = jr.split(key)
    cells = jnp.maximum(jnp.sum(used) * initial.shape[0], 1).astype(dtype)
    cell = jnp.arange(initial.size, dtype=jnp.uint32).reshape(initial.shape)

    def proceed(loop):
        wanted = jnp.any(loop.pulses != 0) & (loop.stats.iterations < rule.iterations)
        return (loop.stats.iterations < 0) | (wanted & ~loop.stagnant)

    def step(loop):
        # The first round, of number -1, only reads: it has no pulses yet.
        iteration = loop.stats.iterations
        turn = jnp.broadcast_to(iteration.astype(jnp.uint32) // 2, cell.shape)
        even, odd = normal_pair_at(cycle_key, turn, cell, dtype)
        noise = jnp.where(iteration % 2 == 0, even, odd)
        state = move_state(loop.state, loop.pulses, device, response, noise)
        touched = jnp.where(iteration < 0, used[None], loop.pulses != 0)
        written = jnp.any(touched, axis=(0, 2))
        sensed = sense(state, written, jr.fold_in(read_key, iteration + 1))
        energy, latency = pulse_cost(loop.pulses, loop.state, state, device)
        stats = loop.stats
        pulses = pulses_for(sensed.error, device, rule)
        return _Loop(
            state=state,
            pulses=pulses if reopen else jnp.where(touched, pulses, 0),
            norm=sensed.norm,
            stagnant=(iteration > 0) & (jnp.abs(sensed.norm - loop.norm) < rule.tolerance),
            stats=WriteStats(
                pulses=add_counts(stats.pulses, total_count(jnp.abs(loop.pulses))),
                iterations=iteration + 1,
                write_energy=(stats.write_energy + energy).astype(dtype),
                verify_energy=(stats.verify_energy + sensed.energy).astype(dtype),
                write_latency=(stats.write_latency + latency).astype(dtype),
                verify_latency=(stats.verify_latency + sensed.latency).astype(dtype),
                unfinished=stats.unfinished,
                residual=stats.residual,
            ),
        )

    zero, none = jnp.zeros((), dtype), jnp.zeros((), jnp.int32)
    stats = WriteStats(
        pulses=none,
        iterations=none - 1,
        write_energy=zero,
        verify_energy=zero,
        write_latency=zero,
        verify_latency=zero,
        unfinished=none,
        residual=zero,
    )
    start = _Loop(
        state=initial,
        pulses=jnp.zeros_like(initial),
        norm=zero,
        stagnant=jnp.array(False),
        stats=stats,
    )
    loop = lax.while_loop(proceed, step, start)
    stats = eqx.tree_at(
        lambda s: (s.unfinished, s.residual),
        loop.stats,
        (jnp.sum(loop.pulses != 0, dtype=jnp.int32), loop.norm / jnp.sqrt(cells)),
    )
    return loop.state, stats


def pulses_for(
    error: Float[Array, " *cells"], device: Device, rule: VerifyRule
) -> Float[Array, " *cells"]:
    """Signed whole pulses that would move each cell by `error` on a straight line."""
    per_window = jnp.where(error > 0, device.pulses_ltp, device.pulses_ltd)
    size = jnp.minimum(jnp.floor(jnp.abs(error) * per_window + 0.5), rule.max_pulses)
    # At distance zero the limit may be infinity times zero, but is not used.
    limit = jnp.floor(
        (jnp.abs(error) * (rule.caution / jnp.asarray(device.sigma_c2c))) ** 2
    )
    size = jnp.minimum(size, jnp.maximum(limit.astype(size.dtype), 1))
    pulses = jnp.where(jnp.abs(error) > rule.band, jnp.sign(error) * size, 0)
    return pulses.astype(error.dtype)


def pulse_cost(
    pulses: Float[Array, "polarity rows cols"],
    before: Float[Array, "polarity rows cols"],
    after: Float[Array, "polarity rows cols"],
    device: Device,
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Energy `V**2 t n G`, with `G` the mean before and after, and latency of a round."""
    up = pulses > 0
    count = jnp.abs(pulses)
    energy = jnp.where(up, device.v_ltp**2 * device.t_ltp, device.v_ltd**2 * device.t_ltd)
    conductance = cell_conductance((before + after) / 2, device)
    longest_ltp = jnp.max(jnp.where(up, count, 0), axis=(0, 2))
    longest_ltd = jnp.max(jnp.where(up, 0, count), axis=(0, 2))
    latency = jnp.sum(longest_ltp) * device.t_ltp + jnp.sum(longest_ltd) * device.t_ltd
    return jnp.sum(energy * count * conductance), latency


def read_energy(
    state: Float[Array, "polarity rows cols"],
    used: Bool[Array, "rows cols"],
    device: Device,
) -> Float[Array, ""]:
    """Energy, in joules, of driving each used cell once at the read voltage."""
    conductance = cell_conductance(state, device)
    through = conductance / (1 + device.r_access * conductance)
    power = jnp.where(used[None], device.v_read**2 * through, 0)
    return jnp.sum(power) * device.t_read
