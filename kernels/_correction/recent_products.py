"""Pool the last products in the estimate of the smoothing parameter (SEDMA, Eq. 5-6).

Products of one class have similar spectra, so that the sum of Stein's estimates over this
product and the last ones,

    R(lam) = R_t(lam) + c sum_{s<t} R_s(lam),

has a minimum that is less uncertain than that of `R_t` alone (`stein_lambda`). Each term is
in units of its `|p|^2`. Short-term memory keeps the power and noise of earlier products in
64 frequency bands, four per octave: 256 numbers for any size.

The weight `c` of the `n` earlier products follows from the scatter of their own parameters.
Let `theta_s`, the best log lam of a product, have the variance `tau^2` over products, and
let `v` be the variance of an estimate from one product. The mean of the earlier estimates
then has the variance `tau^2 + v / n` around `theta_t`, as would the mean over
`n / (1 + n tau^2 / v)` products of one `theta`. Hence

    c = 1 / (1 + n tau^2 / v),    tau^2 = max(s^2 - mean v_s, 0),

with `s^2` the variance of the estimates `log lam_s` in memory, to which a factor of two is
added as one estimate. Similar products have full weight; among very different ones the
current product decides alone.
"""

import dataclasses
import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from .._learning.ring_buffer import RingBuffer, append_sample, ring_buffer, summarise
from .smoothing import LambdaEstimate, Spectrum, risk_change, stein_lambda

_BANDS = 64
_BANDS_PER_OCTAVE = 4
# Variance of log lam before any sample: that of a factor of two, worth one sample.
_PRIOR_VARIANCE = math.log(2) ** 2


class ProductStatistics(eqx.Module):
    """The statistics that are kept of one product.

    - `bands`: power, noise, and the two variances of power of a `Spectrum`, summed over
        each band, in units of the power of the whole signal.
    - `log_lam`, `log_variance`: the product's own estimate of the parameter.

    **Example:**

        >>> one, bands = jnp.ones(()), jnp.ones((4, 64))
        >>> product = sj.kernels.ProductStatistics(bands, log_lam=one, log_variance=one)
        >>> recent = sj.kernels.append_product(sj.kernels.recent_products(10), product)
        >>> int(recent.log_lam.count)
        1
    """

    bands: Float[Array, "4 bands"]
    log_lam: Float[Array, ""]
    log_variance: Float[Array, ""]


class RecentProducts(eqx.Module):
    """The `ProductStatistics` of the last products of one class.

    - `bands`: stacked ring buffers, one per statistic and band.
    - `log_lam`, `log_variance`: one ring buffer each.

    **Example:**

        >>> recent = sj.kernels.recent_products(capacity=10)
        >>> recent.bands.samples.shape, recent.log_lam.samples.shape
        ((4, 64, 10), (10,))
        >>> memory = sj.RememberedLambda(recent=recent)  # `lam` of `corrected_matvec`
    """

    bands: RingBuffer
    log_lam: RingBuffer
    log_variance: RingBuffer


def recent_products(capacity: int = 100, dtype: DTypeLike = float) -> RecentProducts:
    """Make empty buffers for the last `capacity` products, at least 1.

    **Raises:**

    - `ValueError`: if `capacity < 1`.

    **Example:**

        >>> recent = sj.kernels.recent_products(capacity=10)
        >>> int(recent.log_lam.count)
        0
    """
    empty = ring_buffer(capacity, dtype)
    many = jax.tree.map(lambda v: jnp.broadcast_to(v, (4, _BANDS, *v.shape)), empty)
    return RecentProducts(many, empty, empty)


def product_statistics(spectrum: Spectrum, own: LambdaEstimate) -> ProductStatistics:
    """Compute the statistics to keep of a product; not finite if the product is zero."""
    total = jnp.sum(spectrum.power)
    # Frequency zero has eigenvalue zero and does not depend on lam.
    kept = spectrum.eigenvalues > 0
    octaves = -jnp.log2(jnp.where(kept, _angle(spectrum.eigenvalues) / jnp.pi, 1))
    band = jnp.clip(jnp.floor(_BANDS_PER_OCTAVE * octaves), 0, _BANDS - 1).astype(jnp.int32)
    figures = (
        spectrum.power / total,
        spectrum.noise / total,
        spectrum.spread / total**2,
        spectrum.least / total**2,
    )
    add = lambda v: jax.ops.segment_sum(jnp.where(kept, v, 0), band, _BANDS)
    return ProductStatistics(jnp.stack([*map(add, figures)]), own.log_lam, own.log_variance)


