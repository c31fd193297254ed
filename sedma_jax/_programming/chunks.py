"""Program many tiles by a compiled loop for a few at a time.

Loops exist for 1 and 8 tiles, so that matrices of all sizes share them; 32 at once take a
fifth more time, since they leave the cache. On a CPU, what is known when it is called is
padded and put together by NumPy (see `on_host`).
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.lax as lax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._functions import is_known, on_device, on_host
from .._mappings import forgettable
from .options import Progress, Scaling

_CHUNKS = (1, 8)

# What the arguments of a tile of no use are: entries, scale, place, used lines.
_PADDING = (0, 1, 0, 0, 0)


def _chunk_size(count: int) -> int:
    """Tiles that one call of the compiled loop programs, out of `count` in all."""
    return next((size for size in _CHUNKS if count <= size), _CHUNKS[-1])


def padded_count(count: int) -> int:
    """`count` filled up to whole calls of the compiled loop."""
    chunk = _chunk_size(count)
    return chunk * max(-(-count // chunk), 1)


def pad_tiles(values: Any, count: int, fill: float = 0) -> Any:
    """Fill up the leading axis to `count`; on the host for an array of NumPy."""
    missing = ((0, count - len(values)),) + ((0, 0),) * (values.ndim - 1)
    if not missing[0][1]:
        return values
    pad = np.pad if isinstance(values, np.ndarray) else jnp.pad
    return pad(values, missing, constant_values=fill)


def tile_scales(tiles: Any, scaling: Scaling) -> Float[Array, "tiles cols"]:
    """The scale of every bit line of every tile; none for no tiles."""
    if not len(tiles):
        return jnp.ones((0, tiles.shape[2]), tiles.dtype)
    return _scales(tiles, scaling)


@eqx.filter_jit
def _scales(tiles, scaling):
    return lax.stop_gradient(scaling(tiles))


def write_in_chunks(
    write: Callable[..., Any], arguments: tuple[Any, ...], progress: Progress | None
) -> Any:
    """`write(*arguments)`, some tiles at a time; the last ones with tiles of no use."""
    count = len(arguments[0])
    chunk, whole = _chunk_size(count), padded_count(count)
    known = is_known(arguments)
    # What fills one call as it is needs no copy.
    if on_host(arguments) and not count == whole == chunk:
        arguments = jax.tree.map(np.asarray, arguments)
    arguments = tuple(
        jax.tree.map(partial(pad_tiles, count=whole, fill=fill), argument)
        for argument, fill in zip(arguments, _PADDING, strict=True)
    )
    if whole == chunk:
        done = write(*arguments)
        if progress is not None:
            progress(count, count)
        return done if whole == count else _first(done, count)
    if not known:
        chunks = jax.tree.map(lambda a: a.reshape(-1, chunk, *a.shape[1:]), arguments)
        done = lax.map(lambda part: write(*part), chunks)
        return jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:])[:count], done)
    done: Any = None
    for start in range(0, count, chunk):
        part = write(*jax.tree.map(lambda a, at=start: a[at : at + chunk], arguments))
        held = min(chunk, count - start)
        if held < chunk:
            part = _first(part, held)
        if done is None:
            done = jax.tree.map(lambda a: jnp.zeros((count, *a.shape[1:]), a.dtype), part)
        done = _place(done, part, start)
        if progress is not None:
            jax.block_until_ready(part)
            progress(min(start + chunk, count), count)
    return done


def _first(tree: Any, count: int) -> Any:
    """The first `count` of every array; on a CPU no slice is compiled for it."""
    # A device whose figures are traced makes traced cells of known tiles.
    if on_host(tree):
        # As a copy: a part would keep the whole in memory.
        return jax.tree.map(lambda a: on_device(np.asarray(a)[:count], given=True), tree)
    return jax.tree.map(lambda a: a[:count], tree)


@forgettable
@partial(jax.jit, donate_argnums=0)
def _place(whole, part, start):
    """Write some tiles into their places, without a second copy of the others."""
    put = lambda a, b: lax.dynamic_update_slice_in_dim(a, b, start, 0)
    return jax.tree.map(put, whole, part)
