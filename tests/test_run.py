"""Algorithm 1 from a matrix to a product, a CID and manifests."""

import json
from pathlib import Path

import jax.random as jr
import numpy as np
import pytest

import sedma_jax as sj
from sedma_jax import deploy
from sedma_jax._cli.main import main
from sedma_jax._files.load import load_matrix
from sedma_jax._run import deliver
from sedma_jax.comm._tensors.manifest import describe

ROOT = Path(__file__).parents[1]


@pytest.fixture
def own_memory(tmp_path, monkeypatch):
    """The user's own memory, in a folder of this test."""
    url = f"sqlite:///{tmp_path / 'memory.db'}"
    monkeypatch.setenv("SEDMA_MEMORY", url)
    return url


def run(capsys, *arguments):
    status = main(["run", *map(str, arguments), "--end-to-end", "--json"])
    printed = capsys.readouterr()
    return status, json.loads(printed.out) if printed.out else None, printed.err


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bcsstk02", "fs_183_1"])
def test_one_command_does_it_all_and_the_second_run_recalls(
    name, own_memory, tmp_path, capsys
):
    path, out = ROOT / f"data/{name}.mtx", tmp_path / "out"
    status, first, _ = run(capsys, path, "--out", out)
    assert status == 0
    A = load_matrix(str(path)).astype(np.float32)
    y, exact = np.load(out / "y.npy"), A @ np.random.default_rng(0).random(A.shape[1])
    error = np.linalg.norm(y - exact) / np.linalg.norm(exact)
    # The product was computed in float32, and so was what it is compared with.
    assert error == pytest.approx(first["relative_l2_corrected"], rel=1e-2, abs=1e-6)
    assert error < first["relative_l2_raw"]
    # Whoever has `y` finds the same CID.
    assert first["cid"] == describe(y).cid
    assert len({peer["id"] for peer in first["peers"]}) >= 2
    assert first["manifests"] and deploy.validate_files(first["manifests"])[1] == []
    assert first["placement"]["placement"] == {"crossbar-0": "localhost"}
    assert first["recalled"] == 0 and first["written"] > 0 and first["failed"] == {}
    assert json.loads((out / "result.json").read_text()) == first
    assert first["best_before"] is None and first["runs_before"] == 0
    events = tmp_path / "trace.json"
    status, second, _ = run(capsys, path, "--out", out, "--trace", events)
    assert status == 0 and second["recalled"] > 0
    # It shows what it is to be compared with: the one run before.
    assert second["best_before"] == first["strategy"]
    assert second["best_reward_before"] == pytest.approx(first["reward"])
    same = second["strategy"] == first["strategy"]
    assert second["runs_before"] == same
    assert second["reward_before"] == (pytest.approx(first["reward"]) if same else None)
    stages = [record["stage"] for record in second["trace"]]
    assert stages == [
        *("load", "open", "classify", "recall", "plan", "program", "correct", "learn"),
        *("publish", "deploy"),
    ]
    ends = [record["start"] + record["seconds"] for record in second["trace"]]
    begins = [record["start"] for record in second["trace"]]
    assert all(end <= begin for end, begin in zip(ends, begins[1:], strict=False))
    shown = json.loads(events.read_text())["traceEvents"]
    assert [event["name"] for event in shown] == stages
    assert shown[5]["args"]["partitions"] == second["partitions"]


@pytest.mark.slow
def test_a_stage_that_fails_leaves_what_came_before(own_memory, tmp_path, capsys):
    out, nobody = (
        tmp_path / "out",
        sj.comm.agent_id("nobody", "0123456789abcdef of this test alone"),
    )
    peer = f"/ip4/127.0.0.1/tcp/9/p2p/{nobody}"
    np.save(tmp_path / "A.npy", np.eye(12))
    status, record, err = run(capsys, tmp_path / "A.npy", "--out", out, "--peers", peer)
    assert status == 1
    assert (
        "'publish' failed: `sedma_jax.comm.publish` needs a peer that holds" in err
        and str(out) in err
    )
    assert record["cid"] is None and list(record["failed"]) == ["publish"]
    assert np.load(out / "y.npy").shape == (12,)
    assert all(Path(manifest).exists() for manifest in record["manifests"])


@pytest.mark.slow
def test_python_does_the_same(own_memory):
    A = np.random.default_rng(0).normal(size=(12, 12))
    result = sj.run(A, np.ones(12), device=sj.devices.EPIRAM, key=jr.key(0))
    assert result.delivery.failed == {}
    assert result.delivery.publication.cid == describe(np.asarray(result.y)).cid
    with sj.memory.open(own_memory) as memory:
        assert len(memory.patterns("placement")) == 1
        assert 1 < len(memory) <= result.info.written + 1


def test_bad_usage_is_refused_before_any_work(own_memory, tmp_path, capsys):
    matrix = tmp_path / "A.npy"
    np.save(matrix, np.eye(3))
    workflow = tmp_path / "workflow.yaml"
    workflow.write_text("name: 7\n")
    out = tmp_path / "out"
    for arguments, said in (
        ((), "--out DIR"),
        (("--out", out, "--device", "all"), "one device"),
        (("--out", out, "--workflow", workflow), "workflow.yaml:1"),
        (("--out", out, "--workflow", tmp_path / "none.yaml"), "none.yaml"),
    ):
        status, record, err = run(capsys, matrix, *arguments)
        assert (status, record) == (2, None) and said in err
    assert not out.exists()


def test_a_peer_lets_in_the_key_it_was_told_of_and_is_remembered(tmp_path, capsys):
    path = tmp_path / "key"
    assert main(["node", "id", str(path)]) == 0
    name = capsys.readouterr().out.strip()
    with (
        sj.memory.open("sqlite://") as memory,
        sj.comm.open_node(allowed=frozenset({name})) as peer,
    ):
        delivery = deliver(
            np.ones(3), peers=peer.addresses, node_key=path, memory=memory, key=jr.key(0)
        )
        assert delivery.failed == {}
        assert [p["id"] for p in delivery.publication.peers] == [peer.name]
        (profile,) = memory.recall("peer-profile", f"node {name}")
        assert profile.choice == {"peer": peer.name} and profile.mean == 1


def test_keys_that_others_read_are_refused_before_any_work(own_memory, tmp_path, capsys):
    matrix, key = tmp_path / "A.npy", tmp_path / "key"
    np.save(matrix, np.eye(3))
    key.write_bytes(b"no key")
    for mode, code, said in ((0o644, 1, "chmod 600"), (0o600, 2, "private key")):
        key.chmod(mode)
        arguments = matrix, "--out", tmp_path / "out", "--node-key", key
        status, record, err = run(capsys, *arguments)
        assert (status, record) == (code, None) and said in err
    with pytest.raises(ValueError, match="private key"):
        sj.run(np.eye(3), np.ones(3), device=sj.devices.EPIRAM, node_key=key, key=jr.key(0))
    assert not (tmp_path / "out").exists()
