"""Split keys in one small program, where `a, b = jr.split(key)` compiles two."""

from functools import partial

import jax
import jax.random as jr
from jaxtyping import PRNGKeyArray


@partial(jax.jit, static_argnums=1)
def split_key(key: PRNGKeyArray, count: int = 2) -> tuple[PRNGKeyArray, ...]:
    """The keys of `jr.split(key, count)`, as a tuple."""
    return tuple(jr.split(key, count))
