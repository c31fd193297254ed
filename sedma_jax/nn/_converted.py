"""Refuse to convert a layer that is analog or hardware-aware already."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.tree_util as jtu
from jaxtyping import PyTree

from ._matrix import AnalogMatrix

# By class: how a converted layer becomes digital again.
_BACK = {"analog": "digitize", "hardware-aware": "plain"}


def refuse_converted(
    call: str, model: PyTree, where: Callable[[str, Any], bool] | None
) -> None:
    """Refuse converted layers, but those that `where` leaves out.

    **Raises:**

    - `ValueError`: if there is one; it has the names of all.
    """
    found, kinds = [], set()
    is_leaf = lambda node: converted_kind(node) is not None
    for path, node in jtu.tree_leaves_with_path(model, is_leaf=is_leaf):
        kind, name = converted_kind(node), jtu.keystr(path).removeprefix(".")
        if kind is not None and (where is None or where(name, node)):
            found.append(f"{type(node).__name__} at {name!r}")
            kinds.add(kind)
    raise_converted(call, found, kinds)


def raise_converted(call: str, found: list[str], kinds: set[str]) -> None:
    """Raise, if any layer was found."""
    if found:
        room = f"sedma_jax.nn.{call}".rpartition(".")[0]
        back = " or ".join(f"`{room}.{_BACK[kind]}`" for kind in sorted(kinds))
        raise ValueError(
            f"`sedma_jax.nn.{call}` needs digital layers, and converts none twice. Got "
            f"{', '.join(found)}. Start from {back} of the model, or leave them out by "
            "`where`."
        )


def converted_kind(node: Any) -> str | None:
    """Whether a node is an analog layer, a hardware-aware one, or neither."""
    if not isinstance(node, eqx.Module):
        return None
    if hasattr(node, "hardware") and hasattr(node, "drawn"):
        return "hardware-aware"
    held = getattr(node, "matrix", None)
    projection = getattr(getattr(node, "query_proj", None), "matrix", None)
    analog = isinstance(held, AnalogMatrix) or isinstance(projection, AnalogMatrix)
    return "analog" if analog else None
