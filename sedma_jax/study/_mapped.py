"""Measure a function at many points by as few programs as there are shapes."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._mappings import leave_room
from ..kernels import shown
from ._content import value_digest
from ._results import Figures

Values = Mapping[str, Any]
Measure = Callable[..., Mapping[str, Any]]


def mappable(measure: Measure, points: Sequence[Values]) -> list[str]:
    """The parameters that the function takes as traced numbers, in one program.

    All together if it takes them so; otherwise one after another, each that it takes beside
    those before it. The function is traced for this, and not compiled.
    """
    several = [
        name
        for name in points[0]
        if all(_form(point[name]) is not None for point in points)
        and len({value_digest(point[name]) for point in points}) > 1
    ]
    if _traces(measure, points[0], several):
        return several
    taken: list[str] = []
    for name in several:
        if _traces(measure, points[0], [*taken, name]):
            taken.append(name)
    return taken


def measured(
    measure: Measure, points: Sequence[Values], mapped: Collection[str], batch: int
) -> Iterator[list[tuple[int, Figures]]]:
    """The figures of points with their places, as they come; at most `batch` at a time."""
    groups: dict[tuple, list[int]] = {}
    for place, point in enumerate(points):
        # What is mapped over has one structure in a program, all else one value.
        parts = (
            (n, _form(v) if n in mapped else value_digest(v)) for n, v in point.items()
        )
        groups.setdefault(tuple(parts), []).append(place)
    for places in groups.values():
        leave_room()
        if not mapped:
            for place in places:
                with _noted(points[place]):
                    figures = _plain_figures(measure(**points[place]))
                yield [(place, figures)]
            continue
        program = _program(measure, points[places[0]], mapped)
        size = min(batch, len(places))
        for start in range(0, len(places), size):
            part = places[start : start + size]
            # The last ones are as many as the others, so that their program serves them.
            filled = part + part[-1:] * (size - len(part))
            with _noted(points[part[0]], len(part)):
                stacked = _stacked([points[p] for p in filled], mapped)
                found = jax.device_get(program(stacked))
            yield [
                (place, {name: _number(values[i]) for name, values in found.items()})
                for i, place in enumerate(part)
            ]


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


def _program(measure: Measure, point: Values, mapped: Collection[str]) -> Callable:
    """The function as one program of several points; JAX sorts the names of its figures."""
    fixed = {name: value for name, value in point.items() if name not in mapped}
    names: list[str] = []

    def one(given):
        found = _checked(measure(**fixed, **given))
        names[:] = found
        return found

    program = jax.jit(jax.vmap(one))

    def call(stacked):
        found = program(stacked)
        return {name: found[name] for name in names}

    return call


def _traces(measure: Measure, point: Values, names: Collection[str]) -> bool:
    if not names:
        return False
    try:
        jax.eval_shape(_program(measure, point, names), _stacked([point], names))
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


def _stacked(points: Sequence[Values], names: Collection[str]) -> dict[str, Any]:
    def stack(*leaves):
        if any(isinstance(leaf, jax.Array) for leaf in leaves):
            return jnp.stack(leaves)
        return np.stack([np.asarray(leaf) for leaf in leaves])

    return {name: jax.tree.map(stack, *(p[name] for p in points)) for name in names}


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
