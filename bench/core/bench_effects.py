"""Time products of a 1024 x 1024 matrix on 256 x 256 tiles, with one effect at a time.

    pytest bench/core/bench_effects.py

The yardstick is the ideal `A @ x`, timed in the same run right after each case; ratios to
it are in `extra_info`. Effects that act once, on the cells, are timed on their own, since
the products of their crossbar are like those of any other.
"""

import dataclasses
import statistics
import time

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import sedma_jax as sj

SIZE, TILE = 1024, (256, 256)
BATCHES = (1, 32, 256)
FLOAT = np.dtype("float32")
PCM = sj.noise_models.PCM
MILO = sj.noise_models.MILO_2021
KEY = jr.key(0)


def _matrix():
    rng = np.random.default_rng(0)
    return jnp.asarray(rng.standard_normal((SIZE, SIZE)), FLOAT)


def _vectors(batch):
    rng = np.random.default_rng(1)
    return jnp.asarray(rng.standard_normal((batch, SIZE)), FLOAT)


A = _matrix()
DEVICE = sj.noise_models.window(1e-6, 2e-5, v_read=0.2)


def _program(device=DEVICE):
    return sj.program_exactly(A, device, array=TILE)


def _plain(crossbar, **how):
    return lambda x: sj.matvec(crossbar, x, key=KEY, **how)


def _calibrated():
    crossbar = _program()
    adc = sj.calibrated_adc(crossbar, _vectors(256), bits=8, key=KEY)
    return _plain(crossbar, dac=sj.DAC(8), adc=adc)


def _serial():
    crossbar = _program()
    planes = sj.bit_planes(_vectors(256), bits=8).reshape(-1, SIZE)
    adc = sj.calibrated_adc(crossbar, planes, bits=8, key=KEY)
    return lambda x: sj.bit_serial_matvec(crossbar, x, bits=8, adc=adc, key=KEY)


def _sliced():
    sliced, _ = sj.program_bit_sliced(A, DEVICE, cell_bits=4, slices=2, array=TILE, key=KEY)
    return _plain(sliced)


def _constant_noise():
    return _plain(_program(dataclasses.replace(DEVICE, sigma_read=0.01)))


def _lumped():
    return _plain(sj.with_read_noise(_program(PCM.device), PCM.read, 60.0))


def _per_cell():
    crossbar = _program(PCM.device)
    return lambda x: sj.per_cell_noisy_matvec(crossbar, x, PCM.read, 60.0, key=KEY)


def _nonlinear():
    crossbar = _program(dataclasses.replace(MILO.device, v_read=0.2))
    model = sj.noise_models.MILO_2021_CURRENT
    return _plain(sj.with_nonlinear_current(crossbar, model))


def _lines():
    return _plain(sj.with_approximate_line_resistance(_program(), 0.5, 0.5))


# How each product is read, and the largest relative error that it may have.
PRODUCTS = {
    "no effect": (lambda: _plain(_program()), 1e-5),
    "constant read noise": (_constant_noise, 0.2),
    "8-bit DAC and ADC": (_calibrated, 0.05),
    "8-bit ADC, automatic range": (lambda: _plain(_program(), adc=sj.ADC(8)), 0.05),
    "bit-serial, 8 bits, ADC": (_serial, 0.05),
    "two slices of 4 bits": (_sliced, 0.05),
    "read noise of the state": (_lumped, 0.3),
    "read noise, per cell": (_per_cell, 0.3),
    "nonlinear I-V": (_nonlinear, 0.2),
    "line resistance": (_lines, 0.5),
}


# At batch 256 this takes half a billion draws and shows nothing new: time grows with the
# batch.
_SLOW = "read noise, per cell"
CASES = [(e, b) for e in PRODUCTS for b in BATCHES if e != _SLOW or b < 256]


@pytest.mark.parametrize(("effect", "batch"), CASES)
def bench_product(benchmark, effect, batch):
    benchmark.group = f"batch {batch}"
    build, error = PRODUCTS[effect]
    product, x = build(), _vectors(batch)
    exact = np.asarray(x, np.float64) @ np.asarray(A, np.float64).T
    y = np.asarray(product(x))
    assert np.linalg.norm(y - exact) <= error * np.linalg.norm(exact)
    ideal = jax.jit(lambda x: jnp.matmul(x, A.T, precision=jax.lax.Precision.HIGHEST))
    _time(benchmark, product, x, rounds=3 if effect == _SLOW else 15)
    seconds = _median(ideal, x)
    benchmark.extra_info["ideal_seconds"] = seconds
    benchmark.extra_info["ratio"] = benchmark.stats.stats.median / seconds


ONCE = {
    "program exactly": lambda c: sj.program_exactly(A, DEVICE, array=TILE),
    "draw and inject faults": lambda c: sj.inject_faults(
        c, sj.fault_map(c, 0.01, 0.01, key=KEY)
    ),
    "perturb": lambda c: sj.perturb(c, PCM.programming, key=KEY),
    "age": lambda c: sj.age(c, PCM.drift, 3600.0, key=KEY),
    "compensate drift": lambda c: sj.compensate_drift(c, c, _vectors(8), key=KEY),
    "read noise of the state": lambda c: sj.with_read_noise(c, PCM.read, 3600.0),
    "nonlinear I-V": lambda c: sj.with_nonlinear_current(
        c, sj.noise_models.MILO_2021_CURRENT
    ),
    "approximate line resistance": lambda c: sj.with_approximate_line_resistance(
        c, 0.5, 0.5
    ),
}


@pytest.mark.benchmark(group="once per crossbar")
@pytest.mark.parametrize("effect", ONCE)
def bench_once(benchmark, effect):
    crossbar = _program()
    act = ONCE[effect]
    assert np.isfinite(act(crossbar).weights).all()
    # The whole record is awaited, since some effects leave the weights alone.
    _time(benchmark, act, crossbar, rounds=3)


@pytest.mark.benchmark(group="once per tile")
def bench_exact_line_resistance(benchmark):
    crossbar = sj.program_exactly(A[: TILE[1], : TILE[0]], DEVICE, array=TILE)
    act = lambda c: sj.with_line_resistance(c, 0.5, 0.5)
    close = sj.with_approximate_line_resistance(crossbar, 0.5, 0.5).weights
    error = np.linalg.norm(act(crossbar).weights - close)
    assert error < 0.2 * np.linalg.norm(crossbar.weights - close)
    _time(benchmark, act, crossbar, rounds=1)


def _median(function, x):
    jax.block_until_ready(function(x))
    times = []
    for _ in range(30):
        start = time.perf_counter()
        jax.block_until_ready(function(x))
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def _time(benchmark, function, argument, rounds):
    jax.block_until_ready(function(argument))
    benchmark.extra_info |= {
        "device": str(jax.devices()[0]),
        "jax": jax.__version__,
        "dtype": FLOAT.name,
        "shape": [SIZE, SIZE],
    }
    benchmark.pedantic(
        lambda: jax.block_until_ready(function(argument)), rounds=rounds, warmup_rounds=1
    )
