"""What one node holds under load, beside the default limits of go-libp2p.

    python -m bench.comm.load [--seconds 5] [--out FILE] [--page docs/promises.md]

The node is `sedma node start --open` in a process of its own. In turn it is asked by eight
peers that have eight calls under way each; meets silent sockets; more peers than it has
places for; one peer that opens more streams than it may; and peers in all its places that
each announce eight bodies of 15 MiB and send 2 MiB of each, while an honest one goes on
asking. Memory is the peak of the node's process above what it had before (VmHWM of Linux).
Requests are `echo` of 128 bytes; client and node share the machine.

Limits of go-libp2p are the `DefaultLimits` in `p2p/host/resource-manager/limit_defaults.go`
(github.com/libp2p/go-libp2p, commit 0704e5f9e719), of the smallest node and of one with
1 GiB for libp2p, to which its `AutoScale` comes on a machine of 8 GiB. Its documents give
no rates or times.
"""

import argparse
import logging
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import AsyncExitStack, ExitStack
from functools import partial
from pathlib import Path

import numpy as np
import trio

from bench.comm.flood import memory, settled
from bench.comm.soak_nodes import Daemon
from bench.shared import RESULTS, ROOT, machine, module_command, parser_of, write_json
from sedma_jax import comm

# Private: the limits that the table names, and streams that no public call would open.
from sedma_jax.comm._libp2p import muxer, newcomers, places
from sedma_jax.comm._libp2p.library import PeerID
from sedma_jax.comm._rpc import body_memory, wire_pb2 as wire
from sedma_jax.comm._rpc.calls import PROTOCOL
from sedma_jax.comm._rpc.messages import prefix_and_header
from sedma_jax.comm._runners import control_client

SETTINGS = comm.NodeSettings(allowed=frozenset({comm.EVERYONE}), status_every=600)
PEERS, AT_ONCE = 8, 8
SILENT, BODIES, SENT = 400, 8, 2 * 2**20
MIB = 2**20
HEAD = "| under load | limit | held | go-libp2p, least | go-libp2p, 1 GiB |"
# go-libp2p: the smallest node, and one with 1 GiB for libp2p.
THEIRS = {
    "handshakes": ("32", "48"),
    "connections": ("64 inbound", "128 inbound"),
    "streams": ("256 inbound a peer", "384 inbound a peer"),
    "bodies": ("128 MiB in all, 64 MiB a peer", "1,152 MiB in all, 192 MiB a peer"),
}


class Watched:
    """The node that is loaded."""

    def __init__(self, daemon: Daemon):
        self.daemon = daemon
        self.process = daemon.process
        assert self.process is not None

    def begin(self) -> float:
        """Let the peak of its memory begin anew; its memory now, in MB."""
        assert self.process is not None
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")
        return memory(self.process.pid, "VmRSS")

    def peak(self) -> float:
        assert self.process is not None
        return memory(self.process.pid, "VmHWM")

    async def connected(self) -> int:
        ask = partial(control_client.ask, self.daemon.folder, "status")
        return len((await trio.to_thread.run_sync(ask))["connected"])


async def peers_of(stack: AsyncExitStack, address: str, count: int) -> list[comm.Node]:
    """Nodes that are connected to an address; fewer if it takes no more."""
    found = []
    for _ in range(count):
        node = await stack.enter_async_context(comm.running_node(SETTINGS))
        try:
            with trio.fail_after(10):
                await node.connect(address)
        except (ConnectionError, trio.TooSlowError):
            continue
        found.append(node)
    return found


async def asked(nodes: list[comm.Node], peer: str, seconds: float, at_once: int) -> dict:
    """Calls a second, and times of calls, of all nodes together."""
    times: list[float] = []
    failed = 0

    async def ask(node):
        nonlocal failed
        while True:
            started = time.perf_counter()
            try:
                await node.calls.call(peer, "echo", bytes(128), timeout=30)
            except (OSError, RuntimeError, trio.TooSlowError):
                failed += 1
                await trio.sleep(0.1)
            else:
                times.append(time.perf_counter() - started)

    with trio.move_on_after(seconds):
        async with trio.open_nursery() as nursery:
            for node in nodes:
                for _ in range(at_once):
                    nursery.start_soon(ask, node)
    return {
        "per_second": len(times) / seconds,
        "p50_ms": 1e3 * float(np.percentile(times, 50)),
        "p99_ms": 1e3 * float(np.percentile(times, 99)),
        "failed": failed,
    }


