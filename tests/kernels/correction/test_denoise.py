import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sedma_jax.kernels import denoise
from tolerances import gamma

import sedma_jax as sj


def roughness(n, zero_end):
    L = np.eye(n) - np.eye(n, k=1)
    return L if zero_end else L[:-1]


def dense(n, lam, zero_end):
    L = roughness(n, zero_end)
    return np.eye(n) + lam * L.T @ L


@pytest.mark.parametrize("zero_end", [False, True])
@pytest.mark.parametrize("n", [1, 2, 3, 66])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_solve_against_a_dense_one(n, dtype, zero_end):
    p = np.random.default_rng(n).normal(size=(2, n))
    for lam in (0.0, 1e-12, 0.3, 50.0):
        y = sj.denoise(jnp.asarray(p, dtype), lam, zero_end=zero_end)
        expected = np.linalg.solve(dense(n, lam, zero_end), p.T).T
        assert y.dtype == dtype
        # Backward error of a few roundings, amplified by cond <= 1 + 4 lam.
        bound = gamma(16, dtype) * (1 + 4 * lam) * np.linalg.norm(p)
        assert np.linalg.norm(np.asarray(y) - expected) <= bound


def test_free_end_passes_constants_and_zero_end_does_not():
    p = jnp.full(50, 3.0)
    np.testing.assert_allclose(sj.denoise(p, 10.0), p, rtol=1e-12)
    assert sj.denoise(p, 10.0, zero_end=True)[-1] < 2.5


def test_eigenvalues_of_the_zero_end():
    # MELISO+ at n = 66: L^T L has eigenvalues 5.6e-4 to 3.998.
    columns = jax.vmap(lambda e: sj.denoise(e, 1.0, zero_end=True))(jnp.eye(66))
    values = 1 / np.linalg.eigvalsh(columns)[::-1] - 1
    np.testing.assert_allclose(values[[0, -1]], [5.6e-4, 3.998], rtol=0.01)


@pytest.mark.parametrize("zero_end", [False, True])
def test_gradients_against_closed_forms(zero_end):
    n, lam = 12, 0.7
    rng = np.random.default_rng(3)
    p, weight = rng.normal(size=n), rng.normal(size=n)
    L = roughness(n, zero_end)
    solve = lambda b: np.linalg.solve(dense(n, lam, zero_end), b)
    loss = lambda p, lam: weight @ sj.denoise(p, lam, zero_end=zero_end)
    by_p, by_lam = jax.grad(loss, (0, 1))(jnp.asarray(p), jnp.asarray(lam))
    # M is symmetric: dy = M^-1 dp, and dy/dlam = -M^-1 L^T L y.
    np.testing.assert_allclose(by_p, solve(weight), rtol=1e-12)
    expected = -solve(weight) @ L.T @ L @ solve(p)
    np.testing.assert_allclose(by_lam, expected, rtol=1e-12)


def mode(n, k, zero_end):
    """Eigenvector of `L^T L`, and its eigenvalue: discrete cosines."""
    angle = (2 * k + 1) * np.pi / (2 * n + 1) if zero_end else k * np.pi / n
    return np.cos((np.arange(n) + 0.5) * angle), 4 * np.sin(angle / 2) ** 2


@pytest.mark.parametrize("zero_end", [False, True])
@pytest.mark.parametrize(("n", "k"), [(33, 0), (40, 7), (9000, 3)])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_rounding_does_not_grow_with_the_roughness(n, k, dtype, zero_end):
    p, value = mode(n, k, zero_end)
    solve = jax.jit(lambda p, lam: denoise(p, lam, zero_end=zero_end))
    for lam in (0.3, 1e3, 1e6, 1e12):
        y = solve(jnp.asarray(p, dtype), jnp.asarray(lam, dtype))
        # Positive weights of sum one: some roundings of each, three levels of sums.
        lam = float(dtype(lam))
        assert np.abs(np.asarray(y) - p / (1 + lam * value)).max() <= gamma(64, dtype)


@pytest.mark.parametrize("zero_end", [False, True])
def test_no_roughness_changes_nothing(zero_end):
    p = jnp.asarray(np.random.default_rng(6).normal(size=70))
    np.testing.assert_array_equal(denoise(p, 0.0, zero_end=zero_end), p)
    slope = jax.grad(lambda lam: denoise(p, lam, zero_end=zero_end)[3])(0.0)
    np.testing.assert_allclose(slope, p[2] - 2 * p[3] + p[4], rtol=1e-12)


def test_many_signals_are_solved_in_parts():
    p = jnp.asarray(np.random.default_rng(7).normal(size=(5, 2**17 + 1)))
    y = sj.denoise(p, 2.0)
    for i in (0, 4):
        np.testing.assert_allclose(y[i], denoise(p[i], 2.0), rtol=0, atol=1e-14)


def test_batches_and_jit_agree_with_single_signals():
    p = jnp.asarray(np.random.default_rng(4).normal(size=(2, 3, 12)))
    together = jax.jit(sj.denoise)(p, 0.4)
    for place in np.ndindex(2, 3):
        np.testing.assert_allclose(together[place], sj.denoise(p[place], 0.4), rtol=1e-14)


@pytest.mark.parametrize(
    ("p", "lam", "message"),
    [
        (jnp.ones(3), -1.0, "from 0 up"),
        (jnp.ones(3), float("nan"), "finite"),
        (jnp.ones(0), 1.0, "one entry or more"),
    ],
)
def test_bad_input_is_refused(p, lam, message):
    with pytest.raises(ValueError, match=message):
        sj.denoise(p, lam)


@pytest.mark.parametrize("zero_end", [False, True])
@pytest.mark.parametrize("lam", [0.0, 1e-12, 0.3, 1e4])
def test_a_signal_may_be_shorter_than_its_array(lam, zero_end):
    rng = np.random.default_rng(3)
    smooth = jax.jit(lambda p, length: denoise(p, lam, zero_end=zero_end, length=length))
    for length in (1, 2, 31, 32, 33, 64, 100):
        p = rng.normal(size=100)
        y = smooth(jnp.asarray(p), jnp.asarray(length))
        wanted = np.linalg.solve(dense(length, lam, zero_end), p[:length])
        atol = 1e-9 * np.abs(p).max()
        np.testing.assert_allclose(y[:length], wanted, rtol=0, atol=atol)
        assert not np.any(y[length:])
