"""Replace the layers of a model by analog ones, and back."""

import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import equinox as eqx
import jax
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, PRNGKeyArray, PyTree

from .._keys import check_key
from .._programming.options import Progress
from .._tiling.pool import PartitionPlan, Pool
from ..kernels import Device, shown
from ..noise_models import MeasuredArray
from ._attention import PROJECTIONS, AnalogAttention, attention
from ._converted import refuse_converted
from ._embedding import AnalogEmbedding
from ._keys import key_words
from ._layers import AnalogConv, AnalogLinear

Path = str
Where = Callable[[Path, Any], bool]
Technology = Device | MeasuredArray
Named = Technology | str
Technologies = Named | Mapping[Path, Named] | Callable[[Path, Any], Named]

_ANALOG_OF = {
    eqx.nn.Linear: AnalogLinear,
    eqx.nn.Conv: AnalogConv,
    eqx.nn.Embedding: AnalogEmbedding,
    eqx.nn.MultiheadAttention: AnalogAttention,
}
_ANALOG = tuple(_ANALOG_OF.values())
# They compute with the `weight` of a layer inside, which an analog one has not.
WRAPPERS = (eqx.nn.WeightNorm, eqx.nn.SpectralNorm)


def analogize(
    model: PyTree,
    device: Technologies,
    *,
    where: Where | None = None,
    plans: Mapping[Path, PartitionPlan | Pool] | None = None,
    layer_options: Mapping[Path, dict] | Callable[[Path, Any], dict] | None = None,
    progress: Progress | None = None,
    key: PRNGKeyArray,
    **options,
) -> PyTree:
    """Put the matrices of a model on crossbar arrays.

    Weights are programmed once; reads draw noise from the key of each call, or from the
    keys of `with_read_keys`. A layer is known by its path, such as `layers[0].mlp.fc1`,
    and its noise depends on `key` and its path alone. Works inside `jit` too.

    Layers of a class that overrides `__call__`, and those inside `WeightNorm` and
    `SpectralNorm`, stay digital, as do recurrent cells, whose weights are no layers. One
    object at two places is programmed once. Of `equinox.nn.Shared`, whole layers may be
    shared; shared weights are refused.

    **Arguments:**

    - `model`: any pytree with layers of `equinox.nn`; also a single layer.
    - `device`: the technology, or published statistics as `program_matrix` takes them: of
        all layers, by path (the longest path that leads to a layer counts, `""` leads to
        all), or a function of path and layer.
    - `where`: function of path and layer that says whether to convert it. By default all
        `Linear`, `Conv` and `MultiheadAttention` are, and no `Embedding`: a lookup is no
        product, and digital memory does it better. Where an attention is not converted,
        its projections are asked for one by one.
    - `plans`: by exact path, of a matrix: a plan of `sedma_jax.plan_partitions`, or a
        pool.
    - `layer_options`: options of some layers that go before `options`: by path as in
        `device`, or a function of path and layer.
    - `progress`: called with the weights programmed and the weights in all.
    - `options`: of `program_matrix`, for all layers.
    - `key`: typed key of the noise of programming.

    **Returns:**

    The model with `AnalogLinear`, `AnalogConv`, `AnalogAttention` and `AnalogEmbedding`.

    **Raises:**

    - `ValueError`: if no layer is converted; if one that `where` admits is analog or
        hardware-aware already; if a path of a mapping leads nowhere; if a layer has no
        weight of its own; and as `program_matrix` does.
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
        options["progress"] = _Progress(
            progress, [m.weight.size for m in matrices.values()]
        )
    programmed: dict[int, tuple[Any, Any]] = {}

    def program(path, layer):
        own = options | of_path(layer_options or {}, path, layer, {})
        if plans and path in plans:
            own["plan"] = plans[path]
        technology = of_path(device, path, layer, None)
        if not isinstance(technology, Technology | str):
            raise ValueError(
                f"`sedma_jax.nn.analogize` needs a `sedma_jax.Device` for each layer. Got "
                f"{shown(technology)} for {path!r}. The path '' in a mapping leads to all."
            )
        kind = _ANALOG_OF[base_of(layer)]
        with refused_at(path):
            return kind(layer, technology, key=path_key(key, path), **own)

    def convert(path, layer):
        if not where(path, layer):
            return NotImplemented
        if id(layer) not in programmed:
            parts = [program(*part) for part in _matrices(path, layer)]
            analog = attention(layer, parts) if _is_attention(layer) else parts[0]
            programmed[id(layer)] = layer, analog
        return programmed[id(layer)][1]

    return _map_layers(convert, model)


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
    return jtu.tree_map(
        lambda leaf: leaf.digital() if isinstance(leaf, _ANALOG) else leaf,
        model,
        is_leaf=lambda node: isinstance(node, _ANALOG),
    )


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


@contextmanager
def refused_at(path: Path) -> Iterator[None]:
    """Say of a refusal which layer it is about."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{error} This is about {path!r}.") from error


