"""Quantise inputs and outputs, as digital-to-analog and analog-to-digital converters do."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from .._numerics.requirements import check_counts


def digitise(
    values: Float[Array, " *batch"],
    full_scale: Float[Array, " *#batch"] | float,
    *,
    bits: Int[Array, ""] | int,
) -> Float[Array, " *batch"]:
    """Quantise as an ideal signed converter, mid-tread.

    Rounds to the nearest of the `2**bits - 1` levels `k * lsb`, where
    `lsb = full_scale / (2**(bits - 1) - 1)`, and saturates at `full_scale`. The gradient
    is zero almost everywhere.

    **Arguments:**

    - `values`: currents or voltages, in any unit.
    - `full_scale`: the largest magnitude the converter can represent, in the same unit.
        Where it is zero, so is the result.
    - `bits`: resolution including the sign bit, from 2 to 24.

    **Returns:**

    Values on the grid of the converter, with the shape and dtype of `values`.

    **Raises:**

    - `ValueError`: if `bits` is known and out of range.

    **Example:**

        >>> values = jnp.array([0.4, 0.6, 9.0, -0.6])
        >>> print(sj.kernels.digitise(values, 3.0, bits=3))  # steps of 3 / (2**2 - 1)
        [ 0.  1.  3. -1.]
    """
    remedy = "One of them is the sign. Leave the converter out for no quantisation."
    check_counts("sedma_jax.kernels.digitise", 2, 24, remedy, bits=bits)
    per_step, lsb = converter_steps(jnp.asarray(full_scale, values.dtype), bits=bits)
    return codes(values, per_step, bits=bits) * lsb


def converter_steps(
    full_scale: Float[Array, " *batch"], *, bits: Int[Array, " *#batch"] | int
) -> tuple[Float[Array, " *batch"], Float[Array, " *batch"]]:
    """Number of steps of `digitise` per unit of its input, and the size of one step.

    **Example:**

        >>> per_step, lsb = sj.kernels.converter_steps(jnp.array(6.0), bits=3)
        >>> print(per_step, lsb)
        0.5 2.0
    """
    lsb = full_scale / largest_code(bits, full_scale.dtype)
    return jnp.where(lsb > 0, 1 / jnp.where(lsb > 0, lsb, 1), 0), lsb


def codes(
    values: Float[Array, " *batch"],
    per_step: Float[Array, " *#batch"],
    *,
    bits: Int[Array, " *#batch"] | int,
) -> Float[Array, " *batch"]:
    """The whole numbers that a converter outputs."""
    top = largest_code(bits, values.dtype)
    return jnp.clip(jnp.round(values * per_step), -top, top)


def largest_code(bits: Int[Array, " *#batch"] | int, dtype) -> Float[Array, "..."]:
    """The largest whole number that a converter outputs.

    **Example:**

        >>> print(sj.kernels.largest_code(8, jnp.float32))
        127.0
    """
    return jnp.ldexp(jnp.ones((), dtype), jnp.asarray(bits) - 1) - 1
