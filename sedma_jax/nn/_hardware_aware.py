"""Train against the errors of programming, reading and converting.

The layers keep digital weights, which any optimiser of optax updates. They multiply with
copies of them that have the errors which `sedma_jax.program` would leave, drawn anew for
each key (Joshi et al. 2020, Nat. Commun. 11, 2473). Gradients pass straight through the
errors and the converters.

    model = hardware_aware(model, device)

    def loss(model, xs, ys, key):
        programming_key, read_key = jr.split(key)
        noisy = draw_programming(model, key=programming_key)
        logits = jax.vmap(noisy)(xs, key=jr.split(read_key, len(xs)))

    analog = analogize(plain(model), device, key=key)
"""

import dataclasses
import zlib
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.lax as lax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from .._arguments import device_of
from .._crossbar.abstract_crossbar import check_converters
from .._crossbar.converters import ADC, DAC, check_ideal, input_range
from .._keys import check_key
from .._programming.options import Programming, programming_from
from .._programming.program import program_tiles
from .._tiling.native import as_floats
from ..kernels import (
    Device,
    Requirement,
    Scheme,
    VerifyRule,
    check_numbers,
    clip_columns,
    column_scale,
    cut_tiles,
    digitise_learned,
    digitise_straight_through,
    gaussian,
    image_patches,
    join_tiles,
    sampled_rewrite,
)
from ._convert import WRAPPERS, base_of, refused_at
from ._layers import as_digital
from ._matrix import check_real

_CLIP = Requirement(lambda v: v > 0, "above 0")
Digital = Any  # `eqx.nn.Linear` or `eqx.nn.Conv`, whose weights have no common type


class Hardware(eqx.Module):
    """The hardware that a layer is trained for; see the arguments of `hardware_aware`.

    **Example:**

        >>> import equinox as eqx
        >>> layer = eqx.nn.Linear(4, 3, key=jr.key(0))
        >>> adc = sj.ADC(bits=8)
        >>> aware = sj.nn.hardware_aware(layer, "epiram", adc=adc, clip=2.5, array=64)
        >>> aware.hardware.adc.bits, aware.hardware.clip, aware.hardware.array
        (8, 2.5, (64, 64))
    """

    device: Device
    rule: VerifyRule | None
    dac: DAC | None
    adc: ADC | None
    clip: float | None = eqx.field(static=True)
    array: tuple[int, int] = eqx.field(static=True)
    scheme: Scheme | Callable = eqx.field(static=True)


class HardwareAwareLinear(eqx.Module):
    """A linear layer that computes as crossbar arrays will.

    - `layer`: the digital layer, whose weights are trained.
    - `hardware`: the hardware that they are trained for. Of it, only learned ranges of
        converters get a gradient.
    - `drawn`: weights with programming errors, from `draw_programming`; None to draw them
        in each call.

    **Example:**

        >>> import equinox as eqx
        >>> layer = eqx.nn.Linear(4, 3, key=jr.key(0))
        >>> aware = sj.nn.hardware_aware(layer, "epiram", array=4)
        >>> y = aware(jnp.ones(4), key=jr.key(1))  # with errors of programming
        >>> bool(jnp.all(y == layer(jnp.ones(4)))), y.shape
        (False, (3,))
    """

    layer: eqx.nn.Linear
    hardware: Hardware
    drawn: Float[Array, "outputs inputs"] | None = None

    def __call__(
        self, x: Float[Array, " inputs"], *, key: PRNGKeyArray
    ) -> Float[Array, " outputs"]:
        """Multiply one vector; `key` draws the read noise, and errors not drawn before."""
        weight, read_key = _weight(self, x, key)
        layer = self.layer
        x = x[None] if layer.in_features == "scalar" else x
        y = _product(weight[None], x[None, None], self.hardware, read_key)[0, 0]
        y = y if layer.bias is None else y + as_floats(layer.bias, "bias")
        y = as_digital(y, x, layer.weight.dtype)
        return y[0] if layer.out_features == "scalar" else y


