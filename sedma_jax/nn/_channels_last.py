"""Convolutions as Flax describes them, of images whose channels come last."""

from collections.abc import Sequence
from typing import Any

import jax.lax as lax
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


def laid_out(
    layer: Any, images: Float[Array, "batch ..."]
) -> tuple[Float[Array, "batch ..."], tuple[int, ...], str | tuple[tuple[int, int], ...]]:
    """Images of which `analog_conv` takes the patches, their stride and padding."""
    axes = len(layer.kernel_size)
    stride = each_axis(layer.strides, axes)
    dilation = each_axis(layer.kernel_dilation, axes)
    if hasattr(layer, "transpose_kernel"):
        return _spread(images, layer, stride, dilation), (1,) * axes, "VALID"
    images, padding = padded(images, layer.padding, layer.kernel_size, dilation)
    return images, stride, padding


def _spread(
    images: Float[Array, "batch ..."],
    layer: Any,
    stride: tuple[int, ...],
    dilation: tuple[int, ...],
) -> Float[Array, "batch ..."]:
    """Images with zeros between their entries and around them, as `lax.conv_transpose`."""
    padding, sizes = layer.padding, zip(layer.kernel_size, stride, dilation, strict=True)
    if isinstance(padding, str):
        pads = [_transposed(padding, (k - 1) * d + 1, s) for k, s, d in sizes]
    elif isinstance(padding, int):
        pads = [(padding, padding)] * len(stride)
    else:
        pads = [(p, p) if isinstance(p, int) else (p[0], p[1]) for p in padding]
    config = [(p[0], p[1], s - 1) for p, s in zip(pads, stride, strict=True)]
    zero = jnp.zeros((), images.dtype)
    return lax.pad(images, zero, [(0, 0, 0), *config, (0, 0, 0)])


def _transposed(padding: str, reach: int, stride: int) -> tuple[int, int]:
    """Zeros before and after an axis, by the kernel's reach along it."""
    total = reach + stride - 2
    if padding == "VALID":
        return reach - 1, total + max(reach - stride, 0) - reach + 1
    before = reach - 1 if stride > reach - 1 else -(-total // 2)
    return before, total - before
