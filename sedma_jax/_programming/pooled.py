"""Program a matrix on a pool of arrays of several sizes and materials."""

from collections.abc import Callable
from functools import partial
from typing import Unpack

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import scipy.sparse
from jaxtyping import Array, Float, Int, PRNGKeyArray

from .._arguments import check_progress, device_of
from .._crossbar.converters import ADC, DAC
from .._crossbar.crossbar import (
    Crossbar,
)
from .._keys import check_key
from .._mappings import forgettable
from .._tiling.partition import (
    Matrix,
    Sparse,
    check_grid,
    checked_array,
    checked_sparse,
)
from .._tiling.planning import plan_partitions
from .._tiling.pool import PartitionPlan, Pool
from ..kernels import Device, WriteStats, as_count, check_kind, total_count
from .chunks import tile_scales
from .options import Programming, ProgrammingOptions, Progress, programming_from
from .program import program_tiles
from .program_stats import ProgramStats


class Bank(eqx.Module):
    """The partitions that arrays of one kind hold.

    - `crossbar`: the arrays, as a matrix with partition `t` in block `(t, t)`.
    - `inputs`: the entry of `x` that drives each word line; `n` where there is none.
    - `outputs`: the entry of `y` that each bit line adds to; `m` where there is none.

    **Example:**

        >>> pool = sj.Pool(sj.ArrayKind(4, 4, count=2, device="epiram"))
        >>> crossbar, _ = sj.program_pool(np.ones((6, 4)), pool, key=jr.key(0))
        >>> print(crossbar.banks[0].outputs)  # two bit lines of the second array are free
        [[0 1 2 3]
         [4 5 6 6]]
    """

    crossbar: Crossbar
    inputs: Int[Array, "tiles rows"]
    outputs: Int[Array, "tiles cols"]


class PooledCrossbar(eqx.Module):
    """A matrix as the arrays of a pool hold it; the products of the banks add up.

    - `banks`: one for each kind of array that is used.
    - `shape`: of the matrix.

    **Example:**

        >>> pool = sj.Pool(sj.ArrayKind(4, 4, count=2, device="epiram"))
        >>> crossbar, _ = sj.program_pool(np.eye(8), pool, key=jr.key(0))
        >>> crossbar.shape, len(crossbar.banks)  # one kind of array
        ((8, 8), 1)
    """

    banks: tuple[Bank, ...]
    shape: tuple[int, int] = eqx.field(static=True)

    @property
    def dtype(self):
        """Of the weights; the default one if no array is used."""
        return self.banks[0].crossbar.dtype if self.banks else jnp.result_type(float)

    def read(
        self,
        x: Float[Array, "batch n"],
        dac: DAC | None,
        adc: ADC | None,
        key: PRNGKeyArray,
    ) -> Float[Array, "batch m"]:
        """`matvec`, for vectors that are checked already.

        The largest magnitude that drives a bank is its full read voltage.
        """
        if any(np.ndim(leaf) for leaf in jax.tree.leaves(dac and dac.errors)):
            raise ValueError(
                "A pool of arrays needs the same converter for all inputs. Got a DAC with "
                "errors of each. Give one number for all, or use one kind of array."
            )
        read = lambda crossbar, lines, key: crossbar.read(lines, dac, adc, key)
        return read_banks(self, x, key, read)

    def stored_matrix(self) -> Float[Array, "m n"]:
        """The matrix that the crossbar multiplies with, read without noise."""
        dtypes = [bank.crossbar.dtype for bank in self.banks]
        matrix = jnp.zeros(self.shape, *dtypes[:1])
        for bank in self.banks:
            tiles = bank.crossbar.weights * bank.crossbar.scale[:, None, :]
            places = (bank.outputs[:, None, :], bank.inputs[:, :, None])
            matrix = matrix.at[places].add(tiles, mode="drop")
        return matrix


def read_banks(
    crossbar: PooledCrossbar,
    x: Float[Array, "batch n"],
    key: PRNGKeyArray,
    read: Callable[[Crossbar, Array, PRNGKeyArray], Array],
) -> Float[Array, "batch m"]:
    """The product of a pool, from a way to read one crossbar: `read(crossbar, x, key)`."""
    y = None
    for number, bank in enumerate(crossbar.banks):
        lines, bank_key = _driven_lines(x, bank, key, number)
        sums = read(bank.crossbar, lines, bank_key)
        y = _add_outputs(y, sums, bank.outputs, crossbar.shape[0])
    return jnp.zeros((len(x), crossbar.shape[0]), x.dtype) if y is None else y


