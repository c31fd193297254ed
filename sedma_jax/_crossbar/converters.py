"""Converters at the edge of the analog arrays."""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ..kernels import (
    FROM_ZERO,
    POSITIVE,
    ConverterErrors,
    check_counts,
    check_kind,
    check_numbers,
    convert_lines,
    converter_steps,
    digitise,
    distort,
    known_numbers,
    largest_code,
    shown,
    straight_codes,
    whole,
)

_BITS = "One of them is the sign. Leave the converter out for no quantisation."
# Tells the noise of converters of word lines from the noise of reads.
_DAC = 2**31 + 1


def _whole(value):
    """Whole numbers of NumPy as Python's, so that equal converters share compilations."""
    number = whole(value)
    return value if number is None else number


def check_bits(call: str, bits) -> None:
    """Refuse a resolution that a converter cannot have."""
    check_counts(call, 2, 24, _BITS, bits=bits)


def _check_errors(call: str, errors: ConverterErrors | None, foreign: str) -> None:
    remedy = "`ConverterErrors(offset=0.5)` is one; `draw_adc` and `draw_dac` draw them."
    kinds = (ConverterErrors, type(None))
    check_kind(call, kinds, "`ConverterErrors`", remedy, errors=errors)
    if getattr(errors, foreign, None) is not None:
        raise ValueError(
            f"`{call}` needs errors without `{foreign}`. Got {shown(errors)} with it. That "
            "is of the other kind of converter: `search` of an ADC, `levels` of a DAC."
        )


def _check_flag(call: str, learned: bool) -> None:
    remedy = "With true, gradients reach the range."
    check_kind(call, bool, "true or false", remedy, learned=learned)


class DAC(eqx.Module):
    """Digital-to-analog converters of the word lines.

    There is one for each input; it drives that word line of all arrays.

    - `bits`: resolution, including the sign bit, from 2 to 24. It is a leaf: one compiled
        program serves all resolutions, and `jax.vmap` maps over them.
    - `full_scale`: the input that is driven at the full read voltage, one number; larger
        ones are clipped. Without it the range is that of each vector: its largest
        magnitude. `calibrated_dac` sets it from data.
    - `errors`: of the converters; ideal ones if None.
    - `learned`: whether gradients reach `full_scale` (LSQ, Esser et al. 2020) and pass the
        rounding straight through. Static.

    **Raises:** `ValueError` for another resolution or range that is known.

    **Example:**

        >>> crossbar = sj.program_exactly(np.eye(4), "epiram", array=4)
        >>> x = np.array([3.0, 1.4, -0.4, 0.0])
        >>> y = sj.matvec(crossbar, x, dac=sj.DAC(bits=3), key=jr.key(0))
        >>> print(np.asarray(y).round(3) + 0)  # the largest input is step 3
        [3. 1. 0. 0.]
    """

    bits: Int[Array, ""] | int = eqx.field(converter=_whole)
    full_scale: Float[Array, ""] | float | None = None
    errors: ConverterErrors | None = None
    learned: bool = eqx.field(static=True, default=False)

    def __check_init__(self):
        call, remedy = "sedma_jax.DAC", "Leave it out for the range of each vector."
        check_bits(call, self.bits)
        known = known_numbers(self.full_scale)
        if known is not None and known.ndim:
            raise ValueError(
                f"`{call}` needs one `full_scale` for all inputs. Got "
                f"{shown(self.full_scale)}. {remedy}"
            )
        check_numbers(call, POSITIVE, remedy, full_scale=self.full_scale)
        _check_errors(call, self.errors, "search")
        _check_flag(call, self.learned)


class ADC(eqx.Module):
    """Analog-to-digital converters of the bit lines.

    Each tile is converted separately, before tiles are scaled and added digitally.

    - `bits`: resolution, including the sign bit, from 2 to 24; a leaf, as of `DAC`.
    - `full_scale`: largest current, in units of the current range of one cell; broadcast
        against (tiles, batch, cols). A number is one fixed range for all; `calibrated_adc`
        sets one for each tile or bit line from data. Without it the full scale of each
        tile is its largest current, for each vector anew: an ideal automatic range.
        Positive and finite; in an array, 0 is the range of a line that carries no current.
    - `errors`: of the converters; ideal ones if None. `draw_adc` draws them.
    - `learned`: whether gradients reach `full_scale` (LSQ, Esser et al. 2020) and pass the
        rounding straight through. Static.

    **Raises:** `ValueError` for another resolution or range that is known, or errors of
    converters of another resolution.

    **Example:**

        >>> crossbar = sj.program_exactly(np.eye(4), "epiram", array=4)
        >>> adc = sj.ADC(bits=3)  # steps of a third of the largest current
        >>> y = sj.matvec(crossbar, np.array([3.0, 1.4, -0.4, 0.0]), adc=adc, key=jr.key(0))
        >>> print(np.asarray(y).round(3) + 0)
        [3. 1. 0. 0.]
    """

    bits: Int[Array, ""] | int = eqx.field(converter=_whole)
    full_scale: Float[Array, "..."] | float | None = None
    errors: ConverterErrors | None = None
    learned: bool = eqx.field(static=True, default=False)

    def __check_init__(self):
        call = "sedma_jax.ADC"
        check_bits(call, self.bits)
        known = known_numbers(self.full_scale)
        check_numbers(
            call,
            FROM_ZERO if known is not None and known.ndim else POSITIVE,
            "It is in units of the current range of one cell; leave it out for an "
            "automatic range.",
            full_scale=self.full_scale,
        )
        _check_errors(call, self.errors, "levels")
        _check_flag(call, self.learned)
        search, bits = getattr(self.errors, "search", None), whole(self.bits)
        if search is not None and bits is not None and search.bits != bits:
            raise ValueError(
                f"`{call}` needs errors of converters of its own resolution. Got "
                f"{bits=}, and a search of {search.bits} bits. Draw them for this ADC."
            )


