"""Published statistics of measured RRAM, PCM and SONOS arrays.

Figures are those of the fits that aihwkit (IBM/aihwkit at 4545f11,
`src/aihwkit/inference/noise/`) and CrossSim (sandialabs/cross-sim at 0a2eb1e,
`simulator/devices/`) publish; the measurements behind each are cited beside it. Where a
fit lets a conductance fall below zero, ours stops at zero; the sources differ. None of
them models temperature, so there is no temperature here.

    g = program_noise(PCM_PROGRAMMING, g_target, key=programming_key)
    aged = drift(PCM_DRIFT, g, time, g_target, key=cells_key)
    seen = read_noise(PCM_READ, aged, time, g, key=read_key)

A `MeasuredArray` holds all statistics of one array, and its window, so that it can be used
as a device:

    crossbar = perturb(program_exactly(A, PCM.device), PCM.programming, key=array_key)
    aged = age(crossbar, PCM.drift, time, key=cells_key)
    noisy = with_read_noise(aged, PCM.read, time, crossbar)
"""

import math

import jax.numpy as jnp

from ._dir import later_names
from .kernels import (
    FROM_ZERO,
    POSITIVE,
    AbsoluteFlickerNoise,
    CubicCurrent,
    Device,
    LogarithmicCurve,
    LogarithmicDrift,
    MeasuredArray as MeasuredArray,
    PiecewiseCurve,
    PolynomialCurve,
    PowerCurve,
    PowerLawDrift,
    ProgrammingNoise,
    RelativeFlickerNoise,
    RetentionTable,
    SaturatingCurve,
    StationaryReadNoise,
    check_numbers,
)

__dir__ = later_names(globals(), "MeasuredArray")


def window(g_min: float, g_max: float, v_read: float = 0.5) -> Device:
    """A device of which only the conductance window, in siemens, is known.

    Use it with `program_exactly` and `perturb`. Its pulses, 1024 linear ones without noise,
    are placeholders: the energies and times that `program` returns for it mean nothing.

    `v_read` is in volts. **Raises:** `ValueError` as `Device` does.

    **Example:**

        >>> device = sj.noise_models.window(1e-6, 2.5e-5)
        >>> crossbar = sj.program_exactly(np.eye(4), device, array=4)
        >>> print(np.asarray(1e6 * crossbar.conductance[0, :, 0, 0]).round(3))
        [25.  1.]
    """
    return Device(g_min, g_max, pulses_ltp=1024, pulses_ltd=1024, v_read=v_read)


_US = 1e-6
_DAY = 86400.0


def _microsiemens(*coefficients: float, reference: float = 1.0) -> PolynomialCurve:
    """A polynomial in `g / reference`; result and `reference` are in microsiemens."""
    return PolynomialCurve(tuple(c * _US for c in coefficients), reference * _US)


# --- RRAM -----------------------------------------------------------------------------

# Wan et al. (2022), Nature 608, 504, Extended Data Fig. 3: HfOx of the NeuRRAM chip, up
# to 40 uS. Each fit describes the conductances at one time, so it covers programming
# and drift together. aihwkit `reram.py`.
WAN_2022_1S = ProgrammingNoise(
    _microsiemens(0.348, 16.030, -43.853, 45.393, -16.815, reference=40.0)
)
"""NeuRRAM 1 s after programming. Its authors advise to add about 1 % of read noise."""

WAN_2022_1D = ProgrammingNoise(
    _microsiemens(0.701, 22.086, -50.773, 47.095, -16.458, reference=40.0)
)
"""NeuRRAM 1 day after programming."""

WAN_2022_2D = ProgrammingNoise(
    _microsiemens(0.782, 20.274, -43.507, 37.062, -11.934, reference=40.0)
)
"""NeuRRAM 2 days after programming."""

WAN_2022_CUBIC = ProgrammingNoise(_microsiemens(1.053, 0.2374, -1.167e-2, 1.536e-4))
"""The same measurement at 1 s as CrossSim fits it (`RRAM_Wan.py`); up to 39.26 uS."""

