"""The weights of layers of NNX as matrices, and back; flax itself is not needed."""

import math
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from ._convert import Path
from ._matrix import AnalogMatrix, held_matrix

Shape = tuple[int, ...]


def layer_path(parts: tuple) -> Path:
    """A path as `sedma_jax.nn.analogize` writes it."""
    text = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in parts)
    return text.removeprefix(".")


def _is_conv(layer: Any) -> bool:
    return hasattr(layer, "kernel_size")


def _is_embed(layer: Any) -> bool:
    return hasattr(layer, "num_embeddings")


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
        inputs = layer.in_features // layer.feature_group_count
        wanted = *layer.kernel_size, inputs, layer.out_features
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
        return jnp.moveaxis(weights, (-1, -2), (0, 1)).reshape(weights.shape[-1], -1)
    if _is_embed(layer):
        return weights.T
    return weights.reshape(math.prod(features(layer)[0]), -1).T


def kernel_of(layer: Any, matrix: AnalogMatrix) -> Array:
    """The weights that the arrays hold as the layer has them; inverse of `matrix_of`."""
    held = held_matrix(matrix)
    if _is_conv(layer):
        groups, outputs = layer.feature_group_count, layer.out_features
        place = jnp.arange(groups)
        blocks = held.reshape(groups, outputs // groups, groups, -1)[place, :, place]
        blocks = blocks.reshape(outputs, -1, *layer.kernel_size)
        return jnp.moveaxis(blocks, (0, 1), (-1, -2))
    if _is_embed(layer):
        return held.T
    inputs, outputs, _ = features(layer)
    return held.T.reshape(*inputs, *outputs)


def kernel_from(layer: Any, rows: Array) -> Array:
    """The weights of a layer from a row for each output; inverse of `matrix_of`."""
    if _is_conv(layer):
        blocks = rows.reshape(len(rows), -1, *layer.kernel_size)
        return jnp.moveaxis(blocks, (0, 1), (-1, -2))
    if _is_embed(layer):
        return rows.T
    inputs, outputs, _ = features(layer)
    return rows.T.reshape(*inputs, *outputs)


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
