"""An agent's servers keep their limits whatever strangers send, and go on serving."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import ExitStack, contextmanager
from pathlib import Path

import grpc
import pytest

from sedma_jax.deploy._manifests.serve import limits, servers

FOLDER = Path(servers.__file__).parents[1]
AGENT = """
import time
def echo(request, call):
    if request.startswith(b"sleep"):
        time.sleep(float(request[5:]))
    return request[:64]
"""
MEGABYTE = 2**20


@contextmanager
def served(folder, protocol="http", memory=96 * MEGABYTE):
    """An agent in a process of its own; gives the process and the port."""
    (folder / "tour.py").write_text(AGENT)
    with socket.create_server(("", 0)) as probe:
        port = probe.getsockname()[1]
    environment = {
        "SEDMA_ENTRY": "tour:echo",
        "SEDMA_PORTS": f"{protocol}={port}",
        "SEDMA_MEMORY_LIMIT": str(memory),
        "PYTHONPATH": f"{FOLDER}{os.pathsep}{folder}",
    }
    command = [sys.executable, "-m", "serve"]
    process = subprocess.Popen(command, env=os.environ | environment, cwd=folder)
    try:
        for _ in range(600):
            try:
                socket.create_connection(("127.0.0.1", port), 10).close()
                break
            except ConnectionRefusedError:
                assert process.poll() is None
                time.sleep(0.05)
        yield process, port
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=40) == 0
    finally:
        process.kill()
        process.wait()


def status(process, field):
    text = Path(f"/proc/{process.pid}/status").read_text()
    return int(re.search(rf"^{field}:\s+(\d+)", text, re.M)[1])


def peak(process):
    return status(process, "VmHWM") * 1024


def ask(port, body=b"hello", host="127.0.0.1"):
    with urllib.request.urlopen(f"http://{host}:{port}/", body, timeout=60) as answer:
        return answer.read()


def raw(port, data):
    """What the server answers to bytes, until it closes or is silent for 2 s."""
    with socket.create_connection(("127.0.0.1", port), 2) as connection:
        connection.sendall(data)
        answer = b""
        try:
            while part := connection.recv(65536):
                answer += part
        except TimeoutError:
            pass
        return answer


def post(*headers, body=b"hello"):
    lines = [b"POST / HTTP/1.1", b"Host: a", *headers, b"", body]
    return b"\r\n".join(lines)


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ([b"Content-Length: 5", b"Transfer-Encoding: chunked"], (400, 411)),
        ([b"Content-Length: 5", b"Content-Length: 6"], (400,)),
        ([b"Content-Length: 5, 6"], (400,)),
        ([b"Content-Length: \xb2"], (400,)),
        ([b"Content-Length: -1"], (400,)),
        ([b"Content-Length: +5"], (400,)),
        ([b"Content-Length: 5_0"], (400,)),
        ([b"Content-Length: " + b"9" * 5000], (400, 413)),
        ([b"Content-Length: 99999999999999"], (413,)),
        ([b"Transfer-Encoding: chunked"], (411,)),
        ([b"Transfer-Encoding: gzip, chunked", b"Content-Length: 5"], (400, 411, 501)),
        ([], (411,)),
        ([b"Content-Length : 5"], (400,)),
        ([b"X: " + b"a" * 70_000, b"Content-Length: 5"], (400, 431)),
        ([b"X%d: a" % k for k in range(20_000)], (400, 411, 431)),
    ],
)
def test_a_request_of_unclear_length_is_refused(headers, code, http):
    process, port = http
    try:
        answer = raw(port, post(*headers))
    except ConnectionError:  # refused while it was still being sent
        answer = b"HTTP/1.1 400 "
    assert int(answer.split(b" ", 2)[1]) in code
    assert answer.count(b"HTTP/1.1 ") == 1  # nothing of it is read as a second request
    assert process.poll() is None and ask(port) == b"hello"


@pytest.fixture(scope="module")
def http(tmp_path_factory):
    with served(tmp_path_factory.mktemp("http")) as found:
        yield found


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_both_families_are_served(host, http):
    if not socket.has_dualstack_ipv6():
        pytest.skip("no IPv6 on this machine")
    assert ask(http[1], host=host) == b"hello"


def test_large_bodies_wait_for_room(tmp_path):
    """20 bodies of 60 MiB took 1,240 MB in a pod of 64 MiB."""
    memory = 160 * MEGABYTE
    with served(tmp_path, memory=memory) as (process, port):
        share = (memory - status(process, "VmRSS") * 1024) // 4
        size = share - 4 * MEGABYTE
        answers = []

        def send():
            answers.append(ask(port, b"x" * size))

        threads = [threading.Thread(target=send) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert answers == [b"x" * 64] * 20
        assert peak(process) < memory
        with pytest.raises((urllib.request.HTTPError, OSError)):  # 413
            ask(port, b"x" * (60 * MEGABYTE))
        assert peak(process) < memory


def test_bodies_that_are_only_announced_take_no_memory_and_no_place_for_long(tmp_path):
    with served(tmp_path) as (process, port), ExitStack() as stack:
        before = peak(process)
        for _ in range(100):
            silent = socket.create_connection(("127.0.0.1", port), 10)
            stack.enter_context(silent)
            silent.sendall(post(b"Content-Length: 10000000", body=b""))
        while True:  # until they are dropped
            try:
                assert ask(port) == b"hello"
                break
            except urllib.request.HTTPError as error:
                assert error.code == 503
                error.close()
                time.sleep(0.2)
        assert peak(process) - before < 10 * MEGABYTE


def test_slow_headers_take_no_thread_and_no_place(tmp_path):
    """1,500 slow headers had 200 threads; silent ones kept all others out."""
    with served(tmp_path) as (process, port), ExitStack() as stack:
        threads, slow = status(process, "Threads"), []
        for _ in range(1500):
            connection = socket.create_connection(("127.0.0.1", port), 10)
            slow.append(stack.enter_context(connection))
            connection.sendall(b"POST / HTTP/1.1\r\n")
        for k in range(5):
            for connection in slow:
                try:
                    connection.sendall(b"X: %d\r\n" % k)
                except OSError:
                    continue
            assert ask(port) == b"hello"
        assert status(process, "Threads") <= threads + limits.THREADS
        assert len(list(Path(f"/proc/{process.pid}/fd").iterdir())) < 300
        assert peak(process) < 96 * MEGABYTE


def test_requests_that_wait_are_counted(tmp_path):
    with served(tmp_path) as (process, port), ExitStack() as stack:
        for _ in range(limits.REQUESTS):
            busy = socket.create_connection(("127.0.0.1", port), 10)
            stack.enter_context(busy)
            busy.sendall(post(b"Content-Length: 6", body=b"sleep2"))
        assert raw(port, post(b"Content-Length: 5")).startswith(b"HTTP/1.1 503 ")
        assert raw(port, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").endswith(b"ready")
        assert status(process, "Threads") < limits.THREADS + 8


@pytest.fixture
def grpc_call(tmp_path):
    with served(tmp_path, "grpc", memory=160 * MEGABYTE) as (process, port):
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            grpc.channel_ready_future(channel).result(30)
            yield process, channel.unary_unary("/sedma.Agent/Call"), channel


def test_large_messages_of_grpc_wait_for_room(grpc_call):
    process, call, _ = grpc_call
    size = (160 * MEGABYTE - status(process, "VmRSS") * 1024) // 8 - MEGABYTE
    calls = [call.future(b"x" * size, timeout=60) for _ in range(20)]
    assert [c.result() for c in calls] == [b"x" * 64] * 20
    assert peak(process) < 160 * MEGABYTE
    with pytest.raises(grpc.RpcError) as caught:
        call(b"x" * (50 * MEGABYTE), timeout=60)
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert peak(process) < 160 * MEGABYTE


@pytest.mark.slow
def test_calls_of_grpc_without_a_message_keep_only_their_address_waiting(tmp_path):
    if not socket.has_dualstack_ipv6():
        pytest.skip("the second address is one of IPv6")
    with served(tmp_path, "grpc") as (_, port), ExitStack() as stack:
        silent, honest = (
            stack.enter_context(grpc.insecure_channel(f"{host}:{port}"))
            for host in ("127.0.0.1", "[::1]")
        )
        ended = threading.Event()
        calls = [
            silent.stream_unary("/sedma.Agent/Call").future(iter(ended.wait, True))
            for _ in range(8)
        ]
        call = honest.unary_unary("/sedma.Agent/Call")
        for _ in range(20):
            assert call(b"hello", timeout=60, wait_for_ready=True) == b"hello"
        for one in calls:  # ended by the server, one after another
            assert one.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        call = silent.unary_unary("/sedma.Agent/Call")
        assert call(b"hello", timeout=60) == b"hello"
        ended.set()
