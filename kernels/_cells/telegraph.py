"""Random telegraph noise: a trap beside the filament that is empty or full.

A trap that is empty stays so for `tau_0` on average, a full one for `tau_1`; a full trap
lowers the conductance by a share. The state is a two-state Markov process with the rate
`k = 1/tau_0 + 1/tau_1`: it is full for the share `f = tau_1 / (tau_0 + tau_1)` of the time,

    P(full at t | full at 0) = f + (1 - f) exp(-k t),
    P(full at t | empty at 0) = f (1 - exp(-k t)),

so that its autocorrelation is `exp(-k t)` (Machlup 1954, J. Appl. Phys. 25, 341).

The state is a pure function of the key and of the time. Times are on a grid of `t_step`.
The states at its ends are drawn first, then by bisection each state in the middle, given
its two neighbours: every point has a uniform number of its own, addressed by its index, and
all times have their exact joint law, in whatever order and number they are asked for.
"""

import equinox as eqx
import jax.lax as lax
import jax.numpy as jnp
import jax.random as jr
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from .._numerics.requirements import (
    FROM_ZERO,
    POSITIVE,
    SHARE,
    check_counts,
    check_kind,
    check_numbers,
)
from .device import Scalar
from .drift import AbstractDrift


class Traps(eqx.Module):
    """One trap per cell.

    - `amplitude`: share of the conductance that a full trap takes away; 0 without a trap.
    - `tau_0`, `tau_1`: mean times empty and full, in seconds.

    **Example:**

        >>> traps = sj.kernels.Traps(jnp.full(2, 0.1), jnp.full(2, 3.0), jnp.full(2, 1.0))
        >>> np.asarray(traps.tau_1 / (traps.tau_0 + traps.tau_1))  # share of time full
        array([0.25, 0.25]...)
    """

    amplitude: Float[Array, " *cells"]
    tau_0: Float[Array, " *cells"]
    tau_1: Float[Array, " *cells"]


class TelegraphNoise(AbstractDrift):
    """Statistics of the traps of an array; it acts as drift, `g (1 - amplitude full(t))`.

    Dwell times are log-normal over the cells, and so is `a / (1 - a)` of an amplitude `a`,
    the relative change of the resistance. Pass one key for all times, and successive reads
    jump as a telegraph does. `g` is that of the empty trap.

    - `share`: probability that a cell has a trap, from 0 to 1.
    - `amplitude`: median share of the conductance, from 0 to 1.
    - `tau_0`, `tau_1`: median mean times empty and full, in seconds.
    - `amplitude_spread`, `tau_spread`: deviations of the natural logarithms of
        `a / (1 - a)` and of the dwell times.
    - `t_step`: distance of the times, in seconds, at which states can differ: that of two
        reads. Other times are rounded down.
    - `levels`: there are `2**levels` steps, 1 to 30; later times have the last state.
        Static: the cost is one uniform number per cell, level and time.

    **Raises:** `ValueError` for a figure out of range.

    **Example:**

        >>> model = sj.kernels.TelegraphNoise(1.0, 0.2, tau_0=5.0, tau_1=5.0)
        >>> g = jnp.full(3, 1e-5)
        >>> seen = sj.kernels.drift(model, g, 7.0, key=jr.key(0))
        >>> bool(((seen == g) | jnp.isclose(seen, 0.8 * g)).all())
        True
    """

    share: Scalar
    amplitude: Scalar
    tau_0: Scalar
    tau_1: Scalar
    amplitude_spread: Scalar = 0.0
    tau_spread: Scalar = 0.0
    t_step: Scalar = 1.0
    levels: int = eqx.field(static=True, default=20)

    def __check_init__(self):
        call = "sedma_jax.kernels.TelegraphNoise"
        shares = {"share": self.share, "amplitude": self.amplitude}
        check_numbers(call, SHARE, "Divide percentages by 100.", **shares)
        times = {"tau_0": self.tau_0, "tau_1": self.tau_1, "t_step": self.t_step}
        check_numbers(call, POSITIVE, "It is a time, in seconds.", **times)
        spreads = {
            "amplitude_spread": self.amplitude_spread,
            "tau_spread": self.tau_spread,
        }
        check_numbers(call, FROM_ZERO, "It is a deviation of logarithms.", **spreads)
        check_counts(call, 1, 30, "2**20 steps suit most.", levels=self.levels)

    def drifted(
        self,
        g: Float[Array, " *cells"],
        time: Float[Array, ""],
        g_target: Float[Array, " *cells"],
        key: PRNGKeyArray,
    ) -> Float[Array, " *cells"]:
        del g_target
        return _seen(self, g, time, 1, key)


class TrapGroup(AbstractDrift):
    """Several traps in each cell, of amplitudes that rise and fall together.

    A cell that is noisy by one trap is noisy by the others too (measured by
    `sedma_jax.devices.fit_reads`): the changes of resistance of all are multiplied by
    one log-normal number of median 1. All else is drawn trap by trap.

    - `models`: of the traps, at least one; each has the `amplitude_spread` of its own.
    - `common_spread`: deviation of the natural logarithm of the common factor.

    **Raises:** `ValueError` for no traps, for other models, or for a negative spread.

    **Example:**

        >>> trap = sj.kernels.TelegraphNoise(1.0, 0.2, tau_0=5.0, tau_1=5.0)
        >>> model = sj.kernels.TrapGroup((trap, trap), common_spread=0.5)
        >>> seen = sj.kernels.drift(model, jnp.ones(9), 7.0, key=jr.key(0))
        >>> bool(((0 < seen) & (seen <= 1)).all())
        True
    """

    models: tuple[TelegraphNoise, ...] = eqx.field(converter=tuple)
    common_spread: Scalar = 0.0

    def __check_init__(self):
        call = "sedma_jax.kernels.TrapGroup"
        if not self.models:
            raise ValueError(
                f"`{call}` needs `models` to hold at least one. Got none. Use no drift."
            )
        for model in self.models:
            remedy = "Such as `sedma_jax.kernels.TelegraphNoise(0.5, 0.1, 9.0, 9.0)`."
            check_kind(call, TelegraphNoise, "telegraph noise", remedy, models=model)
        spread = {"common_spread": self.common_spread}
        check_numbers(call, FROM_ZERO, "It is a deviation of logarithms.", **spread)

    def drifted(
        self,
        g: Float[Array, " *cells"],
        time: Float[Array, ""],
        g_target: Float[Array, " *cells"],
        key: PRNGKeyArray,
    ) -> Float[Array, " *cells"]:
        del g_target
        factor_key, traps_key = jr.split(key)
        factor = jnp.exp(self.common_spread * jr.normal(factor_key, g.shape, g.dtype))
        for number, model in enumerate(self.models):
            g = _seen(model, g, time, factor, jr.fold_in(traps_key, number))
        return g


