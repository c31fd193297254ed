"""Combine the remembered smoothing parameter with that of the data (SEDMA, Eq. 6).

    lam_t = alpha lam_memory + (1 - alpha) lam_recent

The paper leaves `alpha` free. Here it follows from a model of two levels for the logarithm,
since the estimates are symmetric there and range over many decades:

    theta_t ~ N(mu, tau^2)          best log lam of the current product,
    own | theta_t ~ N(theta_t, v)   estimate from its data (`stein_lambda`).

`lam_recent` is the estimate from this product and the last ones of short-term memory
together (`pooled_lambda`), with variance `w`. Long-term memory holds the mean `m`, spread
`s` and count `c` of earlier `own`, whose variance is `tau^2 + v`. So
`tau^2 = max(s^2 - v, 0)`, and theta_t given memory alone is normal with mean `m` and
variance `u = tau^2 + s^2 / c`. The mean of theta_t given both weighs them by their inverse
variances:

    log lam_t = alpha m + (1 - alpha) recent,    alpha = w / (w + u).

A memory without samples has `alpha = 0`. Neither memory is used where the data contradict
it: where it differs from the data by more than 3.29 standard deviations, which happens by
chance once in a thousand products, or where Stein's estimate for this product alone says
that it is worse than `lam = 0` or clearly worse than the product's own parameter.

Memory is separate for each *error pattern*, which is the class of the roughness
`|L p|^2 / (4 |p|^2)` of the product before smoothing: a constant has 0, white noise 1/2.
"""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from .._cells.device import Scalar
from .._numerics.requirements import (
    FINITE,
    FROM_ZERO,
    check_numbers,
    known_numbers,
    shown,
)
from .recent_products import (
    ProductStatistics,
    RecentProducts,
    pooled_lambda,
    product_statistics,
)
from .smoothing import LambdaEstimate, Spectrum, risk_change, visible_lambda

ERROR_PATTERNS = ("smooth", "mixed", "rough")
"""Names of the patterns that `error_pattern` distinguishes."""

# Roughness from which on a product is mixed, and rough.
_ROUGHER = (0.01, 0.25)
# Variance of log lam before any sample: that of a factor of ten, worth one sample.
_PRIOR_VARIANCE = math.log(10) ** 2
_FAR = 3.29
# Share of the product's own reduction of the risk that memory may give up.
_LOSS = 0.5


class LambdaChoice(eqx.Module):
    """The regularisation parameter that was used, and its origin.

    - `lam`: regularisation parameter.
    - `alpha`: share of long-term memory in its logarithm, from 0 to 1.
    - `recent`: estimate from this product and the last ones.
    - `own`: estimate from this product alone.
    - `pattern`: error pattern of the product, as an index into `ERROR_PATTERNS`.
    - `statistics`: statistics of the product that short-term memory is to keep.
    - `refused`: whether the data contradicted long-term memory.

    **Example:**

        >>> A, x = np.eye(16), np.linspace(1, 2, 16)
        >>> data = sj.RememberedLambda()
        >>> y, info = sj.corrected_matvec(A, x, "epiram", lam=data, array=16, key=jr.key(0))
        >>> float(info.choice.alpha)  # nothing is remembered
        0.0
    """

    lam: Float[Array, ""]
    alpha: Float[Array, ""]
    recent: LambdaEstimate
    own: LambdaEstimate
    pattern: Int[Array, ""]
    statistics: ProductStatistics
    refused: Bool[Array, ""]


class RememberedLambda(eqx.Module):
    """What is remembered of the regularisation parameters of products of the same class.

    - `count`, `mean`, `spread`: number, mean and standard deviation of the products' own
        `log_lam` in long-term memory. One number each, or one per entry of
        `ERROR_PATTERNS`.
    - `recent`: the last products, from short-term memory, or None.

    **Example:**

        >>> signal = jnp.linspace(0, 1, 64)[None] + 0.1 * jr.normal(jr.key(0), (1, 64))
        >>> spectrum = sj.kernels.roughness_spectrum(signal, jnp.full((1, 64), 0.01))
        >>> own = sj.kernels.stein_lambda(spectrum)
        >>> memory = sj.RememberedLambda(count=100.0, mean=own.log_lam, spread=0.1)
        >>> choice = sj.kernels.combine_lambda(spectrum, own, memory)
        >>> bool(choice.alpha > 0.5)  # a hundred products that agree outweigh one
        True
    """

    count: Scalar | Float[Array, " patterns"] = 0.0
    mean: Scalar | Float[Array, " patterns"] = 0.0
    spread: Scalar | Float[Array, " patterns"] = 0.0
    recent: RecentProducts | None = None

    def __check_init__(self):
        call = "sedma_jax.RememberedLambda"
        sizes = {"count": self.count, "spread": self.spread}
        check_numbers(call, FROM_ZERO, "An empty record has zeros.", **sizes)
        check_numbers(call, FINITE, "It is a logarithm.", mean=self.mean)
        for name, value in {**sizes, "mean": self.mean}.items():
            known = known_numbers(value)
            if known is not None and known.shape not in ((), (len(ERROR_PATTERNS),)):
                raise ValueError(
                    f"`{call}` needs `{name}` to be one number, or one for each of "
                    f"{', '.join(ERROR_PATTERNS)}. Got {shown(value)}. Pass one of them."
                )


def error_pattern(spectrum: Spectrum) -> Int[Array, ""]:
    """Error pattern of a product by its roughness, as an index into `ERROR_PATTERNS`."""
    size = jnp.sum(spectrum.power)
    rough = jnp.sum(spectrum.eigenvalues * spectrum.power) / 4
    bounds = jnp.asarray(_ROUGHER, size.dtype)
    return jnp.sum(rough > bounds * size, dtype=jnp.int32)


def combine_lambda(
    spectrum: Spectrum, own: LambdaEstimate, memory: RememberedLambda
) -> LambdaChoice:
    """Evaluate Eq. 6 of SEDMA, with `alpha` from the variances of memory and data.

    **Arguments:**

    - `spectrum`: of this product, from `roughness_spectrum`.
    - `own`: what the product alone says, from `stein_lambda`.
    - `memory`: what is remembered; an empty one leaves it to the product.

    **Returns:**

    The parameter and its origin. Memory that the data contradict has no part in it.

    **Example:**

        >>> signal = jnp.linspace(0, 1, 64)[None] + 0.1 * jr.normal(jr.key(0), (1, 64))
        >>> spectrum = sj.kernels.roughness_spectrum(signal, jnp.full((1, 64), 0.01))
        >>> own = sj.kernels.stein_lambda(spectrum)
        >>> choice = sj.kernels.combine_lambda(spectrum, own, sj.RememberedLambda())
        >>> bool(jnp.isclose(choice.lam, own.lam))  # an empty memory leaves it to the data
        True
    """
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
    return LambdaChoice(
        lam=lam,
        alpha=alpha,
        recent=recent,
        own=own,
        pattern=pattern,
        statistics=statistics,
        refused=refused,
    )
