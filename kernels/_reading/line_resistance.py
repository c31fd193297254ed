"""Solve a crossbar whose word lines and bit lines have resistance.

Word line `i` is driven at its left end and bit line `j` is held at virtual ground at its
bottom end. A segment of resistance `r_word` precedes every cell of a word line, and one of
`r_bit` follows every cell of a bit line. The lines have `cols` and `rows` segments, which
is the geometry of Joksas & Mehonic (2020), SoftwareX 12, 100617.

The circuit is linear, so that output currents are `v @ T` with a *transfer matrix* `T` in
siemens. It has the shape of the conductances, and equals them if the lines are ideal.

- `transfer_matrix` is exact and computes all of `T` by elimination, without iteration. It
    takes 0.13 s at 128 x 128 on one core and 2.2 s at 256 x 256 on two busy ones
    (float64), and suits many vectors.
- `solve_nodes` solves for given voltages to a tolerance, with every node voltage, by
    conjugate gradients. It takes 4 ms and 24 ms per vector at these sizes, and suits fewer
    than about 30 or 90 vectors.
- `effective_conductances` is a close estimate of `T` that takes less time than one
    `solve_nodes`.

All three accept a resistance of zero: they are written in impedances, where zero is an
ordinary value and not a limit.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.lax as lax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from .._cells.device import Scalar
from .line_elimination import eliminate_rows

Shared = Callable[[Float[Array, "*cells"]], Float[Array, "*cells"]]


class NodalSolution(eqx.Module):
    """Currents and node voltages of one crossbar, and their accuracy.

    - `currents`: currents at the bottom of the bit lines, in amperes.
    - `word_line`, `bit_line`: voltages of the two nodes of each cell, in volts.
    - `residual`: violation of Kirchhoff's laws, `|v - A u| / |v|`, recomputed from the
        solution. Both norms weigh the cells by their conductance; in that norm `A` shrinks
        no vector, so that the residual bounds the error of the cell voltages relative to
        `v`.
    - `iterations`: number of conjugate gradient steps.
    - `converged`: false if `max_iterations` ran out. Everything else is then NaN.

    **Example:**

        >>> g, volts = jnp.array([[1e-4]]), jnp.array([0.5])
        >>> solution = sj.kernels.solve_nodes(g, volts, 1e3, 1e3)
        >>> print(np.asarray(1e6 * solution.currents).round(3))  # 0.5 V / (1 + 10 + 1) kOhm
        [41.667]
        >>> cell = solution.word_line - solution.bit_line  # volts
        >>> print(np.asarray(cell).round(3))
        [[0.417]]
    """

    currents: Float[Array, "*batch cols"]
    word_line: Float[Array, "*batch rows cols"]
    bit_line: Float[Array, "*batch rows cols"]
    residual: Float[Array, "*batch"]
    iterations: Int[Array, "*batch"]
    converged: Bool[Array, "*batch"]


def transfer_matrix(
    g: Float[Array, "rows cols"], r_word: Scalar, r_bit: Scalar
) -> Float[Array, "rows cols"]:
    """Transfer matrix of a crossbar with line resistance, exact up to rounding.

    Eliminates the shorter side of the array line by line, in
    `O(max(rows, cols) * min(rows, cols)**3)`; see `line_elimination.py`.

    **Arguments:**

    - `g`: conductances of the cells, in siemens, from 0 up.
    - `r_word`, `r_bit`: resistance of one segment of a word line and of a bit line, in
        ohms, from 0 up.

    **Returns:**

    The matrix `T`, in siemens; output currents are `v @ T`.

    **Raises:**

    - `ValueError`: if a resistance is a negative number.

    **Example:**

        >>> g = jnp.array([[1e-4]])
        >>> T = sj.kernels.transfer_matrix(g, 1e3, 1e3)  # 1 k, 10 k and 1 k in series
        >>> print(np.asarray(1e6 * T).round(3))
        [[83.333]]
    """
    r_word, r_bit = check_segments("transfer_matrix", g, r_word, r_bit)
    rows, cols = g.shape
    if cols <= rows:
        return eliminate_rows(g, r_word, r_bit)
    # Reciprocity: driving the bit lines from the bottom and grounding the word lines on the
    # left yields the transpose. Seen from that side, the array is flipped and transposed.
    return eliminate_rows(g[::-1, ::-1].T, r_bit, r_word).T[::-1, ::-1]


def effective_conductances(
    g: Float[Array, "rows cols"],
    r_word: Scalar,
    r_bit: Scalar,
    *,
    tolerance: float = 1e-6,
    max_iterations: int = 5000,
) -> Float[Array, "rows cols"]:
    """Estimate the transfer matrix by the cell voltages when all lines are driven.

    The estimate is `g * u`, with `u` the voltage across the cells at one volt on every word
    line. Its column sums are those of the transfer matrix by construction, and so are its
    row sums, since by reciprocity `u` also belongs to the crossbar driven from its outputs.
    It is exact to first order in the resistances, for equal voltages, and if either
    resistance is zero. The remaining error, from currents that flow through other word
    lines, is of second order, and the part of it that a uniform array shows is included.

    The table gives errors against `transfer_matrix`, as Frobenius norms relative to the
    exact matrix, which are root-mean-square errors of the currents at independent voltages
    of mean zero. Cells are uniform from 0.1 to 1 of `g_max`, and word lines and bit lines
    are alike. The errors in brackets are those of uncorrected `g`.

    | `r g_max` | 16 x 16          | 64 x 64          | 128 x 128        | 256 x 256       |
    | --------- | ---------------- | ---------------- | ---------------- | --------------- |
    | 1e-6      | 2.8e-9 (1.2e-4)  | 5.1e-7 (1.6e-3)  | 4.6e-6 (6.4e-3)  | 7.2e-5 (2.5e-2) |
    | 1e-5      | 2.8e-7 (1.2e-3)  | 2.9e-5 (1.6e-2)  | 4.3e-4 (6.4e-2)  | 5.4e-3 (0.25)   |
    | 1e-4      | 1.3e-5 (1.2e-2)  | 2.4e-3 (0.16)    | 2.3e-2 (0.61)    | 9.5e-2 (2.1)    |
    | 1e-3      | 1.1e-3 (0.12)    | 6.5e-2 (1.5)     | 0.14 (4.4)       | 0.14 (10)       |
    | 1e-2      | 4.2e-2 (1.1)     | 0.14 (8.5)       | 0.13 (18)        | 0.12 (37)       |

    For cells that are on or off at random, in the ratio 100 to 1, errors are up to twice as
    large; for voltages of one sign they fall to as little as a twentieth.

    **Arguments:**

    - `g`, `r_word`, `r_bit`: as in `transfer_matrix`.
    - `tolerance`, `max_iterations`: as in `solve_nodes`. The default is far below the error
        of the estimate.

    **Returns:**

    Effective conductances, in siemens, to replace `g` in an ideal product; NaN if the solve
    did not converge.

    **Example:**

        >>> g = jnp.full((4, 4), 1e-5)
        >>> exact = sj.kernels.transfer_matrix(g, 10.0, 10.0)
        >>> near = sj.kernels.effective_conductances(g, 10.0, 10.0)
        >>> bool(jnp.max(jnp.abs(near / exact - 1)) < 1e-4)
        True
    """
    one = jnp.ones(g.shape[:1], g.dtype)
    r_word, r_bit = check_segments("effective_conductances", g, r_word, r_bit)
    shared = _shared(r_word, r_bit)
    applied = jnp.broadcast_to(one[:, None], g.shape)
    u, _ = cell_voltages(shared, g, applied, tolerance, max_iterations)
    return g * u


def solve_nodes(
    g: Float[Array, "rows cols"],
    voltages: Float[Array, "*batch rows"],
    r_word: Scalar,
    r_bit: Scalar,
    *,
    tolerance: float | None = None,
    max_iterations: int = 5000,
) -> NodalSolution:
    """Solve for the currents and node voltages of a crossbar with line resistance.

    The unknown is the voltage across the cells, `u = v - L (g u)`, where `L` holds the
    resistances that two cells share: `r_word` times the segments common to them on a word
    line plus `r_bit` times those on a bit line. `A = I + L g` is symmetric in the inner
    product weighted by `g` and shrinks no vector in its norm, so that conjugate gradients
    need a small multiple of `sqrt(1 + r g n**2)` steps: 5 to 30 at realistic resistances.
    The nodal Laplacian, with entries `1 / r`, is undefined at `r = 0` and far worse
    conditioned.

    Derivatives are those of the equation, by one further solve each, not of the steps.

    **Arguments:**

    - `g`, `r_word`, `r_bit`: as in `transfer_matrix`.
    - `voltages`: word-line voltages, in volts.
    - `tolerance`: residual at which to stop, relative to the applied voltages. Static; by
        default 16 times the machine epsilon of the dtype.
    - `max_iterations`: steps after which to give up. Static.

    **Returns:**

    A `NodalSolution`. If the solve did not converge, it is NaN, and so are its derivatives.

    **Raises:**

    - `ValueError`: if `voltages` does not have one entry per word line, or a resistance is
        a negative number.

    **Example:**

        >>> g, volts = jnp.full((4, 4), 1e-5), jnp.full(4, 0.5)
        >>> solution = sj.kernels.solve_nodes(g, volts, 10.0, 10.0)
        >>> exact = np.dot(volts, sj.kernels.transfer_matrix(g, 10.0, 10.0))
        >>> bool(jnp.allclose(solution.currents, exact, rtol=1e-4, atol=0))
        True
    """
    if voltages.shape[-1] != g.shape[0]:
        raise ValueError(
            "`sedma_jax.kernels.solve_nodes` needs one voltage per word line. Got "
            f"{voltages.shape=} for {g.shape=}. Word lines are the rows of `g`."
        )
    r_word, r_bit = check_segments("solve_nodes", g, r_word, r_bit)
    if tolerance is None:
        tolerance = 16 * float(jnp.finfo(g.dtype).eps)

    def solve(v):
        applied = jnp.broadcast_to(v[:, None], g.shape)
        u, (iterations, converged) = cell_voltages(
            _shared(r_word, r_bit), g, applied, tolerance, max_iterations
        )
        x = g * u
        word_line = v[:, None] - r_word * word_drop(x)
        bit_line = r_bit * bit_drop(x)
        return NodalSolution(
            currents=jnp.sum(x, 0),
            word_line=word_line,
            bit_line=bit_line,
            residual=_residual(g, v, u, word_line - bit_line),
            iterations=iterations,
            converged=converged,
        )

    for _ in voltages.shape[:-1]:
        solve = jax.vmap(solve)
    return solve(voltages)


def check_segments(
    name: str, g: Float[Array, "..."], r_word: Scalar, r_bit: Scalar
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Check the segment resistances, and convert them to the dtype of `g`."""
    for r in (r_word, r_bit):
        if isinstance(r, int | float) and not r >= 0:
            raise ValueError(
                f"`sedma_jax.kernels.{name}` needs segment resistances from 0 ohms up. "
                f"Got {r_word=}, {r_bit=}. Zero is an ideal line."
            )
    return jnp.asarray(r_word, g.dtype), jnp.asarray(r_bit, g.dtype)


