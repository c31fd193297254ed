"""Constants of the circuits around a crossbar, and of its wires.

Values with their sources are in `sedma_jax.costs`; `mvm_cost.py` multiplies them out.
Every constant is a leaf of the pytree, so that `jax.grad` and `jax.vmap` reach all of
them.
"""

import equinox as eqx

from .._cells.device import Scalar


class AdcCost(eqx.Module):
    """What one analog-to-digital converter spends.

    One conversion of `b` bits takes `e_fixed + e_step 2^b + e_thermal 4^b` joules. The
    second term is Walden's figure of merit (1999, IEEE JSAC 17, 539): twice the energy
    for one more bit. The third is the thermal-noise limit behind Schreier's: four times
    the energy for one more bit. The first is the switching floor of small converters
    (Murmann, ADC Performance Survey 1997-2025, energy plot).

    - `e_fixed`, `e_step`, `e_thermal`: the three coefficients, in joules.
    - `rate`: conversions per second of one converter, positive.
    - `area`: of one converter, in square metres, at the resolution that is built.
    - `e_hold`, `a_hold`: sample-and-hold of one bit line, in joules for each conversion
        and in square metres.
    """

    e_fixed: Scalar
    e_step: Scalar
    e_thermal: Scalar
    rate: Scalar
    area: Scalar
    e_hold: Scalar = 0.0
    a_hold: Scalar = 0.0


class DacCost(eqx.Module):
    """What one digital-to-analog converter spends; each word line has one.

    A converter of `b` bits is `2^b - 1` equal elements, so that one of a single bit is
    the driver itself.

    - `e_unit`: energy of one element in one conversion, in joules.
    - `time`: of one conversion, in seconds.
    - `a_unit`: area of one element, in square metres.
    """

    e_unit: Scalar
    time: Scalar
    a_unit: Scalar


class DriverCost(eqx.Module):
    """What charges one word line: `C V^2` for each read, returned to zero after it.

    - `capacitance`: of the driver itself, in farads; the wire comes on top.
    - `resistance`: of the driver, in ohms.
    - `area`: of one driver, in square metres.
    """

    capacitance: Scalar
    resistance: Scalar
    area: Scalar


class ArrayGeometry(eqx.Module):
    """Wires of a crossbar.

    - `pitch`: side of one cell, in metres.
    - `r_cell`, `c_cell`: resistance, in ohms, and capacitance, in farads, of the wire
        along one cell; word and bit lines are taken to be alike.
    """

    pitch: Scalar
    r_cell: Scalar
    c_cell: Scalar


class DigitalCost(eqx.Module):
    """What the logic behind the converters spends.

    - `e_add`: shift-and-add of one conversion, in joules.
    - `e_register`: access to the accumulator for one conversion, in joules.
    - `e_buffer`: delivery of one input bit to one word line, in joules.
    - `area`: adders, registers and buffer of one array, in square metres.
    """

    e_add: Scalar
    e_register: Scalar
    e_buffer: Scalar
    area: Scalar


class CostModel(eqx.Module):
    """All constants of one technology."""

    adc: AdcCost
    dac: DacCost
    driver: DriverCost
    geometry: ArrayGeometry
    digital: DigitalCost
