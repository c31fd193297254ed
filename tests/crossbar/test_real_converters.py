"""Crossbars read through converters with errors, against NumPy by hand."""

import dataclasses

import jax
import jax.numpy as jnp
import jax.random as jr
import jaxtyping
import numpy as np
import pytest
from tolerances import mean_atol, var_atol

import sedma_jax as sj

ARRAY, BITS, TOP = (6, 4), 6, 31
M, N = 7, 9
DEVICE = sj.Device(g_min=1e-6, g_max=1e-5, pulses_ltp=4096, pulses_ltd=4096)
NOISY = dataclasses.replace(DEVICE, sigma_read=0.02)
A = np.random.default_rng(0).normal(size=(M, N))
X = np.random.default_rng(1).normal(size=(6, N))


@pytest.fixture(scope="module")
def crossbar():
    return sj.program_exactly(A, DEVICE, array=ARRAY)


def converted_by_hand(crossbar, voltages, convert):
    """Products of all tiles, with `convert(currents, tile, outputs)` in between."""
    y = np.zeros((len(voltages), M))
    for t, weights in enumerate(np.asarray(crossbar.weights)):
        first, last = int(crossbar.inputs[t]) * 6, int(crossbar.outputs[t]) * 4
        part = voltages[:, first : first + 6]
        outputs = min(4, M - last)
        currents = part @ weights[: part.shape[1], :outputs]
        scale = np.asarray(crossbar.scale)[t, :outputs]
        y[:, last : last + outputs] += convert(currents, t, outputs) * scale
    return y


def greedy(value, weights):
    """Successive approximation as one does it on paper."""
    rest, code = abs(value) + 0.5, 0
    for place, weight in enumerate(weights):
        if rest >= weight:
            rest, code = rest - weight, code + 2 ** (len(weights) - 1 - place)
    return np.copysign(code, value)


@pytest.mark.parametrize("batch", [1, 6])
@pytest.mark.parametrize("kind", ["sar", "data sheet"])
def test_static_errors_are_of_each_converter(crossbar, kind, batch):
    spread = sj.SarADC(mismatch=0.05, offset=0.6)
    if kind == "data sheet":
        spread = sj.ConverterSpread(offset=0.6, gain=0.05, inl=0.8, dnl=0.2)
    adc = sj.draw_adc(sj.ADC(BITS, 3.0), crossbar, spread, key=jr.key(0))
    errors = jax.tree.map(np.asarray, adc.errors)

    def convert(currents, t, outputs):
        v = currents * TOP / 3.0
        if kind == "sar":
            v = v + errors.offset[t, :, :outputs]
            code = [
                [greedy(u, errors.search.weights[t, c]) for c, u in enumerate(row)]
                for row in v
            ]
            return np.array(code) * 3.0 / TOP
        gain, inl = errors.gain[t, :, :outputs], errors.inl[t, :, :outputs]
        u = (1 + gain) * v + errors.offset[t, :, :outputs] + inl * (1 - (v / TOP) ** 2)
        table = errors.search.transitions[t]
        code = [[(table[c] < w).sum() - TOP for c, w in enumerate(row)] for row in u]
        return np.array(code) * 3.0 / TOP

    drive = np.abs(X[:batch]).max(1, keepdims=True)
    expected = converted_by_hand(crossbar, X[:batch] / drive, convert) * drive
    for seed in (1, 2):
        y = sj.matvec(crossbar, X[:batch], adc=adc, key=jr.key(seed))
        np.testing.assert_allclose(y, expected, atol=1e-12)
    other = sj.draw_adc(sj.ADC(BITS, 3.0), crossbar, spread, key=jr.key(9))
    assert np.std(sj.matvec(crossbar, X[:batch], adc=other, key=jr.key(1)) - expected) > 0


def test_word_lines_have_converters_of_their_own(crossbar):
    spread = sj.ConverterSpread(offset=0.4, gain=0.02, inl=0.5, dnl=0.1)
    dac = sj.draw_dac(sj.DAC(BITS, 2.0), crossbar, spread, key=jr.key(0))
    e = jax.tree.map(np.asarray, dac.errors)
    code = np.round(np.clip(X / 2.0, -1, 1) * TOP)
    bent = e.inl * (1 - (code / TOP) ** 2)
    added = e.levels[np.arange(N), (code + TOP).astype(int)]
    level = (code * (1 + e.gain) + e.offset + bent + added) / TOP
    y = sj.matvec(crossbar, X, dac=dac, key=jr.key(1))
    np.testing.assert_allclose(y, 2.0 * level @ A.T, atol=1e-12)
    small = sj.program_exactly(A[:, :5], DEVICE, array=ARRAY)
    with pytest.raises(ValueError, match="one converter for each of 5 inputs"):
        sj.matvec(small, X[:, :5], dac=dac, key=jr.key(1))


