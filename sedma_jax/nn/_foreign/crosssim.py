"""Parameters of CrossSim 3: `CrossSimParameters`, or the JSON file that it writes."""

import math
import os
from collections.abc import Mapping
from typing import Any

import jax.random as jr

from ... import noise_models as published
from ..._crossbar.converters import ADC, DAC
from ...kernels import (
    POSITIVE,
    ProgrammingNoise,
    StationaryReadNoise,
    check_numbers,
    differential,
    global_scale,
    offset,
    standard_uniform,
)
from ...noise_models import MeasuredArray
from .peer_settings import PeerSettings, Terms, settings_of

_CALL = "sedma_jax.nn.from_crosssim"
# `CoreStyle` and `OffsetCoreStyle` by number and by name.
_STYLES = {1: "BALANCED", 2: "BITSLICED", 3: "OFFSET"}
_RANGES = {1: "CALIBRATED", 2: "MAX", 3: "GRANULAR"}
_DEVICES = {
    "RRAMMilo": published.MILO_2021_PROGRAMMING,
    "RRAMWan": published.WAN_2022_CUBIC,
    "PCMJoshi": published.JOSHI_2020_PROGRAMMING,
}
# What changes no result, or only how it is computed.
_IGNORED = ("simulation.", "xbar.adc.vmm.", "xbar.adc._", "xbar.dac.vmm.", "xbar.dac._")
_IGNORED += (
    "core.output_dtype",
    "core.mapping.inputs.vmm.",
    "core.mapping.inputs._",
    "type",
)


def from_crosssim(
    parameters: Mapping[str, Any] | str | os.PathLike[str] | Any,
) -> PeerSettings:
    """Read parameters of CrossSim 3 (Sandia), as far as they have a counterpart.

    Programming error and read noise of the generic devices and of those of Milo, Wan and
    Joshi become a `MeasuredArray` with the window from `Rmin` and `Rmax`; converters, sizes
    of arrays and the mapping become options; line resistance, bit slices of weights and of
    inputs become calls. Of products that are measured, those of `mvm` count.

    **Arguments:**

    - `parameters`: a `CrossSimParameters`, or the path of a file that `to_json` wrote, or
        what is in it. What is left out has CrossSim's default, which is ideal.

    **Returns:**

    `PeerSettings`; `without` names each term that has no counterpart.

    **Raises:**

    - `ValueError`: if the file is no JSON, if a term is no number where one is needed, or
        out of the range that it can have here.

    **Example:**

        >>> error = {"enable": True, "model": "NormalProportionalDevice", "magnitude": 0.05}
        >>> device = {"Rmin": 1e4, "Rmax": 1e6, "programming_error": error}
        >>> settings = sj.nn.from_crosssim({"xbar": {"device": device}})
        >>> window = settings.device.device
        >>> round(1e6 * window.g_min, 3), round(1e6 * window.g_max, 3)  # uS
        (1.0, 100.0)
        >>> matrix = sj.nn.program_matrix(
        ...     np.eye(4), settings.device, key=jr.key(0), **settings.options
        ... )
        >>> bool(matrix.error < 0.2)
        True
    """
    given = settings_of(_CALL, parameters)
    xbar = given.get("xbar")
    if isinstance(xbar, Mapping) and isinstance(xbar.get("xbar"), Mapping):
        given = {**given, "xbar": xbar["xbar"].get("default", {})}  # of one kind of array
    terms = Terms(given)
    without: dict[str, str] = {}
    device, window = _device(terms, without)
    options: dict[str, Any] = {"scaling": global_scale}
    calls: dict[str, dict[str, Any]] = {}
    _core(terms, options, calls, without)
    _converters(terms, options, calls, without, window)
    _array(terms, calls, without)
    without |= terms.rest(_IGNORED)
    return PeerSettings(device, options, calls, without)


