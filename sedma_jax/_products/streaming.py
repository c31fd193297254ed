"""Program and multiply some tiles at a time, in memory that does not grow with the matrix.

Noise is regenerated, not stored: that of a tile depends on the key and on the place of the
tile alone, so a tile programmed here is, bit for bit, the tile that `program` makes. Tiles
come in the order of their outputs, as many whole outputs at a time as fit. Sums differ from
those of `matvec` by rounding, since that multiplies by many tiles at once.
"""

import dataclasses
import hashlib
import os
from collections.abc import Iterator
from functools import partial
from importlib.metadata import version
from itertools import pairwise
from typing import Unpack

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from .._arguments import check_progress, device_of
from .._crossbar.abstract_crossbar import check_converters
from .._crossbar.converters import ADC, DAC
from .._crossbar.crossbar import Crossbar, check_vector, is_quiet, read
from .._keys import check_key
from .._mappings import forgettable
from .._programming.options import (
    Programming,
    ProgrammingOptions,
    Progress,
    programming_from,
)
from .._programming.program import program_partition
from .._programming.program_stats import ProgramStats, total_stats
from .._tiling.partition import Matrix, Partition, Vectors, exact_product
from .._tiling.tile_source import SlicedMatrix, TileSource, tile_source
from ..kernels import (
    Device,
    RememberedLambda,
    Scheme,
    WriteStats,
    acceptance_band,
    first_order_inputs,
    shown,
    whole,
)
from .checkpoint import load_checkpoint, save_checkpoint
from .correction import (
    BASELINE_LAMBDA,
    CorrectionInfo,
    check_lambda,
    correct,
    encoding_array,
)

_CHUNK = 32


def stream_matvec(
    A: Matrix | SlicedMatrix,
    x: Vectors,
    device: Device | str,
    programming: Programming | None = None,
    *,
    dac: DAC | None = None,
    adc: ADC | None = None,
    chunk_tiles: int = _CHUNK,
    checkpoint: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
    key: PRNGKeyArray,
    **options: Unpack[ProgrammingOptions],
) -> tuple[Float[Array, "*batch m"], ProgramStats]:
    """Program a matrix and multiply by it, without ever holding all of its tiles.

    The same as `program(A, device, key=program_key)` and `matvec(crossbar, x,
    key=read_key)` with `program_key, read_key = jax.random.split(key)`: figures and
    noise are equal bit for bit, sums to rounding.

    **Arguments:**

    - `A`: as in `program`; also `numpy.memmap`, or anything with `shape`, `dtype` and
        slices `A[a:b, c:d]`. NaN and infinity are found when their tile is reached.
    - `x`, `dac`, `adc`: as in `matvec`, with one full scale for all tiles.
    - `device`, `programming`, `options`: as in `program`; a scaling of your own has to
        treat each tile by itself.
    - `chunk_tiles`: tiles held at a time, from 1 up.
    - `checkpoint`: file that keeps the partial sums after each chunk, replaced in one
        step. A job whose file exists goes on after its last finished chunk, and ends
        with the same numbers. The file stays when the job is done.
    - `progress`: called with the tiles done and the tiles in all.
    - `key`: typed key of all randomness.

    **Returns:**

    `y`, `(m,)` or `(batch, m)`, and what programming took.

    **Raises:**

    - `ValueError`: as `program` and `matvec` do; if `checkpoint` is damaged or of
        another job; if `chunk_tiles < 1`; if `A` is traced.

    **Example:**

        >>> np.save("A.npy", np.eye(8))
        >>> A, x = np.load("A.npy", mmap_mode="r"), np.arange(8.0)  # read tile by tile
        >>> y, stats = sj.stream_matvec(A, x, "epiram", array=4, key=jr.key(0))
        >>> bool(jnp.max(jnp.abs(y - x)) < 0.1), len(stats.per_array.residual)  # 4 tiles
        (True, 4)
    """
    check_key(key)
    check_converters("stream_matvec", dac, adc)
    check_progress("stream_matvec", progress)
    device = device_of("stream_matvec", device)
    how = programming_from("stream_matvec", programming, **options)
    job = _Job(
        source=tile_source(A, *how.array),
        device=device,
        how=how,
        converters=(dac, adc),
        chunk_tiles=chunk_tiles,
    )
    x = check_vector(x, job.source).astype(job.source.dtype)
    program_key, read_key = jr.split(key)
    vectors = jnp.atleast_2d(x)
    analog, exact = (vectors, read_key), vectors[:0]
    y, stats = _stream(job, analog, exact, checkpoint, progress, key=program_key)
    return y if x.ndim == 2 else y[0], total_stats(stats, how.arrays)


