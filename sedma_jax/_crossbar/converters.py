"""Converters at the edge of the analog arrays."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ..kernels import (
    FROM_ZERO,
    POSITIVE,
    check_counts,
    check_numbers,
    digitise,
    known_numbers,
    whole,
)

_BITS = "One of them is the sign. Leave the converter out for no quantisation."


def _whole(value):
    """Whole numbers of NumPy as Python's, so that equal converters share compilations."""
    number = whole(value)
    return value if number is None else number


def check_bits(call: str, bits) -> None:
    """Refuse a resolution that a converter cannot have."""
    check_counts(call, 2, 24, _BITS, bits=bits)


class DAC(eqx.Module):
    """Digital-to-analog converters of the word lines.

    The largest magnitude of each input vector is driven at the full read voltage.

    - `bits`: resolution, including the sign bit, from 2 to 24. It is a leaf: one compiled
        program serves all resolutions, and `jax.vmap` maps over them.

    **Raises:** `ValueError` for another resolution that is known.

    **Example:**

        >>> crossbar = sj.program_exactly(np.eye(4), "epiram", array=4)
        >>> x = np.array([3.0, 1.4, -0.4, 0.0])
        >>> y = sj.matvec(crossbar, x, dac=sj.DAC(bits=3), key=jr.key(0))
        >>> print(np.asarray(y).round(3) + 0)  # the largest input is step 3
        [3. 1. 0. 0.]
    """

    bits: Int[Array, ""] | int = eqx.field(converter=_whole)

    def __check_init__(self):
        check_bits("sedma_jax.DAC", self.bits)


class ADC(eqx.Module):
    """Analog-to-digital converters of the bit lines.

    Each tile is converted separately, before tiles are scaled and added digitally.

    - `bits`: resolution, including the sign bit, from 2 to 24; a leaf, as of `DAC`.
    - `full_scale`: largest current, in units of the current range of one cell; broadcast
        against (tiles, batch, cols). A number is one fixed range for all; `calibrated_adc`
        sets one for each tile or bit line from data. Without it the full scale of each
        tile is the largest current of the call: an ideal automatic range. Positive and
        finite; in an array, 0 is the range of a line that carries no current.

    **Raises:** `ValueError` for another resolution or range that is known.

    **Example:**

        >>> crossbar = sj.program_exactly(np.eye(4), "epiram", array=4)
        >>> adc = sj.ADC(bits=3)  # steps of a third of the largest current
        >>> y = sj.matvec(crossbar, np.array([3.0, 1.4, -0.4, 0.0]), adc=adc, key=jr.key(0))
        >>> print(np.asarray(y).round(3) + 0)
        [3. 1. 0. 0.]
    """

    bits: Int[Array, ""] | int = eqx.field(converter=_whole)
    full_scale: Float[Array, "..."] | float | None = None

    def __check_init__(self):
        check_bits("sedma_jax.ADC", self.bits)
        known = known_numbers(self.full_scale)
        check_numbers(
            "sedma_jax.ADC",
            FROM_ZERO if known is not None and known.ndim else POSITIVE,
            "It is in units of the current range of one cell; leave it out for an "
            "automatic range.",
            full_scale=self.full_scale,
        )


def largest_inputs(x: Any, xp: Any) -> Any:
    """The largest magnitude of each vector, 1 if all are zero; `xp` is NumPy or JAX's."""
    drive = xp.max(xp.abs(x), axis=1, keepdims=True)
    return xp.where(drive == 0, xp.ones_like(drive), drive)


def drive_lines(
    x: Float[Array, "batch n"],
    dac: DAC | None,
    drive: Float[Array, "batch 1"] | None = None,
) -> tuple[Float[Array, "batch n"], Float[Array, "batch 1"]]:
    """Word-line voltages in units of the read voltage, and the input that one unit is."""
    if drive is None:
        drive = jnp.asarray(largest_inputs(x, jnp))
    voltages = x / drive
    if dac is not None:
        voltages = digitise(voltages, 1.0, bits=dac.bits)
    return voltages, drive


def convert(
    currents: Float[Array, "tiles batch cols"], adc: ADC | None
) -> Float[Array, "tiles batch cols"]:
    """The currents of each tile as the converters report them."""
    if adc is None:
        return currents
    full_scale = adc.full_scale
    if full_scale is None:
        full_scale = jnp.max(jnp.abs(currents), axis=(1, 2), keepdims=True)
    full_scale = jnp.asarray(full_scale, currents.dtype)
    return digitise(currents, jnp.broadcast_to(full_scale, currents.shape), bits=adc.bits)
