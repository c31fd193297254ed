"""The weights of layers of NNX as matrices, and back; flax itself is not needed."""

import math
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array

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
