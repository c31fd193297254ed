"""Weights of PyTorch, by their names, into models of JAX.

A place of a model says from which arrays of PyTorch it is made, and how: layouts differ
between the libraries, and some layers of PyTorch hold several matrices in one array.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from ..._files.state_files import load_state
from ...kernels import check_kind, shown

Shape = tuple[int, ...]
Names = Mapping[str, str] | Callable[[str], str | None]
Weights = Mapping[str, Any] | str | os.PathLike[str]

_SHOWN = 4  # names in a message
# Counters of batches, which only an average without a momentum needs.
_COUNTERS = "num_batches_tracked"


class LoadReport(NamedTuple):
    """What came of loading weights.

    - `loaded`: the names in the file of what each array of the model was made from.
    - `other_shape`: arrays of the model with another shape than the file has: the names in
        the file, the shapes wanted there, and those found.
    - `missing`: arrays of the model that the file has nothing for; they stay as they were.
    - `unused`: names in the file that the model has no place for.

    **Example:**

        >>> import equinox as eqx
        >>> layer = eqx.nn.Linear(2, 3, key=jr.key(0))
        >>> state = {"weight": np.ones((3, 2)), "scale": np.ones(3)}
        >>> _, report = sj.nn.load_pytorch(layer, state, strict=False)
        >>> report.missing, report.unused
        (('bias',), ('scale',))
    """

    loaded: dict[str, tuple[str, ...]]
    other_shape: dict[str, tuple[tuple[str, ...], tuple[Shape, ...], tuple[Shape, ...]]]
    missing: tuple[str, ...]
    unused: tuple[str, ...]


class Recipe(NamedTuple):
    """How an array of a model is made: from which names, of which shapes, and by what."""

    names: tuple[str, ...]
    shapes: tuple[Shape, ...]
    build: Callable[..., np.ndarray]


class Place(NamedTuple):
    """An array of a model, and the recipes that make it; the first possible one counts."""

    path: str
    recipes: tuple[Recipe, ...]


def as_it_is(name: str, shape: Shape, wanted: Shape | None = None) -> Recipe:
    """An array that both libraries hold alike, or `wanted` as another shape of it."""
    return Recipe((name,), (shape,), lambda array: array.reshape(wanted or shape))


def joined(*parts: str) -> str:
    """Names joined by dots; empty ones are left out."""
    return ".".join(part for part in parts if part)


def part_of_three(prefix: str, which: int, rows: int, rest: Shape, kind: str) -> Recipe:
    """Query, key or value from the array that `torch.nn.MultiheadAttention` has of all."""
    name = joined(prefix, f"in_proj_{kind}")
    cut = lambda array: array[which * rows : (which + 1) * rows]
    return Recipe((name,), ((3 * rows, *rest),), cut)


def transposed_conv(array: np.ndarray, groups: int = 1) -> np.ndarray:
    """Kernel of a transposed convolution, inputs first, as one of a dilated convolution.

    PyTorch adds `x[c, i] W[c, o, k]` to output `s i + k`; a convolution over the input with
    zeros between its entries reads the kernel from its other end, outputs first.
    """
    inputs, outputs, *kernel = array.shape
    parts = array.reshape(groups, inputs // groups, outputs, *kernel).swapaxes(1, 2)
    whole = parts.reshape(groups * outputs, inputs // groups, *kernel)
    return np.flip(whole, axis=tuple(range(2, whole.ndim)))


def fill(
    call: str, places: Sequence[Place], weights: Weights, names: Names | None, strict: bool
) -> tuple[dict[str, np.ndarray], LoadReport]:
    """The arrays for the places of a model that some weights have, and the report."""
    state = _state(call, weights)
    at = _renamed(call, state, names)
    values: dict[str, np.ndarray] = {}
    loaded, other, missing, used = {}, {}, [], set()
    for place in places:
        recipe = next((r for r in place.recipes if all(n in at for n in r.names)), None)
        if recipe is None:
            missing.append(place.path)
            continue
        theirs = tuple(at[name] for name in recipe.names)
        used.update(theirs)
        found = tuple(state[name].shape for name in theirs)
        if found == recipe.shapes:
            values[place.path] = recipe.build(*(state[name] for name in theirs))
            loaded[place.path] = theirs
        else:
            other[place.path] = theirs, recipe.shapes, found
    rest = [n for n in state if n not in used and n.rpartition(".")[2] != _COUNTERS]
    report = LoadReport(loaded, other, tuple(missing), tuple(rest))
    if strict and (other or missing or rest):
        raise ValueError(
            f"`{call}` needs weights that fit the model. Got {_told(report)}. Map names by "
            "`names`, or load what fits by `strict=False`."
        )
    return values, report


def cast(value: np.ndarray, like: Any) -> Any:
    """An array of the file as the model holds it."""
    return jnp.asarray(
        value.astype(np.float32) if value.dtype.kind == "V" else value
    ).astype(like.dtype)


def _told(report: LoadReport) -> str:
    said = []
    if report.other_shape:
        path, (names, wanted, found) = next(iter(report.other_shape.items()))
        count = len(report.other_shape)
        other = f"`{', '.join(names)}` {_shapes(found)} for `{path}`"
        said.append(f"{count} of another shape ({other}, wanted {_shapes(wanted)})")
    if report.missing:
        said.append(f"nothing for {_listed(report.missing)}")
    if report.unused:
        said.append(f"no place for {_listed(report.unused)}")
    return "; ".join(said)


def _shapes(shapes: Sequence[Shape]) -> str:
    return ", ".join(map(str, shapes))


def _listed(names: Sequence[str]) -> str:
    rest = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(f"`{name}`" for name in names[:_SHOWN]) + rest


def _state(call: str, weights: Weights) -> dict[str, np.ndarray]:
    """The arrays of weights by name, whoever holds them."""
    if isinstance(weights, str | os.PathLike):
        return load_state(weights, f"`{call}`")
    remedy = "Such as `model.state_dict()`, or the path of a .safetensors file."
    check_kind(call, Mapping, "arrays by name, or a path", remedy, weights=weights)
    return {str(name): _array(call, name, value) for name, value in weights.items()}


def _array(call: str, name: Any, value: Any) -> np.ndarray:
    if hasattr(value, "detach"):  # of PyTorch, perhaps on a GPU or with a gradient
        value = value.detach().cpu()
        if "bfloat16" in str(value.dtype):  # NumPy has none
            value = value.float()
    array = np.asarray(value)
    if array.dtype.kind not in "biufV":
        raise ValueError(
            f"`{call}` needs arrays of real numbers. Got {shown(value)} for `{name}`. "
            "Leave it out."
        )
    return array


def _renamed(call: str, state: Mapping[str, Any], names: Names | None) -> dict[str, str]:
    """The name in the file of each name in the model."""
    rename = names if callable(names) else lambda name: _by_prefix(names or {}, name)
    at: dict[str, str] = {}
    for name in state:
        new = rename(name)
        if new is None:
            continue
        new = canonical(new)
        if new in at:
            raise ValueError(
                f"`{call}` needs one name of the file for each place. Got `{at[new]}` and "
                f"`{name}` for `{new}`. Correct `names`."
            )
        at[new] = name
    if isinstance(names, Mapping):
        lost = [p for p in names if not any(_leads(p, name) for name in state)]
        if lost:
            raise ValueError(
                f"`{call}` needs `names` to map names of the file. Got {lost[0]!r}. There "
                f"are {_listed(list(state))}."
            )
    return at


def canonical(path: str) -> str:
    """A path as PyTorch writes names: `layers[0].weight` is `layers.0.weight`."""
    text = path.replace("['", ".").replace("']", "").replace("[", ".").replace("]", "")
    return text.strip(".")


def _leads(prefix: str, name: str) -> bool:
    return not prefix or name == prefix or name.startswith(prefix + ".")


def _by_prefix(names: Mapping[str, str], name: str) -> str:
    fitting = [prefix for prefix in names if _leads(prefix, name)]
    if not fitting:
        return name
    prefix = max(fitting, key=len)
    return joined(names[prefix], name[len(prefix) :].lstrip("."))
