"""What an agent's servers may take: threads, requests, and bytes of bodies.

Bodies get half of the memory that is left when the agent's code is loaded, and one address
half of that. A body's place is taken before it is read and given back when it is answered,
so that strangers who announce or send much wait for each other, not for memory.
"""

import asyncio
import contextlib
import os
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

LARGEST = 64 * 2**20  # bytes of a request or an answer, where memory allows it
SECONDS = 30.0  # that a call may take, and that a request may wait for room
THREADS = 32  # that run the agent's function
REQUESTS = 64  # that are running or waiting; further ones are told to come back
CONNECTIONS = 256  # to the port of HTTP; beyond, the oldest without a request goes
SILENCE = 5.0  # seconds until headers are complete, and between parts of a body
SLOWEST = 64 * 2**10  # bytes/s that a body has to arrive at after the first seconds
_WITHOUT_LIMIT = 2**30  # bytes for bodies where nothing limits memory
_LEAST = 2**20  # bytes for bodies, however little is left

_CGROUP = Path("/sys/fs/cgroup")
_LIMITS = ("memory.max", "memory/memory.limit_in_bytes")  # of versions 2 and 1


def memory_limit() -> int | None:
    """Bytes that this process may take: `SEDMA_MEMORY_LIMIT`, or what its container has."""
    found = [os.environ.get("SEDMA_MEMORY_LIMIT", "")]
    for name in _LIMITS:
        with contextlib.suppress(OSError):
            found.append((_CGROUP / name).read_text().strip())
    limits = [int(text) for text in found if text.isascii() and text.isdigit()]
    # Version 1 writes no limit as nearly 2**63.
    return min((n for n in limits if n < 2**60), default=None)


def resident() -> int:
    """Bytes of memory that this process has now."""
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


class Full(Exception):
    """There was no room in time."""


class Room:
    """Bytes that bodies of requests may take together; used in one event loop.

    `share` is what one address may take, and so the largest body.
    """

    def __init__(self, size: int):
        self.share = size // 2
        self._left, self._of = size, Counter[str]()
        self._waiting: list[asyncio.Future[None]] = []

    @contextlib.asynccontextmanager
    async def taken(self, size: int, address: str) -> AsyncIterator["Taken"]:
        """Take room for `size` bytes; wait until others give theirs back.

        **Raises:** `Full` after `SECONDS`.
        """
        try:
            async with asyncio.timeout(SECONDS):
                while self._left < size or self._of[address] + size > self.share:
                    await self._change()
        except TimeoutError:
            raise Full from None
        place = Taken(self, address)
        place.resize(size)
        try:
            yield place
        finally:
            place.resize(0)

    async def _change(self) -> None:
        change = asyncio.get_running_loop().create_future()
        self._waiting.append(change)
        try:
            await change
        finally:
            self._waiting.remove(change)

    def take(self, size: int, address: str) -> None:
        """Count bytes as taken, or, below 0, as given back to those who wait."""
        self._left -= size
        self._of[address] += size
        if not self._of[address]:
            del self._of[address]
        for change in self._waiting if size < 0 else ():
            if not change.done():
                change.set_result(None)


class Taken:
    """Room that one body has."""

    def __init__(self, room: Room, address: str):
        self._room, self._address, self._size = room, address, 0

    def resize(self, size: int) -> None:
        """Have `size` bytes, and give back what is more."""
        more, self._size = size - self._size, size
        self._room.take(more, self._address)


def room_of_this_process() -> Room:
    """The room for bodies once the agent's code is loaded."""
    limit = memory_limit()
    return Room(max((limit - resident()) // 2, _LEAST) if limit else _WITHOUT_LIMIT)
