"""The tensors that a node has: its own and replicas, which stay, and a cache."""

import hashlib
import time
from dataclasses import dataclass, field

import jax.numpy as jnp
import numpy as np
import trio

from ..kernels import cache_utility, worth_keeping
from ._manifest import CHUNK, Manifest, bytes_of

HALF_LIFE = 1800.0  # seconds in which an access loses half its worth
LEAST_HOURS = 1.0  # over which accesses are counted, so that one does not count as many


@dataclass
class Entry:
    """A tensor in memory, and how it was used."""

    manifest: Manifest
    array: np.ndarray = field(repr=False)
    pinned: bool
    holders: set[str] = field(default_factory=set)
    wanted_holders: int = 1
    leader: str = ""  # the peer that last asked this one to hold it
    replicating: trio.Lock = field(default_factory=trio.Lock, repr=False)
    created: float = field(default_factory=time.monotonic)
    last_access: float = field(default_factory=time.monotonic)
    accesses: float = 0.0

    @property
    def bytes(self) -> memoryview:
        """The bytes of the tensor, read only."""
        return bytes_of(self.array)


class TensorStore:
    """Tensors by CID, within `capacity` bytes.

    What was pinned stays. Of the rest the lowest utility (Eq. 10) goes when room is needed.
    """

    def __init__(self, capacity: int):
        if capacity < 1:
            raise ValueError(
                f"a store needs a capacity of at least 1 byte. Got {capacity}. Give the "
                "bytes of memory that tensors may take."
            )
        self.capacity = capacity
        self._entries: dict[str, Entry] = {}
        # Of each block the tensor, and the index of the chunk; None for the manifest.
        self._blocks: dict[bytes, tuple[str, int | None]] | None = {}
        self.hits = self.misses = self.evictions = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self):
        return iter(list(self._entries.items()))

    @property
    def used(self) -> int:
        """Bytes taken by tensors."""
        return sum(entry.manifest.nbytes for entry in self._entries.values())

    @property
    def pinned_bytes(self) -> int:
        """Bytes taken by tensors that stay."""
        return sum(e.manifest.nbytes for e in self._entries.values() if e.pinned)

    def peek(self, cid: str) -> Entry | None:
        """A tensor, if it is here; not counted as an access."""
        return self._entries.get(cid)

    def get(self, cid: str) -> Entry | None:
        """A tensor, if it is here; counted as an access or as a miss."""
        entry = self._entries.get(cid)
        if entry is None:
            self.misses += 1
            return None
        self.hits += 1
        entry.accesses += 1
        entry.last_access = time.monotonic()
        return entry

    def block(self, digest: bytes) -> memoryview | None:
        """A chunk or a manifest by its SHA2-256, if it is here; counted as an access."""
        if self._blocks is None:
            self._blocks = {}
            for cid, entry in self._entries.items():
                self._index(cid, entry)
        cid, chunk = self._blocks.get(digest, (None, None))
        if cid is None:
            return None
        entry = self._entries[cid]
        if chunk is None:
            return memoryview(entry.manifest.raw)
        entry.accesses += CHUNK / max(CHUNK, entry.manifest.nbytes)
        entry.last_access = time.monotonic()
        return entry.bytes[chunk * CHUNK : (chunk + 1) * CHUNK]

    def _index(self, cid: str, entry: Entry) -> None:
        assert self._blocks is not None
        manifest = entry.manifest
        self._blocks[hashlib.sha256(manifest.raw).digest()] = cid, None
        for chunk, digest in enumerate(manifest.digests(0, manifest.nbytes)):
            self._blocks[digest] = cid, chunk

    def require_room(self, nbytes: int) -> None:
        """Refuse a tensor that cannot stay, before it is fetched."""
        free = self.capacity - self.pinned_bytes
        if nbytes > free:
            raise MemoryError(
                f"needs {nbytes:,} bytes for a tensor. Got {free:,} of {self.capacity:,} "
                "that nothing is pinned in. Raise the capacity, or unpin tensors."
            )

    def add(self, manifest: Manifest, array: np.ndarray, *, pinned: bool) -> Entry:
        """Keep a tensor, and evict from the cache what no longer fits."""
        cid = manifest.cid
        entry = self._entries.get(cid)
        if entry is None:
            if pinned:
                self.require_room(manifest.nbytes)
            entry = Entry(manifest, array, pinned, accesses=1.0)
            if manifest.nbytes > self.capacity - self.pinned_bytes:
                return entry  # no eviction would make room
            self._entries[cid] = entry
            if self._blocks is not None:
                self._index(cid, entry)
        elif pinned and not entry.pinned:
            entry.pinned = True
        self._evict()
        return entry

    def unpin(self, cid: str) -> None:
        """Let a tensor go when room is needed."""
        entry = self._entries.get(cid)
        if entry is not None:
            entry.pinned = False

    def _evict(self):
        if self.used <= self.capacity:
            return
        now = time.monotonic()
        cached = [(cid, e) for cid, e in self._entries.items() if not e.pinned]
        hours = [max((now - e.created) / 3600, LEAST_HOURS) for _, e in cached]
        # Rounded up to a power of two, so that few sizes are compiled.
        size = max(8, 1 << (len(cached) - 1).bit_length())
        frequency, idle = np.zeros((2, size), np.float32)
        megabytes = np.full(size, np.inf, np.float32)
        for i, (_, e) in enumerate(cached):
            frequency[i], idle[i] = e.accesses / hours[i], now - e.last_access
            megabytes[i] = e.manifest.nbytes / 1e6
        keep = worth_keeping(
            cache_utility(
                jnp.asarray(frequency), jnp.asarray(idle), jnp.asarray(megabytes), HALF_LIFE
            ),
            jnp.asarray(megabytes),
            (self.capacity - self.pinned_bytes) / 1e6,
        )
        for (cid, _), kept in zip(cached, np.asarray(keep)[: len(cached)], strict=True):
            if not kept:
                del self._entries[cid]
                self._blocks = None  # another tensor may have the same chunks
                self.evictions += 1
