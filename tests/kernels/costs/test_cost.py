import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from sedma_jax.kernels import (
    AdcCost,
    ArrayGeometry,
    CostModel,
    DacCost,
    DigitalCost,
    DriverCost,
    MvmWorkload,
    array_read_energy,
    expected_read_energy,
    mvm_cost,
)
from sedma_jax.kernels._costs.mvm_cost import settling_time

from sedma_jax import costs

# Every constant differs from every other one and none is zero, so that a swap shows.
MODEL = CostModel(
    adc=AdcCost(2e-13, 3e-15, 5e-19, 7e8, 1.1e-9, 1.3e-15, 1.7e-13),
    dac=DacCost(1.9e-13, 2.3e-9, 2.9e-13),
    driver=DriverCost(3.1e-15, 3.7e3, 4.1e-13),
    geometry=ArrayGeometry(4.3e-8, 4.7, 5.3e-17),
    digital=DigitalCost(5.9e-14, 6.1e-14, 6.7e-14, 7.1e-10),
)
# 5 tiles of 2 slices on 4 arrays: 3 passes. 7 input bits, 2 at a time: 4 phases.
WORKLOAD = MvmWorkload(
    outputs=50,
    inputs=70,
    rows=16,
    cols=64,
    batch=3,
    input_bits=7,
    dac_bits=2,
    adc_bits=6,
    slices=2,
    polarities=2,
    conversions=2,
    columns_per_adc=20,
    arrays=4,
)
READ = {"read_energy": 7.3e-13, "mean_square_voltage": 0.079, "t_read": 8.3e-9}
ISAAC_READ = {
    "read_energy": costs.ISAAC_READ_ENERGY,
    "mean_square_voltage": 1.0,
    "t_read": 100e-9,
}
# One ISAAC unit: 16-bit weights in 8 arrays of 2-bit cells, 16-bit inputs bit by bit.
ISAAC_UNIT = MvmWorkload(
    outputs=128,
    inputs=128,
    rows=128,
    cols=128,
    input_bits=16,
    slices=8,
    polarities=1,
    columns_per_adc=128,
    pipelined=True,
)


def changed(**fields):
    return dataclasses.replace(WORKLOAD, **fields)


def test_totals_follow_from_the_counts():
    cost = mvm_cost(MODEL, WORKLOAD, **READ)
    # ceil(70 / 16) = 5 tiles, 10 arrays, 4 phases, 3 vectors
    reads = 5 * 2 * 4 * 3
    conversion = 2e-13 + 3e-15 * 64 + 5e-19 * 4096 + 1.3e-15
    line = 3.1e-15 + 128 * 5.3e-17
    expected = {
        "array": reads * 7.3e-13,
        "drivers": reads * 16 * line * 0.079,
        "dac": reads * 16 * 3 * 1.9e-13,
        "adc": reads * 128 * conversion,
        "digital": reads * 128 * (5.9e-14 + 6.1e-14),
        "buffer": reads * 16 * 2 * 6.7e-14,
    }
    assert list(cost.energy_breakdown) == list(expected)
    np.testing.assert_allclose(
        list(cost.energy_breakdown.values()), list(expected.values()), rtol=1e-14
    )
    np.testing.assert_allclose(cost.energy, sum(expected.values()), rtol=1e-14)

    word_line = 128 * 5.3e-17 * (3.7e3 + 64 * 4.7)
    settling = 7 * np.log(2) * (word_line + 16**2 * 4.7 * 5.3e-17 / 2)
    steps = 3 * 4 * 3  # passes, phases, vectors
    np.testing.assert_allclose(
        cost.latency_read, steps * (2.3e-9 + settling + 8.3e-9), rtol=1e-14
    )
    np.testing.assert_allclose(cost.latency_adc, steps * 20 / 7e8, rtol=1e-14)
    np.testing.assert_allclose(
        cost.latency, cost.latency_read + cost.latency_adc, rtol=1e-14
    )

    area = {
        "array": 4 * 16 * 128 * 4.3e-8**2,
        "drivers": 4 * 16 * 4.1e-13,
        "dac": 4 * 16 * 3 * 2.9e-13,
        "adc": 4 * (7 * 1.1e-9 + 128 * 1.7e-13),  # ceil(128 / 20) converters
        "digital": 4 * 7.1e-10,
    }
    assert list(cost.area_breakdown) == list(area)
    np.testing.assert_allclose(
        list(cost.area_breakdown.values()), list(area.values()), rtol=1e-14
    )

    operations = 2 * 50 * 70 * 3
    assert cost.operations == operations
    np.testing.assert_allclose(
        cost.tops_per_watt, operations / sum(expected.values()) / 1e12, rtol=1e-14
    )
    np.testing.assert_allclose(
        cost.tops_per_mm2,
        operations / cost.latency / (sum(area.values()) * 1e6) / 1e12,
        rtol=1e-14,
    )


