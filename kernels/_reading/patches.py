"""Cut an image into the patches that a convolution multiplies (im2col)."""

import math
from itertools import product

import jax.lax as lax
import jax.numpy as jnp
from jaxtyping import Array, Float

# Largest number of kernel places for which each place is a slice of its own.
_SLICES = 128


def image_patches(
    x: Float[Array, "channels ..."],
    kernel_size: tuple[int, ...],
    stride: tuple[int, ...],
    padding: str | tuple[tuple[int, int], ...],
    dilation: tuple[int, ...],
) -> Float[Array, "lines ..."]:
    """Do what `jax.lax.conv_general_dilated_patches` does for one image, by slices.

    JAX convolves with kernels of ones and zeros, which takes several times as long on
    CPUs. Kernels of more than 128 places go to the function of JAX.

    **Arguments:**

    - `x`: channels first, then as many axes as `kernel_size` has.
    - `kernel_size`, `stride`, `dilation`: one number per axis.
    - `padding`: zeros before and after each axis, or "SAME", "SAME_LOWER" or "VALID".

    **Returns:**

    One line per channel and, varying faster, per place of the kernel; then the axes of the
    result.

    **Example:**

        >>> image = jnp.arange(9.0).reshape(1, 3, 3)
        >>> lines = sj.kernels.image_patches(image, (2, 2), (1, 1), "VALID", (1, 1))
        >>> print(lines[:, 0, 0])  # the first place of a 2 x 2 kernel
        [0. 1. 3. 4.]
    """
    if math.prod(kernel_size) > _SLICES:
        # The patches are copies, so that products with ones and zeros must not round.
        return lax.conv_general_dilated_patches(
            x[None],
            kernel_size,
            stride,
            padding,
            rhs_dilation=dilation,
            precision=lax.Precision.HIGHEST,
        )[0]
    axes = list(zip(x.shape[1:], kernel_size, stride, dilation, strict=True))
    reach = [d * (k - 1) + 1 for _, k, _, d in axes]
    if isinstance(padding, str):
        padding = tuple(lax.padtype_to_pads(x.shape[1:], reach, stride, padding))
    x = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *((*pad, 0) for pad in padding)])
    sizes = [
        max((size - own) // s + 1, 0)
        for size, own, s in zip(x.shape[1:], reach, stride, strict=True)
    ]
    held = []
    for offset in product(*map(range, kernel_size)):
        start = [o * d for o, d in zip(offset, dilation, strict=True)]
        stop = [
            first + (size - 1) * s + 1 if size else first
            for first, size, s in zip(start, sizes, stride, strict=True)
        ]
        held.append(lax.slice(x, (0, *start), (len(x), *stop), (1, *stride)))
    return jnp.stack(held, axis=1).reshape(-1, *sizes)