def word_drop(x: Float[Array, "rows cols"]) -> Float[Array, "rows cols"]:
    """Segments shared on a word line, times the cell currents: `sum_k min(j, k) x_k`."""
    return jnp.cumsum(lax.cumsum(x, 1, reverse=True), 1)


def bit_drop(x: Float[Array, "rows cols"]) -> Float[Array, "rows cols"]:
    """Segments shared on a bit line, times the cell currents."""
    return lax.cumsum(jnp.cumsum(x, 0), 0, reverse=True)


def _shared(r_word: Float[Array, ""], r_bit: Float[Array, ""]) -> Shared:
    """What cells drop across the segments that they share with others."""
    return lambda x: r_word * word_drop(x) + r_bit * bit_drop(x)


def cell_voltages(
    shared: Shared,
    g: Float[Array, "*cells"],
    applied: Float[Array, "*cells"],
    tolerance: float,
    max_iterations: int,
) -> tuple[Float[Array, "*cells"], tuple[Int[Array, ""], Bool[Array, ""]]]:
    """Solve `u + shared(g u) = applied` for the voltages across the cells.

    `shared` is linear, symmetric, and negative for no currents. Also returns the steps, and
    whether they sufficed.
    """

    def solve(_, b):
        return _conjugate_gradients(shared, g, b, tolerance, max_iterations)

    def solve_transpose(_, b):
        # (I + g L)^-1 = I - g (I + L g)^-1 L
        y, aux = solve(_, shared(b))
        return b - g * y, aux

    return lax.custom_linear_solve(
        lambda u: u + shared(g * u),
        applied,
        solve,
        solve_transpose,
        has_aux=True,
    )


