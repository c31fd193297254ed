"""What happens to the arrays of a layer after programming, as options of the layer."""

import dataclasses
import math
from typing import Any

import equinox as eqx
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from .._crossbar.abstract_crossbar import AbstractCrossbar
from .._crossbar.crossbar import Crossbar
from .._crossbar.effects import (
    age,
    compensate_drift,
    fault_map,
    inject_faults,
)
from .._crossbar.line_resistance import (
    with_approximate_line_resistance,
    with_line_resistance,
)
from .._crossbar.read_effects import with_nonlinear_current, with_read_noise
from .._programming.pooled import PooledCrossbar
from ..kernels import (
    FROM_ZERO,
    SHARE,
    AbstractDrift,
    AbstractReadNoise,
    CubicCurrent,
    check_counts,
    check_given,
    check_kind,
    known_numbers,
)
from ..noise_models import MeasuredArray

Number = Float[Array, ""] | float | int


class Effects(eqx.Module):
    """What acts on the arrays of a layer after programming, in the order of hardware.

    Cells drift, stuck ones do not; lines have resistance; reads have noise. The default
    of each field changes nothing.

    - `p_on`, `p_off`: probabilities of a cell to be stuck at `g_max` and at `g_min`.
    - `r_word`, `r_bit`: resistance of the lines between two cells, in ohms.
    - `exact_lines`: solve the lines exactly, in `O(rows**4)` per array; or else as
        `sedma_jax.with_approximate_line_resistance` does.
    - `seconds`: age of the arrays, from 0 up.
    - `drift`: the law of drift; that of the published statistics if None.
    - `compensation_reads`: known inputs by which the loss of drift is compensated, as in
        `sedma_jax.nn.age`.
    - `read`: read noise on top of the device's; that of the published statistics if None.
    - `current`: nonlinearity of the cells' current.

    **Raises:** `ValueError` for a probability outside 0 to 1, a negative resistance or
    time, or a model of another kind.

    **Example:**

        >>> import equinox as eqx
        >>> layer = eqx.nn.Linear(4, 3, key=jr.key(0))
        >>> dead = sj.nn.Effects(p_off=1.0)  # all cells stuck
        >>> how = dict(array=4, effects=dead, key=jr.key(1))
        >>> analog = sj.nn.analogize(layer, "epiram", **how)
        >>> bool(jnp.all(sj.nn.digitize(analog).weight == 0))
        True
    """

    p_on: Number = 0.0
    p_off: Number = 0.0
    r_word: Number = 0.0
    r_bit: Number = 0.0
    exact_lines: bool = eqx.field(static=True, default=True)
    seconds: Number = 0.0
    drift: AbstractDrift | None = None
    compensation_reads: int = eqx.field(static=True, default=0)
    read: AbstractReadNoise | None = None
    current: CubicCurrent | None = None

    def __check_init__(self):
        call = "sedma_jax.nn.Effects"
        shares = {"p_on": self.p_on, "p_off": self.p_off}
        check_given(call, SHARE, "Divide percentages by 100.", **shares)
        lines = {"r_word": self.r_word, "r_bit": self.r_bit}
        check_given(call, FROM_ZERO, "It is in ohms. Zero is an ideal line.", **lines)
        remedy = "Time counts from programming, in seconds."
        check_given(call, FROM_ZERO, remedy, seconds=self.seconds)
        remedy = "256 is many; 0 compensates nothing."
        reads = {"compensation_reads": self.compensation_reads}
        check_counts(call, 0, math.inf, remedy, **reads)
        for name, kind, example in _MODELS:
            value = getattr(self, name)
            if value is not None:
                remedy = f"Such as `sedma_jax.noise_models.{example}`."
                kinds = {name: value}
                check_kind(call, kind, f"a `{kind.__name__}`", remedy, **kinds)


_MODELS = (
    ("drift", AbstractDrift, "PCM.drift"),
    ("read", AbstractReadNoise, "PCM.read"),
    ("current", CubicCurrent, "MILO_2021_CURRENT"),
)


def may_be_positive(*numbers: Number) -> bool:
    """Whether one of them may be above zero: a traced one may."""
    known = [known_numbers(number) for number in numbers]
    return any(value is None or bool((value != 0).any()) for value in known)


def known_drift(
    measured: MeasuredArray | None, effects: Effects | None
) -> AbstractDrift | None:
    """The law of drift of a layer: that of its effects, or of its statistics."""
    own = None if effects is None else effects.drift
    return own if own is not None or measured is None else measured.drift


