"""Functions whose derivatives hold where those of their formulas are lost."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def root(square: Float[Array, " *shape"]) -> Float[Array, " *shape"]:
    """The square root, with the derivative 0 at zero, where it would be infinite."""
    zero = square == 0
    return jnp.where(zero, 0, jnp.sqrt(jnp.where(zero, 1, square)))


@jax.custom_jvp
def saturated(
    fraction: Float[Array, " *shape"], u: Float[Array, " *#shape"]
) -> Float[Array, " *shape"]:
    """`(1 - exp(-u x)) / (1 - exp(-u))`; `u` is not zero."""
    return jnp.expm1(-u * fraction) / jnp.expm1(-u)


@saturated.defjvp
def _(primals, tangents):
    fraction, u = primals
    value = saturated(fraction, u)
    of_fraction, of_u = saturated_slopes(fraction, u, value)
    return value, of_fraction * tangents[0] + of_u * tangents[1]


@jax.custom_jvp
def saturation_fraction(
    state: Float[Array, " *shape"], u: Float[Array, " *#shape"]
) -> Float[Array, " *shape"]:
    """The inverse of `saturated` for the same `u`."""
    return -jnp.log1p(state * jnp.expm1(-u)) / u


@saturation_fraction.defjvp
def _(primals, tangents):
    fraction = saturation_fraction(*primals)
    of_fraction, of_u = saturated_slopes(fraction, primals[1], primals[0])
    return fraction, (tangents[0] - of_u * tangents[1]) / of_fraction


@jax.custom_jvp
def advanced(
    state: Float[Array, " *shape"],
    step: Float[Array, " *shape"],
    u: Float[Array, " *#shape"],
    span: Float[Array, " *shape"],
) -> Float[Array, " *shape"]:
    """`saturated(saturation_fraction(state, u) + step, u)`, `span` being `1 / expm1(-u)`.

    This is written as the product of the two exponentials. Callers compute `span` once
    for many states; its derivative is part of that in `u`.
    """
    return state + jnp.expm1(-u * step) * (state + span)


@advanced.defjvp
def _(primals, tangents):
    state, step, u, span = primals
    decay = jnp.exp(-u * step)
    share = jnp.expm1(-u * step) * span
    of_u = share * _log_slope(step, u) - step * decay * state
    of_step = -u * decay * (state + span)
    tangent = decay * tangents[0] + of_step * tangents[1] + of_u * tangents[2]
    return advanced(*primals), tangent


def saturated_slopes(
    fraction: Float[Array, " *shape"],
    u: Float[Array, " *#shape"],
    value: Float[Array, " *shape"],
) -> tuple[Float[Array, " *shape"], Float[Array, " *shape"]]:
    """Derivatives of `saturated` in `fraction` and in `u`, where it is `value`."""
    of_fraction = jnp.exp(-u * fraction) * (u / -jnp.expm1(-u))
    return of_fraction, value * _log_slope(fraction, u)


def _log_slope(
    fraction: Float[Array, " *shape"], u: Float[Array, " *#shape"]
) -> Float[Array, " *shape"]:
    """Derivative in `u` of the logarithm of `saturated`."""
    # The two terms 1/u cancel; written out, little else would remain at small `u`.
    return fraction * _excess(u * fraction) - _excess(u)


def _excess(x: Float[Array, " *shape"]) -> Float[Array, " *shape"]:
    """`1 / (exp(x) - 1) - 1 / x`, which is smooth: Bernoulli's series below 1/2."""
    square = x**2
    series = x * (
        1 / 12
        - square
        * (1 / 720 - square * (1 / 30240 - square * (1 / 1209600 - square / 47900160)))
    )
    small = jnp.abs(x) < 0.5
    safe = jnp.where(small, 1, x)
    return jnp.where(small, series - 0.5, 1 / jnp.expm1(safe) - 1 / safe)
