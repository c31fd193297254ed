"""Equilibration against its definition, and the condition numbers NumPy computes."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse
from jax.experimental import sparse as jax_sparse

from sedma_jax._files.load import load_matrix
from sedma_jax.linalg import equilibrate

DATA = Path(__file__).parents[2] / "data"


def scaled(A, factors):
    return np.asarray(factors.rows)[:, None] * A * np.asarray(factors.columns)


@pytest.fixture(scope="module")
def stiff():
    return np.asarray(load_matrix(DATA / "fs_183_1.mtx").todense())


def test_rows_and_columns_get_the_same_norm(stiff):
    B = scaled(stiff, equilibrate(stiff, rounds=100))
    for axis in (0, 1):
        norms = np.linalg.norm(B, axis=axis)
        # Factors are within sqrt(2) of the limit, and so is each product of two of them
        # within 2, whichever way both are rounded.
        assert norms.max() / norms.min() <= 4
    assert np.linalg.cond(stiff) > 1e12 and np.linalg.cond(B) < 1e4


def test_factors_are_powers_of_two_and_keep_symmetry():
    rng = np.random.default_rng(0)
    size = 10.0 ** rng.integers(-6, 6, size=8)
    A = rng.normal(size=(8, 8))
    A = (A + A.T) * size * size[:, None]
    factors = equilibrate(A)
    for values in (factors.rows, factors.columns):
        assert np.all(np.frexp(np.asarray(values))[0] == 0.5)
    np.testing.assert_array_equal(factors.rows, factors.columns)
    np.testing.assert_array_equal(factors.T.rows, factors.columns)


def test_sparse_and_dense_agree(stiff):
    want = equilibrate(stiff)
    for given in (scipy.sparse.csr_array(stiff), jax_sparse.BCOO.fromdense(stiff)):
        got = equilibrate(given)
        np.testing.assert_array_equal(got.rows, want.rows)
        np.testing.assert_array_equal(got.columns, want.columns)


def test_entries_of_any_size_do_not_overflow():
    A = np.array([[1e200, 2e-200], [3e200, 4e-200]])
    B = scaled(A, equilibrate(A))
    assert np.all(np.isfinite(B)) and np.all(B > 0)


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="row 1 with none"):
        equilibrate(np.array([[1.0, 2.0], [0.0, 0.0]]))
    with pytest.raises(ValueError, match="column 0 with none"):
        equilibrate(scipy.sparse.csr_array(np.array([[0.0, 2.0], [0.0, 1.0]])))
    with pytest.raises(ValueError, match="Got nan"):
        equilibrate(np.array([[1.0, jnp.nan], [0.0, 1.0]]))
    with pytest.raises(ValueError, match="outside `jit`"):
        jax.jit(equilibrate)(jnp.eye(2))
    with pytest.raises(ValueError, match="rounds"):
        equilibrate(np.eye(2), rounds=0)
