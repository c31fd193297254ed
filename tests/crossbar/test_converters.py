import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from tolerances import mean_atol, var_atol

import sedma_jax as sj

ARRAY = (6, 5)
M, N = 9, 7
DEVICE = sj.Device(g_min=1e-6, g_max=1e-5, pulses_ltp=4096, pulses_ltd=4096)


def random(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


A = random((M, N))


def program(A=A, device=DEVICE):
    return sj.program_exactly(A, device, array=ARRAY)


def currents_by_hand(crossbar, x):
    """Currents of the outputs of each tile, a list of (batch, outputs)."""
    voltages = x / np.abs(x).max(1, keepdims=True)
    all_ = []
    for t, weights in enumerate(np.asarray(crossbar.weights)):
        first, last = int(crossbar.inputs[t]) * 6, int(crossbar.outputs[t]) * 5
        part = voltages[:, first : first + 6]
        all_.append(part @ weights[: part.shape[1], : min(5, M - last)])
    return all_


@pytest.mark.parametrize("per_column", [True, False])
@pytest.mark.parametrize("percentile", [100.0, 80.0])
def test_ranges_are_percentiles_of_the_currents(per_column, percentile):
    crossbar, x = program(), random((40, N), 1)
    adc = sj.calibrated_adc(
        crossbar, x, bits=6, percentile=percentile, per_column=per_column, key=jr.key(0)
    )
    full_scale = np.asarray(adc.full_scale)
    rates = np.asarray(sj.clip_rate(crossbar, x, adc, key=jr.key(0)))
    for t, currents in enumerate(currents_by_hand(crossbar, x)):
        size = np.abs(currents)
        if per_column:
            expected = np.percentile(size, percentile, axis=0)
            np.testing.assert_allclose(
                full_scale[t, 0, : len(expected)], expected, rtol=1e-12
            )
            assert not full_scale[t, 0, len(expected) :].any()
        else:
            expected = np.percentile(size, percentile)
            np.testing.assert_allclose(full_scale[t], [[expected]], rtol=1e-12)
        # The currents themselves round differently in the last place.
        np.testing.assert_allclose(rates[t], (size > expected * (1 + 1e-12)).mean())
    if percentile == 100.0:
        assert not rates.any()
    with pytest.raises(ValueError, match="from 0 to 100"):
        sj.calibrated_adc(crossbar, x, bits=6, percentile=101, key=jr.key(0))


def test_tiles_are_converted_before_they_are_added():
    crossbar, x = program(), random((40, N), 1)
    adc = sj.calibrated_adc(crossbar, x, bits=5, percentile=90.0, key=jr.key(0))
    y = sj.matvec(crossbar, x, adc=adc, key=jr.key(0))
    expected = np.zeros((40, M))
    for t, currents in enumerate(currents_by_hand(crossbar, x)):
        outputs = currents.shape[1]
        lsb = np.asarray(adc.full_scale)[t, 0, :outputs] / 15
        code = np.clip(np.round(currents / lsb), -15, 15)
        last = int(crossbar.outputs[t]) * 5
        scale = np.asarray(crossbar.scale)[t, :outputs]
        expected[:, last : last + outputs] += code * lsb * scale
    expected *= np.abs(x).max(1, keepdims=True)
    np.testing.assert_allclose(y, expected, atol=1e-12)


def test_a_range_that_is_too_small_shows():
    crossbar, x = program(), random((40, N), 1)
    assert float(sj.clip_rate(crossbar, x, sj.ADC(8, 1e-3), key=jr.key(0)).min()) > 0.9
    assert not sj.clip_rate(crossbar, x, sj.ADC(8), key=jr.key(0)).any()


def test_planes_add_up_to_the_rounded_input():
    x = random((4, 50), 2)
    planes = np.asarray(sj.bit_planes(jnp.asarray(x), bits=6))
    assert set(np.unique(planes)) == {-1, 0, 1}
    whole = np.round(x / np.abs(x).max(1, keepdims=True) * 31)
    np.testing.assert_array_equal(np.tensordot(2.0 ** np.arange(5), planes, 1), whole)
    with pytest.raises(ValueError, match="from 2 to 24"):
        sj.bit_planes(jnp.asarray(x), bits=1)


def test_bit_serial_product_is_that_of_the_rounded_input():
    crossbar, x = program(), random((4, N), 2)
    drive = np.abs(x).max(1, keepdims=True)
    rounded = np.round(x / drive * 127) / 127 * drive
    y = sj.bit_serial_matvec(crossbar, x, bits=8, key=jr.key(0))
    np.testing.assert_allclose(y, rounded @ A.T, atol=1e-12)
    one = sj.bit_serial_matvec(crossbar, x[0], bits=8, key=jr.key(0))
    np.testing.assert_allclose(one, y[0], atol=1e-12)


def test_every_plane_is_converted():
    crossbar, x = program(), random((4, N), 2)
    adc = sj.ADC(6, 1.7)
    y = np.asarray(sj.bit_serial_matvec(crossbar, x, bits=5, adc=adc, key=jr.key(0)))
    drive = np.abs(x).max(1, keepdims=True)
    whole = np.round(x / drive * 15)
    expected = np.zeros((4, M))
    for k in range(4):
        plane = np.sign(whole) * (np.abs(whole).astype(int) >> k & 1)
        # Planes reach the arrays as they are: not every one of them holds a one.
        for t, weights in enumerate(np.asarray(crossbar.weights)):
            first, last = int(crossbar.inputs[t]) * 6, int(crossbar.outputs[t]) * 5
            part = plane[:, first : first + 6]
            outputs = min(5, M - last)
            currents = part @ weights[: part.shape[1], :outputs]
            code = np.clip(np.round(currents / (1.7 / 31)), -31, 31) * (1.7 / 31)
            scale = np.asarray(crossbar.scale)[t, :outputs]
            expected[:, last : last + outputs] += 2**k * code * scale
    np.testing.assert_allclose(y, expected * drive / 15, atol=1e-12)


def test_every_plane_has_noise_of_its_own():
    device = sj.Device(1e-6, 1e-5, pulses_ltp=64, pulses_ltd=64, sigma_read=0.05)
    crossbar, count = program(device=device), 20_000
    x = np.broadcast_to(random(N, 2), (count, N))
    y = np.asarray(sj.bit_serial_matvec(crossbar, x, bits=4, key=jr.key(0)))
    drive = np.abs(x[0]).max()
    whole = np.round(x[0] / drive * 7)
    variance = np.zeros(M)
    for k in range(3):
        set_ = (np.abs(whole).astype(int) >> k & 1).astype(float)
        for t in range(4):
            first, last = int(crossbar.inputs[t]) * 6, int(crossbar.outputs[t]) * 5
            outputs = min(5, M - last)
            scale = np.asarray(crossbar.scale)[t, :outputs]
            cells = 2 * 0.05**2 * set_[first : first + 6].sum()
            variance[last : last + outputs] += 4**k * cells * scale**2
    variance *= (drive / 7) ** 2
    expected = (whole / 7 * drive) @ A.T
    assert (np.abs(y.mean(0) - expected) <= mean_atol(1, count) * variance**0.5).all()
    assert (np.abs(y.var(0) - variance) <= var_atol(1, count) * variance).all()


@pytest.mark.parametrize(("cell_bits", "slices"), [(2, 3), (1, 4)])
def test_slices_hold_the_digits_of_the_rounded_weights(cell_bits, slices):
    crossbar, stats = sj.program_bit_sliced(
        A, DEVICE, cell_bits=cell_bits, slices=slices, array=ARRAY, key=jr.key(0)
    )
    assert len(stats.slices) == crossbar.slices == slices
    base, levels = 2**cell_bits, 2 ** (cell_bits * slices) - 1
    scale = np.asarray(crossbar.scale).reshape(slices, 4, 5)
    held = np.asarray(crossbar.weights).reshape(slices, 4, 6, 5)
    # Half a pulse of 4096 on either cell is all the error of a digit.
    bound = 2 * 0.5 / 4096 * (1 + 1e-6)
    for t in range(4):
        first, last = int(crossbar.inputs[t]) * 6, int(crossbar.outputs[t]) * 5
        part = A[last : last + 5, first : first + 6].T
        inputs, outputs = part.shape
        largest = np.abs(part).max(0)
        whole = np.round(np.abs(part) / largest * levels).astype(int)
        for place in range(slices):
            shift = base ** (slices - 1 - place)
            digit = np.sign(part) * (whole // shift % base) / (base - 1)
            assert np.abs(held[place, t, :inputs, :outputs] - digit).max() <= bound
            np.testing.assert_allclose(
                scale[place, t, :outputs],
                largest * shift * (base - 1) / levels,
                rtol=1e-13,
            )
    x = random((3, N), 3)
    stored = np.asarray(sj.stored_matrix(crossbar))
    np.testing.assert_allclose(
        sj.matvec(crossbar, x, key=jr.key(1)), x @ stored.T, atol=1e-12
    )
    # Rounding to half a step, and the digits' errors, weighed by place.
    worst = np.abs(A).max() * (0.5 / levels + bound)
    assert np.abs(stored - A).max() <= worst


def test_slices_have_ranges_of_their_own_and_pass_gradients():
    x = random((1, N), 3)
    build = lambda A: sj.program_bit_sliced(
        A, DEVICE, cell_bits=2, slices=2, array=ARRAY, key=jr.key(0)
    )[0]
    crossbar = build(A)
    adc = sj.calibrated_adc(crossbar, x, bits=10, key=jr.key(0))
    assert adc.full_scale.shape == (8, 1, 5)
    y = sj.matvec(crossbar, x, key=jr.key(1))
    converted = sj.matvec(crossbar, x, adc=adc, key=jr.key(1))
    np.testing.assert_allclose(converted, y, atol=0.01 * np.abs(y).max())
    with pytest.raises(ValueError, match="1 to 23 bits"):
        sj.program_bit_sliced(A, DEVICE, cell_bits=8, slices=3, key=jr.key(0))
    slope = jax.grad(lambda A: sj.matvec(build(A), x[0], key=jr.key(1)).sum())
    np.testing.assert_allclose(slope(jnp.asarray(A)), np.tile(x, (M, 1)), rtol=1e-10)


def test_each_slice_has_faults_and_noise_of_its_own():
    device = sj.Device(1e-6, 1e-5, pulses_ltp=4096, pulses_ltd=4096, sigma_read=0.05)
    crossbar, _ = sj.program_bit_sliced(
        A, device, cell_bits=2, slices=2, array=ARRAY, key=jr.key(0)
    )
    faults = np.asarray(sj.fault_map(crossbar, 0.3, 0.3, key=jr.key(2)))
    first, second = faults.reshape(2, 4, 2, 6, 5)
    assert 0.3 < (first != second).mean() < 0.9
    count = 20_000
    x = np.broadcast_to(random(N, 2), (count, N))
    y = np.asarray(sj.matvec(crossbar, x, key=jr.key(0)))
    variance = np.zeros(M)
    for t in range(8):
        inputs, last = int(crossbar.inputs[t]) * 6, int(crossbar.outputs[t]) * 5
        outputs = min(5, M - last)
        part = x[0, inputs : inputs + 6]
        scale = np.asarray(crossbar.scale)[t, :outputs]
        variance[last : last + outputs] += 2 * 0.05**2 * (part**2).sum() * scale**2
    assert (np.abs(y.var(0) - variance) <= var_atol(1, count) * variance).all()


def test_wider_slices_add_up_to_the_rounded_input():
    x = random((4, N), 2)
    planes = np.asarray(sj.bit_planes(jnp.asarray(x), bits=6, slice_bits=2))
    whole = np.round(x / np.abs(x).max(1, keepdims=True) * 31)
    np.testing.assert_array_equal(np.tensordot(3 * 4.0 ** np.arange(3), planes, 1), whole)
    assert len(planes) == 3 and set(np.unique(np.abs(planes * 3))) <= {0, 1, 2, 3}
    drive, crossbar = np.abs(x).max(1, keepdims=True), program()
    rounded = whole / 31 * drive
    y = sj.bit_serial_matvec(crossbar, x, bits=6, slice_bits=2, key=jr.key(0))
    np.testing.assert_allclose(y, rounded @ A.T, atol=1e-12)


@pytest.mark.parametrize(("widths", "slice_bits"), [((1, 2), 2), ((3,), 1)])
def test_lossless_slices_are_integer_arithmetic(widths, slice_bits):
    rng = np.random.default_rng(5)
    whole, x = rng.integers(-7, 8, (M, N)), rng.integers(-31, 32, (6, N))
    # Cells land up to half a pulse of 128 beside their target.
    device = sj.Device(g_min=1e-6, g_max=1e-5, pulses_ltp=128, pulses_ltd=128)
    full = lambda tiles: jnp.full((len(tiles), tiles.shape[2]), 7.0, tiles.dtype)
    crossbar, _ = sj.program_bit_sliced(
        whole.astype(float),
        device,
        cell_bits=widths,
        array=ARRAY,
        scaling=full,
        key=jr.key(0),
    )
    adc = sj.lossless_adc(crossbar, cell_bits=widths, slice_bits=slice_bits)
    how = dict(bits=6, slice_bits=slice_bits, full_scale=31.0, key=jr.key(1))
    exact = x @ whole.T
    y = sj.bit_serial_matvec(crossbar, x.astype(float), adc=adc, **how)
    np.testing.assert_allclose(y, exact, rtol=0, atol=1e-9)
    analog = np.asarray(sj.bit_serial_matvec(crossbar, x.astype(float), **how))
    assert np.abs(analog - exact).max() > 0.01
    with pytest.raises(ValueError, match="1 to 23 bits"):
        sj.program_bit_sliced(A, device, cell_bits=(1, 30), key=jr.key(0))
