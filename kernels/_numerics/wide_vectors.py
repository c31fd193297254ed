"""Compile for CPUs with the widest vectors that they have."""

from collections.abc import Callable
from functools import update_wrapper
from typing import Any

import jax
import jax.core
import jax.numpy as jnp

_OPTIONS = {"xla_cpu_prefer_vector_width": 512}


def wide_jit(function: Callable[..., Any], **options: Any) -> "WideJit":
    """`jax.jit`, with vectors of 512 bits where the CPU has them.

    XLA takes 256 bits, because some CPUs slow down under AVX-512; on later ones the cipher
    of `random.py` takes half the time with 512. Results are the same. Nothing changes on
    other backends, on CPUs with narrower vectors, and for calls inside another
    transformation, which JAX compiles as a whole.

    **Arguments:**

    - `function`, `options`: as in `jax.jit`.

    **Example:**

        >>> double = sj.kernels.wide_jit(lambda v: 2 * v)
        >>> print(double(jnp.array([1.0, 2.0])))
        [2. 4.]
    """
    return WideJit(function, options)


class WideJit:
    """Two compilations of a function; each call runs one of them."""

    def __init__(self, function: Callable[..., Any], options: dict[str, Any]):
        # JAX declares no type that has all that these have.
        self.plain: Any = jax.jit(function, **options)
        self.wide: Any = jax.jit(function, compiler_options=_OPTIONS, **options)
        update_wrapper(self, function)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        # A new array is a tracer where every array is one, even if no argument is.
        leaves = [jnp.zeros(()), *jax.tree.leaves((args, kwargs))]
        inside = any(isinstance(leaf, jax.core.Tracer) for leaf in leaves)
        return (self.plain if inside else self.wide)(*args, **kwargs)

    def lower(self, *args: Any, **kwargs: Any) -> Any:
        """As of `jax.jit`, with the options of JAX."""
        return self.plain.lower(*args, **kwargs)

    def trace(self, *args: Any, **kwargs: Any) -> Any:
        """As of `jax.jit`, with the options of JAX."""
        return self.plain.trace(*args, **kwargs)

    def clear_cache(self) -> None:
        """Forget both compilations, and give their memory back."""
        self.plain.clear_cache()
        self.wide.clear_cache()

    def _cache_size(self) -> int:
        return self.plain._cache_size() + self.wide._cache_size()
