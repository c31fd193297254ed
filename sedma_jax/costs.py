"""What a product costs, and the constants of circuits with published figures.

`of` costs the products of a programmed matrix in one call.

`ISAAC_32NM` is one complete architecture. `SURVEY` has the costs of measured converters of
the last decade, at the resolution of the workload. `sedma_jax.kernels.mvm_cost` lists what
neither of them models. Change a constant with `dataclasses.replace` or `equinox.tree_at`.
"""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from ._crossbar.abstract_crossbar import AbstractCrossbar, check_readable
from ._crossbar.converters import ADC, DAC
from ._dir import later_names
from ._products.read_heat import driven_arrays, read_heat, uniform_mean_square
from .kernels import (
    SHARE,
    AdcCost,
    ArrayGeometry,
    CostModel,
    DacCost,
    DigitalCost,
    DriverCost,
    MvmCost,
    MvmWorkload,
    ProcessorCost,
    check_counts,
    check_given,
    check_kind,
    mvm_cost,
)

__dir__ = later_names(globals())

# ISAAC prints power and area of a unit of 8 arrays of 128 x 128 cells at one read per
# 100 ns. A component that serves every word or bit line works this many times per read:
_ISAAC_LINES = 8 * 128
_ISAAC_READ = 100e-9  # s

ISAAC_32NM = CostModel(
    adc=AdcCost(
        e_fixed=0.0,
        # 8 converters of 8 bits draw 16 mW at 1.28 GS/s, 1.56 pJ per conversion. Table I
        # prints 1.2 GS/s; 128 bit lines in 100 ns (section V) need 1.28.
        e_step=16e-3 / 8 / 1.28e9 / 2**8,
        e_thermal=0.0,
        rate=1.28e9,
        area=0.0096e-6 / 8,
        e_hold=10e-6 * _ISAAC_READ / _ISAAC_LINES,
        a_hold=0.00004e-6 / _ISAAC_LINES,
    ),
    dac=DacCost(
        # 1024 drivers of 1 bit draw 4 mW. The read of 100 ns includes their delay.
        e_unit=4e-3 * _ISAAC_READ / _ISAAC_LINES,
        time=0.0,
        a_unit=0.00017e-6 / _ISAAC_LINES,
    ),
    # The 1-bit converter is the driver, and the read of 100 ns includes settling: separate
    # drivers and wires would count both twice.
    driver=DriverCost(capacitance=0.0, resistance=0.0, area=0.0),
    geometry=ArrayGeometry(
        # 8 arrays take 0.0002 mm2, printed to one digit: 39 nm per cell.
        pitch=(0.0002e-6 / 8 / 128**2) ** 0.5,
        r_cell=0.0,
        c_cell=0.0,
    ),
    digital=DigitalCost(
        e_add=0.2e-3 * _ISAAC_READ / _ISAAC_LINES,  # 4 shift-and-add units
        e_register=0.23e-3 * _ISAAC_READ / _ISAAC_LINES,  # output register, 256 B
        e_buffer=1.24e-3 * _ISAAC_READ / _ISAAC_LINES,  # input register, 2 KB
        area=(0.00024e-6 + 0.00077e-6 + 0.0021e-6) / 8,
    ),
)
"""ISAAC at 32 nm (Shafiee et al. 2016, ISCA, 14, Table I), simulated and never built:
8-bit converters of 2 mW, 1-bit DACs, reads of 100 ns. At other resolutions the energy
of a converter is assumed to double per bit (Walden); its area holds at 8 bits only. Pass
`ISAAC_READ_ENERGY` for the heat of its cells, and `t_read=100e-9`."""

ISAAC_READ_ENERGY = 2.4e-3 / 8 * _ISAAC_READ
"""Heat of one read of one ISAAC array of 128 x 128 cells, in joules (Table I: 2.4 mW
for 8 arrays). The paper states neither the conductances nor the read voltage."""

ADC_ENVELOPE = AdcCost(
    e_fixed=0.267e-12,
    e_step=0.0,
    e_thermal=0.145e-18,
    rate=1.4e9,
    area=0.0249e-6,
)
"""The least energy that converters have reached: for each coefficient the mean of the
three best of 725, as in the survey's own energy plot (Murmann, ADC Performance Survey
1997-2025, revision of June 2025). It is a lower bound, since these converters run at very
different speeds, and fast ones need more. Rate and area are those of `SURVEY`."""

