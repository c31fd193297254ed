"""Serve one agent: what `sedma deploy compile` copies beside the agents' code.

It needs Python's library alone, and grpcio where an edge is gRPC. `SEDMA_ENTRY` names the
agent's function, `module:function`, called with the request's bytes and with
`call(agent, request)`, which asks an agent that `SEDMA_CALL_<AGENT>` gives an address of.
"""

import importlib
import os
import sys
import threading
import urllib.parse
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LARGEST = 64 * 2**20  # bytes of a request or an answer
SECONDS = 30.0  # that a call may take


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
    with urllib.request.urlopen(address, request, timeout=SECONDS) as answer:
        content = answer.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise OSError(f"{agent} answered more than {LARGEST} bytes. Answer in pieces.")
    return content


def serve(entry, ports: dict[str, int]) -> list:
    """Start a server for every protocol of `ports`; port 0 takes a free one.

    **Returns:** the servers' ports, in the order of `ports`, each after its shutdown.
    """
    started = []
    for protocol, port in ports.items():
        start = {"http": _serve_http, "grpc": _serve_grpc}[protocol]
        started.append(start(entry, port))
    return started


def _serve_http(entry, port):
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

        def _answer(self, status, content):
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format, *args):
            pass

    server = ThreadingHTTPServer(("", port), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def stop():
        server.shutdown()
        server.server_close()

    return stop, server.server_address[1]


def _serve_grpc(entry, port):
    import grpc

    def answer(request, context):
        try:
            return bytes(entry(request, call))
        except Exception as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
            context.abort(grpc.StatusCode.INTERNAL, "the agent failed; its log says why")

    method = grpc.unary_unary_rpc_method_handler(answer)  # bytes in, bytes out
    size = ("grpc.max_receive_message_length", LARGEST)
    server = grpc.server(ThreadPoolExecutor(8), options=[size])
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("sedma.Agent", {"Call": method}),)
    )
    port = server.add_insecure_port(f"[::]:{port}")
    server.start()
    return (lambda: server.stop(1).wait()), port


def _call_grpc(agent, address, request):
    import grpc

    size = ("grpc.max_receive_message_length", LARGEST)
    with grpc.insecure_channel(address, options=[size]) as channel:
        try:
            method = channel.unary_unary("/sedma.Agent/Call")
            return method(request, timeout=SECONDS, wait_for_ready=True)
        except grpc.RpcError as error:
            raise OSError(f"{agent} at {address} failed: {error.code().name}.") from error


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
