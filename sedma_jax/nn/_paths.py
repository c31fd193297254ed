"""Layers of a model by their paths: names, keys, options, refusals."""

import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import jax.random as jr
import jax.tree_util as jtu
from jaxtyping import PRNGKeyArray

Path = str


def path_name(path) -> Path:
    """A path of JAX's as users write it, such as `layers[0].mlp.fc1`."""
    return jtu.keystr(path).removeprefix(".")


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


def leads_to(to: Path, path: Path) -> bool:
    """Whether `path` is `to`, or inside of it."""
    return not to or path == to or path.startswith((to + ".", to + "["))


def of_path(given, path, layer, default):
    """What a value, mapping or function says of a layer."""
    if isinstance(given, Mapping):
        fitting = [place for place in given if leads_to(place, path)]
        return given[max(fitting, key=len)] if fitting else default
    return given(path, layer) if callable(given) else given


def check_paths(caller: str, paths: Iterable[Path], **given: Any) -> None:
    """Refuse mappings with paths that lead nowhere."""
    for name, mapping in given.items():
        if isinstance(mapping, Mapping):
            fits = (lambda a, b: a == b) if name == "plans" else leads_to
            lost = [to for to in mapping if not any(fits(to, path) for path in paths)]
            if lost:
                raise ValueError(
                    f"`sedma_jax.nn.{caller}` needs the paths in `{name}` to lead to "
                    f"layers that are converted. Got {lost}. There are {list(paths)}."
                )
