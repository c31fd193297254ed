"""Measure a function at many points by as few programs as there are shapes."""

import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .._mappings import leave_room
from ..kernels import shown
from ._content import value_digest
from ._results import Figures

Values = Mapping[str, Any]
Measure = Callable[..., Mapping[str, Any]]


class Split(NamedTuple):
    """How the parameters of a function go into a program, by their names.

    - `mapped`: mapped over by `vmap`.
    - `shared`: traced, but the same for all points of a call.

    All others are parts of the program.
    """

    mapped: tuple[str, ...]
    shared: tuple[str, ...]


def split(
    measure: Measure, points: Sequence[Values], mapped: Collection[str] | None
) -> Split:
    """Which parameters a function takes as traced numbers.

    Those that may be mapped over come first, then the others. All together if it takes them
    so; otherwise one after another, each that it takes beside those before it. The function
    is traced for this, and not compiled.
    """
    several = [
        name
        for name in points[0]
        if all(_form(point[name]) is not None for point in points)
        and len({value_digest(point[name]) for point in points}) > 1
    ]
    may = [name for name in several if mapped is None or name in mapped]
    over = _taken(may, lambda names: _traces(measure, points[0], Split(names, ())))
    rest = [name for name in several if name not in may] if over else []
    return Split(over, _taken(rest, lambda n: _traces(measure, points[0], Split(over, n))))


def _taken(
    names: Sequence[str], possible: Callable[[tuple[str, ...]], bool]
) -> tuple[str, ...]:
    """All of the names if that is possible, or as many as are, one after another."""
    if not names or possible(tuple(names)):
        return tuple(names)
    taken: tuple[str, ...] = ()
    for name in names:
        if possible((*taken, name)):
            taken += (name,)
    return taken


def measured(
    measure: Measure, points: Sequence[Values], how: Split, batch: int
) -> Iterator[list[tuple[int, Figures]]]:
    """The figures of points with their places, as they come; at most `batch` at a time."""
    traced = how.mapped + how.shared
    # What is traced has one structure in a program, all else one value.
    one_program = _grouped(
        range(len(points)),
        lambda place: [
            _form(v) if n in traced else value_digest(v) for n, v in points[place].items()
        ],
    )
    for places in one_program:
        leave_room()
        if not how.mapped:
            for place in places:
                with _noted(points[place]):
                    figures = _plain_figures(measure(**points[place]))
                yield [(place, figures)]
            continue
        program = _program(measure, points[places[0]], how)
        calls = _grouped(
            places, lambda place: [value_digest(points[place][n]) for n in how.shared]
        )
        size = min(batch, max(map(len, calls)))
        for part in (c[i : i + size] for c in calls for i in range(0, len(c), size)):
            # The last ones are as many as the others, so that their program serves them.
            filled = part + part[-1:] * (size - len(part))
            with _noted(points[part[0]], len(part)):
                found = jax.device_get(program(*_traced([points[p] for p in filled], how)))
            yield [
                (place, {name: _number(values[i]) for name, values in found.items()})
                for i, place in enumerate(part)
            ]


def _grouped(places: Iterable[int], mark: Callable[[int], list]) -> list[list[int]]:
    """The places with equal marks together."""
    groups: dict[tuple, list[int]] = {}
    for place in places:
        groups.setdefault(tuple(mark(place)), []).append(place)
    return list(groups.values())


@contextmanager
def _noted(point: Values, count: int = 1) -> Iterator[None]:
    """Say of whatever is raised at which point it was."""
    try:
        yield
    except Exception as error:
        which = ", ".join(f"{name}={shown(value)}" for name, value in point.items())
        many = f"{count} points from " if count > 1 else ""
        error.add_note(f"This is about {many}{which}.")
        raise


def _program(measure: Measure, point: Values, how: Split) -> Callable:
    """The function as one program of several points; JAX sorts the names of its figures."""
    traced = how.mapped + how.shared
    fixed = {name: value for name, value in point.items() if name not in traced}
    names: list[str] = []

    def one(mapped, shared):
        found = _checked(measure(**fixed, **mapped, **shared))
        names[:] = found
        return found

    program = jax.jit(jax.vmap(one, in_axes=(0, None)))

    def call(mapped, shared):
        found = program(mapped, shared)
        return {name: found[name] for name in names}

    return call


def _traces(measure: Measure, point: Values, how: Split) -> bool:
    try:
        with warnings.catch_warnings():
            # Of Equinox, where a traced value is made a part of the structure.
            warnings.simplefilter("error", UserWarning)
            jax.eval_shape(_program(measure, point, how), *_traced([point], how))
    except Exception:  # an untraced call says what is wrong with it, if something is
        return False
    return True


def _form(value: Any) -> Any:
    """Structure, shapes and dtypes of what is made of numbers alone; None for all else."""
    leaves, tree = jax.tree.flatten(value)
    if not leaves or not all(_is_number(leaf) for leaf in leaves):
        return None
    form = tree, tuple((jnp.shape(v), getattr(v, "dtype", type(v))) for v in leaves)
    try:
        hash(form)
    except TypeError:  # something in the structure that has no hash
        return None
    return form


def _is_number(leaf: Any) -> bool:
    if isinstance(leaf, int):  # a longer one would be cut off
        return abs(leaf) < 2 ** (63 if jax.config.read("jax_enable_x64") else 31)
    return isinstance(leaf, bool | int | float | jax.Array | np.ndarray | np.generic)


def _traced(points: Sequence[Values], how: Split) -> tuple[dict, dict]:
    """The values of what is mapped one upon another, and of what is shared."""

    def stack(*leaves):
        if any(isinstance(leaf, jax.Array) for leaf in leaves):
            return jnp.stack(leaves)
        return np.stack([np.asarray(leaf) for leaf in leaves])

    def alone(leaf):
        return leaf if isinstance(leaf, jax.Array) else np.asarray(leaf)

    mapped = {n: jax.tree.map(stack, *(p[n] for p in points)) for n in how.mapped}
    return mapped, {n: jax.tree.map(alone, points[0][n]) for n in how.shared}


def _checked(found: Any) -> dict[str, Any]:
    """What a function found, if it is figures by name."""
    if not isinstance(found, Mapping) or not all(isinstance(n, str) for n in found):
        raise ValueError(
            "`sedma_jax.study.run` needs `measure` to return figures by name. Got "
            f"{shown(found)}. Such as `{{'error': error}}`."
        )
    for name, value in found.items():
        numbers = bool | int | float | jax.Array | np.ndarray | np.generic
        if not isinstance(value, numbers) or jnp.shape(value):
            raise ValueError(
                "`sedma_jax.study.run` needs one number for each figure. Got "
                f"{shown(value)} for `{name}`. Make what it runs over a parameter."
            )
    return dict(found)


def _plain_figures(found: Any) -> Figures:
    return {name: _number(value) for name, value in _checked(found).items()}


def _number(value: Any) -> bool | int | float:
    return np.asarray(value).item()
