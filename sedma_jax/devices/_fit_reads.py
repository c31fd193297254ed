"""Relaxation, random telegraph and white noise from successive reads of many cells.

The mean over the cells gives `t_0` and the mean of `g (1 + c log(1 + t / t_0))`, and all
cells are divided by it. What is left is a Markov process of two levels beside a slope of
the cell and white noise, fitted by expectation and maximisation (Baum, Petrie, Soules &
Weiss 1970, Ann. Math. Stat. 41, 164); the levels are divided out, and the next trap is
looked for in the rest. A cell has a trap if two levels explain it better than one by
Schwarz's criterion (1978, Ann. Stat. 6, 461).

Dwell times are log-normal over the cells with a trap, and of maximum likelihood given the
jumps of each and the time at either level: cells that hardly jump within the trace count as
much as those that jump often. Amplitudes have a factor in common, the covariance of the
logarithms of two traps of a cell. Other figures over the cells are medians and spreads of
logarithms. White noise is that of the median difference of two reads in a row, which jumps
hardly move. Traps also make slopes: the spread of `c` is what they leave, by simulation
with a key of its own.
"""

import dataclasses
import itertools
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray
from numpy.typing import ArrayLike
from scipy.optimize import minimize
from scipy.special import logsumexp

from ..kernels import (
    DriftInTurn,
    LogarithmicRelaxation,
    PolynomialCurve,
    StationaryReadNoise,
    TelegraphNoise,
    TrapGroup,
    shown,
)

_CALL = "sedma_jax.devices.fit_reads"
_LEAST_CELLS, _LEAST_READS, _LEAST_JUMPING = 8, 32, 4
_NODES = 24  # of the integral over each dwell time


class ReadFit(eqx.Module):
    """What `fit_reads` found.

    - `drift`: relaxation and telegraph noise, for `age`.
    - `white`, `white_spread`: median share of the conductance that white noise has, and
        the deviation of its logarithm over the cells.
    - `jumps`: number of cells with a trap whose trace changed level at least twice; dwell
        times come from these.

    **Example:**

        >>> k = sj.kernels
        >>> drift = k.DriftInTurn((k.TelegraphNoise(1.0, 0.1, tau_0=9.0, tau_1=9.0),))
        >>> found = sj.devices.ReadFit(drift, white=0.01, white_spread=0.2, jumps=12)
        >>> round(float(1e6 * found.read.deviation(jnp.array(1e-5))), 4)  # of 10 uS
        0.1
    """

    drift: DriftInTurn
    white: float = eqx.field(static=True)
    white_spread: float = eqx.field(static=True)
    jumps: int = eqx.field(static=True)

    @property
    def read(self) -> StationaryReadNoise:
        """White noise of the median cell, for `with_read_noise`."""
        return StationaryReadNoise(deviation=PolynomialCurve((0.0, self.white), 1.0))


class _Levels(NamedTuple):
    high: np.ndarray
    low: np.ndarray
    falls: np.ndarray  # expected number of them, and of steps that begin at either level
    rises: np.ndarray
    from_high: np.ndarray
    from_low: np.ndarray
    trap: np.ndarray
    switches: np.ndarray


