"""Fetch a tensor from several peers at once, trusting none of them.

Every provider pulls the next range when it is done with one, so that the quick ones carry
more. A range that fails goes to somebody else; a wrong digest counts against its sender.
When no range is left, idle providers ask again for what the slow ones still owe: whoever
is first wins.
"""

import time
from dataclasses import dataclass, field

import numpy as np
import trio

from .._libp2p.library import parse_cid
from .._peers.table import PeerTable
from .._rpc import wire_pb2 as wire
from .._rpc.calls import Calls
from .._rpc.messages import MessageError
from .._rpc.methods import RemoteError
from .manifest import CHUNK, Manifest, ManifestError, empty_aligned, read_manifest

RANGE = 4 * CHUNK  # bytes asked for at once
AT_ONCE = 4  # providers asked in parallel; the others wait for one to fail
CALLS_EACH = 2  # so that a peer reads the next range while one travels
PATIENCE = 20.0  # seconds for a range
FAILURES = 2  # of a provider, until another takes its place
_NETWORK = (ConnectionError, RemoteError, MessageError, OSError, trio.TooSlowError)


class FetchError(RuntimeError):
    """No provider was left that could send the tensor."""


@dataclass
class Transfer:
    """What each provider did in one fetch: parts completed and attempted."""

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
    asked: str = ""  # the provider of that call


async def fetch_manifest(
    calls: Calls, peers: PeerTable, cid: str, providers: list[str], timeout: float = 5.0
) -> Manifest:
    """The manifest of a tensor, from the first provider that has the true one."""
    failures = []
    for name in providers:
        try:
            raw = await calls.call(
                name, "manifest", meta=parse_cid(cid).buffer, timeout=timeout
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
            failures.append(f"{name}: {error or type(error).__name__}")
    raise FetchError(
        f"needs a provider of {cid}. Got {'; '.join(failures) or 'none'}. Check the CID, "
        "and that a peer that has the tensor is connected."
    )


class _Fetch:
    def __init__(self, calls, peers, manifest, providers):
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

    async def run(self):
        async with trio.open_nursery() as nursery:
            self.nursery = nursery
            for _ in range(min(AT_ONCE, len(self.reserve))):
                self._enlist()
            async with self.work:
                while self.left and self.active:
                    await self.work.wait()
            nursery.cancel_scope.cancel()
        return not self.left

    def _enlist(self):
        if self.reserve:
            self.active += 1
            self.nursery.start_soon(self._provider, self.reserve.pop(0))

    async def _provider(self, name):
        failures = [0]
        async with trio.open_nursery() as nursery:
            for _ in range(CALLS_EACH):
                nursery.start_soon(self._pull, name, failures)
        async with self.work:
            self.active -= 1
            self._enlist()
            self.work.notify_all()

    async def _next(self, name):
        """A range to ask `name` for, and whether somebody else was asked before."""
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

    async def _pull(self, name, failures):
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
                if again:  # asked only in case: losing says nothing about a peer
                    count[name] -= 1
            except _NETWORK:
                failures[0] += 1
            async with self.work:
                self.work.notify_all()

    async def _first(self, name, part):
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

    async def _second(self, name, part):
        """Ask for a range that another provider still owes, into memory of its own."""
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
        # The other call must not write over what was verified.
        if part.scope is not None:
            part.scope.cancel()
        with trio.CancelScope(shield=True):  # pyright: ignore[reportCallIssue]
            await part.ended.wait()
        if not part.done:
            self.view[part.offset : part.offset + part.length] = into
            self._finish(part)

    async def _receive(self, name, part, into):
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

    def _finish(self, part):
        part.done = True
        self.left -= 1


class _Corrupt(Exception):
    """The bytes do not match their digest."""


class _Overtaken(Exception):
    """Another provider was quicker."""


async def fetch_tensor(
    calls: Calls, peers: PeerTable, manifest: Manifest, providers: list[str]
) -> tuple[np.ndarray, Transfer]:
    """All bytes of a tensor, verified, and who sent how much.

    **Arguments:**

    - `providers`: connected peers, best first.

    **Returns:**

    An array in memory that JAX aliases, and a `Transfer`. The outcome is recorded in
    `peers`.

    **Raises:** `FetchError` when every provider failed.
    """
    job = _Fetch(calls, peers, manifest, providers)
    asked = {name: terms for name, terms in _terms(peers, providers)}
    started = time.perf_counter()
    complete = await job.run()
    job.transfer.seconds = time.perf_counter() - started
    for name, attempted in job.transfer.attempted.items():
        if not attempted:
            continue
        completed = job.transfer.completed.get(name, 0)
        peers.get(name).measure_success(completed, attempted)
        peers.learner.record(asked[name], completed, attempted)
    if not complete:
        raise FetchError(
            f"needs providers of {manifest.cid} that stay and send what it names. Got "
            f"{len(providers)}, which failed ({job.transfer.corrupt} corrupt). Try again "
            "when another peer has it."
        )
    job.out.flags.writeable = False
    array = job.out.view(manifest.dtype).reshape(manifest.shape)
    return array, job.transfer


def _terms(peers, names):
    return zip(names, peers.terms(names), strict=True) if names else ()
