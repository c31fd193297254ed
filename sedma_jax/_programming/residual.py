"""Program a matrix on several arrays a tile, each storing what the ones before missed.

Array `k + 1` of a tile stores `A - (A~_1 + ... + A~_k)`, on a scale of its own, and the
products of all arrays add up digitally. If programming leaves a fraction `r` of what it
is to store, `k` arrays leave `r**k` (Song et al. 2024, Science 383, 903,
10.1126/science.adi9405).
"""

from dataclasses import replace
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
    read_sigma,
)
from .._keys import check_key
from .._mappings import forgettable
from .._tiling.partition import Matrix, Partition, partition
from ..kernels import (
    Device,
    WriteStats,
    check_counts,
    gaussian,
    series_conductance,
)
from .options import Programming, ProgrammingOptions, Progress, programming_from
from .program import program_partition
from .program_stats import ProgramStats, sum_stats, total_stats

# Tiles take numbers from 0 up to address their noise, and slices from here.
_SLICE = 2**31


def program_residual(
    A: Matrix,
    device: Device | str,
    programming: Programming | None = None,
    *,
    slices: int,
    reads: int = 1,
    progress: Progress | None = None,
    key: PRNGKeyArray,
    **options: Unpack[ProgrammingOptions],
) -> tuple[Crossbar, ProgramStats]:
    """Program a matrix on `slices` arrays a tile, each correcting the ones before.

    Before the next slice every cell is read back once more, and the residual is taken
    from that reading: its noise, `sigma_read` of the device, bounds what slicing can
    gain. Without read noise the residual is exact. Of a sparse matrix, only tiles with a
    nonzero get arrays. The first slice is what `program` would make of the same key.

    **Arguments:**

    - `A`, `device`, `programming`, `options`: as in `program`; `scaling` is applied to
        each residual anew, and `arrays` counts the arrays for one slice.
    - `slices`: arrays for each tile, at least 1. Static.
    - `reads`: times that cells are read back, and averaged, between slices; from 1.
    - `progress`: as in `program`, called for each slice.
    - `key`: typed key of all randomness of programming.

    **Returns:**

    One crossbar with the arrays of all slices, which `matvec`, `corrected_matvec` and
    `stored_matrix` take like any other; and what programming took. Pulses, energy and
    latency are summed, since slice `k + 1` waits for slice `k`; reading back counts as
    verify reads of the slice that is read.

    **Raises:**

    - `ValueError`: if `slices < 1` or `reads < 1`, or as `program` does.

    **Example:**

        >>> A = np.eye(4)
        >>> crossbar, _ = sj.program_residual(A, "epiram", array=4, slices=2, key=jr.key(0))
        >>> error = jnp.abs(sj.stored_matrix(crossbar) - A)
        >>> bool(jnp.max(error) < 0.01**2)  # each slice stores what the one before missed
        True
    """
    check_key(key)
    for name, value in (("slices", slices), ("reads", reads)):
        counted = {name: value}
        check_counts("sedma_jax.program_residual", 1, 2**20, "The least is 1.", **counted)
    device = device_of("program_residual", device)
    how = programming_from("program_residual", programming, **options)
    parts = partition(A, *how.array)
    write = partial(program_partition, device=device, how=how, progress=progress)
    held, taken = [], []
    for k in range(slices):
        slice_key = key if k == 0 else jr.fold_in(key, _SLICE + k)
        crossbar, stats = write(parts, key=slice_key)
        if k + 1 < slices:
            read_key = jr.fold_in(slice_key, _SLICE)
            parts, cost = _read_back(parts, crossbar, stats.per_array, reads, read_key)
            stats = total_stats(cost, how.arrays)
        held.append(crossbar)
        taken.append(stats)
    if slices == 1:
        return held[0], taken[0]
    return join_slices(tuple(held)), sum_stats(tuple(taken))


@forgettable
@partial(jax.jit, static_argnames=("reads",))
def _read_back(
    parts: Partition, crossbar: Crossbar, stats: WriteStats, reads: int, key: PRNGKeyArray
) -> tuple[Partition, WriteStats]:
    """What is left to store, and the figures with the cost of finding out."""
    device = crossbar.device
    rows, cols = crossbar.array
    count = len(crossbar.scale)
    dtype = parts.tiles.dtype
    m, n = parts.shape
    row = lax.broadcasted_iota(jnp.int32, (count, rows), 1)
    col = lax.broadcasted_iota(jnp.int32, (count, cols), 1)
    row = row < (n - parts.inputs * rows)[:, None]
    col = col < (m - parts.outputs * cols)[:, None]
    used = row[:, :, None] & col[:, None, :]
    sigma = read_sigma(crossbar) / reads**0.5
    noise = gaussian(sigma, parts.tiles.shape, dtype, key=key)
    seen = jnp.where(used, crossbar.weights + noise, 0) * crossbar.scale[:, None, :]
    through = series_conductance(crossbar.conductance, device.r_access)
    power = device.v_read**2 * jnp.sum(jnp.where(used[:, None], through, 0), axis=(1, 2, 3))
    seconds = reads * device.t_read
    energy = stats.verify_energy + power * seconds
    latency = stats.verify_latency + jnp.sum(row, axis=1, dtype=dtype) * seconds
    cost = dict(verify_energy=energy.astype(dtype), verify_latency=latency.astype(dtype))
    return replace(parts, tiles=parts.tiles - seen), replace(stats, **cost)


def join_slices(held: tuple[Crossbar, ...]) -> Crossbar:
    """One crossbar of the arrays of all slices."""
    arrays = ("strips", "conductance", "scale", "inputs", "outputs")
    joined = {name: jnp.concatenate([getattr(c, name) for c in held]) for name in arrays}
    return replace(held[0], slices=len(held), **joined)