SURVEY = CostModel(
    adc=AdcCost(
        e_fixed=0.0,
        e_step=20.7e-15,
        e_thermal=0.145e-18,
        rate=1.4e9,
        area=0.0249e-6,
        e_hold=ISAAC_32NM.adc.e_hold,
        a_hold=ISAAC_32NM.adc.a_hold,
    ),
    dac=ISAAC_32NM.dac,
    driver=DriverCost(capacitance=0.0, resistance=1e3, area=0.0),
    geometry=ArrayGeometry(
        # 0.2 fF/um, a pitch of two features of 100 nm, and copper of 27.3 nOhm m with
        # an aspect ratio of 2.3 (NeuroSim V3.0: Chen, Peng & Yu 2018, IEEE TCAD 37,
        # 3067).
        pitch=200e-9,
        r_cell=2.73e-8 * 200e-9 / (100e-9 * 100e-9 * 2.3),
        c_cell=0.2e-9 * 200e-9,
    ),
    digital=DigitalCost(
        # 45 nm, 0.9 V: 32-bit integer addition 0.1 pJ; 64 bits from an 8 KB cache 10 pJ
        # (Horowitz 2014, ISSCC, 10, Fig. 1.1.9).
        e_add=0.1e-12,
        e_register=ISAAC_32NM.digital.e_register,
        e_buffer=10e-12 / 64,
        area=ISAAC_32NM.digital.area,
    ),
)
"""Measured converters in a generic array, for any resolution from 5 to 10 bits.

The converter is the median of the 47 in the survey (Murmann, 1997-2025, revision of
June 2025) published since 2015 with 5 to 10 effective bits and 0.1 to 4 GS/s: 20.7 fJ
per conversion step (quartiles 16.7 and 40.3), 1.4 GS/s, 0.0249 mm2, 28 nm; its thermal
floor is that of `ADC_ENVELOPE`. The survey counts effective bits, so `adc_bits` are
those that the result needs. Its converters are chips of their own; converters that fit
below bit lines are smaller (ISAAC assumes 0.0012 mm2). The resistance of the driver,
1 kOhm, is an assumption. DAC, sample and hold, accumulator and logic area are ISAAC's."""

PROCESSOR_45NM = ProcessorCost(
    e_mac=3.7e-12 + 0.9e-12,
    e_weight=10e-12 / 2,
    rate=1e9,
    a_weight=32 * 0.346e-12,
)
"""Digital multiply-adds of 32-bit floats at 45 nm, 0.9 V: a product 3.7 pJ, a sum 0.9 pJ,
and 64 bits from an 8 KB cache 10 pJ (Horowitz 2014, ISSCC, 10, Fig. 1.1.9). A weight is
kept in 32 cells of static memory of 0.346 um2 (Mistry et al. 2007, IEDM, 247), without the
circuits around them. One multiply-add per nanosecond is an assumption."""


class ProductCost(eqx.Module):
    """What the products of a programmed matrix cost, in the units of published figures.

    - `joules`, `seconds`: of all vectors of the batch. Arrays work side by side.
    - `square_millimetres`: of all arrays, with converters, drivers and logic.
    - `tops_per_watt`: tera-operations per joule, of `2 m n` operations a vector.
    - `parts`: an `MvmCost`, component by component, for each kind of array;
        `operations` of each are those of the whole product.

    **Example:**

        >>> crossbar = sj.program_exactly(np.eye(4), "epiram", array=4)
        >>> cost = sj.costs.of(crossbar, dac=sj.DAC(8), adc=sj.ADC(8))
        >>> print(np.round(cost.tops_per_watt * cost.joules * 1e12, 3))  # 2 x 4 x 4
        32.0
        >>> len(cost.parts)  # one kind of array
        1
    """

    joules: Float[Array, ""]
    seconds: Float[Array, ""]
    square_millimetres: Float[Array, ""]
    tops_per_watt: Float[Array, ""]
    parts: tuple[MvmCost, ...]