def path_key(key: PRNGKeyArray, path: Path) -> PRNGKeyArray:
    """The key of a layer, which follows from its path alone."""
    return jr.fold_in(key, zlib.crc32(path.encode()))


def digital_weights(model: PyTree) -> dict[Path, Array]:
    """The weight of each layer of Equinox that `analogize` could convert, by its path."""
    found: dict[Path, Array] = {}

    def note(path, layer):
        found.update({at: part.weight for at, part in _matrices(path, layer)})
        return layer

    _map_layers(note, model)
    return found


def map_analog(function: Callable[[Path, Any], Any], model: PyTree) -> PyTree:
    """Replace each layer with an `AnalogMatrix`; projections of attention one by one."""
    kinds = (AnalogLinear, AnalogConv, AnalogEmbedding)
    return _map_where(function, model, lambda node: isinstance(node, kinds))


def _map_where(
    function: Callable[[Path, Any], Any], model: PyTree, chosen: Callable[[Any], bool]
) -> PyTree:
    """Replace each node that is chosen."""
    leaves, tree = jtu.tree_flatten_with_path(model, is_leaf=chosen)
    return tree.unflatten(
        function(_name(path), leaf) if chosen(leaf) else leaf for path, leaf in leaves
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
        one(_name(path), leaf) if base_of(leaf) else leaf for path, leaf in leaves
    )


def _name(path) -> Path:
    return jtu.keystr(path).removeprefix(".")


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
    parts = [(path, layer)]
    if _is_attention(layer):
        prefix = path + "." if path else ""
        parts = [(prefix + name, getattr(layer, name)) for name in PROJECTIONS]
    for place, part in parts:
        wanted = part.num_spatial_dims + 2 if isinstance(part, eqx.nn.Conv) else 2
        if (
            not isinstance(part.weight, jax.Array | np.ndarray)
            or part.weight.ndim != wanted
        ):
            got = getattr(part.weight, "shape", type(part.weight).__name__)
            raise ValueError(
                f"`sedma_jax.nn.analogize` needs layers with one weight of their own. Got "
                f"{got} at {place!r}. Share whole layers, not weights, by `equinox.nn."
                "Shared`; analogize layers stacked by `vmap` before they are stacked; or "
                "leave this one out by `where`."
            )
    return parts


def _leads(to: Path, path: Path) -> bool:
    return not to or path == to or path.startswith((to + ".", to + "["))


def of_path(given, path, layer, default):
    """What a value, mapping or function says of a layer."""
    if isinstance(given, Mapping):
        fitting = [place for place in given if _leads(place, path)]
        return given[max(fitting, key=len)] if fitting else default
    return given(path, layer) if callable(given) else given


def _check(matrices, **given):
    """Refuse a model with nothing to convert, and paths that lead nowhere."""
    if not matrices:
        raise ValueError(
            "`sedma_jax.nn.analogize` needs a layer to convert: Linear, Conv, Embedding or "
            "MultiheadAttention of `equinox.nn`, where `where` says so. Got none. Is the "
            "model analog already, or `where` too strict?"
        )
    check_paths("analogize", matrices, **given)


def check_paths(caller: str, paths: Iterable[Path], **given: Any) -> None:
    """Refuse mappings with paths that lead nowhere."""
    for name, mapping in given.items():
        if isinstance(mapping, Mapping):
            leads = (lambda a, b: a == b) if name == "plans" else _leads
            lost = [to for to in mapping if not any(leads(to, path) for path in paths)]
            if lost:
                raise ValueError(
                    f"`sedma_jax.nn.{caller}` needs the paths in `{name}` to lead to "
                    f"layers that are converted. Got {lost}. There are {list(paths)}."
                )


class _Progress:
    """Weights done in all, from tiles done of one matrix after another."""

    def __init__(self, report: Progress, sizes: list[int]):
        self.report, self.sizes, self.done = report, sizes, 0

    def __call__(self, tiles: int, total: int):
        size = self.sizes[0]
        self.report(self.done + size * tiles // total, self.done + sum(self.sizes))
        if tiles == total:
            self.done += self.sizes.pop(0)
