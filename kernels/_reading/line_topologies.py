"""Crossbars whose lines run otherwise: pairs on one bit line, and source lines.

The four topologies are those of CrossSim (Sandia, simulator/circuits/array):

- *Input source*: the word line that carries the input feeds the cells
    (`line_resistance.py`). *Separate source*: lines parallel to the bit lines feed them,
    driven at the top, where bit lines end at the bottom. The input only opens the access
    transistors of its row, ideal switches, so it is one bit, and the output is no linear
    function of it.
- *Not interleaved*: the two cells of a pair are in arrays of their own. *Interleaved*: both
    meet the bit line at the same node. One is fed by a positive voltage and the other by a
    negative one, on lines of their own, and their currents cancel on the spot.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from .._cells.device import Scalar
from .line_elimination import eliminate_beside
from .line_resistance import bit_drop, cell_voltages, check_segments


def interleaved_transfer(
    g: Float[Array, "polarity rows cols"], r_word: Scalar, r_bit: Scalar
) -> Float[Array, "polarity rows cols"]:
    """Transfer matrices of a crossbar of pairs, whose cells share the nodes of bit lines.

    **Arguments:**

    - `g`: conductances of the positive and of the negative cells, in siemens.
    - `r_word`, `r_bit`: as in `transfer_matrix`. The word lines of both cells have
        segments of `r_word`.

    **Returns:**

    The matrices `T`, in siemens, of both; currents at the bottom of the bit lines are
    `v @ (T[0] - T[1])`. It takes `O(rows cols**3)`.

    **Raises:**

    - `ValueError`: if a resistance is a negative number.

    **Example:**

        >>> g = jnp.array([[[1e-4]], [[1e-4]]])
        >>> T = sj.kernels.interleaved_transfer(g, 0.0, 1e4)
        >>> print(np.asarray(1e6 * T[:, 0, 0]).round(3))  # 10 k to ground beside 10 k
        [33.333 33.333]
    """
    r_word, r_bit = check_segments("interleaved_transfer", g, r_word, r_bit)
    return eliminate_beside(g, r_word, r_bit)


def separate_source_conductances(
    g: Float[Array, "polarity rows cols"],
    active: Bool[Array, " rows"],
    r_source: Scalar,
    r_bit: Scalar,
    *,
    interleaved: bool = False,
    tolerance: float | None = None,
    max_iterations: int = 5000,
) -> Float[Array, "polarity rows cols"]:
    """What each cell conducts per volt on its source line, as long as some rows are open.

    **Arguments:**

    - `g`: conductances of the cells, in siemens.
    - `active`: the rows whose access transistors are open to the current.
    - `r_source`, `r_bit`: resistance of one segment of a source line and of a bit line, in
        ohms, from 0 up. A segment of the source line precedes every cell, and one of the
        bit line follows it.
    - `interleaved`: whether both cells of a pair meet the same bit line; the second of them
        is then fed by the opposite voltage. Static.
    - `tolerance`, `max_iterations`: as in `solve_nodes`.

    **Returns:**

    Currents of the cells over the voltage, in siemens; zero in other rows. The current of a
    bit line is the sum over its cells. NaN if the solve did not converge.

    **Raises:**

    - `ValueError`: if a resistance is a negative number, or if `interleaved` without pairs.

    **Example:**

        >>> g, both = jnp.full((1, 2, 1), 1e-4), jnp.array([True, True])
        >>> G = sj.kernels.separate_source_conductances(g, both, 0.0, 1e4)
        >>> print(np.asarray(1e6 * G[0, :, 0]).round(3))  # the upper sees 20 k to ground
        [20. 40.]
    """
    call = "separate_source_conductances"
    r_source, r_bit = check_segments(call, g, r_source, r_bit)
    if interleaved and len(g) != 2:
        raise ValueError(
            f"`sedma_jax.kernels.{call}` needs pairs of cells to interleave. Got {len(g)} "
            "cell a weight. Leave `interleaved` out, or map weights by `differential`."
        )
    if tolerance is None:
        tolerance = 16 * float(jnp.finfo(g.dtype).eps)
    sign = jnp.ones((len(g), 1, 1), g.dtype)
    if interleaved:
        sign = sign.at[1].set(-1)
    source_drop = jax.vmap(lambda x: bit_drop(x[::-1])[::-1])

    def shared(x):
        below = bit_drop(jnp.sum(x, 0))[None] if interleaved else jax.vmap(bit_drop)(x)
        return r_source * source_drop(x) + r_bit * below

    conducting = jnp.where(active[None, :, None], g, 0)
    applied = jnp.broadcast_to(sign, g.shape)
    u, _ = cell_voltages(shared, conducting, applied, tolerance, max_iterations)
    return conducting * u * sign
