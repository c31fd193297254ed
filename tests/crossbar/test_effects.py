import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import scipy.sparse
from sedma_jax.kernels import (
    LogarithmicDrift,
    PolynomialCurve,
    PowerLawDrift,
    ProgrammingNoise,
)
from tolerances import mean_atol, var_atol

import sedma_jax as sj

ARRAY = (6, 5)
M, N = 9, 7  # two tiles each way, the last of both padded
MAPPINGS = pytest.mark.parametrize("mapping", [sj.differential, sj.offset])
# An access transistor that matters: 1 + g r = 1.5 at the top.
DEVICE = sj.Device(
    g_min=1e-6, g_max=1e-5, pulses_ltp=64, pulses_ltd=64, sigma_c2c=0.01, r_access=5e4
)
DRIFT = PowerLawDrift(
    PolynomialCurve((0.05, 0.02), 1e-5), PolynomialCurve((0.0,), 1e-5), t_0=1.0
)


def random(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def program(mapping=sj.differential, device=DEVICE, A=None):
    A = random((M, N)) if A is None else A
    return sj.program_exactly(A, device, array=ARRAY, mapping=mapping)


def write(mapping=sj.differential):
    A = random((M, N))
    return sj.program(A, DEVICE, array=ARRAY, mapping=mapping, key=jr.key(1))[0]


def current(g, device=DEVICE):
    return g / (1 + g * device.r_access)


def weights_of(conductance, crossbar, device=DEVICE):
    """Signed weights of every tile, entry by entry, from the currents of the cells."""
    low, high = current(device.g_min, device), current(device.g_max, device)
    out = np.zeros(crossbar.weights.shape)
    rows, cols = ARRAY
    for t, r, c in np.ndindex(out.shape):
        used = crossbar.inputs[t] * rows + r < N and crossbar.outputs[t] * cols + c < M
        if used:
            seen = [current(float(g), device) for g in conductance[t, :, r, c]]
            if len(seen) == 2:
                out[t, r, c] = (seen[0] - seen[1]) / (high - low)
            else:
                out[t, r, c] = (2 * seen[0] - low - high) / (high - low)
    return out


@MAPPINGS
def test_weights_follow_from_conductances(mapping):
    crossbar = write(mapping)
    same = sj.with_conductance(crossbar, crossbar.conductance)
    # The lower end of the window cancels: three roundings of its size.
    np.testing.assert_allclose(same.weights, crossbar.weights, atol=1e-14)
    other = crossbar.conductance * 1.3
    seen = sj.with_conductance(crossbar, other).weights
    np.testing.assert_allclose(seen, weights_of(other, crossbar), atol=1e-14)


@MAPPINGS
def test_effects_compose_like_the_cells_by_hand(mapping):
    crossbar = program(mapping)
    faults = sj.fault_map(crossbar, 0.1, 0.2, key=jr.key(2))
    r_word, r_bit, time = 300.0, 500.0, 3600.0
    faulty = sj.inject_faults(crossbar, faults)
    aged = sj.age(faulty, DRIFT, time, key=jr.key(3))
    wired = sj.with_line_resistance(aged, r_word, r_bit)

    g = np.array(crossbar.conductance)
    faults = np.asarray(faults)
    g[faults == 1] = DEVICE.g_max
    g[faults == -1] = DEVICE.g_min
    g = g * (1 + time) ** -(0.05 + 0.02 * g / 1e-5)
    np.testing.assert_allclose(aged.conductance, g, rtol=1e-13)

    x = random((3, N), 4)
    drive = np.abs(x).max(1, keepdims=True)
    low, high = current(DEVICE.g_min), current(DEVICE.g_max)
    y = np.zeros((3, M))
    for t in range(len(g)):
        first, last = int(crossbar.inputs[t]) * 6, int(crossbar.outputs[t]) * 5
        v = np.zeros((3, 6))
        part = x[:, first : first + 6] / drive
        v[:, : part.shape[1]] = part
        currents = [nodal_currents(current(cells), v, r_word, r_bit) for cells in g[t]]
        if len(currents) == 2:
            total = (currents[0] - currents[1]) / (high - low)
        else:
            # The reference carries the middle of the window from every driven line.
            middle = (high + low) / 2 * v.sum(1, keepdims=True)
            total = 2 * (currents[0] - middle) / (high - low)
        place = slice(last, min(last + 5, M))
        y[:, place] += (total * np.asarray(crossbar.scale[t]))[:, : place.stop - last]
    actual = sj.matvec(wired, x, key=jr.key(5))
    np.testing.assert_allclose(actual, y * drive, rtol=1e-10, atol=1e-10)
    # The lines have to matter for this to say anything.
    ideal = np.asarray(sj.matvec(aged, x, key=jr.key(5)))
    assert np.abs(ideal - y * drive).max() > 0.005 * np.abs(ideal).max()


def nodal_currents(g, v, r_word, r_bit):
    """Output currents of a crossbar by dense nodal analysis of its resistors."""
    rows, cols = g.shape
    count = 2 * rows * cols
    word = lambda i, j: i * cols + j
    bit = lambda i, j: rows * cols + i * cols + j
    y = np.zeros((count, count))
    sources = np.zeros((count, len(v)))

    def join(a, b, conductance):
        for node, other in ((a, b), (b, a)):
            y[node, node] += conductance
            y[node, other] -= conductance

    for i in range(rows):
        for j in range(cols):
            join(word(i, j), bit(i, j), g[i, j])
            if j:
                join(word(i, j), word(i, j - 1), 1 / r_word)
            if i:
                join(bit(i, j), bit(i - 1, j), 1 / r_bit)
        y[word(i, 0), word(i, 0)] += 1 / r_word
        sources[word(i, 0)] = v[:, i] / r_word
    for j in range(cols):
        y[bit(rows - 1, j), bit(rows - 1, j)] += 1 / r_bit
    voltages = np.linalg.solve(y, sources)
    return voltages[[bit(rows - 1, j) for j in range(cols)]].T / r_bit


def test_approximate_lines_are_exact_for_equal_inputs_and_close_for_others():
    crossbar = program()
    exact = sj.with_line_resistance(crossbar, 20.0, 20.0)
    close = sj.with_approximate_line_resistance(crossbar, 20.0, 20.0)
    read = partial(sj.matvec, key=jr.key(0))
    # Iteration stops at 1e-6 of the driving voltages.
    equal = np.ones(N)
    size = np.abs(read(exact, equal)).max()
    np.testing.assert_allclose(read(close, equal), read(exact, equal), atol=1e-5 * size)
    x = random(N, 7)
    y, ideal = read(exact, x), read(crossbar, x)
    assert np.abs(read(close, x) - y).max() < 0.1 * np.abs(ideal - y).max()


@MAPPINGS
def test_lines_without_resistance_change_nothing(mapping):
    crossbar = program(mapping)
    wired = sj.with_line_resistance(crossbar, 0.0, 0.0)
    np.testing.assert_allclose(wired.weights, crossbar.weights, atol=1e-13)
    with pytest.raises(ValueError, match="`r_word` from 0 up"):
        sj.with_line_resistance(crossbar, -1.0, 0.0)


def test_stuck_cells_sit_at_the_ends_of_the_window():
    crossbar = program(A=random((60, 70)))
    faults = np.asarray(sj.fault_map(crossbar, 0.02, 0.05, key=jr.key(1)))
    n = faults.size
    for value, p in ((1, 0.02), (-1, 0.05)):
        rate = np.mean(faults == value)
        assert abs(rate - p) < mean_atol((p * (1 - p)) ** 0.5, n)
    g = np.asarray(sj.inject_faults(crossbar, jnp.asarray(faults)).conductance)
    assert (g[faults == 1] == DEVICE.g_max).all() and (
        g[faults == -1] == DEVICE.g_min
    ).all()
    np.testing.assert_array_equal(
        g[faults == 0], np.asarray(crossbar.conductance)[faults == 0]
    )
    with pytest.raises(ValueError, match="one entry for each cell"):
        sj.inject_faults(crossbar, jnp.asarray(faults[:1]))


def test_what_is_drawn_for_a_tile_depends_on_its_place_alone():
    A = random((M, N))
    alone = np.zeros_like(A)
    alone[5:, 6:] = A[5:, 6:]
    whole = program(A=A)
    single = program(A=scipy.sparse.csr_array(alone))
    assert len(single.weights) == 1
    noise = ProgrammingNoise(PolynomialCurve((1e-7,), 1.0))
    drifting = LogarithmicDrift(-1e-7, 1e-7, 1e-7)
    for effect in (
        lambda c: sj.inject_faults(c, sj.fault_map(c, 0.3, 0.3, key=jr.key(4))),
        lambda c: sj.perturb(c, noise, key=jr.key(4)),
        lambda c: sj.age(c, drifting, 100.0, key=jr.key(4)),
    ):
        one, all_ = effect(single).conductance, effect(whole).conductance
        np.testing.assert_array_equal(one[0], all_[3])
        assert (np.asarray(all_[0]) != np.asarray(all_[1])).any()


def test_one_key_in_two_effects_draws_two_things():
    crossbar = program(A=random((60, 70)))
    noise = ProgrammingNoise(PolynomialCurve((1e-7,), 1.0), g_min=-np.inf)
    drifting = LogarithmicDrift(0.0, 0.0, 1e-7, g_min=-np.inf)
    g = crossbar.conductance
    first = np.ravel(sj.perturb(crossbar, noise, key=jr.key(4)).conductance - g) / 1e-7
    second = np.ravel(sj.age(crossbar, drifting, 1.0, key=jr.key(4)).conductance - g) / 1e-7
    assert abs(first.var() - 1) < var_atol(1, first.size)
    assert abs((first * second).mean()) < mean_atol(1, first.size)


def test_each_cell_keeps_its_drift_exponent():
    model = PowerLawDrift(
        PolynomialCurve((0.05,), 1.0), PolynomialCurve((0.01,), 1.0), t_0=2.0
    )
    crossbar = program()
    g = np.asarray(crossbar.conductance)

    def exponents(time):
        aged = sj.age(crossbar, model, time, key=jr.key(3)).conductance
        return -np.log(np.asarray(aged) / g) / np.log1p(time / 2.0)

    np.testing.assert_allclose(exponents(10.0), exponents(1e6), rtol=1e-10)
    nu = exponents(1e3).ravel()
    assert abs(nu.mean() - 0.05) < mean_atol(0.01, nu.size)
    assert abs(nu.var() - 1e-4) < var_atol(0.01, nu.size)
    # Given the targets, their statistics count, not those of what was programmed.
    model = DRIFT
    target = sj.with_conductance(crossbar, jnp.full_like(crossbar.conductance, 5e-6))
    aged = sj.age(crossbar, model, 100.0, target, key=jr.key(3)).conductance
    np.testing.assert_allclose(aged, g * 101.0 ** -(0.05 + 0.02 * 0.5), rtol=1e-13)


@pytest.mark.parametrize("ratio", [sj.column_drift_compensation, sj.drift_compensation])
def test_compensation_undoes_a_loss_in_proportion(ratio):
    even = dataclasses.replace(DRIFT, exponent_mean=PolynomialCurve((0.05,), 1.0))
    # Without an access transistor, equal exponents scale every current alike.
    crossbar = program(device=dataclasses.replace(DEVICE, r_access=0.0))
    aged = sj.age(crossbar, even, 1e6, key=jr.key(0))
    inputs = random((4, N), 3)
    repaired = sj.compensate_drift(aged, crossbar, inputs, ratio=ratio, key=jr.key(1))
    x = random(N, 5)
    y = sj.matvec(crossbar, x, key=jr.key(2))
    np.testing.assert_allclose(sj.matvec(repaired, x, key=jr.key(2)), y, rtol=1e-12)
    lost = np.asarray(sj.matvec(aged, x, key=jr.key(2)))
    np.testing.assert_allclose(lost, np.asarray(y) * (1e6 + 1) ** -0.05, rtol=1e-12)


def test_compensation_has_a_scale_for_each_bit_line():
    crossbar = program(device=dataclasses.replace(DEVICE, r_access=0.0))
    factor = np.linspace(0.5, 0.9, 5)
    g = DEVICE.g_min + (crossbar.conductance - DEVICE.g_min) * factor[None, None, None]
    lossy = sj.with_conductance(crossbar, g)
    inputs = random((4, N), 3)
    x = random((2, N), 5)
    y = np.asarray(sj.matvec(crossbar, x, key=jr.key(2)))
    by_column = sj.compensate_drift(lossy, crossbar, inputs, key=jr.key(1))
    np.testing.assert_allclose(sj.matvec(by_column, x, key=jr.key(2)), y, rtol=1e-10)
    whole = sj.compensate_drift(
        lossy, crossbar, inputs, ratio=sj.drift_compensation, key=jr.key(1)
    )
    v = inputs / np.abs(inputs).max(1, keepdims=True)
    t = 0
    before = np.abs(v[:, :6] @ np.asarray(crossbar.weights[t])).sum()
    now = np.abs(v[:, :6] @ np.asarray(lossy.weights[t])).sum()
    np.testing.assert_allclose(
        whole.scale[t], np.asarray(crossbar.scale[t]) * before / now, rtol=1e-12
    )


@MAPPINGS
def test_exact_programming_stores_the_matrix(mapping):
    A = random((M, N))
    crossbar = sj.program_exactly(A, DEVICE, array=ARRAY, mapping=mapping)
    np.testing.assert_allclose(sj.stored_matrix(crossbar), A, atol=1e-13)
    g = np.asarray(crossbar.conductance)
    assert g.min() >= DEVICE.g_min * (1 - 1e-12) and g.max() <= DEVICE.g_max * (1 + 1e-12)
    np.testing.assert_allclose(crossbar.weights, weights_of(g, crossbar), atol=1e-13)
    written = write(mapping)
    np.testing.assert_allclose(crossbar.scale, written.scale)
    # Cells without a matrix entry are left at the bottom, as `program` leaves them.
    np.testing.assert_allclose(
        g[3, :, 1:], np.asarray(written.conductance)[3, :, 1:], atol=1e-18
    )


def test_a_published_model_serves_as_a_device():
    model = sj.noise_models.WAN_2022
    A = np.ones((100, 100))
    target = sj.program_exactly(A, model.device, array=(100, 100))
    g = np.asarray(sj.perturb(target, model.programming, key=jr.key(0)).conductance)[0]
    # NeuRRAM, 1 s: the published polynomial in g / 40 uS, at its ends, in uS.
    top = 0.348 + 16.030 - 43.853 + 45.393 - 16.815
    assert abs(g[0].mean() - 40e-6) < mean_atol(top * 1e-6, g[0].size)
    assert abs(g[0].var() - (top * 1e-6) ** 2) < var_atol(top * 1e-6, g[0].size)
    # Half of the draws at the bottom stop at zero.
    half = (g[1] == 0).mean()
    assert abs(half - 0.5) < mean_atol(0.5, g[1].size)


@pytest.mark.parametrize("name", ["WAN_2022", "CMO_HFOX", "MILO_2021", "PCM", "HERMES_1"])
def test_all_of_a_published_model_in_a_row(name):
    model = getattr(sj.noise_models, name)
    A = random((M, N))
    crossbar = sj.program_exactly(A, model.device, array=ARRAY)
    crossbar = sj.perturb(crossbar, model.programming, key=jr.key(0))
    aged = crossbar
    if model.drift is not None:
        aged = sj.age(crossbar, model.drift, 3600.0, key=jr.key(1))
    if model.read is not None:
        aged = sj.with_read_noise(aged, model.read, 3600.0, crossbar)
    y = sj.matvec(aged, random(N, 1), key=jr.key(2))
    exact = A @ random(N, 1)
    error = np.linalg.norm(y - exact) / np.linalg.norm(exact)
    assert 0.001 < error < 1


def test_a_retention_table_stands_for_programming_and_drift():
    table = sj.noise_models.sonos_retention(0.1)
    device = sj.noise_models.window(0.0, 18e-6)
    target = sj.program_exactly(np.ones((100, 100)), device, array=(100, 100))
    g = np.asarray(sj.retain(target, table, 0.0, key=jr.key(0)).conductance)[0, 0]
    # Agrawal et al.: 19.88665 nA (1 - exp(-I / 176.3115 nA)), at 1800 nA of 0.1 V.
    std = 19.88665e-9 / 0.1 * (1 - np.exp(-1800 / 176.3115))
    assert abs(g.mean() - 18e-6) < mean_atol(std, g.size)
    assert abs(g.var() - std**2) < var_atol(std, g.size)


def test_gradients_pass_through_the_effects():
    A, x = random((M, N)), random(N, 1)

    def product(A, nu, r):
        crossbar, _ = sj.program(A, DEVICE, array=ARRAY, key=jr.key(1))
        model = PowerLawDrift(
            PolynomialCurve((nu,), 1.0), PolynomialCurve((0.0,), 1.0), t_0=1.0
        )
        aged = sj.age(crossbar, model, 10.0, key=jr.key(2))
        return sj.matvec(sj.with_line_resistance(aged, r, 2 * r), x, key=jr.key(3)).sum()

    # As functions of the drift and of the lines: against differences.
    slope = jax.jit(jax.grad(product, (0, 1, 2)))(jnp.asarray(A), 0.05, 10.0)
    run = jax.jit(product)
    for place, step in ((1, 1e-5), (2, 1e-2)):
        ends = []
        for sign in (1, -1):
            arguments = [jnp.asarray(A), 0.05, 10.0]
            arguments[place] += sign * step
            ends.append(float(run(*arguments)))
        difference = (ends[0] - ends[1]) / (2 * step)
        np.testing.assert_allclose(slope[place], difference, rtol=1e-5)
    # In the matrix, straight through programming: what drift and lines leave of x.
    kept = np.asarray(slope[0]) / x[None]
    assert (kept > 0.3).all() and (kept < 1.0).all()


def test_read_effects_come_last_and_say_so():
    crossbar = sj.with_read_noise(program(), sj.noise_models.PCM_READ)
    with pytest.raises(ValueError, match="Call those last"):
        sj.age(crossbar, DRIFT, 1.0, key=jr.key(0))
    with pytest.raises(ValueError, match="one conductance for each cell"):
        sj.with_conductance(program(), jnp.ones((1, 2, 3, 4)))


def test_single_precision_stays():
    crossbar = program(A=random((M, N)).astype(np.float32))
    table = sj.noise_models.PCM
    aged = sj.age(
        sj.perturb(crossbar, table.programming, key=jr.key(0)),
        table.drift,
        9.0,
        key=jr.key(1),
    )
    faulty = sj.inject_faults(aged, sj.fault_map(aged, 0.1, 0.1, key=jr.key(2)))
    wired = sj.with_line_resistance(faulty, 1.0, 1.0)
    noisy = sj.with_read_noise(wired, table.read)
    bent = sj.with_nonlinear_current(noisy, sj.noise_models.MILO_2021_CURRENT)
    y = sj.matvec(bent, random(N, 1).astype(np.float32), key=jr.key(3))
    for array in (bent.conductance, bent.weights, bent.read_variance, bent.higher_order, y):
        assert array.dtype == jnp.float32
