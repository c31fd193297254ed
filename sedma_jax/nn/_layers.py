"""Layers of Equinox whose matrices crossbar arrays hold.

A layer is called like the layer of `equinox.nn` that it replaces: `layer(x, key=None)`, one
example at a time. Its noise comes from `key`, or, if the model passes no key on, from the
key that `with_read_keys` gave the layer. The key of a call has its usual meaning in JAX:
under `jax.vmap(lambda x: layer(x, key=key))` all examples have the same noise, so split it,
`jax.vmap(lambda x, key: layer(x, key=key))(xs, jr.split(key, len(xs)))`. The key of a
layer is split for the examples of every `vmap`.
"""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ..kernels import Device
from ..noise_models import MeasuredArray
from ._keys import ReadKey, call_key
from ._matrix import AnalogMatrix, analog_conv, analog_linear, held_matrix
from ._program_matrix import held_or_programmed


def emptied(layer: Any) -> Any:
    """A layer of Equinox without its weights."""
    names = ("weight", "weight_ih", "weight_hh", "bias", "bias_n")
    names = [name for name in names if hasattr(layer, name)]
    where = lambda layer: [getattr(layer, name) for name in names]
    return eqx.tree_at(where, layer, [None] * len(names), is_leaf=lambda x: x is None)


def as_digital(y: Array, x: Array, dtype: np.dtype) -> Array:
    """A product in half precision where weights and `x` have it, as the digital layer."""
    return y.astype(dtype) if x.dtype == dtype and dtype.itemsize < 4 else y


class AnalogLinear(eqx.Module):
    """`equinox.nn.Linear` on crossbar arrays; the bias is digital.

    - `matrix`: the weights.
    - `bias`: bias of each output, or None.
    - `read_key`: from `with_read_keys`, or None.
    - `layer`: the digital layer without its weights.
    - `dtype`: of those weights.

    **Example:**

        >>> import equinox as eqx
        >>> layer = eqx.nn.Linear(4, 3, key=jr.key(0))
        >>> analog = sj.nn.AnalogLinear(layer, "epiram", array=4, key=jr.key(1))
        >>> x = jnp.ones(4)
        >>> bool(jnp.max(jnp.abs(analog(x, key=jr.key(2)) - layer(x))) < 0.1)
        True
    """

    matrix: AnalogMatrix
    bias: Float[Array, " outputs"] | None
    read_key: ReadKey | None
    layer: eqx.nn.Linear = eqx.field(static=True)
    dtype: np.dtype = eqx.field(static=True)

    def __init__(
        self,
        layer: eqx.nn.Linear,
        device: Device | MeasuredArray | AnalogMatrix | str,
        *,
        key: PRNGKeyArray,
        **options,
    ):
        """Program a layer; `options` and errors are those of `program_matrix`.

        An `AnalogMatrix` in place of a device is one that is programmed already.
        """
        self.matrix = held_or_programmed(layer.weight, device, key=key, **options)
        self.bias, self.read_key = layer.bias, None
        self.layer, self.dtype = emptied(layer), np.dtype(layer.weight.dtype)

    def __call__(
        self, x: Float[Array, "..."], *, key: PRNGKeyArray | None = None
    ) -> Float[Array, "..."]:
        """Multiply one vector, or a batch of them, each with its own noise.

        Vectors lie along the last axis, which is absent for "scalar" inputs or outputs.
        """
        key = call_key(self.matrix, x, key, self.read_key)
        x = x[..., None] if self.layer.in_features == "scalar" else x
        y = analog_linear(self.matrix, x, self.bias, key=key)
        y = as_digital(y, x, self.dtype)
        return y[..., 0] if self.layer.out_features == "scalar" else y

    def held(self) -> Array:
        """The weights that the arrays hold."""
        return held_matrix(self.matrix)

    def digital(self) -> eqx.nn.Linear:
        """The digital layer with those weights, in the dtype that it had."""
        return filled(self.layer, self.held().astype(self.dtype), self.bias)


def filled(layer: Any, weight: Array, bias: Array | None) -> Any:
    """Put weights into a layer; the inverse of `emptied`."""
    layer = eqx.tree_at(lambda l: l.weight, layer, weight, is_leaf=lambda x: x is None)
    if bias is None:
        return layer
    return eqx.tree_at(lambda l: l.bias, layer, bias, is_leaf=lambda x: x is None)


