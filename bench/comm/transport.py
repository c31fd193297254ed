"""Bytes and calls between two processes: raw TCP, gRPC, stock libp2p, Lattica, ours.

    python -m bench.comm.transport [--rounds 5] [--rivals PYTHON] [--results DIR]

MB/s for a body of 64 MiB and calls/s for bodies of 128 B and 256 KiB, one at a time over
loopback, medians over interleaved rounds; checksums of what arrived are compared outside
the timing. gRPC is measured by `grpcio`, which libp2p needs anyway. Stock libp2p has its
own muxer under our calls, and is given no more at once than fits a record, without which it
is slower. Then tensors of 64 MiB put to and got from nodes with and without a disk, and
what the file system does alone (`transport_disk.py`). Lattica is measured by an interpreter
that has it (`bench/rivals-requirements.txt`).
"""

import json
import socket
import subprocess
import sys
from concurrent import futures
from statistics import median

import grpc
import trio

from bench.comm.transport_disk import (
    PLACES,
    SIZE,
    file_seconds,
    got_seconds,
    put_rounds,
    serve_tensors,
)
from bench.comm.transport_rates import DATA, LENGTH, SIZES, measure
from bench.shared import ROOT, add_rivals, machine, module_command, parser_of, write_json
from sedma_jax.comm import EVERYONE, NodeSettings, running_node

STOCK, OURS, LATTICA = "libp2p as it comes", "ours", "Lattica"
LIMITS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


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


WAYS = {
    "raw trio TCP": (
        lambda: trio.run(serve_trio),
        lambda a: trio.run(ask_trio, a, measure),
    ),
    "gRPC": (serve_grpc, lambda a: trio.run(ask_grpc, a, measure)),
    STOCK: (
        lambda: trio.run(serve_node, False),
        lambda a: trio.run(ask_node, a, measure, False),
    ),
    OURS: (
        lambda: trio.run(serve_node, True),
        lambda a: trio.run(ask_node, a, measure, True),
    ),
}


def served(command, ask):
    """What `ask` returns, given the address at which a process of `command` serves."""
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        assert server.stdout is not None
        return ask(server.stdout.readline().strip())
    finally:
        server.kill()
        server.wait()


def lattica(python):
    """Rates of Lattica, with both ends in another interpreter."""
    command = [str(python), "-m", "bench.comm.transport_lattica"]

    def ask(address):
        done = subprocess.run(
            [*command, "ask", address],
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            check=True,
            timeout=120,
        )
        return json.loads(done.stdout.splitlines()[-1])

    return served([*command, "serve"], ask)


def tensor_rates(rounds):
    """MB/s of each round, for tensors in memory and on the disk, and of files alone."""
    seconds = {
        "put": trio.run(put_rounds, rounds),
        "get": served(
            module_command("bench.comm.transport", "serve", "tensors"),
            lambda told: trio.run(got_seconds, told, rounds),
        ),
        "file": file_seconds(rounds),
    }
    return {
        kind: {name: [SIZE / 1e6 / s for s in each] for name, each in found.items()}
        for kind, found in seconds.items()
    }


def has_lattica(python):
    """Whether the interpreter exists and has it."""
    probe = [str(python), "-c", "import lattica"]
    return python.exists() and not subprocess.run(probe, capture_output=True).returncode


def main():
    """Serve in child processes, measure here."""
    if sys.argv[1:2] == ["serve"]:
        return WAYS[sys.argv[2]][0]() if sys.argv[2] in WAYS else trio.run(serve_tensors)
    parser = parser_of(__doc__, results=True)
    parser.add_argument("--rounds", type=int, default=5)
    add_rivals(parser)
    options = parser.parse_args()
    command = lambda way: module_command("bench.comm.transport", "serve", way)
    measured = {
        way: lambda way=way, ask=ask: served(command(way), ask)
        for way, (_, ask) in WAYS.items()
    }
    skipped = {}
    if has_lattica(options.rivals):
        measured[LATTICA] = lambda: lattica(options.rivals)
    else:
        skipped[LATTICA] = f"not installed for {options.rivals}"
        print(f"{LATTICA}: {skipped[LATTICA]}")
    found = {way: [] for way in measured}
    for _ in range(options.rounds):
        for way, once in measured.items():
            found[way].append(once())
    middle = {
        way: {name: median(r[name] for r in rates) for name in SIZES}
        for way, rates in found.items()
    }
    print(f"{'':20}{'64 MiB MB/s':>14}{'128 B /s':>12}{'256 KiB /s':>12}")
    for way, rates in middle.items():
        print(f"{way:20}" + "".join(f"{rates[n]:>{w}.0f}" for n, w in WIDTHS.items()))
    over = {
        way: {name: middle[OURS][name] / rates[name] for name in SIZES}
        for way, rates in middle.items()
        if way != OURS
    }
    for way, ratios in over.items():
        print(f"ours over {way}: " + ", ".join(f"{n} {r:.2f}" for n, r in ratios.items()))
    tensors = tensor_rates(options.rounds)
    pairs = {k: zip(*(tensors[k][p] for p in PLACES), strict=True) for k in ("put", "get")}
    shares = {k: median(disk / memory for memory, disk in p) for k, p in pairs.items()}
    for kind, rates in tensors.items():
        told = ", ".join(f"{name} {median(r):.0f}" for name, r in rates.items())
        print(f"{kind} of 64 MiB, MB/s: {told}")
    print(f"disk over memory: put {shares['put']:.2f}, get {shares['get']:.2f}")
    record = {"machine": machine(), "rounds": found, "medians": middle, "ours_over": over}
    record |= {"tensors": tensors, "disk_over_memory": shares}
    record |= {"skipped": skipped} if skipped else {}
    write_json(options.results / "transport.json", record)


WIDTHS = {"64 MiB": 14, "128 B": 12, "256 KiB": 12}

if __name__ == "__main__":
    main()
