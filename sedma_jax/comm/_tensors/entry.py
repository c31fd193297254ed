"""A tensor that a node holds, and how it was used."""

import time
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import trio

from .manifest import Manifest, bytes_of

LEAST_HOURS = 1.0  # shortest time to divide accesses by, so that one is not a high rate


class Use(NamedTuple):
    """How a tensor was used, remembered after its eviction."""

    per_hour: float  # accesses
    megabytes: float  # 10^6 bytes
    last: float  # access, in seconds since 1970


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
    cold_bytes: int = 0  # read from the disk since it was last in memory
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

    def use(self, now: float) -> Use:
        """How it was used until `now`, on the monotonic clock."""
        last = time.time() - (now - self.last_access)
        return Use(self.per_hour(now), self.manifest.nbytes / 1e6, last)

    @property
    def bytes(self) -> memoryview:
        """The bytes of a tensor in memory, read only."""
        assert self.array is not None
        return bytes_of(self.array)
