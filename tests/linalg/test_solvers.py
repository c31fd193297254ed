"""The solvers against NumPy in double precision, and closed forms of their convergence."""

import dataclasses

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest
from tolerances import gamma

import sedma_jax as sj
from sedma_jax.linalg import Equilibration, FlexibleGMRES, IterativeRefinement

SIZE = 12
RNG = np.random.default_rng(0)
A = np.eye(SIZE) * 3 + RNG.normal(size=(SIZE, SIZE)) / 2
E = 0.03 * RNG.normal(size=(SIZE, SIZE))
B = RNG.normal(size=SIZE)
OPERATOR = lx.MatrixLinearOperator(jnp.asarray(A))
ANALOG = lx.MatrixLinearOperator(jnp.asarray(A + E))
both = pytest.mark.parametrize("method", [FlexibleGMRES, IterativeRefinement])


def residual(matrix, value, b):
    return np.linalg.norm(b - matrix @ np.asarray(value)) / np.linalg.norm(b)


@both
def test_solution_is_that_of_numpy(method):
    solver = method(ANALOG, rtol=1e-12)
    found = lx.linear_solve(OPERATOR, jnp.asarray(B), solver)
    assert found.result == lx.RESULTS.successful
    error = np.linalg.norm(found.value - np.linalg.solve(A, B))
    assert error <= 1e-12 * np.linalg.norm(B) / np.linalg.svd(A)[1][-1]
    stated = float(found.stats["residual"])
    assert stated <= 1e-12
    assert stated == pytest.approx(residual(A, found.value, B), abs=1e-15)


@pytest.mark.parametrize("steps", [1, 3, 6])
def test_refinement_contracts_by_the_perturbation_over_the_inverse(steps):
    # With exact inner solves r_k = (I - A (A + E)^-1)^k b = (E (A + E)^-1)^k b.
    solver = IterativeRefinement(ANALOG, rtol=1e-13, max_steps=steps, inner_rtol=1e-14)
    found = lx.linear_solve(OPERATOR, jnp.asarray(B), solver, throw=False)
    factor = E @ np.linalg.inv(A + E)
    want = np.linalg.matrix_power(factor, steps) @ B
    got = B - A @ np.asarray(found.value)
    # Each step rounds its residual, and solves to 1e-14 of what it solves for.
    z = np.abs(found.value)
    rounding = gamma(SIZE + 2, z.dtype) * np.linalg.norm(np.abs(A) @ z + np.abs(B))
    inner = 1e-14 * np.linalg.cond(A + E) * np.linalg.norm(B)
    assert np.linalg.norm(got - want) <= (steps + 1) * (rounding + inner)
    assert (steps + 1) * (rounding + inner) < 0.01 * np.linalg.norm(want)
    assert found.result == lx.RESULTS.max_steps_reached
    rate = (np.linalg.norm(want) / np.linalg.norm(B)) ** (1 / steps)
    assert float(found.stats["contraction"]) == pytest.approx(rate, rel=1e-3)
    assert int(found.stats["num_steps"]) == steps


def test_refinement_that_cannot_contract_says_so():
    analog = lx.MatrixLinearOperator(jnp.asarray(A / 3))  # E = -2 A / 3, factor -2
    solver = IterativeRefinement(analog, inner_rtol=1e-12)
    found = lx.linear_solve(OPERATOR, jnp.asarray(B), solver, throw=False)
    assert found.result == lx.RESULTS.stagnation
    assert int(found.stats["num_steps"]) == solver.patience
    assert float(found.stats["contraction"]) == pytest.approx(2, rel=1e-6)
    # The best it had was the start.
    np.testing.assert_array_equal(found.value, 0)
    assert float(found.stats["residual"]) == 1
    with pytest.raises(Exception, match="stagnation"):
        lx.linear_solve(OPERATOR, jnp.asarray(B), solver)


def test_flexible_gmres_minimises_over_the_krylov_space():
    # With one inner step on the identity the preconditioner is none: GMRES.
    identity = lx.MatrixLinearOperator(jnp.eye(SIZE))
    for steps in (1, 4, SIZE):
        solver = FlexibleGMRES(
            identity, rtol=1e-11, restart=steps, max_steps=steps, inner_steps=1
        )
        found = lx.linear_solve(OPERATOR, jnp.asarray(B), solver, throw=False)
        basis = [B]
        for _ in range(steps - 1):
            basis.append(A @ basis[-1] / np.linalg.norm(A @ basis[-1]))
        images = A @ np.linalg.qr(np.stack(basis, axis=1))[0]
        least = B - images @ np.linalg.lstsq(images, B, rcond=None)[0]
        want = np.linalg.norm(least) / np.linalg.norm(B)
        assert float(found.stats["residual"]) == pytest.approx(want, rel=1e-6, abs=1e-11)
    assert found.result == lx.RESULTS.successful
    assert int(found.stats["num_steps"]) <= SIZE


