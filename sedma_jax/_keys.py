"""Check the keys that callers pass, and split them."""

from functools import partial

import jax
import jax.dtypes
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import PRNGKeyArray


def check_key(key: PRNGKeyArray) -> PRNGKeyArray:
    """Refuse anything but one typed key."""
    if not (
        isinstance(key, jax.Array)
        and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
        and key.shape == ()
    ):
        got = f"{key.dtype}{key.shape}" if hasattr(key, "dtype") else repr(key)
        raise ValueError(
            f"`key` needs to be one typed key. Got {got}. "
            "Make it with `jax.random.key(seed)`, not `jax.random.PRNGKey`."
        )
    return key


@partial(jax.jit, static_argnums=1)
def split_key(key: PRNGKeyArray, count: int = 2) -> tuple[PRNGKeyArray, ...]:
    """The keys of `jr.split(key, count)`, as a tuple.

    This is one small compiled program, where `a, b = jr.split(key)` compiles two.
    """
    return tuple(jr.split(key, count))
