"""Denoise a signal by penalised least squares, in O(n) and by matrix products.

    y* = argmin |y - p|^2 + lam |L y|^2 = (I + lam L^T L)^-1 p        (SEDMA, Eq. 5)

with `L` the first difference. Away from the ends the inverse is a two-sided exponential
(Unser, Aldroubi & Eden 1993, IEEE Trans. Signal Process. 41, 821, give its use as a
recursive filter):

    y_i = gain sum_j exp(-theta |i - j|) p_j,    2 sinh(theta / 2) = lam^-1/2,
    gain = (1 + 4 lam)^-1/2.

The ends mirror the signal, so that the sum continues over its images: `p_{-1-j} = p_j` at a
free end, `p_{n+j} = -p_{n-j}` at an end held at zero. Every term is a product of a positive
weight with `p`, so that the condition number `1 + 4 lam` does not amplify rounding.

A recursion would run entry by entry. Instead, the sum is cut into blocks: one small product
covers the block itself, and the entries to its left and right enter as one number each,
which decays along the block. These numbers obey the same recursion over blocks.
"""

from typing import Any

import jax.lax as lax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from .._cells.device import Scalar

# Entries per block: longer blocks cost more operations, shorter ones more numbers between
# blocks; 16 and 64 were slower on a CPU.
_BLOCK = 32


def denoise(
    p: Float[Array, " n"],
    lam: Scalar,
    *,
    zero_end: bool = False,
    length: Int[Array, ""] | None = None,
) -> Float[Array, " n"]:
    """Solve `(I + lam L^T L) y = p` in O(n).

    Derivatives in `p` and `lam` are those of the solution, by the implicit function
    theorem.

    **Arguments:**

    - `p`: the signal.
    - `lam`: regularisation parameter, from 0 (which returns `p`) up.
    - `zero_end`: with false, `L` is the `(n-1) x n` first difference, and a constant
        stays unchanged. With true, `L` is square with last row `e_n`, as in MELISO+:
        the signal continues as zero.
    - `length`: entries of the signal, from 1; what follows them in `p` is of no use, and
        becomes zero. One compiled program then serves signals of many lengths.

    **Returns:**

    The smooth signal.

    **Example:**

        >>> y = sj.kernels.denoise(jnp.array([1.0, 3.0]), 1.0)  # [[2, -1], [-1, 2]] y = p
        >>> print(np.asarray(3 * y).round(3))
        [5. 7.]
    """
    lam = jnp.asarray(lam, p.dtype)
    degree = jnp.full(p.shape, 2, p.dtype).at[0].set(1)
    if not zero_end:
        degree = degree.at[-1 if length is None else length - 1].add(-1)

    def apply(y):
        neighbours = jnp.pad(y[1:], (0, 1)) + jnp.pad(y[:-1], (1, 0))
        return y + lam * (degree * y - neighbours)

    return lax.custom_linear_solve(
        apply, p, lambda _, b: _filter(b, lam, zero_end, length), symmetric=True
    )


def _filter(
    p: Float[Array, " n"],
    lam: Float[Array, ""],
    zero_end: bool,
    length: Int[Array, ""] | None,
) -> Float[Array, " n"]:
    """Sum the two-sided exponential above over the signal and its images."""
    root = jnp.sqrt(lam)
    # At `lam = 0` theta is infinite; at 1000 the weights are zero as well.
    theta = jnp.minimum(2 * jnp.arcsinh(0.5 / root), 1000)
    gain = 1 / jnp.hypot(jnp.ones_like(root), 2 * root)
    decay = lambda k: jnp.exp(-theta * jnp.asarray(k, theta.dtype))
    n: Any = p.size
    size = min(_BLOCK, n)
    count = -(-n // size)
    end = count - 1  # the block that holds the last entry
    if length is not None:
        n = jnp.asarray(length, jnp.arange(1).dtype)
        p, end = jnp.where(jnp.arange(p.size) < n, p, 0), (n - 1) // size
    blocks = jnp.pad(p, (0, count * size - p.size)).reshape(count, size)
    i, start = jnp.arange(size), jnp.arange(count) * size
    last = jnp.minimum(start + size, n) - 1

    inside = _product(blocks, gain * decay(jnp.abs(i[:, None] - i[None, :])))
    # Sums of each block at its last entry and at its first.
    sums = _product(blocks, jnp.stack([decay(size - 1 - i), decay(i)], axis=1))
    left = _decayed_sums(sums[:, 0], size * theta)
    right = _decayed_sums(sums[::-1, 1], size * theta)[::-1]

    # Sums of the whole signal at both ends, and the contributions of its images there.
    first = sums[0, 1] + decay(size) * right[0]
    tail = n - start[end]
    final = jnp.sum(blocks[end] * jnp.where(i < tail, decay(jnp.abs(tail - 1 - i)), 0))
    final = final + decay(tail) * left[end]
    if zero_end:
        mirror, images = -decay(2), 1 + decay(2 * n + 1)
    else:
        mirror, images = decay(1), -jnp.expm1(jnp.asarray(-2 * n, theta.dtype) * theta)
    across = decay(n - 1)
    before = decay(1) * (first + across * mirror * final) / images
    after = mirror * (final + across * before)

    left = gain * (decay(1) * left + before * decay(start))
    right = gain * (decay(1) * right + after * decay(n - 1 - last))
    to_last = jnp.maximum(last[:, None] - start[:, None] - i[None, :], 0)
    y = inside + left[:, None] * decay(i)[None, :] + right[:, None] * decay(to_last)
    y = y.reshape(-1)[: p.size]
    return y if length is None else jnp.where(jnp.arange(p.size) < n, y, 0)


def _decayed_sums(
    t: Float[Array, " blocks"], theta: Float[Array, ""]
) -> Float[Array, " blocks"]:
    """Compute `s_k = sum_{m < k} exp(-theta (k - 1 - m)) t_m`, block by block."""
    n = t.size
    size = min(n, 8 * _BLOCK)
    count = -(-n // size)
    blocks = jnp.pad(t, (0, count * size - n)).reshape(count, size)
    i = jnp.arange(size, dtype=t.dtype)
    distance = i[None, :] - 1 - i[:, None]
    weights = jnp.where(distance < 0, 0, jnp.exp(-theta * jnp.maximum(distance, 0)))
    sums = _product(blocks, weights)
    if count > 1:
        totals = jnp.sum(blocks * jnp.exp(-theta * (size - 1 - i))[None, :], axis=1)
        carried = _decayed_sums(totals, size * theta)
        sums = sums + carried[:, None] * jnp.exp(-theta * i)[None, :]
    return sums.reshape(-1)[:n]


def _product(a: Float[Array, "m k"], b: Float[Array, "k n"]) -> Float[Array, "m n"]:
    return jnp.matmul(a, b, precision=lax.Precision.HIGHEST)
