"""An end-to-end run whose later stages fail, and what goes on from it."""

import argparse
import dataclasses
import json
import shutil

import numpy as np
import pytest
from comm_nodes import nodes
from control_plane import TOUR as WORKFLOW, kubeconfig

import sedma_jax as sj
from sedma_jax._cli._run.resume import inputs_of, stages_of
from sedma_jax._cli.main import main

STAGES = ["load", "open", "classify", "recall", "plan", "program", "correct", "learn"]


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """`sedma run` of one small matrix, with a memory of this test."""
    monkeypatch.setenv("SEDMA_MEMORY", f"sqlite:///{tmp_path / 'memory.db'}")
    np.save(tmp_path / "A.npy", np.eye(12))

    def run(*arguments):
        status = main(
            ["run", str(tmp_path / "A.npy"), "--json", "--end-to-end", *map(str, arguments)]
        )
        shown = capsys.readouterr()
        return status, json.loads(shown.out) if shown.out else None, shown.err

    return run


def files(folder):
    """All that a run wrote, but its record."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    kept = [path for path in paths if path.name != "result.json"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in kept}


def stages(record):
    return [entry["stage"] for entry in record["trace"]]


@pytest.mark.slow
def test_a_run_goes_on_after_peers_were_out_of_reach(run, tmp_path):
    nobody = sj.comm.agent_id("nobody", "0123456789abcdef of this test alone")
    nobody = f"/ip4/127.0.0.1/tcp/9/p2p/{nobody}"
    out = tmp_path / "out"
    status, first, err = run("--out", out, "--peers", nobody)
    assert status == 1 and f"--resume {out}" in err
    assert stages(first) == [*STAGES, "publish", "deploy"]
    before = files(out)
    shutil.copytree(out, tmp_path / "copy")
    with nodes(2) as opened:
        peers = [v for n in opened for v in ("--peers", n.addresses[0])]
        status, second, err = run("--resume", out, *peers)
    assert (status, err) == (0, "")
    # Nothing was programmed again, and the plan of the first run stands.
    assert stages(second) == [*stages(first), "load", "resume", "publish"]
    assert second["trace"][: len(first["trace"])] == first["trace"]
    starts = [entry["start"] for entry in second["trace"]]
    assert starts == sorted(starts)
    assert files(out) == before
    assert second["cid"] and second["failed"] == {} and second["peers"]
    changed = {"cid", "peers", "publish_latency_ms", "failed", "seconds", "trace"}
    for field in first.keys() - changed - {"delivery"}:
        assert second[field] == first[field]
    assert json.loads((out / "result.json").read_text()) == second
    # There is nothing left to do, and nothing is done.
    status, third, _ = run("--resume", out)
    assert status == 0 and third["cid"] == second["cid"]
    assert stages(third) == [*stages(second), "load", "resume"]
    # What it is made from must be what it was.
    for arguments, said in (
        (("--seed", "1"), "seed: 0 there, 1 here"),
        (("--device", "taox-hfox"), "device: epiram there, taox-hfox here"),
        (("--float64",), "float64: false there, true here"),
    ):
        status, record, err = run("--resume", tmp_path / "copy", *arguments)
        assert (status, record) == (2, None) and said in err
    np.save(tmp_path / "x.npy", np.ones(12))
    assert "vector:" in run("--resume", out, "--vector", tmp_path / "x.npy")[2]
    np.save(tmp_path / "A.npy", 2 * np.eye(12))
    status, _, err = run("--resume", out)
    assert status == 2 and "matrix:" in err and "vector:" not in err


@pytest.mark.slow
def test_a_run_is_applied_and_goes_on_after_the_server_refused(run, plane, save, tmp_path):
    config = save("config.json", json.dumps(kubeconfig(plane.server.url)))
    out, workflow = tmp_path / "out", save("tour.yaml", WORKFLOW)
    refuse = lambda method, path, query: method == "PATCH"
    plane.server.faults.append([refuse, 403, 1, "front is forbidden"])
    cluster = ("--apply", "--kubeconfig", config)
    status, first, err = run("--out", out, "--workflow", workflow, *cluster)
    assert status == 1 and "'dry-run' failed" in err and "front is forbidden" in err
    assert first["cid"] and first["manifests"] and first["applied"] is None
    assert not plane.server.store.all("deployments")
    assert first["placement_choice"] == "explored"
    before = files(out)
    status, second, err = run("--resume", out, *cluster)
    assert (status, err) == (0, "")
    assert stages(second)[len(first["trace"]) :] == ["load", "resume", "dry-run", "apply"]
    assert second["cid"] == first["cid"] and files(out) == before
    assert second["applied"]["ready"] == 2
    assert second["applied"]["objects"]["create"] > 0
    assert len(plane.server.store.all("deployments")) == 2
    # A second run finds the placement that was proven, and says so.
    status, third, _ = run("--out", tmp_path / "again", "--workflow", workflow)
    (entry,) = [e for e in third["trace"] if e["stage"] == "deploy"]
    assert entry["choice"] == third["placement_choice"] == "recalled"
    assert third["placement"] == second["placement"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--resume", "none"), "result.json"),
        (("--resume", "a", "--out", "b"), "Leave --out out"),
        (("--out", "b", "--context", "c"), "need --apply"),
    ],
)
def test_bad_usage_is_refused(arguments, said, run):
    status, record, err = run(*arguments)
    assert (status, record) == (2, None) and said in err


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"inputs": 1}', '{"inputs": {}'])
def test_what_is_no_record_of_a_run_is_refused(text, run, tmp_path):
    (tmp_path / "result.json").write_text(text)
    np.save(tmp_path / "y.npy", np.zeros(12))
    status, record, err = run("--resume", tmp_path)
    assert (status, record) == (2, None) and "Start anew with --out" in err


@pytest.mark.parametrize("content", [b"", b"PK\3\4" + bytes(40), b"\x93NUMPY\1\0"])
def test_what_is_no_product_of_a_run_is_refused(content, run, tmp_path):
    (tmp_path / "result.json").write_text('{"inputs": {}, "trace": []}')
    (tmp_path / "y.npy").write_bytes(content)
    status, record, err = run("--resume", tmp_path)
    assert (status, record) == (2, None) and "Start anew with --out" in err
    status = main(["node", "put", str(tmp_path / "y.npy")])
    assert status == 2
    assert main(["node", "put", str(tmp_path / "none.npy")]) == 2


def test_only_what_is_not_done_or_would_be_done_otherwise_is_done(tmp_path):
    manifest = tmp_path / "manifest.yaml"
    manifest.touch()
    asked = {"peers_asked": ["p"], "workflow": "w", "workflow_file": "f"}
    done = {"cid": "c", "manifests": [str(manifest)], "applied": {}, "delivery": asked}
    assert stages_of(done, asked, apply=True) == []
    assert stages_of(done | {"cid": None}, asked, apply=True) == ["publish"]
    assert stages_of(done | {"applied": None}, asked, apply=True) == ["apply"]
    assert stages_of(done | {"applied": None}, asked, apply=False) == []
    assert stages_of(done, asked | {"peers_asked": ["q"]}, apply=False) == ["publish"]
    other = asked | {"workflow": "v"}
    assert stages_of(done, other, apply=True) == ["deploy", "apply"]
    manifest.unlink()
    assert stages_of(done, asked, apply=False) == ["deploy"]


def test_a_device_of_a_file_is_known_by_its_figures_and_not_by_its_name():
    def inputs(device):
        options = argparse.Namespace(devices={"mine.toml": device}, seed=0, float64=False)
        return inputs_of("mine.toml", np.eye(3), np.ones(3), None, options)

    mine = sj.devices.EPIRAM
    other = dataclasses.replace(mine, sigma_c2c=2 * mine.sigma_c2c)
    assert inputs(mine) == inputs(dataclasses.replace(mine))
    assert inputs(mine)["device"] != inputs(other)["device"]
