"""Objects of a wrong kind get one line at every public call; what is plainly meant works.

Each call is made with all arguments right but one. None of the refused ones compiles.
"""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jaxtyping
import numpy as np
import optax
import pytest

import sedma_jax as sj
from sedma_jax import linalg, nn

NAN, INF = float("nan"), float("inf")
EPIRAM, PCM, KEY = sj.devices.EPIRAM, sj.noise_models.PCM, jr.key(0)
A = np.random.default_rng(0).normal(size=(5, 6))
X = np.random.default_rng(1).normal(size=6)
CROSSBAR = sj.program_exactly(A, PCM.device, array=8)
BOTH = (CROSSBAR, None)  # as `program` returns it
POOL = sj.Pool([sj.ArrayKind(8, 8, 2, EPIRAM)])
LINEAR = eqx.nn.Linear(6, 5, key=KEY)
TABLE = sj.noise_models.sonos_retention(0.2)
CUBIC = sj.noise_models.MILO_2021_CURRENT

DEVICES = {"device": ("epiran", PCM, 8, None, sj.Device, 1e-6)}
CROSSBARS = {"crossbar": (BOTH, A, None, "crossbar")}
CONVERTERS = {"adc": (8, sj.DAC(8), "8", sj.ADC), "dac": (8, sj.ADC(8), True)}
OPTIONS = {
    "array": ("128", (8,), 0, 7.5),
    "arrays": (0, 1.5),
    "scheme": ("write_and_verified", 3),
    "mapping": ("pair", 2),
    "scaling": ("largest", 1.0),
    "rule": (0.01, sj.stagnation),
    "programming": (128, "open_loop", sj.Programming),
}
TIMES = (-1.0, -25, NAN, INF, "1 h", None, np.float32(-1), jnp.asarray(NAN))
OHMS = (-1.0, NAN, INF, "2", None)

with_options = lambda call, **own: (call, dict(A=A, device=EPIRAM, key=KEY) | own)
aware = lambda **own: (nn.hardware_aware, dict(model=LINEAR, device=EPIRAM) | own)
solve = dict(A=np.eye(4), b=np.ones(4), device=EPIRAM, rtol=1e-4, key=KEY)