def _residual(
    g: Float[Array, "rows cols"],
    v: Float[Array, " rows"],
    u: Float[Array, "rows cols"],
    difference: Float[Array, "rows cols"],
) -> Float[Array, ""]:
    g, v, u, difference = lax.stop_gradient((g, v, u, difference))
    applied = jnp.broadcast_to(v[:, None], g.shape)
    scale = jnp.max(jnp.abs(applied))
    power = lambda w: jnp.sum(g * (w / _or_one(scale)) ** 2)
    return jnp.sqrt(power(difference - u) / _or_one(power(applied)))


def _or_one(scale: Float[Array, ""]) -> Float[Array, ""]:
    return jnp.where(scale == 0, 1, scale)


def _conjugate_gradients(
    shared: Shared,
    g: Float[Array, "*cells"],
    b: Float[Array, "*cells"],
    tolerance: float,
    max_iterations: int,
) -> tuple[Float[Array, "*cells"], tuple[Int[Array, ""], Bool[Array, ""]]]:
    """Solve `u + L g u = b`; the solution is NaN if the steps run out."""
    # The scales keep float32 products from overflow and underflow, whatever the units.
    weight = g / _or_one(jnp.max(g))
    scale = _or_one(jnp.max(jnp.abs(b)))
    dot = lambda x, y: jnp.sum(weight * x * y)

    def step(state):
        u, r, p, rho, k = state
        q = p + shared(g * p)
        alpha = rho / dot(p, q)
        r = r - alpha * q
        new = dot(r, r)
        return u + alpha * p, r, r + (new / rho) * p, new, k + 1

    b = b / scale
    # The start is `b`, the solution with ideal lines. Every residual is then in the range
    # of `L g`, so that cells without conductance, which the norm ignores, follow the rest.
    r = -shared(g * b)
    rho = dot(r, r)
    enough = tolerance**2 * dot(b, b)
    u, _, _, rho, k = lax.while_loop(
        lambda state: (state[3] > enough) & (state[4] < max_iterations),
        step,
        (b, r, r, rho, jnp.asarray(0)),
    )
    converged = rho <= enough
    return jnp.where(converged, u * scale, jnp.nan), (k, converged)
