"""What is known of a call: whether its values are, and what a function of a user does."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.core
import numpy as np


def same_function(given: Callable, known: Callable, *arguments) -> bool:
    """Whether two functions trace to the same program, for arguments of these shapes.

    A thin wrapper, a `functools.partial` or a lambda around `known` is as good as it.
    """
    if given is known:
        return True
    try:
        closed = [jax.make_jaxpr(function)(*arguments) for function in (given, known)]
    except Exception:  # the caller's own call of `given` says what is wrong with it
        return False
    # Constants that a function closes over are not part of the text.
    return not any(c.consts for c in closed) and str(closed[0]) == str(closed[1])


def is_known(tree: Any) -> bool:
    """Whether all values are known, and none is being traced by `jit`, `vmap` or `grad`."""
    leaves = [jax.numpy.zeros(()), *jax.tree.leaves(tree)]
    return not any(isinstance(leaf, jax.core.Tracer) for leaf in leaves)


def on_host(tree: Any) -> bool:
    """Whether values are known and lie where NumPy reads them without a copy.

    Steps that only move numbers are then left to NumPy: compiled, each shape takes a
    program of its own.
    """
    return jax.default_backend() == "cpu" and is_known(tree)


def on_device(values: Any, *, given: bool = False) -> jax.Array:
    """An array of NumPy as one of JAX; `jnp.asarray` would compile a copy for each shape.

    JAX may use the memory of `values` on. One that a user has `given`, and may write to
    later, is copied.
    """
    if given and isinstance(values, np.ndarray):
        own = aligned(values.shape, values.dtype)
        own[...] = values
        values = own
    return jax.device_put(values)


def aligned(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """An array without contents that JAX uses on a CPU where it lies.

    Others it copies: it wants them to begin at a multiple of 64 bytes, and those of NumPy
    begin at one of 16.
    """
    dtype = np.dtype(dtype)
    size = math.prod(shape) * dtype.itemsize
    room = np.empty(size + 64, np.uint8)
    start = -room.ctypes.data % 64
    return room[start : start + size].view(dtype).reshape(shape)