def test_isaac_unit_draws_the_published_power():
    # Shafiee et al. 2016, Table I. Shares of 24.08 mW; the sample and hold, 10 uW, is
    # here part of the converters, adder and output register are one.
    cost = mvm_cost(costs.ISAAC_32NM, ISAAC_UNIT, **ISAAC_READ)
    duration = 16 * 100e-9
    milliwatts = {k: float(v) / duration * 1e3 for k, v in cost.energy_breakdown.items()}
    published = {
        "array": 2.4,
        "drivers": 0.0,
        "dac": 4.0,
        "adc": 16.0 + 0.01,
        "digital": 0.2 + 0.23,
        "buffer": 1.24,
    }
    assert milliwatts == pytest.approx(published, rel=1e-12)
    # One stage fills, then a read completes every 100 ns.
    np.testing.assert_allclose(cost.latency, 17 * 100e-9, rtol=1e-12)
    # Area of a unit: 12 of them take the 0.157 mm2 printed for a tile.
    assert round(12 * float(cost.area) * 1e6, 3) == 0.157


def test_isaac_chip_reaches_the_published_totals():
    # The paper prints totals of its own (Table I: 65.8 W, 85.4 mm2, 58 % of a tile's
    # power in converters; Table IV: 627.5 GOPS/W, 478.95 GOPS/s/mm2). They constrain
    # the constants together with 40.85 mW and 0.2149 mm2 of buses, buffers and routers
    # in each of 168 tiles and 10.4 W and 22.88 mm2 of links, which are not modelled.
    vectors = 10_000
    workload = dataclasses.replace(ISAAC_UNIT, batch=vectors)
    cost = mvm_cost(costs.ISAAC_32NM, workload, **ISAAC_READ)
    unit_watts = float(cost.energy) / (vectors * 1.6e-6)
    tile_watts = 12 * unit_watts + 40.85e-3
    chip_watts = 168 * tile_watts + 10.4
    chip_mm2 = 168 * (12 * float(cost.area) * 1e6 + 0.2149) + 22.88
    assert round(chip_watts, 1) == 65.8
    assert round(chip_mm2, 1) == 85.4
    adc_watts = 12 * float(cost.energy_adc) / (vectors * 1.6e-6)
    assert round(adc_watts / tile_watts, 2) == 0.58

    gops = 168 * 12 * float(cost.operations) / float(cost.latency) / 1e9
    # The paper divides by 65.8 W, known to 0.05; the pipeline fills in 1 of 160,000.
    assert gops / chip_watts == pytest.approx(627.5, rel=0.05 / 65.8)
    # Table IV is 0.9 % below Table I's own throughput over its own area.
    assert gops / chip_mm2 == pytest.approx(478.95, rel=0.01)


def test_energy_grows_with_the_batch_and_area_does_not():
    one = mvm_cost(MODEL, changed(batch=1), **READ)
    many = mvm_cost(MODEL, changed(batch=32), **READ)
    for name, value in one.energy_breakdown.items():
        np.testing.assert_allclose(many.energy_breakdown[name], 32 * value, rtol=1e-14)
    np.testing.assert_allclose(many.latency, 32 * one.latency, rtol=1e-14)
    np.testing.assert_allclose(many.area, one.area, rtol=1e-14)
    np.testing.assert_allclose(many.tops_per_watt, one.tops_per_watt, rtol=1e-14)


