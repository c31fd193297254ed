"""The operator against products of NumPy with the stored matrix; the law of its noise."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import lineax as lx
import numpy as np
import pytest
import scipy.sparse
from tolerances import gamma, mean_atol, var_atol

import sedma_jax as sj

DEVICE = sj.devices.EPIRAM
M, N = 7, 5
MATRIX = np.random.default_rng(0).normal(size=(M, N))
X = np.random.default_rng(1).normal(size=N)
ARRAY = (4, 4)


@pytest.fixture(scope="module")
def crossbar():
    return sj.program(MATRIX, DEVICE, array=ARRAY, key=jr.key(0))[0]


@pytest.fixture(scope="module")
def noisy():
    device = dataclasses.replace(DEVICE, sigma_read=0.01)
    return sj.program_exactly(MATRIX, device, array=ARRAY)


def bound(matrix, x):
    # Voltages are scaled by the largest before the product and after: some roundings more.
    return gamma(len(x) + 8, x.dtype) * (np.abs(matrix) @ np.abs(x))


def test_product_is_that_of_the_stored_matrix(crossbar):
    operator = sj.linalg.CrossbarLinearOperator(crossbar)
    stored = np.asarray(sj.stored_matrix(crossbar))
    assert np.linalg.norm(stored - MATRIX) > 1e-3 * np.linalg.norm(MATRIX)
    for mv in (operator.mv, jax.jit(lambda x: operator.mv(x))):
        assert np.all(np.abs(mv(jnp.asarray(X)) - stored @ X) <= bound(stored, X))
    np.testing.assert_array_equal(operator.as_matrix(), stored)
    np.testing.assert_array_equal(lx.materialise(operator).as_matrix(), stored)
    y = np.arange(1.0, M + 1)
    back = operator.T.mv(jnp.asarray(y))
    assert np.all(np.abs(back - stored.T @ y) <= bound(stored.T, y))
    assert (operator.out_size(), operator.in_size()) == (M, N)
    assert operator.in_structure() == jax.ShapeDtypeStruct((N,), jnp.float64)
    batch = np.random.default_rng(2).normal(size=(3, N))
    together = jax.vmap(operator.mv)(jnp.asarray(batch))
    for x, row in zip(batch, together, strict=True):
        assert np.all(np.abs(row - stored @ x) <= bound(stored, x))


def test_operators_compose(crossbar):
    operator = sj.linalg.CrossbarLinearOperator(crossbar)
    stored = np.asarray(sj.stored_matrix(crossbar))
    other = lx.MatrixLinearOperator(jnp.asarray(MATRIX))
    mixed = (2.0 * operator - other / 4.0) + operator
    want = 3 * stored - MATRIX / 4
    np.testing.assert_allclose(mixed.as_matrix(), want, rtol=1e-14)
    np.testing.assert_allclose(mixed.mv(jnp.asarray(X)), want @ X, rtol=1e-12)
    normal = operator.T @ operator
    np.testing.assert_allclose(normal.mv(jnp.asarray(X)), stored.T @ (stored @ X), 1e-12)


def test_pooled_crossbars_are_operators():
    pool = sj.Pool((sj.ArrayKind(rows=4, cols=4, count=9, device=DEVICE),))
    pooled, _ = sj.program_pool(MATRIX, pool, key=jr.key(0))
    operator = sj.linalg.CrossbarLinearOperator(pooled)
    stored = np.asarray(pooled.stored_matrix())
    assert np.all(np.abs(operator.mv(jnp.asarray(X)) - stored @ X) <= bound(stored, X))


def test_tags_say_what_lineax_may_assume(crossbar):
    square = sj.program_exactly(np.eye(4) + 1, DEVICE, array=ARRAY)
    plain = sj.linalg.CrossbarLinearOperator(square)
    assert not lx.is_symmetric(plain) and not lx.is_positive_semidefinite(plain)
    definite = sj.linalg.CrossbarLinearOperator(square, tags=lx.positive_semidefinite_tag)
    assert lx.is_positive_semidefinite(definite) and lx.is_symmetric(definite)
    assert definite.T is definite
    lower = sj.linalg.CrossbarLinearOperator(square, tags={lx.lower_triangular_tag})
    assert lx.is_lower_triangular(lower) and lx.is_upper_triangular(lower.T)
    with pytest.raises(ValueError, match="matching input and output"):
        sj.linalg.CrossbarLinearOperator(crossbar, tags=lx.symmetric_tag)


def test_converters_are_used(crossbar):
    coarse = sj.linalg.CrossbarLinearOperator(crossbar, dac=sj.DAC(bits=4))
    want = sj.matvec(crossbar, X, dac=sj.DAC(bits=4), key=jr.key(0))
    np.testing.assert_array_equal(coarse.mv(jnp.asarray(X)), want)
    assert np.max(np.abs(want - sj.stored_matrix(crossbar) @ X)) > 1e-3


def test_without_a_key_there_is_no_noise(noisy):
    quiet = sj.linalg.CrossbarLinearOperator(noisy)
    stored = np.asarray(sj.stored_matrix(noisy))
    assert np.all(np.abs(quiet.mv(jnp.asarray(X)) - stored @ X) <= bound(stored, X))


def test_noise_is_a_function_of_the_vector_with_the_law_of_reads(noisy):
    operator = sj.linalg.CrossbarLinearOperator(noisy, key=jr.key(3))
    stored = np.asarray(sj.stored_matrix(noisy))
    mv = jax.jit(jax.vmap(operator.mv))
    count = 20_000
    batch = X * (1 + 1e-9 * np.arange(count)[:, None])
    noise = np.asarray(mv(jnp.asarray(batch))) - batch @ stored.T
    np.testing.assert_array_equal(mv(jnp.asarray(batch[:2])), mv(jnp.asarray(batch[:2])))
    # Two cells a weight: variance 2 s^2 scale^2 v^2, added over the tiles of an output.
    scale = np.asarray(noisy.scale).reshape(2, 2, ARRAY[1])  # inputs, outputs, lines
    squares = np.array([np.sum(X[:4] ** 2), np.sum(X[4:] ** 2)])
    variance = 2 * 0.01**2 * np.einsum("ioc,i->oc", scale**2, squares).ravel()[:M]
    std = np.sqrt(variance)
    assert np.all(np.abs(noise.mean(0)) <= mean_atol(1, count) * std)
    assert np.all(np.abs(noise.var(0) - variance) <= var_atol(1, count) * variance)
    # Vectors one rounding step apart in their last words have nothing in common.
    product = (noise[1:] * noise[:-1]).mean(0) / variance
    assert np.all(np.abs(product) <= mean_atol(1, count - 1))


def test_gradients_pass_through_the_product(noisy):
    y = np.arange(1.0, M + 1)
    for key in (None, jr.key(3)):
        operator = sj.linalg.CrossbarLinearOperator(noisy, key=key)
        slope = jax.jvp(operator.mv, (jnp.asarray(X),), (jnp.ones(N),))[1]
        assert np.all(np.isfinite(slope))
    quiet = sj.linalg.CrossbarLinearOperator(noisy)
    got = jax.grad(lambda x: jnp.vdot(jnp.asarray(y), quiet.mv(x)))(jnp.asarray(X))
    stored = np.asarray(sj.stored_matrix(noisy))
    np.testing.assert_allclose(got, stored.T @ y, rtol=1e-12)


def test_reloaded_operators_give_the_same_numbers(noisy, tmp_path):
    operator = sj.linalg.CrossbarLinearOperator(noisy, key=jr.key(3))
    eqx.tree_serialise_leaves(tmp_path / "operator.eqx", operator)
    other = sj.program_exactly(0 * MATRIX + 1, DEVICE, array=ARRAY)
    like = sj.linalg.CrossbarLinearOperator(other, key=jr.key(0))
    again = eqx.tree_deserialise_leaves(tmp_path / "operator.eqx", like)
    np.testing.assert_array_equal(again.mv(jnp.asarray(X)), operator.mv(jnp.asarray(X)))


def test_sparse_operator_is_the_matrix():
    sparse = scipy.sparse.random(
        6, 4, density=0.4, random_state=np.random.default_rng(0), format="csr"
    )
    operator = sj.linalg.SparseLinearOperator.of(sparse)
    dense, x, y = sparse.toarray(), np.arange(1.0, 5), np.arange(1.0, 7)
    np.testing.assert_array_equal(operator.as_matrix(), dense)
    np.testing.assert_allclose(operator.mv(jnp.asarray(x)), dense @ x, rtol=1e-14)
    np.testing.assert_allclose(operator.T.mv(jnp.asarray(y)), dense.T @ y, rtol=1e-14)
    assert (operator.out_size(), operator.in_size()) == (6, 4)
