"""The two places of a tensor: on the disk, if the node has a folder, and in memory."""

import logging
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import numpy as np
import trio

from .disk import DamagedError, Disk
from .entry import Entry
from .manifest import CHUNK, Manifest
from .store import TensorStore

log = logging.getLogger("sedma_jax.comm")

SHRUNK_EVERY = 16 * 2**20  # bytes that come into memory between two looks at its limit
SAVE_EVERY = 30.0  # seconds between two writes of how tensors were used


class Tiers:
    """Tensors by CID, in memory and on the disk; `node.tiers` is the node's.

    **Arguments:**

    - `store`: what is held, and what goes.
    - `disk`: None to hold all in memory.
    """

    def __init__(self, store: TensorStore, disk: Disk | None):
        self.store, self.disk = store, disk
        self.damaged = 0  # tensors that the disk had lost when they were read
        self.lost: dict[str, Entry] = {}  # pinned ones, to be fetched from others again
        self._writing = trio.Lock()
        self._unseen = 0  # bytes read since memory was last held to its limit
        self._saved: dict[str, tuple] = {}

    async def start(self) -> None:
        """Take up what the disk holds."""
        if self.disk is None:
            return
        for cid, entry in await trio.to_thread.run_sync(
            lambda d=self.disk: list(d.entries())
        ):
            if entry.on_disk:
                self.store.insert(entry)
            else:
                self._count_lost(cid, entry)
        gone = list(self.lost)
        await trio.to_thread.run_sync(self.disk.remove, gone + self.store.fit())

    async def hold(
        self,
        manifest: Manifest,
        array: np.ndarray,
        *,
        pinned: bool,
        kept_for: str = "",
        holders: Iterable[str] = (),
        wanted: int = 1,
        part: Path | None = None,
    ) -> Entry:
        """Store a tensor; once this returns, a pinned one is on the disk if there is one.

        **Arguments:** as the fields of `Entry`, and `part`: what `stage` gave.

        **Raises:** `MemoryError` without room for a pinned tensor, `OSError` of the disk.
        """
        cid = manifest.cid
        async with self._writing, self._discarded(part):
            entry = self.store.peek(cid)
            if entry is not None:
                return await self._hold_again(cid, entry, array, pinned, kept_for)
            entry = self.store.entry(manifest, array, pinned=pinned, kept_for=kept_for)
            entry.holders, entry.wanted_holders = set(holders), wanted
            lost = self.store.plan(entry)
            if lost is None:
                return entry
            if self.disk is not None and cid not in lost:
                try:
                    part = part or await trio.to_thread.run_sync(self.disk.stage, array)
                    await trio.to_thread.run_sync(self.disk.write, cid, entry, part, lost)
                    entry.on_disk = True
                except OSError as error:
                    if pinned:
                        raise
                    log.warning("not cached: %s", error)
                    return entry
            self.store.insert(entry, [c for c in lost if c == cid or self.store.peek(c)])
            return entry

    async def stage(self, array: np.ndarray) -> Path | None:
        """Write a tensor that is to be pinned to the disk, before its digests are known.

        **Raises:** `OSError` if the disk fails.
        """
        if self.disk is None:
            return None
        return await trio.to_thread.run_sync(self.disk.stage, array)

    @asynccontextmanager
    async def _discarded(self, part: Path | None) -> AsyncIterator[None]:
        """Delete a staged file that the block did not use."""
        try:
            yield
        finally:
            if part is not None and self.disk is not None:
                self.disk.discard(part)

    async def _hold_again(
        self, cid: str, entry: Entry, array: np.ndarray, pinned: bool, kept_for: str
    ) -> Entry:
        if entry.array is None:
            entry.array = array
            self.store.shrink()
        if pinned and (not entry.pinned or (entry.kept_for and not kept_for)):
            if not entry.pinned or not kept_for:
                self.store.require_room(self.store.cost(entry.manifest), kept_for)
            entry.pinned, entry.kept_for = True, kept_for
            if self.disk is not None and entry.on_disk:
                note = partial(self.disk.note, [(cid, entry)], durable=True)
                await trio.to_thread.run_sync(note)
        return entry

    async def array(self, cid: str, entry: Entry) -> np.ndarray:
        """All of a tensor, verified if it comes from the disk.

        **Raises:** `DamagedError` if the disk has lost it.
        """
        async with entry.loading:
            if entry.array is not None:
                return entry.array
            manifest = entry.manifest
            data = await self._read(cid, entry, 0, manifest.nbytes)
            data.flags.writeable = False
            array = data.view(manifest.dtype).reshape(manifest.shape)
            entry.array, entry.gathered = array, None
            self.store.shrink()
            return array

    async def part(self, cid: str, entry: Entry, offset: int, length: int) -> memoryview:
        """A range of a tensor that starts at a multiple of a chunk.

        Ranges that come from the disk stay in memory, so that a tensor whose ranges were
        all wanted is there without being read and hashed a second time.

        **Raises:** `DamagedError` if the disk has lost it.
        """
        if entry.array is not None:
            return entry.bytes[offset : offset + length]
        data = await self._read(cid, entry, offset, length)
        if entry.array is None and entry.manifest.nbytes <= (self.store.memory or 0):
            entry.gather(offset, data)
            self._unseen += len(data)
            if self._unseen >= SHRUNK_EVERY or entry.array is not None:
                self._unseen = 0
                self.store.shrink()
        return data.data

    async def block(self, digest: bytes) -> memoryview | None:
        """A chunk or a manifest by its SHA2-256 if it is held; counted as an access."""
        found = self.store.locate(digest)
        if found is None:
            return None
        cid, chunk = found
        entry = self.store.peek(cid)
        assert entry is not None
        if chunk is None:
            return memoryview(entry.manifest.raw)
        size = entry.manifest.nbytes
        entry.count_access(CHUNK / max(CHUNK, size))
        length = min(CHUNK, size - chunk * CHUNK)
        try:
            return await self.part(cid, entry, chunk * CHUNK, length)
        except DamagedError:
            return None

    async def _read(self, cid: str, entry: Entry, offset: int, length: int) -> np.ndarray:
        assert self.disk is not None
        try:
            return await trio.to_thread.run_sync(
                self.disk.read, entry.manifest, offset, length
            )
        except DamagedError as error:
            log.error("%s", error)
            if self.store.peek(cid) is entry:
                self.store.drop(cid, evicted=False)
                self._count_lost(cid, entry)
                await trio.to_thread.run_sync(self.disk.remove, [cid])
            raise

    def _count_lost(self, cid: str, entry: Entry) -> None:
        self.damaged += 1
        if entry.pinned:
            self.lost[cid] = entry

    async def save(self) -> None:
        """Write down how tensors were used, and who holds them, where that has changed."""
        if self.disk is None:
            return
        async with self._writing:
            known = {cid: _state(entry) for cid, entry in self.store if entry.on_disk}
            changed = [cid for cid, state in known.items() if self._saved.get(cid) != state]
            entries = [(c, e) for c in changed if (e := self.store.peek(c)) is not None]
            if entries:
                await trio.to_thread.run_sync(self.disk.note, entries)
            self._saved = known

    async def save_often(self) -> None:
        """Save every half a minute, without end."""
        while self.disk is not None:
            await trio.sleep(SAVE_EVERY)
            await self.save()
        await trio.sleep_forever()


def _state(entry: Entry) -> tuple:
    holders = tuple(sorted(entry.holders))
    return entry.accesses, entry.kept_for, entry.wanted_holders, entry.leader, holders
