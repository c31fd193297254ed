"""Choose the key of the noise of a read: that of the call, or that of the layer."""

from collections.abc import Sequence

import jax
import jax.lax as lax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, PRNGKeyArray, UInt32

from .._keys import check_key
from ._matrix import AnalogMatrix

ReadKey = UInt32[Array, "2"]


def key_words(key: PRNGKeyArray) -> ReadKey:
    """The words of a key, in a form that Equinox can serialise."""
    if jr.key_impl(key) == "threefry2x32":
        return jr.key_data(key)
    return jr.bits(key, (2,), jnp.uint32)


def wrapped_key(words: ReadKey) -> PRNGKeyArray:
    """The key of such words."""
    return jr.wrap_key_data(words, impl="threefry2x32")


def call_key(
    matrix: AnalogMatrix,
    x: Array,
    key: PRNGKeyArray | None,
    read_key: ReadKey | None,
) -> PRNGKeyArray:
    """The key of one call of a layer.

    **Raises:**

    - `ValueError`: if there is no key, and the reads of the layer are random.
    """
    if key is not None:
        return check_key(key)
    if read_key is not None:
        return _example_key(wrapped_key(read_key), lax.stop_gradient(x).ravel()[:1] != 0)
    if matrix.draws:
        raise ValueError(
            "An analog layer whose reads are random (read noise, corrected products, or a "
            "device unknown while tracing) needs a key. Got none. Call `layer(x, key=key)` "
            "or give every layer its own by `sedma_jax.nn.with_read_keys(model, key=key)`."
        )
    return jr.key(0)


def own_keys(
    x: Array, key: PRNGKeyArray | None, read_key: ReadKey | None
) -> tuple[PRNGKeyArray, PRNGKeyArray]:
    """The keys of programming and of the reads of one call of a hardware-aware layer.

    From the key of the layer, examples of a `vmap` share the programming.

    **Raises:**

    - `ValueError`: if there is no key.
    """
    if key is not None:
        programming, reads = jr.split(check_key(key))
        return programming, reads
    if read_key is None:
        raise ValueError(
            "A hardware-aware layer needs a key, for errors of programming and of reading. "
            "Got none. Call `layer(x, key=key)` or give every layer its own by "
            "`sedma_jax.nn.with_read_keys(model, key=key)`."
        )
    programming, reads = jr.split(jr.wrap_key_data(read_key, impl="threefry2x32"))
    return programming, _example_key(reads, lax.stop_gradient(x).ravel()[:1] != 0)


@jax.custom_batching.custom_vmap
def _example_key(key: PRNGKeyArray, mark: Array) -> PRNGKeyArray:
    """`key`, or one key for each example if `mark` is batched by `vmap` over examples."""
    del mark
    return key


@_example_key.def_vmap
def _(
    size: int, batched: Sequence[bool], key: PRNGKeyArray, mark: Array
) -> tuple[Array, bool]:
    key_batched, mark_batched = batched
    if key_batched or not mark_batched:
        return key, key_batched
    # Another `vmap` around this one splits the key again.
    key = _example_key(key, mark[0])
    places = jnp.arange(size, dtype=jnp.uint32)
    return jax.vmap(jr.fold_in, (None, 0))(key, places), True
