"""Keep the last samples of a statistic, inside `jit`.

A new sample replaces the oldest. Every statistic is one pass over the buffer, with the
empty places masked, so that all functions can be traced, vmapped and scanned.
"""

import equinox as eqx
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

from .._cells.device import Scalar


class RingBuffer(eqx.Module):
    """The last samples of one statistic.

    - `samples`: places for samples, the oldest at `count % capacity` once full.
    - `count`: number of samples added so far.

    **Example:**

        >>> buffer = sj.kernels.ring_buffer(2)
        >>> for sample in (1.0, 2.0, 3.0):
        ...     buffer = sj.kernels.append_sample(buffer, sample)
        >>> print(buffer.samples)  # 3 took the place of 1
        [3. 2.]
    """

    samples: Float[Array, " capacity"]
    count: Int[Array, ""]


class Summary(eqx.Module):
    """Statistics of the samples in a buffer; zeros where it is empty.

    - `count`: number of samples held.
    - `mean`, `variance`: `variance` is unbiased, and zero below two samples.
    - `slope`: least-squares change per sample, from the oldest on; zero below two samples.

    **Example:**

        >>> buffer = sj.kernels.ring_buffer(10)
        >>> for sample in (1.0, 2.0, 3.0):
        ...     buffer = sj.kernels.append_sample(buffer, sample)
        >>> summary = sj.kernels.summarise(buffer)
        >>> int(summary.count), float(summary.mean), float(summary.slope)
        (3, 2.0, 1.0)
    """

    count: Int[Array, ""]
    mean: Float[Array, ""]
    variance: Float[Array, ""]
    slope: Float[Array, ""]


def ring_buffer(capacity: int = 100, dtype: DTypeLike = float) -> RingBuffer:
    """Make an empty buffer.

    **Raises:**

    - `ValueError`: if `capacity < 1`.

    **Example:**

        >>> buffer = sj.kernels.ring_buffer(capacity=100)
        >>> buffer.samples.shape, int(buffer.count)
        ((100,), 0)
    """
    if capacity < 1:
        raise ValueError(
            f"`sedma_jax.kernels.ring_buffer` needs `capacity >= 1`. Got {capacity=}. "
            "SEDMA keeps 100 samples."
        )
    return RingBuffer(jnp.zeros(capacity, dtype), jnp.zeros((), jnp.int32))


def append_sample(buffer: RingBuffer, sample: Scalar) -> RingBuffer:
    """Add a sample; one that is not finite is left out.

    **Example:**

        >>> buffer = sj.kernels.append_sample(sj.kernels.ring_buffer(10), 1.0)
        >>> int(sj.kernels.append_sample(buffer, jnp.nan).count)  # NaN is left out
        1
    """
    sample = jnp.asarray(sample, buffer.samples.dtype)
    good = jnp.isfinite(sample)
    place = buffer.count % buffer.samples.size
    kept = jnp.where(good, sample, buffer.samples[place])
    return RingBuffer(
        buffer.samples.at[place].set(kept), buffer.count + good.astype(jnp.int32)
    )


def in_order(
    buffer: RingBuffer, last: int | None = None
) -> tuple[Float[Array, " window"], Bool[Array, " window"]]:
    """The last samples, oldest first, and a mask of those that exist.

    **Arguments:**

    - `last`: length of the window; the whole buffer if left out. Static.

    **Returns:**

    Samples, zero where there is none, and the mask. Existing samples come last.
    """
    capacity = buffer.samples.size
    window = capacity if last is None else min(last, capacity)
    age = jnp.arange(window, 0, -1, dtype=jnp.int32)
    samples = buffer.samples[(buffer.count - age) % capacity]
    held = age <= buffer.count
    return jnp.where(held, samples, 0), held


def summarise(buffer: RingBuffer, last: int | None = None) -> Summary:
    """Count, mean, variance and trend of the last samples.

    **Arguments:**

    - `buffer`: the samples.
    - `last`: length of the window; the whole buffer if left out. Static.

    **Example:**

        >>> buffer = sj.kernels.ring_buffer(10)
        >>> for sample in (9.0, 1.0, 3.0):
        ...     buffer = sj.kernels.append_sample(buffer, sample)
        >>> float(sj.kernels.summarise(buffer, last=2).mean)
        2.0
    """
    samples, held = in_order(buffer, last)
    dtype = samples.dtype
    count = jnp.sum(held, dtype=jnp.int32)
    n = jnp.maximum(count, 1).astype(dtype)
    mean = jnp.sum(samples) / n
    error = jnp.where(held, samples - mean, 0)
    variance = jnp.sum(error**2) / jnp.maximum(n - 1, 1)
    place = jnp.arange(samples.size, dtype=dtype)
    place = jnp.where(held, place - jnp.sum(jnp.where(held, place, 0)) / n, 0)
    # Two samples give 0.5, more give more; fewer have no slope.
    slope = jnp.sum(place * error) / jnp.maximum(jnp.sum(place**2), 0.5)
    return Summary(count, mean, variance, slope)


def quantiles(
    buffer: RingBuffer, q: Float[Array, " q"], last: int | None = None
) -> Float[Array, " q"]:
    """Quantiles of the last samples, interpolated linearly; NaN where there is none.

    **Arguments:**

    - `buffer`, `last`: as in `summarise`.
    - `q`: from 0 to 1.

    **Example:**

        >>> buffer = sj.kernels.ring_buffer(10)
        >>> for sample in (1.0, 3.0, 2.0):
        ...     buffer = sj.kernels.append_sample(buffer, sample)
        >>> print(sj.kernels.quantiles(buffer, jnp.array([0.5, 1.0])))
        [2. 3.]
    """
    samples, held = in_order(buffer, last)
    ordered = jnp.sort(jnp.where(held, samples, jnp.inf))
    count = jnp.sum(held, dtype=jnp.int32)
    at = q * jnp.maximum(count - 1, 0).astype(q.dtype)
    low = jnp.floor(at).astype(jnp.int32)
    below, above = ordered[low], ordered[jnp.minimum(low + 1, jnp.maximum(count - 1, 0))]
    mixed = below + (at - jnp.floor(at)).astype(samples.dtype) * (above - below)
    return jnp.where(count > 0, mixed, jnp.nan)