def _device(terms: Terms, without: dict[str, str]) -> tuple[MeasuredArray, float]:
    """The technology, and the share of the largest conductance that its window is."""
    at = "xbar.device."
    number = lambda name, default: terms.number(_CALL, at + name, default)
    r_min, r_max = number("Rmin", 1000.0), number("Rmax", 10000.0)
    check_numbers(_CALL, POSITIVE, "It is in ohms.", Rmin=r_min, Rmax=r_max)
    g_max, g_min = 1 / r_min, 1 / r_max
    if terms.get(at + "infinite_on_off_ratio", False):
        g_min = 0.0
    window = published.window(g_min, g_max, number("Vread", 0.5))
    limits = {"g_min": -math.inf, "g_max": math.inf}
    if terms.get(at + "clip_conductance", False):
        limits = {"g_min": g_min, "g_max": g_max}
    ideal = ProgrammingNoise(published.independent(0.0))
    programming = _error(terms, at + "programming_error", g_max, limits, without)
    read = _error(terms, at + "read_noise", g_max, limits, without)
    for name in ("drift_error", "nonlinear_IV"):
        kind = terms.get(f"{at}{name}.model", "IdealDevice")
        if terms.get(f"{at}{name}.enable", False) and kind != "IdealDevice":
            without[at + name] = f"{kind}. `sedma_jax.noise_models` has drift and currents."
        for rest in ("magnitude", "lumped"):
            terms.get(f"{at}{name}.{rest}", 0)
    without |= terms.none_of({at + "time": 0}, "`sedma_jax.age` lets cells drift.")
    noise = None
    if read is not None:
        noise = StationaryReadNoise(
            deviation=read.deviation,
            distribution=read.distribution,
            g_min=read.g_min,
            g_max=read.g_max,
        )
    array = MeasuredArray(window, programming or ideal, None, noise)
    return array, (g_max - g_min) / g_max


def _error(
    terms: Terms, at: str, g_max: float, limits: dict[str, float], without: dict[str, str]
) -> ProgrammingNoise | None:
    """The law of an error of conductances, in siemens; None where there is none."""
    enabled = terms.get(at + ".enable", False)
    model = terms.get(at + ".model", "IdealDevice")
    size = terms.number(_CALL, at + ".magnitude", 0.0)
    terms.get(at + ".lumped", False)  # one draw for a sum: the same two moments
    if not enabled or model == "IdealDevice":
        return None
    if model in _DEVICES and at.endswith("programming_error"):
        return _DEVICES[model]
    if model.startswith("Uniform"):
        size, draw = size / math.sqrt(12), standard_uniform  # there it is the whole width
    else:
        draw = jr.normal
    law = model.removeprefix("Uniform").removeprefix("Normal")
    curves = {
        "IndependentDevice": lambda: published.independent(size * g_max),
        "ProportionalDevice": lambda: published.proportional(size),
        "InverseProportionalDevice": lambda: published.inverse_proportional(size, g_max),
    }
    if law == model or law not in curves:
        without[at] = f"{model}. `sedma_jax.devices.CATALOGUE` has published statistics."
        return None
    return ProgrammingNoise(curves[law](), draw, limits["g_min"], limits["g_max"])


def _core(
    terms: Terms,
    options: dict[str, Any],
    calls: dict[str, dict[str, Any]],
    without: dict[str, str],
) -> None:
    """Mapping of weights, and sizes of arrays."""
    rows, cols = (terms.number(_CALL, f"core.{n}_max", 1024) for n in ("rows", "cols"))
    size = terms.get("core.max_partition_size", (rows, cols))
    if rows and cols:
        options["array"] = tuple(int(side) for side in size)
    else:
        without["core.rows_max"] = "0, arrays without a limit. Pass `array=`."
    style = terms.get("core.style", "BALANCED")
    style = _STYLES.get(style, style)
    inner = terms.get("core.bit_sliced.style", "BALANCED")
    slices = terms.number(_CALL, "core.bit_sliced.num_slices", 2)
    bits = terms.number(_CALL, "xbar.device.cell_bits", 0)
    weight_bits = terms.number(_CALL, "core.weight_bits", 0)
    terms.get("core.offset.style", 1)
    kind = _STYLES.get(inner, inner) if style == "BITSLICED" else style
    options["mapping"] = offset if kind == "OFFSET" else differential
    if style == "BITSLICED":
        # The sign is one of the bits of a weight there.
        each = int(bits or math.ceil((weight_bits - 1) / slices))
        calls["program_bit_sliced"] = {"cell_bits": each, "slices": int(slices)}
    elif bits or weight_bits:
        without["core.weight_bits"] = (
            f"{weight_bits} and `cell_bits` {bits} on one array a weight. "
            "`sedma_jax.program_bit_sliced(slices=1)` rounds weights."
        )
    neutral = {
        "core.complex_matrix": False,
        "core.complex_input": False,
        "core.balanced.interleaved_posneg": False,
    }
    without |= terms.none_of(neutral)
    two_sided = terms.get("core.balanced.style", 1) in (2, "TWO_SIDED")
    if two_sided and kind == "BALANCED":
        without["core.balanced.style"] = "TWO_SIDED. One cell of a pair is at `g_min` here."
    subtracts = terms.get("core.balanced.subtract_current_in_xbar", True)
    if not subtracts and kind == "BALANCED":
        without["core.balanced.subtract_current_in_xbar"] = (
            "False. Currents of a pair are subtracted before conversion here."
        )
    _weights(terms, without)