# What is called, its right arguments, and wrong values of some.
CALLS = [
    (*with_options(sj.program), DEVICES | OPTIONS | {"progress": (True, 1)}),
    (*with_options(sj.program_residual, slices=2), DEVICES | OPTIONS | {
        "slices": (0, 1.5, None), "reads": (0, 0.5)}),
    (*with_options(sj.program_bit_sliced, cell_bits=2, slices=2), DEVICES | OPTIONS | {
        "cell_bits": (0, 2.5, "2"), "slices": (0, None, 12)}),
    (sj.program_exactly, dict(A=A, device=EPIRAM), DEVICES | {
        k: OPTIONS[k] for k in ("array", "mapping", "scaling")}),
    (*with_options(sj.program_sharded, mesh=None), {"device": (8, PCM), "mesh": (2, None)}),
    (*with_options(sj.program_pool, plan=POOL), {
        "device": (8, PCM, "epiran"), "plan": (8, "pool", None, [8]),
        "scheme": OPTIONS["scheme"], "rule": OPTIONS["rule"]}),
    (sj.plan_partitions, dict(shape=(5, 6), pool=POOL), {
        "pool": (8, None, (8, 8)), "shape": (5, (5,), (0, 6), (5, 6.0)),
        "device": (8, PCM), "lam_mem": (0.0, NAN, INF, "1"),
        "slowdown": ((1.0, 2.0), (NAN,), (0.0,))}),
    (sj.matvec, dict(crossbar=CROSSBAR, x=X, key=KEY), CROSSBARS | CONVERTERS),
    (sj.stored_matrix, dict(crossbar=CROSSBAR), CROSSBARS),
    (sj.matvec_sharded, dict(crossbar=CROSSBAR, x=X, key=KEY), CROSSBARS | CONVERTERS),
    (sj.bit_serial_matvec, dict(crossbar=CROSSBAR, x=X, bits=4, key=KEY),
     CROSSBARS | {"adc": (8,), "bits": (1, 4.0, None)}),
    (sj.bit_planes, dict(x=X[None], bits=4), {
        "bits": (1, 4.5), "x": (X, X[None] + 1j, X[None] * NAN)}),
    (sj.calibrated_adc, dict(crossbar=CROSSBAR, x=X, bits=6, key=KEY), CROSSBARS | {
        "bits": (1, 40, None), "percentile": (-1, 101, NAN, "99"), "dac": (8,)}),
    (sj.clip_rate, dict(crossbar=CROSSBAR, x=X, adc=sj.ADC(6, 1.0), key=KEY), CROSSBARS | {
        "adc": (8, None), "dac": (8,)}),
    (sj.age, dict(crossbar=CROSSBAR, model=PCM.drift, time=1.0, key=KEY), CROSSBARS | {
        "model": (PCM, PCM.read, None, "pcm"), "time": TIMES, "target": (BOTH, A)}),
    (sj.retain, dict(crossbar=CROSSBAR, table=TABLE, time=1.0, key=KEY), CROSSBARS | {
        "table": (PCM, None), "time": TIMES}),
    (sj.perturb, dict(crossbar=CROSSBAR, noise=PCM.programming, key=KEY), CROSSBARS | {
        "noise": (PCM, PCM.read, 0.1)}),
    (sj.with_read_noise, dict(crossbar=CROSSBAR, model=PCM.read), CROSSBARS | {
        "model": (PCM, PCM.programming, 0.1), "time": TIMES, "programmed": (BOTH,)}),
    (sj.per_cell_noisy_matvec, dict(crossbar=CROSSBAR, x=X, model=PCM.read, key=KEY),
     CROSSBARS | CONVERTERS | {"model": (PCM,), "time": TIMES, "programmed": (BOTH,)}),
    (sj.with_nonlinear_current, dict(crossbar=CROSSBAR, model=CUBIC), CROSSBARS | {
        "model": (PCM, 0.1)}),
    (sj.fault_map, dict(crossbar=CROSSBAR, p_on=0.1, p_off=0.1, key=KEY), CROSSBARS | {
        "p_on": (-0.1, 1.1, NAN, "1 %", None), "p_off": (5, INF)}),
    (sj.inject_faults, dict(crossbar=CROSSBAR, faults=0), CROSSBARS | {
        "faults": (0, CROSSBAR.conductance, jnp.full_like(CROSSBAR.conductance, 2))}),
    (sj.with_conductance, dict(crossbar=CROSSBAR, conductance=CROSSBAR.conductance),
     CROSSBARS | {"conductance": (
         1e-6, *(jnp.full_like(CROSSBAR.conductance, v) for v in (NAN, -1e-6, 20.0)))}),
    (sj.with_line_resistance, dict(crossbar=CROSSBAR, r_word=1.0, r_bit=1.0),
     CROSSBARS | {"r_word": OHMS, "r_bit": OHMS}),
    (sj.with_approximate_line_resistance, dict(crossbar=CROSSBAR, r_word=1.0, r_bit=1.0),
     CROSSBARS | {"r_word": OHMS, "r_bit": OHMS}),
    (sj.compensate_drift, dict(crossbar=CROSSBAR, reference=CROSSBAR, inputs=X, key=KEY),
     CROSSBARS | {"reference": (BOTH, None), "ratio": (1.0, None)}),
    (*with_options(sj.corrected_matvec, x=X), DEVICES | OPTIONS | CONVERTERS | {
        "lam": (-1.0, NAN, INF, "1", None, np.ones(2)),
        "programmed": (CROSSBAR, BOTH[::-1])}),
    (*with_options(sj.stream_matvec, x=X), DEVICES | OPTIONS | CONVERTERS | {
        "chunk_tiles": (0, 1.5, None)}),
    (*with_options(sj.stream_corrected_matvec, x=X), DEVICES | CONVERTERS | {
        "lam": (-1.0, NAN, None), "chunk_tiles": (0,)}),
    (sj.denoise, dict(p=X, lam=0.1), {"lam": (-1.0, NAN, INF, "1", None, X)}),
    (nn.program_matrix, dict(weight=A, device=EPIRAM, key=KEY), CONVERTERS | {
        "device": ("epiran", 8, None), "encoding": ("open", 1), "groups": (0, 1.5, 2),
        "lam": (NAN,), "array": (0,), "plan": (8,)}),
    (nn.analogize, dict(model=LINEAR, device=EPIRAM, key=KEY), CONVERTERS | {
        "device": ("epiran", 8, None)}),
    (*aware(), {"device": ("epiran", 8, None)} | CONVERTERS | {
        "clip": (0, NAN, "2"), "effects": (2.0,), "drift": (0.1,), "seconds": (-1.0, NAN),
        "compensation_reads": (-1, 1.5),
        **{k: OPTIONS[k] for k in ("array", "scheme", "rule", "scaling")}}),
    (nn.pulsed_updates, dict(device=EPIRAM, w_max=1.0, key=KEY), DEVICES | {
        "w_max": (0.0, NAN, INF, "1", None), "max_pulses": (0, NAN)}),
    (nn.tiki_taka, dict(device=EPIRAM, w_max=1.0, transfer_every=2, transfer_rate=0.1,
                        key=KEY),
     DEVICES | {"w_max": (NAN,), "transfer_every": (0, 2.5, None),
                "transfer_rate": (0.0, NAN, None), "fast_w_max": (0.0, NAN)}),
    (nn.agad, dict(device=EPIRAM, w_max=1.0, transfer_every=2, transfer_rate=0.1, key=KEY),
     {"device": ("epiran",), "chop_every": (0, 2.5, None), "memory": (0.0, 1.5)}),
    (nn.mixed_precision, dict(device=EPIRAM, w_max=1.0, key=KEY), {
        "w_max": (NAN,), "granularity": (0.0, NAN)}),
    (linalg.solve, solve, DEVICES | {
        "array": (0,), "slices": (0, (2, 1), 1.5, None), "rtol": (NAN, 0.0, "1"),
        "method": ("gmres", None)}),
    (linalg.CrossbarLinearOperator, dict(crossbar=CROSSBAR, key=KEY),
     CROSSBARS | CONVERTERS),
    (linalg.equilibrate, dict(A=A), {"rounds": (0, 1.5, None)}),
    (sj.meliso_compat.corrected, dict(A=A, x=X, device=EPIRAM, iterations=1, key=KEY),
     DEVICES | {"iterations": (0, 1.5, None), "A": (np.ones((5, 6)),), "x": (X[:5],)}),
    (sj.meliso_compat.uncorrected, dict(A=A, x=X, device=EPIRAM, iterations=1, key=KEY),
     DEVICES | {"iterations": (0,)}),
]  # fmt: skip
CASES = [
    pytest.param(call, right | {name: value}, name, id=f"{call.__name__}-{name}-{i}")
    for call, right, wrong in CALLS
    for name, values in wrong.items()
    for i, value in enumerate(values)
]


