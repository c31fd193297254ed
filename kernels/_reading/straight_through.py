"""Give gradients to operations that have none: programming errors, rounding.

The *straight-through estimator* of Bengio, Leonard & Courville (2013), arXiv 1308.3432,
uses the derivative of the identity for that of a hard function. Converters saturate, and
beyond their range the derivative is zero (Hubara et al. 2016, arXiv 1609.07061, Eq. 4).
"""

import jax
import jax.lax as lax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from .._numerics.requirements import check_counts
from .conversion import codes, converter_steps, digitise, largest_code


def digitise_straight_through(
    values: Float[Array, " *batch"],
    full_scale: Float[Array, " *#batch"] | float,
    *,
    bits: Int[Array, ""] | int,
) -> Float[Array, " *batch"]:
    """`digitise` with the gradient one from `-full_scale` to `full_scale`, else zero.

    **Arguments:**

    - `values`, `full_scale`, `bits`: as for `digitise`. `full_scale` gets no gradient.

    **Returns:**

    Exactly what `digitise` returns.

    **Raises:**

    - `ValueError`: if `bits` is known and out of range.

    **Example:**

        >>> convert = lambda v: sj.kernels.digitise_straight_through(v, 3.0, bits=3)
        >>> print(convert(jnp.array(0.6)), jax.grad(convert)(jnp.array(0.6)))
        1.0 1.0
    """
    full_scale = jnp.asarray(full_scale, values.dtype)
    full_scale = lax.stop_gradient(jnp.broadcast_to(full_scale, values.shape))
    return _digitise(values, full_scale, bits)


@jax.custom_jvp
def _digitise(
    values: Float[Array, " *batch"],
    full_scale: Float[Array, " *batch"],
    bits: Int[Array, ""] | int,
) -> Float[Array, " *batch"]:
    return digitise(values, full_scale, bits=bits)


@_digitise.defjvp
def _(primals, tangents):
    values, full_scale, bits = primals
    inside = (jnp.abs(values) <= full_scale).astype(values.dtype)
    return _digitise(values, full_scale, bits), inside * tangents[0]


@jax.custom_jvp
def straight_codes(
    codes: Float[Array, "*batch"],
    values: Float[Array, "*batch"],
    top: Float[Array, "*#batch"],
) -> Float[Array, "*batch"]:
    """The codes, with the gradient of `values` within the range and zero beyond it.

    With a step `s`, `s * straight_codes(round(v / s), v / s, top)` has the gradient of LSQ
    in `s`: `round(v / s) - v / s` inside, and the end of the range outside (Esser et al.
    2020, arXiv 1902.08153, Eq. 3). Its outer part is that of PACT (Choi et al. 2018, arXiv
    1805.06085, Eq. 3).

    **Example:**

        >>> one, top = jnp.array(1.0), jnp.array(3.0)
        >>> f = lambda s: s * sj.kernels.straight_codes(one, jnp.array(0.75) / s, top)
        >>> print(jax.grad(f)(jnp.array(1.0)))  # 1 - 0.75
        0.25
    """
    return jnp.asarray(codes)


@straight_codes.defjvp
def _(primals, tangents):
    codes, values, top = primals
    inside = (jnp.abs(values) <= top).astype(values.dtype)
    return straight_codes(codes, values, top), inside * tangents[1]


def digitise_learned(
    values: Float[Array, " *batch"],
    full_scale: Float[Array, " *#batch"] | float,
    *,
    bits: Int[Array, ""] | int,
) -> Float[Array, " *batch"]:
    """`digitise` with the gradient of LSQ in values and in the range.

    **Arguments:**

    - `values`, `full_scale`, `bits`: as for `digitise`.

    **Returns:**

    What `digitise` returns. The gradient in `values` is one within the range and zero
    beyond it, and that in `full_scale` is of `straight_codes`.

    **Raises:**

    - `ValueError`: if `bits` is known and out of range.

    **Example:**

        >>> f = lambda top: sj.kernels.digitise_learned(jnp.array(5.0), top, bits=4)
        >>> print(jax.grad(f)(3.0))  # clipped: the result is the range
        1.0
    """
    remedy = "One of them is the sign. Leave the converter out for no quantisation."
    check_counts("sedma_jax.kernels.digitise_learned", 2, 24, remedy, bits=bits)
    full_scale = jnp.asarray(full_scale, values.dtype)
    per_step, lsb = converter_steps(full_scale, bits=bits)
    found = lax.stop_gradient(codes(values, per_step, bits=bits))
    top = largest_code(bits, values.dtype)
    return straight_codes(found, values * per_step, top) * lsb


def clip_columns(
    tiles: Float[Array, "tiles rows cols"],
    multiple: float,
    used_rows: Int[Array, " tiles"],
) -> Float[Array, "tiles rows cols"]:
    """Clip the weights of each bit line at a multiple of their root mean square.

    The scale of a bit line is its largest weight, and the error of all other weights grows
    with it: a few outliers cost more than they are worth (Joshi et al. 2020, Nat. Commun.
    11, 2473, clip at two standard deviations of a layer). The gradient is one inside and
    zero outside; the limit counts as a constant.

    **Arguments:**

    - `tiles`: weights, word lines first; padding is zero.
    - `multiple`: limit in units of the root mean square, positive.
    - `used_rows`: number of word lines of each tile that hold weights.

    **Example:**

        >>> tiles = jnp.array([[[1.0], [1.0], [1.0], [5.0]]])  # root mean square: sqrt(7)
        >>> clipped = sj.kernels.clip_columns(tiles, 1.0, jnp.array([4]))
        >>> print(np.asarray(clipped[0, :, 0]).round(3))
        [1.    1.    1.    2.646]
    """
    rows = jnp.maximum(used_rows, 1)[:, None, None].astype(tiles.dtype)
    limit = multiple * jnp.sqrt(jnp.sum(tiles**2, axis=1, keepdims=True) / rows)
    limit = lax.stop_gradient(limit)
    return jnp.clip(tiles, -limit, limit)
