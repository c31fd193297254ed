"""Products of arrays whose cells are fed by lines of their own, parallel to the bit lines.

The input opens and closes access transistors, so that only bits go in: planes of digits 0
and 1, for the positive inputs and for the negative ones. The current of an open cell
depends on which others are open, and each plane is a solve of its own.
"""

import dataclasses
from functools import partial

import jax
import jax.lax as lax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from .._keys import check_key
from .._mappings import forgettable
from .._tiling.partition import Vectors
from ..kernels import (
    FROM_ZERO,
    check_given,
    separate_source_conductances,
    series_conductance,
    split_inputs,
)
from .abstract_crossbar import check_converters
from .bit_serial import Range, check_slices, plane_weights, split_planes
from .converters import ADC, convert
from .crossbar import Crossbar, add_tiles, check_crossbar, check_vector, tile_currents
from .effects import Scalar, TracedScalar, used_cells

# Tells the noise of conversions from the noise of reads.
_CONVERSION = 2**31


def separate_source_matvec(
    crossbar: Crossbar,
    x: Vectors,
    r_source: Scalar,
    r_bit: Scalar,
    *,
    bits: int,
    interleaved: bool = False,
    full_scale: Range = None,
    adc: ADC | None = None,
    key: PRNGKeyArray,
) -> Float[Array, "*batch m"]:
    """Multiply with cells that are fed by source lines with resistance, bit by bit.

    Source lines run beside the bit lines and are driven at the first row; bit lines end at
    the last. An input closes or opens the access transistors of its row, as in CrossSim's
    separate source topologies; negative inputs take a pass of their own, in which all rows
    of positive ones are closed. Each plane, vector and tile takes an iterative solve, so
    this is slower than `with_line_resistance` and `matvec` by far.

    **Arguments:**

    - `crossbar`: from `program`, and effects on cells.
    - `x`, `bits`, `full_scale`, `adc`: as in `bit_serial_matvec`, with one bit a slice.
    - `r_source`, `r_bit`: of the wires between two cells, in ohms, from 0 up.
    - `interleaved`: whether the cells of a pair meet the same bit line, fed by opposite
        voltages, so that currents cancel on the spot; or else are in arrays of their own.
    - `key`: typed key of the read noise.

    **Raises:**

    - `ValueError`: as `bit_serial_matvec` does; if a resistance is negative or not finite;
        if `interleaved` and weights are single cells; if the crossbar has been through
        `with_nonlinear_current` or `with_read_noise`.

    **Example:**

        >>> crossbar = sj.program_exactly(np.ones((4, 4)), "epiram", array=4)
        >>> how = dict(bits=2, key=jr.key(0))  # a bit and a sign
        >>> y = sj.separate_source_matvec(crossbar, np.ones(4), 10.0, 10.0, **how)
        >>> bool(jnp.all((y > 3.9) & (y < 4)))  # IR drop
        True
    """
    call = "separate_source_matvec"
    check_key(key)
    check_crossbar(call, crossbar=crossbar)
    check_converters(call, None, adc)
    check_slices(call, bits, 1, full_scale)
    remedy = "It is in ohms. Zero is an ideal line."
    check_given(f"sedma_jax.{call}", FROM_ZERO, remedy, r_source=r_source, r_bit=r_bit)
    if interleaved and crossbar.conductance.shape[1] != 2:
        raise ValueError(
            f"`sedma_jax.{call}` needs pairs of cells to interleave. Got one cell a "
            "weight. Leave `interleaved` out, or program with `mapping=differential`."
        )
    if crossbar.higher_order is not None or crossbar.read_variance is not None:
        raise ValueError(
            f"`sedma_jax.{call}` needs cells that obey Ohm's law, with read noise of "
            "the device alone. Got a crossbar of `with_nonlinear_current` or "
            "`with_read_noise`. Use the crossbar before."
        )
    x = check_vector(x, crossbar)
    wires = jnp.asarray(r_source, crossbar.dtype), jnp.asarray(r_bit, crossbar.dtype)
    how = dict(bits=bits, interleaved=interleaved)
    y = _product(crossbar, jnp.atleast_2d(x), *wires, full_scale, adc, key, **how)
    return y if x.ndim == 2 else y[0]


@forgettable
@partial(jax.jit, static_argnames=("bits", "interleaved"))
def _product(
    crossbar: Crossbar,
    x: Float[Array, "batch n"],
    r_source: TracedScalar,
    r_bit: TracedScalar,
    full_scale: Range,
    adc: ADC | None,
    key: PRNGKeyArray,
    bits: int,
    interleaved: bool,
) -> Float[Array, "batch m"]:
    dtype = crossbar.dtype
    planes, drive = split_planes(x.astype(dtype), bits, 1, full_scale)
    # Both passes of all planes form one batch of gates, 0 or 1.
    gates = jnp.maximum(jnp.stack([planes, -planes]), 0).reshape(-1, x.shape[1])
    parts = split_inputs(gates, crossbar.array[0])[crossbar.inputs]
    device = crossbar.device
    through = series_conductance(crossbar.conductance, device.r_access).astype(dtype)
    low, high = (
        series_conductance(g, device.r_access) for g in (device.g_min, device.g_max)
    )

    def tile(arguments: tuple) -> Array:
        g, gates, used = arguments

        def one(gate: Array) -> Array:
            wires = (r_source, r_bit)
            open_ = gate > 0
            seen = separate_source_conductances(g, open_, *wires, interleaved=interleaved)
            least = jnp.where(open_[None, :, None], low, 0)
            lines = jnp.sum(((seen - least) / (high - low)).astype(dtype), axis=1)
            if len(g) == 2:
                return lines[0] - lines[1]
            # The reference of single cells, in the middle of the window, has ideal lines.
            return 2 * lines[0] - jnp.sum(gate)

        return jnp.where(used, lax.map(one, gates), 0)

    used = used_cells(crossbar, crossbar.conductance.shape)[:, :1]
    currents = lax.map(tile, (through, parts, used))
    # Without weights the currents are read noise alone.
    silent = dataclasses.replace(crossbar, strips=jnp.zeros_like(crossbar.strips))
    currents = currents + tile_currents(silent, gates, key=key)
    converted = convert(currents, adc, jr.fold_in(key, _CONVERSION))
    sums = add_tiles(crossbar, converted).reshape(2, len(planes), len(x), -1)
    weights = plane_weights(bits, 1, dtype)
    shifted = jnp.tensordot(weights, sums[0] - sums[1], 1)
    return shifted * (drive / (2 ** (bits - 1) - 1))
