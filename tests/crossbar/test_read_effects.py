import dataclasses

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from sedma_jax.kernels import (
    CubicCurrent,
    PolynomialCurve,
    StationaryReadNoise,
    read_moments,
    read_noise,
    standard_uniform,
    tiles_from_strips,
)
from sedma_jax.kernels._cells.cell_current import nonlinear_current
from tolerances import mean_atol, var_atol

import sedma_jax as sj

ARRAY = (6, 5)
M, N = 9, 7
MAPPINGS = pytest.mark.parametrize("mapping", [sj.differential, sj.offset])
DEVICE = sj.Device(g_min=1e-6, g_max=1e-5, pulses_ltp=64, pulses_ltd=64, v_read=0.4)


def random(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def program(mapping=sj.differential, device=DEVICE):
    return sj.program_exactly(random((M, N)), device, array=ARRAY, mapping=mapping)


def noise(distribution=jr.normal, **limits):
    """A tenth of a conductance and a bit, as far as `limits` let it."""
    return StationaryReadNoise(PolynomialCurve((2e-7, 0.1), 1.0), distribution, **limits)


@pytest.mark.parametrize("distribution", [jr.normal, standard_uniform])
@pytest.mark.parametrize("limits", [{}, {"g_min": 9e-7, "g_max": 1.05e-5}])
def test_moments_are_those_of_the_draws(distribution, limits):
    model = noise(distribution, **limits)
    g = jnp.asarray([8e-7, 1e-6, 5e-6, 1e-5, 1.1e-5])
    n = 200_000
    draws = read_noise(model, jnp.broadcast_to(g, (n, 5)), 0.0, key=jr.key(0))
    change = np.asarray(draws - g[None])
    mean, variance = map(np.asarray, read_moments(model, g, 0.0))
    std = change.std(0)
    assert (np.abs(change.mean(0) - mean) <= mean_atol(1, n) * std).all()
    spread = ((change - change.mean(0)) ** 2).std(0)
    assert (np.abs(change.var(0) - variance) <= mean_atol(1, n) * spread).all()


def test_moments_of_quiet_cells_and_of_a_cell_at_zero():
    quiet = StationaryReadNoise(PolynomialCurve((0.0,), 1.0), g_max=5e-6)
    mean, variance = read_moments(quiet, jnp.asarray([1e-6, 8e-6]), 0.0)
    np.testing.assert_allclose(mean, [0.0, -3e-6], atol=1e-20)
    assert not variance.any()
    # Half a normal: E max(xi, 0) = 1 / sqrt(2 pi), E max(xi, 0)**2 = 1 / 2.
    mean, variance = read_moments(noise(), jnp.asarray([0.0]), 0.0)
    half = 1 / np.sqrt(2 * np.pi)
    np.testing.assert_allclose(mean, 2e-7 * half, rtol=1e-12)
    np.testing.assert_allclose(variance, 4e-14 * (0.5 - half**2), rtol=1e-12)
    with pytest.raises(ValueError, match="per_cell_noisy_matvec"):
        read_moments(noise(jr.laplace), jnp.asarray([0.0]), 0.0)
    slope = jax.grad(lambda g: sum(map(jnp.sum, read_moments(noise(), g, 0.0))))
    assert np.isfinite(slope(jnp.asarray([0.0, 1e-6]))).all()


@MAPPINGS
def test_one_draw_an_output_has_the_moments_of_one_draw_a_cell(mapping):
    # Both kinds of noise, limits that bite, and converters behind.
    device = dataclasses.replace(DEVICE, sigma_read=0.02)
    crossbar = program(mapping, device)
    model = noise(g_min=2e-6)
    count = 20_000
    x = np.broadcast_to(random(N, 1), (count, N))
    fast = np.asarray(sj.matvec(sj.with_read_noise(crossbar, model), x, key=jr.key(2)))
    exact = np.asarray(sj.per_cell_noisy_matvec(crossbar, x, model, key=jr.key(3)))
    for y in (fast, exact):
        mean, variance = moments_by_hand(crossbar, x[0], model)
        assert (np.abs(y.mean(0) - mean) <= mean_atol(1, count) * variance**0.5).all()
        assert (np.abs(y.var(0) - variance) <= var_atol(1, count) * variance).all()
    # The limits move the mean of cells at the bottom by more than the sampling error.
    still = np.asarray(sj.matvec(program(mapping), x[:1], key=jr.key(2)))[0]
    shift = np.abs(fast.mean(0) - still)
    assert (shift > 2 * mean_atol(1, count) * variance**0.5).any()


def moments_by_hand(crossbar, x, model):
    """Mean and variance of each output, cell by cell, by quadrature of clipped normals."""
    device = crossbar.device
    window = device.g_max - device.g_min
    fine = np.linspace(-8, 8, 20_001)
    density = np.exp(-(fine**2) / 2)
    density /= density.sum()
    mean, variance = np.zeros(M), np.zeros(M)
    conductance = np.asarray(crossbar.conductance)
    single = conductance.shape[1] == 1
    gain = 2 if single else 1
    for t, p, r, c in np.ndindex(conductance.shape):
        row, col = crossbar.inputs[t] * 6 + r, crossbar.outputs[t] * 5 + c
        if row >= N or col >= M:
            continue
        g = conductance[t, p, r, c]
        read = np.clip(g + (2e-7 + 0.1 * g) * fine, model.g_min, model.g_max)
        first = (density * read).sum()
        second = (density * (read - first) ** 2).sum()
        factor = float(x[row] * crossbar.scale[t, c] / window)
        sign = -1 if p else 1
        middle = (device.g_min + device.g_max) / 2 if single else 0.0
        mean[col] += sign * gain * factor * (first - middle)
        variance[col] += (gain * factor) ** 2 * second
    for t in range(len(conductance)):
        first = int(crossbar.inputs[t]) * 6
        part = x[first : first + 6]
        for c in range(5):
            col = int(crossbar.outputs[t]) * 5 + c
            if col < M:
                scale = float(crossbar.scale[t, c])
                cells = 4 if single else 2
                variance[col] += cells * device.sigma_read**2 * scale**2 * (part**2).sum()
    return mean, variance


def test_read_noise_passes_the_access_transistor_to_first_order():
    device = dataclasses.replace(DEVICE, r_access=5e4)
    crossbar = program(device=device)
    model = StationaryReadNoise(PolynomialCurve((1e-9,), 1.0), g_min=-np.inf)
    noisy = sj.with_read_noise(crossbar, model)
    seen = lambda g: g / (1 + g * 5e4)
    step = 1e-10
    g = np.asarray(crossbar.conductance)
    slope = (seen(g + step) - seen(g - step)) / (2 * step)
    variance = ((slope * 1e-9 / (seen(1e-5) - seen(1e-6))) ** 2).sum(1)
    seen = np.asarray(tiles_from_strips(noisy.read_variance, noisy.array[1]))
    used = seen > 0
    assert used.sum() == M * N
    np.testing.assert_allclose(seen[used], variance[used], rtol=1e-6)


def test_noise_of_a_read_remembers_what_was_programmed():
    model = sj.noise_models.PCM
    crossbar = sj.program_exactly(random((M, N)), model.device, array=ARRAY)
    aged = sj.age(crossbar, model.drift, 1e5, key=jr.key(0))
    noisy = sj.with_read_noise(aged, model.read, 1e5, crossbar)
    g, before = np.asarray(aged.conductance), np.asarray(crossbar.conductance)
    # Nandakumar et al.: g Q(g_programmed) sqrt(log((t + t_0 + t_read) / (2 t_read))).
    with np.errstate(divide="ignore"):
        quality = np.minimum(0.0088 * (before / 25e-6) ** -0.65, 0.2)
    growth = np.sqrt(np.log((1e5 + 20 + 250e-9) / 500e-9))
    _, variance = read_moments(model.read, aged.conductance, 1e5, crossbar.conductance)
    far = g > 5 * g * quality * growth
    assert far.sum() > 20
    sigma = (g * quality * growth)[far]
    np.testing.assert_allclose(np.asarray(variance)[far], sigma**2, rtol=1e-4)
    np.testing.assert_allclose(
        tiles_from_strips(noisy.read_variance, 5),
        np.asarray(variance).sum(1) / 25e-6**2,
        rtol=1e-9,
    )


def test_noise_that_counts_twice_is_refused():
    noisy = sj.with_read_noise(program(), noise())
    with pytest.raises(ValueError, match="has not been through"):
        sj.per_cell_noisy_matvec(noisy, random(N), noise(), key=jr.key(0))


CUBIC = CubicCurrent((2e-6, 1e-6), (5e-6, -2e-6), g_0=5e-6)


@MAPPINGS
@pytest.mark.parametrize("r_access", [0.0, 2e3])
def test_nonlinear_cells_carry_their_currents(mapping, r_access):
    device = dataclasses.replace(DEVICE, r_access=r_access)
    crossbar = program(mapping, device)
    x = random((3, N), 1)
    bent = sj.with_nonlinear_current(crossbar, CUBIC)
    y = np.asarray(sj.matvec(bent, x, key=jr.key(0)))
    drive = np.abs(x).max(1, keepdims=True)
    volts = 0.4 * x / drive
    seen = lambda g: g / (1 + g * r_access)
    expected = np.zeros((3, M))
    g = np.asarray(crossbar.conductance)
    single = g.shape[1] == 1
    for t, p, r, c in np.ndindex(g.shape):
        row, col = int(crossbar.inputs[t]) * 6 + r, int(crossbar.outputs[t]) * 5 + c
        if row >= N or col >= M:
            continue
        current = through(g[t, p, r, c], volts[:, row], r_access)
        if single:
            middle = (seen(1e-5) + seen(1e-6)) / 2
            current = 2 * (current - middle * volts[:, row])
        unit = 0.4 * (seen(1e-5) - seen(1e-6))
        expected[:, col] += (-1) ** p * current / unit * float(crossbar.scale[t, c])
    # Exact for bare cells; behind a transistor the series stops after the third order.
    rtol = 1e-10 if r_access == 0 else 2e-3
    size = np.abs(expected * drive).max()
    np.testing.assert_allclose(y, expected * drive, atol=rtol * size)
    straight = np.asarray(sj.matvec(crossbar, x, key=jr.key(0)))
    assert np.abs(straight - y).max() > 0.05 * size


def through(g, volts, r):
    """Current of a cubic cell behind a resistor, by bisection on the voltage divider."""
    low, high = -np.abs(volts), np.abs(volts)
    cell = lambda u: np.asarray(
        nonlinear_current(jnp.full_like(jnp.asarray(u), g), jnp.asarray(u), CUBIC)
    )
    for _ in range(60):
        middle = (low + high) / 2
        above = middle + r * cell(middle) > volts
        low, high = np.where(above, low, middle), np.where(above, middle, high)
    return cell((low + high) / 2)
