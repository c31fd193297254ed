"""Constants of the circuits around a crossbar, and of its wires.

Values with their sources are in `sedma_jax.costs`; `mvm_cost.py` computes costs from them.
Every constant is a leaf of the pytree, so that `jax.grad` and `jax.vmap` reach all of
them.
"""

import equinox as eqx

from .._cells.device import Scalar
from .._numerics.requirements import FROM_ZERO, POSITIVE, check_kind, check_numbers


def _check(part: eqx.Module, *positive: str) -> None:
    """Refuse constants that are no sizes: all from 0 up, some positive."""
    call = f"sedma_jax.kernels.{type(part).__name__}"
    figures = dict(vars(part))
    remedy = "It is in SI units, without a prefix."
    for name in positive:
        check_numbers(call, POSITIVE, remedy, **{name: figures.pop(name)})
    check_numbers(call, FROM_ZERO, remedy, **figures)


class AdcCost(eqx.Module):
    """Energy, time and area of one analog-to-digital converter.

    One conversion of `b` bits takes `e_fixed + e_step 2^b + e_thermal 4^b` joules. The
    second term is Walden's figure of merit (1999, IEEE JSAC 17, 539): each further bit
    doubles the energy. The third is the thermal-noise limit behind Schreier's figure of
    merit: each further bit takes four times the energy. The first is the switching floor
    of small converters (Murmann, ADC Performance Survey 1997-2025, energy plot).

    - `e_fixed`, `e_step`, `e_thermal`: the three coefficients, in joules.
    - `rate`: conversions per second of one converter, positive.
    - `area`: area of one converter, in square metres, at the resolution that is built.
    - `e_hold`, `a_hold`: sample-and-hold of one bit line, in joules per conversion and in
        square metres.

    **Example:**

        >>> adc = sj.kernels.AdcCost(0.0, e_step=20e-15, e_thermal=0.0, rate=1e9, area=1e-9)
        >>> print(round(1e12 * adc.e_step * 2**8, 3))  # pJ of one conversion of 8 bits
        5.12
    """

    e_fixed: Scalar
    e_step: Scalar
    e_thermal: Scalar
    rate: Scalar
    area: Scalar
    e_hold: Scalar = 0.0
    a_hold: Scalar = 0.0

    def __check_init__(self):
        _check(self, "rate")


class DacCost(eqx.Module):
    """Energy, time and area of one digital-to-analog converter; each word line has one.

    A converter of `b` bits has `2^b - 1` equal elements, so that a single-bit converter
    is the driver itself.

    - `e_unit`: energy of one element in one conversion, in joules.
    - `time`: time of one conversion, in seconds.
    - `a_unit`: area of one element, in square metres.

    **Example:**

        >>> dac = sj.kernels.DacCost(e_unit=0.4e-12, time=0.0, a_unit=1e-13)
        >>> print(round(1e12 * dac.e_unit * (2**2 - 1), 3))  # pJ, of 2 bits
        1.2
    """

    e_unit: Scalar
    time: Scalar
    a_unit: Scalar

    def __check_init__(self):
        _check(self)


class DriverCost(eqx.Module):
    """The driver that charges one word line: `C V^2` per read, discharged after it.

    - `capacitance`: capacitance of the driver itself, in farads; that of the wire is
        added to it.
    - `resistance`: resistance of the driver, in ohms.
    - `area`: area of one driver, in square metres.

    **Example:**

        >>> driver = sj.kernels.DriverCost(capacitance=10e-15, resistance=1e3, area=0.0)
        >>> print(round(1e15 * driver.capacitance * 0.5**2, 3))  # fJ per read at 0.5 V
        2.5
    """

    capacitance: Scalar
    resistance: Scalar
    area: Scalar

    def __check_init__(self):
        _check(self)


class ArrayGeometry(eqx.Module):
    """Wires of a crossbar.

    - `pitch`: side of one cell, in metres.
    - `r_cell`, `c_cell`: resistance, in ohms, and capacitance, in farads, of the wire
        along one cell, the same for word lines and bit lines.

    **Example:**

        >>> wires = sj.kernels.ArrayGeometry(pitch=200e-9, r_cell=1.0, c_cell=40e-18)
        >>> print(round(1e12 * (128 * wires.pitch) ** 2, 1))  # um2 of 128 x 128 cells
        655.4
    """

    pitch: Scalar
    r_cell: Scalar
    c_cell: Scalar

    def __check_init__(self):
        _check(self, "pitch")


class DigitalCost(eqx.Module):
    """Energy and area of the logic behind the converters.

    - `e_add`: shift-and-add of one conversion, in joules.
    - `e_register`: access to the accumulator for one conversion, in joules.
    - `e_buffer`: delivery of one input bit to one word line, in joules.
    - `area`: area of the adders, registers and buffer of one array, in square metres.

    **Example:**

        >>> digital = sj.kernels.DigitalCost(1e-13, 1e-13, e_buffer=1.5e-13, area=1e-9)
        >>> print(round(1e12 * digital.e_buffer * 8 * 128, 1))  # pJ: 8 bits to 128 lines
        153.6
    """

    e_add: Scalar
    e_register: Scalar
    e_buffer: Scalar
    area: Scalar

    def __check_init__(self):
        _check(self)


class ProcessorCost(eqx.Module):
    """What a digital processor takes to multiply by the weights of a layer.

    A product fetches each weight and multiplies and adds it once: `n` weights take
    `n (e_mac + e_weight)` joules and `n / rate` seconds.

    - `e_mac`: one multiplication and one addition, in joules.
    - `e_weight`: fetching one weight, in joules.
    - `rate`: multiply-adds per second, positive.
    - `a_weight`: area of the memory of one weight, in square metres.

    **Raises:** `ValueError` for a constant that is no size.

    **Example:**

        >>> processor = sj.costs.PROCESSOR_45NM  # 32-bit floats
        >>> print(round(1e9 * 128**2 * (processor.e_mac + processor.e_weight), 1))  # nJ
        157.3
    """

    e_mac: Scalar
    e_weight: Scalar
    rate: Scalar
    a_weight: Scalar

    def __check_init__(self):
        _check(self, "rate")


class CostModel(eqx.Module):
    """All constants of one technology.

    - `adc`, `dac`, `driver`: of the converters and the drivers of word lines.
    - `geometry`: of cells and wires.
    - `digital`: of the logic behind the converters.

    **Raises:** `ValueError` for a part of another kind.

    **Example:**

        >>> import dataclasses
        >>> adc = dataclasses.replace(sj.costs.SURVEY.adc, e_step=10e-15)
        >>> model = dataclasses.replace(sj.costs.SURVEY, adc=adc)
        >>> model.adc.e_step < sj.costs.SURVEY.adc.e_step
        True
    """

    adc: AdcCost
    dac: DacCost
    driver: DriverCost
    geometry: ArrayGeometry
    digital: DigitalCost

    def __check_init__(self):
        for name, kind in _PARTS.items():
            check_kind(
                "sedma_jax.kernels.CostModel",
                kind,
                f"a `{kind.__name__}`",
                "Start from `sedma_jax.costs.SURVEY`, by `dataclasses.replace`.",
                **{name: getattr(self, name)},
            )


_PARTS = {
    "adc": AdcCost,
    "dac": DacCost,
    "driver": DriverCost,
    "geometry": ArrayGeometry,
    "digital": DigitalCost,
}
