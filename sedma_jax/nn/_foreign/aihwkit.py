"""An `RPUConfig` of aihwkit, as far as it has a counterpart."""

import dataclasses
import math
import os
from collections.abc import Mapping
from typing import Any

from ... import noise_models as published
from ..._crossbar.converters import ADC, DAC
from ...kernels import column_scale, shown, tile_scale
from ...noise_models import MeasuredArray
from .peer_settings import PeerSettings, Terms, settings_of

_CALL = "sedma_jax.nn.from_aihwkit"
# Statistics by the class of a noise model; of the last two by an argument of it.
_MODELS = {
    "PCMLikeNoiseModel": published.PCM,
    "ReRamWan2022NoiseModel": published.WAN_2022,
    "ReRamCMONoiseModel": published.CMO_HFOX,
    "HermesNoiseModel": published.HERMES_2,
}
# What `forward` has no counterpart for, at the value at which it does nothing.
_NEUTRAL = {
    "mv_type": "ONE_PASS",
    "inp_noise": 0.0,
    "inp_sto_round": False,
    "inp_asymmetry": 0.0,
    "out_noise": 0.0,
    "out_noise_std": 0.0,
    "out_sto_round": False,
    "out_scale": 1.0,
    "out_asymmetry": 0.0,
    "bound_management": "NONE",
    "noise_management": "ABS_MAX",
    "nm_thres": 0.0,
    "out_nonlinearity": 0.0,
    "slope_calibration": 0.0,
    "v_offset_std": 0.0,
    "r_series": 0.0,
    "w_read_asymmetry_dtod": 0.0,
}
_DEFAULTS = {  # of `IOParameters`, for what a mapping leaves out
    "out_noise": 0.06,
    "bound_management": "ITERATIVE",
}
_WHY = {
    "out_noise": "Of cells: `sedma_jax.with_read_noise`.",
    "bound_management": "A product is read once; `sedma_jax.calibrated_adc` finds ranges.",
    "noise_management": "The largest magnitude of each vector is the range of inputs.",
}
# Of training, of the classes behind a configuration, and of how it is computed.
_IGNORED = ("backward", "update", "modifier", "clip", "remap", "pre_post.input_range.")
_IGNORED += ("runtime", "tile_class", "tile_array_class", "type", "forward.type")
_IGNORED += ("mapping.type", "mapping.weight_scaling_lr", "noise_model.g_converter")
_IGNORED += ("forward.v_offset_w_min", "forward.max_bm", "forward.bm_test", "drift_")
_IGNORED += ("forward.out_nonlinearity_std", "forward.ir_drop_", "device.type")


def from_aihwkit(config: Any | Mapping[str, Any] | str | os.PathLike[str]) -> PeerSettings:
    """Read an `RPUConfig` of aihwkit (IBM), as far as it has a counterpart.

    The noise models of PCM, of Wan et al., of CMO/HfOx and of HERMES become the same
    statistics here; `inp_res` and `out_res` become converters with as many steps, with the
    range of `out_bound`; tile sizes become arrays, and columnwise scaling of weights
    `column_scale`. Drift compensation becomes an option of `nn.age`, in `calls`.

    **Arguments:**

    - `config`: an `InferenceRPUConfig` or another configuration, of which attributes are
        read; or a mapping of such attributes, or the path of a JSON file with one. There a
        noise model is `{"type": "PCMLikeNoiseModel", "g_max": 25.0}`, or its name. What is
        left out has aihwkit's default.

    **Returns:**

    `PeerSettings`; `without` names each term that has no counterpart, such as `out_noise`,
    which is 0.06 by default.

    **Raises:**

    - `ValueError`: if the file is no JSON, if a term is no number where one is needed, or
        out of the range that it can have here.

    **Example:**

        >>> forward = {"inp_res": 254, "out_res": 510, "out_noise": 0.0}
        >>> settings = sj.nn.from_aihwkit(
        ...     {"forward": forward, "noise_model": "PCMLikeNoiseModel"}
        ... )
        >>> settings.device == sj.noise_models.PCM
        True
        >>> sorted(settings.without)  # weights fill the window; products are read once
        ['forward.bound_management', 'mapping.weight_scaling_omega']
        >>> settings.options["dac"].bits, settings.options["adc"].bits  # 2**8 - 2 steps
        (8, 9)
    """
    terms = Terms(settings_of(_CALL, config))
    without: dict[str, str] = {}
    options: dict[str, Any] = {}
    device = _device(terms, without)
    _forward(terms, options, without)
    _mapping(terms, options, without)
    calls: dict[str, dict[str, Any]] = {}
    compensation = terms.get(
        "drift_compensation.type",
        terms.get("drift_compensation", "GlobalDriftCompensation"),
    )
    if compensation == "GlobalDriftCompensation":
        if device.drift is not None:
            calls["nn.age"] = {"compensation_reads": 256}
    elif compensation is not None and compensation != "None":
        without["drift_compensation"] = f"{shown(compensation)}. One factor a layer is."
    without |= terms.rest(_IGNORED)
    return PeerSettings(device, options, calls, without)


