"""`solve(A, c b) = c solve(A, b)` at any scale of both; the oracle is NumPy in float64."""

import jax
import jax.random as jr
import numpy as np
import pytest
import scipy.sparse

import sedma_jax as sj
from sedma_jax.linalg import RESULTS, FlexibleGMRES, IterativeRefinement, solve

SIZE = 12
RNG = np.random.default_rng(0)
A = RNG.normal(size=(SIZE, SIZE)) + 8 * np.eye(SIZE)
B = RNG.normal(size=SIZE)
RTOL = 1e-5


def single(A, b, **options):
    with jax.enable_x64(False):
        return solve(
            A, b, sj.devices.EPIRAM, array=(16, 16), rtol=RTOL, key=jr.key(0), **options
        )


def check_solution(z):
    """The residual that is stated, plus what rounding `A`, `b` and `z` to float32 adds."""
    sizes = np.linalg.norm(A) * np.linalg.norm(z) + np.linalg.norm(B)
    allowed = RTOL * np.linalg.norm(B) + np.finfo(np.float32).eps * sizes
    assert np.linalg.norm(B - A @ z) <= allowed


@pytest.mark.parametrize("method", [FlexibleGMRES, IterativeRefinement])
@pytest.mark.parametrize("scale", [1e-25, 1e-18, 1.0, 1e20])
def test_solutions_are_proportional_to_b(method, scale):
    found = single(A, B * scale, method=method)
    assert found.result == RESULTS.successful
    check_solution(np.asarray(found.value, float) / scale)


@pytest.mark.parametrize("equilibrated", [True, False])
@pytest.mark.parametrize("scale", [1e-28, 1e25])
@pytest.mark.parametrize("convert", [np.asarray, scipy.sparse.csr_array])
def test_solutions_are_inverse_to_the_scale_of_the_matrix(scale, equilibrated, convert):
    found = single(convert(A * scale), B, equilibrated=equilibrated)
    assert found.result == RESULTS.successful
    check_solution(np.asarray(found.value, float) * scale)


def test_powers_of_two_change_no_digit():
    one, small = single(A, B), single(A, B * 2.0**-70)
    np.testing.assert_array_equal(np.asarray(one.value) * 2.0**-70, small.value)
    assert float(one.residual) == float(small.residual)


@pytest.mark.parametrize(("matrix", "b"), [(1e-25, 1e20), (1e25, 1e-12)])
def test_a_solution_out_of_range_is_no_success(matrix, b):
    with pytest.raises(RuntimeError, match="beyond the range"):
        single(A * matrix, B * b)


@pytest.mark.parametrize(("matrix", "b"), [(1, 1e300), (1, 1e-300), (1e60, 1), (1e-50, 1)])
def test_what_single_precision_cannot_hold_is_refused(matrix, b):
    with pytest.raises(ValueError, match=r"float32 can hold.*jax_enable_x64"):
        single(A * matrix, B * b)


def test_double_precision_holds_it():
    found = solve(
        A * 1e100, B * 1e-100, sj.devices.EPIRAM, array=(16, 16), rtol=1e-8, key=jr.key(0)
    )
    error = B - A @ (np.asarray(found.value) * 1e200)
    assert np.linalg.norm(error) <= 2e-8 * np.linalg.norm(B)