class HardwareAwareConv(eqx.Module):
    """A convolution that computes as crossbar arrays will: each patch is one product.

    - `layer`, `hardware`, `drawn`: as in `HardwareAwareLinear`.

    **Example:**

        >>> import equinox as eqx
        >>> layer = eqx.nn.Conv2d(1, 2, kernel_size=2, key=jr.key(0))
        >>> aware = sj.nn.hardware_aware(layer, "epiram", array=4)
        >>> aware(jnp.ones((1, 3, 3)), key=jr.key(1)).shape
        (2, 2, 2)
    """

    layer: eqx.nn.Conv
    hardware: Hardware
    drawn: Float[Array, "..."] | None = None

    def __call__(
        self, x: Float[Array, " inputs *space"], *, key: PRNGKeyArray
    ) -> Float[Array, " outputs *reduced"]:
        """Convolve one image; `key` as in `HardwareAwareLinear`."""
        weight, read_key = _weight(self, x, key)
        layer, hardware = self.layer, self.hardware
        quiet = hardware.device.sigma_read
        ideal = isinstance(quiet, float) and quiet == 0
        if ideal and hardware.dac is None and hardware.adc is None:
            # The result is that of patch by patch, and all at once is much faster.
            names = ["weight"] if layer.bias is None else ["weight", "bias"]
            parts = [weight, layer.bias][: len(names)]
            parts = [as_floats(part, "weight") for part in parts]
            where = lambda layer: [getattr(layer, name) for name in names]
            y = eqx.tree_at(where, layer, parts)(as_floats(x, "x"))
            return as_digital(y, x, layer.weight.dtype)
        padding = layer.padding
        if layer.padding_mode != "ZEROS":
            x, padding = layer._nonzero_pad(x), "VALID"
        cut_out = image_patches(x, layer.kernel_size, layer.stride, padding, layer.dilation)
        space, groups = cut_out.shape[1:], layer.groups
        # Channels vary slowest, so the channels of one group lie together.
        vectors = cut_out.reshape(groups, len(cut_out) // groups, -1).swapaxes(1, 2)
        matrices = weight.reshape(groups, layer.out_channels // groups, -1)
        y = _product(matrices, vectors, hardware, read_key)
        y = y.swapaxes(1, 2).reshape(layer.out_channels, *space)
        y = y if layer.bias is None else y + as_floats(layer.bias, "bias")
        return as_digital(y, x, layer.weight.dtype)


_LAYERS = (HardwareAwareLinear, HardwareAwareConv)


def hardware_aware(
    model: PyTree,
    device: Device | str,
    *,
    where: Callable[[str, Any], bool] | None = None,
    scheme: Scheme | Callable | str = sampled_rewrite,
    rule: VerifyRule | None = None,
    dac: DAC | None = None,
    adc: ADC | None = None,
    clip: float | None = None,
    array: tuple[int, int] | int = (256, 256),
) -> PyTree:
    """Replace `Linear` and `Conv` of Equinox by layers that train against the hardware.

    Weights are scaled per bit line as in `sedma_jax.program`, so that the largest of each
    fills the window. Errors have the distribution of `scheme`.

    **Arguments:**

    - `model`: any pytree with layers of `equinox.nn`, or one layer. Each call of a
        replaced layer needs a key, which the model has to pass on.
    - `device`: the technology.
    - `where`: function of path (such as `layers[0]`) and layer that says whether to
        replace it. By default all are replaced.
    - `scheme`, `rule`: how the weights will be programmed. The default, `sampled_rewrite`,
        represents every scheme that stops at an acceptance band, without its loop.
    - `dac`, `adc`: converters, which quantise with a straight-through gradient. A full
        scale of the ADC needs to be one number. With `learned`, and an array of JAX as
        `full_scale`, the range is trained with the weights.
    - `clip`: weights are clipped at this multiple of the root mean square of their bit
        line, usually 2 to 3. By default nothing is clipped.
    - `array`: word lines and bit lines of one array.

    **Returns:**

    The model with `HardwareAwareLinear` and `HardwareAwareConv`.

    **Raises:**

    - `ValueError`: if no layer is replaced, if `clip <= 0`, or if the ADC has a full scale
        for each tile, or a converter has errors.

    **Example:**

        >>> import equinox as eqx
        >>> model = eqx.nn.Linear(4, 3, key=jr.key(0))
        >>> aware = sj.nn.hardware_aware(model, "epiram", array=4)
        >>> loss = lambda model: jnp.sum(model(jnp.ones(4), key=jr.key(1)))
        >>> slope = eqx.filter_grad(loss)(aware).layer.weight  # straight through the errors
        >>> bool(jnp.max(jnp.abs(slope - 1)) < 0.2)
        True
    """
    call = "nn.hardware_aware"
    device = device_of(call, device)
    check_converters(call, dac, adc)
    remedy = "Leave it out to clip nothing."
    check_numbers(f"sedma_jax.{call}", _CLIP, remedy, clip=clip)
    how = programming_from(call, None, array=array, scheme=scheme, rule=rule)
    full_scale = None if adc is None else adc.full_scale
    if full_scale is not None and jnp.ndim(full_scale):
        raise ValueError(
            "`sedma_jax.nn.hardware_aware` needs one `full_scale` for all tiles. Got shape "
            f"{jnp.shape(full_scale)}. Leave it out for an automatic range."
        )
    check_ideal(call, dac, adc)
    hardware = Hardware(
        device=device,
        rule=how.rule,
        dac=dac,
        adc=adc,
        clip=clip,
        array=how.array,
        scheme=how.scheme,
    )
    count = 0

    def replace(path: tuple, layer: Any) -> Any:
        nonlocal count
        if base_of(layer) not in (eqx.nn.Linear, eqx.nn.Conv):
            return layer
        name = jtu.keystr(path).removeprefix(".")
        if where is not None and not where(name, layer):
            return layer
        count += 1
        if isinstance(layer, eqx.nn.Linear):
            return HardwareAwareLinear(layer, hardware)
        return HardwareAwareConv(layer, hardware)

    known = (eqx.nn.Linear, eqx.nn.Conv, *_LAYERS, *WRAPPERS)
    model = jtu.tree_map_with_path(
        replace, model, is_leaf=lambda node: isinstance(node, known)
    )
    if not count:
        raise ValueError(
            "`sedma_jax.nn.hardware_aware` needs a `Linear` or `Conv` of `equinox.nn` that "
            "`where` admits. Got none. Is the model hardware-aware already?"
        )
    return model


def draw_programming(model: PyTree, *, key: PRNGKeyArray) -> PyTree:
    """Draw the programming errors once, for all examples of a batch.

    Without this, a layer under `vmap` would program an array for each example. Gradients
    pass from the drawn weights to the digital ones: differentiate through this function.

    **Arguments:**

    - `model`: from `hardware_aware`.
    - `key`: typed key; the errors of a layer depend only on the key and on the path.

    **Example:**

        >>> import equinox as eqx
        >>> layer = eqx.nn.Linear(4, 3, key=jr.key(0))
        >>> aware = sj.nn.hardware_aware(layer, "epiram", array=4)
        >>> noisy = sj.nn.draw_programming(aware, key=jr.key(1))  # once for a whole batch
        >>> ys = jax.vmap(noisy)(jnp.ones((2, 4)), key=jr.split(jr.key(2)))
        >>> bool(jnp.allclose(ys[0], ys[1], rtol=1e-5))  # epiram has no read noise
        True
    """
    check_key(key)

    def draw(path: tuple, layer: Any) -> Any:
        if not isinstance(layer, _LAYERS):
            return layer
        own = jr.fold_in(key, zlib.crc32(jtu.keystr(path).encode()))
        with refused_at(jtu.keystr(path).removeprefix(".")):
            weight = _programmed(layer.layer, layer.hardware, own)
        return dataclasses.replace(layer, drawn=weight)

    return jtu.tree_map_with_path(draw, model, is_leaf=_is_aware)


def plain(model: PyTree) -> PyTree:
    """Replace hardware-aware layers by layers of Equinox with the same digital weights.

    The weights are clipped as in training. The result is the digital model, which
    `analogize` can program.

    **Example:**

        >>> import equinox as eqx
        >>> layer = eqx.nn.Linear(4, 3, key=jr.key(0))
        >>> aware = sj.nn.hardware_aware(layer, "epiram", array=4)
        >>> bool(jnp.all(sj.nn.plain(aware).weight == layer.weight))  # nothing was clipped
        True
    """

    def one(path: tuple, layer: Any) -> Any:
        if not isinstance(layer, _LAYERS):
            return layer
        inner, hardware = layer.layer, layer.hardware
        if hardware.clip is None:
            return inner
        with refused_at(jtu.keystr(path).removeprefix(".")):
            tiles, used = _tiles(inner, hardware)
        weight = _matrix(clip_columns(tiles, hardware.clip, used), inner, hardware)
        weight = weight.astype(inner.weight.dtype)
        return eqx.tree_at(lambda layer: layer.weight, inner, weight)

    return jtu.tree_map_with_path(one, model, is_leaf=_is_aware)


def _is_aware(node: Any) -> bool:
    return isinstance(node, _LAYERS)


def _weight(
    layer: HardwareAwareLinear | HardwareAwareConv, x: Array, key: PRNGKeyArray
) -> tuple[Array, PRNGKeyArray]:
    """The weights with programming errors, and the key of the reads."""
    check_key(key)
    check_real(x)
    programming_key, read_key = jr.split(key)
    if layer.drawn is not None:
        return layer.drawn, read_key
    return _programmed(layer.layer, layer.hardware, programming_key), read_key


def _shape(layer: Digital, hardware: Hardware) -> tuple[int, int, int, int, int]:
    """Groups, outputs and inputs per group, and the rows and columns used of an array."""
    groups = getattr(layer, "groups", 1)
    axes = layer.num_spatial_dims + 2 if isinstance(layer, eqx.nn.Conv) else 2
    if layer.weight.ndim != axes:
        raise ValueError(
            f"A hardware-aware layer needs a weight of {axes} axes. Got shape "
            f"{layer.weight.shape}. Take layers stacked by `vmap` one by one."
        )
    m = layer.weight.shape[0] // groups
    n = layer.weight.size // (groups * m)
    return groups, m, n, min(hardware.array[0], n), min(hardware.array[1], m)


def _tiles(
    layer: Digital, hardware: Hardware
) -> tuple[Float[Array, "tiles rows cols"], Int[Array, "..."]]:
    """The weights cut into tiles, and the number of rows that each tile uses."""
    groups, m, n, rows, cols = _shape(layer, hardware)
    # Nothing is drawn in half precision.
    weight = jnp.asarray(as_floats(layer.weight, "weight")).reshape(groups, m, n)
    grid = jax.vmap(lambda a: cut_tiles(a, rows, cols))(weight)
    used = jnp.minimum(n - rows * jnp.arange(grid.shape[1], dtype=jnp.int32), rows)
    used = jnp.broadcast_to(used[None, :, None], grid.shape[:3]).ravel()
    return grid.reshape(-1, rows, cols), used


def _matrix(
    tiles: Float[Array, "tiles rows cols"], layer: Digital, hardware: Hardware
) -> Array:
    """The inverse of `_tiles`, in the shape of the weights of the layer."""
    groups, m, n, rows, cols = _shape(layer, hardware)
    grid = tiles.reshape(groups, -(-n // rows), -(-m // cols), rows, cols)
    return jax.vmap(lambda g: join_tiles(g, (m, n)))(grid).reshape(layer.weight.shape)


def _programmed(layer: Digital, hardware: Hardware, key: PRNGKeyArray) -> Array:
    """The weights of a layer with errors of programming."""
    _, m, _, _, cols = _shape(layer, hardware)
    tiles, used_rows = _tiles(layer, hardware)
    if hardware.clip is not None:
        tiles = clip_columns(tiles, hardware.clip, used_rows)
    scale = lax.stop_gradient(column_scale(tiles))
    place = jnp.arange(len(tiles), dtype=jnp.int32)
    used_cols = jnp.minimum(m - place % -(-m // cols) * cols, cols)
    device, rule = lax.stop_gradient((hardware.device, hardware.rule))
    weights, _, _ = program_tiles(
        tiles,
        scale,
        place,
        used_rows,
        used_cols,
        device,
        Programming(scheme=hardware.scheme, rule=rule),
        key=key,
    )
    tiles = jnp.swapaxes(weights, 1, 2) * scale[:, None, :]
    return _matrix(tiles, layer, hardware)


def _product(
    matrices: Float[Array, "groups m n"],
    vectors: Float[Array, "groups batch n"],
    hardware: Hardware,
    key: PRNGKeyArray,
) -> Float[Array, "groups batch m"]:
    """Multiply with converters and read noise, tile by tile, for each group."""
    groups, m, n = matrices.shape
    vectors = jnp.asarray(as_floats(vectors, "x"))
    rows, cols = min(hardware.array[0], n), min(hardware.array[1], m)
    dac, adc = hardware.dac, hardware.adc
    drive = input_range(vectors, dac)
    volts = vectors / drive
    if dac is not None:
        volts = digitise_straight_through(volts, 1.0, bits=dac.bits)
    blocks = -(-n // rows)
    volts = jnp.pad(volts, ((0, 0), (0, 0), (0, blocks * rows - n)))
    volts = volts.reshape(*volts.shape[:2], blocks, rows)
    grid = jax.vmap(lambda a: cut_tiles(a, rows, cols))(matrices)
    scale = jax.vmap(column_scale)(grid.reshape(groups, -1, rows, cols))
    scale = lax.stop_gradient(scale.reshape(groups, blocks, -1, 1, cols))
    currents = jnp.einsum(
        "gbir,giorc->giobc", volts, grid / scale, precision=lax.Precision.HIGHEST
    )
    device = lax.stop_gradient(hardware.device)
    # The factor 2 is for the pair of cells. The root has no gradient at zero, and the noise
    # needs none.
    size = lax.stop_gradient(jnp.sqrt(2 * jnp.sum(volts**2, axis=3)))
    size = jnp.moveaxis(size, 2, 1)[:, :, None, :, None]
    draws = gaussian(device.sigma_read, currents.shape, currents.dtype, key=key)
    currents = currents + draws * size
    if adc is not None:
        full_scale: Any = adc.full_scale
        if full_scale is None:
            full_scale = jnp.max(jnp.abs(currents), axis=4, keepdims=True)
            full_scale = lax.stop_gradient(full_scale)
        full_scale = jnp.asarray(full_scale, currents.dtype)
        full_scale = jnp.broadcast_to(full_scale, currents.shape)
        quantise = digitise_learned if adc.learned else digitise_straight_through
        currents = quantise(currents, full_scale, bits=adc.bits)
    sums = jnp.sum(currents * scale, axis=1)
    y = jnp.moveaxis(sums, 1, 2).reshape(groups, vectors.shape[1], -1)[:, :, :m]
    return y * drive
