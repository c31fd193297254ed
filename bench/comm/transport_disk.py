"""Tensors of 64 MiB put and got with and without a disk, for `transport.py`.

A node that holds tensors in memory only, and one with a folder, in turn. `put` is timed in
the node; a new tensor each time. `get` is timed in another process, which fetches from the
node, the search for providers left out; for the disk the tensor has been taken from the
node's memory, and its file from the system's where that is possible. `file` is what the
file system itself does: 64 MiB written and synced, and read. The first of each is not
counted.
"""

import os
import tempfile
import time
from pathlib import Path

import numpy as np
import trio

from sedma_jax.comm import EVERYONE, Node, NodeSettings, running_node

# Private: `Node.get` also looks for providers, in up to seconds whatever the size.
from sedma_jax.comm._tensors.fetch import fetch_manifest, fetch_tensor

SIZE = 64 * 2**20
SETTINGS = {"allowed": frozenset({EVERYONE}), "status_every": 3600}
PLACES = ("memory", "disk")
_RNG = np.random.default_rng(0)
_DATA = _RNG.integers(0, 255, SIZE, np.uint8)


def tensor() -> np.ndarray:
    """64 MiB that were not put before."""
    array = _DATA.copy()
    array[:8] = _RNG.integers(0, 255, 8)
    return array


def forget_file(path: Path) -> None:
    """Have the system drop a file from its memory."""
    if hasattr(os, "posix_fadvise"):
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


async def put_seconds(node: Node) -> float:
    """Time that a node takes to hold a new tensor, which it then forgets."""
    array = tensor()
    started = time.perf_counter()
    cid = await node.put(array)
    seconds = time.perf_counter() - started
    node.store.drop(cid)
    if node.tiers.disk is not None:
        node.tiers.disk.remove([cid])
    return seconds


async def serve_tensors() -> None:
    """Nodes for `get`, which answer `chill` by leaving their tensor on the disk alone."""
    with tempfile.TemporaryDirectory() as folder:
        kept = NodeSettings(**SETTINGS, folder=Path(folder))
        async with running_node(NodeSettings(**SETTINGS)) as memory:
            async with running_node(kept) as disk:
                array = tensor()
                cids = [await node.put(array) for node in (memory, disk)]
                entry = disk.store.peek(cids[1])
                assert entry is not None

                async def chill(call):
                    entry.forget_bytes()
                    forget_file(Path(folder) / f"{cids[1]}.tensor")

                disk.methods.add("chill", chill)
                told = (memory.addresses[0], disk.addresses[0], cids[0])
                print(" ".join(told), flush=True)
                await trio.sleep_forever()


async def got_seconds(told: str, rounds: int) -> dict[str, list[float]]:
    """Times of fetching from nodes of `serve_tensors`, in turn."""
    *addresses, cid = told.split()
    found: dict[str, list[float]] = {place: [] for place in PLACES}
    async with running_node(NodeSettings(**SETTINGS)) as node:
        peers = [await node.connect(address) for address in addresses]
        for round_ in range(rounds + 1):
            for place, peer in zip(PLACES, peers, strict=True):
                if place == "disk":
                    await node.calls.call(peer, "chill")
                started = time.perf_counter()
                manifest = await fetch_manifest(node.calls, node.peers, cid, [peer])
                await fetch_tensor(node.calls, node.peers, manifest, [peer])
                if round_:
                    found[place].append(time.perf_counter() - started)
    return found


async def put_rounds(rounds: int) -> dict[str, list[float]]:
    """Times of `put`, in turn."""
    found: dict[str, list[float]] = {place: [] for place in PLACES}
    with tempfile.TemporaryDirectory() as folder:
        kept = NodeSettings(**SETTINGS, folder=Path(folder))
        async with running_node(NodeSettings(**SETTINGS)) as memory:
            async with running_node(kept) as disk:
                for round_ in range(rounds + 1):
                    for place, node in zip(PLACES, (memory, disk), strict=True):
                        seconds = await put_seconds(node)
                        if round_:
                            found[place].append(seconds)
    return found


def file_seconds(rounds: int) -> dict[str, list[float]]:
    """Times of the file system alone."""
    found: dict[str, list[float]] = {"written": [], "read": []}
    with tempfile.TemporaryDirectory() as folder:
        for i in range(rounds):
            path = Path(folder) / str(i)
            started = time.perf_counter()
            with path.open("wb", buffering=0) as file:
                file.write(_DATA.data)
                os.fsync(file.fileno())
            found["written"].append(time.perf_counter() - started)
            forget_file(path)
            started = time.perf_counter()
            path.read_bytes()
            found["read"].append(time.perf_counter() - started)
            path.unlink()
    return found
