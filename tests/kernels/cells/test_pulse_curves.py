"""Tabulated, soft-bound and power responses, and noise that depends on the state."""

import dataclasses

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from scipy.integrate import solve_ivp
from sedma_jax.kernels import (
    DriftInTurn,
    ExponentialCurve,
    ExponentialRelaxation,
    LogarithmicRelaxation,
    PolynomialCurve,
    ProgrammingNoise,
    Response,
    SoftBoundCurve,
    TabulatedCurve,
    apply_pulses,
    drift,
    nominal_response,
    program_noise,
    symmetry_point,
)
from tolerances import mean_atol, var_atol

import sedma_jax as sj

QUIET = sj.Device(1e-6, 1e-5, 100, 100)


@pytest.mark.parametrize(
    "exponent, bound", [(0, 1), (0.5, 1), (1, 1.2), (2, 1.5), (3, 1.1)]
)
def test_a_soft_bound_solves_its_differential_equation(exponent, bound):
    curve = SoftBoundCurve(float(exponent), float(bound))
    x = np.linspace(0, 1, 9)
    p = np.asarray(curve.covered(jnp.asarray(x)))
    # dp/dx = c (bound - p)**exponent, with c from the end point by separation.
    q = 1 - exponent
    span = np.log(bound / (bound - 1)) if q == 0 else (bound**q - (bound - 1) ** q) / q
    slope = lambda _, p: span * np.maximum(bound - p, 0) ** exponent
    known = solve_ivp(slope, (0, 1), [0.0], t_eval=x, rtol=1e-10, atol=1e-12).y[0]
    np.testing.assert_allclose(p, known, atol=1e-5 if bound == 1 else 1e-8)
    np.testing.assert_allclose(curve.needed(jnp.asarray(p)), x, atol=1e-7)


def test_the_exponential_law_is_a_soft_bound():
    u = 2.5
    curve = SoftBoundCurve(1.0, float(1 / -np.expm1(-u)))
    x = jnp.linspace(0, 1, 33)
    np.testing.assert_allclose(
        curve.covered(x), np.expm1(-u * x) / np.expm1(-u), rtol=1e-12
    )


@pytest.mark.parametrize("u", [-3.0, 0.0, 1e-9, 2.0])
def test_an_exponential_curve_has_curvatures_of_both_signs(u):
    curve, x = ExponentialCurve(u), jnp.linspace(0, 1, 17)
    known = np.expm1(-u * x) / np.expm1(-u) if u else x
    np.testing.assert_allclose(curve.covered(x), known, rtol=1e-12)
    np.testing.assert_allclose(curve.needed(curve.covered(x)), x, atol=1e-12)
    slope = jax.grad(lambda v: ExponentialCurve(v).covered(jnp.array(0.3)))(u)
    near = lambda v: np.expm1(-0.3 * v) / np.expm1(-v)
    # The difference of the closed form; about zero its second order is 1e-8.
    numeric = (near(u + 1e-4) - near(u - 1e-4)) / 2e-4
    np.testing.assert_allclose(slope, numeric, rtol=1e-6)


def test_trains_follow_a_table_up_and_down_from_where_the_cell_is():
    table = TabulatedCurve([0.0, 0.25, 1.0], [0.0, 0.5, 1.0])
    device = dataclasses.replace(QUIET, curve_ltp=table, curve_ltd=table)
    response = nominal_response(device, jnp.float64)
    state = jnp.array([0.0, 0.0, 0.5, 1.0, 1.0, 0.9])
    pulses = jnp.array([25.0, 62.5, 75.0, -25.0, -200.0, 0.0])
    moved = apply_pulses(state, pulses, device, response, key=jr.key(0))
    np.testing.assert_allclose(moved, [0.5, 0.75, 1.0, 0.5, 0.0, 0.9], atol=1e-14)


def test_open_loop_reaches_its_targets_along_a_table():
    curve = SoftBoundCurve(0.5)
    device = dataclasses.replace(QUIET, pulses_ltp=4096, curve_ltp=curve, curve_ltd=curve)
    A = np.random.default_rng(0).random((4, 3)) - 0.5
    crossbar, _ = sj.program(A, device, scheme=sj.open_loop, key=jr.key(0))
    stored = np.asarray(sj.stored_matrix(crossbar))
    # Half a pulse, at the steepest slope of the curve, 2.
    assert np.abs(stored - A).max() < np.abs(A).max() * 2 / 4096