async def requests(node: Watched, seconds: float) -> dict:
    async with AsyncExitStack() as stack:
        before = node.begin()
        clients = await peers_of(stack, node.daemon.address, PEERS)
        await asked(clients, node.daemon.id, 1, AT_ONCE)  # streams are opened once
        found = await asked(clients, node.daemon.id, seconds, AT_ONCE)
        return found | {"peak_MB": node.peak() - before}


async def silent(node: Watched, seconds: float) -> dict:
    """How many silent sockets stay, and how long a newcomer takes meanwhile."""
    before = node.begin()
    with ExitStack() as opened:
        to = "127.0.0.1", node.daemon.port
        sockets = [
            opened.enter_context(socket.create_connection(to, 5)) for _ in range(SILENT)
        ]
        await trio.sleep(0.5)
        held = sum(not ended(each) for each in sockets)
        async with AsyncExitStack() as stack:
            started = time.perf_counter()
            got_in = len(await peers_of(stack, node.daemon.address, 1))
            took = time.perf_counter() - started
        return {
            "opened": SILENT,
            "held": held,
            "newcomer_got_in": bool(got_in),
            "newcomer_s": took,
            "peak_MB": node.peak() - before,
        }


def ended(client: socket.socket) -> bool:
    """Whether the other side has closed the connection."""
    client.setblocking(False)
    try:
        while client.recv(4096):
            pass
        return True
    except BlockingIOError:
        return False
    except OSError:
        return True


async def opened_streams(node: comm.Node, peer: str, count: int, length: int, sent: int):
    """Streams of a node that announce a body each, of which they send a part."""
    found, body = [], bytes(sent)
    header = wire.Header(method="echo", deadline_ms=600_000)
    for _ in range(count):
        with trio.move_on_after(5):
            try:
                stream = await node.host.new_stream(PeerID.from_string(peer), [PROTOCOL])
                found.append(stream)
                with trio.move_on_after(2):
                    await stream.muxed_stream.write(
                        prefix_and_header(header, length) + body
                    )
            except Exception:  # the node may end the stream in any way
                break
    return found


async def streams(node: Watched, seconds: float) -> dict:
    async with AsyncExitStack() as stack:
        before = node.begin()
        (client,) = await peers_of(stack, node.daemon.address, 1)
        most = muxer.MOST_STREAMS
        found = await opened_streams(client, node.daemon.id, 2 * most, MIB, 1)
        await trio.sleep(1)
        held = sum(not stream.muxed_stream.receive_closed for stream in found)
        return {"opened": 2 * most, "held": held, "peak_MB": node.peak() - before}


async def attack(address: str) -> None:
    """Be peers in all places but one; once told to, announce bodies until killed."""
    async with AsyncExitStack() as stack:
        found = await peers_of(stack, address, places.STRANGERS + 15)
        print(len(found), flush=True)
        await trio.to_thread.run_sync(sys.stdin.readline)
        peer = address.rpartition("/")[2]
        async with trio.open_nursery() as nursery:
            for each in found:
                nursery.start_soon(opened_streams, each, peer, BODIES, 15 * MIB, SENT)
        await trio.sleep_forever()


async def bodies(node: Watched, seconds: float) -> dict:
    """Peers in all places that announce bodies, and an honest one that asks on."""
    async with AsyncExitStack() as stack:
        before = node.begin()
        honest = await peers_of(stack, node.daemon.address, 1)
        attackers = await trio.lowlevel.open_process(
            module_command("bench.comm.load", "--attack", node.daemon.address),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
        )
        stack.callback(attackers.kill)
        assert attackers.stdin is not None and attackers.stdout is not None
        await attackers.stdout.receive_some()
        held = await node.connected()
        others = held - 1  # who is refused learns of it after the handshake
        empty = node.peak() - before
        quiet = await asked(honest, node.daemon.id, seconds, AT_ONCE)
        await attackers.stdin.send_all(b"\n")
        found = await asked(honest, node.daemon.id, 2 * seconds, AT_ONCE)
        return {
            "dialled": places.STRANGERS + 16,
            "connections_held": held,
            "connections_peak_MB": empty,
            "announced_MB": others * BODIES * 15 * MIB / 1e6,
            "offered_MB": others * BODIES * SENT / 1e6,
            "peak_MB": node.peak() - before,
            "quiet": quiet,
            "meanwhile": found,
        }