def test_flexible_gmres_survives_an_error_that_refinement_does_not():
    # Rank one: u' A~ = u' A / 4, so that E A~^-1 = -3 u u' / u'u has the factor -3.
    u = np.random.default_rng(3).normal(size=SIZE)
    wrong = A - 0.75 * np.outer(u, A.T @ u) / (u @ u)
    analog = lx.MatrixLinearOperator(jnp.asarray(wrong))
    b = jnp.asarray(B)
    solver = IterativeRefinement(analog, inner_rtol=1e-12)
    stuck = lx.linear_solve(OPERATOR, b, solver, throw=False)
    assert stuck.result == lx.RESULTS.stagnation
    found = lx.linear_solve(OPERATOR, b, FlexibleGMRES(analog, inner_rtol=1e-13))
    # A A~^-1 is the identity and a matrix of rank one: two steps span the solution.
    assert int(found.stats["num_steps"]) == 2


def counting(matrix, seen):
    def product(x):
        jax.debug.callback(lambda: seen.append(1))
        return jnp.matmul(jnp.asarray(matrix), x, precision="highest")

    return lx.FunctionLinearOperator(product, jax.ShapeDtypeStruct((SIZE,), jnp.float64))


@both
@pytest.mark.parametrize("warm", [False, True])
def test_products_are_counted(method, warm):
    digital, analog = [], []
    solver = method(counting(A + E, analog), inner_steps=5)
    options = {"y0": jnp.ones(SIZE)} if warm else {}
    exact = counting(A, digital)
    found = lx.linear_solve(exact, jnp.asarray(B), solver, options=options)
    jax.block_until_ready(found.value)
    jax.effects_barrier()
    assert int(found.stats["digital_products"]) == len(digital) > 1
    assert int(found.stats["analog_products"]) == len(analog) > 5
    assert residual(A, found.value, B) <= 1e-10


@both
def test_scaling_solves_the_system_as_given(method):
    rows, columns = 10.0 ** np.arange(-5, 7), 10.0 ** np.arange(8, -16, -2)
    bad = A / rows[:, None] / columns
    b = bad @ np.ones(SIZE)
    solver = method(ANALOG, scaling=Equilibration(jnp.asarray(rows), jnp.asarray(columns)))
    operator = lx.MatrixLinearOperator(jnp.asarray(bad))
    found = lx.linear_solve(operator, jnp.asarray(b), solver)
    assert residual(bad, found.value, b) <= 1e-10
    scaled = residual(rows[:, None] * bad, found.value, rows * b)
    assert float(found.stats["scaled_residual"]) == pytest.approx(scaled, rel=1e-3)
    assert scaled <= 1e-10 and int(found.stats["num_steps"]) <= 20
    # The gradient of `c z` solves the transposed system, rows and columns swapped.
    c = bad.T @ rows
    total = lambda b: jnp.vdot(jnp.asarray(c), lx.linear_solve(operator, b, solver).value)
    assert residual(bad.T, jax.grad(total)(jnp.asarray(b)), c) <= 1e-10


@both
def test_jit_vmap_and_gradients_are_those_of_the_exact_system(method):
    solver = method(ANALOG, rtol=1e-13)
    c = np.random.default_rng(5).normal(size=SIZE)

    def objective(matrix, b):
        operator = lx.MatrixLinearOperator(matrix)
        return jnp.vdot(jnp.asarray(c), lx.linear_solve(operator, b, solver).value)

    slopes = jax.jit(jax.grad(objective, (0, 1)))(jnp.asarray(A), jnp.asarray(B))
    z, w = np.linalg.solve(A, B), np.linalg.solve(A.T, c)
    np.testing.assert_allclose(slopes[1], w, rtol=1e-9)
    np.testing.assert_allclose(slopes[0], -np.outer(w, z), rtol=1e-8, atol=1e-11)
    batch = np.random.default_rng(6).normal(size=(3, SIZE))
    solve = lambda b: lx.linear_solve(OPERATOR, b, solver).value
    together = jax.jit(jax.vmap(solve))(jnp.asarray(batch))
    np.testing.assert_allclose(together, np.linalg.solve(A, batch.T).T, rtol=1e-10)