def append_product(recent: RecentProducts, product: ProductStatistics) -> RecentProducts:
    """Add a product; one with any value that is not finite is left out.

    **Example:**

        >>> one, bands = jnp.ones(()), jnp.ones((4, 64))
        >>> good = sj.kernels.ProductStatistics(bands, one, one)
        >>> bad = sj.kernels.ProductStatistics(bands, one, jnp.nan * one)
        >>> recent = sj.kernels.recent_products(10)
        >>> recent = sj.kernels.append_product(recent, good)
        >>> int(sj.kernels.append_product(recent, bad).log_lam.count)  # NaN is left out
        1
    """
    leaves = jax.tree.leaves(product)
    good = jnp.all(jnp.stack([jnp.all(jnp.isfinite(v)) for v in leaves]))
    bands, *weights = (jnp.where(good, v, jnp.nan) for v in leaves)
    many = jax.vmap(jax.vmap(append_sample))(recent.bands, bands)
    return RecentProducts(
        many, *map(append_sample, (recent.log_lam, recent.log_variance), weights)
    )


def pooled_lambda(
    spectrum: Spectrum, own: LambdaEstimate, recent: RecentProducts
) -> LambdaEstimate:
    """The parameter that minimises Stein's estimate over this and the last products.

    **Arguments:**

    - `spectrum`: spectrum of this product.
    - `own`: the estimate from this product alone.
    - `recent`: earlier products of the same class.

    **Returns:**

    The estimate; its `risk` is that of this product.
    """
    dtype = spectrum.power.dtype
    share = earlier_share(own, recent)
    # Empty places are zero.
    earlier = jnp.sum(recent.bands.samples, axis=2).astype(dtype)
    earlier = earlier * jnp.stack([share, share, share**2, share**2])[:, None]
    size = jnp.sum(spectrum.power)
    unit = jnp.where(size > 0, size, 1)
    middle = jnp.pi * 2 ** (-(jnp.arange(_BANDS, dtype=dtype) + 0.5) / _BANDS_PER_OCTAVE)
    mine = (spectrum.power, spectrum.noise, spectrum.spread, spectrum.least)
    mine = [v / u for v, u in zip(mine, (unit, unit, unit**2, unit**2), strict=True)]
    eigenvalues = jnp.concatenate([spectrum.eigenvalues, 4 * jnp.sin(middle / 2) ** 2])
    joined = (jnp.concatenate(pair) for pair in zip(mine, earlier, strict=True))
    power, noise, spread, least = joined
    pooled = stein_lambda(
        Spectrum(
            eigenvalues=eigenvalues, power=power, noise=noise, spread=spread, least=least
        )
    )
    return dataclasses.replace(pooled, risk=risk_change(spectrum, pooled.lam))


def earlier_share(own: LambdaEstimate, recent: RecentProducts) -> Float[Array, ""]:
    """The weight `c` of each earlier product relative to this one, from 0 to 1."""
    kept, doubt = summarise(recent.log_lam), summarise(recent.log_variance)
    figures = (kept.count, kept.variance, doubt.mean)
    n, variance, doubt = (v.astype(own.log_variance.dtype) for v in figures)
    scatter = _PRIOR_VARIANCE + jnp.maximum(n - 1, 0) * variance
    between = jnp.maximum(scatter / jnp.maximum(n, 1) - doubt, 0)
    return 1 / (1 + n * between / own.log_variance)


def _angle(eigenvalues: Float[Array, " n"]) -> Float[Array, " n"]:
    """Angular frequency of each eigenvalue of `L^T L`."""
    return 2 * jnp.arcsin(jnp.minimum(jnp.sqrt(eigenvalues) / 2, 1))
