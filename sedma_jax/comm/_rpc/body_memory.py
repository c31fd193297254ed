"""Memory for the bodies of requests, taken as their bytes come.

A body that is only announced takes none. When the memory of a peer, or of all, is used up,
bodies wait; the one whose bytes have failed to come for longest gives way.
"""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trio

from .._libp2p.byte_stream import ByteStream
from .messages import MessageError

BUDGET = 64 * 2**20  # bytes of requests in hand per peer
BUDGET_IN_ALL = 256 * 2**20  # and of all peers together
PIECE = 256 * 1024  # bytes reserved at once
STALLED = 1.0  # seconds without a byte until a body may have to give way
SLOWEST = 64 * 1024  # bytes per second at which a body has to come
PATIENCE = 20.0  # seconds more than that


@dataclass(eq=False)
class _Holding:
    """The memory of one body."""

    peer: str
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)  # pyright: ignore[reportCallIssue, reportArgumentType]
    bytes: int = 0
    arriving: bool = True
    waiting: bool = False  # for memory, not for the peer
    last: float = field(default_factory=trio.current_time)


class BodyMemory:
    """The memory that requests take at one node."""

    def __init__(self):
        self._holdings: list[_Holding] = []  # the oldest first
        self._used: Counter[str] = Counter()
        self._freed = trio.Event()

    @asynccontextmanager
    async def body(
        self, stream: ByteStream, length: int, peer: str
    ) -> AsyncIterator[memoryview]:
        """Receive a body; it takes memory while the block runs.

        **Raises:** `MessageError` if its bytes do not come.
        """
        if not length:
            yield memoryview(b"")
            return
        holding = _Holding(peer)
        self._holdings.append(holding)
        try:
            holding.scope.deadline = trio.current_time() + PATIENCE + length / SLOWEST
            data = bytearray()
            with holding.scope:
                while len(data) < length:
                    await self._take(holding, min(PIECE, length - len(data)))
                    at, count = len(data), min(PIECE, length - len(data))
                    data += bytes(count)
                    with memoryview(data)[at:] as view:
                        await stream.fill(view)
                    holding.last = trio.current_time()
            if holding.scope.cancelled_caught:
                raise MessageError(
                    f"a call of a node needs the {length} bytes of its body, as announced. "
                    f"Got {len(data)} at most, and then too few for too long. Send faster, "
                    "or less at once."
                )
            holding.arriving = False
            yield memoryview(data)
        finally:
            self._holdings.remove(holding)
            self._used[peer] -= holding.bytes
            if not self._used[peer]:
                del self._used[peer]
            self._free()

    async def _take(self, holding: _Holding, count: int) -> None:
        """Wait until there is room for `count` more bytes, and take it."""
        while True:
            # The oldest may go on in any case, by at most one body: else two of which each
            # has come by half would wait for each other.
            alone = self._used[holding.peer] + count > BUDGET
            alone = alone and not self._is_oldest(holding, holding.peer)
            full = self._used.total() + count > BUDGET_IN_ALL
            if not alone and (not full or self._is_oldest(holding, None)):
                break
            self._have_one_give_way(holding, holding.peer if alone else None)
            holding.waiting = True
            with trio.move_on_after(STALLED):
                await self._freed.wait()
            holding.waiting = False
        self._used[holding.peer] += count
        holding.bytes += count

    def _is_oldest(self, holding: _Holding, peer: str | None) -> bool:
        """Whether no body, of a peer or of all, has been arriving for longer."""
        arriving = (h for h in self._holdings if h.arriving and peer in (None, h.peer))
        return next(arriving, None) is holding

    def _have_one_give_way(self, to: _Holding, peer: str | None) -> None:
        """Drop the body, of a peer or of all, whose bytes have not come for longest."""
        now = trio.current_time()
        stalled = [
            h
            for h in self._holdings
            if h.arriving and not h.waiting and h is not to and now - h.last >= STALLED
            if peer is None or h.peer == peer
        ]
        if stalled:
            min(stalled, key=lambda h: h.last).scope.cancel()

    def _free(self) -> None:
        self._freed.set()
        self._freed = trio.Event()