WAN_2022 = MeasuredArray(window(0.0, 40 * _US), WAN_2022_1S)
"""NeuRRAM, 0 to 40 uS, 1 s after programming."""

# Falcone et al. (2025), arXiv 2502.04524: CMO/HfOx, 9 to 88.19 uS, programmed until
# within 0.2 % or 2 % of the target; read noise by Lombardo et al. (2024), IEEE DRC.
# aihwkit `reram.py`, window of its example 34.
CMO_HFOX_PROGRAMMING_FINE = ProgrammingNoise(_microsiemens(0.00081107, 0.00106879))
"""CMO/HfOx accepted within 0.2 % of the target."""

CMO_HFOX_PROGRAMMING_COARSE = ProgrammingNoise(_microsiemens(0.0112185391, 0.01129027418))
"""CMO/HfOx accepted within 2 % of the target."""

CMO_HFOX_DRIFT = LogarithmicDrift(
    mean_slope=-0.08900206 * _US,
    deviation_slope=0.04201137 * _US,
    deviation=0.41183342 * _US,
)
"""CMO/HfOx drift: the same loss at every conductance."""

CMO_HFOX_READ = AbsoluteFlickerNoise(
    # the published logarithm is decimal
    deviation=LogarithmicCurve(
        0.0277316483 * _US / math.log(10), 0.0, reference=_US, lowest=0.0
    ),
    t_read=1e-6,
    g_min=9.0 * _US,
    g_max=88.19 * _US,
)
"""1/f noise of CMO/HfOx; the result is limited to the window of the array."""

CMO_HFOX = MeasuredArray(
    window(9.0 * _US, 88.19 * _US),
    CMO_HFOX_PROGRAMMING_COARSE,
    CMO_HFOX_DRIFT,
    CMO_HFOX_READ,
)
"""CMO/HfOx, 9 to 88.19 uS, accepted within 2 % of the target."""

# Milo et al. (2021), IEEE IRPS: HfO2 1T1R, 50 to 225 uS, IGVVA-100 programming, Fig. 4.
# CrossSim `RRAM_Milo.py`.
MILO_2021_PROGRAMMING = ProgrammingNoise(_microsiemens(4.782321, -0.009107))
"""HfO2 array by incremental gate voltage with verify; 50 to 225 uS."""

MILO_2021 = MeasuredArray(window(50 * _US, 225 * _US), MILO_2021_PROGRAMMING)
"""HfO2 array, 50 to 225 uS; `MILO_2021_CURRENT` for its nonlinearity."""


def _expanded_about(centre: float, *coefficients: float) -> tuple[float, ...]:
    """Coefficients in `v = u - centre` of a polynomial in `u`, constant first."""
    degrees = range(len(coefficients))
    return tuple(
        math.fsum(
            coefficients[n] * math.comb(n, k) * centre ** (n - k) for n in degrees[k:]
        )
        for k in degrees
    )


MILO_2021_CURRENT = CubicCurrent(
    quadratic=_expanded_about(-4.0, 0.007063, 0.005711, 0.001541, 0.0001388),
    cubic=_expanded_about(-4.0, 1.2968e-3, 6.7919e-4, 8.8710e-5),
    g_0=1e-4,
)
"""I-V curves of Milo et al., Fig. 1, for voltages within 0.5 V.

Measured from 62.5 to 110 uS; beyond, up to 225 uS, the fit assumes that cells become
ohmic. Rounding of the published digits alone moves the quadratic coefficient by up to
1.4e-5 A/V**2, more than its value at 100 uS.
"""

# --- PCM ------------------------------------------------------------------------------

# Nandakumar et al. (2019), IEEE ICECS, 727, and Joshi et al. (2020), Nat. Commun. 11,
# 2473: doped Ge2Sb2Te5, up to 25 uS. aihwkit `pcm.py`.
_PCM_G_MAX = 25.0 * _US
_PCM_T_0 = 20.0

PCM_PROGRAMMING = ProgrammingNoise(_microsiemens(0.26348, 1.9650, -1.1731, reference=25.0))
"""PCM after iterative programming."""

