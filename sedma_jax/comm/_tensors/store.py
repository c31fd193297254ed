"""The tensors that a node holds: its own and replicas, which are pinned, and a cache.

What is held is bounded, in bytes of the disk if there is one, and the arrays in memory by
bytes of memory. When room is needed, what is least useful by Eq. 10 goes: of the cache
first, then of what strangers asked to pin. What the node itself or a peer that it names has
pinned stays.
"""

import hashlib
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import jax.numpy as jnp
import numpy as np

from ...kernels import cache_utility, worth_keeping
from .entry import Entry, Use
from .manifest import Manifest

HALF_LIFE = 1800.0  # seconds in which an access loses half its weight
STRANGERS = 1 / 2  # share of the capacity for what all strangers together pin
STRANGER = 1 / 4  # share of the capacity for what one stranger pins
MOST_KEPT = 4096  # tensors that strangers pin
DAY = 86400.0  # seconds in which remembered accesses lose half their weight
MOST_REMEMBERED = 4096  # absent tensors


class TensorStore:
    """Tensors by CID, within `capacity` bytes.

    **Arguments:**

    - `capacity`: bytes for all tensors.
    - `memory`: bytes for arrays of tensors that are on the disk too; None without one.
    - `cost`: bytes that a tensor takes; those of its array if left out.
    """

    def __init__(
        self,
        capacity: int,
        memory: int | None = None,
        cost: Callable[[Manifest], int] = lambda manifest: manifest.nbytes,
    ):
        if capacity < 1 or (memory is not None and memory < 1):
            raise ValueError(
                "`NodeSettings` needs a `capacity` and a `disk` of at least 1 byte. Got "
                f"{capacity if memory is None else (memory, capacity)}. Give the bytes "
                "that tensors may take."
            )
        self.capacity, self.memory, self.cost = capacity, memory, cost
        self._entries: dict[str, Entry] = {}
        # From a digest to the tensor and the number of the chunk, None for the manifest.
        self._blocks: dict[bytes, tuple[str, int | None]] | None = {}
        self._remembered: dict[str, Use] = {}  # of absent tensors
        self._unreported: dict[str, float] = {}  # accesses to absent tensors
        self._promised: list[tuple[int, str]] = []  # bytes, and the stranger or ""
        self.hits = self.misses = self.evictions = 0
        # Pinned ones that went, of which other holders are to be told.
        self.given_up: deque[tuple[str, Entry]] = deque(maxlen=MOST_KEPT)

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
    def in_memory(self) -> int:
        """Bytes of the arrays in memory."""
        return sum(e.in_memory for e in self._held())

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
        if cid in self._entries:
            return
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
                yield cid, entry.accesses - entry.reported, entry.use(now)
                entry.reported = entry.accesses

    def locate(self, digest: bytes) -> tuple[str, int | None] | None:
        """The tensor and number of the chunk with this SHA2-256; None for its manifest."""
        if self._blocks is None:
            self._blocks = {}
            for cid, entry in self._entries.items():
                self._index(cid, entry)
        return self._blocks.get(digest)

    def _index(self, cid: str, entry: Entry) -> None:
        assert self._blocks is not None
        manifest = entry.manifest
        self._blocks[hashlib.sha256(manifest.raw).digest()] = cid, None
        for chunk, digest in enumerate(manifest.digests(0, manifest.nbytes)):
            self._blocks[digest] = cid, chunk

    def require_room(self, nbytes: int, kept_for: str = "") -> None:
        """Raise a `MemoryError` if a tensor of `nbytes` cannot be pinned.

        **Arguments:** `kept_for`: the stranger that asks for it, if one does.
        """
        if not kept_for:
            left = self.capacity - self._sum(e for e in self._held() if _is_own(e))
            left -= sum(size for size, stranger in self._promised if not stranger)
            if nbytes > left:
                raise MemoryError(
                    f"`Node.put` needs {nbytes:,} bytes for the tensor. Got {left:,} of "
                    f"{self.capacity:,} that no pinned tensor takes. Raise the capacity, "
                    "or unpin tensors."
                )
            return
        kept = [e for e in self._held() if e.pinned and e.kept_for]
        theirs = self._sum(e for e in kept if e.kept_for == kept_for)
        left = int(self.capacity * STRANGER) - theirs
        left -= sum(size for size, stranger in self._promised if stranger == kept_for)
        coming = sum(size for size, stranger in self._promised if stranger)
        left = min(left, int(self.capacity * STRANGERS) - coming)
        if nbytes > left or len(kept) >= MOST_KEPT:
            raise MemoryError(
                f"`Node.put` needs {nbytes:,} bytes at a peer that does not name this one. "
                f"Got {max(left, 0):,} of its share for one stranger. Have the peer name "
                "this node in `allowed`, or raise its capacity."
            )

    @contextmanager
    def promised(self, nbytes: int, kept_for: str = "") -> Iterator[None]:
        """Keep room for a tensor that is on its way; errors as `require_room`."""
        self.require_room(nbytes, kept_for)
        self._promised.append((nbytes, kept_for))
        try:
            yield
        finally:
            self._promised.remove((nbytes, kept_for))

    def plan(self, entry: Entry) -> list[str] | None:
        """What goes so that a tensor fits, itself perhaps; None if nothing can help.

        **Raises:** `MemoryError` if it is pinned, and evictions cannot make room.
        """
        cid, cost = entry.manifest.cid, self.cost(entry.manifest)
        if entry.pinned:
            self.require_room(cost, entry.kept_for)
        elif cost > self.capacity - self._sum(e for e in self._held() if e.pinned):
            return None
        lost = self._lost({**self._entries, cid: entry})
        if cid in lost and entry.pinned:
            self.require_room(self.capacity + 1, entry.kept_for)  # which says why
        return lost

    def fit(self) -> list[str]:
        """Drop what no longer fits, as after a start with less capacity; its CIDs."""
        lost = self._lost(self._entries)
        for cid in lost:
            self.drop(cid)
        return lost

    def _lost(self, entries: dict[str, Entry]) -> list[str]:
        """Those that go so that the others fit: of the cache first, then of strangers."""
        kept = {c: e for c, e in entries.items() if e.pinned and e.kept_for}
        cached = {c: e for c, e in entries.items() if not e.pinned}
        left = self.capacity - self._sum(e for e in entries.values() if _is_own(e))
        lost = self._least_useful(kept, min(left, int(self.capacity * STRANGERS)))
        left -= self._sum(e for c, e in kept.items() if c not in lost)
        return [*lost, *self._least_useful(cached, left)]

    def insert(self, entry: Entry, lost: Iterable[str] = ()) -> None:
        """Store a tensor, and drop those that `plan` named."""
        cid = entry.manifest.cid
        self._entries[cid] = entry
        if self._blocks is not None:
            self._index(cid, entry)
        for each in lost:
            self.drop(each)
        self.shrink()

    def add(self, manifest: Manifest, array: np.ndarray, *, pinned: bool) -> Entry:
        """Store a tensor in memory, and evict cached tensors that no longer fit."""
        entry = self._entries.get(manifest.cid)
        if entry is None:
            entry = self.entry(manifest, array, pinned=pinned)
            lost = self.plan(entry)
            if lost is not None:
                self.insert(entry, lost)
        elif pinned:
            entry.pinned, entry.kept_for = True, ""
        return entry

    def entry(
        self, manifest: Manifest, array: np.ndarray, *, pinned: bool, kept_for: str = ""
    ) -> Entry:
        """A tensor that is not stored yet, with what is remembered of its use."""
        entry = Entry(manifest, array, pinned, kept_for, accesses=1.0)
        cid = manifest.cid
        use = self._remembered.pop(cid, None)
        if use is not None:
            age = max(time.time() - use.last, 0)  # the clock may have been set back
            entry.reported = use.per_hour * 2 ** (-age / DAY)
            entry.accesses += entry.reported
            entry.reported -= self._unreported.pop(cid, 0)
        return entry

    def unpin(self, cid: str) -> None:
        """Allow the eviction of a tensor."""
        entry = self._entries.get(cid)
        if entry is not None:
            entry.pinned = False

    def drop(self, cid: str, *, evicted: bool = True) -> None:
        """Forget a tensor; its use is remembered."""
        entry = self._entries.pop(cid)
        self.remember(cid, entry.use(time.monotonic()))
        self._unreported[cid] = entry.accesses - entry.reported
        self._blocks = None  # rebuilt: another tensor may have the same chunks
        self.evictions += evicted
        if evicted and entry.pinned and len(entry.holders) > 1:
            self.given_up.append((cid, entry))

    def shrink(self) -> None:
        """Take from memory the arrays that are least useful, and on the disk."""
        if self.memory is None or self.in_memory <= self.memory:
            return
        there = {c: e for c, e in self._entries.items() if e.in_memory}
        on_disk = {c: e for c, e in there.items() if e.on_disk}
        only = sum(e.in_memory for c, e in there.items() if c not in on_disk)
        for cid in self._least_useful(on_disk, self.memory - only, lambda e: e.in_memory):
            self._entries[cid].forget_bytes()

    def _held(self) -> Iterable[Entry]:
        return self._entries.values()

    def _sum(self, entries: Iterable[Entry]) -> int:
        return sum(self.cost(e.manifest) for e in entries)

    def _least_useful(
        self,
        entries: dict[str, Entry],
        room: int,
        cost: Callable[[Entry], int] | None = None,
    ) -> set[str]:
        """Those that go, the lowest utility of Eq. 10 first, so that the rest fits."""
        cost = cost or (lambda e: self.cost(e.manifest))
        sizes = [cost(e) for e in entries.values()]
        if sum(sizes) <= room:
            return set()
        now = time.monotonic()
        # Padded to a power of two, so that few sizes are compiled.
        size = max(8, 1 << (len(entries) - 1).bit_length())
        frequency, idle = np.zeros((2, size), np.float32)
        megabytes = np.full(size, np.inf, np.float32)
        for i, e in enumerate(entries.values()):
            frequency[i], idle[i] = e.per_hour(now), now - e.last_access
            megabytes[i] = sizes[i] / 1e6
        keep = worth_keeping(
            cache_utility(
                jnp.asarray(frequency), jnp.asarray(idle), jnp.asarray(megabytes), HALF_LIFE
            ),
            jnp.asarray(megabytes),
            max(room, 0) / 1e6,
        )
        kept = np.asarray(keep)[: len(entries)]
        return {cid for cid, stays in zip(entries, kept, strict=True) if not stays}


def _is_own(entry: Entry) -> bool:
    """Whether the node itself, or a peer that it names, has pinned a tensor."""
    return entry.pinned and not entry.kept_for
