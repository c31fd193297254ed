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
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from ..._crossbar.converters import ADC, DAC
from ..._keys import check_key
from ..._programming.options import Scaling
from ..._tiling.native import as_floats
from ...kernels import (
    FROM_ZERO,
    AbstractDrift,
    Device,
    Scheme,
    VerifyRule,
    check_numbers,
    column_scale,
    image_patches,
)
from ...noise_models import MeasuredArray
from .._convert import WRAPPERS, base_of
from .._converted import refuse_converted
from .._keys import ReadKey, own_keys
from .._layers import as_digital
from .._matrix import AnalogMatrix, check_real
from .._paths import refused_at
from .aware import (
    Blocks,
    Effects,
    Hardware,
    Seconds,
    aware_product,
    clipped,
    hardware_from,
    programmed,
)

Digital = Any  # `eqx.nn.Linear` or `eqx.nn.Conv`, whose weights have no common type


class HardwareAwareLinear(eqx.Module):
    """A linear layer that computes as crossbar arrays will.

    - `layer`: the digital layer, whose weights are trained.
    - `hardware`: the hardware that they are trained for. Of it, only learned ranges of
        converters get a gradient.
    - `drawn`, `arrays`: weights with programming errors, and the arrays that hold them
        where they are simulated, from `draw_programming`; None to draw them in each call.
    - `read_key`: from `with_read_keys`, or None.

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
    arrays: AnalogMatrix | None = None
    read_key: ReadKey | None = None

    def __call__(
        self, x: Float[Array, "..."], *, key: PRNGKeyArray | None = None
    ) -> Float[Array, "..."]:
        """Multiply one vector; `key` draws the read noise, and errors not drawn before.

        Without `key`, that of `with_read_keys` counts.
        """
        weight, arrays, read_key = _weight(self, x, key)
        layer = self.layer
        x = x[None] if layer.in_features == "scalar" else x
        vectors = x[None, None]
        y = aware_product(weight, arrays, vectors, self.hardware, key=read_key)[0, 0]
        y = y if layer.bias is None else y + as_floats(layer.bias, "bias")
        y = as_digital(y, x, layer.weight.dtype)
        return y[0] if layer.out_features == "scalar" else y


class HardwareAwareConv(eqx.Module):
    """A convolution that computes as crossbar arrays will: each patch is one product.

    - `layer`, `hardware`, `drawn`, `arrays`, `read_key`: as in `HardwareAwareLinear`.

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
    arrays: AnalogMatrix | None = None
    read_key: ReadKey | None = None

    def __call__(
        self, x: Float[Array, " inputs *space"], *, key: PRNGKeyArray | None = None
    ) -> Float[Array, " outputs *reduced"]:
        """Convolve one image; `key` as in `HardwareAwareLinear`."""
        weight, arrays, read_key = _weight(self, x, key)
        layer, hardware = self.layer, self.hardware
        quiet = hardware.device.sigma_read
        ideal = isinstance(quiet, float) and quiet == 0 and arrays is None
        if ideal and hardware.dac is None and hardware.adc is None:
            # The result is that of patch by patch, and all at once is much faster.
            names = ["weight"] if layer.bias is None else ["weight", "bias"]
            parts = [weight.reshape(layer.weight.shape), layer.bias][: len(names)]
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
        y = aware_product(weight, arrays, vectors, hardware, key=read_key)
        y = y.swapaxes(1, 2).reshape(layer.out_channels, *space)
        y = y if layer.bias is None else y + as_floats(layer.bias, "bias")
        return as_digital(y, x, layer.weight.dtype)


_LAYERS = (HardwareAwareLinear, HardwareAwareConv)


