"""Mean and variance of one read of a cell, which suffice for a sum over many cells."""

import math

import jax.numpy as jnp
import jax.random as jr
from jax.scipy.stats import norm
from jaxtyping import Array, Float

from .._cells.device import Scalar
from .._cells.noise_models import AbstractReadNoise, standard_uniform

# Limits further away than this, in standard deviations, have no effect in float64.
_FAR = 40.0


def read_moments(
    model: AbstractReadNoise,
    g: Float[Array, " *cells"],
    time: Scalar,
    g_programmed: Float[Array, " *cells"] | None = None,
) -> tuple[Float[Array, " *cells"], Float[Array, " *cells"]]:
    """Mean shift and variance of `read_noise`, its limits included, in closed form.

    A read is `clip(g + s xi, g_min, g_max)`. The limits of a model shift the mean of cells
    close to them: a cell without conductance reads `0.4 s` on average.

    **Arguments:**

    - `model`, `g`, `time`, `g_programmed`: as in `read_noise`. The distribution must
        be `jax.random.normal` or `standard_uniform`.

    **Returns:**

    The mean of a read minus `g`, in siemens, and its variance, in square siemens.

    **Raises:**

    - `ValueError`: for another distribution.

    **Example:**

        >>> model = sj.kernels.StationaryReadNoise(sj.noise_models.independent(1e-7))
        >>> mean, variance = sj.kernels.read_moments(model, jnp.array([0.0, 1e-5]), 0.0)
        >>> print(np.asarray(1e7 * mean).round(3))  # 1 / sqrt(2 pi), where g is 0
        [0.399 0.   ]
    """
    try:
        clipped = _CLIPPED[model.distribution]
    except KeyError:
        raise ValueError(
            "`sedma_jax.kernels.read_moments` needs a normal or a `standard_uniform` "
            f"distribution. Got {model.distribution}. Draw every cell of every read "
            "with `per_cell_noisy_matvec`."
        ) from None
    g_programmed = g if g_programmed is None else g_programmed
    spread = model.spread(g, jnp.asarray(time, g.dtype), g_programmed)
    noisy = spread > 0
    unit = jnp.where(noisy, spread, jnp.ones_like(spread))
    # The clip precedes the division, whose gradient at infinity is NaN.
    low, high = (
        (jnp.clip(limit, g - _FAR * unit, g + _FAR * unit) - g) / unit
        for limit in (model.g_min, model.g_max)
    )
    mean, square = clipped(low, high)
    variance = jnp.maximum(square - mean**2, 0)
    still = jnp.clip(g, model.g_min, model.g_max) - g
    return (
        jnp.where(noisy, unit * mean, still),
        jnp.where(noisy, unit**2 * variance, jnp.zeros_like(g)),
    )


def _clipped_normal(
    a: Float[Array, " *cells"], b: Float[Array, " *cells"]
) -> tuple[Float[Array, " *cells"], Float[Array, " *cells"]]:
    """First two moments of `clip(xi, a, b)` with `xi` standard normal."""
    below, above = norm.cdf(a), norm.cdf(-b)
    mean = a * below + b * above + norm.pdf(a) - norm.pdf(b)
    inside = 1 - below - above + a * norm.pdf(a) - b * norm.pdf(b)
    return mean, a**2 * below + b**2 * above + inside


def _clipped_uniform(
    a: Float[Array, " *cells"], b: Float[Array, " *cells"]
) -> tuple[Float[Array, " *cells"], Float[Array, " *cells"]]:
    """The same for the uniform distribution of unit variance."""
    end = math.sqrt(3)
    first, last = jnp.clip(a, -end, end), jnp.clip(b, -end, end)
    below, above = (first + end) / (2 * end), (end - last) / (2 * end)
    mean = a * below + b * above + (last**2 - first**2) / (4 * end)
    return mean, a**2 * below + b**2 * above + (last**3 - first**3) / (6 * end)


_CLIPPED = {jr.normal: _clipped_normal, standard_uniform: _clipped_uniform}
