"""Short-term memory: the last samples of each statistic of this process."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..kernels import (
    Drift,
    RingBuffer,
    Summary,
    no_drift,
    push,
    quantiles,
    ring_buffer,
    summarise,
    watch,
)

CAPACITY = 100


class ShortTerm(eqx.Module):
    """The last 100 samples of each statistic; a pytree, to be used inside `jit`.

    - `buffers`: by name of the statistic.
    - `drift`: sums that tell a change of devices or load from chance.
    - `regime`: changes noticed so far.
    """

    buffers: dict[str, RingBuffer] = eqx.field(default_factory=dict)
    drift: Drift = eqx.field(default_factory=no_drift)
    regime: int = eqx.field(static=True, default=0)

    def add(self, **samples: float | Float[Array, ""]) -> "ShortTerm":
        """A memory with one more sample of each statistic; those not finite are left out.

        A name that is new changes the structure of the pytree.
        """
        buffers = dict(self.buffers)
        for name, sample in samples.items():
            buffers[name] = _push(buffers.get(name, ring_buffer(CAPACITY)), sample)
        return ShortTerm(buffers, self.drift, self.regime)

    def summary(self, name: str, last: int | None = None) -> Summary:
        """Count, mean, variance and trend of the last samples; zeros if there is none."""
        return _summarise(self.buffers.get(name, ring_buffer(CAPACITY)), last)

    def quantiles(self, name: str, q: Float[Array, " q"]) -> Float[Array, " q"]:
        """Quantiles of the samples; NaN if there is none."""
        return quantiles(self.buffers.get(name, ring_buffer(CAPACITY)), q)

    def watched(self, surprise: float) -> tuple["ShortTerm", bool]:
        """Take in how far a reward is from what is remembered, in standard deviations.

        **Returns:**

        The memory, and whether something changed. Then the statistics start anew, since
        they are of what was before.
        """
        drift, alarm = _watch(self.drift, jnp.asarray(surprise, jnp.result_type(float)))
        if bool(alarm):
            return ShortTerm({}, no_drift(), self.regime + 1), True
        return ShortTerm(self.buffers, drift, self.regime), False


_push = jax.jit(push)
_watch = jax.jit(watch)
_summarise = jax.jit(summarise, static_argnums=1)
