"""Choose the smoothing parameter λ of `denoise` from the data alone.

The first-difference matrix `L` has cosines as singular vectors, so that one cosine
transform turns `(I + lam L^T L)^-1` into the factors `1 - q_k` with

    q_k = lam mu_k / (1 + lam mu_k),    mu_k = 2 - 2 cos(t_k).

With a free end this is the orthonormal DCT-II and `t_k = pi k / n`. With a zero end it is
the DCT-VIII, `t_k = pi (2k + 1) / (2n + 1)`: the signal, a zero and the mirrored signal
with the opposite sign form an input of length `2n + 1` whose DCT-II has only odd
frequencies.

Let `p = y + noise`, with independent noise of variance `v_i`. With `c_k` the coefficients
of `p`, `phi_k` the cosines and `w_k = sum_i phi_k(i)^2 v_i`, Stein's estimate of the
expected squared error, minus that of `p` itself, (Stein 1981, Ann. Statist.
9, 1135) is

    R(lam) = sum_k q_k^2 c_k^2 - 2 q_k w_k.

It is unbiased for each fixed `lam`, and no cancellation occurs where it is small. Any
number of values of `lam` cost one transform, O(n log n), and O(n) each. Generalised
cross-validation (Golub, Heath & Wahba 1979, Technometrics 21, 215) needs no variance.

The uncertainty of the minimum of `R` follows by linearising around it: with `'` for
`d / d log lam`, `var(log lam) = var(R') / R''^2`, where the mean of
`4 c_k^2 w_k - 2 w_k^2` is the variance of `c_k^2`.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.scipy.fft import dct
from jaxtyping import Array, Float

from .._cells.device import Scalar

# Values of lam tried before refinement; in float32 neighbours differ by at most a factor
# of two.
_GRID = 64
_NEWTON_STEPS = 4
# Largest standard deviation of `log lam`: without information in the data, any value that
# differs from both ends in float32 may be right.
_IGNORANCE = 10.0


class Spectrum(eqx.Module):
    """Power and noise per frequency, summed over the signals of a batch.

    - `eigenvalues`: `mu_k` of `L^T L`.
    - `power`: `c_k^2`.
    - `noise`: `w_k`, the expected part of the power that is noise.
    - `spread`: estimated variance of `power`.
    - `least`: variance of `power` from noise alone, `2 w_k^2`.
    """

    eigenvalues: Float[Array, " n"]
    power: Float[Array, " n"]
    noise: Float[Array, " n"]
    spread: Float[Array, " n"]
    least: Float[Array, " n"]


class LambdaEstimate(eqx.Module):
    """An estimate of the regularisation parameter, and how well the data determine it.

    - `lam`: the parameter; exactly zero where it would not change a digit of the signal.
    - `log_lam`: natural logarithm of the minimum found, finite where `lam` is zero.
    - `log_variance`: variance of `log_lam`.
    - `risk`: expected squared error minus that of `lam = 0`, not positive.
    """

    lam: Float[Array, ""]
    log_lam: Float[Array, ""]
    log_variance: Float[Array, ""]
    risk: Float[Array, ""]


def roughness_spectrum(
    p: Float[Array, "batch n"],
    variance: Float[Array, "batch n"],
    *,
    zero_end: bool = False,
) -> Spectrum:
    """Decompose noisy signals into the frequencies that `denoise` attenuates.

    **Arguments:**

    - `p`: signals with independent noise.
    - `variance`: variance of the noise of each entry.
    - `zero_end`: as for `denoise`.

    **Example:**

        >>> signal = jnp.array([[1.0, 1.0, 1.0, 1.0]])
        >>> spectrum = sj.kernels.roughness_spectrum(signal, jnp.full((1, 4), 0.01))
        >>> print(np.asarray(spectrum.power).round(3))  # a constant has no roughness
        [4. 0. 0. 0.]
        >>> print(np.asarray(spectrum.noise).round(3))  # white: the same everywhere
        [0.01 0.01 0.01 0.01]
    """
    n = p.shape[1]
    k = jnp.arange(n)
    if zero_end:
        size, frequency = 2 * n + 1, 2 * k + 1
        turned = jnp.concatenate([p, jnp.zeros_like(p[:, :1]), -p[:, ::-1]], axis=1)
        angle = frequency.astype(p.dtype) * (jnp.pi / size)
        coefficients = dct(turned, type=2, axis=1)[:, 1::2] * (0.5 / size**0.5)
    else:
        size, frequency = n, k
        angle = k.astype(p.dtype) * (jnp.pi / n)
        coefficients = dct(p, type=2, axis=1, norm="ortho")
    power = coefficients**2
    # phi_k(i)^2 = (1 + cos(2 t_k (i + 1/2))) / n, with half as much at frequency zero.
    waves = jnp.fft.fft(variance, n=size, axis=1)[:, frequency]
    turn = jnp.cos(angle)[None, :], jnp.sin(angle)[None, :]
    waves = jnp.real(waves) * turn[0] + jnp.imag(waves) * turn[1]
    total = jnp.sum(variance, axis=1, keepdims=True)
    noise = (total + waves) * (2 / size if zero_end else 1 / size)
    if not zero_end:
        noise = noise.at[:, 0].multiply(0.5)
    least = 2 * noise**2
    spread = 4 * power * noise - least
    add = lambda v: jnp.sum(v, axis=0)
    eigenvalues = 4 * jnp.sin(angle / 2) ** 2
    return Spectrum(
        eigenvalues=eigenvalues,
        power=add(power),
        noise=add(noise),
        spread=add(spread),
        least=add(least),
    )


def risk_change(spectrum: Spectrum, lam: Scalar) -> Float[Array, ""]:
    """Stein's estimate of the squared error, minus that of `lam = 0`."""
    q = _shrinkage(spectrum, jnp.asarray(lam, spectrum.power.dtype))
    return jnp.sum(q**2 * spectrum.power - 2 * q * spectrum.noise)


