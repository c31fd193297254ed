"""Compile for CPUs with vectors as wide as they have."""

from collections.abc import Callable
from functools import update_wrapper
from typing import Any

import jax
import jax.core
import jax.numpy as jnp

_OPTIONS = {"xla_cpu_prefer_vector_width": 512}


def wide_jit(function: Callable[..., Any], **options: Any) -> "WideJit":
    """`jax.jit`, with vectors of 512 bits where the CPU has them.

    XLA takes 256 bits, for the sake of CPUs that slow down under AVX-512; on later ones
    the cipher of `kernels.bits` takes half the time with 512. Results are the same. Other
    backends, CPUs of narrower vectors, and calls inside of another transformation, which
    JAX compiles as a whole, are left as they are.

    **Arguments:**

    - `function`, `options`: as in `jax.jit`.
    """
    return WideJit(function, options)


class WideJit:
    """Two compilations of a function, of which a call takes one."""

    def __init__(self, function, options):
        self.plain = jax.jit(function, **options)
        self.wide = jax.jit(function, compiler_options=_OPTIONS, **options)
        update_wrapper(self, function)

    def __call__(self, *args, **kwargs):
        # What is made anew is traced where everything is.
        leaves = [jnp.zeros(()), *jax.tree.leaves((args, kwargs))]
        inside = any(isinstance(leaf, jax.core.Tracer) for leaf in leaves)
        return (self.plain if inside else self.wide)(*args, **kwargs)