@pytest.mark.parametrize(
    ("constants", "factor"), [((0.0, 1e-15, 0.0), 2), ((0.0, 0.0, 1e-18), 4)]
)
def test_one_more_bit_doubles_walden_and_quadruples_thermal_energy(constants, factor):
    adc = dataclasses.replace(
        MODEL.adc,
        **dict(zip(("e_fixed", "e_step", "e_thermal"), constants, strict=True)),
        e_hold=0.0,
    )
    model = dataclasses.replace(MODEL, adc=adc)
    energies = [
        float(mvm_cost(model, changed(adc_bits=bits), **READ).energy_adc)
        for bits in range(4, 13)
    ]
    np.testing.assert_allclose(np.divide(energies[1:], energies[:-1]), factor)


def test_survey_crosses_from_walden_to_thermal():
    def conversion(adc, bits):
        return adc.e_fixed + adc.e_step * 2**bits + adc.e_thermal * 4**bits

    # 5.3 pJ for 8 bits, as the median; 0.28 pJ where the best of the survey are.
    assert conversion(costs.SURVEY.adc, 8) == pytest.approx(5.3e-12, rel=0.01)
    assert conversion(costs.ADC_ENVELOPE, 8) == pytest.approx(0.277e-12, rel=0.01)
    # The survey's figure of merit at high resolution: FOM = SNDR + 10 log10(fs / 2P),
    # 185 dB and above for its best.
    bits = 16
    energy = conversion(costs.ADC_ENVELOPE, bits)
    fom = 6.02 * bits + 1.76 + 10 * np.log10(0.5 / energy)
    assert 185 < fom < 188


def test_pipeline_hides_the_faster_stage():
    slow_adc = mvm_cost(MODEL, changed(pipelined=True), **READ)
    serial = mvm_cost(MODEL, WORKLOAD, **READ)
    steps = 36
    first, second = (
        float(serial.latency_read) / steps,
        float(serial.latency_adc) / steps,
    )
    assert second > first
    np.testing.assert_allclose(slow_adc.latency, first + steps * second, rtol=1e-14)
    quick = eqx.tree_at(lambda m: m.adc.rate, MODEL, 1e11)
    slow_read = mvm_cost(quick, changed(pipelined=True), **READ)
    np.testing.assert_allclose(slow_read.latency, steps * first + 20 / 1e11, rtol=1e-14)
    np.testing.assert_allclose(slow_adc.energy, serial.energy, rtol=1e-14)


def test_fewer_arrays_trade_area_for_time():
    enough = mvm_cost(MODEL, changed(arrays=None), **READ)
    one = mvm_cost(MODEL, changed(arrays=1), **READ)
    np.testing.assert_allclose(one.latency, 10 * enough.latency, rtol=1e-14)
    np.testing.assert_allclose(enough.area, 10 * one.area, rtol=1e-14)
    np.testing.assert_allclose(enough.energy, one.energy, rtol=1e-14)


def test_empty_tiles_cost_nothing():
    all_tiles = mvm_cost(MODEL, WORKLOAD, **READ)
    sparse = mvm_cost(MODEL, changed(tiles=2), **READ)
    np.testing.assert_allclose(sparse.energy, all_tiles.energy * 2 / 5, rtol=1e-14)
    assert sparse.operations == all_tiles.operations


def read_case(dtype):
    g_key, v_key = jr.split(jr.key(0))
    g = jr.uniform(g_key, (2, 5, 7), dtype, 1e-7, 1e-5)
    v = jr.uniform(v_key, (3, 5), dtype, -0.5, 0.5)
    return g, v


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_read_energy_is_the_sum_over_cells(dtype):
    g, v = read_case(dtype)
    energy = array_read_energy(g, v, 5e-9)
    expected = np.zeros(3)
    for b in range(3):
        for p in range(2):
            for i in range(5):
                for j in range(7):
                    expected[b] += float(v[b, i]) ** 2 * float(g[p, i, j]) * 5e-9
    assert energy.dtype == dtype
    # 70 products of three factors, all positive
    np.testing.assert_allclose(energy, expected, rtol=73 * float(jnp.finfo(dtype).eps))


