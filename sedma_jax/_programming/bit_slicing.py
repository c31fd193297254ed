"""Share the bits of each weight between several arrays.

A weight is an integer in sign and magnitude, its magnitude `slices` digits to the base
`2**cell_bits`. Each digit of a tile has an array of its own, where the sign decides, as for
any weight, which cell of a differential pair holds it (or which side of the reference, with
one cell). Products are converted array by array, then shifted and added: the shift is part
of the scale of each array.
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
    cell_bits: int,
    slices: int,
    key: PRNGKeyArray,
    **options: Unpack[ProgrammingOptions],
) -> tuple[Crossbar, ProgramStats]:
    """Program a matrix with a few bits in each cell, on several arrays a tile.

    Weights are rounded to `cell_bits * slices` bits and a sign. Gradients in `A` pass
    straight through the rounding, by the first slice. `program_residual` shares a weight
    differently: each of its slices stores what programming missed.

    **Arguments:**

    - `A`, `device`, `programming`, `options`, `key`: as in `program`; `arrays` counts the
        arrays for one slice.
    - `cell_bits`: bits of the magnitude in each cell, from 1.
    - `slices`: arrays for each tile, from 1; at most 23 bits in all.

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
    bits = [whole(value) or 0 for value in (cell_bits, slices)]
    if min(bits) < 1 or bits[0] * bits[1] > 23:
        raise ValueError(
            "`sedma_jax.program_bit_sliced` needs 1 to 23 bits, `cell_bits * slices`. "
            f"Got {cell_bits=}, {slices=}. Both are whole numbers."
        )
    device = device_of("program_bit_sliced", device)
    how = programming_from("program_bit_sliced", programming, **options)
    parts = partition(A, *how.array)
    tiles = jnp.asarray(parts.tiles)
    scale = tile_scales(tiles, how.scaling)
    digits = _digits(tiles / scale[:, None, :], cell_bits, slices)
    held, taken = [], []
    for place, factor in enumerate(_factors(cell_bits, slices)):
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


def _no_scale(tiles):
    return jnp.ones_like(tiles[:, 0])


@forgettable
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