PCM_DRIFT = PowerLawDrift(
    LogarithmicCurve(-0.0155, 0.0244, _PCM_G_MAX, lowest=0.049, highest=0.1),
    LogarithmicCurve(-0.0125, -0.0059, _PCM_G_MAX, lowest=0.008, highest=0.045),
    t_0=_PCM_T_0,
)
"""PCM drift; exponents near 0.05 at high and 0.1 at low conductance."""

PCM_READ = RelativeFlickerNoise(
    quality=PowerCurve(0.0088, -0.65, _PCM_G_MAX, highest=0.2), t_read=250e-9, t_0=_PCM_T_0
)
"""PCM 1/f noise."""

PCM = MeasuredArray(window(0.0, _PCM_G_MAX), PCM_PROGRAMMING, PCM_DRIFT, PCM_READ)
"""PCM, 0 to 25 uS."""

JOSHI_2020_PROGRAMMING = ProgrammingNoise(
    _microsiemens(0.28638599, 0.07585724, -0.00178767)
)
"""PCM 27 s after programming: Joshi et al., Fig. 3b; CrossSim `PCM_Joshi.py`."""

# Le Gallo et al. (2023), Nat. Electron. 6, 680, and Khaddam-Aljameh et al. (2022), IEEE
# JSSC 57, 1027: the HERMES project chip. One cell for each conductance, up to 10.35 uS,
# or two, up to 20.7 uS, after Vasilopoulos et al. (2023), IEEE TED. aihwkit
# `hermes.py`.
_HERMES_T_READ = 512e-9


def _hermes_drift(
    g_max: float,
    t_0: float,
    boundary: float,
    below: LogarithmicCurve,
    above: tuple[float, ...],
) -> PowerLawDrift:
    mean_boundary = 0.0945 * g_max
    return PowerLawDrift(
        PiecewiseCurve(
            mean_boundary,
            LogarithmicCurve(-0.0387, -0.0182, g_max, lowest=0.0720, highest=0.13),
            PolynomialCurve((0.0736, -0.0126, -0.0436), g_max),
        ),
        PiecewiseCurve(boundary * g_max, below, PolynomialCurve(above, g_max)),
        t_0=t_0,
    )


_HERMES_1 = 10.35 * _US
_HERMES_1_T_0 = 200.0

HERMES_1_PROGRAMMING = ProgrammingNoise(
    _microsiemens(0.15781817, 2.32443916, -2.16310839, 0.68841818, reference=10.35)
)
"""HERMES, one cell for each conductance."""

HERMES_1_DRIFT = _hermes_drift(
    _HERMES_1,
    _HERMES_1_T_0,
    0.3039,
    LogarithmicCurve(-0.0120, -0.0023, _HERMES_1, lowest=0.0124, highest=0.04),
    (0.0104, 0.0116, -0.0165),
)
"""Drift of one HERMES cell."""

HERMES_1_READ = RelativeFlickerNoise(
    quality=PiecewiseCurve(
        0.1591 * _HERMES_1,
        LogarithmicCurve(-0.0078, 0.0038, _HERMES_1, lowest=0.0179, highest=0.04),
        PolynomialCurve((0.0088, 0.0768, -0.1352, 0.0664), _HERMES_1),
    ),
    t_read=_HERMES_T_READ,
    t_0=_HERMES_1_T_0,
)
"""1/f noise of one HERMES cell."""

HERMES_1 = MeasuredArray(
    window(0.0, _HERMES_1), HERMES_1_PROGRAMMING, HERMES_1_DRIFT, HERMES_1_READ
)
"""HERMES, one cell for each conductance, 0 to 10.35 uS."""

_HERMES_2 = 20.7 * _US
_HERMES_2_T_0 = 300.0

HERMES_2_PROGRAMMING = ProgrammingNoise(
    _microsiemens(0.16603222, 4.71806468, -8.48101252, 4.68961419, reference=20.7)
)
"""HERMES, two cells for each conductance."""

