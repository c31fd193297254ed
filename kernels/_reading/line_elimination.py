"""Eliminate a resistive crossbar row by row.

Rows are added from the top. The part above a cut below row `i` is a source with one port
per bit line, which sends the currents

    J = C v - Y w

down into the next nodes of the bit lines, at voltages `w`. A bit-line segment in series
multiplies `Y` and `C` by `(I + r_bit Y)^-1`; the next row then adds `M` to `Y`, and `M 1`
to the column of `C` that belongs to its voltage, where `M` is the admittance of one word
line seen from its bit lines. This is block elimination of the nodal equations in a form
whose matrices `I + r_bit Y` have eigenvalues from 1 to about `1 + rows r_bit g`: the nodal
matrix itself has entries `1 / r_bit` and, at realistic values, a condition number beyond
float32.
"""

from typing import NamedTuple

import jax
import jax.lax as lax
import jax.numpy as jnp
import jax.scipy.linalg as jsl
from jaxtyping import Array, Float


class _Ladder(NamedTuple):
    """A word line whose bit-line nodes are grounded.

    - `cell`: conductances of the cells, in siemens.
    - `into`: current into each bit line at one volt at the driven end, in amperes.
    - `point`: impedance between each node and ground with the source off, in ohms.
    - `decay`: minus the logarithm of the attenuation from the source to each node.
    """

    cell: Float[Array, " *rows cols"]
    into: Float[Array, " *rows cols"]
    point: Float[Array, " *rows cols"]
    decay: Float[Array, " *rows cols"]


def eliminate_rows(
    g: Float[Array, "rows cols"], r_word: Float[Array, ""], r_bit: Float[Array, ""]
) -> Float[Array, "rows cols"]:
    """Compute the transfer matrix, in siemens, with blocks of `cols` by `cols`."""
    return eliminate_beside(g[None], r_word, r_bit)[0]


def eliminate_beside(
    g: Float[Array, "lines rows cols"], r_word: Float[Array, ""], r_bit: Float[Array, ""]
) -> Float[Array, "lines rows cols"]:
    """The same where several word lines meet the same node of each bit line in every row.

    Each has a source of its own: the results are the transfer matrices of all of them.
    """
    beside, rows, cols = g.shape
    identity = jnp.eye(cols, dtype=g.dtype)

    def through_segment(
        y: Float[Array, "cols cols"], both: Float[Array, "cols both"]
    ) -> Float[Array, "cols both"]:
        return jsl.solve(identity + r_bit * y, both, assume_a="pos")

    # With the checkpoint, reverse mode stores `Y` and `C` of every row, and no factors.
    @jax.checkpoint
    def add_row(both, row):
        ladders, i = row
        both = through_segment(both[:, :cols], both)
        for line, ladder in enumerate(ladders):
            both = both.at[:, :cols].add(_admittance(ladder))
            both = both.at[:, cols + line * rows + i].add(ladder.into)
        return both, None

    start = jnp.zeros((cols, cols + beside * rows), g.dtype)
    ladders = [_ladders(lines, r_word) for lines in g]
    both, _ = lax.scan(add_row, start, (ladders, jnp.arange(rows)))
    return through_segment(both[:, :cols], both[:, cols:]).T.reshape(g.shape)


def _ladders(g: Float[Array, "rows cols"], r_word: Float[Array, ""]) -> _Ladder:
    """Solve all word lines by the continued fractions of a ladder network."""

    def from_right(beyond, cell):
        total = cell + beyond / (1 + r_word * beyond)
        return total, total

    def from_left(before, cell):
        z = r_word + before
        return z / (1 + cell * z), z

    start = jnp.zeros(g.shape[:1], g.dtype)
    _, right = lax.scan(from_right, start, g.T, reverse=True)
    _, left = lax.scan(from_left, start, g.T)
    right, left = right.T, left.T
    # Logarithms, because the attenuation along a long line can underflow.
    decay = jnp.cumsum(jnp.log1p(r_word * right), 1)
    return _Ladder(g, g * jnp.exp(-decay), left / (1 + left * right), decay)


def _admittance(ladder: _Ladder) -> Float[Array, "cols cols"]:
    """Admittance of one word line between its bit lines.

    The row sums are `into`, and the diagonal follows by addition: every sum here and above
    has terms of one sign, so that no digits cancel however small `r_word` is.
    """
    cell, into, point, decay = ladder
    (cols,) = cell.shape
    below = jnp.tri(cols, dtype=bool)
    nearer = jnp.where(below, point[None, :], point[:, None])
    between = jnp.exp(-jnp.abs(decay[:, None] - decay[None, :]))
    off = 1 - jnp.eye(cols, dtype=cell.dtype)
    mutual = off * cell[:, None] * nearer * between * cell[None, :]
    return jnp.diag(into + jnp.sum(mutual, 1)) - mutual
