"""Flax NNX layers that train against the hardware; the extra `flax`.

Users reach it as `sedma_jax.nn.flax`.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from ..._extras import install_hint
from ..._keys import check_key
from ..._tiling.native import as_floats
from ...kernels import FROM_ZERO, Device, check_numbers, image_patches
from ...noise_models import MeasuredArray
from .._channels_last import each_axis, padded
from .._flax_weights import (
    check_one_kernel,
    finished,
    groups_of,
    kernel_from,
    layer_path,
    linear_vectors,
    matrix_of,
    weights_name,
)
from .._paths import Path, path_key, refused_at
from .aware import Hardware, Seconds, aware_product, clipped, hardware_from, programmed

try:
    from flax import nnx

    from .._nnx.flax import convertible, refuse_converted
except ImportError as error:
    raise ImportError(
        f"`sedma_jax.nn.flax` needs flax, which is not installed. {install_hint('flax')}"
    ) from error


class HardwareOf(nnx.Variable):
    """The `sedma_jax.nn.Hardware` of a layer; no `nnx.Param`.

    **Example:**

        >>> from flax import nnx
        >>> layer = nnx.Linear(4, 3, rngs=nnx.Rngs(0))
        >>> aware = sj.nn.flax.hardware_aware(layer, "epiram", array=4, rngs=nnx.Rngs(1))
        >>> isinstance(aware.hardware, nnx.Param), aware.hardware.get_value().array
        (False, (4, 4))
    """


class HardwareAware(nnx.Module):
    """A layer of NNX that computes as crossbar arrays will.

    Every call programs arrays, for all of its examples, and reads them.

    - `layer`: the digital layer, whose parameters are trained.
    - `hardware`: the hardware that they are trained for.
    - `drawn`: from `draw_programming`, or None.
    - `reads`: stream that gives the keys of calls.

    **Example:**

        >>> from flax import nnx
        >>> layer = nnx.Linear(4, 3, rngs=nnx.Rngs(0))
        >>> aware = sj.nn.flax.hardware_aware(layer, "epiram", array=4, rngs=nnx.Rngs(1))
        >>> y = aware(jnp.ones((2, 4), jnp.float32))
        >>> y.shape, bool(jnp.all(y == layer(jnp.ones((2, 4), jnp.float32))))
        ((2, 3), False)
    """

    def __init__(self, layer: nnx.Module, hardware: Hardware, reads: nnx.RngStream):
        self.layer: Any = layer
        self.hardware = HardwareOf(hardware)
        self.drawn: Any = nnx.data(None)
        self.reads = reads

    def __call__(self, inputs: Float[Array, "..."], out_sharding: Any = None) -> Array:
        """Compute as the digital layer does, with the errors of the hardware.

        **Raises:**

        - `ValueError`: if `inputs` do not fit the weights, or `out_sharding` is given.
        """
        if out_sharding is not None:
            raise ValueError(
                "Hardware-aware layers of `sedma_jax.nn.flax` need `out_sharding` to be "
                f"None. Got {out_sharding}. Leave it out."
            )
        layer, hardware = self.layer, self.hardware.get_value()
        programming_key, read_key = jr.split(self.reads())
        if self.drawn is None:
            weight, arrays = programmed(_blocks(layer), hardware, key=programming_key)
        else:
            weight, arrays = self.drawn.get_value()
        if isinstance(layer, nnx.Conv):
            vectors, shape = _patches(layer, inputs)
        else:
            x, shape = linear_vectors("HardwareAware", layer, inputs)
            vectors = x[None]
        y = aware_product(weight, arrays, vectors, hardware, key=read_key)
        y = jnp.moveaxis(y, 0, 1).reshape(shape)
        dtype = getattr(layer, weights_name(layer))[...].dtype
        return finished(layer, dtype, y, inputs)


class DrawnProgramming(nnx.Variable):
    """Weights with errors of programming, and the arrays that hold them.

    **Example:**

        >>> from flax import nnx
        >>> layer = nnx.Linear(4, 3, rngs=nnx.Rngs(0))
        >>> aware = sj.nn.flax.hardware_aware(layer, "epiram", array=4, rngs=nnx.Rngs(1))
        >>> drawn = sj.nn.flax.draw_programming(aware, key=jr.key(2)).drawn
        >>> drawn.get_value()[0].shape  # groups, outputs, inputs
        (1, 3, 4)
    """


def hardware_aware(
    model: nnx.Module,
    device: Device | MeasuredArray | str,
    *,
    where: Callable[[Path, Any], bool] | None = None,
    rngs: nnx.Rngs,
    **options: Any,
) -> nnx.Module:
    """Replace layers of an NNX model by layers that train against the hardware.

    This is `sedma_jax.nn.hardware_aware` for `nnx.Linear`, `LinearGeneral` and `Conv`, and
    the projections of an attention, which are such. No keys are passed: a layer draws from
    its stream, as `nnx.Dropout` does. The given model does not change; the new one shares
    its parameters.

    **Arguments:**

    - `model`: the module, or a single layer.
    - `device`, `options`: as in `sedma_jax.nn.hardware_aware`.
    - `where`: function of path and layer that says whether to replace it. By default all
        are replaced.
    - `rngs`: the stream `reads` gives the key of the layers' streams.

    **Raises:**

    - `ValueError`: as `sedma_jax.nn.hardware_aware` does.

    **Example:**

        >>> from flax import nnx
        >>> layer, pcm = nnx.Linear(4, 3, rngs=nnx.Rngs(0)), sj.noise_models.PCM
        >>> aware = sj.nn.flax.hardware_aware(layer, pcm, array=4, rngs=nnx.Rngs(1))
        >>> x = jnp.ones((2, 4), jnp.float32)
        >>> slope = nnx.grad(lambda model: jnp.sum(model(x)))(aware).layer.kernel[...]
        >>> bool(jnp.all(slope == 2))  # straight through the errors
        True
    """
    hardware = hardware_from("nn.flax.hardware_aware", device, **options)
    refuse_converted("hardware_aware", model, where)
    chosen = {
        layer_path(path): layer
        for path, layer in nnx.iter_modules(model)
        if convertible(layer)
        and not isinstance(layer, nnx.Embed | nnx.ConvTranspose)
        and (where is None or where(layer_path(path), layer))
    }
    if not chosen:
        raise ValueError(
            "`sedma_jax.nn.flax.hardware_aware` needs a layer to replace: Linear, "
            "LinearGeneral or Conv of `flax.nnx`, where `where` says so. Got none. Is "
            "`where` too strict?"
        )
    for path, layer in chosen.items():
        check_one_kernel(path, layer)
    read_key = rngs["reads"]()

    def convert(parts: tuple, layer: Any) -> Any:
        path = layer_path(parts)
        if path not in chosen or not convertible(layer):
            return layer
        reads = nnx.RngStream(path_key(read_key, path), tag="reads")
        return HardwareAware(layer, hardware, reads)

    return nnx.recursive_map(convert, model)


def draw_programming(
    model: nnx.Module, seconds: Seconds | None = None, *, key: PRNGKeyArray
) -> nnx.Module:
    """Draw the programming errors once, for many calls or for a time since programming.

    As `sedma_jax.nn.draw_programming`: differentiate through it.

    **Example:**

        >>> from flax import nnx
        >>> layer = nnx.Linear(4, 3, rngs=nnx.Rngs(0))
        >>> aware = sj.nn.flax.hardware_aware(layer, "epiram", array=4, rngs=nnx.Rngs(1))
        >>> x = jnp.ones((1, 4), jnp.float32)
        >>> noisy = sj.nn.flax.draw_programming(aware, key=jr.key(2))
        >>> bool(jnp.all(noisy(x) == noisy(x))), bool(jnp.all(aware(x) == aware(x)))
        (True, False)
    """
    check_key(key)
    remedy = "Time counts from the end of programming."
    call = "sedma_jax.nn.flax.draw_programming"
    check_numbers(call, FROM_ZERO, remedy, seconds=seconds)

    def draw(parts: tuple, node: Any) -> Any:
        if isinstance(node, HardwareAware):
            path, hardware = layer_path(parts), node.hardware.get_value()
            with refused_at(path):
                own = path_key(key, path)
                drawn = programmed(_blocks(node.layer), hardware, seconds, key=own)
            node.drawn = nnx.data(DrawnProgramming(drawn))
        return node

    return nnx.recursive_map(draw, model)


def plain(model: nnx.Module) -> nnx.Module:
    """Replace hardware-aware layers by those of NNX, with weights clipped as in training.

    **Example:**

        >>> from flax import nnx
        >>> layer = nnx.Linear(4, 3, rngs=nnx.Rngs(0))
        >>> aware = sj.nn.flax.hardware_aware(layer, "epiram", array=4, rngs=nnx.Rngs(1))
        >>> bool(jnp.all(sj.nn.flax.plain(aware).kernel[...] == layer.kernel[...]))
        True
    """

    def one(parts: tuple, node: Any) -> Any:
        del parts
        if not isinstance(node, HardwareAware):
            return node
        layer, hardware = node.layer, node.hardware.get_value()
        if hardware.clip is not None:
            name = weights_name(layer)
            weight = clipped(_blocks(layer), hardware)
            kernel = kernel_from(layer, weight.reshape(-1, weight.shape[2]))
            dtype = getattr(layer, name)[...].dtype
            setattr(layer, name, nnx.Param(kernel.astype(dtype)))
        return layer

    return nnx.recursive_map(one, model)


def _blocks(layer: Any) -> Float[Array, "groups m n"]:
    """The weights as groups, outputs and inputs of a group; at least float32."""
    groups, rows = groups_of(layer), matrix_of(layer)
    wide = jnp.asarray(as_floats(rows, "kernel"))
    return wide.reshape(groups, len(rows) // groups, -1)


def _patches(
    layer: Any, inputs: Float[Array, "..."]
) -> tuple[Float[Array, "groups patches n"], tuple[int, ...]]:
    """The patches of images, channels last, and the shape of the result."""
    axes = len(layer.kernel_size)
    if inputs.ndim <= axes or inputs.shape[-1] != layer.in_features:
        raise ValueError(
            f"`sedma_jax.nn.flax.HardwareAware` needs images of {axes} axes and then "
            f"{layer.in_features} channels. Got {inputs.shape}. Put channels last."
        )
    batch = inputs.shape[: inputs.ndim - axes - 1]
    images = inputs.reshape(-1, *inputs.shape[len(batch) :])
    dilation = each_axis(layer.kernel_dilation, axes)
    images, padding = padded(images, layer.padding, layer.kernel_size, dilation)
    stride, size = each_axis(layer.strides, axes), layer.kernel_size
    cut = lambda image: image_patches(
        jnp.moveaxis(image, -1, 0), size, stride, padding, dilation
    )
    patches = jax.vmap(cut)(images)
    groups, space = layer.feature_group_count, patches.shape[2:]
    # Channels vary slowest, so the channels of one group lie together.
    vectors = patches.reshape(len(images), groups, patches.shape[1] // groups, -1)
    vectors = jnp.moveaxis(vectors, (1, 2), (0, 3))
    return vectors.reshape(groups, -1, vectors.shape[-1]), (
        *batch,
        *space,
        layer.out_features,
    )