def test_the_symmetry_point_is_where_up_and_down_cancel():
    curve = SoftBoundCurve(1.0, 1.3)
    device = dataclasses.replace(QUIET, curve_ltp=curve, curve_ltd=curve)
    point = symmetry_point(device, nominal_response(device, jnp.float64))
    np.testing.assert_allclose(point, 0.5, atol=1e-9)


def test_cycle_noise_follows_the_state():
    device = dataclasses.replace(QUIET, sigma_c2c=0.01, cycle_noise=(1.0, 2.0))
    response = nominal_response(device, jnp.float64)
    count = 20_000
    for start, factor in ((0.25, 1.5), (0.75, 2.5)):
        state = jnp.full(count, start)
        moved = apply_pulses(state, jnp.ones(count), device, response, key=jr.key(1))
        sigma = 0.01 * factor
        assert abs(moved.var() - sigma**2) < var_atol(sigma, count)


def test_gradients_reach_the_exponent():
    def landed(exponent):
        device = dataclasses.replace(QUIET, curve_ltp=SoftBoundCurve(exponent, 1.4))
        line = Response(jnp.zeros(1), jnp.zeros(1))
        return apply_pulses(
            jnp.full(1, 0.2), jnp.full(1, 30.0), device, line, key=jr.key(0)
        )[0]

    step = 1e-5
    known = (landed(2 + step) - landed(2 - step)) / (2 * step)
    np.testing.assert_allclose(jax.grad(landed)(2.0), known, rtol=1e-5)


def test_programming_noise_may_have_a_mean():
    shift = PolynomialCurve((0.0, -0.1), 1.0)
    model = ProgrammingNoise(PolynomialCurve((1e-7,), 1.0), shift=shift)
    g = program_noise(model, jnp.full(20_000, 1e-5), key=jr.key(2))
    assert abs(g.mean() - 0.9e-5) < mean_atol(1e-7, 20_000)


@pytest.mark.parametrize(
    "model, growth",
    [
        (LogarithmicRelaxation(-0.02, 0.01, 0.5), np.log1p(4.0)),
        (ExponentialRelaxation(-0.02, 0.01, 0.5), -np.expm1(-4.0)),
    ],
)
def test_relaxation_is_a_normal_share_that_grows(model, growth):
    g = jnp.full(20_000, 1e-5)
    share = np.asarray(drift(model, g, 2.0, key=jr.key(4))) / 1e-5 - 1
    assert abs(share.mean() + 0.02 * growth) < mean_atol(0.01 * growth, 20_000)
    assert abs(share.var() - (0.01 * growth) ** 2) < var_atol(0.01 * growth, 20_000)
    np.testing.assert_array_equal(drift(model, g, 0.0, key=jr.key(4)), g)


def test_models_in_turn_draw_independently():
    one = ExponentialRelaxation(0.0, 0.01, 1e-6)
    g = jnp.ones(20_000)
    both = drift(DriftInTurn((one, one)), g, 1.0, key=jr.key(4))
    # (1 + c)(1 + d), c and d independent: the variance is 2 s**2 + s**4.
    assert abs(both.var() - (2e-4 + 1e-8)) < var_atol(np.sqrt(2.0001e-4), 20_000)


@pytest.mark.parametrize(
    "make, name",
    [
        (lambda: TabulatedCurve([0, 1], [0, 0.9]), "shares"),
        (lambda: TabulatedCurve([0, 0.6, 0.5, 1], [0, 0.2, 0.4, 1]), "pulses"),
        (lambda: TabulatedCurve([0, 1], [0, 0.5, 1]), "shares"),
        (lambda: SoftBoundCurve(1.0, 1.0), "bound"),
        (lambda: SoftBoundCurve(-1.0), "exponent"),
        (lambda: ExponentialCurve(np.nan), "curvature"),
        (lambda: dataclasses.replace(QUIET, cycle_noise=(np.nan,)), "cycle_noise"),
        (lambda: dataclasses.replace(QUIET, cycle_noise=()), "cycle_noise"),
        (
            lambda: dataclasses.replace(
                QUIET, nonlinearity_ltp=1.0, curve_ltp=SoftBoundCurve(0.5)
            ),
            "nonlinearity_ltp",
        ),
        (lambda: DriftInTurn(()), "models"),
        (lambda: ExponentialRelaxation(0.0, -1.0, 1.0), "deviation"),
    ],
)
def test_nonsense_is_refused_by_name(make, name):
    with pytest.raises(ValueError, match=f"`{name}`"):
        make()