@both
def test_a_crossbar_serves_as_the_analog_matrix(method):
    device = dataclasses.replace(sj.devices.EPIRAM, sigma_read=1e-3)
    crossbar, _ = sj.program(A, device, array=A.shape, key=jax.random.key(0))
    analog = sj.linalg.CrossbarLinearOperator(crossbar, key=jax.random.key(1))
    stored = np.asarray(sj.stored_matrix(crossbar))
    assert max(abs(np.linalg.eigvals(np.linalg.solve(stored, stored - A)))) < 0.9
    found = lx.linear_solve(OPERATOR, jnp.asarray(B), method(analog))
    assert residual(A, found.value, B) <= 1e-10

    def gradient(b):
        return jnp.sum(lx.linear_solve(OPERATOR, b, method(analog)).value)

    want = np.linalg.solve(A.T, np.ones(SIZE))
    np.testing.assert_allclose(jax.grad(gradient)(jnp.asarray(B)), want, rtol=1e-8)


def test_solvers_of_lineax_take_crossbars_and_pass_gradients():
    c = np.random.default_rng(7).normal(size=SIZE)
    key = jax.random.key(0)

    def objective(matrix, b):
        crossbar, _ = sj.program(matrix, sj.devices.EPIRAM, array=A.shape, key=key)
        operator = sj.linalg.CrossbarLinearOperator(crossbar)
        solver = lx.GMRES(rtol=1e-12, atol=0.0, restart=SIZE)
        value = lx.linear_solve(operator, b, solver).value
        return jnp.vdot(jnp.asarray(c), value), (value, operator.as_matrix())

    graded = jax.value_and_grad(objective, (0, 1), has_aux=True)
    (_, (value, stored)), slopes = graded(jnp.asarray(A), jnp.asarray(B))
    assert np.linalg.norm(stored - A) > 1e-3 * np.linalg.norm(A)
    z, w = np.linalg.solve(stored, B), np.linalg.solve(np.asarray(stored).T, c)
    np.testing.assert_allclose(value, z, rtol=1e-9)
    np.testing.assert_allclose(slopes[1], w, rtol=1e-9)
    # Straight through the errors of programming, as `program` says.
    np.testing.assert_allclose(slopes[0], -np.outer(w, z), rtol=1e-7, atol=1e-9)


@both
def test_zero_singular_and_nonfinite_systems(method):
    found = lx.linear_solve(OPERATOR, jnp.zeros(SIZE), method(ANALOG))
    np.testing.assert_array_equal(found.value, 0)
    assert int(found.stats["analog_products"]) == 0
    nan = jnp.asarray(B).at[3].set(jnp.nan)
    found = lx.linear_solve(OPERATOR, nan, method(ANALOG), throw=False)
    assert found.result == lx.RESULTS.nonfinite_input
    singular = A.copy()
    singular[4] = singular[7]  # and b[4] != b[7]: no solution
    found = lx.linear_solve(
        lx.MatrixLinearOperator(jnp.asarray(singular)),
        jnp.asarray(B),
        method(lx.MatrixLinearOperator(jnp.asarray(singular))),
        throw=False,
    )
    assert found.result == lx.RESULTS.stagnation
    assert np.all(np.isfinite(found.value))
    broken = lx.MatrixLinearOperator(jnp.full((SIZE, SIZE), jnp.nan))
    found = lx.linear_solve(OPERATOR, jnp.asarray(B), method(broken), throw=False)
    assert found.result == lx.RESULTS.stagnation
    np.testing.assert_array_equal(found.value, 0)


@both
def test_what_cannot_be_solved_is_refused(method):
    tall = lx.MatrixLinearOperator(jnp.ones((4, 3)))
    with pytest.raises(ValueError, match=r"square operator.*4 x 3"):
        lx.linear_solve(tall, jnp.ones(4), method(tall))
    with pytest.raises(ValueError, match="of the shape"):
        small = lx.MatrixLinearOperator(jnp.eye(3))
        lx.linear_solve(OPERATOR, jnp.asarray(B), method(small))
    with pytest.raises(ValueError, match="y0"):
        lx.linear_solve(OPERATOR, jnp.asarray(B), method(ANALOG), options={"x0": 1})
    single = lx.MatrixLinearOperator(jnp.asarray(A, jnp.float32))
    with pytest.raises(ValueError, match="jax_enable_x64"):
        lx.linear_solve(single, jnp.asarray(B, jnp.float32), method(ANALOG))


@both
def test_single_precision_with_a_tolerance_that_suits_it(method):
    single = lx.MatrixLinearOperator(jnp.asarray(A, jnp.float32))
    analog = lx.MatrixLinearOperator(jnp.asarray(A + E, jnp.float32))
    b = jnp.asarray(B, jnp.float32)
    found = lx.linear_solve(single, b, method(analog, rtol=1e-5))
    assert found.value.dtype == jnp.float32
    # The matrix itself is rounded: 2 eps |A| |z| more.
    assert residual(A, found.value, B) <= 2e-5
