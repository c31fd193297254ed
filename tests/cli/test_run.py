import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import scipy.sparse
from tolerances import gamma

from sedma_jax._cli.main import main
from sedma_jax._files.load import load_matrix

ROOT = Path(__file__).parents[2]
BCSSTK02 = str(ROOT / "data" / "bcsstk02.mtx")
FIELDS = {
    *("shape", "nnz", "device", "partitions", "memory_efficiency", "lambda", "pulses"),
    *("relative_l2_raw", "relative_l2_corrected", "relative_linf_raw"),
    *("relative_linf_corrected", "write_energy_j", "write_latency_s", "seconds"),
}


def run(capsys, *arguments):
    code = main(["run", *arguments])
    out, err = capsys.readouterr()
    return code, out, err


def test_json_has_the_promised_fields_and_nothing_faked(capsys):
    code, out, err = run(capsys, BCSSTK02, "--json", "--seed", "3")
    record = json.loads(out)
    assert (code, err) == (0, "")
    assert FIELDS <= record.keys()
    assert not {"cid", "peers", "manifests"} & record.keys()
    assert record["shape"] == [66, 66]
    assert record["nnz"] == 4356
    assert record["relative_l2_corrected"] < record["relative_l2_raw"] < 0.1
    assert record["memory_efficiency"] == 66 * 66 / 256**2
    again = json.loads(run(capsys, BCSSTK02, "--json", "--seed", "3")[1])
    for field in FIELDS - {"seconds"}:
        assert again[field] == record[field]


def test_all_devices_in_a_table_and_files(capsys, tmp_path):
    plot, out = tmp_path / "errors.png", tmp_path / "results"
    code, text, _ = run(
        capsys, BCSSTK02, "--device", "all", "--out", str(out), "--plot", str(plot)
    )
    assert code == 0
    for name in ("ag-asi", "alox-hfo2", "epiram", "taox-hfox"):
        assert name in text
    runs = json.loads((out / "result.json").read_text())["runs"]
    assert all(r["relative_l2_corrected"] < r["relative_l2_raw"] for r in runs)
    products = np.load(out / "y.npy")
    assert products.shape == (4, 66)
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["errors.png", "results"]


def test_every_format_gives_the_same_product(capsys, tmp_path):
    from safetensors.numpy import save_file

    A = load_matrix(ROOT / "data" / "west0067.mtx")
    x = np.linspace(0, 1, 67)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "a.npy", A.toarray())
    scipy.sparse.save_npz(tmp_path / "a.npz", A)
    save_file({"a": A.toarray()}, tmp_path / "a.safetensors")
    scipy.io.mmwrite(tmp_path / "a.mtx", A)
    products = []
    for name in ("a.npy", "a.npz", "a.safetensors", "a.mtx"):
        arguments = (str(tmp_path / name), "--vector", str(tmp_path / "x.npy"))
        code, _, err = run(capsys, *arguments, "--out", str(tmp_path / "out"))
        assert (code, err) == (0, "")
        products.append(np.load(tmp_path / "out" / "y.npy"))
    # A sparse file has fewer tiles side by side, whose products round elsewhere.
    bound = gamma(200, np.float32) * np.max(np.abs(A) @ np.abs(x))
    for product in products[1:]:
        np.testing.assert_allclose(product, products[0], rtol=0, atol=bound)
    error = np.linalg.norm(products[0] - A @ x) / np.linalg.norm(A @ x)
    assert error < 0.01


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["/no/such/file.mtx"], "No such file"),
        ([BCSSTK02, "--device", "unobtainium"], "--device"),
        ([BCSSTK02, "--lambda", "-1"], "not negative"),
        ([BCSSTK02, "--array", "0x4"], "256x256"),
        ([BCSSTK02, "--arrays", "0"], "arrays >= 1"),
        ([BCSSTK02, "--vector", BCSSTK02], "vector"),
        ([BCSSTK02, "--slices", "65"], "slices >= 1 and <= 64"),
        ([BCSSTK02, "--plot", "no/such/folder.png"], "folder that exists"),
        ([BCSSTK02, "--checkpoint", "no/such/file"], "folder that exists"),
        ([], "MATRIX"),
    ],
)
def test_bad_usage_is_one_line_and_exit_status_two(capsys, tmp_path, arguments, message):
    out = tmp_path / "out"
    try:
        code = main(["run", *arguments, "--out", str(out), "--json"])
    except SystemExit as stop:
        code = stop.code
    printed, err = capsys.readouterr()
    assert code == 2
    assert printed == ""
    assert message in err
    assert err.startswith("sedma: ")
    assert err.count("\n") == 1
    assert not out.exists()


