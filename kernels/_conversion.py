"""Quantise inputs and outputs: digital-to-analog and analog-to-digital converters."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def digitise(
    values: Float[Array, " *batch"],
    full_scale: Float[Array, " *#batch"] | float,
    *,
    bits: int,
) -> Float[Array, " *batch"]:
    """Quantise as an ideal signed converter, mid-tread.

    Rounds to the nearest of the `2**bits - 1` levels `k * lsb`, where
    `lsb = full_scale / (2**(bits - 1) - 1)`, and saturates at `full_scale`. The gradient
    is zero almost everywhere.

    **Arguments:**

    - `values`: currents or voltages, in any unit.
    - `full_scale`: the largest magnitude the converter can represent, in the same unit.
        Where it is zero the result is zero.
    - `bits`: resolution including the sign bit, from 2 to 24. Static.

    **Returns:**

    Values on the grid of the converter, with the shape and dtype of `values`.

    **Raises:**

    - `ValueError`: if `bits` is out of range.
    """
    if not 2 <= bits <= 24:
        raise ValueError(
            "`sedma_jax.kernels.digitise` needs `bits` from 2 to 24, one of them the "
            f"sign. Got {bits=}. For no quantisation leave the converter out."
        )
    top = 2 ** (bits - 1) - 1
    full_scale = jnp.asarray(full_scale, values.dtype)
    lsb = jnp.where(full_scale > 0, full_scale, 1) / top
    code = jnp.clip(jnp.round(values / lsb), -top, top)
    return jnp.where(full_scale > 0, code * lsb, 0).astype(values.dtype)
