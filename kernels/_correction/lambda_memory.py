"""Weigh what is remembered of a weight against what the data say (SEDMA, Eq. 6).

    lam_t = alpha lam_memory + (1 - alpha) lam_recent

The paper leaves `alpha` free. It is derived here from a model of two levels, for the
logarithm, since the estimates are symmetric there and range over many decades:

    theta_t ~ N(mu, tau^2)          best log lam of the product at hand,
    own | theta_t ~ N(theta_t, v)   what its data say (`stein_lambda`).

`lam_recent` is what this product and the last ones of short-term memory say together
(`pooled_lambda`), with variance `w`. Long-term memory knows mean `m`, spread `s` and count
`c` of earlier `own`, whose variance is `tau^2 + v`. So `tau^2 = max(s^2 - v, 0)`, and
theta_t given memory alone is normal with mean `m` and variance `u = tau^2 + s^2 / c`. The
mean of theta_t given both weighs them by their inverse variances:

    log lam_t = alpha m + (1 - alpha) recent,    alpha = w / (w + u).

Memory of no samples has `alpha = 0`. Neither memory is used where the data contradict it:
where what it says is off from what they say by more than 3.29 standard deviations, which
chance alone does once in a thousand products, or where Stein's estimate for this product
alone calls it worse than `lam = 0` or clearly worse than its own weight.

Memory is kept apart by *error pattern*, the roughness `|L p|^2 / (4 |p|^2)` of the product
before it is smoothed: a constant has 0, white noise 1/2.
"""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from .._cells.device import Scalar
from .recent_products import (
    ProductStatistics,
    RecentProducts,
    pooled_lambda,
    product_statistics,
)
from .smoothing import LambdaEstimate, Spectrum, risk_change, visible_lambda

ERROR_PATTERNS = ("smooth", "mixed", "rough")
"""Names of the patterns that `error_pattern` tells apart."""

# Roughness from which a product is mixed and rough.
_ROUGHER = (0.01, 0.25)
# Spread of log lam before there is any sample: a factor of ten, worth one sample.
_PRIOR_VARIANCE = math.log(10) ** 2
_FAR = 3.29
# Share of the risk that `lam_recent` saves which memory may give up.
_LOSS = 0.5


class LambdaChoice(eqx.Module):
    """The weight that was used, and where it came from.

    - `lam`: weight of the roughness.
    - `alpha`: share of long-term memory in its logarithm, from 0 to 1.
    - `recent`: what this product and the last ones said.
    - `own`: what this product said.
    - `pattern`: of its errors, a place in `ERROR_PATTERNS`.
    - `statistics`: what short-term memory is to keep of it.
    - `refused`: whether the data contradicted long-term memory.
    """

    lam: Float[Array, ""]
    alpha: Float[Array, ""]
    recent: LambdaEstimate
    own: LambdaEstimate
    pattern: Int[Array, ""]
    statistics: ProductStatistics
    refused: Bool[Array, ""]


class RememberedLambda(eqx.Module):
    """What is remembered of the weights of products of the same class.

    - `count`, `mean`, `spread`: of the `log_lam` that products asked for, in long-term
        memory: how many, their mean and standard deviation. One figure, or one for each
        of `ERROR_PATTERNS`.
    - `recent`: the last products, from short-term memory, or None.
    """

    count: Scalar | Float[Array, " patterns"] = 0.0
    mean: Scalar | Float[Array, " patterns"] = 0.0
    spread: Scalar | Float[Array, " patterns"] = 0.0
    recent: RecentProducts | None = None


def error_pattern(spectrum: Spectrum) -> Int[Array, ""]:
    """Place in `ERROR_PATTERNS` of a product, by its roughness."""
    size = jnp.sum(spectrum.power)
    rough = jnp.sum(spectrum.eigenvalues * spectrum.power) / 4
    bounds = jnp.asarray(_ROUGHER, size.dtype)
    return jnp.sum(rough > bounds * size, dtype=jnp.int32)


def combine_lambda(
    spectrum: Spectrum, own: LambdaEstimate, memory: RememberedLambda
) -> LambdaChoice:
    """Eq. 6, with `alpha` from the certainty of memory and data."""
    dtype = own.log_lam.dtype
    pattern = error_pattern(spectrum)
    figures = (jnp.asarray(v, dtype) for v in (memory.count, memory.mean, memory.spread))
    count, mean, spread = (v if v.ndim == 0 else v[pattern] for v in figures)

    def contradicted(log_lam, away, variance):
        far = (away - own.log_lam) ** 2 > _FAR**2 * (own.log_variance + variance)
        worse = risk_change(spectrum, jnp.exp(log_lam)) > (1 - _LOSS) * own.risk
        return far | worse

    recent = own
    if memory.recent is not None:
        pooled = pooled_lambda(spectrum, own, memory.recent)
        alone = contradicted(pooled.log_lam, pooled.log_lam, pooled.log_variance)
        alone = alone | (memory.recent.log_lam.count == 0)
        recent = jax.tree.map(lambda a, b: jnp.where(alone, a, b), own, pooled)
    earlier = jnp.maximum(count - 1, 0)
    scatter = (_PRIOR_VARIANCE + earlier * spread**2) / (1 + earlier)
    u = jnp.maximum(scatter - own.log_variance, 0) + scatter / jnp.maximum(count, 1)
    alpha = recent.log_variance / (recent.log_variance + u)
    log_lam = alpha * mean + (1 - alpha) * recent.log_lam
    refused = (count > 0) & contradicted(log_lam, mean, u)
    alpha = jnp.where((count > 0) & ~refused, alpha, 0)
    lam = visible_lambda(alpha * mean + (1 - alpha) * recent.log_lam)
    statistics = product_statistics(spectrum, own)
    return LambdaChoice(lam, alpha, recent, own, pattern, statistics, refused)
