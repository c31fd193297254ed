"""Norms whose squares neither under- nor overflow."""

import jax.lax as lax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .gradients import root


def power_of_two(
    values: Float[Array, "..."], axis: int | None = None, keepdims: bool = False
) -> Float[Array, "..."]:
    """The power of two at or below the largest magnitude; 1 for zeros, NaN and infinity.

    Division by it is exact, but for entries that vanish beside the largest.

    **Example:**

        >>> print(sj.kernels.power_of_two(jnp.array([3.0, -5.0])))  # 4 <= 5 < 8
        4.0
    """
    top = lax.stop_gradient(jnp.max(jnp.abs(values), axis=axis, keepdims=keepdims))
    scaled = (top > 0) & jnp.isfinite(top)
    exponent = jnp.frexp(jnp.where(scaled, top, 1))[1] - 1
    # Of the smallest numbers the inverse would overflow.
    exponent = jnp.maximum(exponent, -jnp.finfo(top.dtype).maxexp + 2)
    unit = jnp.ldexp(jnp.ones_like(top), exponent)
    return jnp.where(scaled, unit, 1)


def safe_norm(values: Float[Array, "..."], axis: int | None = None) -> Float[Array, "..."]:
    """Euclidean norm of vectors of any scale, along one axis or of all entries.

    **Example:**

        >>> v = jnp.array([3e-30, 4e-30], jnp.float32)  # float32 has no 9e-60
        >>> print(np.asarray(1e30 * sj.kernels.safe_norm(v)).round(3))
        5.0
    """
    unit = power_of_two(values, axis, keepdims=True)
    size = root(jnp.sum((values / unit) ** 2, axis=axis))
    return size * unit.reshape(size.shape)


def relative_size(
    error: Float[Array, "..."], whole: Float[Array, "..."], axis: int | None = None
) -> Float[Array, "..."]:
    """`|error| / |whole|`, or `|error|` where `whole` is zero, at any scale of both.

    **Example:**

        >>> error, whole = jnp.array([0.0, 0.1]), jnp.array([3.0, 4.0])
        >>> print(np.asarray(sj.kernels.relative_size(error, whole)).round(3))
        0.02
    """
    size = safe_norm(whole, axis)
    return safe_norm(error, axis) / jnp.where(size == 0, 1, size)
