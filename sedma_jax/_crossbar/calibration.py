"""Set the range of converters from data, and measure what it clips."""

import dataclasses
from typing import TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from .._keys import check_key
from .._mappings import forgettable
from .._tiling.partition import Vectors, checked_array
from ..kernels import (
    SHARE,
    Requirement,
    check_counts,
    check_given,
    check_kind,
    shown,
)
from .abstract_crossbar import check_converters
from .converters import ADC, DAC, check_bits, drive_lines
from .crossbar import (
    Crossbar,
    check_crossbar,
    check_vector,
    tile_currents,
)

_PERCENTILE = Requirement(lambda v: (v >= 0) & (v <= 100), "from 0 to 100")
_LARGEST = "100 is the largest magnitude."

Converter = TypeVar("Converter", ADC, DAC)


def calibrated_adc(
    crossbar: Crossbar,
    x: Vectors,
    *,
    bits: int,
    percentile: Float[Array, ""] | float = 100.0,
    per_column: bool = True,
    dac: DAC | None = None,
    key: PRNGKeyArray,
) -> ADC:
    """Choose the range of converters so that it holds the currents of calibration data.

    The range fits this crossbar as it is now. Later effects, such as ageing, faults and
    line resistance, are read in the old range, as in hardware. `clip_rate` says how much
    the range clips.

    **Arguments:**

    - `crossbar`: the crossbar that will be read.
    - `x`: vectors like those to come. For bit-serial input, pass their `bit_planes`.
    - `bits`: resolution, including the sign bit.
    - `percentile`: percentile of the magnitudes of the currents, from 0 to 100, at which
        the range ends. The largest current is often rare; a smaller range has finer steps.
    - `per_column`: choose a range for each bit line, or else for each tile.
    - `dac`: as in `matvec`.
    - `key`: typed key of the read noise.

    **Returns:**

    Converters for `matvec`, with one range for each tile or bit line.

    **Raises:**

    - `ValueError`: if `x` does not fit the matrix; if `bits` or `percentile` is out of
        range; if `key` is not a typed key.

    **Example:**

        >>> crossbar = sj.program_exactly(np.eye(4), "epiram", array=4)
        >>> x = np.eye(4)  # inputs like those to come
        >>> adc = sj.calibrated_adc(crossbar, x, bits=8, key=jr.key(0))
        >>> y = sj.matvec(crossbar, x[0], adc=adc, key=jr.key(1))
        >>> print(np.asarray(y).round(3) + 0)  # the largest input just fits
        [1. 0. 0. 0.]
    """
    call = "sedma_jax.calibrated_adc"
    check_bits(call, bits)
    check_given(call, _PERCENTILE, _LARGEST, percentile=percentile)
    currents = _magnitudes("calibrated_adc", crossbar, x, dac, key)
    axes = (1,) if per_column else (1, 2)
    full_scale = jnp.nanpercentile(currents, percentile, axis=axes, keepdims=True)
    return ADC(bits, jnp.nan_to_num(full_scale))


def calibrated_dac(
    x: Vectors,
    *,
    bits: int,
    percentile: Float[Array, ""] | float = 100.0,
) -> DAC:
    """Choose one range of inputs, so that it holds those of calibration data.

    A fixed range needs no search for the largest entry of each vector, and one vector then
    does not scale like another. Larger inputs are clipped.

    **Arguments:**

    - `x`: vectors like those to come.
    - `bits`: resolution, including the sign bit.
    - `percentile`: percentile of the magnitudes at which the range ends, from 0 to 100.

    **Raises:**

    - `ValueError`: if `x` is not real and finite; if `bits` or `percentile` is out of
        range; if the range would be zero.

    **Example:**

        >>> dac = sj.calibrated_dac(np.array([[1.0, -4.0], [2.0, 0.0]]), bits=8)
        >>> print(dac.full_scale)
        4.0
    """
    call = "sedma_jax.calibrated_dac"
    check_bits(call, bits)
    check_given(call, _PERCENTILE, _LARGEST, percentile=percentile)
    size = jnp.abs(checked_array(x, "x", ndim=(1, 2), vectors=True))
    return DAC(bits, jnp.percentile(size, percentile))


