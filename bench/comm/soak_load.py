"""What `soak.py` does to nodes and a service, each in a thread until it is told to stop."""

import hashlib
import math
import socket
import threading
import time
import traceback
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import numpy as np
import trio

from bench.comm.soak_nodes import Daemon
from sedma_jax import comm

# Private: the commands of `sedma node` without starting Python for each, and calls that no
# honest client makes.
from sedma_jax.comm._libp2p.library import PeerID, parse_cid
from sedma_jax.comm._rpc import wire_pb2 as wire
from sedma_jax.comm._rpc.calls import PROTOCOL
from sedma_jax.comm._rpc.messages import MessageError, prefix_and_header
from sedma_jax.comm._runners import control_client
from sedma_jax.comm._tensors.fetch import fetch_manifest, fetch_tensor

REFUSED = (OSError, RuntimeError, MessageError, trio.TooSlowError)
AT_END = "at the end"
SHAPES = [(20, 23), (32, 32), (48, 40), (67, 67)]
EVERYONE = frozenset({comm.EVERYONE})


def digest(array: np.ndarray) -> bytes:
    """SHA-256 of an array's bytes."""
    return hashlib.sha256(np.ascontiguousarray(array).view(np.uint8)).digest()


class Tensors:
    """What nodes have acknowledged: CIDs, digests, and the node that did; counts of all."""

    def __init__(self):
        self.lock = threading.Lock()
        self.accepted: list[tuple[str, bytes, int]] = []
        self.counts: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.corrupt: list[str] = []

    def count(self, name: str, number: int = 1) -> None:
        with self.lock:
            self.counts[name] += number

    def accept(self, kind: str, cid: str, array: np.ndarray, node: int) -> None:
        with self.lock:
            self.accepted.append((cid, digest(array), node))
            self.counts[f"{kind} accepted"] += 1

    def refuse(self, kind: str, error: BaseException) -> None:
        with self.lock:
            self.counts[f"{kind} refused"] += 1
            self.errors[f"{kind}: {' '.join(str(error).split())[:60]}"] += 1

    def check(self, kind: str, cid: str, expected: bytes, array: np.ndarray) -> None:
        right = digest(array) == expected
        with self.lock:
            self.counts[f"{kind} right" if right else f"{kind} corrupt"] += 1
            if not right:
                self.corrupt.append(cid)

    def sample(self, rng: np.random.Generator, node: int | None = None, most: int = 1):
        """Some accepted tensors, of one node's if it is named: its last and random ones."""
        with self.lock:
            found = [t for t in self.accepted if node is None or t[2] == node]
        if not found:
            return []
        chosen = rng.integers(0, len(found), most)
        return [found[i] for i in chosen] + (found[-most:] if node is not None else [])


