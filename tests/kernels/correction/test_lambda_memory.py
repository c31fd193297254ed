import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sedma_jax.kernels import (
    RememberedLambda,
    combine_lambda as combine,
    roughness_spectrum,
    stein_lambda,
)
from sedma_jax.kernels._correction.smoothing import LambdaEstimate

combine_lambda = jax.jit(combine)


def estimate(log_lam, variance):
    return LambdaEstimate(*map(jnp.asarray, (np.exp(log_lam), log_lam, variance, 0.0)))


def flat():
    """A spectrum that has no opinion: every weight costs nothing."""
    return roughness_spectrum(jnp.zeros((1, 8)), jnp.zeros((1, 8)))


def test_memory_counts_by_its_certainty():
    v, s, count = 0.5, 0.8, 50
    scatter = (np.log(10) ** 2 + (count - 1) * s**2) / count
    u = scatter - v + scatter / count
    found = combine_lambda(
        flat(), estimate(0.0, v), RememberedLambda(count=float(count), mean=0.3, spread=s)
    )
    assert float(found.alpha) == pytest.approx(v / (v + u), rel=1e-12)
    assert float(jnp.log(found.lam)) == pytest.approx(0.3 * v / (v + u), rel=1e-12)


@pytest.mark.parametrize(
    ("memory", "refused"),
    [
        (RememberedLambda(), False),
        (RememberedLambda(count=100.0, mean=6.0, spread=0.1), True),
    ],
)
def test_no_memory_and_contradicted_memory_leave_the_data_alone(memory, refused):
    found = combine_lambda(flat(), estimate(-1.0, 0.01), memory)
    assert float(found.alpha) == 0.0
    assert bool(found.refused) is refused
    assert float(jnp.log(found.lam)) == pytest.approx(-1.0, rel=1e-12)


def test_a_rough_product_refuses_the_memory_of_smooth_ones():
    p = jnp.asarray(np.random.default_rng(0).normal(size=(1, 64)))
    spectrum = roughness_spectrum(p, jnp.full((1, 64), 1e-6))
    vague = jax.jit(stein_lambda)(spectrum)
    # Even where the place of the minimum were unknown, its risk speaks.
    vague = LambdaEstimate(vague.lam, vague.log_lam, jnp.array(100.0), vague.risk)
    memory = RememberedLambda(count=1000.0, mean=1.0, spread=0.1)
    found = combine_lambda(spectrum, vague, memory)
    assert bool(found.refused)
    assert float(found.lam) < 1e-5


def test_memory_brings_the_weight_closer_to_the_truth():
    """In the model that alpha is derived from, over draws of it."""
    rng = np.random.default_rng(0)
    mu, tau, v, count, draws = 1.0, 0.3, 1.0, 100, 400
    theta = mu + tau * rng.normal(size=draws)
    earlier = mu + np.hypot(tau, np.sqrt(v)) * rng.normal(size=(draws, count))
    recent = theta + np.sqrt(v) * rng.normal(size=draws)

    def one(recent, mean, spread):
        estimate = LambdaEstimate(jnp.exp(recent), recent, jnp.array(v), jnp.array(0.0))
        memory = RememberedLambda(count=float(count), mean=mean, spread=spread)
        return jnp.log(combine_lambda(flat(), estimate, memory).lam)

    moments = map(jnp.asarray, (recent, earlier.mean(1), earlier.std(1, ddof=1)))
    found = np.asarray(jax.vmap(one)(*moments))
    error, alone = np.mean((found - theta) ** 2), np.mean((recent - theta) ** 2)
    # With mu and tau known the best is tau^2 v / (tau^2 + v) = 0.083; here both are
    # estimated from 100 samples.
    assert alone == pytest.approx(v, rel=5 * np.sqrt(2 / draws))
    assert error < 0.2 * v