def averaged_range(
    converter: Converter, latest: Converter, *, momentum: Float[Array, ""] | float = 0.9
) -> Converter:
    """Let the range of converters follow the data: an exponential moving average.

    Ranges that follow batch after batch forget outliers, as for activations in Jacob et al.
    (2018, arXiv 1712.05877, section 3.1): `momentum * range + (1 - momentum) * latest`.

    **Arguments:**

    - `converter`: the converters so far.
    - `latest`: of `calibrated_adc` or `calibrated_dac`, from the latest vectors.
    - `momentum`: the weight of the range so far, from 0 to 1.

    **Returns:**

    `converter` with another range.

    **Raises:**

    - `ValueError`: if they are no converters of one kind with ranges; if `momentum` is out
        of range.

    **Example:**

        >>> dac = sj.averaged_range(sj.DAC(8, 4.0), sj.DAC(8, 2.0), momentum=0.75)
        >>> print(dac.full_scale)
        3.5
    """
    call, remedy = "sedma_jax.averaged_range", "`calibrated_adc` makes one from data."
    check_given(call, SHARE, "0.9 keeps nine tenths.", momentum=momentum)
    alike = type(converter) is type(latest) and isinstance(converter, ADC | DAC)
    if not alike or converter.full_scale is None or latest.full_scale is None:
        raise ValueError(
            f"`{call}` needs two ADCs or two DACs with a `full_scale`. Got "
            f"{shown(converter)} and {shown(latest)}. {remedy}"
        )
    held, new = converter.full_scale, latest.full_scale
    average = momentum * held + (1 - momentum) * new
    return dataclasses.replace(converter, full_scale=average)


def lossless_adc(
    crossbar: Crossbar, *, cell_bits: int | tuple[int, ...], slice_bits: int = 1
) -> ADC:
    """Converters whose steps are whole numbers of sliced weights and sliced inputs.

    A cell holds a digit of `cell_bits` bits and an input slice one of `slice_bits` bits, so
    that a bit line adds up a multiple of one product of digits. Steps of that size and a
    range for all word lines lose nothing (Shafiee et al. 2016, ISAAC, Eq. 1), and remove
    analog errors below half a step: products of whole numbers are exact.

    **Arguments:**

    - `crossbar`: of `program_bit_sliced`, or any whose weights are such digits.
    - `cell_bits`: as in `program_bit_sliced`.
    - `slice_bits`: as in `bit_serial_matvec`.

    **Raises:**

    - `ValueError`: if that takes more than 24 bits, or numbers of bits are out of range.

    **Example:**

        >>> A, x = np.array([[3, -1], [2, 0]]), np.array([1, -3])
        >>> full = lambda tiles: jnp.full((len(tiles), tiles.shape[2]), 3.0)  # of 2 bits
        >>> how = dict(cell_bits=1, slices=2, array=2, scaling=full, key=jr.key(0))
        >>> crossbar, _ = sj.program_bit_sliced(A.astype(float), "epiram", **how)
        >>> adc = sj.lossless_adc(crossbar, cell_bits=1)
        >>> serial = dict(bits=3, full_scale=3.0, adc=adc, key=jr.key(1))
        >>> y = sj.bit_serial_matvec(crossbar, x.astype(float), **serial)
        >>> print(np.asarray(y).round(3), A @ x)
        [6. 2.] [6 2]
    """
    call = "sedma_jax.lossless_adc"
    check_crossbar("lossless_adc", crossbar=crossbar)
    widths = cell_bits if isinstance(cell_bits, tuple) else (cell_bits,)
    for width in widths:
        check_counts(call, 1, 23, "Bits of the magnitude in each cell.", cell_bits=width)
    check_counts(call, 1, 23, "Bits of each slice of an input.", slice_bits=slice_bits)
    if len(widths) not in (1, crossbar.slices):
        raise ValueError(
            f"`{call}` needs a width for each of {crossbar.slices} slices. Got "
            f"{cell_bits=}. They are those of `program_bit_sliced`, largest first."
        )
    word_lines = min(crossbar.array[0], crossbar.shape[1])
    units = [(2**width - 1) * (2**slice_bits - 1) for width in widths]
    bits = 1 + (word_lines * max(units)).bit_length()
    if bits > 24:
        raise ValueError(
            f"`{call}` needs at most 24 bits. Got {bits}: {word_lines} word lines of "
            f"{max(units)} steps each. Narrow the slices, or the arrays."
        )
    top = 2 ** (bits - 1) - 1
    if len(widths) == 1:
        return ADC(bits, top / units[0])
    tiles = len(crossbar.scale) // len(widths)
    full_scale = [top / unit for unit in units for _ in range(tiles)]
    return ADC(bits, jnp.asarray(full_scale, crossbar.dtype)[:, None, None])


