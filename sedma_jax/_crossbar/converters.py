"""Converters at the edge of the analog arrays."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..kernels import digitise


class DAC(eqx.Module):
    """Digital-to-analog converters of the word lines.

    The largest magnitude of each input vector is driven at the full read voltage.

    - `bits`: resolution, including the sign bit.
    """

    bits: int = eqx.field(static=True)


class ADC(eqx.Module):
    """Analog-to-digital converters of the bit lines.

    Each tile is converted separately, before tiles are scaled and added digitally.

    - `bits`: resolution, including the sign bit.
    - `full_scale`: largest current, in units of the current range of one cell; broadcast
        against (tiles, batch, cols). A number is one fixed range for all; `calibrated_adc`
        sets one for each tile or bit line from data. Without it the full scale of each
        tile is the largest current of the call: an ideal automatic range.
    """

    bits: int = eqx.field(static=True)
    full_scale: Float[Array, "..."] | float | None = None


def drive_lines(
    x: Float[Array, "batch n"], dac: DAC | None
) -> tuple[Float[Array, "batch n"], Float[Array, "batch 1"]]:
    """Word-line voltages in units of the read voltage, and the input that one unit is."""
    drive = jnp.max(jnp.abs(x), axis=1, keepdims=True)
    drive = jnp.where(drive == 0, 1, drive)
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