@pytest.fixture(autouse=True)
def errors_of_ours(monkeypatch):
    """Without the type checks of the test run, whose errors would arrive first."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.mark.parametrize("call, arguments, name", CASES)
def test_a_wrong_argument_gets_one_line(call, arguments, name):
    with pytest.raises(ValueError) as caught:
        call(**arguments)
    text = str(caught.value)
    assert "\n" not in text and name.lower() in text.lower() and " Got " in text, text
    # What is wanted, what came, what to do.
    assert text.count(". ") >= 2 and text[-1] in ".?", text


def test_what_is_plainly_meant_is_taken():
    how = sj.Programming(
        array=8, scheme="Open-Loop", mapping="offset", scaling="tile_scale"
    )
    plain = sj.Programming((8, 8), None, sj.offset, sj.tile_scale, sj.open_loop)
    assert how == plain and hash(how.array) == hash(plain.array)
    assert sj.Programming(array=[np.int64(8), 4]).array == (8, 4)
    named, _ = sj.program(A, "epiram", how, key=KEY)
    given, _ = sj.program(A, EPIRAM, plain, key=KEY)
    assert eqx.tree_equal(named, given)
    assert sj.ArrayKind(8, 8, 2, "EpiRAM") == sj.ArrayKind(8, 8, 2, EPIRAM)
    assert sj.Pool(sj.ArrayKind(8, 8)).kinds == (sj.ArrayKind(8, 8),)
    assert nn.hardware_aware(LINEAR, "epiram", array=8).hardware.array == (8, 8)


def test_records_of_drawn_devices_pass_through_vmap():
    sigmas = jnp.asarray([0.01, 0.02])

    def held(sigma):
        device = dataclasses.replace(EPIRAM, sigma_c2c=sigma)
        crossbar, _ = sj.program(A, device, array=8, scheme="open_loop", key=KEY)
        return sj.stored_matrix(sj.age(crossbar, PCM.drift, sigma, key=KEY))

    both = jax.vmap(held)(sigmas)
    np.testing.assert_allclose(both[1], held(sigmas[1]), rtol=1e-6)


def test_complex_inputs_of_layers_are_refused():
    z = jnp.asarray(X + 1j * X)
    analog = nn.analogize(LINEAR, PCM.device, array=8, scheme="open_loop", key=KEY)
    aware = nn.hardware_aware(LINEAR, EPIRAM, array=8)
    conv = eqx.nn.Conv1d(1, 1, 3, key=KEY)
    conv = nn.analogize(conv, PCM.device, array=8, scheme="open_loop", key=KEY)
    operator = linalg.CrossbarLinearOperator(CROSSBAR)
    for product in (
        analog,
        lambda z: analog(jnp.stack([z, z])),
        lambda z: nn.multiply(analog.matrix, z[None], key=KEY),
        lambda z: conv(z[None]),
        lambda z: aware(z, key=KEY),
        operator.mv,
        jax.jit(lambda z: operator.mv(z)),
        lambda z: sj.matvec(CROSSBAR, z, key=KEY),
    ):
        with pytest.raises(ValueError, match=r"needs real .* Got dtype complex128\."):
            product(z)
    optimiser = optax.chain(optax.sgd(0.1), nn.pulsed_updates(EPIRAM, w_max=1.0, key=KEY))
    with pytest.raises(ValueError, match="needs real parameters"):
        optimiser.update(z, optimiser.init(X), z)


def test_ageing_of_networks_and_figures_of_banks():
    analog = nn.analogize(LINEAR, PCM.device, array=8, scheme="open_loop", key=KEY)
    for seconds in (-1.0, NAN, INF, "1 h", None):
        with pytest.raises(ValueError, match=r"nn\.age` needs `seconds`"):
            nn.age(analog, seconds, drift=PCM.drift, key=KEY)
    for reads in (-1, 1.5, None):
        with pytest.raises(ValueError, match="compensation_reads"):
            nn.age(analog, 1.0, drift=PCM.drift, compensation_reads=reads, key=KEY)
    for share in (-1.0, NAN, 2.0):
        with pytest.raises(ValueError, match="mean_square"):
            nn.inspect(analog, mean_square=share)
    pooled, _ = sj.program_pool(A, POOL, scheme="open_loop", key=KEY)
    with pytest.raises(ValueError, match="for the `crossbar` of each of its `banks`"):
        sj.age(pooled, PCM.drift, 1.0, key=KEY)