def fit_reads(conductance: ArrayLike, t_step: float = 1.0, *, traps: int = 3) -> ReadFit:
    """Fit models of relaxation, telegraph noise and white noise.

    **Arguments:**

    - `conductance`: in siemens, of shape (cells, reads), read at equal times after
        programming; at least 8 cells and 32 reads.
    - `t_step`: time between two reads, in seconds.
    - `traps`: the most of each cell, at least 1: a `TelegraphNoise`, or several of them in
        a `TrapGroup`.

    **Raises:** `ValueError` for fewer, for what is not positive and finite, for constant
    traces, and where fewer than 4 cells jump, so that dwell times cannot be identified.

    **Example:**

        >>> trap = sj.kernels.TelegraphNoise(1.0, 0.1, tau_0=9.0, tau_1=9.0)
        >>> g = 1e-5 * jnp.ones(32)
        >>> read = lambda t: sj.kernels.drift(trap, g, t, key=jr.key(0))
        >>> traces = jax.vmap(read, out_axes=1)(jnp.arange(200.0))
        >>> white = 1 + 0.005 * jr.normal(jr.key(1), traces.shape)
        >>> found = sj.devices.fit_reads(traces * white, traps=1)
        >>> 0.09 < found.drift.models[1].amplitude < 0.11
        True
    """
    g = np.asarray(conductance, float)
    if g.ndim != 2 or len(g) < _LEAST_CELLS or g.shape[1] < _LEAST_READS:
        raise ValueError(
            f"`{_CALL}` needs at least {_LEAST_CELLS} cells of {_LEAST_READS} reads. Got "
            f"shape {g.shape}. Cells come first."
        )
    if not (np.isfinite(g).all() and (g > 0).all() and g.max() <= 0.1):
        raise ValueError(
            f"`{_CALL}` needs conductances above 0, up to 0.1 siemens. Got {shown(g)}. "
            "Resistances are ohms: pass 1 / R."
        )
    if not (np.isfinite(t_step) and t_step > 0):
        raise ValueError(
            f"`{_CALL}` needs `t_step` above 0. Got {t_step}. It is in seconds."
        )
    if (np.ptp(g, axis=1) <= 1e-9 * g.max(axis=1)).any():
        raise ValueError(
            f"`{_CALL}` needs traces that change. Got a constant one. Leave such cells out."
        )
    reads = np.arange(g.shape[1])
    relative = g / np.median(g, axis=1, keepdims=True)
    mean = relative.mean(axis=0)[None]
    grid = np.geomspace(1.0, g.shape[1] / 4, 24)
    t_0 = float(min(grid, key=lambda t: _relaxed(mean, reads, t)[2]))
    start, change, _ = _relaxed(mean, reads, t_0)
    centre = float(change[0] / start[0])
    base, change, _ = _relaxed(relative, reads, t_0)
    slope = change / base
    # The course of a cell about the common one is fitted with its levels: a line that is
    # taken away first would take slow traps with it.
    rest = relative / (1 + centre * np.log1p(reads / t_0))
    models: list[TelegraphNoise] = []
    amplitudes: list[np.ndarray] = []
    jumps = 0
    for number in range(traps):
        levels, rest = _two_levels(rest, np.log1p(reads / t_0))
        found = _telegraph(levels, t_step)
        if found is None:
            if number:
                break
            raise ValueError(
                f"`{_CALL}` needs at least {_LEAST_JUMPING} cells that jump twice, to find "
                f"dwell times. Got fewer of {len(g)}. Take longer traces."
            )
        jumps = jumps or int(np.sum(levels.trap & (levels.switches >= 2)))
        models.append(found)
        amplitudes.append(
            np.log(np.where(levels.trap, levels.high / levels.low - 1, np.nan))
        )
    steps = np.abs(np.diff(rest, axis=1))
    # Of normal numbers the median magnitude is 0.6745 deviations.
    sigma = np.maximum(np.median(steps, axis=1) / (0.6745 * np.sqrt(2)), 1e-6)
    white, white_spread = float(np.median(sigma)), float(np.std(np.log(sigma)))

    def relaxation(deviation):
        return LogarithmicRelaxation(centre, deviation, t_0 * t_step)

    noise = _together(models, np.array(amplitudes))

    def put_together(deviation):
        drift = DriftInTurn((relaxation(deviation), noise))
        return ReadFit(drift, white, white_spread, jumps)

    alone = simulate_reads(
        put_together(0.0), jnp.ones(max(256, len(g))), g.shape[1], key=jr.key(0)
    )
    base, change, _ = _relaxed(np.asarray(alone), reads, t_0)
    spread = lambda values: float(np.diff(np.quantile(values, (0.159, 0.841)))[0] / 2)
    left = spread(slope) ** 2 - spread(change / base) ** 2
    return put_together(float(np.sqrt(max(left, 0.0))))


def _together(models: list[TelegraphNoise], logs: np.ndarray) -> TelegraphNoise | TrapGroup:
    """The traps of a cell, with what the logarithms of their changes have in common."""
    if len(models) == 1:
        return models[0]
    pairs = []
    for one, two in itertools.combinations(logs, 2):
        both = np.isfinite(one) & np.isfinite(two)
        if both.sum() >= _LEAST_JUMPING:
            pairs.append(np.cov(one[both], two[both])[0, 1])
    common = max(float(np.mean(pairs)), 0.0) if pairs else 0.0
    own = [max(float(m.amplitude_spread) ** 2 - common, 0.0) ** 0.5 for m in models]
    models = [
        dataclasses.replace(model, amplitude_spread=spread)
        for model, spread in zip(models, own, strict=True)
    ]
    return TrapGroup(tuple(models), common**0.5)