def _seen(model: TelegraphNoise, g, time, factor, key):
    """Conductances beside the traps of a model, changes of resistance times `factor`."""
    trap_key, state_key = jr.split(key)
    traps = draw_traps(model, g.shape, g.dtype, key=trap_key)
    full = telegraph_state(traps, time, model.t_step, levels=model.levels, key=state_key)
    return g * (1 - jnp.where(full, _scaled(traps.amplitude, factor), 0))


def _scaled(amplitude, factor):
    """The amplitude `a` of which `a / (1 - a)` is `factor` times that of another."""
    return amplitude * factor / (1 - amplitude + amplitude * factor)


def draw_traps(
    model: TelegraphNoise, shape: tuple[int, ...], dtype: DTypeLike, *, key: PRNGKeyArray
) -> Traps:
    """Draw the traps of an array, as fabrication and forming leave them.

    **Arguments:**

    - `model`: the statistics.
    - `shape`, `dtype`: of the result; floating.
    - `key`: typed key that identifies the array.

    **Example:**

        >>> model = sj.kernels.TelegraphNoise(0.0, 0.2, tau_0=5.0, tau_1=5.0)
        >>> float(sj.kernels.draw_traps(model, (4,), float, key=jr.key(0)).amplitude.sum())
        0.0
    """
    has_key, amplitude_key, empty_key, full_key = jr.split(key, 4)
    normal = lambda key: jr.normal(key, shape, dtype)
    median = jnp.asarray(model.amplitude, dtype)
    factor = jnp.exp(model.amplitude_spread * normal(amplitude_key))
    has = jr.uniform(has_key, shape, dtype) < model.share
    return Traps(
        jnp.where(has, _scaled(median, factor), 0).astype(dtype),
        (model.tau_0 * jnp.exp(model.tau_spread * normal(empty_key))).astype(dtype),
        (model.tau_1 * jnp.exp(model.tau_spread * normal(full_key))).astype(dtype),
    )


def telegraph_state(
    traps: Traps,
    time: Scalar,
    t_step: Scalar = 1.0,
    *,
    levels: int = 20,
    key: PRNGKeyArray,
) -> Bool[Array, " *cells"]:
    """Whether the trap of each cell is full at `time`; see the head of the module.

    **Arguments:**

    - `traps`: of the cells.
    - `time`: in seconds, from 0 up; `jax.vmap` over many.
    - `t_step`, `levels`: as in `TelegraphNoise`.
    - `key`: typed key. The same key gives one trajectory at all times.

    **Example:**

        >>> traps = sj.kernels.Traps(jnp.ones(1), jnp.full(1, 3.0), jnp.full(1, 1.0))
        >>> at = lambda t: sj.kernels.telegraph_state(traps, t, key=jr.key(1))
        >>> jax.vmap(at)(jnp.arange(4.0)).shape
        (4, 1)
    """
    dtype = traps.tau_0.dtype
    shape = traps.tau_0.shape
    filled = traps.tau_1 / (traps.tau_0 + traps.tau_1)
    rate = (1 / traps.tau_0 + 1 / traps.tau_1) * t_step
    step = jnp.floor(jnp.asarray(time, dtype) / jnp.asarray(t_step, dtype))
    last = 2**levels
    index = jnp.clip(step, 0, last).astype(jnp.int32)

    def uniform(point):
        return jr.uniform(jr.fold_in(key, point), shape, dtype)

    def full_after(before, steps):
        """Probability of a full trap `steps` steps after the state `before`."""
        fade = jnp.exp(-rate * steps.astype(dtype))
        return jnp.where(before, filled + (1 - filled) * fade, filled * (1 - fade))

    first = uniform(0) < filled
    end = uniform(last) < full_after(first, jnp.asarray(last))

    def bisect(level, carry):
        low, before, after = carry
        half = jnp.asarray(last, jnp.int32) >> (level + 1)
        middle = low + half
        to_full = full_after(before, half)
        reach = lambda state: jnp.where(
            after, full_after(state, half), 1 - full_after(state, half)
        )
        by_full = to_full * reach(jnp.ones(shape, bool))
        by_empty = (1 - to_full) * reach(jnp.zeros(shape, bool))
        both = by_full + by_empty
        chance = by_full / jnp.where(both > 0, both, 1)
        state = uniform(middle) < chance
        right = index >= middle
        return (
            jnp.where(right, middle, low),
            jnp.where(right, state, before),
            jnp.where(right, after, state),
        )

    start = (jnp.zeros((), jnp.int32), first, end)
    _, state, _ = lax.fori_loop(0, levels, bisect, start)
    return lax.stop_gradient(jnp.where(index == last, end, state))
