"""Digital rescaling after drift."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from sedma_jax.kernels import column_drift_compensation, drift, drift_compensation

from sedma_jax.noise_models import PCM_DRIFT
from tests.tolerances import gamma


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_uniform_loss_is_restored(dtype):
    before = jr.normal(jr.key(1), (6, 4), dtype)
    loss = jnp.asarray([0.5, 0.8, 0.25, 1.0], dtype)
    scale = drift_compensation(before, 0.4 * before)
    scales = column_drift_compensation(before, before * loss[None, :])
    assert scale.dtype == scales.dtype == dtype
    # sums of 24 and 6 terms of one sign, twice, a product and a quotient
    np.testing.assert_allclose(scale, 2.5, rtol=gamma(52, dtype))
    np.testing.assert_allclose(scales, 1 / loss, rtol=gamma(16, dtype))


def test_scale_is_the_ratio_of_absolute_sums():
    before = jnp.asarray([[3.0, -1.0], [-2.0, 2.0]])
    now = jnp.asarray([[-1.0, 1.0], [1.0, -1.0]])
    assert drift_compensation(before, now) == 2
    np.testing.assert_array_equal(column_drift_compensation(before, now), [2.5, 1.5])


def test_no_drift_and_no_current_need_no_correction():
    currents = jr.normal(jr.key(2), (6, 4))
    assert drift_compensation(currents, currents) == 1
    dark = currents.at[:, 2].set(0)
    scales = column_drift_compensation(currents, dark)
    np.testing.assert_array_equal(scales, 1)
    assert drift_compensation(currents, jnp.zeros((6, 4))) == 1
    slope = jax.grad(lambda x: jnp.sum(column_drift_compensation(currents, x)))(dark)
    assert np.all(np.isfinite(slope))


def test_compensation_recovers_most_of_a_drifted_product():
    target = jr.uniform(jr.key(3), (200, 20), minval=2e-6, maxval=25e-6)
    drifted = drift(PCM_DRIFT, target, 3e7, key=jr.key(4))
    reads = jr.uniform(jr.key(5), (8, 200))
    probe = jr.uniform(jr.key(6), (200,))
    exact, aged = probe @ target, probe @ drifted
    error = lambda y: np.linalg.norm(y - exact) / np.linalg.norm(exact)
    scale = drift_compensation(reads @ target, reads @ drifted)
    # (3e7 / 20)**-0.05 to **-0.1 loses half to three quarters. What rescaling leaves is
    # the spread among cells, a factor e**(14 * 0.02) or less each, averaged over 200
    # cells: some 2 %.
    assert error(aged) > 0.4
    assert error(scale * aged) < 0.05


def test_jit_and_vmap_agree_with_eager():
    before = jr.normal(jr.key(7), (3, 6, 4))
    now = 0.5 * before
    for compensate in (drift_compensation, column_drift_compensation):
        eager = jnp.stack([compensate(b, n) for b, n in zip(before, now, strict=True)])
        bound = gamma(52, np.float64) * 2
        np.testing.assert_allclose(
            jax.vmap(compensate)(before, now), eager, rtol=0, atol=bound
        )
        np.testing.assert_allclose(
            jax.jit(compensate)(before[0], now[0]), eager[0], rtol=0, atol=bound
        )