def hardware_aware(
    model: PyTree,
    device: Device | MeasuredArray | str,
    *,
    where: Callable[[str, Any], bool] | None = None,
    scheme: Scheme | Callable | str | None = None,
    rule: VerifyRule | None = None,
    dac: DAC | None = None,
    adc: ADC | None = None,
    clip: float | None = None,
    array: tuple[int, int] | int = (256, 256),
    scaling: Scaling | str = column_scale,
    effects: Effects | None = None,
    seconds: Seconds | Sequence[float] | None = None,
    drift: AbstractDrift | None = None,
    compensation_reads: int = 0,
) -> PyTree:
    """Replace `Linear` and `Conv` of Equinox by layers that train against the hardware.

    Weights are scaled anew for every draw, per bit line as in `sedma_jax.program`, so that
    the largest of each fills the window: they are remapped at every step. Errors have the
    distribution of `scheme`, or of published statistics. The projections of an attention
    are replaced too.

    **Arguments:**

    - `model`: any pytree with layers of `equinox.nn`, or one layer. Where it passes no
        keys on to its layers, `sedma_jax.nn.with_read_keys` gives them theirs.
    - `device`: the technology; or published statistics, such as
        `sedma_jax.noise_models.PCM`, whose read noise belongs to them.
    - `where`: function of path (such as `layers[0]`) and layer that says whether to
        replace it. By default all are replaced.
    - `scheme`, `rule`: how the weights will be programmed. `sampled_rewrite`, used if left
        out, represents every scheme that stops at an acceptance band, without its loop.
        Statistics take their place.
    - `dac`, `adc`: converters, which quantise with a straight-through gradient. A full
        scale of the ADC needs to be one number. With `learned`, and an array of JAX as
        `full_scale`, the range is trained with the weights, on a device alone.
    - `clip`: weights are clipped at this multiple of the root mean square of their bit
        line, usually 2 to 3. By default nothing is clipped.
    - `array`: word lines and bit lines of one array.
    - `scaling`: what fills the window: `column_scale`, `tile_scale` or `global_scale`.
    - `effects`: function of a crossbar and a `key` that returns the crossbar with more
        effects, such as wires and faults, drawn with every programming:
        `lambda c, key: sedma_jax.with_line_resistance(c, 2.0, 2.0)`.
    - `seconds`: time since programming to train for, from 0 up; or several, of which each
        draw takes one at random. `draw_programming` can name another.
    - `drift`: the drift model; that of the statistics if left out.
    - `compensation_reads`: number of known inputs by which drift is compensated, as in
        `sedma_jax.nn.age`; 0 compensates nothing.

    **Returns:**

    The model with `HardwareAwareLinear` and `HardwareAwareConv`.

    **Raises:**

    - `ValueError`: if no layer is replaced; if one that `where` admits is analog or
        hardware-aware already; if `clip <= 0`; if the ADC has a full scale for each tile,
        or a converter errors; if a range is learned where whole arrays are simulated; if
        there are statistics and a scheme, or `seconds` and no drift model.

    **Example:**

        >>> import equinox as eqx
        >>> model = eqx.nn.MLP(4, 3, width_size=4, depth=1, key=jr.key(0))
        >>> a_day = dict(seconds=86400.0, compensation_reads=8, array=4)
        >>> aware = sj.nn.hardware_aware(model, sj.noise_models.PCM, **a_day)
        >>> loss = lambda model: jnp.sum(model(jnp.ones(4)))
        >>> keyed = sj.nn.with_read_keys(aware, key=jr.key(1))  # an MLP passes no keys on
        >>> slope = eqx.filter_grad(loss)(keyed).layers[1].layer.bias
        >>> print(slope)  # straight through
        [1. 1. 1.]
    """
    hardware = hardware_from(
        "nn.hardware_aware",
        device,
        scheme=scheme,
        rule=rule,
        dac=dac,
        adc=adc,
        clip=clip,
        array=array,
        scaling=scaling,
        effects=effects,
        seconds=seconds,
        drift=drift,
        compensation_reads=compensation_reads,
    )
    return _replaced(model, hardware, where)


def _replaced(
    model: PyTree, hardware: Hardware, where: Callable[[str, Any], bool] | None
) -> PyTree:
    """`hardware_aware`, for hardware that is checked already."""
    refuse_converted("hardware_aware", model, where)
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


def draw_programming(
    model: PyTree, seconds: Seconds | None = None, *, key: PRNGKeyArray
) -> PyTree:
    """Draw the programming errors once, for all examples of a batch.

    Without this, a layer that gets a key for each example under `vmap` would program an
    array for each. Gradients pass from the drawn weights to the digital ones:
    differentiate through this function. An objective over times is a mean over draws,

        at = lambda t: loss(draw_programming(model, t, key=key))
        jnp.mean(jax.vmap(at)(times))

    **Arguments:**

    - `model`: from `hardware_aware`.
    - `seconds`: time since programming, from 0 up; one of those of `hardware_aware` if
        left out. Under one key, cells have the same drift at all times.
    - `key`: typed key; the errors of a layer depend only on the key and on the path.

    **Raises:**

    - `ValueError`: if `seconds` is negative or not finite, or there is no drift model.

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
    remedy = "Time counts from the end of programming."
    check_numbers("sedma_jax.nn.draw_programming", FROM_ZERO, remedy, seconds=seconds)

    def draw(path: tuple, layer: Any) -> Any:
        if not isinstance(layer, _LAYERS):
            return layer
        own = jr.fold_in(key, zlib.crc32(jtu.keystr(path).encode()))
        with refused_at(jtu.keystr(path).removeprefix(".")):
            weight, arrays = programmed(
                _blocks(layer.layer), layer.hardware, seconds, key=own
            )
        drawn = weight.reshape(layer.layer.weight.shape)
        return dataclasses.replace(layer, drawn=drawn, arrays=arrays)

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
            weight = clipped(_blocks(inner), hardware)
        weight = weight.reshape(inner.weight.shape).astype(inner.weight.dtype)
        return eqx.tree_at(lambda layer: layer.weight, inner, weight)

    return jtu.tree_map_with_path(one, model, is_leaf=_is_aware)


def _is_aware(node: Any) -> bool:
    return isinstance(node, _LAYERS)


def _weight(
    layer: HardwareAwareLinear | HardwareAwareConv, x: Array, key: PRNGKeyArray | None
) -> tuple[Blocks, AnalogMatrix | None, PRNGKeyArray]:
    """The weights with programming errors, their arrays, and the key of the reads."""
    programming_key, read_key = own_keys(x, key, layer.read_key)
    check_real(x)
    if layer.drawn is not None:
        drawn = layer.drawn.reshape(_blocks(layer.layer).shape)
        return drawn, layer.arrays, read_key
    weight, arrays = programmed(_blocks(layer.layer), layer.hardware, key=programming_key)
    return weight, arrays, read_key


def _blocks(layer: Digital) -> Blocks:
    """The weights as groups, outputs and inputs of a group; at least float32."""
    groups = getattr(layer, "groups", 1)
    axes = layer.num_spatial_dims + 2 if isinstance(layer, eqx.nn.Conv) else 2
    if layer.weight.ndim != axes:
        raise ValueError(
            f"A hardware-aware layer needs a weight of {axes} axes. Got shape "
            f"{layer.weight.shape}. Take layers stacked by `vmap` one by one."
        )
    weight = jnp.asarray(as_floats(layer.weight, "weight"))
    return weight.reshape(groups, weight.shape[0] // groups, -1)