def _telegraph(levels: _Levels, t_step: float) -> TelegraphNoise | None:
    """Statistics of the traps, or None where too few jump."""
    moving = levels.trap & (levels.switches >= 2)
    if moving.sum() < _LEAST_JUMPING:
        return None
    amplitude = (1 - levels.low / levels.high)[levels.trap]
    tau_0, tau_1, spread = _dwell_times(
        *(
            counts[levels.trap]
            for counts in (levels.falls, levels.from_high, levels.rises, levels.from_low)
        )
    )
    return TelegraphNoise(
        float(levels.trap.mean()),
        float(np.median(amplitude)),
        tau_0 * t_step,
        tau_1 * t_step,
        float(np.std(np.log(amplitude / (1 - amplitude)))),
        spread,
        t_step,
    )


def _dwell_times(
    falls: np.ndarray, from_high: np.ndarray, rises: np.ndarray, from_low: np.ndarray
) -> tuple[float, float, float]:
    """Medians of the mean times at both levels, in steps, and the spread of logarithms.

    With the mean times `a` and `b` of a cell, `f = b / (a + b)` and `k = 1 / a + 1 / b`, a
    step from high falls with the probability `f (1 - exp(-k))`, and one from low rises with
    `(1 - f) (1 - exp(-k))`. The likelihood of all is integrated over log-normal `a` and `b`
    by Gauss's and Hermite's rule.
    """
    nodes, weights = np.polynomial.hermite_e.hermegauss(_NODES)
    one, two = (part.ravel() for part in np.meshgrid(nodes, nodes))
    weight = np.log(np.outer(weights, weights).ravel() / weights.sum() ** 2)
    stays_high, stays_low = from_high - falls, from_low - rises

    def misfit(at):
        a, b = np.exp(at[0] + np.exp(at[2]) * one), np.exp(at[1] + np.exp(at[2]) * two)
        moves = -np.expm1(-1 / a - 1 / b)
        fall, rise = moves * b / (a + b), moves * a / (a + b)
        terms = (
            np.outer(falls, np.log(fall))
            + np.outer(stays_high, np.log1p(-fall))
            + np.outer(rises, np.log(rise))
            + np.outer(stays_low, np.log1p(-rise))
            + weight
        )
        return -np.sum(logsumexp(terms, axis=1))

    start = [
        np.log(from_high.sum() / falls.sum()),
        np.log(from_low.sum() / rises.sum()),
        0.0,
    ]
    limits = [(-1.0, 15.0), (-1.0, 15.0), (-4.0, 1.5)]
    found = minimize(misfit, start, method="Nelder-Mead", bounds=limits)
    one, two, spread = (float(v) for v in np.exp(found.x))
    return one, two, spread


def _relaxed(relative, reads, t_0):
    growth = np.log1p(reads / t_0)
    design = np.stack([np.ones_like(growth), growth], axis=1)
    found, *_ = np.linalg.lstsq(design, relative.T, rcond=None)
    rest = relative.T - design @ found
    return found[0], found[1], float(np.sum(rest**2))