HERMES_2_DRIFT = _hermes_drift(
    _HERMES_2,
    _HERMES_2_T_0,
    0.3055,
    LogarithmicCurve(-0.0117, -0.0057, _HERMES_2, lowest=0.0091, highest=0.04),
    (0.0073, 0.0093, -0.0118),
)
"""Drift of two HERMES cells, each assumed to hold half of the conductance."""

HERMES_2_READ = RelativeFlickerNoise(
    quality=PiecewiseCurve(
        0.16 * _HERMES_2,
        LogarithmicCurve(-0.0117, -0.0069, _HERMES_2, lowest=0.015, highest=0.04),
        PolynomialCurve((0.0123, 0.0211, -0.0280, 0.0069), _HERMES_2),
    ),
    t_read=_HERMES_T_READ,
    t_0=_HERMES_2_T_0,
)
"""1/f noise of two HERMES cells."""

HERMES_2 = MeasuredArray(
    window(0.0, _HERMES_2), HERMES_2_PROGRAMMING, HERMES_2_DRIFT, HERMES_2_READ
)
"""HERMES, two cells for each conductance, 0 to 20.7 uS."""

# --- SONOS ----------------------------------------------------------------------------

# Agrawal et al. (2022), IEEE IEDM, 21.7: 40 nm charge trap memory, 128 000 cells, Fig.
# 10 and 11b. CrossSim `SONOS.py`. The fits are of current in nanoamperes, up to 3200,
# and 1800 where there is drift; conductance is current over read voltage.
_SONOS_PROGRAMMING = (19.88665, 176.3115)  # amplitude, scale
_SONOS_READ = (12.58037, 215.36557)
# fmt: off
_SONOS_DAYS = (
    # amplitude, scale, then coefficients of the mean shift, from the constant up
    (*_SONOS_PROGRAMMING, *(0.0,) * 11),
    (25.59102, 186.85544, 1.72684e-01, 5.72552e-02, -6.85715e-04, 3.50271e-06,
     -9.37682e-09, 1.40575e-11, -1.19803e-14, 5.41293e-18, -8.85448e-22, -1.66869e-25,
     5.95180e-29),
    (28.72753, 193.56834, 2.50712e-01, 6.62195e-02, -6.83218e-04, 2.99442e-06,
     -6.78255e-09, 7.70482e-12, -3.04983e-15, -2.15919e-18, 2.94617e-21, -1.23359e-24,
     1.85329e-28),
    (31.04318, 198.90332, -1.75300e-02, 9.76883e-02, -9.63791e-04, 4.55551e-06,
     -1.22391e-08, 1.93786e-11, -1.85899e-14, 1.07659e-17, -3.58211e-21, 5.96785e-25,
     -3.30410e-29),
    (33.76214, 204.77023, 4.03338e-02, 1.03111e-01, -1.04740e-03, 4.83961e-06,
     -1.28132e-08, 1.99484e-11, -1.85139e-14, 1.00008e-17, -2.84944e-21, 3.01008e-25,
     1.18747e-29),
    (34.57909, 207.34309, 3.19927e-01, 1.06596e-01, -1.04054e-03, 4.50290e-06,
     -1.10352e-08, 1.56477e-11, -1.27592e-14, 5.45513e-18, -7.26841e-22, -2.43893e-25,
     7.14608e-29),
)
# fmt: on


def sonos_programming(v_read: float) -> ProgrammingNoise:
    """SONOS after programming; `v_read`, in volts, turns currents to siemens.

    **Raises:** `ValueError` if `v_read` is not positive and finite.

    **Example:**

        >>> model = sj.noise_models.sonos_programming(v_read=0.1)
        >>> sigma = model.deviation(jnp.array([1e-3]))  # far above the scale of 176 nA
        >>> print(np.asarray(1e9 * 0.1 * sigma).round(2))  # nA
        [19.89]
    """
    _check_voltage("sonos_programming", v_read)
    return ProgrammingNoise(_saturating(*_SONOS_PROGRAMMING, v_read))