def stream_corrected_matvec(
    A: Matrix | SlicedMatrix,
    x: Vectors,
    device: Device | str,
    programming: Programming | None = None,
    *,
    lam: Float[Array, ""] | float | RememberedLambda = BASELINE_LAMBDA,
    dac: DAC | None = None,
    adc: ADC | None = None,
    chunk_tiles: int = _CHUNK,
    checkpoint: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
    key: PRNGKeyArray,
    **options: Unpack[ProgrammingOptions],
) -> tuple[Float[Array, "*batch m"], CorrectionInfo]:
    """`corrected_matvec`, without ever holding all tiles of the matrix.

    With the same key the figures and the noise are those of `corrected_matvec`, and the
    product differs from its product by rounding. `A x~` is a digital product.

    **Arguments:**

    - `lam`: as in `corrected_matvec`; all others as in `stream_matvec`. `progress`
        counts the tiles of the matrix, not those that encode `x`.

    **Returns:**

    The corrected product, and its record.

    **Raises:**

    - `ValueError`: as `stream_matvec` and `denoise` do.

    **Example:**

        >>> A, x, options = np.eye(8), np.arange(8.0), dict(array=4, key=jr.key(0))
        >>> y, info = sj.stream_corrected_matvec(A, x, "epiram", lam=0.0, **options)
        >>> bool(info.relative_l2_corrected < info.relative_l2_raw)
        True
    """
    check_key(key)
    call = "stream_corrected_matvec"
    check_lambda(call, lam)
    check_converters(call, dac, adc)
    check_progress(call, progress)
    device = device_of(call, device)
    how = programming_from(call, programming, **options)
    job = _Job(
        source=tile_source(A, *how.array),
        device=device,
        how=how,
        converters=(dac, adc),
        chunk_tiles=chunk_tiles,
    )
    x = check_vector(x, job.source).astype(job.source.dtype)
    vectors = jnp.atleast_2d(x)
    matrix_key, vector_key, read_key = jr.split(key, 3)
    inputs = tile_source(vectors, *encoding_array(how.array, len(vectors)))
    encoding = eqx.tree_at(lambda j: j.source, job, inputs)
    encoded, vector_stats = _encode(encoding, key=vector_key)
    analog = first_order_inputs(vectors, encoded), jr.split(read_key)[0]
    sums, stats = _stream(
        job,
        analog,
        jnp.concatenate([encoded, vectors]),
        checkpoint,
        progress,
        key=matrix_key,
    )
    taken = total_stats(stats, how.arrays), total_stats(vector_stats, None)
    products, exact = sums[: 2 * len(vectors)], sums[2 * len(vectors) :]
    return correct(products, exact, vectors, encoded, lam, *taken, single=x.ndim == 1)


class _Job(eqx.Module):
    source: TileSource
    device: Device
    how: Programming
    converters: tuple[DAC | None, ADC | None]
    chunk_tiles: int

    def __check_init__(self):
        if (whole(self.chunk_tiles) or 0) < 1:
            raise ValueError(
                "A streamed product needs `chunk_tiles >= 1`, a whole number. Got "
                f"{shown(self.chunk_tiles)}. It counts the tiles held at a time."
            )
        adc = self.converters[1]
        if adc is not None and adc.full_scale is not None and np.size(adc.full_scale) > 1:
            raise ValueError(
                "A streamed product needs one `full_scale` for all tiles. "
                f"Got shape {np.shape(adc.full_scale)}. Call `program` and `matvec`."
            )
        errors = None if adc is None else adc.errors
        if any(np.size(leaf) > 1 for leaf in jax.tree.leaves(errors)):
            raise ValueError(
                "A streamed product needs the same converters for all tiles. Got errors "
                "of each. Call `program` and `matvec`."
            )


def _chunks(outputs: np.ndarray, size: int) -> list[slice]:
    """Cut sorted outputs between two outputs, or inside one that fills a chunk."""
    cuts = [0]
    while cuts[-1] < len(outputs):
        start, stop = cuts[-1], min(cuts[-1] + size, len(outputs))
        if stop < len(outputs):
            whole = int(np.searchsorted(outputs, outputs[stop]))
            stop = whole if whole > start else stop
        cuts.append(stop)
    return [slice(a, b) for a, b in pairwise(cuts)]


def _program_chunks(
    job: _Job, first: int, key: PRNGKeyArray
) -> Iterator[tuple[np.ndarray, Partition, Crossbar, WriteStats]]:
    """Program chunk after chunk, from number `first` on."""
    source = job.source
    order = np.lexsort((source.inputs, source.outputs))
    chunks = _chunks(source.outputs[order], job.chunk_tiles)
    how = dataclasses.replace(job.how, arrays=None)
    scaling = source.local_scaling(job.how.scaling)
    # Small matrices and last chunks share a few compilations.
    size = min(job.chunk_tiles, 1 << max(len(order) - 1, 0).bit_length())
    for chunk in chunks[first:]:
        positions = order[chunk]
        parts = source.partition(positions, size)
        crossbar, stats = program_partition(
            parts,
            job.device,
            how,
            scaling=scaling,
            key=key,
        )
        yield positions, parts, crossbar, stats.per_array