class Load:
    """Everything at once on five nodes and a service."""

    check_seconds = 900.0

    def __init__(self, nodes: list[Daemon], service: Daemon, folder: Path, seconds: float):
        self.nodes, self.service, self.folder = nodes, service, folder
        self.seconds, self.started = seconds, time.monotonic()
        self.tensors, self.stop = Tensors(), threading.Event()
        self.jobs: Counter[str] = Counter()
        self.kills: Counter[str] = Counter()
        self.unexpected: list[str] = []  # errors of this bench

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self.started

    def tensor(self, rng: np.random.Generator, largest: float = 2**22) -> np.ndarray:
        """An array of 1 kB to 4 MiB that no other one equals."""
        size = int(np.exp(rng.uniform(np.log(1000), np.log(largest))))
        return rng.integers(0, 255, size, np.uint8)

    def put(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        while not self.stop.wait(rng.uniform(0.3, 1.5)):
            array, i = self.tensor(rng), int(rng.integers(5))
            try:
                cid = control_client.put(self.nodes[i].folder, array)
            except REFUSED as error:
                self.tensors.refuse("puts", error)
            else:
                self.tensors.accept("puts", cid, array, i)

    def get(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        while not self.stop.wait(rng.uniform(0.2, 1.0)):
            for cid, expected, _ in self.tensors.sample(rng):
                node = self.nodes[int(rng.integers(5))]
                try:
                    array = control_client.get(node.folder, cid)
                except REFUSED as error:  # its holders may be down
                    self.tensors.refuse("gets", error)
                else:
                    self.tensors.check("gets", cid, expected, array)

    def keep(self, seed: int) -> None:
        """A peer that all nodes name asks them to keep what it then drops."""
        rng = np.random.default_rng(seed)
        allowed = frozenset(node.id for node in self.nodes)
        key = self.folder / "friend.key"
        with comm.open_node(key=key, allowed=allowed) as friend:
            while not self.stop.wait(rng.uniform(0.5, 2.5)):
                array, i = self.tensor(rng), int(rng.integers(5))
                cid = friend.put(array)
                try:
                    friend.connect(self.nodes[i].address)
                    friend.call(ask_to_keep, friend, self.nodes[i].id, cid, timeout=60)
                except REFUSED as error:
                    self.tensors.refuse("keeps", error)
                else:
                    self.tensors.accept("keeps", cid, array, i)
                friend.call(drop, friend, cid)

    def kill(self, seed: int) -> None:
        """Kill random nodes, but for the first of each kind: their memory is judged.

        The service is killed in the first half, its workers in the second.
        """
        rng = np.random.default_rng(seed)
        while not self.stop.wait(rng.uniform(15, 45)):
            i = int(rng.choice([1, 2, 4]))
            self.nodes[i].kill()
            self.kills["nodes"] += 1
            self.stop.wait(rng.uniform(0, 3))
            self.nodes[i].start()
            self.verify(i, self.tensors.sample(rng, i, 8), "after restarts")
            if rng.random() < 0.25:
                if self.elapsed < self.seconds / 2:
                    self.service.kill()
                    self.kills["service"] += 1
                    self.service.start()
                elif workers := self.service.workers():
                    with suppress(Exception):  # it may have retired
                        workers[int(rng.integers(len(workers)))].kill()
                        self.kills["workers"] += 1

    def verify(self, i: int, wanted: list[tuple[str, bytes, int]], kind: str) -> None:
        """Fetch tensors from the one node that has acknowledged them, and compare them.

        At the end each node gets its part of `check_seconds`; the order is random.
        """
        node = self.nodes[i]
        share = self.check_seconds * (i + 1) / len(self.nodes)
        until = self.started + self.seconds + share if kind == AT_END else math.inf
        order = np.random.default_rng(i).permutation(len(wanted))
        key = self.folder / "checker.key"
        with comm.open_node(key=key, allowed=frozenset({node.id})) as checker:
            checker.connect(node.address)
            with ThreadPoolExecutor(4) as pool:
                one = lambda k: self._verify_one(checker, i, wanted[k], kind, until)
                list(pool.map(one, order))

    def _verify_one(self, checker, i: int, wanted: tuple, kind: str, until: float) -> None:
        cid, expected, _ = wanted
        if time.monotonic() > until:
            self.tensors.count(f"{kind} not checked")
            return
        for last in (False, False, True):
            try:
                array = checker.call(fetch_from, checker, self.nodes[i].id, cid, timeout=60)
            except REFUSED as error:
                self.tensors.refuse(f"{kind}, a try", error)
                self.tensors.count("lost", int(last))
                time.sleep(0.2)
            else:
                self.tensors.check(kind, cid, expected, array)
                return

    def work(self, seed: int) -> None:
        """Submit jobs of few shapes and some new ones, and wait for their products."""
        rng, number = np.random.default_rng(seed), 0
        key, waiting = self.folder / "client.key", []
        while not (self.stop.is_set() and not waiting):
            try:
                with comm.open_jobs(self.service.address, key=key) as client:
                    while not (self.stop.is_set() and not waiting):
                        for _ in range(0 if waiting else int(rng.integers(1, 4))):
                            shape = SHAPES[int(rng.integers(len(SHAPES)))]
                            if number % 25 == 24:
                                shape = tuple(map(int, rng.integers(20, 120, 2)))
                            A = rng.normal(size=shape).astype(np.float32)
                            x = rng.normal(size=shape[1]).astype(np.float32)
                            waiting.append([f"job-{number}", A, x, False])
                            number += 1
                        self._ask_for(client, waiting)
                        self.stop.wait(rng.uniform(0.5, 3))
            except ConnectionError:
                self.jobs["connections lost"] += 1
                time.sleep(1)

    def _ask_for(self, client: comm.JobClient, waiting: list) -> None:
        try:
            for job in waiting:
                if not job[3]:
                    # If the answer was lost, the same id is the same job.
                    client.submit(job[1], job[2], id=job[0])
                    job[3] = True
                    self.jobs["accepted"] += 1
            while waiting:
                id, A, x, _ = waiting[0]
                try:
                    y, job = client.result(id, 120)
                except (comm.FetchError, comm.RemoteError):
                    raise
                except RuntimeError as error:
                    self.jobs["failed"] += 1
                    self.tensors.refuse("jobs", error)
                else:
                    error = np.linalg.norm(y - A @ x) / np.linalg.norm(A @ x)
                    self.jobs["done"] += 1
                    self.jobs["wrong"] += bool(error > 0.1)
                    self.jobs["tried again"] += job["attempts"] > 1
                waiting.pop(0)
        except (comm.FetchError, comm.RemoteError, TimeoutError, OSError) as error:
            raise ConnectionError from error

    def disturb(self, seed: int) -> None:
        """Strangers without keys: silent, garbage, and half a handshake."""
        rng = np.random.default_rng(seed)
        ports = [daemon.port for daemon in (*self.nodes, self.service)]
        while not self.stop.wait(rng.uniform(0, 4)):
            with ExitStack() as stack:
                for _ in range(int(rng.integers(1, 40))):
                    with suppress(OSError):
                        to = "127.0.0.1", int(rng.choice(ports))
                        peer = stack.enter_context(socket.create_connection(to, 5))
                        said = int(rng.integers(3))
                        if said:
                            hello = b"\x13/multistream/1.0.0\n" * (said == 1)
                            peer.sendall(hello + rng.bytes(int(rng.integers(1, 5000))))
                        self.tensors.count("connections of strangers")
                self.stop.wait(rng.uniform(0, 6))

    def intrude(self, seed: int) -> None:
        """Strangers with keys at the open nodes: announced bodies, garbage and keeps."""
        rng = np.random.default_rng(seed)
        while not self.stop.wait(rng.uniform(1, 5)):
            node = self.nodes[int(rng.choice([3, 4]))]
            try:
                with comm.open_node(allowed=EVERYONE) as stranger:
                    stranger.connect(node.address)
                    self.tensors.count("strangers with keys")
                    stranger.call(announce, stranger, node.id, rng, timeout=30)
                    for _ in range(4):
                        cid = stranger.put(self.tensor(rng))
                        stranger.call(ask_to_keep, stranger, node.id, cid, timeout=30)
                        self.tensors.count("keeps of strangers")
            except REFUSED as error:
                self.tensors.refuse("strangers", error)


async def ask_to_keep(client: comm.OpenNode, peer: str, cid: str) -> None:
    """Ask a peer to keep a tensor that this node has."""
    request = wire.Keep(cid=parse_cid(cid).buffer, wanted=1).SerializeToString()
    await client.node.calls.call(peer, "keep", request, timeout=60)


async def fetch_from(client: comm.OpenNode, peer: str, cid: str) -> np.ndarray:
    """A tensor from this peer and no other; looking for others takes long for thousands."""
    node = client.node
    manifest = await fetch_manifest(node.calls, node.peers, cid, [peer])
    return (await fetch_tensor(node.calls, node.peers, manifest, [peer]))[0]


async def drop(client: comm.OpenNode, cid: str) -> None:
    """Forget a tensor that this node holds in memory."""
    client.node.store.drop(cid)


async def announce(client: comm.OpenNode, peer: str, rng: np.random.Generator) -> None:
    """Announce bodies that do not come, and send what is no request."""
    for _ in range(8):
        name = PeerID.from_string(peer)
        stream = await client.node.host.new_stream(name, [PROTOCOL])
        header = wire.Header(method="echo", deadline_ms=60_000)
        head = prefix_and_header(header, 15 * 2**20)
        with trio.move_on_after(2):
            sent = bytes(int(rng.integers(0, 2**18)))
            garbage = rng.random() < 0.3
            await stream.write(rng.bytes(4000) if garbage else head + sent)


@contextmanager
def running(load: Load):
    """All of it in threads; an unexpected error in one of them ends all."""

    def guarded(work, seed):
        try:
            work(seed)
        except BaseException:
            load.unexpected.append(traceback.format_exc()[-2000:])
            load.stop.set()

    works = [load.put, load.put, load.get, load.get, load.keep, load.kill, load.work]
    works += [load.disturb, load.intrude]
    threads = [
        threading.Thread(target=guarded, args=(work, seed))
        for seed, work in enumerate(works)
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        load.stop.set()
        for thread in threads:
            thread.join()
