"""Compile for CPUs with vectors as wide as they have."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import jax
import jax.core
import jax.numpy as jnp

_OPTIONS = {"xla_cpu_prefer_vector_width": 512}


def wide_jit(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """`jax.jit`, with vectors of 512 bits where the CPU has them.

    XLA takes 256 bits, for the sake of CPUs that slow down under AVX-512; on later ones
    the cipher of `kernels.bits` takes half the time with 512. Results are the same. Other
    backends, CPUs of narrower vectors, and calls inside of another transformation, which
    JAX compiles as a whole, are left as they are.

    **Arguments:**

    - `function`, `options`: as in `jax.jit`.
    """
    plain = jax.jit(function, **options)
    wide = jax.jit(function, compiler_options=_OPTIONS, **options)

    @wraps(function)
    def call(*args, **kwargs):
        # What is made anew is traced where everything is.
        inside = isinstance(jnp.zeros(()), jax.core.Tracer)
        leaves = jax.tree.leaves((args, kwargs))
        inside = inside or any(isinstance(leaf, jax.core.Tracer) for leaf in leaves)
        return (plain if inside else wide)(*args, **kwargs)

    call.wide = wide
    return call