def largest_inputs(x: Any, xp: Any) -> Any:
    """The largest magnitude of each vector, 1 if all are zero; `xp` is NumPy or JAX's."""
    drive = xp.max(xp.abs(x), axis=1, keepdims=True)
    return xp.where(drive == 0, xp.ones_like(drive), drive)


def input_range(vectors: Float[Array, "*batch n"], dac: DAC | None) -> Float[Array, "..."]:
    """The input that is driven at full voltage; it gets a gradient if it is learned."""
    if dac is not None and dac.full_scale is not None:
        drive = jnp.asarray(dac.full_scale, vectors.dtype)
        return drive if dac.learned else jax.lax.stop_gradient(drive)
    drive = jnp.max(jnp.abs(vectors), axis=-1, keepdims=True)
    return jax.lax.stop_gradient(jnp.where(drive == 0, 1, drive))


def check_ideal(call: str, dac: DAC | None, adc: ADC | None) -> None:
    """Refuse converters of arrays that are built already."""
    if any(c is not None and c.errors is not None for c in (dac, adc)):
        raise ValueError(
            f"`sedma_jax.{call}` needs converters without `errors`, which are of arrays "
            "that are built already. Got some. Leave them out to train, and give them to "
            "the programmed network."
        )


def drive_lines(
    x: Float[Array, "batch n"],
    dac: DAC | None,
    drive: Float[Array, "batch 1"] | None = None,
    *,
    key: PRNGKeyArray | None = None,
) -> tuple[Float[Array, "batch n"], Float[Array, "batch 1"]]:
    """Word-line voltages in units of the read voltage, and the input that one unit is.

    `key` is that of the product, for the noise of the converters.
    """
    if dac is not None and dac.full_scale is not None:
        drive = jnp.broadcast_to(jnp.asarray(dac.full_scale, x.dtype), (len(x), 1))
    elif drive is None:
        drive = jnp.asarray(largest_inputs(x, jnp))
    voltages = x / drive
    if dac is None:
        return voltages, drive
    if dac.errors is None and not dac.learned:
        return digitise(voltages, 1.0, bits=dac.bits), drive
    return _real_levels(voltages, dac, key), drive


def _real_levels(
    voltages: Float[Array, "batch n"], dac: DAC, key: PRNGKeyArray | None
) -> Float[Array, "batch n"]:
    """Voltages as real converters drive them."""
    top = largest_code(dac.bits, voltages.dtype)
    codes = jnp.clip(jnp.round(voltages * top), -top, top)
    level = codes
    if dac.learned:
        level = straight_codes(jax.lax.stop_gradient(codes), voltages * top, top)
    if dac.errors is None:
        return level / top
    n = voltages.shape[1]
    fields = dataclasses.replace(dac.errors, levels=None)
    fields = jax.tree.map(lambda v: _for_inputs(v, n, voltages.dtype), fields)
    draws = None
    if dac.errors.noise is not None and key is not None:
        draws = jr.normal(jr.fold_in(key, _DAC), voltages.shape, voltages.dtype)
    level = distort(fields, level, top, draws)
    if dac.errors.levels is not None:
        table = _for_inputs(dac.errors.levels, n, voltages.dtype)[0]
        place = (codes + top).astype(jnp.int32)
        level = level + table[jnp.arange(n)[None], place]
    return level / top


def _for_inputs(values: Any, n: int, dtype: Any) -> Float[Array, "..."]:
    """Numbers of the converters, to broadcast against (batch, n)."""
    values = jnp.asarray(values, dtype)
    if values.ndim == 0:
        return values
    if len(values) != n:
        raise ValueError(
            f"`sedma_jax.DAC` needs errors of one converter for each of {n} inputs. Got "
            f"shape {values.shape}. `draw_dac` draws them for a crossbar; one number is of "
            "all converters."
        )
    return values[None]


def convert(
    currents: Float[Array, "tiles batch cols"], adc: ADC | None, key: PRNGKeyArray
) -> Float[Array, "tiles batch cols"]:
    """The currents of each tile as the converters report them; `key` is of their noise."""
    if adc is None:
        return currents
    full_scale = adc.full_scale
    if full_scale is None:
        full_scale = jnp.max(jnp.abs(currents), axis=2, keepdims=True)
        full_scale = jax.lax.stop_gradient(full_scale) if adc.learned else full_scale
    full_scale = jnp.asarray(full_scale, currents.dtype)
    full_scale = jnp.broadcast_to(full_scale, currents.shape)
    if adc.errors is None and not adc.learned:
        return digitise(currents, full_scale, bits=adc.bits)
    tiles, batch, cols = currents.shape
    errors, draws = adc.errors, None
    if errors is not None:
        fields = dataclasses.replace(errors, search=None)
        broad = lambda v: jnp.broadcast_to(jnp.asarray(v), (tiles, 1, cols))[:, 0]
        fields = jax.tree.map(broad, fields)
        errors = dataclasses.replace(fields, search=errors.search)
        if errors.noise is not None:
            draws = jr.normal(key, (tiles, cols, batch), currents.dtype)

    def one(currents, full_scale, errors, draws):
        per_step, lsb = converter_steps(full_scale.T, bits=adc.bits)
        lines = convert_lines(
            currents.T, per_step, lsb, errors, draws, bits=adc.bits, straight=adc.learned
        )
        return lines.T

    return jax.vmap(one)(currents, full_scale, errors, draws)
