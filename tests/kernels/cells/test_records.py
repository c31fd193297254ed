"""Records that users build cannot be made wrong; traced ones are not looked at."""

import dataclasses
from decimal import Decimal

import equinox as eqx
import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

import sedma_jax as sj
from sedma_jax import kernels
from sedma_jax.costs import SURVEY

NAN, INF = float("nan"), float("inf")
EPIRAM, PCM = sj.devices.EPIRAM, sj.noise_models.PCM
# What no number is. 0-dimensional arrays are numbers of every kind.
NO_NUMBERS = ("1e-6", b"1", True, 1e-6 + 0j, [1e-6], (1e-6,), {}, float, np.bool_(True))


@pytest.fixture(autouse=True)
def errors_of_ours(monkeypatch):
    """Without the type checks of the test run, whose errors would arrive first."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


def refused(make, *parts):
    """One line, that names all parts."""
    with pytest.raises(ValueError) as caught:
        make()
    text = str(caught.value)
    assert "\n" not in text and text.startswith("`sedma_jax."), text
    assert " Got " in text and text.endswith((".", "?")), text
    for part in parts:
        assert part in text, text


def table():
    yield "ADC", sj.ADC(8, 1.0), {"bits": (1, 0, -3, 25, 7.5, "8", None, True, NAN)}
    wrong = (0.0, -1.0, NAN, INF, "1", np.array([1.0, NAN]), jnp.array([[-1.0]]))
    yield "ADC", sj.ADC(8, 1.0), {"full_scale": wrong}
    yield "DAC", sj.DAC(8), {"bits": (1, 0, -3, 25, 7.5, "8", None, True)}
    positive, size, finite = (0.0, -1.0, NAN, INF), (-1.0, NAN, INF), (NAN, INF)
    yield (
        "Device",
        EPIRAM,
        {
            "g_min": (*size, 2.0, EPIRAM.g_max, 1e-3, jnp.asarray(-1.0), np.float32(2)),
            "g_max": (*size, 50.0, EPIRAM.g_min, 0.0),
            "pulses_ltp": (*positive, 0.5),
            "pulses_ltd": (*positive, 0.5),
            "nonlinearity_ltp": (9.5, -9.5, NAN, INF),
            "nonlinearity_ltd": (0.5, 4.88, -9.5, NAN, INF),
            **dict.fromkeys(("sigma_c2c", "sigma_d2d", "sigma_read", "r_access"), size),
            **dict.fromkeys(("t_ltp", "t_ltd", "t_read"), size),
            **dict.fromkeys(("v_ltp", "v_ltd", "v_read"), finite),
        },
    )
    rule = sj.VerifyRule(0.1, 2.0, 0.7, -1.0, 5)
    yield (
        "VerifyRule",
        rule,
        {
            "band": size,
            "max_pulses": (0.5, NAN),
            "caution": (-1.0, NAN),
            "tolerance": (NAN,),
            "iterations": (0, 2.5, "5", None, 2**31),
        },
    )
    yield (
        "ArrayKind",
        sj.ArrayKind(8, 8, 2, EPIRAM),
        {
            "rows": (0, 8.0, True),
            "count": (0, None),
            "device": (PCM, "epiran", 8),
        },
    )
    yield "Pool", sj.Pool([sj.ArrayKind(8, 8)]), {"kinds": ((), 8, ["epiram"], None)}
    yield (
        "Programming",
        sj.Programming(),
        {
            "array": (0, (8,), (8, 0), "8", (8.0, 8), None, (2**16, 2**16)),
            "arrays": (0, 1.5, "all"),
            "mapping": ("offsets", None, 8),
            "scaling": ("column", 1.0),
            "scheme": ("write", None, sj.Scheme),
            "rule": (0.1, "stagnation", sj.stagnation),
        },
    )
    yield (
        "RememberedLambda",
        sj.RememberedLambda(),
        {
            "count": (-1.0, NAN, np.zeros(2)),
            "spread": (-1.0, INF),
            "mean": (NAN, INF),
        },
    )
    curve = kernels.PolynomialCurve((1e-6, 0.1), 1.0)
    yield (
        "PolynomialCurve",
        curve,
        {
            "reference": positive,
            "coefficients": ((NAN,), (), "1", ("1",), 1.0),
        },
    )
    yield (
        "LogarithmicCurve",
        PCM.drift.exponent_mean,
        {
            "slope": finite,
            "intercept": finite,
            "reference": positive,
            "lowest": (NAN,),
        },
    )
    yield (
        "PowerCurve",
        PCM.read.quality,
        {
            "amplitude": finite,
            "exponent": finite,
            "reference": positive,
            "highest": (NAN,),
        },
    )
    yield (
        "SaturatingCurve",
        kernels.SaturatingCurve(1.0, 1.0),
        {
            "amplitude": finite,
            "scale": positive,
        },
    )
    yield (
        "PiecewiseCurve",
        kernels.PiecewiseCurve(1.0, curve, curve),
        {
            "boundary": finite,
            "below": (None, 1.0),
        },
    )
    limits = {"g_min": (NAN, INF), "g_max": (NAN, -1.0), "distribution": (None, "normal")}
    yield "ProgrammingNoise", PCM.programming, {"deviation": (0.1, None), **limits}
    yield "StationaryReadNoise", sj.noise_models.sonos_read(0.2), limits
    flicker = {"t_read": positive, **limits}
    yield "RelativeFlickerNoise", PCM.read, {"t_0": size, "quality": (0.1,), **flicker}
    yield "AbsoluteFlickerNoise", sj.noise_models.CMO_HFOX_READ, flicker
    yield "PowerLawDrift", PCM.drift, {"t_0": positive, "exponent_mean": (0.05,)}
    yield (
        "LogarithmicDrift",
        sj.noise_models.CMO_HFOX_DRIFT,
        {
            "t_0": positive,
            "mean_slope": finite,
            "deviation": finite,
            "g_min": (NAN,),
        },
    )
    yield (
        "RetentionTable",
        sj.noise_models.sonos_retention(0.2),
        {
            "times": (np.arange(5.0), np.arange(6.0)[::-1], np.full(6, NAN), 1.0),
            "scales": (np.zeros(6), np.ones((6, 1))),
            "shifts": (np.ones(6), np.full((6, 2), INF)),
            "reference": positive,
        },
    )
    yield (
        "CubicCurrent",
        sj.noise_models.MILO_2021_CURRENT,
        {
            "quadratic": ((NAN,), (), 1.0),
            "g_0": positive,
            "g_ohmic": positive,
        },
    )
    yield (
        "MeasuredArray",
        PCM,
        {
            "device": (None, PCM, "pcm"),
            "programming": (None, PCM.read),
            "drift": (PCM.read,),
            "read": (PCM.drift,),
        },
    )
    for part, fields in {
        "adc": {"rate": positive, "e_step": size, "area": size},
        "dac": {"e_unit": size, "time": size},
        "driver": {"capacitance": size, "resistance": size},
        "geometry": {"pitch": positive, "r_cell": size},
        "digital": {"e_add": size, "area": size},
    }.items():
        record = getattr(SURVEY, part)
        yield type(record).__name__, record, fields
    yield "CostModel", SURVEY, {"adc": (None, 1.0, SURVEY.dac)}
    yield (
        "MvmWorkload",
        kernels.MvmWorkload(8, 8, 4, 4),
        {
            "outputs": (0, 2.5, None, "8"),
            "adc_bits": (0, NAN),
            "arrays": (0,),
        },
    )


CASES = [
    pytest.param(record, {field: value}, id=f"{name}-{field}-{i}")
    for name, record, fields in table()
    for field, values in fields.items()
    for i, value in enumerate(values)
]


@pytest.mark.parametrize("record, change", CASES)
def test_a_record_cannot_be_made_wrong(record, change):
    (field,) = change
    refused(lambda: dataclasses.replace(record, **change), type(record).__name__, field)


NUMBERS = [
    (name, record, field)
    for name, record, fields in table()
    for field, values in fields.items()
    if isinstance(values[0], float) and values[0] != "1"
]


@pytest.mark.parametrize("value", NO_NUMBERS, ids=repr)
def test_text_and_containers_are_no_numbers(value):
    for name, record, field in NUMBERS:
        if field == "full_scale" and isinstance(value, bool):
            continue
        refused(lambda r=record, f=field: dataclasses.replace(r, **{f: value}), name)


def test_numbers_of_all_kinds_make_one_device():
    want = dataclasses.replace(EPIRAM, sigma_c2c=0.25, pulses_ltp=64)
    for share in (np.float32(0.25), np.float64(0.25), Decimal("0.25")):
        for pulses in (64, np.int8(64), np.uint64(64)):
            got = dataclasses.replace(EPIRAM, sigma_c2c=share, pulses_ltp=pulses)
            figures = [v for v in vars(got).values() if v is not None]  # no curves
            assert got == want and all(type(v) is float for v in figures)
    assert sj.ADC(np.int64(8)) == sj.ADC(8) and hash(sj.DAC(np.uint8(4)).bits) == 4


def test_traced_records_and_placeholders_pass():
    values = jnp.linspace(0, 0.1, 3)
    make = lambda s: dataclasses.replace(EPIRAM, sigma_c2c=s, g_max=s - 1)
    np.testing.assert_array_equal(jax.jit(jax.vmap(make))(values).sigma_c2c, values)
    assert jax.grad(lambda s: make(s).sigma_c2c * 2)(-5.0) == 2
    scale = jax.jit(lambda f: sj.ADC(8, f).full_scale)(-1.0)
    assert scale == -1
    batch = dataclasses.replace(EPIRAM, sigma_c2c=values)
    assert jax.vmap(lambda d: d.sigma_c2c, in_axes=(sj.Device(*[None] * 16),)) is not None
    for record in (EPIRAM, PCM, sj.ADC(8, 1.0), SURVEY, sj.Pool([sj.ArrayKind(4, 4)])):
        jax.tree.map(lambda _: object(), record)
        jax.tree.map(lambda _: -1.0, record)
        jax.eval_shape(lambda r: r, jax.tree.map(jnp.asarray, record))
        eqx.partition(record, eqx.is_array)
    assert eqx.tree_at(lambda d: d.g_max, batch, -1.0).g_max == -1


def test_a_rule_says_which_argument_is_wrong():
    band = sj.acceptance_band
    refused(lambda: band(EPIRAM, half_width=NAN), "acceptance_band", "half_width")
    refused(lambda: band(EPIRAM, half_width=jnp.asarray(0.0)), "half_width")
    refused(lambda: band(EPIRAM, max_pulses=NAN), "acceptance_band", "max_pulses")
    refused(lambda: band(EPIRAM, caution=-1), "acceptance_band", "caution")
    refused(lambda: band(EPIRAM, iterations=2.5), "acceptance_band", "iterations")
    refused(lambda: band("epiram"), "acceptance_band", "Device")
    refused(lambda: sj.stagnation(precision=NAN), "stagnation", "precision")
    refused(lambda: sj.stagnation(iterations=0), "stagnation", "iterations")


def test_published_functions_refuse_sizes_that_are_none():
    models = sj.noise_models
    for make in (models.sonos_programming, models.sonos_read, models.sonos_retention):
        refused(lambda make=make: make(0.0), "v_read")
    refused(lambda: models.independent(-1e-6), "deviation")
    refused(lambda: models.proportional(NAN), "fraction")
    refused(lambda: models.inverse_proportional(0.1, 0.0), "g_max")
    refused(lambda: models.window(2, 50), "siemens", "1e-6")
