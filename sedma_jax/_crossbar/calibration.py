"""Set the range of converters from data, and measure what it clips."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from .._keys import check_key
from .._mappings import forgettable
from .._tiling.partition import Vectors
from ..kernels import Requirement, check_kind, check_numbers
from .abstract_crossbar import check_converters
from .converters import ADC, DAC, check_bits, drive_lines
from .crossbar import (
    Crossbar,
    check_crossbar,
    check_vector,
    tile_currents,
)

_PERCENTILE = Requirement(lambda v: (v >= 0) & (v <= 100), "from 0 to 100")


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
    check_numbers(call, _PERCENTILE, "100 is the largest current.", percentile=percentile)
    currents = _magnitudes("calibrated_adc", crossbar, x, dac, key)
    axes = (1,) if per_column else (1, 2)
    full_scale = jnp.nanpercentile(currents, percentile, axis=axes, keepdims=True)
    return ADC(bits, jnp.nan_to_num(full_scale))


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
    voltages, _ = drive_lines(x.astype(crossbar.dtype), dac)
    currents = jnp.abs(tile_currents(crossbar, voltages, key=key))
    cols = currents.shape[2]
    place = jnp.arange(cols, dtype=jnp.int32)[None]
    used = crossbar.outputs[:, None] * cols + place < crossbar.shape[0]
    return jnp.where(used[:, None, :], currents, jnp.nan)