def table(record: dict) -> str:
    """The figures as a table of Markdown."""
    asked_, held = record["requests"], record["bodies"]
    limits = {
        "handshakes": (
            "connections before their handshake",
            f"{newcomers.HANDSHAKES}, {newcomers.HANDSHAKES_EACH} an address",
            f"{record['silent']['held']} of {record['silent']['opened']}",
        ),
        "connections": (
            "connections of proven keys",
            f"{places.STRANGERS}, and {places.NAMED} for named peers",
            f"{held['connections_held']} of {held['dialled']}",
        ),
        "streams": (
            "streams that a connection's peer opens",
            f"{muxer.MOST_STREAMS}",
            f"{record['streams']['held']} of {record['streams']['opened']}",
        ),
        "bodies": (
            "memory for bodies of requests",
            f"{body_memory.BUDGET_IN_ALL // MIB} MiB in all, "
            f"{body_memory.BUDGET // MIB} MiB a peer",
            f"{held['peak_MB']:.0f} MB more at the peak; {held['announced_MB']:,.0f} MB "
            f"announced, {held['offered_MB']:,.0f} MB of them offered",
        ),
    }
    rows = [
        (label, limit, found, *THEIRS[name])
        for name, (label, limit, found) in limits.items()
    ]
    p99 = lambda figures: f"{figures['p99_ms']:.1f} ms"
    peaks = {
        f"memory with {held['connections_held']} connections": held["connections_peak_MB"],
        f"memory with {record['silent']['opened']} silent sockets": record["silent"][
            "peak_MB"
        ],
    }
    rows += [(name, "", f"{peak:.0f} MB more", "-", "-") for name, peak in peaks.items()]
    rows += [
        (
            f"requests of 128 B, {PEERS} peers, {AT_ONCE} at once each",
            "",
            f"{asked_['per_second']:,.0f} a second, p99 {p99(asked_)}",
            *("-", "-"),
        ),
        (
            f"p99 of one peer, {AT_ONCE} at once: alone, and beside those bodies",
            "",
            f"{p99(held['quiet'])}, {p99(held['meanwhile'])}",
            *("-", "-"),
        ),
    ]
    lines = ["| " + " | ".join(line) + " |" for line in rows]
    return "\n".join([HEAD, "| --- | --- | --- | --- | --- |", *lines])


def main():
    parser = parser_of(__doc__)
    parser.add_argument("--seconds", type=float, default=5, help="for each measurement (5)")
    parser.add_argument("--out", type=Path, default=RESULTS / "load.json")
    parser.add_argument("--page", type=Path, help="page whose table to replace")
    parser.add_argument("--attack", metavar="ADDRESS", help=argparse.SUPPRESS)
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    if options.attack:
        trio.run(attack, options.attack)
        return
    record: dict = {"machine": machine(), "seconds": options.seconds}
    for measure in (requests, silent, streams, bodies):
        with tempfile.TemporaryDirectory(prefix="load-") as folder:
            command = ["node", "start", "--open", "--volatile"]
            daemon = Daemon("node", Path(folder) / "node", command, Path(folder) / "cache")
            try:
                daemon.start()
                assert daemon.process is not None
                settled(daemon.process.pid)
                record[measure.__name__] = trio.run(
                    measure, Watched(daemon), options.seconds
                )
            finally:
                daemon.kill()
        print(measure.__name__, record[measure.__name__], flush=True)
    write_json(options.out, record)
    print(table(record))
    if options.page:
        text = options.page.read_text()
        before, _, rest = text.partition(HEAD)
        after = rest[rest.index("\n\n") :]
        options.page.write_text(before + table(record) + after)


if __name__ == "__main__":
    main()
