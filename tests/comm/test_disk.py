"""Tensors on the disk: bounded, checked, and there again after a kill."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from comm_nodes import EVERYONE, wait_until

from sedma_jax import comm
from sedma_jax.comm._runners import control_client
from sedma_jax.comm._tensors import tiers
from sedma_jax.comm._tensors.disk import Disk
from sedma_jax.comm._tensors.entry import Entry
from sedma_jax.comm._tensors.manifest import CHUNK, describe

RNG = np.random.default_rng(11)
COMMAND = [sys.executable, "-m", "sedma_jax._cli", "node"]


def bytes_array(chunks, seed):
    return np.random.default_rng(seed).integers(0, 255, int(chunks * CHUNK), np.uint8)


def open_node(folder, **settings):
    return comm.open_node(folder=folder, allowed=EVERYONE, status_every=0.2, **settings)


@pytest.fixture
def daemon():
    running = []

    def start(folder, *options):
        process = subprocess.Popen(
            [*COMMAND, "start", "--open", "--dir", str(folder), *map(str, options)],
            stdout=subprocess.PIPE,
            text=True,
        )
        running.append(process)
        process.stdout.readline()
        return process, process.stdout.readline().strip()

    yield start
    for process in running:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.mark.parametrize("volatile", [False, True])
def test_tensors_outlive_a_kill_unless_the_node_is_volatile(daemon, tmp_path, volatile):
    options = ["--volatile"] if volatile else []
    process, _ = daemon(tmp_path, *options)
    arrays = [bytes_array(chunks, i) for i, chunks in enumerate((0.001, 1, 9.5))]
    cids = [control_client.put(tmp_path, array) for array in arrays]
    process.kill()
    process.wait()
    assert bool(list(tmp_path.glob("tensors/*.tensor"))) is not volatile
    _, address = daemon(tmp_path, *options)
    assert control_client.ask(tmp_path, "status")["tensors"] == (0 if volatile else 3)
    with comm.open_node(allowed=EVERYONE) as other:
        other.connect(address)
        for cid, array in zip(cids, arrays, strict=True):
            if volatile:
                with pytest.raises(comm.FetchError):
                    other.get(cid, timeout=30)
            else:
                np.testing.assert_array_equal(other.get(cid, timeout=30), array)


def spoil_body(path):
    with open(path, "r+b") as file:
        file.seek(CHUNK + 5)
        byte = file.read(1)
        file.seek(CHUNK + 5)
        file.write(bytes([byte[0] ^ 1]))


def cut(path):
    with open(path, "r+b") as file:
        file.truncate(CHUNK)


DAMAGE = {"a bit": spoil_body, "cut": cut, "gone": os.unlink}


@pytest.mark.parametrize("kind", DAMAGE)
@pytest.mark.parametrize("running", [True, False])
def test_what_the_disk_lost_is_not_served_and_comes_back_from_others(
    tmp_path, kind, running
):
    array = bytes_array(3, 1)

    def damage():
        (path,) = tmp_path.glob("tensors/*.tensor")
        DAMAGE[kind](path)

    # With a memory of one chunk the tensor is on the disk only.
    settings = {"folder": tmp_path / "tensors", "capacity": CHUNK}
    with comm.open_node(allowed=EVERYONE) as other:
        with comm.open_node(allowed=EVERYONE, **settings) as node:
            cid = node.put(array)
            assert node.status()["in_memory"] == 0
            if running:
                damage()
                with pytest.raises(comm.FetchError):
                    node.get(cid, timeout=30)
                assert node.status()["damaged"] == 1
        if not running:
            damage()
        with comm.open_node(allowed=EVERYONE, **settings) as node:
            node.connect(*other.addresses)
            if not running:
                with pytest.raises(comm.FetchError):
                    node.get(cid, timeout=30)
                other.put(array)
                assert wait_until(lambda: node.status()["pinned_bytes"] == array.nbytes, 30)
            else:
                other.put(array)
            np.testing.assert_array_equal(node.get(cid, timeout=30), array)


def test_damage_is_seen_by_peers_too(tmp_path):
    with (
        open_node(tmp_path, capacity=CHUNK) as node,
        comm.open_node(allowed=EVERYONE) as other,
    ):
        cid = node.put(bytes_array(4, 2))
        other.connect(*node.addresses)
        (path,) = tmp_path.glob("*.tensor")
        spoil_body(path)
        with pytest.raises(comm.FetchError):
            other.get(cid, timeout=30)
        assert other.peers()[0]["trusted"]  # it said that it has lost the tensor


def test_the_disk_is_bounded_and_what_is_used_stays(tmp_path):
    limit = 10 * (CHUNK + 4096)
    with (
        open_node(tmp_path, disk=limit) as node,
        comm.open_node(allowed=EVERYONE) as other,
    ):
        node.connect(*other.addresses)
        mine = node.put(bytes_array(3, 0))
        fetched = [other.put(bytes_array(1, 10 + i)) for i in range(12)]
        node.get(fetched[0])
        for cid in fetched[1:]:
            node.get(fetched[0])
            node.get(cid)
            size = sum(path.stat().st_size for path in tmp_path.glob("*.tensor"))
            assert size <= limit
        held = {path.stem for path in tmp_path.glob("*.tensor")}
        assert {mine, fetched[0]} <= held and len(held) == 8
        with pytest.raises(MemoryError, match="Raise the capacity"):
            node.put(bytes_array(9, 99))
    with open_node(tmp_path, disk=limit) as node:
        assert {cid for cid, _ in node.node.store} == held
        # How it was used is remembered: of equal sizes it goes last.
        uses = {cid: entry.accesses for cid, entry in node.node.store}
        assert max(uses, key=lambda cid: uses[cid]) == fetched[0]


def test_memory_is_in_front_and_bounded(tmp_path):
    with open_node(tmp_path, capacity=4 * CHUNK) as node:
        cids = [node.put(bytes_array(1, i)) for i in range(8)]
        assert node.status()["in_memory"] <= 4 * CHUNK
        for i, cid in enumerate(cids):
            np.testing.assert_array_equal(node.get(cid), bytes_array(1, i))
            assert node.status()["in_memory"] <= 4 * CHUNK
        assert node.status()["bytes"] == 8 * CHUNK


def test_what_peers_fetch_from_the_disk_is_read_once_and_stays_in_memory(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(tiers, "SHRUNK_EVERY", CHUNK)
    array, read = bytes_array(40, 7)[:-100], []  # three ranges, the last not whole
    with open_node(tmp_path, capacity=64 * CHUNK) as node:
        cid = node.put(array)
    with open_node(tmp_path, capacity=64 * CHUNK) as node:
        disk = node.node.tiers.disk
        seen = disk.read
        disk.read = lambda m, at, length: read.append(length) or seen(m, at, length)
        for _ in range(2):
            with comm.open_node(allowed=EVERYONE) as other:
                other.connect(*node.addresses)
                np.testing.assert_array_equal(other.get(cid), array)
            assert sum(read) == array.nbytes  # the second time from memory
            assert node.status()["in_memory"] == array.nbytes
        np.testing.assert_array_equal(node.get(cid), array)
        # Parts count, and go when others need the room.
        parts = [node.put(bytes_array(20, 20 + i)) for i in range(6)]
        entries = [node.node.store.peek(cid) for cid in parts]

        async def part(cid, entry):
            entry.forget_bytes()
            return await node.node.tiers.part(cid, entry, 8 * CHUNK, 8 * CHUNK)

        for i, (cid, entry) in enumerate(zip(parts, entries, strict=True)):
            found = node.call(part, cid, entry)
            right = bytes_array(20, 20 + i)[8 * CHUNK : 16 * CHUNK]
            np.testing.assert_array_equal(np.asarray(found), right)
            assert entry.array is None
            assert node.status()["in_memory"] <= 64 * CHUNK


def test_a_folder_has_one_node(tmp_path):
    with (
        open_node(tmp_path),
        pytest.raises(OSError, match="no other node uses"),
        open_node(tmp_path),
    ):
        pass
    with open_node(tmp_path) as node:  # the lock is free again
        node.put(np.arange(3))


def test_a_damaged_index_is_made_again(tmp_path):
    with open_node(tmp_path) as node:
        cid = node.put(bytes_array(2, 3))
    for garbage in (b"", b"not a database at all" * 500, None):
        index = tmp_path / "index.db"
        if garbage is None:
            data = bytearray(index.read_bytes())
            data[100:4000] = bytes(len(data[100:4000]))
            garbage = bytes(data)
        for name in ("index.db-wal", "index.db-shm"):
            (tmp_path / name).unlink(missing_ok=True)
        index.write_bytes(garbage)
        with open_node(tmp_path) as node:
            np.testing.assert_array_equal(node.get(cid), bytes_array(2, 3))
            assert node.status()["pinned_bytes"] == 2 * CHUNK


def test_a_full_disk_refuses_and_leaves_nothing(tmp_path):
    text = """
