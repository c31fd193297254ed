"""Eliminate a resistive crossbar line by line.

Rows are added from the top. Cut below row `i`, what lies above is a source with one port per
bit line: it sends down the currents

    J = C v - Y w

into the bit-line nodes of row `i` at voltages `w`. A bit-line segment in series turns `Y`
and `C` into `(I + r_bit Y)^-1` times themselves, and the next row adds `M` to `Y` and `M 1`
to the column of `C` that belongs to its voltage, `M` being the admittance of one word line
seen from its bit lines. This is block elimination of the nodal equations in a form whose
matrices `I + r_bit Y` have eigenvalues from 1 to about `1 + rows r_bit g`: the nodal matrix
itself has entries `1 / r_bit` and a condition number beyond float32.
"""

import jax
import jax.lax as lax
import jax.numpy as jnp
import jax.scipy.linalg as jsl
from jaxtyping import Array, Float


def eliminate_rows(
    g: Float[Array, "rows cols"], r_word: Float[Array, ""], r_bit: Float[Array, ""]
) -> Float[Array, "rows cols"]:
    """Transfer matrix of the crossbar, with blocks of `cols` by `cols`."""
    rows, cols = g.shape
    line, into = word_line_admittance(g, r_word)
    identity = jnp.eye(cols, dtype=g.dtype)

    def through_segment(y, both):
        return jsl.solve(identity + r_bit * y, both, assume_a="pos")

    # Reverse mode keeps `Y` and `C` of every row, and no factors: 2 rows cols**2 numbers.
    @jax.checkpoint
    def add_row(both, row):
        line_i, into_i, i = row
        both = through_segment(both[:, :cols], both)
        both = both.at[:, :cols].add(line_i)
        return both.at[:, cols + i].add(into_i), None

    start = jnp.zeros((cols, cols + rows), g.dtype)
    both, _ = lax.scan(add_row, start, (line, into, jnp.arange(rows)))
    return through_segment(both[:, :cols], both[:, cols:]).T


def word_line_admittance(
    g: Float[Array, "rows cols"], r_word: Float[Array, ""]
) -> tuple[Float[Array, "rows cols cols"], Float[Array, "rows cols"]]:
    """Admittance of each word line between its bit lines, and between them and its source.

    Both come from the continued fractions of a ladder network. Every sum has terms of one
    sign, so that no digits cancel however small the resistance.
    """
    rows, cols = g.shape
    zero = jnp.zeros((rows,), g.dtype)

    def from_right(beyond, cell):
        total = cell + beyond / (1 + r_word * beyond)
        return total, total

    def from_left(before, cell):
        z = r_word + before
        return z / (1 + cell * z), z

    _, right = lax.scan(from_right, zero, g.T, reverse=True)
    _, left = lax.scan(from_left, zero, g.T)
    right, left = right.T, left.T

    # Logarithms, as the attenuation along a long line can underflow.
    decay = jnp.cumsum(jnp.log1p(r_word * right), 1)
    into = g * jnp.exp(-decay)
    point = left / (1 + left * right)  # impedance of a node, all sources off
    below, on = jnp.tri(cols, dtype=bool)[None], jnp.eye(cols, dtype=g.dtype)[None]
    nearer = jnp.where(below, point[:, None, :], point[:, :, None])
    between = jnp.exp(-jnp.abs(decay[:, :, None] - decay[:, None, :]))
    mutual = (1 - on) * g[:, :, None] * nearer * between * g[:, None, :]
    own = into + jnp.sum(mutual, 2)
    return on * own[:, :, None] - mutual, into
