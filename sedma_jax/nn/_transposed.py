"""Transposed convolutions on crossbar arrays."""

import equinox as eqx
import jax.lax as lax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ..kernels import Device
from ..noise_models import MeasuredArray
from ._keys import ReadKey, call_key
from ._layers import as_digital, emptied, filled, held_filters
from ._matrix import AnalogMatrix, analog_conv, check_real
from ._program_matrix import held_or_programmed


class AnalogConvTranspose(eqx.Module):
    """`equinox.nn.ConvTranspose` (1 to 3 axes) on crossbar arrays; the bias is digital.

    Zeros are put between the entries of the image, and every patch of it is one product
    with a matrix that holds a filter in each row (Dumoulin & Visin 2016, arXiv 1603.07285,
    relationship 14).

    - `matrix`, `bias`, `read_key`, `layer`, `dtype`: as in `AnalogLinear`.

    **Example:**

        >>> import equinox as eqx
        >>> layer = eqx.nn.ConvTranspose1d(1, 2, kernel_size=2, stride=2, key=jr.key(0))
        >>> analog = sj.nn.AnalogConvTranspose(layer, "epiram", array=4, key=jr.key(1))
        >>> y = analog(jnp.ones((1, 3)), key=jr.key(2))  # 3 places become 6
        >>> y.shape, bool(jnp.max(jnp.abs(y - layer(jnp.ones((1, 3))))) < 0.1)
        ((2, 6), True)
    """

    matrix: AnalogMatrix
    bias: Float[Array, "outputs ..."] | None
    read_key: ReadKey | None
    layer: eqx.nn.ConvTranspose = eqx.field(static=True)
    dtype: np.dtype = eqx.field(static=True)

    def __init__(
        self,
        layer: eqx.nn.ConvTranspose,
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
        check_real(x)
        axes = len(layer.kernel_size)
        if x.ndim != axes + 1:
            raise ValueError(
                f"An analog transposed convolution needs `x` with {layer.in_channels} "
                f"channels and {axes} axes behind. Got shape {x.shape}. Use `jax.vmap` for "
                "batches."
            )
        y = analog_conv(
            self.matrix,
            _spread(layer, x),
            self.bias,
            kernel_size=layer.kernel_size,
            stride=(1,) * axes,
            padding="VALID",
            dilation=layer.dilation,
            key=key,
        )
        return as_digital(y, x, self.dtype)

    def held(self) -> Array:
        """The weights that the arrays hold, in the shape of the layer."""
        return held_filters(self.matrix, self.layer)

    def digital(self) -> eqx.nn.ConvTranspose:
        """The digital layer with those weights, in the dtype that it had."""
        return filled(self.layer, self.held().astype(self.dtype), self.bias)


def _spread(
    layer: eqx.nn.ConvTranspose, x: Float[Array, "channels ..."]
) -> Float[Array, "channels ..."]:
    """The image with zeros between its entries and around them."""
    padding = layer.padding
    each = [padding] * len(layer.kernel_size) if isinstance(padding, str) else padding
    sizes = (layer.kernel_size, layer.stride, layer.output_padding, layer.dilation, each)
    pads = [_pad(*axis) for axis in zip(*sizes, strict=True)]
    if layer.padding_mode == "CIRCULAR":
        # Whole steps wrap round; what is left are zeros between entries.
        steps = list(zip(pads, layer.stride, strict=True))
        wrapped = [(before // s, after // s) for (before, after), s in steps]
        x = jnp.pad(x, [(0, 0), *wrapped], mode="wrap")
        pads = [(before % s, after % s) for (before, after), s in steps]
    config = [(*pad, s - 1) for pad, s in zip(pads, layer.stride, strict=True)]
    return lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *config])


def _pad(
    kernel: int, stride: int, extra: int, dilation: int, padding: str | tuple[int, int]
) -> tuple[int, int]:
    """Zeros before and after an axis; below zero, entries that are cut off."""
    reach = dilation * (kernel - 1)
    if isinstance(padding, str):
        total = 0 if padding == "VALID" else reach - stride + extra + 1
        if padding != "VALID":
            extra, total = max(-total, 0), max(total, 0)
        before = (total + (padding == "SAME_LOWER")) // 2
        padding = before, total - before
    return reach - padding[0], reach - padding[1] + extra