def sonos_read(v_read: float) -> StationaryReadNoise:
    """SONOS read noise; `v_read` and errors as in `sonos_programming`.

    **Example:**

        >>> model = sj.noise_models.sonos_read(v_read=0.1)
        >>> sigma = model.deviation(jnp.array([1e-3]))  # far above the scale of 215 nA
        >>> print(np.asarray(1e9 * 0.1 * sigma).round(2))  # nA
        [12.58]
    """
    _check_voltage("sonos_read", v_read)
    return StationaryReadNoise(deviation=_saturating(*_SONOS_READ, v_read))


def _check_voltage(name: str, v_read: float) -> None:
    call = f"sedma_jax.noise_models.{name}"
    check_numbers(call, POSITIVE, "It is in volts.", v_read=v_read)


def _saturating(amplitude: float, scale: float, v_read: float) -> SaturatingCurve:
    return SaturatingCurve(amplitude * 1e-9 / v_read, scale * 1e-9 / v_read)


def sonos_retention(v_read: float) -> RetentionTable:
    """SONOS from programming to 5 days; `v_read` and errors as in `sonos_programming`.

    **Example:**

        >>> table = sj.noise_models.sonos_retention(v_read=0.1)
        >>> print(table.times / 86400)  # days
        [0. 1. 2. 3. 4. 5.]
    """
    _check_voltage("sonos_retention", v_read)
    siemens = 1e-9 / v_read  # the conductance of 1 nA
    # A reference of 100 nA keeps the tenth-order coefficient within reach of float32.
    step = 100
    amplitudes, scales, *shifts = zip(*_SONOS_DAYS, strict=True)
    shifts = [[c * step**k * siemens for c in column] for k, column in enumerate(shifts)]
    return RetentionTable(
        times=jnp.asarray([day * _DAY for day in range(len(_SONOS_DAYS))]),
        shifts=jnp.asarray(shifts).T,
        amplitudes=jnp.asarray(amplitudes) * siemens,
        scales=jnp.asarray(scales) * siemens,
        reference=step * siemens,
    )


# --- Generic --------------------------------------------------------------------------

# CrossSim `generic_device.py`. Combine with `distribution=jax.random.normal` or
# `standard_uniform` in `ProgrammingNoise` and `StationaryReadNoise`. CrossSim's
# magnitude is relative to `g_max`, and is the full width of a uniform error, sqrt(12)
# deviations.


def _check_size(name: str, **sizes: float) -> None:
    call = f"sedma_jax.noise_models.{name}"
    check_numbers(call, FROM_ZERO, "It is a standard deviation.", **sizes)


def independent(deviation: float) -> PolynomialCurve:
    """The same standard deviation, in siemens, at every conductance.

    **Raises:** `ValueError` if `deviation` is negative or not finite.

    **Example:**

        >>> curve = sj.noise_models.independent(1e-7)
        >>> print(np.asarray(1e6 * curve(jnp.array([1e-6, 1e-5]))).round(3))
        [0.1 0.1]
    """
    _check_size("independent", deviation=deviation)
    return PolynomialCurve((deviation,), 1.0)


def proportional(fraction: float) -> PolynomialCurve:
    """A standard deviation of `fraction * g`. Errors as of `independent`.

    **Example:**

        >>> curve = sj.noise_models.proportional(0.1)
        >>> print(np.asarray(1e6 * curve(jnp.array([1e-6, 1e-5]))).round(3))
        [0.1 1. ]
    """
    _check_size("proportional", fraction=fraction)
    return PolynomialCurve((0.0, fraction), 1.0)


def inverse_proportional(fraction: float, g_max: float) -> PowerCurve:
    """A standard deviation of `fraction * g_max**2 / g`; zero where `g` is zero.

    `g_max` is in siemens, positive. Errors as of `independent`.

    **Example:**

        >>> curve = sj.noise_models.inverse_proportional(0.1, g_max=1e-5)
        >>> print(np.asarray(1e6 * curve(jnp.array([1e-6, 1e-5]))).round(3))
        [10.  1.]
    """
    _check_size("inverse_proportional", fraction=fraction)
    call = "sedma_jax.noise_models.inverse_proportional"
    check_numbers(call, POSITIVE, "It is in siemens.", g_max=g_max)
    return PowerCurve(fraction * g_max, -1.0, g_max)
