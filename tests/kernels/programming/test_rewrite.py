"""The law of rewriting against the loop, attempt by attempt, and against closed forms."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import scipy.stats
from sedma_jax.kernels import (
    VerifyRule,
    nominal_response,
    rewrite_and_verify,
    sampled_rewrite,
    visible_state,
)
from tolerances import Z, kolmogorov_smirnov, mean_atol

import sedma_jax as sj

DEVICE = dataclasses.replace(sj.devices.EPIRAM, sigma_c2c=0.05)
COUNT = 20_000
# Away from the ends of the window; within reach of one; the same, with its band outside.
TARGETS = (0.5, 0.06, 0.98)
RULES = {
    "most accepted": (0.08, 20),
    "most fail": (0.01, 4),
    "one attempt": (0.03, 1),
}


def run(scheme, target, rule, key, device=DEVICE):
    """One array of the shape of `target`, whose cells start from 0.3."""
    return scheme(
        target,
        jnp.full_like(target, 0.3),
        jnp.ones(target.shape[1:], bool),
        device,
        nominal_response(device, target.dtype),
        rule,
        key=key,
    )


@partial(jax.jit, static_argnames=("scheme",))
def many(scheme, target, rule, keys):
    state, stats = jax.vmap(lambda key: run(scheme, target, rule, key))(keys)
    return visible_state(state, DEVICE), stats


def two_laws(target, rule):
    loop = many(rewrite_and_verify, target, rule, jr.split(jr.key(1), COUNT))
    return loop, many(sampled_rewrite, target, rule, jr.split(jr.key(2), COUNT))


def distance(one, other):
    # Latencies that are equal may be summed in another order.
    one, other = (np.round(np.ravel(v).astype(float), 12) for v in (one, other))
    return scipy.stats.ks_2samp(one, other, method="asymp").statistic


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_cells_follow_the_law_of_the_loop(rule, dtype):
    band, iterations = rule
    target = jnp.asarray(TARGETS, dtype)[None, None, :]
    rule = VerifyRule(band, jnp.inf, jnp.inf, -1.0, iterations)
    (loop, loop_stats), (law, law_stats) = two_laws(target, rule)
    bound = kolmogorov_smirnov(COUNT, COUNT)
    for cell in range(3):
        assert distance(loop[..., cell], law[..., cell]) < bound
    for field in ("pulses", "iterations", "unfinished", "write_latency", "residual"):
        one, other = (getattr(s, field) for s in (loop_stats, law_stats))
        assert distance(one, other) < bound, field
    # In the loop the energy of a failed attempt is random, here it is that of its centre:
    # the mean is the same but for what the window clips, below one in a thousand here.
    for field in ("write_energy", "verify_energy"):
        one, other = (np.asarray(getattr(s, field), float) for s in (loop_stats, law_stats))
        atol = Z * np.sqrt((one.var() + other.var()) / COUNT)
        assert abs(one.mean() - other.mean()) < atol + 1e-3 * one.mean(), field


def test_attempts_are_geometric_and_values_truncated_normal():
    sigma, band, rounds = DEVICE.sigma_c2c, 0.03, 5
    rule = VerifyRule(band, jnp.inf, jnp.inf, -1.0, rounds)
    state, stats = many(
        sampled_rewrite, jnp.full((1, 1, 1), 0.5), rule, jr.split(jr.key(3), COUNT)
    )
    q = 2 * scipy.stats.norm.sf(band / sigma)
    attempts = np.asarray(stats.pulses) // 2
    chance = q ** np.arange(rounds) * (1 - q)
    chance[-1] = q ** (rounds - 1)
    share = np.bincount(attempts, minlength=rounds + 1)[1:] / COUNT
    assert (np.abs(share - chance) < Z * np.sqrt(chance * (1 - chance) / COUNT)).all()
    failed = np.asarray(stats.unfinished) == 1
    assert abs(failed.mean() - q**rounds) < Z * np.sqrt(q**rounds / COUNT)
    z = (np.asarray(state).ravel() - 0.5) / sigma
    inside = scipy.stats.truncnorm(-band / sigma, band / sigma)
    for number in (1, 3):  # the value does not depend on the attempt
        values = z[~failed & (attempts == number)]
        reached = scipy.stats.kstest(values, inside.cdf).statistic
        assert reached < kolmogorov_smirnov(len(values))
    tail = scipy.stats.kstest(
        np.abs(z[failed]), lambda x: 1 - 2 * scipy.stats.norm.sf(x) / q
    )
    assert tail.statistic < kolmogorov_smirnov(int(failed.sum()))
    assert abs(np.sign(z[failed]).mean()) < mean_atol(1, int(failed.sum()))


def test_rows_wait_for_their_slowest_cell():
    target = jnp.asarray([[[0.5, 0.4, 0.6], [0.5, 0.33, 0.35]]])
    rule = VerifyRule(0.02, jnp.inf, jnp.inf, -1.0, 6)
    (_, loop), (_, law) = two_laws(target, rule)
    # Two cells read 0.34 from the start, so that of six in two rows four are written.
    assert int(jnp.min(law.pulses)) == int(jnp.min(loop.pulses)) == 8
    for field in ("write_latency", "verify_latency", "pulses", "iterations"):
        one, other = (getattr(s, field) for s in (loop, law))
        assert distance(one, other) < kolmogorov_smirnov(COUNT, COUNT), field


def test_with_read_noise_it_is_the_loop():
    device = dataclasses.replace(DEVICE, sigma_read=0.01)
    target = jnp.asarray(np.random.default_rng(0).random((2, 3, 4)))
    rule = VerifyRule(0.02, jnp.inf, jnp.inf, -1.0, 6)
    loop = run(rewrite_and_verify, target, rule, jr.key(4), device)
    law = run(sampled_rewrite, target, rule, jr.key(4), device)
    for one, other in zip(jax.tree.leaves(loop), jax.tree.leaves(law), strict=True):
        # Compiled another way, sums are rounded otherwise.
        np.testing.assert_allclose(one, other, rtol=1e-12)


@pytest.mark.parametrize("scheme", [rewrite_and_verify, sampled_rewrite])
def test_without_noise_one_attempt_is_exact(scheme):
    device = dataclasses.replace(DEVICE, sigma_c2c=0.0)
    target = jnp.asarray(np.random.default_rng(1).random((1, 8, 8)))
    rule = VerifyRule(0.01, jnp.inf, jnp.inf, -1.0, 6)
    state, stats = run(scheme, target, rule, jr.key(5), device)
    # What started within the band, from 0.3, stays.
    start = visible_state(jnp.asarray(0.3), device)
    expected = np.where(np.abs(target - start) > 0.01, target, start)
    np.testing.assert_allclose(visible_state(state, device), expected, atol=1e-12)
    assert int(stats.iterations) == 1 and int(stats.unfinished) == 0
    written = int(np.sum(np.abs(target - start) > 0.01))
    assert int(stats.pulses) == 2 * written
    expected = 8 * (device.t_ltp + device.t_ltd)
    np.testing.assert_allclose(stats.write_latency, expected, rtol=1e-12)


def test_a_matrix_is_programmed_within_the_band():
    A = np.random.default_rng(2).normal(size=(40, 30)).astype(np.float32)
    rule = sj.acceptance_band(DEVICE, half_width=0.02)
    how = dict(
        array=(16, 16), scaling=sj.global_scale, scheme=sj.sampled_rewrite, rule=rule
    )
    crossbar, stats = sj.program(A, DEVICE, **how, key=jr.key(6))
    error = np.abs(sj.stored_matrix(crossbar) - A) / np.abs(A).max()
    assert 0.015 < error.max() <= 0.02 * (1 + 1e-4)
    assert int(np.sum(stats.per_array.unfinished)) == 0
