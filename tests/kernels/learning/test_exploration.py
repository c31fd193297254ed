import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sedma_jax.kernels import (
    change_detector,
    detect_change,
    thompson_sample,
    update_beliefs,
)
from tolerances import Z, mean_atol


def test_beliefs_are_those_of_the_rewards_taken_one_by_one():
    rewards = np.random.default_rng(0).normal(2.0, 0.5, size=7)
    m, k, a, b = 0.3, 1.0, 1.0, 0.8**2
    for r in rewards:  # one reward at a time (Murphy 2007, Eq. 85-89 with n = 1)
        b = b + k * (r - m) ** 2 / (2 * (k + 1))
        m, k, a = (k * m + r) / (k + 1), k + 1, a + 0.5
    one = lambda v: jnp.asarray([float(v)])
    found = update_beliefs(
        one(0.3), 0.8, one(7), one(rewards.mean()), one(rewards.std(ddof=1))
    )
    want = (m, k, a, b)
    for value, expected in zip(jax.tree.leaves(found), want, strict=True):
        assert float(value[0]) == pytest.approx(expected, rel=1e-12)


def test_draws_follow_the_beliefs():
    n = 4000
    count, mean, spread = 9.0, 1.0, 0.2
    full = lambda v: jnp.full(n, float(v))
    beliefs = update_beliefs(full(0.0), 0.5, full(count), full(mean), full(spread))
    draws = np.asarray(thompson_sample(beliefs, key=jax.random.key(0)))
    k, a, b = (float(v[0]) for v in (beliefs.strength, beliefs.shape, beliefs.scale))
    std = np.sqrt(b / (a * k) * a / (a - 1))  # of Student's law with 2 a degrees
    assert draws.mean() == pytest.approx(mean * count / k, abs=mean_atol(std, n))
    # Fourth moment of Student's law with 11 degrees: 3 + 6 / 7.
    assert draws.std() == pytest.approx(std, rel=Z * np.sqrt((2 + 6 / 7) / (4 * n)))


@jax.jit
def alarms(samples):
    def step(drift, z):
        return detect_change(drift, z)

    return jax.lax.scan(step, change_detector(), samples)[1]


def test_alarms_are_as_rare_as_stated_and_changes_are_seen_soon():
    samples = np.random.default_rng(0).normal(size=400_000)
    found = int(jnp.sum(alarms(jnp.asarray(samples))))
    rate = 400_000 / 9_500
    # Siegmund's approximation is good to a few per cent; a fifth, besides sampling.
    assert abs(found - rate) < 0.2 * rate + Z * np.sqrt(rate)
    shifted = np.random.default_rng(1).normal(size=(300, 20)) - 3.0
    first = jax.vmap(lambda s: jnp.argmax(alarms(s)))(jnp.asarray(shifted))
    assert 2.5 < float(jnp.mean(first + 1)) < 5
    assert not bool(alarms(jnp.asarray([1e9, np.nan, 0.0, 0.0])).any())