def _device(terms: Terms, without: dict[str, str]) -> MeasuredArray:
    """The statistics that a noise model has here."""
    at = "noise_model."
    name = terms.get(at + "type", terms.get("noise_model", "PCMLikeNoiseModel"))
    for part in ("prog_coeff", "prog_coeff_g_max_reference", "t_read", "t_0"):
        terms.get(at + part, None)
    scales = {f"{at}{part}_scale": 1.0 for part in ("prog_noise", "read_noise", "drift")}
    without |= terms.none_of(scales, "Statistics are as they were measured.")
    if name not in _MODELS:
        without["noise_model"] = f"{shown(name)}. `sedma_jax.devices.CATALOGUE` has others."
        name = "PCMLikeNoiseModel"
    found = _MODELS[name]
    if name == "HermesNoiseModel" and terms.number(_CALL, at + "num_devices", 2) == 1:
        found = published.HERMES_1
    if name == "ReRamCMONoiseModel":
        if terms.number(_CALL, at + "acceptance_range", 0.2) == 0.2:  # percent
            fine = published.CMO_HFOX_PROGRAMMING_FINE
            found = dataclasses.replace(found, programming=fine)
    wanted = 1e6 * float(found.device.g_max)
    g_max = terms.number(_CALL, at + "g_max", wanted)
    if not math.isclose(g_max, wanted, rel_tol=1e-6):
        without[at + "g_max"] = f"{g_max} uS. Here {wanted:.4g}, as measured."
    kind = terms.get("device.type", terms.get("device", "IdealDevice"))
    if kind not in ("IdealDevice", "FloatingPointDevice"):
        without["device"] = (
            f"{shown(kind)}, pulses without a window in siemens. `sedma_jax.devices` has "
            "devices with pulses."
        )
        for path in terms.given:
            if path.startswith("device."):
                terms.get(path, None)
    return found


def _forward(terms: Terms, options: dict[str, Any], without: dict[str, str]) -> None:
    """Converters, and what is beside them."""
    at = "forward."
    perfect = terms.get(at + "is_perfect", False)
    found: dict[str, str] = {}
    for name, idle in _NEUTRAL.items():
        value = terms.get(at + name, _DEFAULTS.get(name, idle))
        if value != idle:
            found[at + name] = " ".join([f"{shown(value)}.", _WHY.get(name, "")]).strip()
    noise = terms.get(at + "w_noise", 0.0)
    if noise and terms.get(at + "w_noise_type", "NONE") != "NONE":
        found[at + "w_noise"] = f"{noise}. Of cells: `sedma_jax.with_read_noise`."
    drop = terms.number(_CALL, at + "ir_drop", 0.0)
    if drop:
        ratio = terms.number(_CALL, at + "ir_drop_g_ratio", 1 / 0.35 / 5e-6)
        ohms = drop / ratio / 25e-6
        found[at + "ir_drop"] = (
            f"{drop}. `sedma_jax.with_line_resistance` solves wires exactly; of cells up "
            f"to 25 uS these are {ohms:.3g} ohms between cells."
        )
    inputs = _steps(terms, at + "inp_res", 1 / 126)
    outputs = _steps(terms, at + "out_res", 1 / 510)
    low = terms.number(_CALL, at + "inp_bound", 1.0)
    high = terms.number(_CALL, at + "out_bound", 12.0)
    if perfect:
        return
    without |= found
    if low != 1.0:
        without[at + "inp_bound"] = f"{low}. The largest input of a vector drives fully."
    for name, steps in (("inp_res", inputs), ("out_res", outputs)):
        bits = None if steps is None else _bits(steps)
        if steps is not None and bits is None:
            without[at + name] = f"{steps:g} steps. Converters have `2**bits - 2` here."
        elif bits is not None and name == "inp_res":
            options["dac"] = DAC(bits)
        elif bits is not None:
            options["adc"] = ADC(bits, high if high > 0 else None)


def _steps(terms: Terms, path: str, default: float) -> float | None:
    """Steps over the whole range, given as a number of them or as its inverse."""
    value = terms.number(_CALL, path, default)
    if value <= 0:
        return None
    return value if value > 1 else 1 / value


def _bits(steps: float) -> int | None:
    """Bits of a converter with as many steps, `2**bits - 2`; None if there is none."""
    bits = math.log2(steps + 2)
    known = math.isclose(bits, round(bits), abs_tol=1e-6) and 2 <= round(bits) <= 24
    return round(bits) if known else None


def _mapping(terms: Terms, options: dict[str, Any], without: dict[str, str]) -> None:
    at = "mapping."
    rows = terms.number(_CALL, at + "max_input_size", 512)
    cols = terms.number(_CALL, at + "max_output_size", 512)
    if rows and cols:
        options["array"] = int(rows), int(cols)
    else:
        without[at + "max_input_size"] = "0, tiles without a limit. Pass `array=`."
    columns = terms.get(at + "weight_scaling_columnwise", False)
    options["scaling"] = column_scale if columns else tile_scale
    omega = terms.number(_CALL, at + "weight_scaling_omega", 0.0)
    if omega != 1.0:
        without[at + "weight_scaling_omega"] = (
            f"{omega}. The largest weight fills the window, as at 1."
        )
    neutral = {
        at + "digital_bias": True,
        at + "learn_out_scaling": False,
        at + "out_scaling_columnwise": False,
    }
    without |= terms.none_of(neutral)