@forgettable
@jax.jit
def _driven_lines(x, bank, key, number):
    """What drives the word lines of a bank, and the key of its read noise."""
    x = x.astype(bank.crossbar.dtype)
    lines = jnp.take(x, bank.inputs.ravel(), axis=1, mode="fill", fill_value=0)
    return lines, jr.fold_in(key, number)


@forgettable
@partial(jax.jit, static_argnames="size")
def _add_outputs(y, sums, outputs, size):
    y = jnp.zeros((len(sums), size), sums.dtype) if y is None else y
    return y.at[:, outputs.ravel()].add(sums, mode="drop")


def program_pool(
    A: Matrix,
    plan: PartitionPlan | Pool,
    device: Device | str | None = None,
    programming: Programming | None = None,
    *,
    progress: Progress | None = None,
    key: PRNGKeyArray,
    **options: Unpack[ProgrammingOptions],
) -> tuple[PooledCrossbar, ProgramStats]:
    """Program a matrix on a pool of arrays of several sizes and materials.

    As `program`, for arrays that differ. The noise of a partition depends on `key`, on
    its number in the plan and on its kind.

    **Arguments:**

    - `A`, `progress`, `key`: as in `program`.
    - `plan`: from `plan_partitions`; or the pool, to be planned for `A`.
    - `device`: technology of the kinds of the pool that name none.
    - `programming`, `options`: as in `program`, but `array` and `arrays` are those of the
        pool. `global_scale` is one scale for each kind of array; a `rule` is for all
        kinds, and the default is the `acceptance_band` of the device of each.

    **Returns:**

    The crossbar, for `matvec` and `corrected_matvec`, and what programming took, with
    `per_array` in the order of the plan. Energies add over partitions. Latencies are
    those of the slowest array of each pass, added over passes.

    **Raises:**

    - `ValueError`: as `program` and `plan_partitions` do; if the plan is for another
        shape, or leaves out a nonzero of `A`.

    **Example:**

        >>> pool = sj.Pool(sj.ArrayKind(4, 4, count=2, device="epiram"))
        >>> crossbar, stats = sj.program_pool(np.eye(8), pool, key=jr.key(0))
        >>> y = sj.matvec(crossbar, np.arange(8.0), key=jr.key(1))
        >>> bool(jnp.max(jnp.abs(y - np.arange(8.0))) < 0.1)
        True
    """
    check_key(key)
    device = None if device is None else device_of("program_pool", device)
    check_progress("program_pool", progress)
    check_kind(
        "sedma_jax.program_pool",
        (Pool, PartitionPlan),
        "a plan or a `sedma_jax.Pool`",
        "`sedma_jax.plan_partitions(A.shape, pool)` makes a plan.",
        plan=plan,
    )
    how = programming_from("program_pool", programming, **options)
    if isinstance(A, Sparse):
        entries = checked_sparse(A)
        matrix, occupied = entries.tocsr(), (entries.row, entries.col)
    else:
        matrix, occupied = checked_array(A, "A", ndim=2), None
    m, n = matrix.shape
    if isinstance(plan, Pool):
        plan = plan_partitions((m, n), plan, device, occupied=occupied)
    if plan.shape != (m, n):
        raise ValueError(
            f"`sedma_jax.program_pool` needs a plan for the shape {(m, n)} of `A`. "
            f"Got one for {plan.shape}. Make it with `plan_partitions(A.shape, pool)`."
        )
    _check_cover(matrix, plan)
    count = len(plan.rectangles)
    banks, stats, order = [], [], []
    for number, kind in enumerate(plan.pool.kinds):
        index = [i for i, r in enumerate(plan.rectangles) if r.kind == number]
        if not index:
            continue
        done = len(order)
        bank, written = _program_bank(
            matrix,
            np.array([plan.rectangles[i][:4] for i in index]),
            as_count(index),
            kind,
            how,
            progress=progress and (lambda n, _, done=done: progress(done + n, count)),
            key=jr.fold_in(key, number),
        )
        banks.append(bank)
        stats.append(written)
        order += index
    if not banks:
        stats = [_nothing(matrix.dtype)]
    whole = lambda values: jnp.asarray(np.asarray(values, np.int32))
    pass_of = whole([r.pass_number for r in plan.rectangles])
    crossbar = PooledCrossbar(tuple(banks), plan.shape)
    return crossbar, _total(stats, whole(np.argsort(order)), pass_of, plan.passes)


