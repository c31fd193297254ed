"""Joule heat in the cells of a crossbar during one read."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from .._crossbar.abstract_crossbar import AbstractCrossbar
from .._crossbar.crossbar import Crossbar, check_crossbar
from .._programming.pooled import PooledCrossbar
from ..kernels import expected_read_energy, series_conductance


def driven_arrays(
    call: str, crossbar: AbstractCrossbar
) -> list[tuple[Crossbar, Bool[Array, "tiles rows"] | None]]:
    """The arrays of each kind, and which of their word lines have an input."""
    if isinstance(crossbar, PooledCrossbar):
        return [(b.crossbar, b.inputs < crossbar.shape[1]) for b in crossbar.banks]
    held: Any = crossbar
    check_crossbar(call, crossbar=held)
    return [(held, None)]


def uniform_mean_square(input_bits: int | None) -> float:
    """Mean square of uniform inputs: analog ones, or planes of which half are set."""
    return 1 / 3 if input_bits is None else 1 / 2


def read_heat(
    crossbar: Crossbar,
    mean_square: Float[Array, ""] | float,
    driven: Bool[Array, "tiles rows"] | None = None,
) -> tuple[Float[Array, " tiles"], Float[Array, "tiles rows"]]:
    """Joules of one read of each tile, and the mean square voltage of its word lines.

    Cells that hold no weight conduct too, where their word line is driven. `mean_square`
    is that of the inputs in units of the read voltage; `driven` says which word lines have
    an input, by default those within the matrix.
    """
    device, rows = crossbar.device, crossbar.array[0]
    if driven is None:
        line = crossbar.inputs[:, None] * rows + jnp.arange(rows, dtype=jnp.int32)[None]
        driven = line < crossbar.shape[1]
    square = jnp.asarray(mean_square * device.v_read**2, crossbar.dtype)
    lines = jnp.where(driven, square, 0)
    g = series_conductance(crossbar.conductance, device.r_access)
    return expected_read_energy(g.astype(crossbar.dtype), lines, device.t_read), lines
