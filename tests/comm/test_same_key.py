"""Two nodes with one key: both are told, and what the second holds is not lost silently."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from comm_nodes import EVERYONE, wait_until

from sedma_jax import comm
from sedma_jax._cli.main import main
from sedma_jax.comm._libp2p.keystore import BARE_KEY, load_or_create
from sedma_jax.comm._node import gossip
from sedma_jax.comm._rpc import wire_pb2 as wire
from sedma_jax.comm._rpc.messages import parse


def open_with(key, **settings):
    return comm.open_node(key=key, allowed=EVERYONE, status_every=0.2, **settings)


@pytest.fixture
def copied(tmp_path):
    """One key in two files."""
    load_or_create(tmp_path / "one")
    shutil.copy(tmp_path / "one", tmp_path / "two")
    return tmp_path / "one", tmp_path / "two"


def test_both_nodes_with_one_key_are_told(copied, caplog):
    with (
        comm.open_node(allowed=EVERYONE, status_every=0.2) as hub,
        open_with(copied[0]) as first,
    ):
        first.connect(*hub.addresses)
        assert wait_until(lambda: any(p["memory_free"] for p in hub.peers()))
        with open_with(copied[1]) as second:
            second.connect(*hub.addresses)
            assert wait_until(lambda: second.status()["same_key"], 20)
            assert wait_until(lambda: first.status()["same_key"], 20)
            with pytest.raises(ConnectionError, match="key that no other node uses"):
                second.connect(*hub.addresses)
    assert "key that no other node uses" in caplog.text


def test_a_node_does_not_connect_to_its_own_key(copied):
    with open_with(copied[0]) as first, open_with(copied[1]) as second:
        with pytest.raises(ConnectionError, match="key that no other node uses"):
            second.connect(*first.addresses)


def test_a_node_that_starts_again_is_no_second_one(copied):
    with comm.open_node(allowed=EVERYONE, status_every=0.2) as hub:
        for _ in range(3):
            with open_with(copied[0]) as node:
                node.connect(*hub.addresses)
                cid = node.put(np.arange(10))
                assert not node.status()["same_key"]
                assert hub.get(cid, timeout=30).tolist() == list(range(10))


def test_a_status_that_was_forgotten_is_of_no_other_node(tmp_path, monkeypatch):
    """After 16 minutes of an hour's soak a node took itself for another."""
    monkeypatch.setattr("sedma_jax.comm._node.node.MOST_ISSUED", 3)
    with comm.open_node(key=tmp_path / "key", status_every=600) as node:
        issued = [gossip.own_status(node.node) for _ in range(6)]
        back = [parse(wire.SignedStatus, data) for data in issued]
        for each in back:
            data = wire.Statuses(statuses=[each]).SerializeToString()
            gossip.take_statuses(node.node, data)
        assert not node.status()["same_key"]
        node.node.issued.remove(node.node.sequence)  # as if another had signed it
        data = wire.Statuses(statuses=back[-1:]).SerializeToString()
        gossip.take_statuses(node.node, data)
        assert node.status()["same_key"]


def test_commands_say_so(copied, tmp_path):
    """`sedma node status` of the second node, which joins by an option."""
    with (
        comm.open_node(allowed=EVERYONE, status_every=0.2) as hub,
        open_with(copied[0]) as first,
    ):
        first.connect(*hub.addresses)
        assert wait_until(lambda: any(p["memory_free"] for p in hub.peers()))
        folder = tmp_path / "node"
        folder.mkdir(mode=0o700)
        shutil.copy(copied[0], folder / "key")
        command = [sys.executable, "-m", "sedma_jax._cli", "node"]
        at = ["--dir", str(folder)]
        process = subprocess.Popen(
            [*command, "start", *at, "--join", hub.addresses[0]],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            process.stdout.readline()

            def told():
                done = subprocess.run(
                    [*command, "status", "--json", *at], capture_output=True, text=True
                )
                return done.returncode == 0 and json.loads(done.stdout)["same_key"]

            assert wait_until(told, 40)
        finally:
            process.kill()
            _, errors = process.communicate()
        assert "key that no other node uses" in errors


@pytest.mark.parametrize("damage", ["a bit", "cut", "longer", "empty", "zeros"])
def test_a_damaged_key_is_no_other_identity(tmp_path, damage):
    path = tmp_path / "key"
    load_or_create(path)
    whole = path.read_bytes()
    damaged = {
        "cut": [whole[:n] for n in range(len(whole)) if n != BARE_KEY],
        "longer": [whole + b"\0", whole * 2],
        "empty": [b""],
        "zeros": [bytes(len(whole))],
        "a bit": [
            whole[:i] + bytes([whole[i] ^ 1 << bit]) + whole[i + 1 :]
            for i in range(len(whole))
            for bit in range(8)
        ],
    }
    for data in damaged[damage]:
        path.write_bytes(data)
        with pytest.raises(ValueError, match="Restore the file from a backup"):
            load_or_create(path)
    path.write_bytes(whole)
    load_or_create(path)


def test_keys_of_before_are_read_with_a_warning_until_they_are_rewritten(
    tmp_path, caplog, capsys
):
    from sedma_jax.comm._libp2p.library import new_ed25519_keys

    keys, path = new_ed25519_keys(), tmp_path / "key"
    path.touch(mode=0o600)
    path.write_bytes(keys.private_key.serialize())
    assert load_or_create(path).public_key == keys.public_key
    assert f"sedma node id --rewrite {path}" in caplog.text
    assert main(["node", "id", "--rewrite", str(path)]) == 0
    name = capsys.readouterr().out.strip()
    caplog.clear()
    assert main(["node", "id", str(path)]) == 0
    assert capsys.readouterr().out.strip() == name == comm.key_id(path)
    assert load_or_create(path).public_key == keys.public_key and not caplog.text
    assert len(path.read_bytes()) > BARE_KEY and path.stat().st_mode & 0o777 == 0o600