def _two_levels(
    z: np.ndarray, growth: np.ndarray, rounds: int = 40
) -> tuple[_Levels, np.ndarray]:
    """Fit two levels and a share of `growth` to each row, and divide the levels out."""
    cells, reads = z.shape
    trend = np.zeros(cells)
    low, high = np.quantile(z, (0.2, 0.8), axis=1)
    sigma = np.maximum(np.median(np.abs(np.diff(z, axis=1)), axis=1), 1e-5)
    fall, rise = np.full(cells, 0.1), np.full(cells, 0.1)
    start = np.full((cells, 2), 0.5)
    likelihood, weight = np.zeros(cells), np.zeros((cells, reads, 2))
    pairs, out = np.zeros((cells, 2, 2)), np.zeros((cells, 2))
    for _ in range(rounds):
        centre = np.stack([high, low], axis=1)
        flat = z - trend[:, None] * growth
        away = (flat[:, :, None] - centre[:, None]) / sigma[:, None, None]
        emit = -0.5 * away**2 - np.log(sigma)[:, None, None] - 0.5 * np.log(2 * np.pi)
        top = emit.max(axis=2, keepdims=True)
        chance = np.exp(emit - top) + 1e-300
        move = np.stack([np.stack([1 - fall, fall], 1), np.stack([rise, 1 - rise], 1)], 1)
        ahead, scale = np.empty_like(chance), np.empty((cells, reads))
        now = start
        for k in range(reads):
            now = (now if k == 0 else np.einsum("ci,cij->cj", now, move)) * chance[:, k]
            scale[:, k] = now.sum(axis=1)
            now = now / scale[:, k, None]
            ahead[:, k] = now
        later = np.ones((cells, 2))
        pairs = np.zeros((cells, 2, 2))
        weight[:, -1] = ahead[:, -1]
        for k in range(reads - 2, -1, -1):
            after = chance[:, k + 1] * later / scale[:, k + 1, None]
            pairs += ahead[:, k, :, None] * move * after[:, None]
            later = np.einsum("cij,cj->ci", move, after)
            weight[:, k] = ahead[:, k] * later
        high, low, trend = _levels_and_trend(z, weight, growth)
        flat = z - trend[:, None] * growth
        centre = np.stack([high, low], axis=1)
        spread = (weight * (flat[:, :, None] - centre[:, None]) ** 2).sum((1, 2))
        sigma = np.sqrt(np.maximum(spread / reads, 1e-12))
        out = pairs.sum(axis=2) + 1e-9
        limit = lambda p: np.clip(p, 1e-4, 0.9)
        fall, rise = limit(pairs[:, 0, 1] / out[:, 0]), limit(pairs[:, 1, 0] / out[:, 1])
        start = weight[:, 0]
        likelihood = (np.log(scale) + top[:, :, 0]).sum(axis=1)
    swap = low > high
    high, low = np.where(swap, low, high), np.where(swap, high, low)
    falls, rises = pairs[:, 0, 1], pairs[:, 1, 0]
    falls, rises = np.where(swap, rises, falls), np.where(swap, falls, rises)
    above, below = np.where(swap[:, None], out[:, ::-1], out).T
    single = -0.5 * reads * (np.log(2 * np.pi * _left_by_line(z, growth)) + 1)
    # Four parameters more: a level, two probabilities and the first state.
    better = likelihood - single > 0.5 * 4 * np.log(reads)
    trap = better & (0 < low) & (low < high)
    switches = np.sum(np.diff(weight.argmax(axis=2), axis=1) != 0, axis=1)
    centre = np.where(swap[:, None], np.stack([low, high], 1), np.stack([high, low], 1))
    level = np.einsum("ckj,cj->ck", weight, centre)
    rest = z / np.where(trap[:, None], level, 1.0)
    return _Levels(high, low, falls, rises, above, below, trap, switches), rest


def _levels_and_trend(z: np.ndarray, weight: np.ndarray, growth: np.ndarray) -> np.ndarray:
    """Two levels and a share of `growth` of each row, in weighted least squares."""
    total = weight.sum(axis=1) + 1e-9
    across = np.einsum("ckj,k->cj", weight, growth)
    normal = np.zeros((len(z), 3, 3))
    normal[:, 0, 0], normal[:, 1, 1] = total.T
    normal[:, 2, :2] = normal[:, :2, 2] = across
    normal[:, 2, 2] = np.sum(growth**2) + 1e-9
    values = np.concatenate(
        [np.einsum("ckj,ck->cj", weight, z), (z @ growth)[:, None]], axis=1
    )
    return np.linalg.solve(normal, values[:, :, None])[:, :, 0].T


def _left_by_line(z: np.ndarray, growth: np.ndarray) -> np.ndarray:
    """The variance that a line in `growth` leaves of each row."""
    at = growth - growth.mean()
    left = z - z.mean(axis=1, keepdims=True)
    return np.mean(left**2, axis=1) - (left @ at / at.size) ** 2 / np.mean(at**2)


def simulate_reads(
    found: ReadFit, g: Float[Array, " cells"], reads: int, *, key: PRNGKeyArray
) -> Float[Array, "cells reads"]:
    """Simulate successive reads of cells by the models that were fitted.

    **Arguments:**

    - `found`: from `fit_reads`.
    - `g`: conductances just after programming, with empty traps, in siemens.
    - `reads`: their number, at the time step of the fit.
    - `key`: typed key.

    **Example:**

        >>> k = sj.kernels
        >>> drift = k.DriftInTurn((k.TelegraphNoise(1.0, 0.1, tau_0=9.0, tau_1=9.0),))
        >>> found = sj.devices.ReadFit(drift, white=0.0, white_spread=0.0, jumps=0)
        >>> sj.devices.simulate_reads(found, jnp.ones(3), 5, key=jr.key(0)).shape
        (3, 5)
    """
    cell_key, white_key, spread_key = jr.split(key, 3)
    last: Any = found.drift.models[-1]
    telegraph = last.models[0] if isinstance(last, TrapGroup) else last
    times = jnp.arange(reads, dtype=g.dtype) * telegraph.t_step
    still = jax.vmap(lambda t: found.drift.drifted(g, t, g, cell_key), out_axes=1)(times)
    spread = jnp.exp(found.white_spread * jr.normal(spread_key, g.shape, g.dtype))
    white = found.white * spread[:, None] * jr.normal(white_key, still.shape, g.dtype)
    return still * (1 + white)
