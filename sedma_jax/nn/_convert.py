"""Replace the layers of a model by analog ones, and back."""

from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, PRNGKeyArray, PyTree

from .._keys import check_key
from .._programming.options import Progress
from .._tiling.pool import PartitionPlan, Pool
from ._attention import PROJECTIONS, AnalogAttention, attention
from ._cells import MATRICES, AnalogGRUCell, AnalogLSTMCell, cell, matrices_of
from ._converted import refuse_converted
from ._embedding import AnalogEmbedding
from ._keys import key_words
from ._layers import AnalogConv, AnalogLinear
from ._options import (
    Technologies,
    Weighed,
    Where,
    check_alike,
    check_rewritten,
    options_reader,
    sizes_of,
)
from ._paths import Path, check_paths, path_key, path_name, refused_at
from ._rewritten import rewritten_arrays
from ._shared import is_tied, map_untied, retied, untied
from ._transposed import AnalogConvTranspose

_ANALOG_OF = {
    eqx.nn.Linear: AnalogLinear,
    eqx.nn.Conv: AnalogConv,
    eqx.nn.ConvTranspose: AnalogConvTranspose,
    eqx.nn.Embedding: AnalogEmbedding,
    eqx.nn.MultiheadAttention: AnalogAttention,
    eqx.nn.LSTMCell: AnalogLSTMCell,
    eqx.nn.GRUCell: AnalogGRUCell,
}
# Layers of several matrices, how to put them together, and the names of the parts.
_COMPOSED = {
    eqx.nn.MultiheadAttention: attention,
    eqx.nn.LSTMCell: cell,
    eqx.nn.GRUCell: cell,
}
_ANALOG = tuple(_ANALOG_OF.values())
_WITH_MATRIX = (AnalogLinear, AnalogConv, AnalogConvTranspose, AnalogEmbedding)
# They compute with the `weight` of a layer inside, which an analog one has not.
WRAPPERS = (eqx.nn.WeightNorm, eqx.nn.SpectralNorm)


def analogize(
    model: PyTree,
    device: Technologies,
    *,
    where: Where | None = None,
    plans: Mapping[Path, PartitionPlan | Pool] | None = None,
    layer_options: Mapping[Path, dict] | Callable[[Path, Any], dict] | None = None,
    rewritten: bool = False,
    progress: Progress | None = None,
    key: PRNGKeyArray,
    **options,
) -> PyTree:
    """Put the matrices of a model on crossbar arrays.

    Weights are programmed once; reads draw noise from the key of each call, or from the
    keys of `with_read_keys`. A layer is known by its path, such as `layers[0].mlp.fc1`,
    and its noise depends on `key` and its path alone. Works inside `jit` too.

    Layers of a class that overrides `__call__`, and those inside `WeightNorm` and
    `SpectralNorm`, stay digital. One object at two places is programmed once, and so is
    what `equinox.nn.Shared` ties: whole layers, and weights of layers of one kind. A layer
    tied to one of another kind, such as a table of which the rows are filters, or to one
    that stays digital, has arrays of its own.

    **Arguments:**

    - `model`: any pytree with layers of `equinox.nn`; also a single layer.
    - `device`: the technology, or published statistics as `program_matrix` takes them: of
        all layers, by path (the longest path that leads to a layer counts, `""` leads to
        all), or a function of path and layer.
    - `where`: function of path and layer that says whether to convert it. By default all
        `Linear`, `Conv`, `ConvTranspose`, `MultiheadAttention`, `LSTMCell` and `GRUCell`
        are, and no `Embedding`: a lookup is no product, and digital memory does it better.
        Where an attention is not converted, its projections are asked for one by one.
    - `plans`: by exact path, of a matrix: a plan of `sedma_jax.plan_partitions`, or a
        pool.
    - `layer_options`: options of some layers that go before `options`: by path as in
        `device`, or a function of path and layer.
    - `rewritten`: also compute the products of an attention, `Q K^T` and `A V`, on arrays,
        to which each call writes the keys and the values of each head: see
        `AnalogAttention.attend` for what that takes. An option of `layer_options` too.
    - `progress`: called with the weights programmed and the weights in all.
    - `options`: of `program_matrix`, for all layers: slices, converters, inputs a bit at a
        time, `Effects` such as stuck cells, lines and age, and how to program.
    - `key`: typed key of the noise of programming.

    **Returns:**

    The model with `AnalogLinear`, `AnalogConv`, `AnalogConvTranspose`, `AnalogAttention`,
    `AnalogLSTMCell`, `AnalogGRUCell` and `AnalogEmbedding`.

    **Raises:**

    - `ValueError`: if no layer is converted; if one that `where` admits is analog or
        hardware-aware already; if a path of a mapping leads nowhere; if a layer has no
        weight of its own; if tied weights have different options; if `rewritten` is asked
        for, and no attention is converted; and as `program_matrix` does.
    - `TypeError`: for an unknown option.

    **Example:**

        >>> import equinox as eqx
        >>> model = eqx.nn.MLP(4, 3, width_size=4, depth=1, key=jr.key(0))
        >>> first = lambda path, layer: path == "layers[0]"
        >>> analog = sj.nn.analogize(model, "epiram", where=first, array=4, key=jr.key(1))
        >>> [type(layer).__name__ for layer in analog.layers]
        ['AnalogLinear', 'Linear']
    """
    check_key(key)
    where = _not_embedding if where is None else where
    model, tied = untied(model)
    matrices: dict[Path, Any] = {}

    def choose(path, layer):
        if not where(path, layer):
            return NotImplemented
        matrices.update(_matrices(path, layer))
        return layer

    refuse_converted("analogize", model, where)
    _map_layers(choose, model)
    _check(matrices, device=device, layer_options=layer_options, plans=plans)
    if progress is not None:
        options["progress"] = Weighed(progress, sizes_of(matrices, tied))
    programmed: dict[int, tuple[Any, Any]] = {}
    held: dict[tuple[int, type | None], tuple[Any, Any, dict]] = {}
    asked = taken = False

    how = options_reader("analogize", device, layer_options, options, rewritten)

    def program(path, layer):
        nonlocal asked
        technology, own, again = how(path, layer)
        asked = asked or again
        if plans and path in plans:
            own["plan"] = plans[path]
        kind, place = _ANALOG_OF[base_of(layer)], (id(layer.weight), base_of(layer))
        if place in held:
            check_alike("analogize", path, (technology, own), held[place][1:])
            return kind(layer, held[place][0], key=path_key(key, path))
        with refused_at(path):
            analog = kind(layer, technology, key=path_key(key, path), **own)
        if id(layer.weight) in tied:
            held[place] = analog.matrix, technology, own
        return analog

    def together(path, layer):
        """The analog layer of all matrices of a layer."""
        nonlocal taken
        parts = [program(*part) for part in _matrices(path, layer)]
        compose = _COMPOSED.get(base_of(layer))
        if not _is_attention(layer):
            return parts[0] if compose is None else compose(layer, parts)
        technology, own, again = how(path, layer)
        taken = taken or again
        with refused_at(path):
            products = rewritten_arrays(technology, own) if again else None
        return attention(layer, parts, products)

    def convert(path, layer):
        if not where(path, layer):
            return NotImplemented
        if id(layer) not in programmed:
            programmed[id(layer)] = layer, together(path, layer)
        return programmed[id(layer)][1]

    analog = retied(_map_layers(convert, model))
    check_rewritten("analogize", asked, taken, matrices)
    return analog


