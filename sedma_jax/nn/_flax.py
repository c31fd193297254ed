"""Flax NNX models on crossbars; the extra `flax`.

    analog = sedma_jax.nn.flax.analogize(model, device, rngs=nnx.Rngs(0))
    y = analog(x)
    digital = sedma_jax.nn.flax.digitize(analog)

`Linear`, `LinearGeneral`, `Conv`, `ConvTranspose` and `Embed` become modules that are
called as before, and so do the four projections inside `MultiHeadAttention`. Every call
draws its read noise from a stream of its module, as `nnx.Dropout` does: equal streams give
the same noise in the same order.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.lax as lax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from .._dir import later_names
from .._extras import install_hint
from .._keys import check_key
from .._tiling.pool import PartitionPlan, Pool
from ..kernels import CostModel, ProcessorCost
from ._channels_last import each_axis, laid_out
from ._embedding import read_entry
from ._flax_weights import (
    check_one_kernel,
    finished,
    groups_of,
    kernel_of,
    layer_path,
    linear_vectors,
    matrix_of,
    no_sharding,
    weights_name,
)
from ._inspect import (
    NetworkFigures,
    check_costs,
    checked_figures,
    error_now,
    matrix_figures,
)
from ._matrix import AnalogMatrix, analog_conv, multiply
from ._options import (
    Technologies,
    Where,
    check_alike,
    check_rewritten,
    options_reader,
)
from ._over_time import Drift, Seconds, aged_matrix, drift_models
from ._paths import Path, check_paths, leads_to, path_key, refused_at
from ._program_matrix import program_matrix
from ._training.flax import (
    DrawnProgramming as DrawnProgramming,
    HardwareAware as HardwareAware,
    HardwareOf as HardwareOf,
    draw_programming as draw_programming,
    hardware_aware as hardware_aware,
    plain as plain,
)

try:
    from flax import nnx

    from ._nnx.flax import (
        base_of,
        convertible,
        digital_products,
        is_attention,
        node_figures,
        refuse_converted,
        write_products,
    )
except ImportError as error:
    raise ImportError(
        f"`sedma_jax.nn.flax` needs flax, which is not installed. {install_hint('flax')}"
    ) from error

_TRAINING = "DrawnProgramming", "HardwareAware", "HardwareOf"
__dir__ = later_names(globals(), *_TRAINING, "draw_programming", "hardware_aware", "plain")


class ProgrammedMatrix(nnx.Variable):
    """An `AnalogMatrix`. It is not an `nnx.Param`, so optimisers leave the arrays alone.

    **Example:**

        >>> from flax import nnx
        >>> layer = nnx.Linear(4, 3, rngs=nnx.Rngs(0))
        >>> analog = sj.nn.flax.analogize(layer, "epiram", array=4, rngs=nnx.Rngs(1))
        >>> isinstance(analog.matrix, nnx.Param), analog.matrix.get_value().shape
        (False, (3, 4))
    """


class AnalogModule(nnx.Module):
    """A layer of NNX whose matrix crossbar arrays hold.

    - `matrix`: the weights; `matrix.get_value()` is an `AnalogMatrix`.
    - `layer`: the digital layer, bias included, without the weights.
    - `kernel_dtype`: of those weights.
    - `reads`: stream that gives the keys of the reads.

    **Example:**

        >>> from flax import nnx
        >>> layer = nnx.Linear(4, 3, rngs=nnx.Rngs(0))
        >>> analog = sj.nn.flax.analogize(layer, "epiram", array=4, rngs=nnx.Rngs(1))
        >>> isinstance(analog, sj.nn.flax.AnalogModule), analog.layer.kernel is None
        (True, True)
    """

    def __init__(
        self,
        layer: nnx.Module,
        matrix: AnalogMatrix | ProgrammedMatrix,
        dtype: Any,
        reads: nnx.RngStream,
    ):
        programmed = isinstance(matrix, ProgrammedMatrix)
        self.matrix = matrix if programmed else ProgrammedMatrix(matrix)
        self.kernel_dtype = jnp.dtype(dtype)
        self.layer: Any = layer
        self.reads = reads

    def _programmed(self) -> AnalogMatrix:
        return self.matrix.get_value()


class AnalogLinear(AnalogModule):
    """`nnx.Linear` and `nnx.LinearGeneral` on crossbar arrays.

    **Example:**

        >>> from flax import nnx
        >>> layer = nnx.Linear(4, 3, rngs=nnx.Rngs(0))
        >>> analog = sj.nn.flax.analogize(layer, "epiram", array=4, rngs=nnx.Rngs(1))
        >>> x = jnp.ones((2, 4), jnp.float32)
        >>> bool(jnp.max(jnp.abs(analog(x) - layer(x))) < 0.1)
        True
    """

    def __call__(self, inputs: Float[Array, "..."], out_sharding: Any = None) -> Array:
        """Multiply any number of vectors, each with its own noise.

        **Raises:**

        - `ValueError`: if `inputs` do not fit the weights, or `out_sharding` is given.
        """
        no_sharding(out_sharding)
        x, shape = linear_vectors("AnalogLinear", self.layer, inputs)
        y = multiply(self._programmed(), x, key=self.reads())
        return finished(self.layer, self.kernel_dtype, y.reshape(shape), inputs)


class AnalogConv(AnalogModule):
    """`nnx.Conv` and `nnx.ConvTranspose` on crossbar arrays: every patch is one product.

    **Example:**

        >>> from flax import nnx
        >>> layer = nnx.Conv(1, 2, kernel_size=(2, 2), padding="VALID", rngs=nnx.Rngs(0))
        >>> analog = sj.nn.flax.analogize(layer, "epiram", array=4, rngs=nnx.Rngs(1))
        >>> analog(jnp.ones((5, 3, 3, 1), jnp.float32)).shape  # five images, channels last
        (5, 2, 2, 2)
    """

    def __call__(self, inputs: Float[Array, "..."], out_sharding: Any = None) -> Array:
        """Convolve images, channels last; every patch has its own noise.

        **Raises:**

        - `ValueError`: if `inputs` do not fit the weights, or `out_sharding` is given.
        """
        no_sharding(out_sharding)
        layer, matrix = self.layer, self._programmed()
        axes = len(layer.kernel_size)
        if inputs.ndim <= axes or inputs.shape[-1] != layer.in_features:
            raise ValueError(
                f"`sedma_jax.nn.flax.AnalogConv` needs images of {axes} axes and then "
                f"{layer.in_features} channels. Got {inputs.shape}. Put channels last."
            )
        batch = inputs.shape[: inputs.ndim - axes - 1]
        images = inputs.reshape(-1, *inputs.shape[len(batch) :])
        images, stride, padding = laid_out(layer, images)

        def convolve(image: Array, key: PRNGKeyArray) -> Array:
            y = analog_conv(
                matrix,
                jnp.moveaxis(image, -1, 0),
                kernel_size=layer.kernel_size,
                stride=stride,
                padding=padding,
                dilation=each_axis(layer.kernel_dilation, axes),
                key=key,
            )
            return jnp.moveaxis(y, 0, -1)

        y = jax.vmap(convolve)(images, jr.split(self.reads(), len(images)))
        y = y.reshape(*batch, *y.shape[1:])
        return finished(layer, self.kernel_dtype, y, inputs)


class AnalogEmbed(AnalogModule):
    """`nnx.Embed` on crossbar arrays: an entry is read by driving its word line.

    **Example:**

        >>> from flax import nnx
        >>> table, every = nnx.Embed(6, 4, rngs=nnx.Rngs(0)), lambda path, layer: True
        >>> how = dict(where=every, array=4, rngs=nnx.Rngs(1))
        >>> analog = sj.nn.flax.analogize(table, "epiram", **how)
        >>> numbers = jnp.array([5, 0], jnp.int32)
        >>> bool(jnp.max(jnp.abs(analog(numbers) - table(numbers))) < 0.1)
        True
    """

    def __call__(self, inputs: Array, out_sharding: Any = None) -> Array:
        """Read entries by number, each with its own noise.

        **Raises:**

        - `ValueError`: if `inputs` are not whole numbers, or `out_sharding` is given.
        """
        no_sharding(out_sharding)
        if not jnp.issubdtype(inputs.dtype, jnp.integer):
            raise ValueError(
                "`sedma_jax.nn.flax.AnalogEmbed` needs whole numbers. Got dtype "
                f"{inputs.dtype}. Pass the numbers of the entries."
            )
        matrix, keys = self._programmed(), jr.split(self.reads(), inputs.size)
        read = jax.vmap(lambda entry, key: read_entry(matrix, entry, key=key))
        y = read(inputs.ravel(), keys)
        return y.reshape(*inputs.shape, y.shape[-1]).astype(self.layer.dtype)

    def attend(self, query: Float[Array, "..."], out_sharding: Any = None) -> Array:
        """Multiply with all entries, digitally, by the weights that the arrays hold.

        The arrays drive entries and sense features; this product has the other direction.
        """
        no_sharding(out_sharding)
        held = self._programmed().crossbar.stored_matrix().astype(self.layer.dtype)
        return jnp.matmul(query, held, precision=lax.Precision.HIGHEST)


def analogize(
    model: nnx.Module,
    device: Technologies,
    *,
    where: Where | None = None,
    plans: Mapping[Path, PartitionPlan | Pool] | None = None,
    layer_options: Mapping[Path, dict] | Callable[[Path, Any], dict] | None = None,
    rewritten: bool = False,
    rngs: nnx.Rngs,
    **options,
) -> nnx.Module:
    """Put the matrices of an NNX model on crossbar arrays.

    This is `sedma_jax.nn.analogize` for `nnx.Linear`, `LinearGeneral`, `Conv`,
    `ConvTranspose` and `Embed`. The projections of an attention and the gates of a
    recurrent cell are layers such as `attend.query`. Layers of one kind that share a
    variable share arrays. Some layers stay digital: subclasses that override `__call__`,
    and layers with a custom product (`dot_general`, `conv_general_dilated`), with batch
    axes, with dilated inputs, or transposed with circular padding. The given model does
    not change; the new one shares its other variables.

    **Arguments:**

    - `model`: the module, or a single layer.
    - `device`, `plans`, `layer_options`, `options`: as in `sedma_jax.nn.analogize`.
    - `where`: function of path and layer that says whether to convert it. By default all
        are converted except `Embed`.
    - `rewritten`: as there; `attention_fn.cost.get_value()` of an attention is what writing
        the keys and values of the last call took.
    - `rngs`: the stream `programming` gives the key of programming, from which the key of
        each layer follows by its path alone; `reads` gives the key of the layers' streams.

    **Raises:**

    - `ValueError`: if no layer is converted; if a path of a mapping leads nowhere; if a
        layer has no device, or holds the weights of several, as those of `nnx.vmap` do;
        and as `sedma_jax.nn.program_matrix` does.

    **Example:**

        >>> from flax import nnx
        >>> rngs = nnx.Rngs(0)
        >>> model = nnx.Sequential(nnx.Linear(4, 4, rngs=rngs), nnx.Linear(4, 3, rngs=rngs))
        >>> first = lambda path, layer: path == "layers[0]"
        >>> how = dict(where=first, array=4, rngs=nnx.Rngs(1))
        >>> analog = sj.nn.flax.analogize(model, "epiram", **how)
        >>> [type(layer).__name__ for layer in analog.layers]
        ['AnalogLinear', 'Linear']
    """
    no_table = lambda path, layer: not isinstance(layer, nnx.Embed)
    where = no_table if where is None else where
    refuse_converted("analogize", model, where)
    chosen = {
        layer_path(path): layer
        for path, layer in nnx.iter_modules(model)
        if convertible(layer) and where(layer_path(path), layer)
    }
    if not chosen:
        raise ValueError(
            "`sedma_jax.nn.flax.analogize` needs a layer to convert: Linear, "
            "LinearGeneral, Conv, ConvTranspose or Embed of `flax.nnx`, where `where` says "
            "so. Got none. Is the model analog already, or `where` too strict?"
        )
    for path, layer in chosen.items():
        check_one_kernel(path, layer)
    given = {"device": device, "layer_options": layer_options, "plans": plans}
    check_paths("flax.analogize", chosen, **given)
    programming_key, read_key = rngs["programming"](), rngs["reads"]()
    held: dict[tuple[int, Any], tuple[ProgrammedMatrix, Any, dict]] = {}
    asked = taken = False
    how = options_reader("flax.analogize", device, layer_options, options, rewritten)

    def convert(parts: tuple, layer: Any) -> Any:
        nonlocal asked, taken
        path = layer_path(parts)
        if is_attention(layer) and any(leads_to(path, other) for other in chosen):
            technology, own, again = how(path, layer)
            if again:
                taken = True
                write_products(path, layer, technology, own, key=read_key)
            return layer
        if path not in chosen or not convertible(layer):
            return layer
        technology, own, again = how(path, layer)
        asked = asked or again
        own["groups"] = groups_of(layer)
        if plans and path in plans:
            own["plan"] = plans[path]
        key = path_key(programming_key, path)
        weights, name, base = matrix_of(layer), weights_name(layer), base_of(layer)
        place = id(getattr(layer, name)), base
        if place in held:
            check_alike("flax.analogize", path, (technology, own), held[place][1:])
        else:
            with refused_at(path):
                matrix = program_matrix(weights, technology, key=key, **own)
            held[place] = ProgrammedMatrix(matrix), technology, own
        reads = nnx.RngStream(path_key(read_key, path), tag="reads")
        setattr(layer, name, nnx.data(None))
        return _ANALOG_OF[base](layer, held[place][0], weights.dtype, reads)

    analog = nnx.recursive_map(convert, model)
    check_rewritten("flax.analogize", asked, taken, chosen)
    return analog


def digitize(model: nnx.Module) -> nnx.Module:
    """Replace analog layers by those of NNX, with the weights that the arrays hold.

    Half precision, where the layers had it, rounds them.

    **Example:**

        >>> from flax import nnx
        >>> layer = nnx.Linear(4, 3, rngs=nnx.Rngs(0))
        >>> analog = sj.nn.flax.analogize(layer, "epiram", array=4, rngs=nnx.Rngs(1))
        >>> held = sj.nn.flax.digitize(analog)  # with the errors of programming
        >>> bool(jnp.max(jnp.abs(held.kernel[...] - layer.kernel[...])) < 0.03)
        True
    """
    held: dict[int, nnx.Param] = {}

    def convert(parts: tuple, node: Any) -> Any:
        del parts
        digital_products(node)
        if not isinstance(node, AnalogModule):
            return node
        layer, place = node.layer, id(node.matrix)
        if place not in held:
            weights = kernel_of(layer, node._programmed()).astype(node.kernel_dtype)
            held[place] = nnx.Param(weights)
        setattr(layer, weights_name(layer), held[place])
        return layer

    return nnx.recursive_map(convert, model)


def inspect(
    model: nnx.Module,
    digital: nnx.Module | None = None,
    *,
    mean_square: float | None = None,
    costs: CostModel | None = None,
    processor: ProcessorCost | None = None,
) -> NetworkFigures:
    """List figures of each layer, as `sedma_jax.nn.inspect` does.

    **Example:**

        >>> from flax import nnx
        >>> layer = nnx.Linear(6, 3, rngs=nnx.Rngs(0))
        >>> analog = sj.nn.flax.analogize(layer, "epiram", array=4, rngs=nnx.Rngs(1))
        >>> figures = sj.nn.flax.inspect(analog, layer)[0]
        >>> figures.shape, figures.tiles, figures.error < 0.03  # 4 + 2 inputs
        ((3, 6), 2, True)
    """
    check_costs("flax.inspect", mean_square, costs, processor)
    weights = None
    if digital is not None:
        layers = {layer_path(p): n for p, n in nnx.iter_modules(digital) if convertible(n)}
        weights = {p: getattr(n, weights_name(n))[...] for p, n in layers.items()}
    found, seen = [], set()
    for parts, node in nnx.iter_modules(model):
        path, kind = layer_path(parts), type(node).__name__
        if not isinstance(node, AnalogModule):
            found += node_figures(path, node, processor)
        elif id(node.matrix) not in seen:
            seen.add(id(node.matrix))
            matrix, error = node._programmed(), None
            if weights is not None:
                error = error_now(path, kernel_of(node.layer, matrix), weights)
            found.append(matrix_figures(path, kind, matrix, error, mean_square, costs))
    return checked_figures(found)


def age(
    model: nnx.Module,
    seconds: Seconds,
    *,
    drift: Drift | None = None,
    compensation_reads: int = 0,
    key: PRNGKeyArray,
) -> nnx.Module:
    """Let the arrays drift; arguments and errors are those of `sedma_jax.nn.age`.

    The new model reads from the streams of the old one.

    **Example:**

        >>> from flax import nnx
        >>> layer, pcm = nnx.Linear(4, 3, rngs=nnx.Rngs(0)), sj.noise_models.PCM
        >>> fresh = sj.nn.flax.analogize(layer, pcm, array=4, rngs=nnx.Rngs(1))
        >>> old = sj.nn.flax.age(fresh, 3.15e7, key=jr.key(2))  # a year
        >>> held = lambda model: sj.nn.flax.digitize(model).kernel[...]
        >>> bool(jnp.linalg.norm(held(old)) < 0.8 * jnp.linalg.norm(held(fresh)))
        True
    """
    check_key(key)
    models = drift_models(matrices(model), seconds, drift, compensation_reads)
    aged: dict[int, ProgrammedMatrix] = {}

    def convert(parts: tuple, node: Any) -> Any:
        if not isinstance(node, AnalogModule):
            return node
        path, place = layer_path(parts), id(node.matrix)
        if place not in aged:
            how: Any = dict(reads=compensation_reads, key=path_key(key, path))
            old = aged_matrix(node._programmed(), seconds, models[path], **how)
            aged[place] = ProgrammedMatrix(old)
        node.matrix = aged[place]
        return node

    return nnx.recursive_map(convert, model)


def matrices(model: nnx.Module) -> dict[Path, AnalogMatrix]:
    """The matrix of each analog layer, by its path.

    **Example:**

        >>> from flax import nnx
        >>> rngs = nnx.Rngs(0)
        >>> model = nnx.Sequential(nnx.Linear(4, 4, rngs=rngs), nnx.Linear(4, 3, rngs=rngs))
        >>> analog = sj.nn.flax.analogize(model, "epiram", array=4, rngs=nnx.Rngs(1))
        >>> {path: m.shape for path, m in sj.nn.flax.matrices(analog).items()}
        {'layers[0]': (4, 4), 'layers[1]': (3, 4)}
    """
    return {path: node._programmed() for path, node in _analog(model).items()}


def _analog(model: nnx.Module) -> dict[Path, Any]:
    found = nnx.iter_modules(model)
    return {layer_path(path): n for path, n in found if isinstance(n, AnalogModule)}


_ANALOG_OF = {
    nnx.Linear: AnalogLinear,
    nnx.LinearGeneral: AnalogLinear,
    nnx.Conv: AnalogConv,
    nnx.ConvTranspose: AnalogConv,
    nnx.Embed: AnalogEmbed,
}
