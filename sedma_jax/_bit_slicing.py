"""Share the bits of each weight between several arrays.

A weight is an integer in sign and magnitude, its magnitude `slices` digits to the base
`2**cell_bits`. Each digit of a tile has an array of its own, where the sign decides, as for
any weight, which cell of a differential pair holds it (or which side of the reference, with
one cell). Products are converted array by array, then shifted and added.
"""

import dataclasses
from functools import partial

import equinox as eqx
import jax
import jax.lax as lax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from ._converters import ADC, DAC
from ._crossbar import (
    Crossbar,
    Mapping,
    ProgramStats,
    Scaling,
    check_key,
    matvec,
    program_partition,
)
from ._partition import Matrix, Vectors, partition
from .kernels import Device, VerifyRule, column_scale, differential

Stats = tuple[ProgramStats, ...]


class SlicedCrossbar(eqx.Module):
    """A matrix that is a weighted sum of what several crossbars hold.

    - `slices`: the crossbars, the most significant first.
    - `factors`: the weight of each.
    """

    slices: tuple[Crossbar, ...]
    factors: tuple[Float[Array, ""] | float, ...]


def program_bit_sliced(
    A: Matrix,
    device: Device,
    *,
    cell_bits: int,
    slices: int,
    array: tuple[int, int] = (256, 256),
    arrays: int | None = None,
    mapping: Mapping = differential,
    scaling: Scaling = column_scale,
    rule: VerifyRule | None = None,
    key: PRNGKeyArray,
) -> tuple[SlicedCrossbar, Stats]:
    """Program a matrix with a few bits in each cell, on several arrays a tile.

    Weights are rounded to `cell_bits * slices` bits and a sign. Gradients in `A` pass
    straight through the rounding, by the first slice. To put an effect on all arrays, build
    a `SlicedCrossbar` of the crossbars that it returns, a key for each.

    **Arguments:**

    - `A`, `device`, `array`, `mapping`, `scaling`, `rule`, `key`: as in `program`.
    - `cell_bits`: bits of the magnitude in each cell, from 1.
    - `slices`: arrays for each tile, from 1; at most 23 bits in all.
    - `arrays`: arrays there are for one slice.

    **Returns:**

    The arrays, and what programming each slice took.

    **Raises:**

    - `ValueError`: if the bits are out of range, and as `program` does.
    """
    check_key(key)
    if cell_bits < 1 or slices < 1 or cell_bits * slices > 23:
        raise ValueError(
            "`sedma_jax.program_bit_sliced` needs 1 to 23 bits, `cell_bits * slices`. "
            f"Got {cell_bits=}, {slices=}."
        )
    parts = partition(A, *array)
    tiles = parts.tiles
    scale = scaling(tiles) if len(tiles) else jnp.ones_like(tiles[:, 0])
    scale = lax.stop_gradient(scale)
    digits = _digits(tiles / scale[:, None, :], cell_bits, slices)
    held, stats = [], []
    for place, tiles in enumerate(digits):
        crossbar, took = program_partition(
            dataclasses.replace(parts, tiles=tiles),
            device,
            arrays=arrays,
            mapping=mapping,
            scaling=_no_scale,
            rule=rule,
            progress=None,
            key=jr.fold_in(key, place),
        )
        held.append(dataclasses.replace(crossbar, scale=scale))
        stats.append(took)
    return SlicedCrossbar(tuple(held), _factors(cell_bits, slices)), tuple(stats)


def _no_scale(tiles):
    return jnp.ones_like(tiles[:, 0])


@partial(jax.jit, static_argnums=(1, 2))
def _digits(weights, cell_bits, slices):
    """Signed digits in units of the largest one, the most significant first."""
    base = 2**cell_bits
    whole = jnp.round(jnp.abs(weights) * (base**slices - 1)).astype(jnp.int32)
    places = [
        ((whole >> (cell_bits * place)) & (base - 1)).astype(weights.dtype)
        for place in reversed(range(slices))
    ]
    digits = [jnp.sign(weights) * digit / (base - 1) for digit in places]
    straight = weights - lax.stop_gradient(weights)
    digits[0] = digits[0] + straight / _factors(cell_bits, slices)[0]
    return digits


def _factors(cell_bits, slices):
    """What one unit of each slice weighs: they add up to 1."""
    base = 2**cell_bits
    top = base**slices - 1
    return tuple((base - 1) * base**place / top for place in reversed(range(slices)))


def sliced_matvec(
    sliced: SlicedCrossbar,
    x: Vectors,
    *,
    dac: DAC | None = None,
    adc: ADC | tuple[ADC, ...] | None = None,
    key: PRNGKeyArray,
) -> Float[Array, "*batch m"]:
    """Multiply by a matrix that several crossbars share, and add the products digitally.

    **Arguments:**

    - `sliced`: from `program_bit_sliced`.
    - `x`, `dac`, `key`: as in `matvec`.
    - `adc`: converters of every slice, or one set for each: a slice whose digits are small
        needs less range.

    **Raises:**

    - `ValueError`: as `matvec` does; if there are converters for some slices only.
    """
    check_key(key)
    count = len(sliced.slices)
    adcs = adc if isinstance(adc, tuple) else (adc,) * count
    if len(adcs) != count:
        raise ValueError(
            f"`sedma_jax.sliced_matvec` needs converters for {count} slices. "
            f"Got {len(adcs)}. A single `ADC` serves all."
        )
    return sum(
        factor * matvec(crossbar, x, dac=dac, adc=adc, key=jr.fold_in(key, place))
        for place, (crossbar, factor, adc) in enumerate(
            zip(sliced.slices, sliced.factors, adcs, strict=True)
        )
    )
