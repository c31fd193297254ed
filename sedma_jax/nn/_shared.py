"""Weights that `equinox.nn.Shared` ties, on arrays that are programmed once."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax.tree_util as jtu
from equinox.nn import Shared
from jaxtyping import PyTree

from ._matrix import AnalogMatrix

Place = tuple[Any, ...]


@dataclass(frozen=True)
class _At:
    """Pick attributes of some nodes of a tree."""

    nodes: tuple[tuple[Place, str], ...]

    def __call__(self, tree: PyTree) -> tuple[Any, ...]:
        return tuple(getattr(_node(tree, place), name) for place, name in self.nodes)


@dataclass(frozen=True)
class _Untied:
    """In place of `where`: the layers that were tied, and what tied them."""

    targets: tuple[Place, ...]
    sources: tuple[Place | None, ...]
    where: Callable | None = None
    get: Callable | None = None


def untied(model: PyTree) -> tuple[PyTree, set[int]]:
    """Weights put back where `Shared` took them out, and the identities of those tied.

    Whole layers that are shared stay as they are.
    """
    tied: set[int] = set()

    def one(node: Any) -> Any:
        return _untie(node, tied) if isinstance(node, Shared) else node

    return _map_shared(one, model), tied


def retied(model: PyTree) -> PyTree:
    """Tie layers again that share their matrix now, or that both stayed digital."""

    def one(node: Any) -> Any:
        if not isinstance(node, Shared):
            return node
        inside = retied(node.pytree)
        if not isinstance(node.where, _Untied):
            return eqx.tree_at(lambda s: s.pytree, node, inside)
        return _retie(inside, node.where)

    return _map_shared(one, model)


def map_untied(function: Callable[[PyTree], PyTree], model: PyTree) -> PyTree:
    """Apply a function to a model whose matrices are put back, and tie weights again."""

    def one(node: Any) -> Any:
        if not (isinstance(node, Shared) and isinstance(node.where, _At)):
            return node
        ends: Any = node.where, node.get
        targets, sources = (tuple(place for place, _ in end.nodes) for end in ends)
        where = _Untied(targets, sources)
        parts = node(), where, where
        return eqx.tree_at(lambda s: (s.pytree, s.where, s.get), node, parts)

    return retied(function(_map_shared(one, model)))


def is_tied(layer: Any) -> bool:
    """Whether the matrix of an analog layer is that of another one."""
    return not isinstance(layer.matrix, AnalogMatrix)


def _untie(shared: Shared, tied: set[int]) -> Shared:
    inside, more = untied(shared.pytree)
    tied |= more
    whole = eqx.tree_at(lambda s: s.pytree, shared, inside)
    leaves = jtu.tree_leaves_with_path(inside)
    # Of each weight, the path of its layer.
    layer_of = {id(leaf): place[:-1] for place, leaf in leaves if _is_weight(place)}
    targets = [layer_of.get(id(hole)) for hole in _nodes(shared.where(inside))]
    found = tuple(place for place in targets if place is not None)
    if len(found) < len(targets):
        return whole
    weights = _nodes(shared.get(inside))
    tied |= {id(weight) for weight in weights}
    sources = tuple(layer_of.get(id(weight)) for weight in weights)
    where = _Untied(found, sources, shared.where, shared.get)
    parts = whole(), where, where
    return eqx.tree_at(lambda s: (s.pytree, s.where, s.get), shared, parts)


def _retie(inside: PyTree, was: _Untied) -> Shared:
    analog = lambda place: hasattr(_node(inside, place), "matrix")
    places = [place for place in (*was.targets, *was.sources) if place is not None]
    if was.where is not None and was.get is not None and not any(map(analog, places)):
        return Shared(inside, was.where, was.get)
    targets, sources = [], []
    for target, source in zip(was.targets, was.sources, strict=True):
        if source is None or analog(target) != analog(source):
            continue  # the weights are in two places now
        name = "matrix" if analog(target) else "weight"
        one, other = (getattr(_node(inside, place), name) for place in (target, source))
        if name == "weight" or one is other:
            targets.append((target, name))
            sources.append((source, name))
    return Shared(inside, _At(tuple(targets)), _At(tuple(sources)))


def _node(tree: PyTree, place: Place) -> Any:
    """The node of a tree at a path of JAX's."""
    for step in place:
        if isinstance(step, jtu.GetAttrKey):
            tree = getattr(tree, step.name)
        elif isinstance(step, jtu.SequenceKey):
            tree = tree[step.idx]
        else:
            tree = tree[step.key]
    return tree


def _nodes(picked: Any) -> list[Any]:
    return list(picked) if isinstance(picked, tuple | list) else [picked]


def _is_weight(place: Place) -> bool:
    last: Any = place[-1] if place else None
    return isinstance(last, jtu.GetAttrKey) and last.name == "weight"


def _map_shared(function: Callable[[Any], Any], model: PyTree) -> PyTree:
    """Replace each `Shared`; all that holds none stays the same objects."""

    def rest(node: Any) -> bool:
        inside = jtu.tree_leaves(node, is_leaf=_is_shared)
        return _is_shared(node) or not any(map(_is_shared, inside))

    return jtu.tree_map(function, model, is_leaf=rest)


def _is_shared(node: Any) -> bool:
    return isinstance(node, Shared)
