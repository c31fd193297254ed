"""Peak memory of a node that is flooded, and of one whose readers are slow.

    python -m bench.comm.flood [--out bench/results/flood.json]

The node runs in a process of its own, once with our muxer and once with libp2p's. The
flood is 150 streams, each with a request that nobody answers and as much behind it as the
node lets in. Garbage is 300 streams of bytes that are no request. Slow readers are 24
calls, each of which would send 64 MiB, read at 640 kB/s. Memory is the peak of the process
above what it had before (VmHWM of Linux).
"""

import argparse
import logging
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import trio

from bench.shared import ROOT, module_command, parser_of, write_json
from sedma_jax import comm

# Private: attackers write to streams what no public call would send.
from sedma_jax.comm._libp2p.library import PeerID
from sedma_jax.comm._rpc import wire_pb2 as wire
from sedma_jax.comm._rpc.calls import PROTOCOL
from sedma_jax.comm._rpc.messages import PREFIX

OPEN = {"allowed": frozenset({comm.EVERYONE}), "status_every": 600}
SECONDS = 5.0


def be_victim(own_muxer: bool):
    """Run the node that is flooded, until its input ends."""
    with comm.open_node(**OPEN, own_muxer=own_muxer) as node:

        async def stall(call):
            await trio.sleep_forever()

        async def pour(call):
            for _ in range(256):
                await call.send(bytes(2**18))

        node.node.methods.add("stall", stall)
        node.node.methods.add("pour", pour)
        print(node.addresses[0], flush=True)
        sys.stdin.read()


@contextmanager
def victim(muxer: str):
    """Start it; the number of its process, and its address."""
    process = subprocess.Popen(
        module_command("bench.comm.flood", "--victim", muxer),
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process.pid, process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def memory(pid: int, field: str) -> float:
    """A field of the process's memory, in MB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024 / 1e6
    raise LookupError(field)


def settled(pid: int) -> None:
    """Wait until the process, which first imports and compiles, stops growing."""
    before, quiet, end = 0.0, 0, time.monotonic() + 60
    while quiet < 8:
        if time.monotonic() > end:
            raise TimeoutError("the memory of the victim grew for 60 s without an attack")
        time.sleep(0.25)
        now = memory(pid, "VmRSS")
        quiet = quiet + 1 if now <= before + 0.1 else 0
        before = max(before, now)


def peak_of(pid: int, attack) -> float:
    """How far the memory of a process rises during an attack, in MB."""
    settled(pid)
    Path(f"/proc/{pid}/clear_refs").write_text("5")  # the peak begins anew
    before = memory(pid, "VmRSS")
    attack()
    return memory(pid, "VmHWM") - before


async def many(count, one, seconds=SECONDS):
    """Run `one` `count` times at once, for some seconds."""

    async def guarded():
        try:
            await one()
        except Exception:  # the victim may end the stream in any way
            pass

    with trio.move_on_after(seconds):
        async with trio.open_nursery() as nursery:
            for _ in range(count):
                nursery.start_soon(guarded)


async def flood(node, peer):
    """Open streams with a request that is never answered, and send bytes behind it."""

    async def one():
        stream = await node.host.new_stream(PeerID.from_string(peer), [PROTOCOL])
        header = wire.Header(method="stall").SerializeToString()
        await stream.write(PREFIX.pack(1, 0, len(header), 0) + header)
        while True:
            await stream.write(bytes(65_000))

    await many(150, one)


async def garbage(node, peer):
    """Open streams that do not begin with a request."""

    async def one():
        stream = await node.host.new_stream(PeerID.from_string(peer), [PROTOCOL])
        await stream.write(b"\xff" * 60_000)
        await stream.read(1)

    for _ in range(6):
        await many(50, one, 1.0)


async def slow_readers(node, peer):
    """Read the answers of calls slowly."""

    async def one():
        async with node.calls.open(peer, "pour") as call:
            await call.finish()
            while await call.receive() is not None:
                await trio.sleep(0.4)

    await many(24, one)


ATTACKS = {"flood": flood, "garbage": garbage, "slow readers": slow_readers}


def peaks(muxer: str) -> dict[str, float]:
    """MB that each attack makes our muxer (`own`) or libp2p's (`library`) use."""
    found = {}
    for name, attack in ATTACKS.items():
        with victim(muxer) as (pid, address):
            with comm.open_node(**OPEN, own_muxer=muxer == "own") as attacker:
                peer = attacker.connect(address)
                act = lambda a=attacker, p=peer, f=attack: a.call(f, a.node, p)
                found[name] = peak_of(pid, act)
    return found


def main():
    parser = parser_of(__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--victim", choices=["own", "library"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    if options.victim:
        be_victim(options.victim == "own")
        return
    result = {"date": time.strftime("%Y-%m-%d"), "seconds": SECONDS, "peak_MB": {}}
    for muxer in ("own", "library"):
        result["peak_MB"][muxer] = found = peaks(muxer)
        told = ", ".join(f"{name} {value:.0f} MB" for name, value in found.items())
        print(f"{muxer}: {told}", flush=True)
    if options.out:
        write_json(options.out, result)


if __name__ == "__main__":
    main()