def digitize(model: PyTree) -> PyTree:
    """Replace analog layers by those of Equinox, with the weights that the arrays hold.

    Errors of programming, drift and faults stay in the weights; noise of reads, converters
    and corrections are gone. Of a device without noise, weights come back to within the
    band in which programming accepts them.

    **Example:**

        >>> import equinox as eqx
        >>> layer = eqx.nn.Linear(4, 3, key=jr.key(0))
        >>> analog = sj.nn.analogize(layer, "epiram", array=4, key=jr.key(1))
        >>> held = sj.nn.digitize(analog)  # a plain layer, with the errors of programming
        >>> type(held).__name__, bool(jnp.max(jnp.abs(held.weight - layer.weight)) < 0.03)
        ('Linear', True)
    """
    one = lambda leaf: leaf.digital() if isinstance(leaf, _ANALOG) else leaf
    known = lambda node: isinstance(node, _ANALOG)
    return map_untied(lambda whole: jtu.tree_map(one, whole, is_leaf=known), model)


def with_read_keys(model: PyTree, *, key: PRNGKeyArray | None) -> PyTree:
    """Give each analog or hardware-aware layer a key of its own, for calls without one.

    The same model draws the same noise again: to read anew, give it new keys,

        y = jax.vmap(sedma_jax.nn.with_read_keys(model, key=step_key))(xs)

    Under `vmap`, each example has noise of its own. In a loop or `scan` inside the model
    that calls one layer several times, all calls have the same: pass keys there.

    **Arguments:**

    - `model`: with analog layers, or those of `hardware_aware`, whose errors of programming
        the examples of a `vmap` share.
    - `key`: typed key; or None, to take the keys away.

    **Example:**

        >>> import equinox as eqx
        >>> model = eqx.nn.Linear(4, 3, key=jr.key(0))
        >>> analog = sj.nn.analogize(model, sj.noise_models.PCM, array=4, key=jr.key(1))
        >>> x, keys = jnp.ones(4), jr.split(jr.key(2))
        >>> one, two = (sj.nn.with_read_keys(analog, key=key) for key in keys)
        >>> bool(jnp.all(one(x) == one(x))), bool(jnp.all(one(x) == two(x)))
        (True, False)
    """
    if key is not None:
        check_key(key)

    def give(path, layer):
        words = None if key is None else key_words(path_key(key, path))
        return eqx.tree_at(
            lambda layer: layer.read_key, layer, words, is_leaf=lambda node: node is None
        )

    return _map_where(give, model, lambda node: hasattr(node, "read_key"))