def _stream(job, analog, exact, checkpoint, progress, *, key):
    """Sums of all products over all tiles, and the figures of each array."""
    source = job.source
    count, dtype = len(source.inputs), source.dtype
    products = (len(analog[0]) + len(exact), source.shape[0])
    state = {
        "chunks": np.zeros((), np.int64),
        "tiles": np.zeros((), np.int64),
        "sums": np.zeros(products, dtype),
        **_empty_stats(count, dtype),
    }
    description = {} if checkpoint is None else _describe(job, analog, exact, key)
    if checkpoint is not None:
        state = load_checkpoint(checkpoint, description, state) or state
    sums = jnp.asarray(state["sums"])
    work = _program_chunks(job, int(state["chunks"]), key)
    for positions, parts, crossbar, stats in work:
        quiet = is_quiet(crossbar)
        products = (*analog, exact, *job.converters)
        sums = _add_products(sums, parts, crossbar, *products, quiet=quiet)
        _put_stats(state, positions, stats)
        state["chunks"] += 1
        state["tiles"] += len(positions)
        jax.block_until_ready(sums)  # or the chunks to come would pile up in memory
        if checkpoint is not None:
            state["sums"] = np.asarray(sums)
            save_checkpoint(checkpoint, description, state)
        if progress is not None:
            progress(int(state["tiles"]), count)
    return sums, _stats_of(state)


@forgettable
@partial(jax.jit, static_argnames="quiet")
def _add_products(sums, parts, crossbar, x, key, exact, dac, adc, *, quiet):
    inside = parts.outputs < parts.grid[1]
    crossbar = eqx.tree_at(
        lambda c: c.scale, crossbar, jnp.where(inside[:, None], crossbar.scale, 0)
    )
    products = [read(crossbar, x, dac, adc, key, quiet=quiet)]
    if len(exact):
        products.append(exact_product(parts, exact))
    return sums + jnp.concatenate(products)


def _encode(job, *, key):
    """The vectors that arrays hold after programming, and the figures of each array."""
    source = job.source
    rows, cols = source.array
    encoded = np.zeros(source.shape, source.dtype)
    state = _empty_stats(len(source.inputs), source.dtype)
    for positions, _, crossbar, stats in _program_chunks(job, 0, key):
        _put_stats(state, positions, stats)
        stored = np.asarray(_stored(crossbar))
        for tile, position in zip(stored, positions, strict=False):
            i, j = source.outputs[position] * cols, source.inputs[position] * rows
            block = encoded[i : i + cols, j : j + rows]
            block[...] = tile.T[: block.shape[0], : block.shape[1]]
    return jnp.asarray(encoded), _stats_of(state)


@forgettable
@jax.jit
def _stored(crossbar):
    return crossbar.weights * crossbar.scale[:, None, :]


_FIELDS = tuple(WriteStats.__dataclass_fields__)
_COUNTS = {"pulses": np.int64, "iterations": np.int32, "unfinished": np.int32}


def _empty_stats(count, dtype):
    return {f: np.zeros(count, _COUNTS.get(f, dtype)) for f in _FIELDS}


def _put_stats(state, positions, stats):
    for field in _FIELDS:
        state[field][positions] = np.asarray(getattr(stats, field))[: len(positions)]


def _stats_of(state):
    # Counts of 64 bits convert from NumPy: JAX might cut them.
    figures = {f: state[f] if f == "pulses" else jnp.asarray(state[f]) for f in _FIELDS}
    return WriteStats(**figures)


def _describe(job, analog, exact, key):
    """What a checkpoint has to share with the job that takes it up."""
    how = job.how
    rule = acceptance_band(job.device) if how.rule is None else how.rule
    functions = [_name(f) for f in (how.mapping, how.scaling, how.scheme)]
    options = (job.source.array, job.chunk_tiles, functions)
    return {
        "matrix": job.source.digest(),
        "vector": _digest((analog[0], exact)),
        "device": _digest(job.device),
        "options": _digest((rule, job.converters), repr(options)),
        "key": _digest([jr.key_data(k) for k in (key, analog[1])], str(jr.key_impl(key))),
        "version": f"sedma-jax {version('sedma-jax')}, jax {jax.__version__}",
    }


def _name(function):
    if isinstance(function, Scheme):
        return _name(function.one)
    if isinstance(function, partial):
        return _name(function.func), function.args, sorted(function.keywords.items())
    return f"{function.__module__}.{function.__qualname__}"


def _digest(tree, text=""):
    leaves, structure = jax.tree.flatten(tree)
    hashed = hashlib.blake2b(f"{text} {structure}".encode(), digest_size=32)
    for leaf in map(np.asarray, leaves):
        hashed.update(f"{leaf.shape} {leaf.dtype}".encode() + leaf.tobytes())
    return hashed.hexdigest()
