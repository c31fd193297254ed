import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sedma_jax.kernels import append_sample, quantiles, ring_buffer, summarise
from sedma_jax.kernels._learning.ring_buffer import in_order

SAMPLES = np.random.default_rng(0).normal(size=23) + 0.1 * np.arange(23)


@jax.jit
def filled(samples):
    buffer = ring_buffer(10, samples.dtype)
    return jax.lax.scan(lambda b, s: (append_sample(b, s), None), buffer, samples)[0]


def check(summary, want):
    assert int(summary.count) == want.size
    assert float(summary.mean) == pytest.approx(want.mean(), rel=1e-12)
    if want.size > 1:
        assert float(summary.variance) == pytest.approx(want.var(ddof=1), rel=1e-12)
        slope = np.polyfit(np.arange(want.size), want, 1)[0]
        assert float(summary.slope) == pytest.approx(slope, rel=1e-9)
    else:
        assert float(summary.variance) == float(summary.slope) == 0.0


@pytest.mark.parametrize("count", [1, 2, 4, 10, 23])
def test_figures_are_those_of_the_last_samples(count):
    given = np.where(np.arange(23) < count, SAMPLES, np.nan)  # NaN is left out
    buffer = filled(jnp.asarray(given))
    kept = SAMPLES[:count][-10:]
    check(summarise(buffer), kept)
    check(summarise(buffer, 3), kept[-3:])
    q = np.array([0, 0.25, 0.5, 0.9, 1])
    found = quantiles(buffer, jnp.asarray(q))
    np.testing.assert_allclose(found, np.quantile(kept, q), rtol=1e-12)
    samples, held = in_order(buffer)
    assert (samples[held] == kept).all()


def test_an_empty_buffer_says_nothing():
    buffer = filled(jnp.full(23, jnp.inf))
    assert [float(v) for v in jax.tree.leaves(summarise(buffer))] == [0, 0, 0, 0]
    assert jnp.isnan(quantiles(buffer, jnp.array([0.5]))).all()
    with pytest.raises(ValueError, match="capacity >= 1"):
        ring_buffer(0)
