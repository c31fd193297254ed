"""Bytes and calls between two processes: raw trio TCP, gRPC, libp2p as it comes, and ours.

    python bench/bench_comm.py [ROUNDS]

Prints MB/s for a body of 64 MiB and calls/s for bodies of 128 B and 256 KiB, one at a
time, medians over interleaved rounds. gRPC is measured where `grpcio` is installed, which
libp2p needs anyway. Checksums of what arrived are compared outside the timing.
"""

import socket
import struct
import subprocess
import sys
import time
import zlib
from concurrent import futures
from statistics import median

import grpc
import numpy as np
import trio

from sedma_jax.comm import EVERYONE, NodeSettings, running_node

SIZES = {"64 MiB": (64 * 2**20, 1), "128 B": (128, 1), "256 KiB": (256 * 1024, 1)}
SECONDS = 1.5  # of calls
DATA = np.random.default_rng(0).integers(0, 255, 64 * 2**20, np.uint8)
LIMITS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
LENGTH = struct.Struct("!Q")


async def fill(stream, view):
    at = 0
    while at < len(view):
        piece = await stream.receive_some(2**18)
        view[at : at + len(piece)] = piece
        at += len(piece)


async def serve_trio():
    async def answer(stream):
        request = bytearray(8)
        while True:
            await fill(stream, memoryview(request))
            await stream.send_all(memoryview(DATA)[: LENGTH.unpack(request)[0]])

    async def guarded(stream):
        try:
            await answer(stream)
        except (trio.BrokenResourceError, ValueError, IndexError):
            pass

    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    print(listener.socket.getsockname()[1], flush=True)
    await trio.serve_listeners(guarded, [listener])


async def ask_trio(address, measure):
    stream = await trio.open_tcp_stream("127.0.0.1", int(address))
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    async def fetch(size, view):
        await stream.send_all(LENGTH.pack(size))
        await fill(stream, view)

    return await measure(fetch)


def serve_grpc():
    def answer(request, context):
        return DATA[: LENGTH.unpack(request)[0]].tobytes()

    method = grpc.unary_unary_rpc_method_handler(answer)
    server = grpc.server(futures.ThreadPoolExecutor(2), options=LIMITS)
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler("bench", {"get": method})]
    )
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    server.start()
    server.wait_for_termination()


async def ask_grpc(address, measure):
    with grpc.insecure_channel(f"127.0.0.1:{address}", options=LIMITS) as channel:
        get = channel.unary_unary("/bench/get")

        async def fetch(size, view):
            view[:] = get(LENGTH.pack(size))

        return await measure(fetch)


async def serve_node(own_muxer):
    settings = NodeSettings(
        allowed=frozenset({EVERYONE}), own_muxer=own_muxer, status_every=3600
    )
    async with running_node(settings) as node:

        async def get(call):
            return memoryview(DATA)[: LENGTH.unpack(call.body)[0]]

        node.methods.add("get", get)
        print(node.addresses[0], flush=True)
        await trio.sleep_forever()


async def ask_node(address, measure, own_muxer):
    settings = NodeSettings(
        allowed=frozenset({EVERYONE}), own_muxer=own_muxer, status_every=3600
    )
    async with running_node(settings) as node:
        peer = await node.connect(address)

        async def fetch(size, view):
            await node.calls.call(peer, "get", LENGTH.pack(size), into=view, timeout=60)

        return await measure(fetch)


async def measure(fetch):
    """Rates of one round; the first call of each size is not timed."""
    rates = {}
    for name, (size, least) in SIZES.items():
        view = memoryview(bytearray(size))
        await fetch(size, view)
        assert zlib.crc32(view) == zlib.crc32(DATA[:size])
        count, started = 0, time.perf_counter()
        while count < least or time.perf_counter() - started < SECONDS:
            await fetch(size, view)
            count += 1
        rate = count / (time.perf_counter() - started)
        rates[name] = rate * size / 1e6 if name == "64 MiB" else rate
    return rates


WAYS = {
    "raw trio TCP": (
        lambda: trio.run(serve_trio),
        lambda a: trio.run(ask_trio, a, measure),
    ),
    "gRPC": (serve_grpc, lambda a: trio.run(ask_grpc, a, measure)),
    "libp2p as it comes": (
        lambda: trio.run(serve_node, False),
        lambda a: trio.run(ask_node, a, measure, False),
    ),
    "ours": (
        lambda: trio.run(serve_node, True),
        lambda a: trio.run(ask_node, a, measure, True),
    ),
}


def main():
    """Serve in child processes, measure here."""
    if sys.argv[1:2] == ["serve"]:
        WAYS[sys.argv[2]][0]()
    rounds = int(sys.argv[1]) if sys.argv[1:] else 3
    found = {way: [] for way in WAYS}
    for _ in range(rounds):
        for way, (_, ask) in WAYS.items():
            server = subprocess.Popen(
                [sys.executable, __file__, "serve", way], stdout=subprocess.PIPE, text=True
            )
            try:
                assert server.stdout is not None
                found[way].append(ask(server.stdout.readline().strip()))
            finally:
                server.kill()
                server.wait()
    middle = {
        way: {name: median(r[name] for r in rates) for name in SIZES}
        for way, rates in found.items()
    }
    print(f"{'':20}{'64 MiB MB/s':>14}{'128 B /s':>12}{'256 KiB /s':>12}")
    for way, rates in middle.items():
        print(f"{way:20}" + "".join(f"{rates[n]:>{w}.0f}" for n, w in WIDTHS.items()))
    for name in SIZES:
        ratio = middle["ours"][name] / middle["libp2p as it comes"][name]
        print(f"ours over libp2p as it comes, {name}: {ratio:.2f}")


WIDTHS = {"64 MiB": 14, "128 B": 12, "256 KiB": 12}

if __name__ == "__main__":
    main()
