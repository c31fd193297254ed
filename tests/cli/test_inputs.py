"""Every input of a command as a pipe, an endless device, a folder and an empty file."""

import json
import os
import signal

import numpy as np
import pytest

from sedma_jax._cli.main import main

pytestmark = pytest.mark.slow
AT = "/ip4/127.0.0.1/tcp/1/p2p/12D3KooWBi9cyBukgjtReiSDPUUL2JbtvpVw3oBiYc6c3pL4CqrH"
WORKFLOW = """\
name: tour
agents: {one: {container: {image: img, memory: 1G, cpu: 1}}}
"""
# What stands for the path, and what may be an empty file or a folder.
COMMANDS = [
    ("run {}.mtx", ""),
    ("run {}.mtx.gz", ""),
    ("run {}.npy", ""),
    ("run {}.npz", ""),
    ("run {}.safetensors", ""),
    ("run m.npy --vector {}.npy", ""),
    ("run m.npy --pool {}.toml", ""),
    ("run m.npy --pool {}.json", ""),
    ("run m.npy --checkpoint {}", ""),
    ("run m.npy --out out --workflow {}", ""),
    ("run m.npy --out out --node-key {}", ""),
    ("run m.npy --memory sqlite:///{}", "empty"),
    ("run m.npy --resume run", ""),
    ("memory show --memory sqlite:///{}", ""),
    ("memory import {} --memory sqlite:///m.db", ""),
    ("memory export out.jsonl --memory sqlite:///{}", ""),
    (f"job submit {{}}.npy --key k --at {AT}", ""),
    (f"job submit m.npy --vector {{}}.npy --key k --at {AT}", ""),
    (f"job submit m.npy --device {{}}.toml --key k --at {AT}", ""),
    (f"job status x --key {{}} --at {AT}", ""),
    ("job id --key {}", ""),
    ("node put {}.npy --dir d", ""),
    ("serve --open --dir {}", "folder"),
    ("serve --open --dir served --memory sqlite:///{}", "empty"),
    ("serve --open --dir served --memory sqlite:///m.db", "empty"),
    ("deploy plan {}", ""),
    ("deploy compile {} --out out", ""),
    ("deploy validate {}", ""),
    ("deploy diff {}", ""),
    ("deploy diff w.yaml --kubeconfig {}", ""),
    ("bench list --bench-dir {}", ""),
]


def _make(kind, path):
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "endless":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    else:
        path.touch()


@pytest.fixture
def no_hang():
    """Let a command that hangs fail, instead of the whole test run."""

    def ring(*_):
        raise AssertionError("it hangs")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("kind", ["pipe", "endless", "folder", "empty"])
@pytest.mark.parametrize("command, allowed", COMMANDS, ids=lambda text: text)
def test_is_refused_in_one_line(
    tmp_path, monkeypatch, capsys, no_hang, command, allowed, kind
):
    if kind == allowed:
        pytest.skip("that is a right input")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    np.save("m.npy", np.eye(2))
    (tmp_path / "w.yaml").write_text(WORKFLOW)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "y.npy").touch()
    (tmp_path / "served").mkdir()
    suffix = command.partition("{}")[2].partition(" ")[0] if "{}" in command else ""
    path = tmp_path / f"input{suffix}"
    if "--resume" in command:
        path = tmp_path / "run" / "result.json"
    if command.endswith("sqlite:///m.db") and "serve" in command:
        path = tmp_path / "served" / "jobs.db"
    _make(kind, path)
    if kind == "empty" and "key" in command and "{}" in command:
        path.chmod(0o600)
    words = [word.format(tmp_path / "input") for word in command.split()]
    assert main([*words, "--no-compilation-cache"]) == 2
    out, error = capsys.readouterr()
    assert error.count("\n") == 1 and error.startswith("sedma: ") and len(error) < 1000
    assert "Traceback" not in error and out == ""


@pytest.mark.parametrize("name", ["result.json", "y.npy"])
@pytest.mark.parametrize("kind", ["pipe", "endless", "folder", "empty"])
def test_files_of_a_run_that_is_resumed(tmp_path, monkeypatch, capsys, no_hang, name, kind):
    monkeypatch.chdir(tmp_path)
    np.save("m.npy", np.eye(2))
    (tmp_path / "run").mkdir()
    if name == "y.npy":
        (tmp_path / "run" / "result.json").write_text(json.dumps({}))
    _make(kind, tmp_path / "run" / name)
    assert main("run m.npy --resume run --no-compilation-cache".split()) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    "command",
    [
        "run m.npy --seed {}",
        "job submit m.npy --seed {}",
        "deploy plan w.yaml --seed {}",
        "deploy watch w.yaml --moves {}",
        "serve --open --workers {}",
        "serve --open --queue {}",
        "serve --open --largest {}",
        "serve --open --keep {}",
        "serve --open --worker-memory {}",
        "memory prune --keep {}",
        "node start --capacity {}",
    ],
)
def test_a_number_of_thirty_digits(capsys, command):
    assert main(command.format("9" * 30).split()) == 2
    assert capsys.readouterr().err.count("\n") == 1
