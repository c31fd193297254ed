"""The tensors that a node holds: its own and replicas, which are pinned, and a cache."""

import hashlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import trio

from ...kernels import cache_utility, worth_keeping
from .manifest import CHUNK, Manifest, bytes_of

HALF_LIFE = 1800.0  # seconds in which an access loses half its weight
LEAST_HOURS = 1.0  # shortest time to divide accesses by, so that one is not a high rate
DAY = 86400.0  # seconds in which remembered accesses lose half their weight
MOST_REMEMBERED = 4096  # absent tensors


class Use(NamedTuple):
    """How a tensor was used, remembered after its eviction."""

    per_hour: float  # accesses
    megabytes: float  # 10^6 bytes
    last: float  # access, in seconds since 1970


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
    reported: float = 0.0  # accesses that `uses` has reported

    def count_access(self, share: float = 1.0) -> None:
        """Count an access to a share of the tensor."""
        self.accesses += share
        self.last_access = time.monotonic()

    def per_hour(self, now: float) -> float:
        """Accesses per hour, including remembered ones."""
        return self.accesses / max((now - self.created) / 3600, LEAST_HOURS)

    @property
    def bytes(self) -> memoryview:
        """The bytes of the tensor, read only."""
        return bytes_of(self.array)


class TensorStore:
    """Tensors by CID, within `capacity` bytes.

    Pinned tensors stay. When room is needed, the others are evicted in order of utility
    (Eq. 10), the lowest first.
    """

    def __init__(self, capacity: int):
        if capacity < 1:
            raise ValueError(
                "`NodeSettings` needs a `capacity` of at least 1 byte. Got "
                f"{capacity}. Give the bytes of memory that tensors may take."
            )
        self.capacity = capacity
        self._entries: dict[str, Entry] = {}
        # From a digest to the tensor and the number of the chunk, None for the manifest.
        self._blocks: dict[bytes, tuple[str, int | None]] | None = {}
        self._remembered: dict[str, Use] = {}  # of absent tensors
        self._unreported: dict[str, float] = {}  # accesses to absent tensors
        self.hits = self.misses = self.evictions = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[tuple[str, Entry]]:
        return iter(list(self._entries.items()))

    @property
    def used(self) -> int:
        """Bytes taken by tensors."""
        return sum(entry.manifest.nbytes for entry in self._entries.values())

    @property
    def pinned_bytes(self) -> int:
        """Bytes taken by pinned tensors."""
        return sum(e.manifest.nbytes for e in self._entries.values() if e.pinned)

    @property
    def free(self) -> int:
        """Bytes that no pinned tensor takes."""
        return self.capacity - self.pinned_bytes

    def peek(self, cid: str) -> Entry | None:
        """A tensor if it is held; not counted as an access."""
        return self._entries.get(cid)

    def get(self, cid: str) -> Entry | None:
        """A tensor if it is held; counted as an access or as a miss."""
        entry = self._entries.get(cid)
        if entry is None:
            self.misses += 1
            return None
        self.hits += 1
        entry.count_access()
        return entry

    def remember(self, cid: str, use: Use) -> None:
        """Store how an absent tensor was used; it counts once the tensor is added."""
        if len(self._remembered) >= MOST_REMEMBERED:
            oldest = next(iter(self._remembered))
            del self._remembered[oldest]
            self._unreported.pop(oldest, None)
        self._remembered[cid] = use

    def uses(self) -> Iterator[tuple[str, float, Use]]:
        """CID, new accesses and use of every tensor that was used since the last call."""
        now = time.monotonic()
        for cid, count in self._unreported.items():
            yield cid, count, self._remembered[cid]
        self._unreported.clear()
        for cid, entry in self._entries.items():
            if entry.accesses > entry.reported:
                yield cid, entry.accesses - entry.reported, _use(entry, now)
                entry.reported = entry.accesses

    def block(self, digest: bytes) -> memoryview | None:
        """A chunk or a manifest by its SHA2-256 if it is held; counted as an access."""
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
        entry.count_access(CHUNK / max(CHUNK, entry.manifest.nbytes))
        return entry.bytes[chunk * CHUNK : (chunk + 1) * CHUNK]

    def _index(self, cid: str, entry: Entry) -> None:
        assert self._blocks is not None
        manifest = entry.manifest
        self._blocks[hashlib.sha256(manifest.raw).digest()] = cid, None
        for chunk, digest in enumerate(manifest.digests(0, manifest.nbytes)):
            self._blocks[digest] = cid, chunk

    def require_room(self, nbytes: int) -> None:
        """Raise a `MemoryError` if a tensor of `nbytes` cannot be pinned."""
        if nbytes > self.free:
            raise MemoryError(
                f"`Node.put` needs {nbytes:,} bytes for the tensor. Got {self.free:,} of "
                f"{self.capacity:,} that no pinned tensor takes. Raise the capacity, or "
                "unpin tensors."
            )

    def add(self, manifest: Manifest, array: np.ndarray, *, pinned: bool) -> Entry:
        """Store a tensor, and evict cached tensors that no longer fit."""
        cid = manifest.cid
        entry = self._entries.get(cid)
        if entry is None:
            if pinned:
                self.require_room(manifest.nbytes)
            entry = Entry(manifest, array, pinned, accesses=1.0)
            if manifest.nbytes > self.free:
                return entry  # evictions could not make room
            self._recall(cid, entry)
            self._entries[cid] = entry
            if self._blocks is not None:
                self._index(cid, entry)
        elif pinned and not entry.pinned:
            entry.pinned = True
        self._evict()
        return entry

    def _recall(self, cid: str, entry: Entry) -> None:
        use = self._remembered.pop(cid, None)
        if use is not None:
            age = max(time.time() - use.last, 0)  # the clock may have been set back
            entry.reported = use.per_hour * 2 ** (-age / DAY)
            entry.accesses += entry.reported
            entry.reported -= self._unreported.pop(cid, 0)

    def unpin(self, cid: str) -> None:
        """Allow the eviction of a tensor."""
        entry = self._entries.get(cid)
        if entry is not None:
            entry.pinned = False

    def _evict(self) -> None:
        if self.used <= self.capacity:
            return
        now = time.monotonic()
        cached = [(cid, e) for cid, e in self._entries.items() if not e.pinned]
        # Padded to a power of two, so that few sizes are compiled.
        size = max(8, 1 << (len(cached) - 1).bit_length())
        frequency, idle = np.zeros((2, size), np.float32)
        megabytes = np.full(size, np.inf, np.float32)
        for i, (_, e) in enumerate(cached):
            frequency[i], idle[i] = e.per_hour(now), now - e.last_access
            megabytes[i] = e.manifest.nbytes / 1e6
        keep = worth_keeping(
            cache_utility(
                jnp.asarray(frequency), jnp.asarray(idle), jnp.asarray(megabytes), HALF_LIFE
            ),
            jnp.asarray(megabytes),
            self.free / 1e6,
        )
        for (cid, e), kept in zip(cached, np.asarray(keep)[: len(cached)], strict=True):
            if not kept:
                del self._entries[cid]
                self.remember(cid, _use(e, now))
                self._unreported[cid] = e.accesses - e.reported
                self._blocks = None  # rebuilt: another tensor may have the same chunks
                self.evictions += 1


def _use(entry: Entry, now: float) -> Use:
    last = time.time() - (now - entry.last_access)
    return Use(entry.per_hour(now), entry.manifest.nbytes / 1e6, last)
