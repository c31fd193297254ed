"""The catalogue, and devices in files."""

import dataclasses
import json
from unittest.mock import MagicMock

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sedma_jax as sj
from sedma_jax._cli.main import main


def test_every_technology_has_a_source_with_a_year_and_a_device():
    assert set(sj.devices.PRESETS) < set(sj.devices.PULSED) < set(sj.devices.CATALOGUE)
    assert len(sj.devices.CATALOGUE) >= 20
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


# States, labels, R_on, on/off ratio, noise, volts and seconds, as the tables have them.
TABLES = {
    "taox-tio2": (102, 1.85, -1.79, 5e6, 2, 0.01, 3, -3, 40e-3, 10e-3),
    "pcmo": (50, 3.68, -6.76, 23e6, 6.84, 0.01, -2, 2, 1e-3, 1e-3),
    "ag-asi": (97, 2.4, -4.88, 26e6, 12.5, 0.035, 3.2, -2.8, 300e-6, 300e-6),
    "alox-hfo2": (40, 1.94, -0.61, 16.9e3, 4.43, 0.05, 0.9, -1, 100e-6, 100e-6),
    "hzo-fefet": (32, 1.75, None, 559.28e3, 45, 0.005, 3.65, -2.95, 75e-9, 75e-9),
}


@pytest.mark.parametrize("name", TABLES)
def test_published_tables_are_taken_as_they_are(name):
    states, up, down, r_on, ratio, noise, v_up, v_down, t_up, t_down = TABLES[name]
    device = sj.devices.named(name)
    # The tables give three digits.
    np.testing.assert_allclose(1 / device.g_max, r_on, rtol=5e-3)
    np.testing.assert_allclose(device.g_max / device.g_min, ratio, rtol=5e-3)
    assert (device.pulses_ltp, device.nonlinearity_ltp) == (states, up)
    assert down is None or device.nonlinearity_ltd == down
    assert device.sigma_c2c == noise
    have = (device.v_ltp, device.v_ltd, device.t_ltp, device.t_ltd)
    np.testing.assert_allclose(have, (v_up, v_down, t_up, t_down))


def label(u):
    """The label of a curvature: the largest distance from the diagonal."""
    x = np.linspace(0, 1, 200_001)
    return 10.101525 * np.max(np.expm1(-u * x) / np.expm1(-u) - x)


def test_a_ferroelectric_label_of_the_sign_of_potentiation_is_run_back():
    curve = sj.devices.HZO_FEFET.curve_ltd
    assert abs(label(-float(curve.curvature)) - 1.46) < 1e-4
    # From the top the first tenth of the pulses does less than the last.
    first, last = curve.covered(jnp.array([0.1, 0.9]))
    assert first < 0.1 < 1 - last


def test_the_lithium_device_takes_the_linear_steps_of_its_fit():
    """aihwkit: dw = 0.002 (1 - gamma w / bound), from -0.8276 to 1.1724, step by step."""
    step, low, high = 0.002, -0.8276, 1.1724
    device = sj.devices.LI_ECRAM
    for gamma, start, bound, label_of, count in (
        (0.1153, low, high, device.nonlinearity_ltp, device.pulses_ltp),
        (0.5085, high, low, -device.nonlinearity_ltd, device.pulses_ltd),
    ):
        w, path = start, [start]
        while (bound - w) * (bound - start) > 0:
            w += np.sign(bound - start) * step * (1 - gamma * w / bound)
            path.append(w)
        assert abs(len(path) - 1 - count) <= 2
        x = np.linspace(0, 1, len(path))
        height = np.max((np.array(path) - start) / (path[-1] - start) - x)
        # A step is a thousandth of the window: so is the error of the height.
        assert abs(10.101525 * height - label_of) < 10.101525 / 1000


def test_windows_hold_no_more_than_their_ends():
    device = sj.devices.named("jain-2019")
    np.testing.assert_allclose([1 / device.g_max, device.g_max / device.g_min], [6e3, 17])
    assert "placeholders" in sj.devices.CATALOGUE["jain-2019"].derived


SHAPED = dataclasses.replace(
    sj.devices.EPIRAM,
    nonlinearity_ltp=0.0,
    nonlinearity_ltd=0.0,
    curve_ltp=sj.kernels.TabulatedCurve([0.0, 0.3, 1.0], [0.0, 0.7, 1.0]),
    curve_ltd=sj.kernels.SoftBoundCurve(2.0, 1.5),
    cycle_noise=(1.0, 0.5),
)


@pytest.mark.parametrize("device", [*sj.devices.PULSED.values(), SHAPED])
def test_a_device_comes_back_from_its_file(tmp_path, device):
    sj.devices.save(device, tmp_path / "mine.json")
    back = sj.devices.load(tmp_path / "mine.json")
    assert jax.tree.structure(back) == jax.tree.structure(device)
    for one, other in zip(jax.tree.leaves(back), jax.tree.leaves(device), strict=True):
        np.testing.assert_array_equal(one, other)