def _check_cover(A, plan):
    if isinstance(A, scipy.sparse.csr_array):
        held = sum(A[r.top : r.bottom, r.left : r.right].nnz for r in plan.rectangles)
        if held != A.nnz:
            raise ValueError(
                "`sedma_jax.program_pool` needs a plan that covers the nonzeros of `A`. "
                f"Got one with {held} of {A.nnz}. Plan with `occupied=A.nonzero()`."
            )
        return
    held = sum((r.bottom - r.top) * (r.right - r.left) for r in plan.rectangles)
    if held != A.size:
        raise ValueError(
            "`sedma_jax.program_pool` needs a plan that covers a dense `A`. Got one with "
            f"{held} of {A.size} entries. Plan without `occupied`, or pass a sparse `A`."
        )


def _program_bank(A, places, index, kind, how, *, progress, key):
    top, bottom, left, right = places.T
    check_grid(kind.rows, kind.cols, (len(places) * kind.cols, len(places) * kind.rows))
    inputs = _lines(left, right, kind.rows, A.shape[1])
    outputs = _lines(top, bottom, kind.cols, A.shape[0])
    if isinstance(A, scipy.sparse.csr_array):
        tiles = np.zeros((len(places), kind.rows, kind.cols), A.dtype)
        for tile, (t, b, l, r) in zip(tiles, places, strict=True):
            tile[: r - l, : b - t] = A[t:b, l:r].toarray().T
        tiles = jnp.asarray(tiles)
    else:
        tiles = _dense_tiles(A, inputs, outputs)
    scale = tile_scales(tiles, how.scaling)
    weights, conductance, stats = program_tiles(
        tiles,
        scale,
        index,
        jnp.asarray((right - left).astype(np.int32)),
        jnp.asarray((bottom - top).astype(np.int32)),
        kind.device,
        how,
        progress=progress,
        key=key,
    )
    count, rows, cols = tiles.shape
    block = jnp.asarray(np.arange(count, dtype=np.int32))
    crossbar = Crossbar(
        strips=weights,
        conductance=conductance,
        scale=scale,
        inputs=block,
        outputs=block,
        device=kind.device,
        shape=(count * cols, count * rows),
    )
    return Bank(crossbar, inputs, outputs), stats


def _lines(first, last, size, end) -> Int[Array, "tiles {size}"]:
    """Lines of the matrix from `first` to `last`, filled up with `end`."""
    lines = first[:, None] + np.arange(size)
    return jnp.asarray(np.where(lines < last[:, None], lines, end).astype(np.int32))


@forgettable
@jax.jit
def _dense_tiles(A, inputs, outputs):
    padded = jnp.pad(A, ((0, 1), (0, 1)))
    return padded[outputs[:, None, :], inputs[:, :, None]]


def _nothing(dtype) -> WriteStats:
    """The figures of no array."""
    count, figure = jnp.zeros(0, jnp.int32), jnp.zeros(0, dtype)
    return WriteStats(
        pulses=count,
        iterations=count,
        write_energy=figure,
        verify_energy=figure,
        write_latency=figure,
        verify_latency=figure,
        unfinished=count,
        residual=figure,
    )


@forgettable
@partial(jax.jit, static_argnames=("passes",))
def _total(
    parts: list[WriteStats],
    order: Int[Array, " tiles"],
    pass_of: Int[Array, " tiles"],
    passes: int,
) -> ProgramStats:
    """Figures of the whole, from those of its parts; `order` leads back to the plan's."""
    stats = jax.tree.map(lambda *own: jnp.concatenate(own)[order], *parts)

    def last(latency):
        slowest = jnp.zeros(passes, latency.dtype).at[pass_of].max(latency)
        return jnp.sum(slowest)

    return ProgramStats(
        per_array=stats,
        pulses=total_count(stats.pulses),
        energy=jnp.sum(stats.write_energy + stats.verify_energy),
        latency=last(stats.write_latency + stats.verify_latency),
        write_energy=jnp.sum(stats.write_energy),
        write_latency=last(stats.write_latency),
        passes=passes,
    )