class AnalogConv(eqx.Module):
    """`equinox.nn.Conv` (1 to 3 axes) on crossbar arrays; the bias is digital.

    Each patch of the image is one product with a matrix that holds a filter in each row.
    Groups are the blocks of a block-diagonal matrix, on tiles that lie side by side.

    - `matrix`, `bias`, `read_key`, `layer`, `dtype`: as in `AnalogLinear`.

    **Example:**

        >>> import equinox as eqx
        >>> layer = eqx.nn.Conv2d(1, 2, kernel_size=2, key=jr.key(0))
        >>> analog = sj.nn.AnalogConv(layer, "epiram", array=4, key=jr.key(1))
        >>> y = analog(jnp.ones((1, 3, 3)), key=jr.key(2))  # 4 patches, each one product
        >>> y.shape, analog.matrix.shape  # filters, and entries of each
        ((2, 2, 2), (2, 4))
    """

    matrix: AnalogMatrix
    bias: Float[Array, "outputs ..."] | None
    read_key: ReadKey | None
    layer: eqx.nn.Conv = eqx.field(static=True)
    dtype: np.dtype = eqx.field(static=True)

    def __init__(
        self,
        layer: eqx.nn.Conv,
        device: Device | MeasuredArray | AnalogMatrix | str,
        *,
        key: PRNGKeyArray,
        **options,
    ):
        """Program a layer; `options` and errors are those of `program_matrix`.

        An `AnalogMatrix` in place of a device is one that is programmed already.
        """
        filters = layer.weight.reshape(layer.out_channels, -1)
        self.matrix = held_or_programmed(
            filters, device, groups=layer.groups, key=key, **options
        )
        self.bias, self.read_key = layer.bias, None
        self.layer, self.dtype = emptied(layer), np.dtype(layer.weight.dtype)

    def __call__(
        self, x: Float[Array, "channels ..."], *, key: PRNGKeyArray | None = None
    ) -> Float[Array, "outputs ..."]:
        """Convolve one image; each patch has its own noise."""
        layer = self.layer
        key = call_key(self.matrix, x, key, self.read_key)
        padding = layer.padding
        if layer.padding_mode != "ZEROS":
            x, padding = _padded(layer, x), "VALID"
        y = analog_conv(
            self.matrix,
            x,
            self.bias,
            kernel_size=layer.kernel_size,
            stride=layer.stride,
            padding=padding,
            dilation=layer.dilation,
            key=key,
        )
        return as_digital(y, x, self.dtype)

    def held(self) -> Array:
        """The weights that the arrays hold, in the shape of the layer."""
        return held_filters(self.matrix, self.layer)

    def digital(self) -> eqx.nn.Conv:
        """The digital layer with those weights, in the dtype that it had."""
        return filled(self.layer, self.held().astype(self.dtype), self.bias)


def held_filters(
    matrix: AnalogMatrix, layer: eqx.nn.Conv | eqx.nn.ConvTranspose
) -> Float[Array, "outputs channels ..."]:
    """The filters that the arrays hold, in the shape of the layer."""
    groups, outputs = layer.groups, layer.out_channels // layer.groups
    blocks = held_matrix(matrix).reshape(groups, outputs, groups, -1)
    place = jnp.arange(groups)
    shape = layer.out_channels, layer.in_channels // groups, *layer.kernel_size
    return blocks[place, :, place].reshape(shape)


_PADDINGS = {"REFLECT": "reflect", "REPLICATE": "edge", "CIRCULAR": "wrap"}


def _padded(layer: eqx.nn.Conv, x: Float[Array, "channels ..."]) -> Float[Array, "..."]:
    """One image with the padding that `analog_conv` lacks."""
    padding = layer.padding
    if isinstance(padding, str):
        sizes = zip(
            x.shape[1:], layer.kernel_size, layer.dilation, layer.stride, strict=True
        )
        padding = [_split(padding, *size) for size in sizes]
    return jnp.pad(x, [(0, 0), *padding], _PADDINGS[layer.padding_mode])


def _split(
    padding: str, size: int, kernel: int, dilation: int, stride: int
) -> tuple[int, int]:
    """The padding that "SAME" and the like put before and after an axis."""
    reach = dilation * (kernel - 1) + 1
    total = max((-(-size // stride) - 1) * stride + reach - size, 0)
    less, more = total // 2, total - total // 2
    return {"VALID": (0, 0), "SAME": (less, more), "SAME_LOWER": (more, less)}[padding]
