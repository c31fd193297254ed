"""Convolutions as Flax describes them, of images whose channels come last."""

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, Float

_PADDINGS = {"CIRCULAR": "wrap", "REFLECT": "reflect"}


def each_axis(value: int | Sequence[int] | None, axes: int) -> tuple[int, ...]:
    """One number for each axis; Flax also accepts a single number for all axes."""
    value = 1 if value is None else value
    return (value,) * axes if isinstance(value, int) else tuple(value)


def padded(
    images: Float[Array, "batch ..."],
    padding: str | int | Sequence,
    kernel_size: tuple[int, ...],
    dilation: tuple[int, ...],
) -> tuple[Float[Array, "batch ..."], str | tuple[tuple[int, int], ...]]:
    """Images with the padding that `analog_conv` lacks, and the padding left to it."""
    sizes = zip(kernel_size, dilation, strict=True)
    reach = [(size - 1) * apart for size, apart in sizes]
    if isinstance(padding, str) and padding in _PADDINGS:
        pads = [(0, 0), *((r // 2, (r + 1) // 2) for r in reach), (0, 0)]
        return jnp.pad(images, pads, mode=_PADDINGS[padding]), "VALID"
    if padding == "CAUSAL":
        return jnp.pad(images, [(0, 0), (reach[0], 0), (0, 0)]), "VALID"
    if isinstance(padding, int):
        return images, ((padding, padding),) * len(reach)
    if isinstance(padding, str):
        return images, padding
    pairs = [(p, p) if isinstance(p, int) else p for p in padding]
    return images, tuple((before, after) for before, after in pairs)
