"""A tensor that a node holds, and how it was used."""

import time
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import trio

from .manifest import CHUNK, Manifest, bytes_of, empty_aligned

LEAST_HOURS = 1.0  # shortest time to divide accesses by, so that one is not a high rate


class Use(NamedTuple):
    """How a tensor was used, remembered after its eviction."""

    per_hour: float  # accesses
    megabytes: float  # 10^6 bytes
    last: float  # access, in seconds since 1970


@dataclass
class Gathered:
    """The bytes of a tensor that were read from the disk, and checked, range by range."""

    bytes: np.ndarray
    chunks: set[int] = field(default_factory=set)


@dataclass
class Entry:
    """A tensor that is held, and how it was used.

    `array` is None while the tensor is on the disk only. `kept_for` is the stranger that
    asked to pin it; empty for what the node itself or a peer that it names has pinned.
    """

    manifest: Manifest
    array: np.ndarray | None = field(repr=False)
    pinned: bool
    kept_for: str = ""
    holders: set[str] = field(default_factory=set)
    wanted_holders: int = 1
    leader: str = ""  # the peer that last asked this one to hold it
    replicating: trio.Lock = field(default_factory=trio.Lock, repr=False)
    loading: trio.Lock = field(default_factory=trio.Lock, repr=False)
    on_disk: bool = False
    gathered: "Gathered | None" = field(default=None, repr=False)
    created: float = field(default_factory=time.monotonic)
    last_access: float = field(default_factory=time.monotonic)
    accesses: float = 0.0
    reported: float = 0.0  # accesses that `uses` has reported

    def count_access(self, share: float = 1.0) -> None:
        """Count an access to a share of the tensor."""
        self.accesses += share
        self.last_access = time.monotonic()

    @property
    def in_memory(self) -> int:
        """Bytes of its array in memory, or of the part of it that was read."""
        if self.array is not None:
            return self.manifest.nbytes
        return len(self.gathered.chunks) * CHUNK if self.gathered is not None else 0

    def gather(self, offset: int, data: np.ndarray) -> None:
        """Keep a range that the disk gave; once all are there, they are the array."""
        size, first = self.manifest.nbytes, offset // CHUNK
        gathered = self.gathered
        if gathered is None:
            self.gathered = gathered = Gathered(empty_aligned(size))
        gathered.bytes[offset : offset + len(data)] = data
        whole = len(data) // CHUNK + (offset + len(data) == size and len(data) % CHUNK > 0)
        gathered.chunks.update(range(first, first + whole))
        if len(gathered.chunks) == -(-size // CHUNK):
            gathered.bytes.flags.writeable = False
            shaped = gathered.bytes.view(self.manifest.dtype).reshape(self.manifest.shape)
            self.array, self.gathered = shaped, None

    def forget_bytes(self) -> None:
        """Leave a tensor on the disk alone."""
        self.array = self.gathered = None

    def per_hour(self, now: float) -> float:
        """Accesses per hour, including remembered ones."""
        return self.accesses / max((now - self.created) / 3600, LEAST_HOURS)

    def use(self, now: float) -> Use:
        """How it was used until `now`, on the monotonic clock."""
        last = time.time() - (now - self.last_access)
        return Use(self.per_hour(now), self.manifest.nbytes / 1e6, last)

    @property
    def bytes(self) -> memoryview:
        """The bytes of a tensor in memory, read only."""
        assert self.array is not None
        return bytes_of(self.array)
