"""Statistics of converters: how much those of one chip differ, and the errors they draw.

Converters are drawn one by one, by the key of their array and their number in it, so that
their errors do not depend on how many there are. What is drawn stays for all reads; only
the noise is new in each.
"""

import abc
import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.lax as lax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from .._numerics.requirements import FROM_ZERO, POSITIVE, check_counts, check_numbers
from .converter_errors import ConverterErrors
from .searches import PipelineSearch, SarSearch, TransitionSearch

_STEPS, _SHARE = "It is in steps of the converter.", "It is relative: 0.01 is one per cent."
_COLUMNS = "It counts the bit lines that one converter serves in turn."
# Tables have an entry for each code.
_LARGEST_TABLE = 16


class AbstractConverterSpread(eqx.Module):
    """Statistics of converters: a `ConverterSpread`, `SarADC`, `RampADC` or `PipelineADC`.

    **Example:**

        >>> isinstance(sj.SarADC(mismatch=0.01), sj.kernels.AbstractConverterSpread)
        True
    """

    @abc.abstractmethod
    def draw(self, bits: int, lines: int, *, key: PRNGKeyArray) -> ConverterErrors:
        """Errors of the converters of one array, with an entry for each bit line."""


class ConverterSpread(AbstractConverterSpread):
    """Statistics of converters by their data sheet, whatever is inside.

    All are standard deviations. Differential nonlinearity has the widths of codes differ
    independently; their sum is a walk that ends where it should, since the errors of the
    ends are offset and gain (IEEE Std 1241-2010). Half way, its variance is `dnl**2` times
    a quarter of the number of codes.

    - `offset`, `inl`, `dnl`, `noise`: in steps of the converter; `inl` of the bow in the
        middle of the range, `noise` of each conversion.
    - `gain`: relative.
    - `columns_per_adc`: bit lines that share one converter; static.

    **Raises:** `ValueError` for numbers below zero.

    **Example:**

        >>> crossbar = sj.program_exactly(np.eye(4), "epiram", array=4)
        >>> spread = sj.ConverterSpread(offset=0.5, gain=0.01)
        >>> adc = sj.draw_adc(sj.ADC(8, 2.0), crossbar, spread, key=jr.key(0))
        >>> adc.errors.offset.shape  # one converter for each bit line
        (1, 1, 4)
    """

    offset: Float[Array, ""] | float = 0.0
    gain: Float[Array, ""] | float = 0.0
    inl: Float[Array, ""] | float = 0.0
    dnl: Float[Array, ""] | float | None = None
    noise: Float[Array, ""] | float | None = None
    columns_per_adc: int = eqx.field(static=True, default=1)

    def __check_init__(self):
        call = "sedma_jax.ConverterSpread"
        values = dict(offset=self.offset, inl=self.inl, dnl=self.dnl, noise=self.noise)
        check_numbers(call, FROM_ZERO, _STEPS, **values)
        check_numbers(call, FROM_ZERO, _SHARE, gain=self.gain)
        _check_columns(call, self.columns_per_adc)

    def draw(self, bits: int, lines: int, *, key: PRNGKeyArray) -> ConverterErrors:
        search = None
        if (dnl := self.dnl) is not None:
            _check_table("sedma_jax.ConverterSpread", bits)
            shared = _shared(self, lines)
            steps = 2**bits - 2
            ideal = jnp.arange(steps, dtype=_float()) - (steps - 1) / 2
            table = lambda key: lax.cummax(ideal + dnl * _bridge(key, steps))
            groups = jnp.arange(lines // shared)
            search = TransitionSearch(_each(table, key, 1, groups), shared)
        number = jnp.arange(lines) // self.columns_per_adc
        n = _each(lambda key: jr.normal(key, (3,)), key, 0, number)
        offset, gain, inl = n.T
        return ConverterErrors(
            offset=self.offset * offset,
            gain=self.gain * gain,
            inl=self.inl * inl,
            noise=None if self.noise is None else self.noise * jnp.ones(lines),
            search=search,
        )


class SarADC(AbstractConverterSpread):
    """Statistics of converters by successive approximation, see `kernels.SarSearch`.

    A capacitor of `2**k` units has a mean of `2**k` and a standard deviation of
    `mismatch * 2**(k / 2)`, as that many independent units (Spear et al. 2023). The step
    where only the largest takes over from all the others then has a differential
    nonlinearity of `mismatch * sqrt(2**(bits - 1) - 1)` steps.

    - `mismatch`: relative standard deviation of a unit capacitor.
    - `offset`: of the comparator, standard deviation in steps.
    - `noise`: of each conversion, standard deviation in steps.
    - `columns_per_adc`: bit lines that share one converter; static.

    **Raises:** `ValueError` for numbers below zero.

    **Example:**

        >>> crossbar = sj.program_exactly(np.eye(4), "epiram", array=4)
        >>> adc = sj.draw_adc(sj.ADC(4, 7.0), crossbar, sj.SarADC(0.01), key=jr.key(0))
        >>> adc.errors.search.weights.shape  # 4, 2 and 1 steps, and their errors
        (1, 4, 3)
    """

    mismatch: Float[Array, ""] | float = 0.0
    offset: Float[Array, ""] | float = 0.0
    noise: Float[Array, ""] | float | None = None
    columns_per_adc: int = eqx.field(static=True, default=1)

    def __check_init__(self):
        _check_circuit(self, self.mismatch, offset=self.offset, noise=self.noise)

    def draw(self, bits: int, lines: int, *, key: PRNGKeyArray) -> ConverterErrors:
        number = jnp.arange(lines) // self.columns_per_adc
        weights = lambda key: _weights(key, bits, self.mismatch)
        return ConverterErrors(
            offset=self.offset * _each(jr.normal, key, 0, number),
            noise=None if self.noise is None else self.noise * jnp.ones(lines),
            search=SarSearch(_each(weights, key, 1, number)),
        )


class RampADC(AbstractConverterSpread):
    """Statistics of ramp converters: a staircase for the array, a comparator a bit line.

    The staircase comes from capacitors like those of `SarADC`, of which an array has one
    set, and a counter stops at the first step above the value (Spear et al. 2023).

    - `mismatch`: relative standard deviation of a unit capacitor.
    - `slope`: relative standard deviation of the slope of the ramp of an array.
    - `offset`: of the comparators, standard deviation in steps.
    - `noise`: of each conversion, standard deviation in steps.

    **Raises:** `ValueError` for numbers below zero.

    **Example:**

        >>> crossbar = sj.program_exactly(np.eye(4), "epiram", array=4)
        >>> adc = sj.draw_adc(sj.ADC(4, 7.0), crossbar, sj.RampADC(0.01), key=jr.key(0))
        >>> adc.errors.search.transitions.shape  # one staircase of 14 steps for 4 lines
        (1, 1, 14)
    """

    mismatch: Float[Array, ""] | float = 0.0
    slope: Float[Array, ""] | float = 0.0
    offset: Float[Array, ""] | float = 0.0
    noise: Float[Array, ""] | float | None = None

    def __check_init__(self):
        _check_circuit(self, self.mismatch, offset=self.offset, noise=self.noise)
        check_numbers("sedma_jax.RampADC", FROM_ZERO, _SHARE, slope=self.slope)

    def draw(self, bits: int, lines: int, *, key: PRNGKeyArray) -> ConverterErrors:
        _check_table("sedma_jax.RampADC", bits)
        comparator_key, step_key, slope_key = jr.split(key, 3)
        weights = _weights(step_key, bits, self.mismatch)
        count = jnp.arange(1, 2 ** (bits - 1))
        places = jnp.arange(bits - 2, -1, -1)[None]
        digits = ((count[:, None] >> places) & 1).astype(weights.dtype)
        level = jnp.sum(digits * weights[None], axis=1) - 0.5
        slope = 1 + self.slope * jr.normal(slope_key)
        transitions = jnp.concatenate([-level[::-1], level]) * slope
        return ConverterErrors(
            offset=self.offset * _each(jr.normal, comparator_key, 0, jnp.arange(lines)),
            noise=None if self.noise is None else self.noise * jnp.ones(lines),
            search=TransitionSearch(lax.cummax(transitions)[None], lines),
        )


class PipelineADC(AbstractConverterSpread):
    """Statistics of pipeline converters, see `kernels.PipelineSearch`.

    The amplifier of a stage with gain `A` settles to `1 / (1 + 1 / (A beta))` of its final
    value, `beta = C1 / (C1 + C2)` (Spear et al. 2023).

    - `mismatch`: relative standard deviation of each of the two capacitors of a stage.
    - `comparator`: standard deviation of the thresholds, in units of the reference, which
        is a full scale.
    - `amplifier`: gain of the amplifiers at zero frequency, as a ratio: 1000 is 60 dB;
        infinite if None.
    - `noise`: of each conversion, standard deviation in steps.
    - `columns_per_adc`: bit lines that share one converter; static.

    **Raises:** `ValueError` for numbers below zero, or an amplifier without gain.

    **Example:**

        >>> crossbar = sj.program_exactly(np.eye(4), "epiram", array=4)
        >>> spread = sj.PipelineADC(mismatch=0.001, amplifier=1000.0)
        >>> adc = sj.draw_adc(sj.ADC(4, 7.0), crossbar, spread, key=jr.key(0))
        >>> adc.errors.search.ratio.shape  # two stages and a flash of 2 bits
        (1, 4, 2)
    """

    mismatch: Float[Array, ""] | float = 0.0
    comparator: Float[Array, ""] | float = 0.0
    amplifier: Float[Array, ""] | float | None = None
    noise: Float[Array, ""] | float | None = None
    columns_per_adc: int = eqx.field(static=True, default=1)

    def __check_init__(self):
        _check_circuit(self, self.mismatch, noise=self.noise)
        call = "sedma_jax.PipelineADC"
        check_numbers(call, FROM_ZERO, _SHARE, comparator=self.comparator)
        remedy = "It is a ratio: 60 dB are 1000."
        check_numbers(call, POSITIVE, remedy, amplifier=self.amplifier)

    def draw(self, bits: int, lines: int, *, key: PRNGKeyArray) -> ConverterErrors:
        number = jnp.arange(lines) // self.columns_per_adc
        pairs = lambda key: 1 + self.mismatch * jr.normal(key, (2, bits - 2))
        first, second = jnp.moveaxis(_each(pairs, key, 0, number), 1, 0)
        sides = lambda key: self.comparator * jr.normal(key, (bits - 2, 2))
        settled = jnp.ones_like(first)
        if self.amplifier is not None:
            settled = 1 / (1 + (first + second) / (first * self.amplifier))
        search = PipelineSearch(second / first, settled, _each(sides, key, 1, number))
        noise = None if self.noise is None else self.noise * jnp.ones(lines)
        return ConverterErrors(noise=noise, search=search)


def draw_levels(
    spread: ConverterSpread, bits: int, inputs: int, *, key: PRNGKeyArray
) -> ConverterErrors:
    """Errors of digital-to-analog converters, one for each input.

    **Example:**

        >>> spread = sj.ConverterSpread(dnl=0.1)
        >>> errors = sj.kernels.draw_levels(spread, 4, 8, key=jr.key(0))
        >>> errors.levels.shape  # what each of the 15 codes adds, for each input
        (8, 15)
    """
    number, levels = jnp.arange(inputs), None
    if spread.dnl is not None:
        _check_table("sedma_jax.ConverterSpread", bits)
        levels = _each(lambda key: _bridge(key, 2**bits - 1), key, 1, number)
        levels = spread.dnl * levels
    drawn = dataclasses.replace(spread, dnl=None).draw(bits, inputs, key=key)
    return dataclasses.replace(drawn, levels=levels)


def _each(draw: Any, key: PRNGKeyArray, kind: int, number: Array) -> Array:
    """What each converter draws, by its number; `kind` tells draws of one key apart."""
    key = jr.fold_in(key, kind)
    return jax.vmap(lambda place: draw(jr.fold_in(key, place)))(number)


def _float() -> Any:
    return jnp.result_type(float)


def _weights(key: PRNGKeyArray, bits: int, mismatch: Any) -> Float[Array, " bits"]:
    """Weights of the bits, in steps, of capacitors that share one charge with a dummy."""
    ideal = 2.0 ** jnp.arange(bits - 2, -1, -1, dtype=_float())
    units = jnp.concatenate([ideal, jnp.ones(1)])
    units = units + mismatch * jnp.sqrt(units) * jr.normal(key, units.shape)
    return units[:-1] * (2.0 ** (bits - 1) / jnp.sum(units))


def _bridge(key: PRNGKeyArray, count: int) -> Float[Array, " count"]:
    """A walk of unit steps from zero to zero, at `count` places."""
    walk = jnp.cumsum(jr.normal(key, (count - 1,)))
    walk = jnp.concatenate([jnp.zeros(1), walk])
    return walk - walk[-1] * jnp.linspace(0, 1, count)


def _shared(spread: ConverterSpread, lines: int) -> int:
    shared = spread.columns_per_adc
    if lines % shared:
        raise ValueError(
            "`sedma_jax.ConverterSpread` with `dnl` needs `columns_per_adc` to divide the "
            f"bit lines of an array. Got {shared} and {lines}. A power of two does."
        )
    return shared


def _check_columns(call: str, columns: Any) -> None:
    check_counts(call, 1, 2**20, _COLUMNS, columns_per_adc=columns)


def _check_circuit(spread: Any, mismatch: Any, **steps: Any) -> None:
    call = f"sedma_jax.{type(spread).__name__}"
    check_numbers(call, FROM_ZERO, _SHARE, mismatch=mismatch)
    check_numbers(call, FROM_ZERO, _STEPS, **steps)
    _check_columns(call, getattr(spread, "columns_per_adc", 1))


def _check_table(call: str, bits: int) -> None:
    if bits > _LARGEST_TABLE:
        raise ValueError(
            f"`{call}` needs at most {_LARGEST_TABLE} bits, since it keeps a table of all "
            f"codes. Got bits={bits}. `SarADC` and `PipelineADC` keep none."
        )