def _weights(terms: Terms, without: dict[str, str]) -> None:
    at = "core.mapping.weights."
    percentile = terms.get(at + "percentile", 1.0)
    if percentile != 1.0:
        without[at + "percentile"] = f"{percentile}. The largest weight fills the window."
    for name in ("min", "max"):
        if terms.get(at + name, None) is not None:
            without[at + name] = "A fixed range. The largest weight fills the window here."
    for name in ("clipping", "percentile_mode"):
        terms.get(at + name, True)
    for side in ("row", "col"):
        for what in ("priority", "strategy"):
            terms.get(
                f"{at}{side}_partition_{what}", None
            )  # tiles here are full but the last


def _converters(
    terms: Terms,
    options: dict[str, Any],
    calls: dict[str, dict[str, Any]],
    without: dict[str, str],
    window: float,
) -> None:
    at = "xbar.dac.mvm."
    bits = int(terms.number(_CALL, at + "bits", 0))
    ideal = terms.get(at + "model", "IdealDAC") == "IdealDAC"
    sliced = terms.get(at + "input_bitslicing", False)
    width = terms.number(_CALL, at + "slice_size", 1)
    if bits and not ideal:
        options["dac"] = DAC(bits)
    if bits and not ideal and sliced:
        calls["bit_serial_matvec"] = {"bits": bits}
        if width != 1:
            without[at + "slice_size"] = f"{width}. A slice of the input is one bit here."
    if not terms.get(at + "signed", True) and bits and not ideal:
        without[at + "signed"] = "False. One of the bits is the sign here."
    clips = terms.get("core.mapping.inputs.mvm.clipping", False)
    low = terms.get("core.mapping.inputs.mvm.min", -1.0)
    high = terms.get("core.mapping.inputs.mvm.max", 1.0)
    terms.get("core.mapping.inputs.mvm.percentile", None)
    if clips or "dac" in options:
        without["core.mapping.inputs.mvm"] = (
            f"{low} to {high}. The largest magnitude of each vector is the range here."
        )
    at = "xbar.adc.mvm."
    bits = int(terms.number(_CALL, at + "bits", 0))
    model = terms.get(at + "model", "IdealADC")
    option = terms.get(at + "adc_range_option", "CALIBRATED")
    given = terms.get(at + "calibrated_range", [])
    signed = terms.get(at + "signed", True)
    neutral = {
        f"{at}{name}": 0.0
        for name in (
            "sigma_capacitor",
            "sigma_comparator",
            "sigma_C1",
            "sigma_C2",
            "sigma_Cpar",
        )
    }
    neutral |= {at + "stochastic_rounding": False, at + "gain_db": 100}
    found = terms.none_of(neutral)
    for name in (
        "symmetric_cdac",
        "split_cdac",
        "group_size",
        "adc_per_ibit",
        "weight_bits",
    ):
        terms.get(at + name, None)
    if not bits or model == "IdealADC":
        return
    without |= found
    full_scale = None
    option = _RANGES.get(option, option)
    flat = [side for side in given if isinstance(side, int | float)]
    if option == "CALIBRATED" and len(flat) == 2 and -flat[0] == flat[1]:
        full_scale = flat[1] / window  # units there are currents at the largest conductance
    elif option != "CALIBRATED" or given:
        without[at + "adc_range_option"] = (
            f"{option} {given or ''}. `sedma_jax.calibrated_adc` finds ranges from data."
        )
    if not signed:
        without[at + "signed"] = "False. One of the bits is the sign here."
    options["adc"] = ADC(bits, full_scale)


def _array(terms: Terms, calls: dict[str, dict[str, Any]], without: dict[str, str]) -> None:
    without |= terms.none_of({"xbar.array.Icol_max": 0})
    at = "xbar.array.parasitics."
    row, col = (terms.number(_CALL, f"{at}Rp_{n}", 0.0) for n in ("row", "col"))
    enabled = terms.get(at + "enable", False)
    neutral = {f"{at}Rp_{n}_terminal": 0 for n in ("row", "col")} | {
        at + "gate_input": False,
        at + "selected_rows": "top",
        at + "current_from_input": True,
    }
    found = terms.none_of(neutral)
    if enabled:
        calls["with_line_resistance"] = {"r_word": row, "r_bit": col}
        without |= found
