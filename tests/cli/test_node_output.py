"""`sedma node get --out`: whole files, and what is no file in place."""

import io
import os
import stat
import threading

import numpy as np
import pytest

from sedma_jax._cli.main import main

ARRAY = np.random.default_rng(2).normal(size=(3, 5))


@pytest.fixture
def get(monkeypatch, tmp_path):
    """Run the command against a node that gives `ARRAY`."""
    pytest.importorskip("libp2p")
    from sedma_jax.comm._runners import control_client

    monkeypatch.setattr(control_client, "get", lambda folder, cid, progress: ARRAY)
    cid = "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"
    return lambda out: main(["node", "get", cid, "--dir", str(tmp_path), "--out", str(out)])


@pytest.mark.parametrize("mask", [0o077, 0o022, 0o027])
def test_a_new_file_has_the_mode_of_the_umask(get, tmp_path, mask):
    before = os.umask(mask)
    try:
        assert get(tmp_path / "y.npy") == 0
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "y.npy").stat().st_mode) == 0o666 & ~mask
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), ARRAY)
    assert [p.name for p in tmp_path.iterdir()] == ["y.npy"]


def test_a_file_that_is_there_keeps_its_mode_and_owner_and_a_link_its_target(get, tmp_path):
    real, link = tmp_path / "real.npy", tmp_path / "link.npy"
    real.write_bytes(b"old")
    real.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(real, 1234, 1235)
    owner = real.stat().st_uid, real.stat().st_gid
    link.symlink_to(real)
    assert get(link) == 0
    assert link.is_symlink() and stat.S_IMODE(real.stat().st_mode) == 0o640
    assert (real.stat().st_uid, real.stat().st_gid) == owner
    np.testing.assert_array_equal(np.load(real), ARRAY)


def test_a_link_to_nothing_makes_its_target(get, tmp_path):
    (tmp_path / "link.npy").symlink_to(tmp_path / "real.npy")
    assert get(tmp_path / "link.npy") == 0
    np.testing.assert_array_equal(np.load(tmp_path / "real.npy"), ARRAY)


def test_a_fifo_is_written_to_and_stays(get, tmp_path):
    fifo, found = tmp_path / "fifo", []
    os.mkfifo(fifo)
    reader = threading.Thread(target=lambda: found.append(fifo.read_bytes()))
    reader.start()
    assert get(fifo) == 0
    reader.join(10)
    assert stat.S_ISFIFO(fifo.stat().st_mode)
    np.testing.assert_array_equal(np.load(io.BytesIO(found[0])), ARRAY)


def test_a_folder_is_refused(get, tmp_path):
    assert get(tmp_path) == 2


def test_a_device_is_written_to_and_stays(get, tmp_path):
    device = tmp_path / "null"
    try:
        os.mknod(device, 0o600 | stat.S_IFCHR, os.makedev(1, 3))
    except PermissionError:
        device.symlink_to("/dev/null")
    assert get(device) == 0
    assert stat.S_ISCHR(device.stat().st_mode)