def known_noise(
    measured: MeasuredArray | None, effects: Effects | None
) -> AbstractReadNoise | None:
    """The read noise of a layer: that of its effects, or of its statistics."""
    own = None if effects is None else effects.read
    return own if own is not None or measured is None else measured.read


def check_effects(call: str, effects: Any, measured: MeasuredArray | None) -> None:
    """Refuse what is no `Effects`, and time or compensation without a law of drift."""
    remedy = "Such as `sedma_jax.nn.Effects(p_off=0.01)`."
    check_kind(call, Effects, "a `sedma_jax.nn.Effects`", remedy, effects=effects)
    timed = may_be_positive(effects.seconds) or effects.compensation_reads
    if timed and known_drift(measured, effects) is None:
        raise ValueError(
            f"`{call}` needs a law of drift for `seconds` or `compensation_reads` in "
            f"`effects`. Got none. Pass `Effects(drift=sedma_jax.noise_models.PCM.drift, "
            "...)`, or program by statistics that have one."
        )


def act(
    held: AbstractCrossbar,
    effects: Effects | None,
    *,
    drift: AbstractDrift | None,
    seconds: Number,
    noise: AbstractReadNoise | None,
    target: Float[Array, "tiles polarity rows cols"] | None,
    reads: int,
    cells_key: PRNGKeyArray | None,
    key: PRNGKeyArray,
) -> AbstractCrossbar:
    """Arrays as they are some time after programming, those of a pool bank by bank.

    `held` is as programmed; `cells_key` identifies its stuck cells, and `key` the drift of
    its cells and the reads of compensation.
    """
    how: Any = dict(drift=drift, seconds=seconds, noise=noise, target=target, reads=reads)
    if not isinstance(held, PooledCrossbar):
        crossbar: Any = held
        return _act(crossbar, effects, cells_key=cells_key, key=key, **how)
    banks = []
    for i, bank in enumerate(held.banks):
        cells = None if cells_key is None else jr.fold_in(cells_key, i)
        keys = dict(cells_key=cells, key=jr.fold_in(key, i))
        new = _act(bank.crossbar, effects, **keys, **how)
        banks.append(dataclasses.replace(bank, crossbar=new))
    return dataclasses.replace(held, banks=tuple(banks))


def _act(
    fresh: Crossbar,
    effects: Effects | None,
    *,
    drift: AbstractDrift | None,
    seconds: Number,
    noise: AbstractReadNoise | None,
    target: Float[Array, "tiles polarity rows cols"] | None,
    reads: int,
    cells_key: PRNGKeyArray | None,
    key: PRNGKeyArray,
) -> Crossbar:
    """One crossbar: drifted, with stuck cells, behind lines, noisy and compensated."""
    drift_key, input_key, read_key = jr.split(key, 3)
    own = Effects() if effects is None else effects
    faulty = may_be_positive(own.p_on, own.p_off) and cells_key is not None

    def in_place(crossbar: Crossbar) -> Crossbar:
        """Stuck cells and lines, which stay as they are."""
        if faulty and cells_key is not None:
            stuck = fault_map(crossbar, own.p_on, own.p_off, key=cells_key)
            crossbar = inject_faults(crossbar, stuck)
        if may_be_positive(own.r_word, own.r_bit):
            wire = with_approximate_line_resistance
            wire = with_line_resistance if own.exact_lines else wire
            crossbar = wire(crossbar, own.r_word, own.r_bit)
        return crossbar

    def seen(crossbar: Crossbar, time: Number) -> Crossbar:
        """What a read adds, `time` after programming."""
        if noise is not None:
            crossbar = with_read_noise(crossbar, noise, time, before)
        if own.current is not None:
            crossbar = with_nonlinear_current(crossbar, own.current)
        return crossbar

    quiet = fresh if noise is None else dataclasses.replace(fresh, read_variance=None)
    before = now = in_place(quiet)
    if drift is not None:
        aim = None if target is None else dataclasses.replace(quiet, conductance=target)
        now = in_place(age(quiet, drift, seconds, aim, key=drift_key))
    now = seen(now, seconds)
    if reads:
        reference = fresh if effects is None else seen(before, 0.0)
        inputs = jr.normal(input_key, (reads, fresh.shape[1]), fresh.dtype)
        now = compensate_drift(now, reference, inputs, key=read_key)
    return now
