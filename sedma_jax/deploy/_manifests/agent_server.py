"""Serve one agent: `sedma deploy compile` copies this file beside the agents' code.

It needs the standard library, grpcio if an edge is gRPC, and `sedma-jax[comm]` if one is
libp2p. `SEDMA_ENTRY` names the agent's function as `module:function`. It is called with the
bytes of a request and with `call(agent, request)`, which asks another agent at the address
in `SEDMA_CALL_<AGENT>`.
"""

import errno
import importlib
import os
import socket
import sys
import threading
import urllib.parse
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

LARGEST = 64 * 2**20  # bytes of a request or an answer
SECONDS = 30.0  # that a call may take

Call = Callable[[str, bytes], bytes]
Entry = Callable[[bytes, Call], bytes]
Started = tuple[Callable[[], object], int]  # what stops a server, and its port


def call(agent: str, request: bytes) -> bytes:
    """Ask another agent over the protocol of the edge to it.

    **Raises:** `LookupError` for an agent without an edge, `OSError` for one that fails.
    """
    address = os.environ.get("SEDMA_CALL_" + agent.upper().replace("-", "_"))
    if address is None:
        raise LookupError(f"The workflow has no edge to {agent!r}. Add one to `edges:`.")
    parts = urllib.parse.urlsplit(address)
    if parts.scheme == "grpc":
        return _call_grpc(agent, parts.netloc, request)
    if parts.scheme == "libp2p":
        name = f"{os.environ['SEDMA_AGENT'].partition('/')[0]}/{agent}"
        return _peer().call(name, parts.hostname, parts.port, request, SECONDS)
    with urllib.request.urlopen(address, request, timeout=SECONDS) as answer:
        content = answer.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise OSError(f"{agent} answered more than {LARGEST} bytes. Answer in pieces.")
    return content


def serve(entry: Entry, ports: dict[str, int]) -> list[Started]:
    """Start a server for every protocol of `ports`; port 0 takes a free one.

    **Returns:** for every server, in the order of `ports`, what stops it and its port.
    """
    return [_SERVERS[protocol](entry, port) for protocol, port in ports.items()]


def _serve_http(entry: Entry, port: int) -> Started:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = SECONDS

        def do_POST(self):
            length = self.headers.get("Content-Length", "")
            if not length.isdigit() or int(length) > LARGEST:
                self.close_connection = True
                self._answer(413, f"send Content-Length up to {LARGEST}".encode())
                return
            request = self.rfile.read(int(length))
            try:
                self._answer(200, bytes(entry(request, call)))
            except Exception as error:
                print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
                self._answer(500, b"the agent failed; its log says why")

        def do_GET(self):
            self._answer(200, b"ready")

        def _answer(self, status: int, content: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = _http_server(port, Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def stop():
        server.shutdown()
        server.server_close()

    return stop, server.server_address[1]


class _DualStackServer(ThreadingHTTPServer):
    """Listens on IPv6's any-address, which takes IPv4 connections too."""

    address_family = socket.AF_INET6

    def server_bind(self):
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()


def _http_server(port: int, handler: type[BaseHTTPRequestHandler]) -> ThreadingHTTPServer:
    """A server for both families: a kubelet probes the address that its pod has."""
    if socket.has_dualstack_ipv6():
        try:
            return _DualStackServer(("::", port), handler)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise
    return ThreadingHTTPServer(("", port), handler)  # a kernel without IPv6


def _serve_grpc(entry: Entry, port: int) -> Started:
    import grpc

    def answer(request: bytes, context: Any) -> bytes:
        try:
            return bytes(entry(request, call))
        except Exception as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
            context.abort(grpc.StatusCode.INTERNAL, "the agent failed; its log says why")
            raise AssertionError("`abort` raises.") from error

    method = grpc.unary_unary_rpc_method_handler(answer)  # bytes in, bytes out
    size = ("grpc.max_receive_message_length", LARGEST)
    server = grpc.server(ThreadPoolExecutor(8), options=[size])
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("sedma.Agent", {"Call": method}),)
    )
    port = server.add_insecure_port(f"[::]:{port}")
    server.start()
    return (lambda: server.stop(1).wait()), port


def _call_grpc(agent: str, address: str, request: bytes) -> bytes:
    import grpc

    size = ("grpc.max_receive_message_length", LARGEST)
    with grpc.insecure_channel(address, options=[size]) as channel:
        try:
            method = channel.unary_unary("/sedma.Agent/Call")
            return method(request, timeout=SECONDS, wait_for_ready=True)
        except grpc.RpcError as error:
            raise OSError(f"{agent} at {address} failed: {error.code().name}.") from error


def _serve_libp2p(entry: Entry, port: int) -> Started:
    peer = _peer(port, lambda request: entry(request, call))

    def stop():
        _peers.pop(os.environ["SEDMA_AGENT"], None)
        peer.close()

    return stop, peer.port


_SERVERS = {"http": _serve_http, "grpc": _serve_grpc, "libp2p": _serve_libp2p}
_peers: dict[str, Any] = {}  # by the agent's name; a process has one
_lock = threading.Lock()


def _peer(port: int | None = None, answer: Callable[[bytes], bytes] | None = None) -> Any:
    """The peer of this agent, started when it is first needed."""
    name = os.environ["SEDMA_AGENT"]
    with _lock:
        if name not in _peers:
            comm = importlib.import_module("sedma_jax.comm")
            neighbours = set(filter(None, os.environ.get("SEDMA_CALLERS", "").split(",")))
            for key, address in os.environ.items():
                if key.startswith("SEDMA_CALL_") and address.startswith("libp2p:"):
                    neighbours.add(key[len("SEDMA_CALL_") :].lower().replace("_", "-"))
            workflow = name.partition("/")[0]
            _peers[name] = comm.AgentPeer(
                name,
                secret=os.environ.get("SEDMA_SECRET", ""),
                neighbours={f"{workflow}/{agent}" for agent in neighbours},
                port=port,
                answer=answer,
            )
        return _peers[name]


def main() -> None:
    """Serve the agent of the environment until SIGTERM."""
    import signal

    module, _, function = os.environ["SEDMA_ENTRY"].partition(":")
    entry = getattr(importlib.import_module(module), function)
    ports = dict(pair.split("=") for pair in os.environ["SEDMA_PORTS"].split(","))
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    servers = serve(entry, {protocol: int(port) for protocol, port in ports.items()})
    stopped.wait()
    for stop, _ in servers:
        stop()


if __name__ == "__main__":
    main()
