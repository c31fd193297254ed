"""The control socket of a daemon: no request ends it, and every failure says why."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager

import numpy as np
import pytest
from comm_nodes import EVERYONE, wait_until

from sedma_jax import comm
from sedma_jax.comm._rpc import wire_pb2 as wire
from sedma_jax.comm._rpc.messages import PREFIX, prefix_and_header
from sedma_jax.comm._runners import control_client

DAEMON = """
import sys
from pathlib import Path
from sedma_jax import comm
from sedma_jax.comm._runners import control_socket, daemon
broken = control_socket._methods
def methods(node):
    found = broken(node)
    async def fail(call):
        kind, text = bytes(call.body).decode().split(" ", 1)
        raise eval(kind)(text)
    found.add("fail", fail)
    return found
control_socket._methods = methods
settings = comm.NodeSettings(allowed=frozenset({comm.EVERYONE}))
ready = lambda status: print(status["addresses"][0], flush=True)
daemon.run_daemon(settings, Path(sys.argv[1]), metrics_port=None, started=ready)
"""


@contextmanager
def daemon(folder):
    """A node as a daemon, with one method more, which fails as its caller asks."""
    process = subprocess.Popen(
        [sys.executable, "-c", DAEMON, str(folder)], stdout=subprocess.PIPE, text=True
    )
    try:
        yield process, process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    folder = tmp_path_factory.mktemp("node")
    with daemon(folder) as (process, address):
        yield folder, process, address


def request(method, body=b"", meta=b"", deadline_ms=5000):
    header = wire.Header(method=method, meta=meta, deadline_ms=deadline_ms)
    return prefix_and_header(header, len(body)) + body


def exchange(folder, data):
    """Send bytes; the first message that comes back, or what came until the node closes."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(3)
        client.connect(str(folder / "control.sock"))
        client.sendall(data)
        found = b""
        try:
            while (piece := client.recv(2**16)) and len(found + piece) < PREFIX.size:
                found += piece
            found += piece
        except (TimeoutError, ConnectionResetError):
            pass
        return found


def error_of(data):
    """The error in the first message of an answer."""
    size = PREFIX.unpack_from(data)[2]
    return wire.Header.FromString(data[PREFIX.size : PREFIX.size + size]).error


def shape(*lengths):
    return json.dumps({"dtype": "float32", "shape": lengths}).encode()


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (request("put", meta=shape(float("inf"))), "needs dtype and shape"),
        (request("put", meta=shape(float("nan"))), "needs dtype and shape"),
        (request("put", meta=b'{"dtype": [], "shape": [1]}'), "needs dtype and shape"),
        (request("put", meta=b"[" * 9000), "needs dtype and shape"),
        (request("put", meta=b'{"dtype": "int8", "shape": [1' + b"0" * 9000 + b"]}"), "n"),
        (request("put", meta=shape(4), deadline_ms=300), "within 0.3 s"),
        (request("connect", b"\xff\xfe"), ""),
        (request("connect", b"/ip4/127.0.0.1/tcp/1"), "needs the address of a peer"),
        (request("get", b"nonsense"), "CID"),
        (request("no such method"), "needs one of"),
        (b"GET / HTTP/1.1\r\n\r\n", None),
        (PREFIX.pack(1, 0, 3, 0) + b"\xff\xff\xff", None),
        (PREFIX.pack(1, 0, 0, 2**62), None),
    ],
    ids=range(13),
)
def test_no_request_ends_a_node(running, data, says):
    folder, process, _ = running
    answer = exchange(folder, data)
    if says is not None:
        assert says in error_of(answer)
    assert control_client.ask(folder, "status")["tensors"] >= 0
    assert process.poll() is None


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind",
    [
        *("ArithmeticError", "AssertionError", "AttributeError", "BufferError"),
        *("EOFError", "Exception", "ImportError", "KeyError", "MemoryError"),
        *("OSError", "OverflowError", "RecursionError", "RuntimeError"),
        *("StopAsyncIteration", "TypeError", "UnicodeError", "ValueError"),
        *("__import__('trio').TooSlowError", "__import__('trio').BrokenResourceError"),
        *("__import__('sqlite3').OperationalError", "__import__('queue').Full"),
    ],
)
def test_any_exception_in_a_control_method_is_an_answer(running, kind):
    folder, process, _ = running
    assert error_of(exchange(folder, request("fail", f"{kind} why".encode())))
    assert process.poll() is None


@pytest.mark.slow
def test_call_past_its_deadline_leaves_the_node_running(running):
    folder, process, address = running
    with comm.open_node(allowed=EVERYONE) as slow:
        import trio

        async def sleep(call):
            await trio.sleep_forever()

        slow.node.methods.add("range", sleep)
        cid = slow.put(np.arange(1000.0))
        slow.connect(address)
        answer = exchange(folder, request("get", cid.encode(), deadline_ms=1500))
        assert "within 1.5 s" in error_of(answer)
    assert control_client.ask(folder, "status")["tensors"] >= 0
    assert process.poll() is None


def test_many_clients_at_once_are_all_answered(running):
    folder, process, _ = running
    clients = []
    # The node is stopped, so that connections wait; before, the 17th was an error.
    os.kill(process.pid, signal.SIGSTOP)
    try:
        for _ in range(40):
            clients.append(
                subprocess.Popen(
                    [
                        sys.executable,
                        "-m",
                        "sedma_jax._cli",
                        "node",
                        "status",
                        "--json",
                        "--dir",
                        str(folder),
                    ],
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
                if len(clients) < 2
                else _waiting(folder)
            )
        time.sleep(4)
    finally:
        os.kill(process.pid, signal.SIGCONT)
    for client in clients[:2]:
        out, err = client.communicate(timeout=60)
        assert client.returncode == 0, err
        assert json.loads(out)["id"]
    for client in clients[2:]:
        client.close()
    assert process.poll() is None


def _waiting(folder):
    client = socket.socket(socket.AF_UNIX)
    client.setblocking(False)
    client.connect(str(folder / "control.sock"))  # BlockingIOError if the queue is full
    return client


def test_node_frozen_or_killed_during_a_command_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(control_client, "SILENT", 2.0)
    with daemon(tmp_path) as (process, _):
        os.kill(process.pid, signal.SIGSTOP)
        with pytest.raises(OSError, match="needs a node that answers"):
            control_client.get(tmp_path, "bafkrei")
        with pytest.raises(OSError, match="needs a node that answers"):
            control_client.put(tmp_path, np.zeros(10_000_000))
        # Another node must not take the folder of one that is only frozen.
        second = subprocess.run(
            [
                sys.executable,
                "-m",
                "sedma_jax._cli",
                "node",
                "start",
                "--dir",
                str(tmp_path),
            ],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert second.returncode == 1 and "no other node runs" in second.stderr
        os.kill(process.pid, signal.SIGCONT)
        assert control_client.ask(tmp_path, "status")["tensors"] == 0
        os.kill(process.pid, signal.SIGSTOP)
        command = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "sedma_jax._cli",
                "node",
                "status",
                "--dir",
                str(tmp_path),
            ],
            stderr=subprocess.PIPE,
            text=True,
        )
        wait_until(lambda: False, 4)  # until it has connected
        process.kill()
        _, err = command.communicate(timeout=60)
        assert command.returncode == 1
        assert err.startswith("sedma: ") and len(err.splitlines()) == 1, err
    with pytest.raises(OSError, match="needs a node that runs"):
        control_client.ask(tmp_path, "status")
