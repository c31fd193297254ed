import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
from sedma_jax.kernels import (
    ProductStatistics,
    RememberedLambda,
    append_product,
    combine_lambda,
    recent_products,
    roughness_spectrum,
    stein_lambda,
)
from sedma_jax.kernels._correction.recent_products import earlier_share
from sedma_jax.kernels._correction.smoothing import LambdaEstimate

N, STD = 40, 0.1
SMOOTH = np.cos(np.arange(N) / 8)


@jax.jit
def step(recent, p, variance):
    """The weight of a product after earlier ones, and memory with it too."""
    spectrum = roughness_spectrum(p[None], jnp.full((1, N), variance))
    own = stein_lambda(spectrum)
    choice = combine_lambda(spectrum, own, RememberedLambda(recent=recent))
    return choice, append_product(recent, choice.statistics)


def dense_risk(p, lam):
    """Stein's estimate of one product over its squared size, by matrices."""
    L = np.diff(np.eye(N), axis=0)
    S = np.linalg.inv(np.eye(N) + lam * L.T @ L)
    return (np.sum((p - S @ p) ** 2) + 2 * STD**2 * (np.trace(S) - N)) / np.sum(p**2)


def test_the_weight_is_the_minimum_of_the_summed_risks():
    """Over the matrices of every product, each counting as `earlier_share` says."""
    rng = np.random.default_rng(0)
    products = SMOOTH + STD * rng.normal(size=(6, N))
    recent = recent_products()
    for p in products[:-1]:
        _, recent = step(recent, jnp.asarray(p), STD**2)
    choice, _ = step(recent, jnp.asarray(products[-1]), STD**2)
    share = float(earlier_share(choice.own, recent))
    assert 0.1 < share < 1
    weights = [share] * 5 + [1.0]
    curve = lambda v: sum(
        w * dense_risk(p, np.exp(v)) for w, p in zip(weights, products, strict=True)
    )
    best = scipy.optimize.minimize_scalar(curve, bounds=(-4, 6), method="bounded")
    # A band is a fifth of an octave wide to either side of its middle in frequency, twice
    # that in the eigenvalue: errors of both signs, of 0.17 in the logarithm at most.
    assert float(choice.recent.log_lam) == pytest.approx(best.x, abs=0.05)
    assert abs(float(choice.own.log_lam) - best.x) > 0.06
    assert float(jnp.log(choice.lam)) == pytest.approx(
        float(choice.recent.log_lam), rel=1e-12
    )


def test_products_of_one_kind_settle_the_weight():
    """Twenty equal signals: the scatter over draws of noise falls, as does what is stated.

    Twenty products of one kind have a twentieth of the variance, less what the prior of
    `tau^2` holds back; half is far outside what 60 draws leave to chance.
    """
    rng = np.random.default_rng(1)

    @jax.jit
    @jax.vmap
    def last(products):
        def one(recent, p):
            choice, recent = step(recent, p, STD**2)
            figures = (choice.own.log_lam, choice.recent.log_lam)
            return recent, (*figures, choice.recent.log_variance, choice.own.log_variance)

        return jax.lax.scan(one, recent_products(), products)[1]

    draws = jnp.asarray(SMOOTH + STD * rng.normal(size=(60, 20, N)))
    own, pooled, stated, stated_own = (np.asarray(v)[:, -1] for v in last(draws))
    assert own.var() > 2 * pooled.var()
    assert np.median(stated) < 0.5 * np.median(stated_own)
    # No product has predecessors in the first place.
    first = [np.asarray(v)[:, 0] for v in last(draws[:, :1])]
    np.testing.assert_array_equal(first[0], first[1])


def test_a_rough_product_after_smooth_ones_decides_alone():
    recent, rng = recent_products(), np.random.default_rng(2)
    for _ in range(4):
        p = SMOOTH + STD * rng.normal(size=N)
        choice, recent = step(recent, jnp.asarray(p), STD**2)
    assert float(choice.lam) > 0.1
    choice, _ = step(recent, jnp.asarray(rng.normal(size=N)), 1e-8)
    assert float(choice.lam) < 1e-6
    assert float(choice.recent.log_lam) == float(choice.own.log_lam)


def test_products_of_mixed_kinds_count_little():
    estimate = lambda v, variance: LambdaEstimate(
        *map(jnp.asarray, (1.0, v, variance, 0.0))
    )
    pushed, shared = jax.jit(append_product), jax.jit(earlier_share)

    def share(log_lams, variance):
        recent = recent_products()
        for v in log_lams:
            product = ProductStatistics(
                jnp.zeros((4, 64)), jnp.asarray(v), jnp.asarray(variance)
            )
            recent = pushed(recent, product)
        return float(shared(estimate(0.0, variance), recent))

    values = [0.0, 4.0, -4.0, 2.0]
    scatter = (np.log(2) ** 2 + 3 * np.var(values, ddof=1)) / 4
    want = 1 / (1 + 4 * (scatter - 0.5) / 0.5)
    assert share(values, 0.5) == pytest.approx(want, rel=1e-12)
    assert share([1.0, 1.1, 0.9, 1.0], 4.0) == 1.0
    assert share([], 1.0) == 1.0


def test_a_product_of_zeros_is_left_out():
    recent = recent_products()
    choice, kept = step(recent, jnp.zeros(N), 0.0)
    assert float(choice.lam) == 0.0
    assert int(kept.log_lam.count) == int(jnp.max(kept.bands.count)) == 0
    _, kept = step(recent, jnp.asarray(SMOOTH), STD**2)
    assert int(kept.log_lam.count) == int(jnp.min(kept.bands.count)) == 1
