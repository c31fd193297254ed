"""Ranges and errors of the converters of each bit line, laid out like strips."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..kernels import ConverterErrors
from .converters import ADC


def line_ranges(
    adc: ADC, scale: Float[Array, "tiles cols"], strips: tuple[int, int]
) -> Float[Array, "strips lines"] | None:
    """Full scale of the converter of each bit line; none if the range is automatic."""
    if adc.full_scale is None:
        return None
    remedy = "`calibrated_adc` makes it."
    return _on_lines(scale, strips, "ADC", "full_scale", adc.full_scale, remedy)


def line_errors(
    adc: ADC, scale: Float[Array, "tiles cols"], strips: tuple[int, int]
) -> ConverterErrors | None:
    """Errors of the converter of each bit line, laid out like strips."""
    errors = adc.errors
    if errors is None:
        return None
    remedy = "`draw_adc` makes errors that fit."
    fields = {
        name: _on_lines(scale, strips, "ConverterErrors", name, value, remedy)
        for name in ("offset", "gain", "inl", "noise")
        if (value := getattr(errors, name)) is not None
    }
    tiles, cols = scale.shape
    leaves, tree = jax.tree.flatten(errors.search)
    shared = getattr(errors.search, "lines", 1)
    if cols % shared or any(leaf.shape[:2] != (tiles, cols // shared) for leaf in leaves):
        raise ValueError(
            "`sedma_jax.ADC` needs a search with an entry for each tile, then for each bit "
            f"line or group of them: {(tiles, cols // shared)}. Got shapes "
            f"{[leaf.shape for leaf in leaves]}. {remedy}"
        )
    laid = [_side_by_side(leaf, strips[0]) for leaf in leaves]
    return ConverterErrors(**fields, search=tree.unflatten(laid))


def _side_by_side(leaf: Array, strips: int) -> Array:
    """Entries of tiles as those of strips, one tile beside the other."""
    tiles, entries = leaf.shape[:2]
    width = tiles // max(strips, 1)
    return leaf.reshape(strips, width * entries, *leaf.shape[2:])


def _on_lines(
    scale: Float[Array, "tiles cols"],
    strips: tuple[int, int],
    record: str,
    name: str,
    value: Any,
    remedy: str,
) -> Float[Array, "strips lines"]:
    """One number for each bit line, of what is given for tiles and bit lines."""
    tiles, cols = scale.shape
    value = jnp.asarray(value, scale.dtype)
    shape = (1,) * (3 - value.ndim) + value.shape
    if len(shape) != 3 or any(
        have not in (1, want) for have, want in zip(shape, (tiles, 1, cols), strict=True)
    ):
        raise ValueError(
            f"`sedma_jax.{record}` needs a `{name}` for each tile or each bit line, in a "
            f"shape that broadcasts to {(tiles, 1, cols)}. Got {value.shape}. {remedy}"
        )
    value = jnp.broadcast_to(value.reshape(shape), (tiles, 1, cols))
    return value.reshape(strips)
