"""Weigh what is remembered of a weight against what the data say (SEDMA, Eq. 6).

    lam_t = alpha lam_memory + (1 - alpha) lam_recent

The paper leaves `alpha` free. It is derived here from a model of two levels, for the
logarithm, since the estimates are symmetric there and range over many decades:

    theta_t ~ N(mu, tau^2)          best log lam of the product at hand,
    recent | theta_t ~ N(theta_t, v)    what its data say (`stein_lambda`).

Long-term memory knows mean `m`, spread `s` and count `c` of earlier `recent`, whose
variance is `tau^2 + v`. So `tau^2 = max(s^2 - v, 0)`, and theta_t given memory alone is
normal with mean `m` and variance `u = tau^2 + s^2 / c`. The mean of theta_t given both
weighs them by their inverse variances:

    log lam_t = alpha m + (1 - alpha) recent,    alpha = v / (v + u).

Memory of no samples has `alpha = 0`. Memory that the data contradict is not used: where
`(recent - m)^2 > 3.29^2 (v + u)`, which chance alone does once in a thousand products,
or where Stein's estimate calls `lam_t` worse than `lam = 0` or clearly worse than
`lam_recent`.
"""

import math

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ._device import Scalar
from ._smoothing import LambdaEstimate, Spectrum, risk_change, visible_lambda

# Spread of log lam before there is any sample: a factor of ten, worth one sample.
_PRIOR_VARIANCE = math.log(10) ** 2
_FAR = 3.29
# Share of the risk that `lam_recent` saves which memory may give up.
_LOSS = 0.5


class LambdaChoice(eqx.Module):
    """The weight that was used, and where it came from.

    - `lam`: weight of the roughness.
    - `alpha`: share of memory in its logarithm, from 0 to 1.
    - `recent`: what the data said.
    - `refused`: whether the data contradicted memory.
    """

    lam: Float[Array, ""]
    alpha: Float[Array, ""]
    recent: LambdaEstimate
    refused: Bool[Array, ""]


class RememberedLambda(eqx.Module):
    """Earlier `log_lam` of products of the same class; `count` zero if there is none.

    - `count`: of samples.
    - `mean`, `spread`: their mean and standard deviation.
    """

    count: Scalar = 0.0
    mean: Scalar = 0.0
    spread: Scalar = 0.0


def combine_lambda(
    spectrum: Spectrum, recent: LambdaEstimate, memory: RememberedLambda
) -> LambdaChoice:
    """Eq. 6, with `alpha` from the certainty of memory and data."""
    dtype = recent.log_lam.dtype
    count, mean, spread = (
        jnp.asarray(v, dtype) for v in (memory.count, memory.mean, memory.spread)
    )
    earlier = jnp.maximum(count - 1, 0)
    scatter = (_PRIOR_VARIANCE + earlier * spread**2) / (1 + earlier)
    v = recent.log_variance
    u = jnp.maximum(scatter - v, 0) + scatter / jnp.maximum(count, 1)
    alpha = jnp.where(count > 0, v / (v + u), 0)
    log_lam = alpha * mean + (1 - alpha) * recent.log_lam
    far = (recent.log_lam - mean) ** 2 > _FAR**2 * (v + u)
    worse = risk_change(spectrum, jnp.exp(log_lam)) > (1 - _LOSS) * recent.risk
    refused = (count > 0) & (far | worse)
    alpha = jnp.where(refused, 0, alpha)
    lam = visible_lambda(alpha * mean + (1 - alpha) * recent.log_lam)
    return LambdaChoice(lam, alpha, recent, refused)
