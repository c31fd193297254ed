"""Outputs of the commands onto devices, pipes, links, and under a umask."""

import os
import stat
import threading

import numpy as np
import pytest

from sedma_jax import memory
from sedma_jax._cli.main import main

WORKFLOW = """\
name: tour
agents: {one: {container: {image: img, memory: 1G, cpu: 1}}}
"""


@pytest.fixture
def export(tmp_path):
    """`sedma memory export` onto a path; what it exits with."""
    url = f"sqlite:///{tmp_path / 'm.db'}"
    with memory.open(url) as opened:
        opened.record("k", "w", {}, 1.0)
    return lambda path: main(["memory", "export", str(path), "--memory", url])


def test_an_export_onto_a_device_leaves_a_device(tmp_path, export):
    device = tmp_path / "null"
    try:
        os.mknod(device, stat.S_IFCHR | 0o666, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("only root makes devices")
    assert export(device) == 0
    assert stat.S_ISCHR(device.stat().st_mode)


def test_an_export_through_a_link_and_into_a_pipe(tmp_path, export):
    link, pipe, found = tmp_path / "link", tmp_path / "pipe", []
    link.symlink_to(tmp_path / "real")
    assert export(link) == 0 and link.is_symlink()
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: found.append(pipe.read_bytes()))
    reader.start()
    assert export(pipe) == 0
    reader.join()
    assert found == [(tmp_path / "real").read_bytes()] and b"sedma-memory" in found[0]


def test_an_export_is_as_private_as_the_umask_says(tmp_path, export):
    before = os.umask(0o077)
    try:
        assert export(tmp_path / "f") == 0
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "f").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "command",
    [
        ("memory", "export", "{}"),
        ("run", "m.npy", "--trace", "{}"),
        ("run", "m.npy", "--plot", "{}"),
        ("run", "m.npy", "--checkpoint", "{}"),
        ("job", "result", "x", "--at", "/ip4/127.0.0.1/tcp/1/p2p/x", "--out", "{}"),
        ("deploy", "plan", "w.yaml", "--plot", "{}"),
    ],
    ids=lambda command: " ".join(command[:2]) + command[-2],
)
def test_what_cannot_be_written_is_said_before_the_work(
    tmp_path, capsys, monkeypatch, command
):
    monkeypatch.chdir(tmp_path)
    np.save("m.npy", np.eye(2))
    (tmp_path / "w.yaml").write_text(WORKFLOW)
    for path in (tmp_path, tmp_path / "no" / "f"):
        assert main([part.format(path) for part in command]) == 2
        error = capsys.readouterr().err
        assert "needs a file in a folder that exists" in error and error.count("\n") == 1


@pytest.mark.parametrize(
    "command",
    [("run", "m.npy", "--out", "m.npy"), ("deploy", "compile", "w.yaml", "--out", "m.npy")],
)
def test_a_folder_for_results_is_no_file(tmp_path, capsys, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    np.save("m.npy", np.eye(2))
    (tmp_path / "w.yaml").write_text(WORKFLOW)
    assert main(list(command)) == 2
    assert "needs a folder" in capsys.readouterr().err
    np.testing.assert_array_equal(np.load("m.npy"), np.eye(2))
