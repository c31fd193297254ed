import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
from sedma_jax.kernels import (
    denoise,
    product_noise,
    roughness_spectrum,
    stein_lambda,
)
from sedma_jax.kernels._correction.smoothing import risk_change
from tolerances import Z, gamma, mean_atol

ROUGH = np.random.default_rng(1).normal(size=200)
SMOOTH = np.cos(np.arange(200) / 20)


@jax.jit
def stein(p, variance):
    return stein_lambda(roughness_spectrum(p, variance))


def smoother(n, lam, zero_end):
    L = np.diff(np.eye(n), axis=0)
    if zero_end:
        L = np.vstack([L, np.eye(n)[-1]])
    return np.linalg.inv(np.eye(n) + lam * L.T @ L)


@pytest.fixture(scope="module", params=[False, True], ids=["free", "zero"])
def noisy(request):
    """Two signals, their variances and their spectrum."""
    rng = np.random.default_rng(0)
    variance = rng.random((2, 37)) * 0.01
    p = np.sin(np.arange(37) / 6) + rng.normal(size=(2, 37)) * np.sqrt(variance)
    spectrum = roughness_spectrum(
        jnp.asarray(p), jnp.asarray(variance), zero_end=request.param
    )
    return p, variance, request.param, spectrum


def dense_risk(p, variance, lam, zero_end):
    S = smoother(p.shape[1], lam, zero_end)
    misfit = np.sum((p - p @ S) ** 2)
    return misfit + 2 * np.sum(np.diag(S) * variance) - 2 * variance.sum()


@pytest.mark.parametrize("lam", [0.0, 1e-3, 0.5, 20.0])
def test_risk_is_that_of_the_matrices(noisy, lam):
    p, variance, zero_end, spectrum = noisy
    want = dense_risk(p, variance, lam, zero_end)
    # Transforms and sums of the squares of 37 entries of size one.
    assert float(risk_change(spectrum, lam)) == pytest.approx(
        want, abs=gamma(1000, float) * np.sum(p**2)
    )


def test_weights_chosen_are_minima_over_the_matrices(noisy):
    p, variance, zero_end, spectrum = noisy

    curve = lambda v: dense_risk(p, variance, np.exp(v), zero_end)
    for score, lam in ((curve, jax.jit(stein_lambda)(spectrum).lam),):
        around = np.linspace(-8, 8, 81)
        start = around[np.argmin([score(v) for v in around])]
        best = scipy.optimize.minimize_scalar(
            score, bounds=(start - 0.2, start + 0.2), method="bounded"
        )
        # The minimiser stops within 1e-5 of the place.
        assert np.log(float(lam)) == pytest.approx(best.x, abs=2e-4)


def test_risk_is_unbiased_and_the_spread_of_the_minimum_as_stated():
    std, lam, draws = 0.05, 3.0, 2000
    p = SMOOTH + std * np.random.default_rng(2).normal(size=(draws, SMOOTH.size))
    variance = np.full((1, SMOOTH.size), std**2)

    @jax.jit
    @jax.vmap
    def both(p):
        spectrum = roughness_spectrum(p[None], jnp.asarray(variance))
        return risk_change(spectrum, lam), stein_lambda(spectrum)

    risk, estimate = both(jnp.asarray(p))
    S = smoother(SMOOTH.size, lam, False)
    bias = np.sum((SMOOTH - S @ SMOOTH) ** 2)
    want = bias + std**2 * (np.sum(S**2) - SMOOTH.size)
    atol = mean_atol(float(jnp.std(risk)), draws)
    assert float(jnp.mean(risk)) == pytest.approx(want, abs=atol)
    # Linearised: a tenth for the terms left out, besides sampling.
    ratio = float(jnp.std(estimate.log_lam) / jnp.sqrt(jnp.mean(estimate.log_variance)))
    assert abs(ratio - 1) < 0.1 + Z / np.sqrt(2 * draws)


@pytest.mark.parametrize(
    ("signal", "std"), [(ROUGH, 1e-4), (SMOOTH, 0.0), (np.zeros(200), 0.0)]
)
def test_what_needs_no_smoothing_is_left_alone(signal, std):
    p = jnp.asarray(signal + std * ROUGH[::-1])
    found = stein(p[None], jnp.full((1, 200), std**2))
    assert float(found.lam) < 1e-7
    assert float(found.risk) <= 0
    if std == 0:
        assert float(found.lam) == 0.0
        assert (denoise(p, found.lam) == p).all()


def test_single_precision_and_one_entry():
    p = jnp.asarray(SMOOTH + 0.05 * ROUGH)
    variance = jnp.full((1, 200), 0.05**2)
    double = stein(p[None], variance)
    single = stein(p[None].astype("float32"), variance.astype("float32"))
    assert single.lam.dtype == jnp.float32
    assert float(single.log_lam) == pytest.approx(float(double.log_lam), abs=1e-3)
    assert float(stein(jnp.ones((1, 1)), jnp.ones((1, 1))).lam) == 0.0


def test_noise_is_measured_without_the_answer():
    """Over independent cells, to sampling error, with a bias of all cells on top."""
    rng = np.random.default_rng(3)
    m, n, std = 2000, 100, 0.02
    A, x = rng.normal(size=(m, n)), rng.random(n)
    error = 0.1 * rng.normal(size=n)
    E = std * rng.normal(size=(m, n)) + 0.01
    p = A @ x - E @ error
    found = float(product_noise(*map(jnp.asarray, ((A + E) @ x, p, x, error))))
    want = std**2 * np.sum(error**2)
    # Differences of neighbours: 3 sigma^4 / m in place of 2 sigma^4 / m. `E error` is
    # part of the difference too, and small.
    cross = 2 * np.linalg.norm(error) / np.linalg.norm(x)
    assert found == pytest.approx(want, rel=Z * np.sqrt(3 / m) + cross)
    nothing = jnp.zeros(5)
    assert float(product_noise(nothing, nothing, nothing, nothing)) == 0.0
