"""Choose among alternatives by their past rewards, and detect when those change.

*Thompson sampling* (1933, Biometrika 25, 285): draw the mean reward of each alternative
from the beliefs about it, and take the largest. Rewards are modelled as normal with unknown
mean and variance, so that beliefs are normal-inverse-gamma (Murphy 2007, "Conjugate
Bayesian analysis of the Gaussian distribution", Eq. 85-89): with prior `m0, k0, a0, b0` and
`n` rewards of mean `r` and sum of squared deviations `S`,

    k = k0 + n,  m = (k0 m0 + n r) / k,  a = a0 + n / 2,
    b = b0 + S / 2 + k0 n (r - m0)^2 / (2 k),

and the mean reward is `m + sqrt(b / (a k)) t`, `t` Student's with `2 a` degrees of freedom.

A two-sided cumulative sum (Page 1954, Biometrika 41, 100) of standardised rewards detects
a *change*. By Siegmund's approximation (1985, Sequential Analysis, Eq. 2.56), without a
change one side runs for

    (exp(2 k (h + 1.166)) - 2 k (h + 1.166) - 1) / (2 k^2)

samples on average until it gives a false alarm. With the slack `k = 1/2` and the threshold
`h = 8`, the two sides together give one false alarm in about 9,500 samples. A shift by
three standard deviations is detected after `8 / (3 - 1/2)`, about three, samples.
"""

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from .._cells.device import Scalar

SLACK = 0.5
THRESHOLD = 8.0
# Standardised samples are clipped to this magnitude, so that no single one gives an alarm.
_LARGEST = 6.0


class Beliefs(eqx.Module):
    """Normal-inverse-gamma beliefs about the mean reward of each alternative."""

    mean: Float[Array, " choices"]
    strength: Float[Array, " choices"]
    shape: Float[Array, " choices"]
    scale: Float[Array, " choices"]


class ChangeDetector(eqx.Module):
    """The cumulative sums that tell a change from chance (Page 1954).

    - `rise`, `fall`: sums of what samples lay above and below the usual mean, beyond a
        slack; in standard deviations, from 0.

    **Example:**

        >>> detector = sj.kernels.change_detector()
        >>> detector, alarm = sj.kernels.detect_change(detector, 3.0, slack=0.5)
        >>> float(detector.rise), float(detector.fall)  # 3 - slack
        (2.5, 0.0)
    """

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
    """Update the prior by the rewards that were measured.

    **Arguments:**

    - `prior`, `prior_std`: reward expected before any is measured, and the standard
        deviation of a reward around it.
    - `count`, `mean`, `spread`: number, mean and standard deviation of the rewards of
        each alternative.
    - `strength`: number of rewards that the prior is worth; a smaller one explores more.

    **Example:**

        >>> prior, zero = jnp.full(2, 0.5), jnp.zeros(2)
        >>> count, mean = jnp.array([0.0, 3.0]), jnp.array([0.0, 0.9])
        >>> beliefs = sj.kernels.update_beliefs(prior, 0.1, count, mean, zero)
        >>> print(np.asarray(beliefs.mean).round(3))  # (0.5 + 3 * 0.9) / 4
        [0.5 0.8]
    """
    k = strength + count
    squares = jnp.maximum(count - 1, 0) * spread**2
    deviation = strength * count * (mean - prior) ** 2 / k
    # The prior of the variance is worth two rewards.
    scale = jnp.asarray(prior_std, mean.dtype) ** 2 + 0.5 * (squares + deviation)
    return Beliefs((strength * prior + count * mean) / k, k, 1 + 0.5 * count, scale)


def thompson_sample(beliefs: Beliefs, *, key: PRNGKeyArray) -> Float[Array, " choices"]:
    """Draw the mean reward of each alternative; the caller takes the largest.

    **Arguments:**

    - `beliefs`: from `update_beliefs`.
    - `key`: typed key of the draw; each choice needs a new one.

    **Example:**

        >>> prior, zero = jnp.full(2, 0.5), jnp.zeros(2)
        >>> count, mean = jnp.full(2, 50.0), jnp.array([0.2, 0.9])
        >>> beliefs = sj.kernels.update_beliefs(prior, 0.1, count, mean, zero)
        >>> int(jnp.argmax(sj.kernels.thompson_sample(beliefs, key=jr.key(0))))
        1
    """
    width = jnp.sqrt(beliefs.scale / (beliefs.shape * beliefs.strength))
    draw = jr.t(key, 2 * beliefs.shape, beliefs.mean.shape, beliefs.mean.dtype)
    return beliefs.mean + width * draw


def change_detector() -> ChangeDetector:
    """The detector before the first sample.

    **Example:**

        >>> detector = sj.kernels.change_detector()
        >>> float(detector.rise), float(detector.fall)
        (0.0, 0.0)
    """
    return ChangeDetector(jnp.zeros(()), jnp.zeros(()))


def detect_change(
    detector: ChangeDetector,
    sample: Scalar,
    *,
    slack: Scalar = SLACK,
    threshold: Scalar = THRESHOLD,
) -> tuple[ChangeDetector, Bool[Array, ""]]:
    """Add a standardised sample; after an alarm the sums start from zero.

    **Arguments:**

    - `detector`: the sums so far.
    - `sample`: deviations from the usual mean, in standard deviations; limited to 6.
    - `slack`: deviation that adds nothing to the sums; half of the shift to be found.
    - `threshold`: sum that gives an alarm, positive.

    **Returns:**

    The detector with the new sums, and whether there is an alarm.

    **Example:**

        >>> detector = sj.kernels.change_detector()
        >>> for sample in (4.0, 4.0, 4.0):  # standard deviations above what was usual
        ...     detector, alarm = sj.kernels.detect_change(detector, sample, slack=1.0)
        >>> bool(alarm)
        True
    """
    z = jnp.clip(jnp.asarray(sample, detector.rise.dtype), -_LARGEST, _LARGEST)
    z = jnp.where(jnp.isfinite(z), z, 0)
    rise = jnp.maximum(detector.rise + z - slack, 0)
    fall = jnp.maximum(detector.fall - z - slack, 0)
    alarm = jnp.maximum(rise, fall) > threshold
    return ChangeDetector(jnp.where(alarm, 0, rise), jnp.where(alarm, 0, fall)), alarm
