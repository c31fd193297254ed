"""Fetch a tensor from several peers at once, trusting none of them.

A provider gets its next range when it has sent one, so that fast providers carry more. A
range that fails goes to another provider; a wrong digest counts against its sender. When no
range is left, the fast providers are also asked for what the slow ones still owe, and the
first answer wins.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import trio

from .._errors import reason
from .._libp2p.library import parse_cid
from .._peers.table import PeerTable
from .._rpc import wire_pb2 as wire
from .._rpc.calls import Calls, RemoteError
from .._rpc.messages import MessageError
from .manifest import (
    CHUNK,
    LARGEST_MANIFEST,
    Manifest,
    ManifestError,
    empty_aligned,
    read_manifest,
)

RANGE = 4 * CHUNK  # bytes asked for at once
AT_ONCE = 4  # providers in parallel; the others replace those that fail
CALLS_EACH = 2  # per provider, so that it reads the next range while one travels
PATIENCE = 20.0  # seconds for a range
FAILURES = 2  # of a provider, until another replaces it
_NETWORK = (ConnectionError, RemoteError, MessageError, OSError, trio.TooSlowError)


class FetchError(RuntimeError):
    """No provider could send the tensor or block.

    **Example:**

        >>> cid = "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"
        >>> with sj.comm.open_node() as node:
        ...     try:
        ...         node.get(cid)
        ...     except sj.comm.FetchError as error:
        ...         print(error)
        `Node.get` needs a provider of bafkrei.... Got none. Check the CID, ...
    """


@dataclass
class Transfer:
    """The ranges of up to 1 MiB that each provider completed, attempted and corrupted.

    `seconds` is the time of the whole fetch.

    **Example:**

        >>> everyone = sj.comm.NodeSettings(allowed=frozenset({sj.comm.EVERYONE}))
        >>> with sj.comm.open_node(everyone) as a, sj.comm.open_node(everyone) as b:
        ...     provider = b.connect(*a.addresses)
        ...     _ = b.get(a.put(np.arange(3.0)))
        ...     transfer = b.node.last_transfer
        >>> transfer.completed == transfer.attempted == {provider: 1}, transfer.corrupt
        (True, {})
    """

    seconds: float = 0.0
    completed: dict[str, int] = field(default_factory=dict)
    attempted: dict[str, int] = field(default_factory=dict)
    corrupt: dict[str, int] = field(default_factory=dict)


@dataclass
class _Range:
    offset: int
    length: int
    scope: trio.CancelScope | None = None  # of the call that writes into the tensor
    ended: trio.Event | None = None
    done: bool = False
    doubled: bool = False
    asked: str = ""  # the provider that this call asks


async def fetch_manifest(
    calls: Calls, peers: PeerTable, cid: str, providers: list[str], timeout: float = 5.0
) -> Manifest:
    """The manifest of a tensor, from the first provider that sends the right one."""
    failures: list[str] = []
    for name in providers:
        try:
            raw = await calls.call(
                name,
                "manifest",
                meta=parse_cid(cid).buffer,
                timeout=timeout,
                largest=LARGEST_MANIFEST,
            )
            manifest = read_manifest(bytes(raw))
            if manifest.cid == cid:
                return manifest
            peers.strike(name)
            failures.append(f"{name}: another tensor's manifest")
        except ManifestError:
            peers.strike(name)
            failures.append(f"{name}: no manifest")
        except _NETWORK as error:
            failures.append(f"{name}: {reason(error)}")
    raise FetchError(
        f"`Node.get` needs a provider of {cid}. Got {'; '.join(failures) or 'none'}. Check "
        "the CID, and that a peer that has the tensor is connected."
    )


class _Fetch:
    """The state of one fetch."""

    def __init__(
        self, calls: Calls, peers: PeerTable, manifest: Manifest, providers: list[str]
    ):
        self.calls, self.peers, self.manifest = calls, peers, manifest
        self.out = empty_aligned(manifest.nbytes)
        self.view = self.out.data
        self.cid = parse_cid(manifest.cid).buffer
        self.ranges = [
            _Range(at, min(RANGE, manifest.nbytes - at))
            for at in range(0, manifest.nbytes, RANGE)
        ]
        self.todo = list(reversed(self.ranges))
        self.left = len(self.ranges)
        self.reserve = list(providers)
        self.transfer = Transfer()
        self.work = trio.Condition()
        self.active = 0

    async def run(self) -> bool:
        """Fetch all ranges; whether that succeeded."""
        async with trio.open_nursery() as nursery:
            self.nursery = nursery
            for _ in range(min(AT_ONCE, len(self.reserve))):
                self._enlist()
            async with self.work:
                while self.left and self.active:
                    await self.work.wait()
            nursery.cancel_scope.cancel()
        return not self.left

    def _enlist(self) -> None:
        if self.reserve:
            self.active += 1
            self.nursery.start_soon(self._provider, self.reserve.pop(0))

    async def _provider(self, name: str) -> None:
        failures = [0]
        async with trio.open_nursery() as nursery:
            for _ in range(CALLS_EACH):
                nursery.start_soon(self._pull, name, failures)
        async with self.work:
            self.active -= 1
            self._enlist()
            self.work.notify_all()

    async def _next(self, name: str) -> tuple[_Range | None, bool]:
        """A range to ask `name` for, and whether another provider owes it already."""
        async with self.work:
            while self.left:
                if self.todo:
                    return self.todo.pop(), False
                for owed in self.ranges:
                    travels = owed.scope is not None and not owed.doubled
                    if travels and not owed.done and owed.asked != name:
                        owed.doubled = True
                        return owed, True
                await self.work.wait()
        return None, False

    async def _pull(self, name: str, failures: list[int]) -> None:
        while failures[0] < FAILURES and self.peers.usable(name):
            part, again = await self._next(name)
            if part is None:
                return
            count = self.transfer.attempted
            count[name] = count.get(name, 0) + 1
            try:
                await (self._second if again else self._first)(name, part)
                self.transfer.completed[name] = self.transfer.completed.get(name, 0) + 1
            except _Corrupt:
                self.transfer.corrupt[name] = self.transfer.corrupt.get(name, 0) + 1
                self.peers.strike(name)
                failures[0] += 1
            except _Overtaken:
                if again:  # losing as the second says nothing about a peer
                    count[name] -= 1
            except _NETWORK:
                failures[0] += 1
            async with self.work:
                self.work.notify_all()

    async def _first(self, name: str, part: _Range) -> None:
        """Ask for a range that nobody owes, straight into the tensor."""
        part.ended, part.scope, part.asked = trio.Event(), trio.CancelScope(), name  # pyright: ignore[reportCallIssue]
        try:
            with part.scope:
                into = self.view[part.offset : part.offset + part.length]
                await self._receive(name, part, into)
                self._finish(part)
        finally:
            part.ended.set()
            part.scope = None
            if not part.done and not part.doubled:
                self.todo.append(part)
        if not part.done:
            raise _Overtaken

    async def _second(self, name: str, part: _Range) -> None:
        """Ask for a range that another provider still owes, into a buffer of its own."""
        into = empty_aligned(part.length).data
        try:
            await self._receive(name, part, into)
        except BaseException:
            part.doubled = False
            if not part.done and part.scope is None:
                self.todo.append(part)
            raise
        if part.done:
            raise _Overtaken
        # The first call must not overwrite verified bytes.
        if part.scope is not None:
            part.scope.cancel()
        assert part.ended is not None
        with trio.CancelScope(shield=True):  # pyright: ignore[reportCallIssue]
            await part.ended.wait()
        if not part.done:
            self.view[part.offset : part.offset + part.length] = into
            self._finish(part)

    async def _receive(self, name: str, part: _Range, into: memoryview) -> None:
        request = wire.Range(cid=self.cid, offset=part.offset, length=part.length)
        started = time.perf_counter()
        await self.calls.call(
            name, "range", meta=request.SerializeToString(), timeout=PATIENCE, into=into
        )
        if part.length == RANGE:
            self.peers.get(name).measure_range(time.perf_counter() - started)
        right = await trio.to_thread.run_sync(self.manifest.matches, part.offset, into)
        if not right:
            raise _Corrupt

    def _finish(self, part: _Range) -> None:
        part.done = True
        self.left -= 1


class _Corrupt(Exception):
    """The bytes do not match their digest."""


class _Overtaken(Exception):
    """Another provider was faster."""


async def fetch_tensor(
    calls: Calls, peers: PeerTable, manifest: Manifest, providers: list[str]
) -> tuple[np.ndarray, Transfer]:
    """Fetch a tensor, and verify it.

    **Arguments:**

    - `providers`: connected peers, best first.

    **Returns:** an array in memory that JAX can alias, and a `Transfer`. The outcome is
    recorded in `peers`.

    **Raises:** `FetchError` when every provider failed.
    """
    fetch = _Fetch(calls, peers, manifest, providers)
    asked = dict(_terms(peers, providers))
    started = time.perf_counter()
    complete = await fetch.run()
    fetch.transfer.seconds = time.perf_counter() - started
    for name, attempted in fetch.transfer.attempted.items():
        if not attempted:
            continue
        completed = fetch.transfer.completed.get(name, 0)
        peers.get(name).measure_success(completed, attempted)
        peers.learner.record(asked[name], completed, attempted)
    if not complete:
        raise FetchError(
            f"`Node.get` needs providers of {manifest.cid} that stay and send the right "
            f"bytes. Got {len(providers)}, which failed ({fetch.transfer.corrupt} "
            "corrupt). Try again when another peer has it."
        )
    fetch.out.flags.writeable = False
    array = fetch.out.view(manifest.dtype).reshape(manifest.shape)
    return array, fetch.transfer


def _terms(peers: PeerTable, names: list[str]) -> Iterable[tuple[str, np.ndarray]]:
    return zip(names, peers.terms(names), strict=True) if names else ()