def test_read_energy_broadcasts_tiles_against_one_vector():
    g, v = read_case(jnp.float64)
    tiles = jnp.stack([g, 2 * g])
    energy = array_read_energy(tiles[:, None], v, 5e-9)
    assert energy.shape == (2, 3)
    np.testing.assert_allclose(energy[1], 2 * energy[0], rtol=1e-14)


def test_expected_read_energy_is_the_mean_over_a_batch():
    g, v = read_case(jnp.float64)
    mean = expected_read_energy(g, jnp.mean(v**2, axis=0), 5e-9)
    np.testing.assert_allclose(mean, np.mean(array_read_energy(g, v, 5e-9)), rtol=1e-14)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_dtype_of_the_constants_is_kept_under_jit(dtype):
    cast = lambda tree: jax.tree.map(lambda x: jnp.asarray(x, dtype), tree)
    model, read = cast(MODEL), cast(READ)
    eager = mvm_cost(model, WORKLOAD, **read)
    compiled = jax.jit(lambda m, r: mvm_cost(m, WORKLOAD, **r))(model, read)
    reference = mvm_cost(MODEL, WORKLOAD, **READ)
    for got in (eager, compiled):
        assert {x.dtype for x in jax.tree.leaves(got)} == {jnp.dtype(dtype)}
        for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(reference), strict=True):
            # at most 20 roundings lead to a component
            np.testing.assert_allclose(a, b, rtol=20 * float(jnp.finfo(dtype).eps))


def test_counts_beyond_32_bits():
    workload = changed(outputs=200_000, inputs=200_000, batch=10_000, arrays=None)
    reads = 12_500 * 3_125 * 2 * 4 * 10_000
    with jax.enable_x64(False):
        model, read = jax.tree.map(jnp.float32, (MODEL, READ))
        cost = jax.jit(lambda m, r: mvm_cost(m, workload, **r))(model, read)
    np.testing.assert_allclose(cost.operations, 2 * 200_000**2 * 10_000, rtol=1e-6)
    np.testing.assert_allclose(cost.energy_array, reads * 7.3e-13, rtol=1e-6)


def test_gradient_is_the_number_of_events():
    def energy(model):
        return mvm_cost(model, WORKLOAD, **READ).energy

    gradient = jax.grad(energy)(jax.tree.map(jnp.float64, MODEL))
    reads = 5 * 2 * 4 * 3
    np.testing.assert_allclose(gradient.adc.e_step, reads * 128 * 2**6, rtol=1e-14)
    np.testing.assert_allclose(gradient.dac.e_unit, reads * 16 * 3, rtol=1e-14)
    np.testing.assert_allclose(gradient.digital.e_buffer, reads * 32, rtol=1e-14)
    np.testing.assert_allclose(
        gradient.geometry.c_cell, reads * 16 * 128 * 0.079, rtol=1e-14
    )
    assert gradient.adc.area == 0


def test_settling_in_a_line_without_driver_resistance():
    # 100 cells of 1 ohm and 1 fF: tau = 0.5 * 100^2 * 1e-15 for each line
    geometry = ArrayGeometry(pitch=1e-7, r_cell=1.0, c_cell=1e-15)
    driver = DriverCost(capacitance=0.0, resistance=0.0, area=0.0)
    model = dataclasses.replace(MODEL, geometry=geometry, driver=driver)
    np.testing.assert_allclose(
        settling_time(model, 100, 100, 9), 10 * np.log(2) * 1e-11, rtol=1e-14
    )


def test_count_below_one_is_refused():
    with pytest.raises(ValueError, match=r"`slices` to be at least 1.* Got 0"):
        changed(slices=0)