def of(
    crossbar: AbstractCrossbar,
    model: CostModel = SURVEY,
    *,
    dac: DAC | None = None,
    adc: ADC | None = None,
    input_bits: int | None = None,
    batch: int = 1,
    mean_square: Float[Array, ""] | float | None = None,
    conversions: int = 1,
    columns_per_adc: int = 8,
    pipelined: bool = False,
) -> ProductCost:
    """Cost the products of a programmed matrix: joules, seconds, mm2 and TOPS/W.

    The heat is that of its cells as they are now, in the mean over inputs, with those that
    hold no weight; all else is `sedma_jax.kernels.mvm_cost`, which says what it leaves
    out. A slice is an array of its own. Differentiable in the constants of `model`.

    **Arguments:**

    - `crossbar`: from any function that programs, and effects.
    - `model`: constants, e.g. `SURVEY`, the default, or `ISAAC_32NM`.
    - `dac`, `adc`: the converters, whose bits are costed.
    - `input_bits`: of inputs that are applied a bit at a time, as `bit_serial_matvec`
        does, sign included: `input_bits - 1` reads, by drivers in place of a `dac`.
    - `batch`: number of vectors, from 1.
    - `mean_square`: mean square of the voltages of a read in units of the read voltage,
        from 0 to 1. By default that of uniform inputs: a third through a `dac`, and a half
        a bit at a time, where half of the bits are set.
    - `conversions`, `columns_per_adc`, `pipelined`: as in `sedma_jax.kernels.MvmWorkload`.

    **Raises:**

    - `ValueError`: if `crossbar` is none; if `adc` is missing, or not exactly one of `dac`
        and `input_bits` is given; if a number is out of range.

    **Example:**

        >>> crossbar = sj.program_exactly(np.ones((128, 128)), "epiram", array=128)
        >>> cost = sj.costs.of(crossbar, dac=sj.DAC(8), adc=sj.ADC(8), batch=10)
        >>> one = sj.costs.of(crossbar, dac=sj.DAC(8), adc=sj.ADC(8))
        >>> bool(jnp.allclose(cost.joules, 10 * one.joules, rtol=1e-5, atol=0))
        True
        >>> bool(one.square_millimetres > 16 * 0.0249)  # 128 bit lines share 16 converters
        True
    """
    call = "sedma_jax.costs.of"
    check_readable("costs.of", crossbar, dac, adc)
    check_kind(call, CostModel, "a `CostModel`", "Such as `SURVEY`.", model=model)
    if adc is None or (dac is None) == (input_bits is None):
        raise ValueError(
            f"`{call}` needs `adc`, and either `dac` or `input_bits`. Got {dac=}, {adc=}, "
            f"{input_bits=}. Write `dac=sedma_jax.DAC(8), adc=sedma_jax.ADC(8)`."
        )
    if input_bits is not None:
        check_counts(call, 2, 24, "One of them is the sign.", input_bits=input_bits)
    if mean_square is None:
        mean_square = uniform_mean_square(input_bits)
    check_given(call, SHARE, "Leave it out for uniform inputs.", mean_square=mean_square)
    # A plane of bits in sign and magnitude, and what a DAC of one bit makes of it.
    planes = 0 if input_bits is None else input_bits - 1
    bits, at_once = (planes, 1) if dac is None else (int(dac.bits),) * 2
    parts = []
    for held, driven in driven_arrays("costs.of", crossbar):
        heat, lines = read_heat(held, mean_square, driven)
        workload = MvmWorkload(
            outputs=crossbar.shape[0],
            inputs=crossbar.shape[1],
            rows=held.array[0],
            cols=held.array[1],
            batch=batch,
            input_bits=bits,
            dac_bits=at_once,
            adc_bits=int(adc.bits),
            polarities=held.conductance.shape[1],
            conversions=conversions,
            columns_per_adc=columns_per_adc,
            tiles=len(heat),
            pipelined=pipelined,
        )
        cost = mvm_cost(
            model,
            workload,
            read_energy=jnp.mean(heat),
            mean_square_voltage=jnp.sum(lines) / lines.size,
            t_read=held.device.t_read,
        )
        parts.append(cost)
    if not parts:
        raise ValueError(
            f"`{call}` needs a crossbar that takes arrays. Got one of shape "
            f"{crossbar.shape} that takes none. A matrix of zeros costs nothing."
        )
    joules = sum(part.energy for part in parts)
    return ProductCost(
        joules=jnp.asarray(joules),
        seconds=jnp.max(jnp.stack([part.latency for part in parts])),
        square_millimetres=jnp.asarray(1e6 * sum(part.area for part in parts)),
        tops_per_watt=jnp.asarray(1e-12 * parts[0].operations / joules),
        parts=tuple(parts),
    )
