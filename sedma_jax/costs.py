"""Constants of analog matrix-vector products with published figures.

`ISAAC_32NM` is one complete architecture. `SURVEY` has the costs of measured converters of
the last decade, at the resolution of the workload. `sedma_jax.kernels.mvm_cost` lists what
neither of them models. Change a constant with `dataclasses.replace` or `equinox.tree_at`.
"""

from ._dir import later_names
from .kernels import (
    AdcCost,
    ArrayGeometry,
    CostModel,
    DacCost,
    DigitalCost,
    DriverCost,
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