def stein_lambda(spectrum: Spectrum) -> LambdaEstimate:
    """The parameter that minimises Stein's unbiased estimate of the risk (1981).

    **Arguments:**

    - `spectrum`: from `roughness_spectrum`, summed over all signals that share one value.

    **Returns:**

    The parameter and its variance; `lam` is 0 where no smoothing helps.

    **Example:**

        >>> noise = 0.1 * jr.normal(jr.key(0), (1, 64))
        >>> variance = jnp.full((1, 64), 0.01)
        >>> flat = sj.kernels.roughness_spectrum(1 + noise, variance)
        >>> rough = sj.kernels.roughness_spectrum(100 * noise, variance)
        >>> flat, rough = sj.kernels.stein_lambda(flat), sj.kernels.stein_lambda(rough)
        >>> bool(flat.lam > 100 * rough.lam)  # what varies beyond the noise is not smoothed
        True
    """
    risk = lambda log_lam: risk_change(spectrum, jnp.exp(log_lam))
    slope, grid = jax.grad(risk), _grid(spectrum)
    start = grid[jnp.argmin(jax.vmap(risk)(grid))]
    log_lam = _refine(risk, start, grid[1] - grid[0])
    # If the curve is flat to rounding, the smallest parameter is as good.
    log_lam = jnp.where(risk(log_lam) < 0, log_lam, grid[0])
    q = _shrinkage(spectrum, jnp.exp(log_lam))
    noise = lambda v: jnp.sum(4 * (q**2 * (1 - q)) ** 2 * v)
    variance = jnp.maximum(noise(spectrum.spread), noise(spectrum.least))
    bend = jax.grad(slope)(log_lam)
    edge = (log_lam <= grid[0]) | (log_lam >= grid[-1]) | (bend <= 0)
    bend = jnp.where(edge, 1, bend)
    variance = jnp.where(edge, _IGNORANCE**2, variance / bend**2)
    lam = visible_lambda(log_lam)
    change = jnp.where(lam > 0, risk_change(spectrum, lam), 0)
    return LambdaEstimate(lam, log_lam, jnp.minimum(variance, _IGNORANCE**2), change)


def visible_lambda(log_lam: Float[Array, ""]) -> Float[Array, ""]:
    """The parameter itself, or zero if `|lam L^T L| <= 4 lam` is below rounding."""
    lam = jnp.exp(log_lam)
    return jnp.where(4 * lam <= jnp.finfo(lam.dtype).eps, jnp.zeros_like(lam), lam)


def _shrinkage(spectrum: Spectrum, lam: Float[Array, ""]) -> Float[Array, " n"]:
    """`q_k`, by which each frequency is attenuated."""
    product = lam * spectrum.eigenvalues
    return product / (1 + product)


def _grid(spectrum: Spectrum) -> Float[Array, " grid"]:
    """Log lam from no effect up to a value that leaves only the lowest frequency."""
    n, dtype = spectrum.power.shape[0], spectrum.power.dtype
    low = jnp.log(jnp.finfo(dtype).eps / 8)
    high = jnp.log(jnp.asarray(100.0 * n * n, dtype))
    return jnp.linspace(low, high, _GRID, dtype=dtype)


def _refine(
    curve: Callable[[Float[Array, ""]], Float[Array, ""]],
    start: Float[Array, ""],
    step: Float[Array, ""],
) -> Float[Array, ""]:
    """Newton's method between the neighbours of the best point of a grid."""
    slope = jax.grad(curve)
    bend = jax.grad(slope)

    def closer(_, at):
        curved = bend(at)
        move = slope(at) / jnp.where(curved > 0, curved, 1)
        move = jnp.where(curved > 0, move, jnp.sign(slope(at)) * step / 4)
        return jnp.clip(at - move, start - step, start + step)

    found = jax.lax.fori_loop(0, _NEWTON_STEPS, closer, start)
    return jnp.where(curve(found) <= curve(start), found, start)