def test_a_vector_that_does_not_fit(capsys, tmp_path):
    np.save(tmp_path / "x.npy", np.ones(65))
    code, out, err = run(capsys, BCSSTK02, "--vector", str(tmp_path / "x.npy"))
    assert (code, out) == (2, "")
    assert "needs 66 entries" in err
    np.save(tmp_path / "x.npy", np.full(66, np.inf))
    code, _, err = run(capsys, BCSSTK02, "--vector", str(tmp_path / "x.npy"))
    assert code == 2
    assert "finite" in err


def test_a_folder_that_cannot_be_made_is_refused_before_the_work(capsys, tmp_path):
    (tmp_path / "out").write_text("in the way")
    code, out, err = run(capsys, BCSSTK02, "--json", "--out", str(tmp_path / "out"))
    assert (code, out) == (2, "")
    assert err.startswith("sedma: `--out`") and err.count("\n") == 1


def test_devices(capsys):
    assert main(["devices", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["epiram"]["g_max"] == 1.2345679e-5
    assert main(["devices"]) == 0
    assert "pulses_ltp" in capsys.readouterr().out


def test_a_terminal_sees_progress_and_a_pipe_does_not(tmp_path):
    np.save(tmp_path / "a.npy", np.random.default_rng(0).normal(size=(300, 300)))
    command = [sys.executable, "-m", "sedma_jax._cli", "run", str(tmp_path / "a.npy")]
    read, write = pty.openpty()
    done = subprocess.Popen(
        [*command, "--json"],
        stdout=subprocess.PIPE,
        stderr=write,
        env=os.environ | {"TERM": "xterm", "COLUMNS": "120"},
        cwd=tmp_path,
    )
    os.close(write)
    seen = b""
    while True:
        try:
            part = os.read(read, 4096)
        except OSError:
            break
        if not part:
            break
        seen += part
    out = done.communicate()[0]
    os.close(read)
    assert done.returncode == 0
    assert json.loads(out)["partitions"] == 4
    assert b"programming epiram" in seen
    silent = subprocess.run([*command, "--json"], capture_output=True, cwd=tmp_path)
    assert (silent.returncode, silent.stderr) == (0, b"")


@pytest.mark.slow
def test_a_killed_run_goes_on_from_its_checkpoint(tmp_path):
    scipy.io.mmwrite(
        tmp_path / "a.mtx", scipy.sparse.random_array((900, 900), density=0.05, rng=0)
    )
    job = tmp_path / "job.npz"

    def command(*more):
        sedma = [sys.executable, "-m", "sedma_jax._cli", "run", str(tmp_path / "a.mtx")]
        return [*sedma, "--array", "16x16", "--json", "--seed", "2", *more]

    whole = subprocess.run(command("--stream"), capture_output=True, text=True, check=True)
    with subprocess.Popen(
        command("--checkpoint", str(job)), stdout=subprocess.DEVNULL
    ) as killed:
        # Whole after each chunk: a file that is there has some tiles, and not yet all.
        while not job.exists():
            assert killed.poll() is None
        killed.send_signal(signal.SIGKILL)
    with np.load(job) as file:
        done = int(file["tiles"])
    record = json.loads(whole.stdout)
    assert 0 < done < record["partitions"] <= 57**2
    seen = subprocess.run(
        command("--checkpoint", str(job)), capture_output=True, text=True, check=True
    )
    resumed = json.loads(seen.stdout)
    assert {**resumed, "seconds": None} == {**record, "seconds": None}
    other = [*command("--checkpoint", str(job)), "--lambda", "0.5", "--array", "8x8"]
    refused = subprocess.run(other, capture_output=True, text=True)
    assert refused.returncode == 2
    assert refused.stderr.startswith("sedma: `checkpoint` needs to be of this very job.")


def test_what_is_not_streamed_is_refused(capsys, tmp_path):
    for arguments in (
        ["--stream", "--slices", "2"],
        ["--checkpoint", str(tmp_path / "job"), "--device", "all"],
    ):
        code, out, err = run(capsys, BCSSTK02, *arguments)
        assert (code, out) == (2, "") and err.startswith("sedma: ")
