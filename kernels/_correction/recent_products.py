"""Pool what the last products said of the weight of the roughness (SEDMA, Eq. 5-6).

Products of one class have similar spectra, so that the sum of Stein's estimates over the
last of them and this one,

    R(lam) = R_t(lam) + c sum_{s<t} R_s(lam),

has a minimum that is less uncertain than that of `R_t` alone (`stein_lambda`). Each term
counts in units of its `|p|^2`. Of the earlier products short-term memory keeps power and
noise in 64 bands of frequency, four to an octave: 256 numbers whatever the size.

How much the `n` earlier ones count follows from how far their own weights lie apart. With
`theta_s` the best log lam of a product, of variance `tau^2` over products, and `v` the
variance of an estimate from one, their mean is off from `theta_t` by `tau^2 + v / n`, as
much as that of `n / (1 + n tau^2 / v)` products of one `theta`. Hence

    c = 1 / (1 + n tau^2 / v),    tau^2 = max(s^2 - mean v_s, 0),

`s^2` the variance of the estimates `log lam_s` kept, a factor of two counting as one of
them. Products of one kind count in full; of mixed ones this one decides alone.
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
_TO_AN_OCTAVE = 4
# Of log lam before there is any sample, worth one: a factor of two.
_PRIOR_VARIANCE = math.log(2) ** 2


class ProductStatistics(eqx.Module):
    """What is kept of one product.

    - `bands`: power, noise, and the two variances of power of a `Spectrum`, summed over
        each band, in units of the power of the whole signal.
    - `log_lam`, `log_variance`: weight that this product alone asked for.
    """

    bands: Float[Array, "4 bands"]
    log_lam: Float[Array, ""]
    log_variance: Float[Array, ""]


class RecentProducts(eqx.Module):
    """The last products of one class, as `ProductStatistics` of each.

    - `bands`: ring buffers side by side, one for each figure of each band.
    - `log_lam`, `log_variance`: one ring buffer each.
    """

    bands: RingBuffer
    log_lam: RingBuffer
    log_variance: RingBuffer


def recent_products(capacity: int = 100, dtype: DTypeLike = float) -> RecentProducts:
    """Room for the last products; none yet."""
    empty = ring_buffer(capacity, dtype)
    many = jax.tree.map(lambda v: jnp.broadcast_to(v, (4, _BANDS, *v.shape)), empty)
    return RecentProducts(many, empty, empty)


def product_statistics(spectrum: Spectrum, own: LambdaEstimate) -> ProductStatistics:
    """What is to be kept of a product; not finite if it is zero throughout."""
    total = jnp.sum(spectrum.power)
    # The lowest frequency is not weighed: its eigenvalue is zero.
    kept = spectrum.eigenvalues > 0
    octaves = -jnp.log2(jnp.where(kept, _angle(spectrum.eigenvalues) / jnp.pi, 1))
    band = jnp.clip(jnp.floor(_TO_AN_OCTAVE * octaves), 0, _BANDS - 1).astype(jnp.int32)
    figures = (
        spectrum.power / total,
        spectrum.noise / total,
        spectrum.spread / total**2,
        spectrum.least / total**2,
    )
    add = lambda v: jax.ops.segment_sum(jnp.where(kept, v, 0), band, _BANDS)
    return ProductStatistics(jnp.stack([*map(add, figures)]), own.log_lam, own.log_variance)


def append_product(recent: RecentProducts, product: ProductStatistics) -> RecentProducts:
    """Take in a product; one with a figure that is not finite is left out whole."""
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
    """The weight that minimises Stein's estimate over this and the last products.

    **Arguments:**

    - `spectrum`: of this product.
    - `own`: the weight that it asks for alone.
    - `recent`: products of the same class before it.

    **Returns:**

    The weight; `risk` is that of this product.
    """
    dtype = spectrum.power.dtype
    share = earlier_share(own, recent)
    # Places that are not taken yet are zero.
    earlier = jnp.sum(recent.bands.samples, axis=2).astype(dtype)
    earlier = earlier * jnp.stack([share, share, share**2, share**2])[:, None]
    size = jnp.sum(spectrum.power)
    unit = jnp.where(size > 0, size, 1)
    middle = jnp.pi * 2 ** (-(jnp.arange(_BANDS, dtype=dtype) + 0.5) / _TO_AN_OCTAVE)
    mine = (spectrum.power, spectrum.noise, spectrum.spread, spectrum.least)
    mine = [v / u for v, u in zip(mine, (unit, unit, unit**2, unit**2), strict=True)]
    eigenvalues = jnp.concatenate([spectrum.eigenvalues, 4 * jnp.sin(middle / 2) ** 2])
    joined = [jnp.concatenate(pair) for pair in zip(mine, earlier, strict=True)]
    pooled = stein_lambda(Spectrum(eigenvalues, *joined))
    return dataclasses.replace(pooled, risk=risk_change(spectrum, pooled.lam))


def earlier_share(own: LambdaEstimate, recent: RecentProducts) -> Float[Array, ""]:
    """`c`, how much each earlier product counts beside this one, from 0 to 1."""
    kept, doubt = summarise(recent.log_lam), summarise(recent.log_variance)
    figures = (kept.count, kept.variance, doubt.mean)
    n, variance, doubt = (v.astype(own.log_variance.dtype) for v in figures)
    scatter = _PRIOR_VARIANCE + jnp.maximum(n - 1, 0) * variance
    apart = jnp.maximum(scatter / jnp.maximum(n, 1) - doubt, 0)
    return 1 / (1 + n * apart / own.log_variance)


def _angle(eigenvalues):
    return 2 * jnp.arcsin(jnp.minimum(jnp.sqrt(eigenvalues) / 2, 1))
