"""Choose among alternatives by what they brought, and notice when that changes.

*Thompson sampling* (1933, Biometrika 25, 285): draw the mean reward of each alternative
from what is believed of it, and take the largest. Rewards count as normal with unknown
mean and variance, so that beliefs are normal-inverse-gamma (Murphy 2007, "Conjugate
Bayesian analysis of the Gaussian distribution", Eq. 85-89): with prior `m0, k0, a0, b0` and
`n` rewards of mean `r` and sum of squared deviations `S`,

    k = k0 + n,  m = (k0 m0 + n r) / k,  a = a0 + n / 2,
    b = b0 + S / 2 + k0 n (r - m0)^2 / (2 k),

and the mean reward is `m + sqrt(b / (a k)) t`, `t` Student's with `2 a` degrees of freedom.

*Change* is noticed by a two-sided cumulative sum (Page 1954, Biometrika 41, 100) of
standardised rewards. By Siegmund's approximation (1985, Sequential Analysis, Eq. 2.56)
without a change one side runs

    (exp(2 k (h + 1.166)) - 2 k (h + 1.166) - 1) / (2 k^2)

samples on average until it gives a false alarm. With the slack `k = 1/2` and `h = 8` that
is one alarm of either side in about 9,500 samples. A shift by three standard deviations is
noticed after `8 / (3 - 1/2)`, about three samples.
"""

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from .._cells.device import Scalar

SLACK = 0.5
THRESHOLD = 8.0
# Beyond this, a standardised sample counts as this: no single one gives an alarm.
_LARGEST = 6.0


class Beliefs(eqx.Module):
    """Normal-inverse-gamma beliefs of the mean reward of each alternative."""

    mean: Float[Array, " choices"]
    strength: Float[Array, " choices"]
    shape: Float[Array, " choices"]
    scale: Float[Array, " choices"]


class ChangeDetector(eqx.Module):
    """The cumulative sums of rises and of falls."""

    rise: Float[Array, ""]
    fall: Float[Array, ""]


def update_beliefs(
    prior: Float[Array, " choices"],
    prior_std: Scalar,
    count: Float[Array, " choices"],
    mean: Float[Array, " choices"],
    spread: Float[Array, " choices"],
    *,
    strength: Scalar = 1.0,
) -> Beliefs:
    """Beliefs from rewards that were measured.

    **Arguments:**

    - `prior`, `prior_std`: reward expected before any is measured, and how far one may
        be from that.
    - `count`, `mean`, `spread`: of the rewards of each alternative; standard deviation.
    - `strength`: rewards that the prior is worth; less of it explores more.
    """
    k = strength + count
    squares = jnp.maximum(count - 1, 0) * spread**2
    apart = strength * count * (mean - prior) ** 2 / k
    # The prior of the variance is worth two rewards.
    scale = jnp.asarray(prior_std, mean.dtype) ** 2 + 0.5 * (squares + apart)
    return Beliefs((strength * prior + count * mean) / k, k, 1 + 0.5 * count, scale)


def thompson_sample(beliefs: Beliefs, *, key: PRNGKeyArray) -> Float[Array, " choices"]:
    """A draw of the mean reward of each alternative; the largest is to be taken."""
    width = jnp.sqrt(beliefs.scale / (beliefs.shape * beliefs.strength))
    draw = jr.t(key, 2 * beliefs.shape, beliefs.mean.shape, beliefs.mean.dtype)
    return beliefs.mean + width * draw


def change_detector() -> ChangeDetector:
    """Sums before the first sample."""
    return ChangeDetector(jnp.zeros(()), jnp.zeros(()))


def detect_change(
    drift: ChangeDetector,
    sample: Scalar,
    *,
    slack: Scalar = SLACK,
    threshold: Scalar = THRESHOLD,
) -> tuple[ChangeDetector, Bool[Array, ""]]:
    """Take in a standardised sample; after an alarm the sums start anew.

    **Returns:**

    The sums, and whether there is an alarm.
    """
    z = jnp.clip(jnp.asarray(sample, drift.rise.dtype), -_LARGEST, _LARGEST)
    z = jnp.where(jnp.isfinite(z), z, 0)
    rise = jnp.maximum(drift.rise + z - slack, 0)
    fall = jnp.maximum(drift.fall - z - slack, 0)
    alarm = jnp.maximum(rise, fall) > threshold
    return ChangeDetector(jnp.where(alarm, 0, rise), jnp.where(alarm, 0, fall)), alarm
