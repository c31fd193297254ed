"""The cost of the products of a crossbar, against closed forms."""

import dataclasses

import jax
import jax.numpy as jnp
import jax.random as jr
import jaxtyping
import numpy as np
import pytest

import sedma_jax as sj

# One cell per weight behind no transistor, all at `g`: heat is `v**2 g t` in each.
G, DEVICE = 1e-5, sj.Device(0.0, 1e-5, 100, 100, v_read=0.2, t_read=1e-8)
NOTHING = jax.tree.map(lambda constant: 0.0, sj.costs.SURVEY)
NOTHING = dataclasses.replace(
    NOTHING,
    adc=dataclasses.replace(NOTHING.adc, e_step=1e-15, rate=1e9, area=1e-9),
    geometry=dataclasses.replace(NOTHING.geometry, pitch=1e-6),
)
A = np.ones((12, 20))


def test_a_crossbar():
    crossbar = sj.program_exactly(A, DEVICE, array=(8, 4))  # 3 x 3 tiles
    cost = sj.costs.of(crossbar, NOTHING, dac=sj.DAC(6), adc=sj.ADC(7), batch=5)
    heat = 5 * A.size * 0.2**2 / 3 * G * 1e-8
    conversions = 5 * 9 * 4 * 2**7 * 1e-15
    np.testing.assert_allclose(cost.joules, heat + conversions, rtol=1e-9)
    # The four bit lines of a tile share a converter, and tiles work side by side.
    np.testing.assert_allclose(cost.seconds, 5 * (1e-8 + 4 / 1e9), rtol=1e-9)
    area = 9 * (8 * 8 * 1e-6**2 + 1e-9)  # a pair of cells a weight, and a converter
    np.testing.assert_allclose(cost.square_millimetres, area * 1e6, rtol=1e-9)
    operations = 2 * A.size * 5
    tops = operations / (heat + conversions) / 1e12
    np.testing.assert_allclose(cost.tops_per_watt, tops, rtol=1e-9)


def test_inputs_a_bit_at_a_time_and_slices():
    crossbar, _ = sj.program_bit_sliced(
        A, DEVICE, array=(8, 4), cell_bits=2, slices=2, scheme="open_loop", key=jr.key(0)
    )
    cost = sj.costs.of(crossbar, NOTHING, adc=sj.ADC(7), input_bits=6)
    heat = 5 * 2 * A.size * 0.2**2 / 2 * G * 1e-8  # half of the bits of five planes
    conversions = 5 * 2 * 9 * 4 * 2**7 * 1e-15
    # All cells are at the end of the window, to a pulse of a hundred.
    np.testing.assert_allclose(cost.joules, heat + conversions, rtol=1e-6)
    np.testing.assert_allclose(cost.seconds, 5 * (1e-8 + 4 / 1e9), rtol=1e-9)


def test_a_pool_drives_the_lines_that_are_wired():
    pool = sj.Pool([sj.ArrayKind(8, 4, 9, DEVICE), sj.ArrayKind(16, 4, 3, DEVICE)])
    plan = sj.plan_partitions(A.shape, pool)
    crossbar, _ = sj.program_pool(A, plan, scheme="open_loop", key=jr.key(0))
    cost = sj.costs.of(crossbar, NOTHING, dac=sj.DAC(6), adc=sj.ADC(7))
    heat = A.size * 0.2**2 / 3 * G * 1e-8
    conversions = len(plan.rectangles) * 4 * 2**7 * 1e-15
    np.testing.assert_allclose(cost.joules, heat + conversions, rtol=1e-6)
    assert len(cost.parts) == len({r.kind for r in plan.rectangles})


def test_gradients_and_errors(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    crossbar = sj.program_exactly(A, DEVICE, array=(8, 4))
    how = dict(dac=sj.DAC(6), adc=sj.ADC(7))
    joules = lambda model: jnp.sum(sj.costs.of(crossbar, model, **how).joules)
    slope = jax.grad(joules)(NOTHING).adc.e_step
    np.testing.assert_allclose(slope, 9 * 4 * 2**7)
    for wrong in ({}, {"adc": sj.ADC(7)}, how | {"input_bits": 4}):
        with pytest.raises(ValueError, match="`adc`, and either `dac` or `input_bits`"):
            sj.costs.of(crossbar, **wrong)
    with pytest.raises(ValueError, match=r"`mean_square` from 0 to 1.*2\.0"):
        sj.costs.of(crossbar, mean_square=2.0, **how)
    with pytest.raises(ValueError, match="a `CostModel`"):
        sj.costs.of(crossbar, "survey", **how)
    with pytest.raises(ValueError, match="programmed matrix"):
        sj.costs.of(A, **how)
