"""The methods that a node offers to peers, and the answers to their calls.

A stream carries one call at a time and is reused for the next. A caller that cancels resets
the stream, which cancels the method here. A deadline travels with the request. Requests of
a peer are read only as far as its budget of bytes allows; the rest waits at the peer.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import trio

from .._libp2p.byte_stream import ByteStream
from . import wire_pb2 as wire
from .message_stream import receive_header, receive_message, send_message
from .messages import MessageError

LONGEST_DEADLINE = 600.0  # seconds
LARGEST_REQUEST = 16 * 2**20
BUDGET = 64 * 2**20  # bytes of requests in hand per peer
IDLE = 120.0  # seconds without a request until a stream is closed


class ByteBudget:
    """A limit on bytes held at once; who wants more waits."""

    def __init__(self, most: int):
        self._most, self._used, self._freed = most, 0, trio.Event()

    @asynccontextmanager
    async def held(self, count: int) -> AsyncIterator[None]:
        """Hold `count` bytes, at most the whole budget, while the block runs."""
        count = min(count, self._most)
        while self._used + count > self._most:
            self._freed = trio.Event() if self._freed.is_set() else self._freed
            await self._freed.wait()
        self._used += count
        try:
            yield
        finally:
            self._used -= count
            self._freed.set()


@dataclass
class Call:
    """A request as its method sees it.

    `receive` and `send` are for calls that stream.
    """

    peer: str
    meta: bytes
    body: memoryview
    stream: ByteStream = field(repr=False)
    ended: bool = False
    streamed: bool = False

    async def receive(self) -> memoryview | None:
        """The next piece that the caller streams after its request; None at the end."""
        if self.ended:
            return None
        header, body = await receive_message(self.stream, LARGEST_REQUEST)
        if header.kind == wire.Header.DATA:
            return body
        if header.kind != wire.Header.END:
            raise MessageError(
                f"`Call.receive` needs DATA or END. Got kind {header.kind}. End what is "
                "streamed by `finish`."
            )
        self.ended = True
        return None

    async def send(self, data: bytes | memoryview) -> None:
        """Stream `data` back; waits while the caller does not read."""
        self.streamed = True
        await send_message(self.stream, wire.Header(kind=wire.Header.DATA), data)


Method = Callable[[Call], Awaitable[Any]]


class Methods:
    """The methods that peers may call."""

    def __init__(self):
        self._methods: dict[str, Method] = {}
        self._budgets: dict[str, ByteBudget] = {}

    def __getitem__(self, name: str) -> Method:
        return self._methods[name]

    def add(self, name: str, method: Method) -> None:
        """Offer `method`, an async function of a `Call` that returns the body or None."""
        self._methods[name] = method

    async def serve(self, stream: ByteStream, peer: str) -> None:
        """Answer one call after another until the peer ends the stream."""
        budget = self._budgets.setdefault(peer, ByteBudget(BUDGET))
        while True:
            with trio.move_on_after(IDLE) as idle:
                header, length = await receive_header(stream, LARGEST_REQUEST)
            if idle.cancelled_caught:
                await stream.close()
                return
            if header.kind == wire.Header.END and not length:
                continue  # of the last call, whose method did not read to the end
            if header.kind != wire.Header.REQUEST:
                raise MessageError(
                    f"a call of a node needs a REQUEST first. Got kind {header.kind}. "
                    "Open a stream for each call."
                )
            seconds = min(header.deadline_ms / 1000 or LONGEST_DEADLINE, LONGEST_DEADLINE)
            with trio.fail_after(seconds):
                async with budget.held(length + len(header.meta)):
                    body = memoryview(bytearray(length))
                    await stream.fill(body)
                    await self._answer(
                        Call(peer=peer, meta=header.meta, body=body, stream=stream),
                        header.method,
                    )

    async def _answer(self, call: Call, name: str) -> None:
        try:
            method = self._methods.get(name)
            if method is None:
                raise LookupError(
                    f"a call of a node needs one of {', '.join(sorted(self._methods))}. "
                    f"Got {name[:80]!r}. Run the same release on both sides."
                )
            result: Any = await method(call)
            kind = wire.Header.END if call.streamed else wire.Header.RESPONSE
            await send_message(call.stream, wire.Header(kind=kind), result or b"")
        except (ValueError, LookupError, RuntimeError, OSError, MemoryError) as error:
            # Tell the caller why; the stream goes on unless the network failed.
            header = wire.Header(kind=wire.Header.ERROR, error=str(error)[:500])
            await send_message(call.stream, header)