import resource, signal, sys, numpy as np
from pathlib import Path
from sedma_jax import comm
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with comm.open_node(folder=Path(sys.argv[1])) as node:
    cid = node.put(np.arange(9))
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**19, 2**19))
    try:
        node.put(np.zeros(2**20, np.uint8))
    except OSError as error:
        print("refused", error)
    print(node.get(cid).tolist(), node.put(np.arange(4)) != cid, len(node.node.store))
"""
    done = subprocess.run(
        [sys.executable, "-c", text, str(tmp_path)], capture_output=True, text=True
    )
    assert "refused `Node.put` needs a disk" in done.stdout, done.stderr
    assert "[0, 1, 2, 3, 4, 5, 6, 7, 8] True 2" in done.stdout
    assert len(list(tmp_path.glob("*.tensor"))) == 2 and not list(tmp_path.glob("*.part"))


def test_leftovers_of_a_kill_go_and_other_files_stay(tmp_path):
    disk, array = Disk(tmp_path), bytes_array(1, 4)
    manifest = describe(array)
    entry = Entry(manifest, array, pinned=True)
    disk.write(manifest.cid, entry, disk.stage(array), [])
    (tmp_path / "x.part").write_bytes(b"half")
    (tmp_path / f"{manifest.cid[:-1]}a.tensor").write_bytes(b"nobody names it")
    (tmp_path / "notes.txt").write_text("mine")
    disk.close()
    disk = Disk(tmp_path)
    ((cid, found),) = disk.entries()
    assert cid == manifest.cid and found.on_disk
    assert disk.read(manifest, 0, CHUNK).tobytes() == array.tobytes()
    left = {path.name for path in tmp_path.iterdir()}
    assert f"{cid}.tensor" in left and "notes.txt" in left and "x.part" not in left
    assert sum(name.endswith(".tensor") for name in left) == 1
    disk.close()


WRITER = """
import sys, numpy as np
from pathlib import Path
from sedma_jax import comm
seed = int(sys.argv[2])
with comm.open_node(folder=Path(sys.argv[1]), disk=400 * 2**20) as node:
    print("ready", flush=True)
    for i in range(10**6):
        array = np.random.default_rng((seed, i)).integers(0, 255, 700_000, np.uint8)
        print(node.put(array), i, flush=True)
"""


@pytest.mark.slow
def test_kills_while_writing_lose_nothing_that_was_accepted(tmp_path):
    accepted = {}
    for seed in range(12):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), str(seed)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout.readline() == "ready\n"
        time.sleep(RNG.uniform(0.05, 0.8))
        os.kill(process.pid, signal.SIGKILL)
        lines = process.stdout.read().splitlines()
        process.wait()
        process.stdout.close()
        for line in lines:
            cid, _, i = line.partition(" ")
            if i:
                accepted[cid] = (seed, int(i))
    assert len(accepted) > 20
    with open_node(tmp_path) as node:
        for cid, seed in accepted.items():
            right = np.random.default_rng(seed).integers(0, 255, 700_000, np.uint8)
            np.testing.assert_array_equal(node.get(cid), right)
    assert not list(tmp_path.glob("*.part"))
