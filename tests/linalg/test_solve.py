"""`solve` against NumPy in double precision, to the residual that it states."""

import dataclasses
import functools
from pathlib import Path

import jax
import jax.random as jr
import lineax as lx
import numpy as np
import pytest
import scipy.sparse
from jax.experimental import sparse as jax_sparse

import sedma_jax as sj
from sedma_jax._files.load import load_matrix
from sedma_jax.linalg import (
    RESULTS,
    CrossbarLinearOperator,
    FlexibleGMRES,
    IterativeRefinement,
    SparseLinearOperator,
    solve,
)

DATA = Path(__file__).parents[2] / "data"
DEVICE = sj.devices.TAOX_HFOX
RNG = np.random.default_rng(0)
SIZE = 12
A = np.eye(SIZE) * 3 + RNG.normal(size=(SIZE, SIZE)) / 2
B = RNG.normal(size=SIZE)
both = pytest.mark.parametrize("method", [FlexibleGMRES, IterativeRefinement])
small = functools.partial(solve, array=(SIZE, SIZE), key=jr.key(0))


def residual(matrix, found, b):
    return np.linalg.norm(b - matrix @ np.asarray(found.value)) / np.linalg.norm(b)


def ill_conditioned(condition):
    """A matrix whose rows and columns are alike, so that no scaling helps."""
    left, right = (np.linalg.qr(RNG.normal(size=(SIZE, SIZE)))[0] for _ in range(2))
    return left @ np.diag(np.geomspace(1, 1 / condition, SIZE)) @ right


@both
def test_residual_and_solution_are_those_of_numpy(method):
    found = small(A, B, DEVICE, method=method)
    assert found.result == RESULTS.successful
    assert residual(A, found, B) <= 1e-10
    assert float(found.residual) == pytest.approx(residual(A, found, B), abs=1e-15)
    z = np.linalg.solve(A, B)
    assert np.linalg.norm(found.value - z) <= 1e-9 * np.linalg.norm(z)
    assert found.slices == 1 and int(found.iterations) > 1
    assert int(found.analog_products) >= int(found.iterations)
    assert int(found.digital_products) >= int(found.iterations)
    assert float(found.stats.energy) > 0 and 0 < float(found.contraction) < 0.5


def test_sparse_input_is_the_same_system():
    kept = np.where(np.abs(A) > 0.4, A, 0)
    want = small(kept, B, DEVICE)
    for given in (scipy.sparse.csr_array(kept), jax_sparse.BCOO.fromdense(kept)):
        found = small(given, B, DEVICE)
        np.testing.assert_allclose(found.value, want.value, rtol=1e-12)
        assert residual(kept, found, B) <= 1e-10


@both
def test_an_error_that_does_not_contract_is_reported(method):
    bad = ill_conditioned(1e7)
    # As many steps as there are unknowns solve anything: what counts is a third of them.
    few = {"restart": SIZE // 3} if method is FlexibleGMRES else {}
    method = functools.partial(method, **few)
    found = small(bad, B, DEVICE, method=method, slices=1, throw=False)
    assert found.result == RESULTS.not_contractive
    assert "condition number" in RESULTS[found.result]
    # The value is no worse than none in the norm of the steps; its residual is as stated.
    assert float(found.residual) == pytest.approx(residual(bad, found, B), rel=1e-9)
    assert float(found.residual) > 1e-10 and float(found.scaled_residual) <= 1
    with pytest.raises(RuntimeError, match="condition number"):
        small(bad, B, DEVICE, method=method, slices=1)


def test_slices_are_added_until_the_error_contracts():
    bad = ill_conditioned(1e4)
    stopped = small(bad, B, DEVICE, method=IterativeRefinement, slices=1, throw=False)
    assert stopped.result == RESULTS.not_contractive
    found = small(bad, B, DEVICE, method=IterativeRefinement)
    assert found.result == RESULTS.successful and residual(bad, found, B) <= 1e-10
    assert 1 < found.slices == len(found.stats.slices)
    fewer = found.slices - 1
    found_by_fewer = small(
        bad, B, DEVICE, method=IterativeRefinement, slices=fewer, throw=False
    )
    assert found_by_fewer.result == RESULTS.not_contractive
    # Products of the numbers of slices before are counted too.
    assert int(found.analog_products) > int(stopped.analog_products)
    # Each slice counts once, and the first is the one there was.
    assert float(found.stats.slices[0].pulses) == float(stopped.stats.pulses)


def test_a_tolerance_below_rounding_is_told_from_the_device():
    bad = ill_conditioned(1e3)
    found = small(bad, B, DEVICE, rtol=2e-15, slices=3, throw=False)
    assert found.result == RESULTS.rounding_limited
    assert 2e-15 < float(found.residual) < 1e-11


def test_noisy_reads_converge():
    noisy = dataclasses.replace(DEVICE, sigma_read=0.002)
    found = small(A, B, noisy)
    assert residual(A, found, B) <= 1e-10
    assert int(found.iterations) > int(small(A, B, DEVICE).iterations)


def test_a_singular_matrix_has_no_answer():
    singular = A.copy()
    singular[4] = singular[7]
    found = small(singular, B, DEVICE, slices=2, throw=False)
    assert found.result != RESULTS.successful
    assert float(found.residual) == pytest.approx(residual(singular, found, B), rel=1e-9)


def test_another_right_hand_side_needs_no_programming():
    first = small(A, B, DEVICE)
    analog = CrossbarLinearOperator(first.crossbar)
    solver = FlexibleGMRES(analog, scaling=first.scaling)
    operator = SparseLinearOperator.of(scipy.sparse.csr_array(A))
    found = lx.linear_solve(operator, jax.numpy.ones(SIZE), solver)
    assert residual(A, found, np.ones(SIZE)) <= 1e-10


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bcsstk02", "west0067", "fs_183_1"])
@pytest.mark.parametrize("material", sj.devices.PRESETS)
def test_published_matrices_on_every_material(name, material):
    matrix = load_matrix(DATA / f"{name}.mtx")
    b = matrix @ np.ones(matrix.shape[0])
    device = sj.devices.PRESETS[material]
    found = solve(matrix, b, device, array=matrix.shape, key=jr.key(0))
    assert found.result == RESULTS.successful
    assert residual(matrix.toarray(), found, b) <= 1e-10
