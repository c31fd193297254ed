"""Gradients of what is programmed in the fields of the device, by finite differences."""

import dataclasses

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from sedma_jax.kernels import Response
from sedma_jax.kernels._cells.pulse import (
    move_state,
    response_curve,
    response_inverse,
)

import sedma_jax as sj

A = np.random.default_rng(0).normal(size=(5, 6))
X = np.random.default_rng(1).normal(size=6)
WEIGHT = np.random.default_rng(2).normal(size=5)
# Of those left out, none changes what cells hold or what writing takes; curves are no
# numbers.
FIELDS = tuple(
    f.name
    for f in dataclasses.fields(sj.Device)
    if "read" not in f.name and getattr(sj.devices.EPIRAM, f.name) is not None
)
LINEAR = dataclasses.replace(
    sj.devices.EPIRAM, nonlinearity_ltp=0.0, nonlinearity_ltd=0.0, sigma_d2d=0.05
)
RULE = sj.VerifyRule(0.01, jnp.inf, 0.7, -1.0, 20)


def roomy(tiles):
    """No cell aims at the end of the window, where clipping has a kink."""
    return 1.1 * sj.column_scale(tiles)


def total(figures, device, **how):
    """Products, conductances and energy, each of a size that counts."""
    device = dataclasses.replace(device, **dict(zip(FIELDS, figures, strict=True)))
    crossbar, stats = sj.program(A, device, array=4, **how, key=jr.key(3))
    y = sj.matvec(crossbar, X, key=jr.key(4))
    return y @ WEIGHT + 1e4 * crossbar.conductance[:, 0].sum() + 1e6 * stats.energy


@pytest.mark.parametrize(
    "scheme, device, rule, mode",
    [
        ("open_loop", sj.devices.EPIRAM, None, jax.grad),
        ("open_loop", LINEAR, None, jax.grad),
        ("sampled_rewrite", sj.devices.EPIRAM, None, jax.grad),
        ("write_and_verify", sj.devices.EPIRAM, RULE, jax.jacfwd),
    ],
)
def test_gradients_are_those_of_finite_differences(scheme, device, rule, mode):
    function = lambda figures: total(
        figures, device, scheme=scheme, rule=rule, scaling=roomy
    )
    figures = jnp.asarray([getattr(device, field) for field in FIELDS])
    slopes = mode(function)(figures)
    assert np.all(np.isfinite(slopes))
    evaluate = jax.jit(function)
    for place, field in enumerate(FIELDS):
        size = float(abs(figures[place]))
        h = 1e-6 * size or 1e-9
        if size == 0 and field.startswith("sigma"):
            continue  # a spread of zero has one side only
        up, down = (evaluate(figures.at[place].add(s * h)) for s in (1, -1))
        want = (up - down) / (2 * h)
        # Rounding of the two values, and the third derivative, of a relative step 1e-6.
        noise = 64 * np.finfo(float).eps * (1 + abs(up)) / h
        assert abs(slopes[place] - want) <= noise + 1e-5 * abs(want), field


def test_a_chunked_matrix_has_the_gradient_of_its_parts():
    # 36 tiles are more than one call of the compiled loop takes.
    big = np.tile(A[:2, :2], (6, 6))

    def held(sigma):
        device = dataclasses.replace(sj.devices.EPIRAM, sigma_c2c=sigma)
        how = dict(array=2, scheme="open_loop", key=jr.key(3))
        return sj.stored_matrix(sj.program(big, device, **how)[0]).sum()

    want = (held(0.02 + 1e-7) - held(0.02 - 1e-7)) / 2e-7
    np.testing.assert_allclose(jax.grad(held)(0.02), want, rtol=1e-6)


def test_gradients_in_the_matrix_stay_straight_through():
    def product(A, sigma):
        device = dataclasses.replace(sj.devices.EPIRAM, sigma_c2c=sigma)
        crossbar, _ = sj.program(A, device, scheme="open_loop", array=4, key=jr.key(3))
        return WEIGHT @ sj.matvec(crossbar, X, key=jr.key(4))

    slope, other = jax.grad(product, (0, 1))(jnp.asarray(A), 0.02)
    np.testing.assert_allclose(slope, np.outer(WEIGHT, X), rtol=1e-12)
    assert other != 0
    loop = lambda A: sj.matvec(
        sj.program(A, sj.devices.EPIRAM, array=4, key=jr.key(3))[0], X, key=jr.key(4)
    )
    slope = jax.grad(lambda A: WEIGHT @ loop(A))(jnp.asarray(A))
    np.testing.assert_allclose(slope, np.outer(WEIGHT, X), rtol=1e-12)


def test_a_stopping_rule_has_no_reverse_mode():
    def held(sigma):
        device = dataclasses.replace(sj.devices.EPIRAM, sigma_c2c=sigma)
        return sj.stored_matrix(sj.program(A, device, array=4, key=jr.key(3))[0]).sum()

    with pytest.raises(ValueError, match="Reverse-mode differentiation"):
        jax.grad(held)(0.02)
    assert "forward" in sj.program.__doc__ and "program" in sj.Device.__doc__


@pytest.mark.parametrize("u", [-4.0, -0.3, -1e-4, 1e-12, 1e-4, 0.3, 4.0, 12.0])
@pytest.mark.parametrize("dtype, tol", [("float64", 1e-12), ("float32", 4e-6)])
def test_the_curve_has_the_derivative_of_its_series(u, dtype, tol):
    """Oracle: NumPy in 80 bits; the series in `u` where that cancels."""
    x = np.longdouble(0.3)
    w = np.longdouble(np.dtype(dtype).type(u))

    def curve(w):
        if abs(w) < 1e-3:
            a, b = 1 - x, 1 - 2 * x
            return x * (1 + w * a / 2 + w**2 * a * b / 12 - w**3 * x * a**2 / 24)
        return np.expm1(-w * x) / np.expm1(-w)

    if abs(w) < 1e-3:
        a, b = 1 - x, 1 - 2 * x
        want = x * (a / 2 + w * a * b / 6 - w**2 * x * a**2 / 8)
    else:
        e = np.exp(-w * x)
        want = (x * e - np.exp(-w) * curve(w)) / -np.expm1(-w)
    to = lambda v: jnp.asarray(v, dtype)
    got = jax.grad(response_curve, 1)(to(0.3), to(u))
    np.testing.assert_allclose(got, float(want), rtol=tol)
    # Of the inverse, by the theorem on implicit functions.
    steep = w * np.exp(-w * x) / -np.expm1(-w)
    back = jax.grad(response_inverse, 1)(to(float(curve(w))), to(u))
    np.testing.assert_allclose(back, float(-want / steep), rtol=4 * tol)
    # A fresh cell moves along the curve, one at the top comes down along it.
    device = dataclasses.replace(sj.devices.EPIRAM, sigma_c2c=0.0, pulses_ltp=10)
    move = lambda u: move_state(to(0.0), to(3.0), device, Response(u, u), to(0.0))
    np.testing.assert_allclose(jax.grad(move)(to(u)), float(want), rtol=tol)
