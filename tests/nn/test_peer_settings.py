"""Settings of aihwkit and CrossSim: terms with a counterpart, and those without."""

import dataclasses
import enum
import json

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import sedma_jax as sj

KEY = jr.key(0)


class Bounds(enum.Enum):
    NONE = "None"
    ITERATIVE = "Iterative"


@dataclasses.dataclass
class IOParameters:
    inp_res: float = 1 / (2**7 - 2)
    out_res: float = 1 / (2**9 - 2)
    out_bound: float = 12.0
    out_noise: float = 0.06
    bound_management: Bounds = Bounds.ITERATIVE
    is_perfect: bool = False


@dataclasses.dataclass
class MappingParameter:
    max_input_size: int = 512
    max_output_size: int = 512
    weight_scaling_omega: float = 0.0
    weight_scaling_columnwise: bool = False


class PCMLikeNoiseModel:
    def __init__(self, g_max=25.0, drift_scale=1.0):
        self.g_max, self.drift_scale = g_max, drift_scale


class GlobalDriftCompensation:
    pass


@dataclasses.dataclass
class InferenceRPUConfig:
    """The attributes of aihwkit's own, as its sources have them."""

    forward: IOParameters = dataclasses.field(default_factory=IOParameters)
    mapping: MappingParameter = dataclasses.field(default_factory=MappingParameter)
    noise_model: object = dataclasses.field(default_factory=PCMLikeNoiseModel)
    drift_compensation: object = dataclasses.field(default_factory=GlobalDriftCompensation)


def test_an_inference_configuration_of_aihwkit():
    settings = sj.nn.from_aihwkit(InferenceRPUConfig())
    assert settings.device is sj.noise_models.PCM
    adc, dac = settings.options["adc"], settings.options["dac"]
    # 126 steps over the whole range, 2**7 - 2, and 510 up to twelve cells.
    assert (dac.bits, adc.bits, adc.full_scale) == (7, 9, 12.0)
    assert settings.options["array"] == (512, 512)
    assert settings.options["scaling"] is sj.tile_scale
    assert settings.calls == {"nn.age": {"compensation_reads": 256}}
    assert set(settings.without) == {
        "forward.out_noise",
        "forward.bound_management",
        "mapping.weight_scaling_omega",
    }
    assert settings.without["forward.out_noise"].startswith("0.06")


def test_every_term_without_a_counterpart_is_named():
    config = InferenceRPUConfig(
        IOParameters(1 / 100, -1, 3.0, 0.0, Bounds.NONE),
        MappingParameter(64, 32, 1.0, True),
        PCMLikeNoiseModel(30.0, 2.0),
        None,
    )
    settings = sj.nn.from_aihwkit(config)
    assert set(settings.without) == {
        "forward.inp_res",
        "noise_model.g_max",
        "noise_model.drift_scale",
    }
    assert "100 steps" in settings.without["forward.inp_res"]
    assert settings.options == {"array": (64, 32), "scaling": sj.column_scale}
    perfect = InferenceRPUConfig(IOParameters(is_perfect=True))
    assert not any("forward" in term for term in sj.nn.from_aihwkit(perfect).without)


def test_a_json_file_for_aihwkit(tmp_path):
    path = tmp_path / "rpu.json"
    record = {
        "forward": {"out_noise": 0.0, "bound_management": "NONE", "ir_drop": 1.0},
        "mapping": {"weight_scaling_omega": 1.0},
        "noise_model": {"type": "HermesNoiseModel", "num_devices": 1},
        "device": {"type": "SoftBoundsDevice", "dw_min": 0.01},
        "noise_mdoel": "a slip",
    }
    path.write_text(json.dumps(record))
    settings = sj.nn.from_aihwkit(path)
    assert settings.device is sj.noise_models.HERMES_1
    # 0.35 ohms between cells of 5 uS, in units of cells of 25 uS: a fifth of that.
    assert "0.07 ohms" in settings.without.pop("forward.ir_drop")
    assert set(settings.without) == {"device", "noise_mdoel"}


DEVICE = {
    "Rmin": 1e4,
    "Rmax": 1e6,
    "programming_error": {
        "enable": True,
        "model": "NormalProportionalDevice",
        "magnitude": 0.05,
    },
    "read_noise": {
        "enable": True,
        "model": "UniformIndependentDevice",
        "magnitude": 0.12,
    },
}


def crosssim(device=DEVICE, core=None, **xbar):
    return {"core": core or {}, "xbar": {"device": device, **xbar}}