def test_conversions_have_noise_of_their_own(crossbar):
    count, noise = 20_000, 2.0
    adc = sj.ADC(BITS, 3.0, sj.ConverterErrors(noise=noise))
    x = np.broadcast_to(X[0], (count, N))
    y = np.asarray(sj.matvec(crossbar, x, adc=adc, key=jr.key(3)))
    # Rounding of what noise spreads over steps adds a twelfth of a step (Sheppard).
    scales = np.zeros(M)
    for t, scale in enumerate(np.asarray(crossbar.scale)):
        last = int(crossbar.outputs[t]) * 4
        outputs = min(4, M - last)
        scales[last : last + outputs] += scale[:outputs] ** 2
    drive = np.abs(X[0]).max()
    variance = (noise**2 + 1 / 12) * (3.0 / TOP) ** 2 * scales * drive**2
    assert (np.abs(y.mean(0) - A @ X[0]) <= mean_atol(1, count) * variance**0.5).all()
    assert (np.abs(y.var(0) / variance - 1) <= var_atol(1, count)).all()


def test_a_vector_reads_alike_alone_and_in_a_batch():
    crossbar = sj.program_exactly(A, NOISY, array=ARRAY)
    large = np.concatenate([X[:1], 50 * X[1:], np.eye(N)])
    held = sj.program_exactly(A, DEVICE, array=ARRAY)
    for one in (crossbar, held):
        read = lambda x, one=one: sj.matvec(one, x, adc=sj.ADC(6), key=jr.key(0))
        np.testing.assert_allclose(read(large)[0], read(X[0]), rtol=1e-12)
    serial = lambda x: sj.bit_serial_matvec(
        dataclasses.replace(crossbar, device=DEVICE),
        x,
        bits=5,
        adc=sj.ADC(6),
        key=jr.key(0),
    )
    np.testing.assert_allclose(serial(large)[0], serial(X[0]), rtol=1e-12)


def test_ranges_learn_as_lsq_has_it(crossbar):
    x = X[:2]
    drive = np.abs(x).max(1, keepdims=True)

    def loss(full_scale, learned):
        adc = sj.ADC(BITS, full_scale, learned=learned)
        return jnp.sum(sj.matvec(crossbar, x, adc=adc, key=jr.key(0)))

    def slope(currents, t, outputs):
        v = currents * TOP / 0.4
        inside = np.abs(v) <= TOP
        assert 0 < inside.mean() < 1
        return np.where(inside, np.round(v) - v, TOP * np.sign(v)) / TOP

    expected = (converted_by_hand(crossbar, x / drive, slope) * drive).sum()
    np.testing.assert_allclose(jax.grad(loss)(0.4, True), expected, rtol=1e-9)
    assert loss(0.4, True) == loss(0.4, False)
    # Inputs: outside the range, an output grows with the range (PACT).
    read = lambda top: sj.matvec(
        crossbar, np.full(N, 3.0), dac=sj.DAC(8, top, learned=True), key=jr.key(0)
    )
    np.testing.assert_allclose(jax.jacobian(read)(1.0), A.sum(1), rtol=1e-9)


def test_ranges_follow_data(crossbar):
    adc = sj.calibrated_adc(crossbar, X, bits=6, key=jr.key(0))
    later = sj.calibrated_adc(crossbar, X[:1], bits=6, key=jr.key(0))
    mean = sj.averaged_range(adc, later, momentum=0.75)
    expected = 0.75 * np.asarray(adc.full_scale) + 0.25 * np.asarray(later.full_scale)
    np.testing.assert_allclose(mean.full_scale, expected, rtol=1e-12)
    dac = sj.calibrated_dac(X, bits=6, percentile=90.0)
    np.testing.assert_allclose(dac.full_scale, np.percentile(np.abs(X), 90), rtol=1e-12)
    for call in (
        lambda: sj.averaged_range(adc, dac),
        lambda: sj.averaged_range(sj.ADC(6), adc),
        lambda: sj.averaged_range(adc, later, momentum=1.5),
        lambda: sj.calibrated_dac(0 * X, bits=6),
    ):
        with pytest.raises(ValueError, match="needs"):
            call()


