"""Figures of the layers of a network."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import sedma_jax as sj
from sedma_jax.nn import analogize, inspect

EPIRAM, TAOX = sj.devices.EPIRAM, sj.devices.TAOX_HFOX
MODEL = {
    "one": eqx.nn.Linear(5, 3, key=jr.key(0)),
    "two": eqx.nn.Linear(9, 10, key=jr.key(1)),
}
FAST = dict(scheme=sj.sampled_rewrite, array=(8, 4), key=jr.key(2))


def test_figures_are_those_of_the_arrays():
    devices = {"": EPIRAM, "['two']": TAOX}
    analog = analogize(MODEL, devices, **FAST)
    one, two = figures = inspect(analog)
    assert [f.path for f in figures] == ["['one']", "['two']"]
    assert [f.device for f in figures] == ["epiram", "taox-hfox"]
    assert [f.shape for f in figures] == [(3, 5), (10, 9)]
    assert [f.tiles for f in figures] == [1, 6] and one.arrays == two.arrays == ((8, 4),)
    for name, figure in zip(MODEL, figures, strict=True):
        exact = np.asarray(MODEL[name].weight)
        held = np.asarray(sj.nn.digitize(analog)[name].weight)
        error = np.linalg.norm(held - exact) / np.linalg.norm(exact)
        np.testing.assert_allclose(figure.error, error, rtol=1e-9)
        matrix, device = analog[name].matrix, devices.get(f"['{name}']", EPIRAM)
        per_array = matrix.stats.per_array
        assert figure.pulses == float(np.sum(per_array.pulses)) > 0
        assert figure.write_energy > float(np.sum(per_array.write_energy)) > 0
        g = np.asarray(matrix.crossbar.conductance)
        volts = np.zeros(g.shape)
        for tile, block in enumerate(matrix.crossbar.inputs):
            volts[tile, :, : len(exact[0]) - 8 * int(block)] = device.v_read
        current = volts / (1 / g + device.r_access)
        heat = np.sum(volts * current) / 3 * device.t_read
        np.testing.assert_allclose(figure.read_energy, heat, rtol=1e-9)
    twice = inspect(analog, mean_square=2 / 3)
    np.testing.assert_allclose(twice[0].read_energy, 2 * one.read_energy)
    assert one._asdict()["error"] == one.error


def test_converters_are_costed():
    converters = dict(dac=sj.DAC(4), adc=sj.ADC(6))
    analog = analogize(MODEL, EPIRAM, **converters, **FAST)
    costs = jax.tree.map(lambda constant: 0.0, sj.costs.SURVEY)
    costs = dataclasses.replace(
        costs, adc=dataclasses.replace(costs.adc, e_step=1e-12, rate=1.0)
    )
    for heat, all_ in zip(inspect(analog), inspect(analog, costs=costs), strict=True):
        # Four bit lines of each tile, converted once.
        added = all_.tiles * 4 * 2**6 * 1e-12
        np.testing.assert_allclose(all_.read_energy, heat.read_energy + added)
    with pytest.raises(ValueError, match=r"`dac` and `adc`.*\['one'\]"):
        inspect(analogize(MODEL, EPIRAM, **FAST), costs=costs)


def test_errors_as_they_are_now():
    analog = analogize(MODEL, sj.noise_models.PCM, array=(8, 4), key=jr.key(0))
    old = sj.nn.age(analog, 3.15e7, key=jr.key(1))
    fresh, recorded, now = (
        np.array([f.error for f in figures])
        for figures in (inspect(analog), inspect(old), inspect(old, MODEL))
    )
    np.testing.assert_array_equal(recorded, fresh)
    assert np.all(now > fresh + 0.2)
    # Nobody published pulses, volts and times of these.
    assert inspect(analog)[0][-4:] == (None,) * 4
    with pytest.raises(ValueError, match="no such layer"):
        inspect(analog, MODEL["one"])
    with pytest.raises(ValueError, match=r"shape \(10, 9\)"):
        inspect(analog, {"one": MODEL["two"], "two": MODEL["two"]})
    with pytest.raises(ValueError, match="Got none"):
        inspect(MODEL)


def test_digital_layers_are_listed_in_their_order():
    model = {
        "a_table": eqx.nn.Embedding(7, 5, key=jr.key(0)),
        "b_one": MODEL["one"],
        "c_norm": eqx.nn.LayerNorm(3),
        "d_cell": eqx.nn.GRUCell(3, 2, key=jr.key(1)),
    }
    options = FAST | dict(adc=sj.ADC(6), input_bits=5)
    analog = analogize(model, EPIRAM, where=lambda path, _: "one" in path, **options)
    processor = sj.kernels.ProcessorCost(2e-12, 1e-12, rate=1e9, a_weight=1e-12)
    costs = dict(costs=sj.costs.SURVEY, processor=processor)
    figures = {figure.path: figure for figure in inspect(analog, model, **costs)}
    cell = "['d_cell'].weight_ih", "['d_cell'].weight_hh"
    assert list(figures) == ["['a_table']", "['b_one']", "['c_norm']", *cell]
    table, one, norm, first, second = figures.values()
    assert {f.device for f in (table, norm, first)} == {"digital"} != {one.device}
    assert (table.shape, norm.shape, second.shape) == ((7, 5), (3, 1), (6, 2))
    # A lookup fetches a row; all else fetches and multiplies every weight once.
    got = [(f.read_energy, f.latency, f.area) for f in (table, norm, first)]
    expected = [(5e-12, 5e-9, 35e-12), (9e-12, 3e-9, 3e-12), (54e-12, 18e-9, 18e-12)]
    np.testing.assert_allclose(got, expected, rtol=1e-12)
    cost = sj.costs.of(analog["b_one"].matrix.crossbar, adc=sj.ADC(6), input_bits=5)
    np.testing.assert_allclose(one.read_energy, cost.joules)
    np.testing.assert_allclose(
        [one.latency, 1e6 * one.area], [cost.seconds, cost.square_millimetres]
    )
    assert str(inspect(analog)).count("digital") == 4


def test_table_and_names():
    attention = eqx.nn.MultiheadAttention(2, 4, key=jr.key(0))
    devices = {
        "": dataclasses.replace(EPIRAM, sigma_read=0.1),
        "attend": TAOX,
        "attend.key_proj": sj.noise_models.CMO_HFOX,
    }
    model = {"attend": attention, "last": MODEL["one"]}
    paths = {f"['attend'].{name}_proj" for name in ("query", "key", "value", "output")}
    devices = {place.replace("attend", "['attend']"): d for place, d in devices.items()}
    # Of statistics, a scheme has no say.
    own = lambda path, layer: {} if "key" in path else dict(scheme=sj.sampled_rewrite)
    program = eqx.filter_jit(lambda: analogize(
        model, devices, layer_options=own, array=(8, 4), key=jr.key(2)))  # fmt: skip
    analog = program()
    figures = inspect(analog)
    names = {f.path: f.device for f in figures}
    assert set(names) == {*paths, "['last']"}
    assert names["['last']"] == "custom"
    assert names.pop("['attend'].key_proj") == "cmo-hfox"
    assert names.pop("['attend'].query_proj") == "taox-hfox"
    heading, _, *rows = str(figures).splitlines()
    assert heading.split()[:4] == ["layer", "kind", "device", "shape"]
    assert len({len(row.rstrip()) // 200 for row in rows}) == 1 and len(rows) == 5
    for row, figure in zip(rows, figures, strict=True):
        cells = row.split()
        assert cells[:3] == [figure.path, "AnalogLinear", figure.device]
        read = "-" if figure.read_energy is None else f"{figure.read_energy:.3g}"
        assert cells[-3] == read
        assert f"{figure.error:.2%}" in cells
    single = inspect(analogize(MODEL["one"], EPIRAM, **FAST))
    assert "(model)" in str(single) and jnp.isfinite(single[0].error)


def test_a_table_is_text_in_a_notebook_too(monkeypatch):
    figures = inspect(analogize(MODEL, EPIRAM, **FAST))
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    assert "['two']" in str(figures) and "epiram" in str(figures)