MEASURED = {
    name: known.device
    for name, known in sj.devices.CATALOGUE.items()
    if isinstance(known.device, sj.noise_models.MeasuredArray)
}
TRAP = sj.kernels.TelegraphNoise(0.5, 0.1, 9.0, 9.0, 0.3, 0.3, levels=12)
MEASURED["own"] = sj.noise_models.MeasuredArray(
    SHAPED,
    sj.kernels.ProgrammingNoise(
        sj.noise_models.independent(1e-7),
        distribution=sj.kernels.standard_uniform,
        shift=sj.noise_models.proportional(0.01),
    ),
    sj.kernels.DriftInTurn((sj.kernels.LogarithmicRelaxation(-0.01, 0.005, 2.0), TRAP)),
)


@pytest.mark.parametrize("name", MEASURED)
def test_a_measured_array_comes_back_from_its_file(tmp_path, name):
    sj.devices.save(MEASURED[name], tmp_path / "mine.json")
    back = sj.devices.load(tmp_path / "mine.json")
    # The structure has the kinds, the distributions and what else is static.
    assert jax.tree.structure(back) == jax.tree.structure(MEASURED[name])
    parts = zip(jax.tree.leaves(back), jax.tree.leaves(MEASURED[name]), strict=True)
    for one, other in parts:
        np.testing.assert_array_equal(one, other)


def test_what_has_no_plain_form_is_not_saved(tmp_path):
    class Own(sj.kernels.AbstractCurve):
        def __call__(self, conductance):
            return conductance

    several = jax.tree.map(lambda v: jnp.stack([v, v]), sj.devices.EPIRAM)
    own = sj.noise_models.MeasuredArray(
        sj.devices.EPIRAM, sj.kernels.ProgrammingNoise(Own())
    )
    for model, words in ((several, "one `g_min`"), (own, "`Own`")):
        with pytest.raises(ValueError, match=words) as refused:
            sj.devices.save(model, tmp_path / "mine.json")
        assert "\n" not in str(refused.value) and not list(tmp_path.iterdir())


def test_devices_of_other_shapes_have_other_names():
    other = dataclasses.replace(SHAPED, cycle_noise=(1.0, 0.6))
    names = {sj.devices.name_of(d) for d in (SHAPED, other, sj.devices.EPIRAM)}
    assert len(names) == 3 and "epiram" in names


GOOD = "g_min = 1e-6\ng_max = 1e-5\npulses_ltp = 64\npulses_ltd = 64\n"


def test_toml_is_read(save):
    device = sj.devices.load(save("mine.toml", GOOD + "[curve_ltp]\nexponent = 0.5\n"))
    assert device.pulses_ltp == 64 and device.curve_ltp.exponent == 0.5


ARRAY = f"[device]\n{GOOD}[programming.deviation]\n"


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
        ("[programming]\n[device]\n" + GOOD, "`deviation` of `programming`"),
        (ARRAY + "kind = 'SoftBoundCurve'\n", "`kind` of `deviation` of `programming`"),
        (ARRAY + "kind = 'PowerCurve'\n", "`amplitude` of `deviation`"),
        (ARRAY + "kind = 'PolynomialCurve'\nreference = 1.0\ncoefficients = 3\n", "list"),
        ("[programming.deviation.below]\n" * 1 + "g_min = 3\n", "`device`"),
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
    array = tmp_path / "pcm.json"
    sj.devices.save(sj.noise_models.PCM, array)
    assert main([*words, "--device", str(array)]) == 2
    assert "a device with pulses" in capsys.readouterr().err
    device.write_text(GOOD + "colour = 3\n")
    assert main([*words, "--device", str(device)]) == 2
    assert "colour" in capsys.readouterr().err


def test_the_command_lists_all(capsys):
    assert main(["devices", "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)) == set(sj.devices.CATALOGUE)


def test_a_job_takes_a_file(save, capsys, tmp_path, monkeypatch):
    client = MagicMock()
    client.__enter__.return_value.submit.return_value = {"id": "one"}
    monkeypatch.setattr("sedma_jax._cli.job._opened", lambda options: client)
    np.save(tmp_path / "a.npy", np.eye(3))
    device = save("mine.toml", GOOD)
    words = ["job", "submit", str(tmp_path / "a.npy"), "--device", str(device)]
    assert main(words) == 0 and capsys.readouterr().out == "one\n"
    sent = client.__enter__.return_value.submit.call_args.kwargs["device"]
    assert eqx.tree_equal(sent, sj.devices.load(device))
    assert main([*words[:-1], str(save("wrong.toml", "colour = 3\n"))]) == 2
    assert "colour" in capsys.readouterr().err
