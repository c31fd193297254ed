"""Short-term memory: the last samples of each statistic in this process."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..kernels import (
    ChangeDetector,
    ProductStatistics,
    RecentProducts,
    RingBuffer,
    Summary,
    append_product,
    append_sample,
    change_detector,
    detect_change,
    quantiles,
    recent_products,
    ring_buffer,
    summarise,
)

CAPACITY = 100
# How many classes of workloads have their products kept: 100 kB each.
_CLASSES = 64


class ShortTerm(eqx.Module):
    """The last 100 samples of each statistic; a pytree, which may be used inside `jit`.

    - `buffers`: the samples, by name of the statistic.
    - `drift`: cumulative sums that tell a change of devices or load from chance.
    - `regime`: changes noticed so far.
    - `products`: by class of workloads, what the last products said of the
        regularisation parameter λ; for the 64 classes seen last.

    **Example:**

        >>> short_term = sj.memory.ShortTerm().add(seconds=1.0).add(seconds=3.0)
        >>> summary = short_term.summary("seconds")
        >>> int(summary.count), float(summary.mean), float(summary.slope)
        (2, 2.0, 2.0)
    """

    buffers: dict[str, RingBuffer] = eqx.field(default_factory=dict)
    drift: ChangeDetector = eqx.field(default_factory=change_detector)
    regime: int = eqx.field(static=True, default=0)
    products: dict[str, RecentProducts] = eqx.field(default_factory=dict)

    def add(self, **samples: float | Float[Array, ""]) -> "ShortTerm":
        """A memory with one more sample of each statistic; samples not finite are left out.

        A new name changes the structure of the pytree.
        """
        buffers = dict(self.buffers)
        for name, sample in samples.items():
            buffers[name] = _push(buffers.get(name, _ring_buffer(CAPACITY)), sample)
        return dataclasses.replace(self, buffers=buffers)

    def recent_products(self, name: str) -> RecentProducts:
        """The last products of a class; empty for a new class."""
        if name in self.products:
            return self.products[name]
        return _recent_products(CAPACITY)

    def add_product(self, name: str, product: ProductStatistics) -> "ShortTerm":
        """A memory with one more product of a class; a product not finite is left out."""
        others = {k: v for k, v in self.products.items() if k != name}
        kept = list(others.items())[-(_CLASSES - 1) :]
        newest = _push_product(self.recent_products(name), product)
        return dataclasses.replace(self, products=dict([*kept, (name, newest)]))

    def summary(self, name: str, last: int | None = None) -> Summary:
        """Count, mean, variance and trend of the last samples; zeros if there are none."""
        return _summarise(self.buffers.get(name, _ring_buffer(CAPACITY)), last)

    def quantiles(self, name: str, q: Float[Array, " q"]) -> Float[Array, " q"]:
        """Quantiles of the samples; NaN if there are none."""
        buffer = self.buffers[name] if name in self.buffers else _ring_buffer(CAPACITY)
        return quantiles(buffer, q)

    def watched(self, surprise: float) -> tuple["ShortTerm", bool]:
        """Add how far a reward is from what is remembered, in standard deviations.

        **Returns:**

        The memory, and whether devices or load have changed. If so, the statistics start
        anew, since the old ones describe what was before.
        """
        drift, alarm = _watch(self.drift, jnp.asarray(surprise, jnp.result_type(float)))
        if bool(alarm):
            return ShortTerm({}, change_detector(), self.regime + 1), True
        return dataclasses.replace(self, drift=drift), False


_ring_buffer = jax.jit(ring_buffer, static_argnums=0)
_recent_products = jax.jit(recent_products, static_argnums=0)
_push = jax.jit(append_sample)
_push_product = jax.jit(append_product)
_watch = jax.jit(detect_change)
_summarise = jax.jit(summarise, static_argnums=1)