def digital_weights(model: PyTree) -> dict[Path, Array]:
    """The weight of each layer of Equinox that `analogize` could convert, by its path."""
    found: dict[Path, Array] = {}

    def note(path, layer):
        found.update({at: part.weight for at, part in _matrices(path, layer)})
        return layer

    _map_layers(note, untied(model)[0])
    return found


# Layers of Equinox with weights, which may stay digital.
_DIGITAL = (
    eqx.nn.Linear,
    eqx.nn.Conv,
    eqx.nn.ConvTranspose,
    eqx.nn.Embedding,
    eqx.nn.LSTMCell,
    eqx.nn.GRUCell,
    eqx.nn.LayerNorm,
    eqx.nn.RMSNorm,
    eqx.nn.GroupNorm,
    eqx.nn.BatchNorm,
)


def layers_of(model: PyTree) -> list[tuple[Path, Any]]:
    """Path and layer of each matrix on arrays and of each digital layer, in order."""
    known = (*_WITH_MATRIX, *_DIGITAL)
    leaves = jtu.tree_leaves_with_path(model, is_leaf=lambda node: isinstance(node, known))
    return [
        (path_name(path), leaf)
        for path, leaf in leaves
        if isinstance(leaf, _DIGITAL)
        or (isinstance(leaf, _WITH_MATRIX) and not is_tied(leaf))
    ]


def map_analog(function: Callable[[Path, Any], Any], model: PyTree) -> PyTree:
    """Replace each layer with an `AnalogMatrix`, the parts of larger ones one by one.

    Layers whose matrix is that of another one are left as they are.
    """
    own = lambda path, layer: layer if is_tied(layer) else function(path, layer)
    return _map_where(own, model, lambda node: isinstance(node, _WITH_MATRIX))


def _map_where(
    function: Callable[[Path, Any], Any], model: PyTree, chosen: Callable[[Any], bool]
) -> PyTree:
    """Replace each node that is chosen."""
    leaves, tree = jtu.tree_flatten_with_path(model, is_leaf=chosen)
    return tree.unflatten(
        function(path_name(path), leaf) if chosen(leaf) else leaf for path, leaf in leaves
    )


def _map_layers(function, model):
    """Replace each convertible layer; NotImplemented leaves it or descends into it."""
    known = lambda node: isinstance(node, _ANALOG + WRAPPERS) or bool(base_of(node))
    leaves, tree = jtu.tree_flatten_with_path(model, is_leaf=known)

    def one(path, layer):
        new = function(path, layer)
        if new is not NotImplemented:
            return new
        if not _is_attention(layer):
            return layer
        inner = [one(*part) for part in _matrices(path, layer)]
        return eqx.tree_at(lambda a: [getattr(a, n) for n in PROJECTIONS], layer, inner)

    return tree.unflatten(
        one(path_name(path), leaf) if base_of(leaf) else leaf for path, leaf in leaves
    )


def base_of(layer) -> type | None:
    """The class of Equinox that says how a layer computes, if it can be converted."""
    for base in _ANALOG_OF:
        if isinstance(layer, base) and type(layer).__call__ is base.__call__:
            return base
    return None


def _is_attention(layer) -> bool:
    return base_of(layer) is eqx.nn.MultiheadAttention


def _not_embedding(path: Path, layer: Any) -> bool:
    del path
    return not isinstance(layer, eqx.nn.Embedding)


def _matrices(path: Path, layer: Any) -> list[tuple[Path, Any]]:
    """Path and layer of each matrix."""
    parts, prefix = [(path, layer)], path + "." if path else ""
    if _is_attention(layer):
        parts = [(prefix + name, getattr(layer, name)) for name in PROJECTIONS]
    elif base_of(layer) in (eqx.nn.LSTMCell, eqx.nn.GRUCell):
        paths = [prefix + name for name in MATRICES]
        parts = list(zip(paths, matrices_of(layer), strict=True))
    for place, part in parts:
        convolves = isinstance(part, eqx.nn.Conv | eqx.nn.ConvTranspose)
        wanted = part.num_spatial_dims + 2 if convolves else 2
        if (
            not isinstance(part.weight, jax.Array | np.ndarray)
            or part.weight.ndim != wanted
        ):
            got = getattr(part.weight, "shape", type(part.weight).__name__)
            raise ValueError(
                f"`sedma_jax.nn.analogize` needs layers with one weight of their own. Got "
                f"{got} at {place!r}. Share whole layers or weights by `equinox.nn."
                "Shared`; analogize layers stacked by `vmap` before they are stacked; or "
                "leave this one out by `where`."
            )
    return parts


def _check(matrices, **given):
    """Refuse a model with nothing to convert, and paths that lead nowhere."""
    if not matrices:
        raise ValueError(
            "`sedma_jax.nn.analogize` needs a layer to convert: Linear, Conv, "
            "ConvTranspose, Embedding, MultiheadAttention, LSTMCell or GRUCell of "
            "`equinox.nn`, where `where` says so. Got none. Is the model analog already, "
            "or `where` too strict?"
        )
    check_paths("analogize", matrices, **given)
