"""Lattica in a process of its own, for `transport.py`: serves, or asks and prints rates.

    PYTHON -m bench.comm.transport_lattica (serve | ask ADDRESS)

Needs `lattica`; calls are its requests and responses over Noise and TCP.
"""

import asyncio
import json
import socket
import sys
import tempfile
import time

from lattica import ConnectionHandler, Lattica, rpc_method

from bench.comm.transport_rates import DATA, measure


class Transport(ConnectionHandler):
    """Bodies of any length; the library pickles them."""

    @rpc_method
    def get(self, size: int) -> bytes:
        return DATA[:size].tobytes()


def node(folder, port, **config):
    """A node that talks to loopback alone."""
    built = Lattica.builder().with_listen_addrs([f"/ip4/127.0.0.1/tcp/{port}"])
    built = built.with_mdns(False).with_upnp(False).with_autonat(False).with_dcutr(False)
    built = built.with_key_path(folder)
    for name, value in config.items():
        built = getattr(built, f"with_{name}")(value)
    return built.build()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def serve(folder):
    port = free_port()  # chosen here, since a node does not say which one it took
    lattica = node(folder, port)
    Transport(lattica)
    print(f"/ip4/127.0.0.1/tcp/{port}/p2p/{lattica.peer_id()}", flush=True)
    while True:
        time.sleep(60)


def ask(folder, address):
    lattica = node(folder, 0, bootstraps=[address])
    stub = Transport(lattica).get_stub(address.rpartition("/")[2])

    async def fetch(size, view):
        view[:] = stub.get(size).result()

    deadline = time.monotonic() + 20
    while True:
        try:
            asyncio.run(fetch(1, memoryview(bytearray(1))))
            break
        except RuntimeError:  # not connected yet
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
    print(json.dumps(asyncio.run(measure(fetch))))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        serve(folder) if sys.argv[1] == "serve" else ask(folder, sys.argv[2])
