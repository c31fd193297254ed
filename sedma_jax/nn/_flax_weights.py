"""The weights of layers of NNX as matrices, and back; flax itself is not needed."""

import math
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from ._matrix import AnalogMatrix, held_matrix
from ._paths import Path

Shape = tuple[int, ...]


def layer_path(parts: tuple) -> Path:
    """A path as `sedma_jax.nn.analogize` writes it."""
    text = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in parts)
    return text.removeprefix(".")


def _is_conv(layer: Any) -> bool:
    return hasattr(layer, "kernel_size")


def _is_embed(layer: Any) -> bool:
    return hasattr(layer, "num_embeddings")


def _is_turned(layer: Any) -> bool:
    """Whether the kernel is that of the convolution which the layer transposes."""
    return getattr(layer, "transpose_kernel", False)


def groups_of(layer: Any) -> int:
    """Groups of channels of a convolution; other layers have one."""
    return getattr(layer, "feature_group_count", 1)


def _turned(layer: Any, kernel: Array) -> Array:
    """Such a kernel flipped, its channels swapped; twice is as before."""
    axes = tuple(range(len(layer.kernel_size)))
    return jnp.flip(kernel, axes).swapaxes(-1, -2) if _is_turned(layer) else kernel


def weights_name(layer: Any) -> str:
    """The attribute that holds the weights."""
    return "embedding" if _is_embed(layer) else "kernel"


def features(layer: Any) -> tuple[Shape, Shape, Shape]:
    """Shapes of inputs and outputs, and the axes of the inputs."""
    if isinstance(layer.in_features, int):
        return (layer.in_features,), (layer.out_features,), (-1,)
    return tuple(layer.in_features), tuple(layer.out_features), tuple(layer.axis)


def check_one_kernel(path: Path, layer: Any) -> None:
    """Refuse weights of several layers in one, which would become one matrix."""
    if _is_conv(layer):
        channels = layer.in_features // groups_of(layer), layer.out_features
        wanted = *layer.kernel_size, *channels[:: -1 if _is_turned(layer) else 1]
    elif _is_embed(layer):
        wanted = layer.num_embeddings, layer.features
    else:
        inputs, outputs, _ = features(layer)
        wanted = *inputs, *outputs
    shape = getattr(layer, weights_name(layer))[...].shape
    if shape != wanted:
        raise ValueError(
            "`sedma_jax.nn.flax.analogize` needs layers with one weight of their own, here "
            f"of shape {wanted}. Got {shape} at {path!r}. Analogize layers stacked by "
            "`nnx.vmap` one by one; or leave this one out by `where`."
        )


def matrix_of(layer: Any) -> Array:
    """Weights as outputs by inputs; a kernel has channels, then its axes, as inputs."""
    weights = getattr(layer, weights_name(layer))[...]
    if _is_conv(layer):
        weights = weights if layer.mask is None else weights * layer.mask
        weights = _turned(layer, weights)
        return jnp.moveaxis(weights, (-1, -2), (0, 1)).reshape(weights.shape[-1], -1)
    if _is_embed(layer):
        return weights.T
    return weights.reshape(math.prod(features(layer)[0]), -1).T


def kernel_of(layer: Any, matrix: AnalogMatrix) -> Array:
    """The weights that the arrays hold as the layer has them; inverse of `matrix_of`."""
    held = held_matrix(matrix)
    if _is_conv(layer):
        groups, outputs = groups_of(layer), layer.out_features
        place = jnp.arange(groups)
        blocks = held.reshape(groups, outputs // groups, groups, -1)[place, :, place]
        blocks = blocks.reshape(outputs, -1, *layer.kernel_size)
        return _turned(layer, jnp.moveaxis(blocks, (0, 1), (-1, -2)))
    if _is_embed(layer):
        return held.T
    inputs, outputs, _ = features(layer)
    return held.T.reshape(*inputs, *outputs)


def kernel_from(layer: Any, rows: Array) -> Array:
    """The weights of a layer from a row for each output; inverse of `matrix_of`."""
    if _is_conv(layer):
        blocks = rows.reshape(len(rows), -1, *layer.kernel_size)
        return _turned(layer, jnp.moveaxis(blocks, (0, 1), (-1, -2)))
    if _is_embed(layer):
        return rows.T
    inputs, outputs, _ = features(layer)
    return rows.T.reshape(*inputs, *outputs)


def digital_weights_of(layer: Any) -> list[Array]:
    """The weights of a digital layer, outputs first; of a normalisation its scales."""
    names = ("kernel", "embedding", "scale")
    found = [getattr(layer, name)[...] for name in names if _has(layer, name)]
    turn = lambda w: w.reshape(-1, w.shape[-1]).T if hasattr(layer, "kernel") else w
    return [turn(weight) for weight in found]


def _has(layer: Any, name: str) -> bool:
    return hasattr(getattr(layer, name, None), "get_value")


def linear_vectors(
    call: str, layer: Any, inputs: Float[Array, "..."]
) -> tuple[Float[Array, "batch n"], Shape]:
    """The vectors that a linear layer multiplies, and the shape of the result.

    **Raises:**

    - `ValueError`: if `inputs` do not fit the layer.
    """
    wanted, outputs, axes = features(layer)
    # NNX takes the axes in the order of the argument, not in that of `layer.axis`.
    axes = sorted(axis % inputs.ndim for axis in axes)
    if tuple(inputs.shape[axis] for axis in axes) != wanted:
        raise ValueError(
            f"`sedma_jax.nn.flax.{call}` with inputs {wanted} needs them on axes "
            f"{axes} of its argument. Got shape {inputs.shape}. Put vectors there."
        )
    x = jnp.moveaxis(inputs, axes, range(-len(axes), 0))
    batch = x.shape[: x.ndim - len(axes)]
    return x.reshape(-1, math.prod(wanted)), (*batch, *outputs)


def finished(layer: Any, kernel_dtype: Any, y: Array, inputs: Array) -> Array:
    """Add the bias, and cast to the output dtype of the digital layer."""
    bias = layer.bias
    if bias is not None:
        y = y + jnp.broadcast_to(bias[...].astype(y.dtype), y.shape)
    half = kernel_dtype.itemsize < 4
    if layer.dtype is not None or half:
        answer = kernel_dtype if inputs.dtype == kernel_dtype else y.dtype
        return y.astype(layer.dtype or answer)
    return y.astype(jnp.promote_types(inputs.dtype, y.dtype))


def no_sharding(out_sharding: Any) -> None:
    """Refuse a sharding of the output."""
    if out_sharding is not None:
        raise ValueError(
            "Analog layers of `sedma_jax.nn.flax` need `out_sharding` to be None. Got "
            f"{out_sharding}. `sedma_jax.program_sharded` spreads a matrix over devices."
        )