def test_a_device_of_crosssim_errs_as_there():
    settings = sj.nn.from_crosssim(crosssim(core={"rows_max": 64, "cols_max": 32}))
    assert settings.without == {} and settings.calls == {}
    g = jnp.full((200, 200), 5e-5)
    drawn = sj.kernels.program_noise(settings.device.programming, g, key=KEY)
    n = g.size
    assert abs(np.std(drawn) / 5e-5 - 0.05) < 4.9 * 0.05 / np.sqrt(2 * n)
    seen = sj.kernels.read_noise(settings.device.read, g, 0.0, key=KEY)
    # There the magnitude is the whole width, in units of the largest conductance.
    assert np.max(np.abs(seen - g)) <= 0.06 * 1e-4
    assert np.max(np.abs(seen - g)) > 0.0599 * 1e-4
    crossbar = sj.program_exactly(np.eye(40), settings.device.device, array=(64, 32))
    noisy = sj.perturb(crossbar, settings.device.programming, key=KEY)
    assert noisy.conductance.min() < 1e-6  # nothing is clipped unless it says so
    assert settings.options == {
        "array": (64, 32),
        "scaling": sj.global_scale,
        "mapping": sj.differential,
    }


def test_arrays_and_converters_of_crosssim(tmp_path):
    parts = crosssim(
        {**DEVICE, "cell_bits": 2, "time": 3600, "clip_conductance": True},
        {"style": 2, "weight_bits": 9, "bit_sliced": {"style": 3, "num_slices": 4}},
        array={"parasitics": {"enable": True, "Rp_row": 1.5, "Rp_col": 0.5}},
        adc={"mvm": {"model": "RampADC", "bits": 8, "calibrated_range": [-9.9, 9.9]}},
        dac={"mvm": {"model": "SignMagnitudeDAC", "bits": 6, "input_bitslicing": True}},
    )
    parts["xbar"]["adc"]["mvm"]["sigma_capacitor"] = 0.1
    parts["xbar"]["array"]["parasitics"]["gate_input"] = True
    parts["simulation"] = {"useGPU": True}
    path = tmp_path / "parameters.json"
    path.write_text(json.dumps(parts))
    settings = sj.nn.from_crosssim(path)
    assert settings.calls == {
        "program_bit_sliced": {"cell_bits": 2, "slices": 4},
        "bit_serial_matvec": {"bits": 6},
        "with_line_resistance": {"r_word": 1.5, "r_bit": 0.5},
    }
    assert settings.options["mapping"] is sj.offset
    # Units there are currents at the largest conductance; the window is 99 % of it.
    np.testing.assert_allclose(settings.options["adc"].full_scale, 10.0)
    assert set(settings.without) == {
        "xbar.device.time",
        "core.mapping.inputs.mvm",
        "xbar.adc.mvm.sigma_capacitor",
        "xbar.array.parasitics.gate_input",
    }


def test_the_published_devices_of_crosssim():
    for model, name in (("RRAMMilo", "milo-2021"), ("RRAMWan", "wan-2022-cubic")):
        error = {"enable": True, "model": model}
        found = sj.nn.from_crosssim(crosssim({"programming_error": error}))
        wanted = sj.devices.CATALOGUE[name].device.programming
        assert found.device.programming is wanted and not found.without
    error = {"enable": True, "model": "SONOS"}
    found = sj.nn.from_crosssim(crosssim({"programming_error": error}))
    assert list(found.without) == ["xbar.device.programming_error"]


REFUSED = [
    (sj.nn.from_aihwkit, "none.json", "No such file"),
    (sj.nn.from_aihwkit, 3, "needs settings"),
    (sj.nn.from_aihwkit, {"forward": {"inp_res": "x"}}, "`forward.inp_res` to be a number"),
    (sj.nn.from_crosssim, {"xbar": {"device": {"Rmin": True}}}, "`xbar.device.Rmin`"),
    (sj.nn.from_crosssim, {"xbar": {"device": {"Rmin": 2e4}}}, "g_min"),
    (sj.nn.from_crosssim, {"xbar": {"device": {"Rmin": 0}}}, "`Rmin`"),
]


@pytest.mark.parametrize("call, given, said", REFUSED)
def test_bad_settings_are_refused_in_one_line(call, given, said):
    with pytest.raises(ValueError) as caught:
        call(given)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_a_file_that_is_no_json(tmp_path):
    path = tmp_path / "settings.json"
    for content in ("x: 1", "[1]"):
        path.write_text(content)
        with pytest.raises(ValueError, match="needs"):
            sj.nn.from_crosssim(path)