def test_sweeps_and_transforms_reach_the_errors(crossbar):
    def read(bits, offset):
        adc = sj.ADC(bits, 3.0, sj.ConverterErrors(offset=offset))
        return sj.matvec(crossbar, X[0], adc=adc, key=jr.key(0))

    bits, offset = jnp.array([4, 8]), jnp.array([1.0, 2.0])
    both = jax.jit(jax.vmap(read))(bits, offset)
    for y, b, o in zip(both, (4, 8), (1.0, 2.0), strict=True):
        np.testing.assert_allclose(y, read(b, o), atol=1e-12)


WRONG = [
    (lambda c: sj.ConverterErrors(offset=np.nan), "offset"),
    (lambda c: sj.ConverterErrors(noise=-1.0), "noise"),
    (lambda c: sj.ConverterSpread(dnl=-0.1), "dnl"),
    (lambda c: sj.ConverterSpread(columns_per_adc=0), "columns_per_adc"),
    (lambda c: sj.SarADC(mismatch=-0.1), "mismatch"),
    (lambda c: sj.RampADC(slope=np.inf), "slope"),
    (lambda c: sj.PipelineADC(amplifier=0.0), "amplifier"),
    (lambda c: sj.DAC(8, np.ones(3)), "full_scale"),
    (lambda c: sj.DAC(8, -1.0), "full_scale"),
    (lambda c: sj.ADC(8, 1.0, 0.5), "errors"),
    (lambda c: sj.ADC(8, 1.0, sj.ConverterErrors(levels=np.ones((2, 3)))), "levels"),
    (lambda c: sj.draw_adc(sj.DAC(8), c, sj.SarADC(), key=jr.key(0)), "adc"),
    (lambda c: sj.draw_adc(sj.ADC(8), c, 0.1, key=jr.key(0)), "spread"),
    (lambda c: sj.draw_adc(sj.ADC(20), c, sj.RampADC(), key=jr.key(0)), "16 bits"),
    (lambda c: sj.draw_dac(sj.DAC(8), c, sj.SarADC(), key=jr.key(0)), "spread"),
    (
        lambda c: dataclasses.replace(
            sj.draw_adc(sj.ADC(8), c, sj.SarADC(), key=jr.key(0)), bits=7
        ),
        "own resolution",
    ),
    (lambda c: sj.lossless_adc(c, cell_bits=23), "24 bits"),
    (lambda c: sj.lossless_adc(c, cell_bits=(1, 2)), "width for each"),
    (lambda c: sj.bit_serial_matvec(c, X, bits=8, slice_bits=0, key=jr.key(0)), "slice"),
    (lambda c: sj.bit_planes(X, bits=8, full_scale=np.ones(2)), "one `full_scale`"),
    (lambda c: sj.ADC(8, 1.0, learned=1), "learned"),
]


@pytest.mark.parametrize(("make", "part"), WRONG)
def test_nonsense_is_refused_in_one_line(crossbar, make, part, monkeypatch):
    # Without the type checks of the test run, whose errors would arrive first.
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(ValueError, match=part) as caught:
        make(crossbar)
    assert "\n" not in str(caught.value) and str(caught.value).startswith("`sedma_jax.")


def test_reads_of_each_cell_go_through_the_same_converters(crossbar):
    still = sj.kernels.StationaryReadNoise(sj.noise_models.independent(0.0))
    spread = sj.PipelineADC(mismatch=0.01, comparator=0.1, amplifier=200.0)
    for full_scale in (3.0, None):
        adc = sj.draw_adc(sj.ADC(BITS, full_scale), crossbar, spread, key=jr.key(0))
        y = sj.matvec(crossbar, X, adc=adc, key=jr.key(1))
        one_by_one = sj.per_cell_noisy_matvec(crossbar, X, still, adc=adc, key=jr.key(1))
        np.testing.assert_allclose(y, one_by_one, atol=1e-12)
    ideal = sj.matvec(crossbar, X, adc=sj.ADC(BITS), key=jr.key(1))
    assert np.abs(y - ideal).max() > 1e-3