def clip_rate(
    crossbar: Crossbar,
    x: Vectors,
    adc: ADC,
    *,
    dac: DAC | None = None,
    key: PRNGKeyArray,
) -> Float[Array, " tiles"]:
    """The fraction of the conversions of each tile whose current exceeds the range.

    **Arguments:**

    - `crossbar`, `x`, `dac`, `key`: as in `matvec`; the same key gives the same noise.
    - `adc`: the converters. An automatic range clips nothing.

    **Example:**

        >>> crossbar = sj.program_exactly(np.eye(4), "epiram", array=4)
        >>> adc = sj.ADC(bits=8, full_scale=0.5)  # in current ranges of one cell
        >>> print(sj.clip_rate(crossbar, np.eye(4)[0], adc, key=jr.key(0)))  # 1 of 4 lines
        [0.25]
    """
    check_kind(
        "sedma_jax.clip_rate", ADC, "a `sedma_jax.ADC`", "Such as `ADC(8, 2.0)`.", adc=adc
    )
    currents = _magnitudes("clip_rate", crossbar, x, dac, key)
    full_scale = jnp.inf if adc.full_scale is None else adc.full_scale
    full_scale = jnp.broadcast_to(jnp.asarray(full_scale, currents.dtype), currents.shape)
    clipped = jnp.sum(currents > full_scale, axis=(1, 2))
    converted = jnp.sum(~jnp.isnan(currents), axis=(1, 2))
    return clipped.astype(currents.dtype) / converted.astype(currents.dtype)


def _magnitudes(
    call: str, crossbar: Crossbar, x: Vectors, dac: DAC | None, key: PRNGKeyArray
) -> Float[Array, "tiles batch cols"]:
    check_key(key)
    check_crossbar(call, crossbar=crossbar)
    check_converters(call, dac, None)
    x = jnp.atleast_2d(check_vector(x, crossbar))
    return _read_magnitudes(crossbar, x, dac, key)


@forgettable
@jax.jit
def _read_magnitudes(
    crossbar: Crossbar, x: Float[Array, "batch n"], dac: DAC | None, key: PRNGKeyArray
) -> Float[Array, "tiles batch cols"]:
    """Magnitudes of the currents of each tile; NaN for bit lines without an output."""
    voltages, _ = drive_lines(x.astype(crossbar.dtype), dac, key=key)
    currents = jnp.abs(tile_currents(crossbar, voltages, key=key))
    cols = currents.shape[2]
    place = jnp.arange(cols, dtype=jnp.int32)[None]
    used = crossbar.outputs[:, None] * cols + place < crossbar.shape[0]
    return jnp.where(used[:, None, :], currents, jnp.nan)
