"""Resistance of the lines of a crossbar, as an effect on what its cells conduct."""

import dataclasses
from collections.abc import Callable
from functools import partial

import jax
import jax.lax as lax
from jaxtyping import Array, Float

from .._mappings import forgettable
from ..kernels import (
    FROM_ZERO,
    check_given,
    effective_conductances,
    interleaved_transfer,
    series_conductance,
    transfer_matrix,
)
from .crossbar import Crossbar, check_crossbar
from .effects import Conductances, Scalar, TracedScalar, holding

Solve = Callable[[Float[Array, "*cells"], Scalar, Scalar], Float[Array, "*cells"]]


def with_line_resistance(
    crossbar: Crossbar, r_word: Scalar, r_bit: Scalar, *, interleaved: bool = False
) -> Crossbar:
    """Read through word lines and bit lines that have resistance, solved exactly.

    The positive and the negative cells of a pair sit in separate crossbars, with the
    drivers at the first column and the converters at the last row. The reference of a
    single cell has ideal lines. Cells that hold no weight conduct too.

    The result holds *effective conductances*: the contribution of each word line to each
    bit line, access transistor included. Its `device` therefore has no access resistance,
    and its window is the one that a read sees through the transistor. Effects that are
    called later act on effective conductances, so call this one after those on cells.

    With `interleaved` the two cells of a pair meet the same node of one bit line instead,
    and word lines of opposite voltage feed them, so that their currents cancel on the spot
    (CrossSim's interleaved topology). `separate_source_matvec` has source lines.

    Elimination costs `O(rows**4)` per array; see `with_approximate_line_resistance`.

    **Arguments:**

    - `crossbar`: as programmed and aged.
    - `r_word`, `r_bit`: of the wire between two cells, in ohms, from 0 up.
    - `interleaved`: whether both cells of a pair share a bit line.

    **Raises:**

    - `ValueError`: if a resistance is negative or not finite, or if `interleaved` and
        weights are single cells.

    **Example:**

        >>> crossbar = sj.program_exactly(np.ones((4, 4)), "epiram", array=4)
        >>> real = sj.with_line_resistance(crossbar, 10.0, 10.0)  # ohms from cell to cell
        >>> lost = 1 - sj.matvec(real, np.ones(4), key=jr.key(0)) / 4
        >>> bool(jnp.all((lost > 0) & (lost < 0.01)))  # IR drop
        True
    """
    if interleaved:
        check_crossbar("with_line_resistance", crossbar=crossbar)
        if crossbar.conductance.shape[1] != 2:
            raise ValueError(
                "`sedma_jax.with_line_resistance` needs pairs of cells to interleave. Got "
                "one cell a weight. Leave `interleaved` out, or program with "
                "`mapping=differential`."
            )
    solve = interleaved_transfer if interleaved else transfer_matrix
    return _behind_lines("with_line_resistance", crossbar, r_word, r_bit, solve)


def with_approximate_line_resistance(
    crossbar: Crossbar, r_word: Scalar, r_bit: Scalar
) -> Crossbar:
    """Approximate `with_line_resistance` by one solve per array, for equal inputs.

    The result is exact for equal inputs, and exact to first order in the resistances for
    others; see `sedma_jax.kernels.effective_conductances`.

    Arguments and errors are those of `with_line_resistance`.

    **Example:**

        >>> crossbar, x = sj.program_exactly(np.ones((4, 4)), "epiram", array=4), np.ones(4)
        >>> exact = sj.with_line_resistance(crossbar, 10.0, 10.0)
        >>> near = sj.with_approximate_line_resistance(crossbar, 10.0, 10.0)
        >>> y, z = (sj.matvec(c, x, key=jr.key(0)) for c in (exact, near))
        >>> bool(jnp.allclose(y, z, rtol=1e-4, atol=0))  # for equal inputs they agree
        True
    """
    return _behind_lines(
        "with_approximate_line_resistance", crossbar, r_word, r_bit, effective_conductances
    )


def _behind_lines(
    name: str, crossbar: Crossbar, r_word: Scalar, r_bit: Scalar, solve: Solve
) -> Crossbar:
    """The crossbar with effective conductances, for the public function `name`."""
    check_crossbar(name, crossbar=crossbar)
    device, remedy = crossbar.device, "It is in ohms. Zero is an ideal line."
    wires = {"r_word": r_word, "r_bit": r_bit}
    check_given(f"sedma_jax.{name}", FROM_ZERO, remedy, **wires)
    effective = _effective(crossbar.conductance, device.r_access, r_word, r_bit, solve)
    seen = lambda g: g / (1 + g * device.r_access)
    device = dataclasses.replace(
        device, g_min=seen(device.g_min), g_max=seen(device.g_max), r_access=0.0
    )
    return holding(dataclasses.replace(crossbar, device=device), effective)


@forgettable
@partial(jax.jit, static_argnames=("solve",))
def _effective(
    conductance: Conductances,
    r_access: TracedScalar,
    r_word: TracedScalar,
    r_bit: TracedScalar,
    solve: Solve,
) -> Conductances:
    through = series_conductance(conductance, r_access).astype(conductance.dtype)
    # Cells of a pair are one circuit, or one each.
    flat = through
    if solve is not interleaved_transfer:
        flat = through.reshape(-1, *through.shape[2:])
    return lax.map(lambda g: solve(g, r_word, r_bit), flat).reshape(through.shape)
