"""The catalogue, and devices in files."""

import dataclasses
import json

import jax
import numpy as np
import pytest

import sedma_jax as sj
from sedma_jax._cli.main import main


def test_every_technology_has_a_source_with_a_year_and_a_device():
    assert set(sj.devices.PRESETS) < set(sj.devices.CATALOGUE)
    for name, known in sj.devices.CATALOGUE.items():
        assert any(f"({year})" in known.source for year in range(2000, 2030)), name
        assert isinstance(known.device, sj.Device | sj.noise_models.MeasuredArray)
        assert sj.devices.named(name.upper().replace("-", "_")) is known.device
    with pytest.raises(ValueError, match="epiram"):
        sj.devices.named("unobtainium")


def test_the_published_arrays_are_all_there():
    devices = [known.device for known in sj.devices.CATALOGUE.values()]
    for value in vars(sj.noise_models).values():
        if isinstance(value, sj.noise_models.MeasuredArray):
            assert any(value is device for device in devices)


SHAPED = dataclasses.replace(
    sj.devices.EPIRAM,
    nonlinearity_ltp=0.0,
    nonlinearity_ltd=0.0,
    curve_ltp=sj.kernels.TabulatedCurve([0.0, 0.3, 1.0], [0.0, 0.7, 1.0]),
    curve_ltd=sj.kernels.SoftBoundCurve(2.0, 1.5),
    cycle_noise=(1.0, 0.5),
)


@pytest.mark.parametrize("device", [*sj.devices.PRESETS.values(), SHAPED])
def test_a_device_comes_back_from_its_file(tmp_path, device):
    sj.devices.save(device, tmp_path / "mine.json")
    back = sj.devices.load(tmp_path / "mine.json")
    assert jax.tree.structure(back) == jax.tree.structure(device)
    for one, other in zip(jax.tree.leaves(back), jax.tree.leaves(device), strict=True):
        np.testing.assert_array_equal(one, other)


def test_devices_of_other_shapes_have_other_names():
    other = dataclasses.replace(SHAPED, cycle_noise=(1.0, 0.6))
    names = {sj.devices.name_of(d) for d in (SHAPED, other, sj.devices.EPIRAM)}
    assert len(names) == 3 and "epiram" in names


GOOD = "g_min = 1e-6\ng_max = 1e-5\npulses_ltp = 64\npulses_ltd = 64\n"


def test_toml_is_read(save):
    device = sj.devices.load(save("mine.toml", GOOD + "[curve_ltp]\nexponent = 0.5\n"))
    assert device.pulses_ltp == 64 and device.curve_ltp.exponent == 0.5


@pytest.mark.parametrize(
    "text, words",
    [
        (GOOD + "colour = 3\n", "`colour`"),
        (GOOD.replace("g_max", "# "), "`g_max`"),
        (GOOD + "sigma_c2c = 'x'\n", "`sigma_c2c` to be a number"),
        (GOOD + "sigma_c2c = true\n", "`sigma_c2c` to be a number"),
        (GOOD + "sigma_c2c = -1.0\n", "`sigma_c2c`"),
        (GOOD + "curve_ltp = 3\n", "`curve_ltp`"),
        (GOOD + "[curve_ltp]\npulses = [0.0, 1.0]\n", "`curve_ltp`"),
        ("g_min = ", "TOML"),
        ("#" * 2**20 + "\n" + GOOD, "mine.toml"),
    ],
)
def test_other_files_are_refused_in_one_line(save, text, words):
    with pytest.raises(ValueError, match=words) as refused:
        sj.devices.load(save("mine.toml", text))
    assert "\n" not in str(refused.value)


def test_a_run_takes_a_file(save, capsys, tmp_path):
    matrix = save("a.mtx", "%%MatrixMarket matrix array real general\n2 2\n1\n2\n3\n4\n")
    device = save("mine.toml", GOOD)
    words = ["run", str(matrix), "--array", "4x4", "--json", "--out", str(tmp_path / "o")]
    assert main([*words, "--device", str(device)]) == 0
    assert json.loads(capsys.readouterr().out)["device"].endswith("mine.toml")
    device.write_text(GOOD + "colour = 3\n")
    assert main([*words, "--device", str(device)]) == 2
    assert "colour" in capsys.readouterr().err


def test_the_command_lists_all(capsys):
    assert main(["devices", "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)) == set(sj.devices.CATALOGUE)
