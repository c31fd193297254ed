"""Share the bits of each weight between several arrays.

A weight is an integer in sign and magnitude, its magnitude `slices` digits to the base
`2**cell_bits`, or digits of several widths. Each digit of a tile has an array of its own,
where the sign decides, as for any weight, which cell of a differential pair holds it (or
which side of the reference, with one cell). Products are converted array by array, then
shifted and added: the shift is part of the scale of each array.
"""

import dataclasses
from functools import partial
from typing import Unpack

import jax
import jax.lax as lax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import PRNGKeyArray

from .._arguments import device_of
from .._crossbar.crossbar import (
    Crossbar,
)
from .._keys import check_key
from .._mappings import forgettable
from .._tiling.partition import Matrix, partition
from ..kernels import Device, whole
from .chunks import tile_scales
from .options import Programming, ProgrammingOptions, programming_from
from .program import program_partition
from .program_stats import ProgramStats, sum_stats
from .residual import join_slices


def program_bit_sliced(
    A: Matrix,
    device: Device | str,
    programming: Programming | None = None,
    *,
    cell_bits: int | tuple[int, ...],
    slices: int | None = None,
    key: PRNGKeyArray,
    **options: Unpack[ProgrammingOptions],
) -> tuple[Crossbar, ProgramStats]:
    """Program a matrix with a few bits in each cell, on several arrays a tile.

    Weights are rounded to `cell_bits * slices` bits and a sign, or to the sum of the
    widths. Gradients in `A` pass straight through the rounding, by the first slice.
    `program_residual` shares a weight differently: each of its slices stores what
    programming missed.

    **Arguments:**

    - `A`, `device`, `programming`, `options`, `key`: as in `program`; `arrays` counts the
        arrays for one slice.
    - `cell_bits`: bits of the magnitude in each cell, from 1; or those of each slice, the
        most significant first, such as `(1, 2, 4)`.
    - `slices`: arrays for each tile, from 1; at most 23 bits in all. Left out where
        `cell_bits` says how many.

    **Returns:**

    One crossbar with the arrays of all slices, the most significant first, for `matvec`
    and all effects. And what programming took, the slices one after another.

    **Raises:**

    - `ValueError`: if the bits are out of range, and as `program` does.

    **Example:**

        >>> A = np.array([[1.0, 0.5], [0.25, -0.75]])
        >>> how = sj.Programming(array=4)
        >>> crossbar, _ = sj.program_bit_sliced(
        ...     A, "epiram", how, cell_bits=2, slices=2, key=jr.key(0)
        ... )
        >>> crossbar.slices, bool(jnp.max(jnp.abs(sj.stored_matrix(crossbar) - A)) < 0.05)
        (2, True)
    """
    check_key(key)
    widths = _widths(cell_bits, slices)
    device = device_of("program_bit_sliced", device)
    how = programming_from("program_bit_sliced", programming, **options)
    parts = partition(A, *how.array)
    tiles = jnp.asarray(parts.tiles)
    scale = tile_scales(tiles, how.scaling)
    digits = _digits(tiles / scale[:, None, :], widths)
    held, taken = [], []
    for place, factor in enumerate(_factors(widths)):
        crossbar, stats = program_partition(
            dataclasses.replace(parts, tiles=digits[place]),
            device,
            how,
            scaling=_no_scale,
            key=jr.fold_in(key, place),
        )
        held.append(dataclasses.replace(crossbar, scale=factor * scale))
        taken.append(stats)
    return join_slices(tuple(held)), sum_stats(tuple(taken))


def _widths(cell_bits: int | tuple[int, ...], slices: int | None) -> tuple[int, ...]:
    """Bits of each slice, the most significant first."""
    given = isinstance(cell_bits, tuple | list)
    count = len(cell_bits) if given and slices is None else whole(slices) or 0
    each = cell_bits if given else [cell_bits] * min(count, 24)
    widths = [whole(width) or 0 for width in each]
    if len(widths) != count or min(widths, default=0) < 1 or sum(widths) > 23:
        raise ValueError(
            "`sedma_jax.program_bit_sliced` needs 1 to 23 bits, `cell_bits * slices`. "
            f"Got {cell_bits=}, {slices=}. Both are whole numbers, or `cell_bits` is a "
            "tuple with one for each slice."
        )
    return tuple(widths)


def _no_scale(tiles):
    return jnp.ones_like(tiles[:, 0])


@forgettable
@partial(jax.jit, static_argnums=1)
def _digits(weights, widths):
    """Signed digits in units of the largest one, the most significant first."""
    whole = jnp.round(jnp.abs(weights) * (2 ** sum(widths) - 1)).astype(jnp.int32)
    digits = []
    for place, width in enumerate(widths):
        largest = 2**width - 1
        digit = (whole >> sum(widths[place + 1 :])) & largest
        digits.append(jnp.sign(weights) * digit.astype(weights.dtype) / largest)
    straight = weights - lax.stop_gradient(weights)
    digits[0] = digits[0] + straight / _factors(widths)[0]
    return digits


def _factors(widths):
    """What one unit of each slice weighs: they add up to 1."""
    top = 2 ** sum(widths) - 1
    return tuple(
        (2**width - 1) * 2 ** sum(widths[place + 1 :]) / top
        for place, width in enumerate(widths)
    )
