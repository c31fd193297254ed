"""Calls between peers: one request and one response, or streams both ways.

A stream carries one call at a time and is used again. Cancelling resets it, which cancels
the method on the other side. A deadline travels with the request. What a peer sends is read
only as far as its budget of bytes allows; the rest waits in the peer.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import trio

from .._libp2p.byte_stream import ByteStream
from . import wire_pb2 as wire
from .messages import PREFIX, MessageError, lengths, parse, prefix_and_header

LONGEST_DEADLINE = 600.0  # seconds
LARGEST_REQUEST = 16 * 2**20
BUDGET = 64 * 2**20  # bytes of requests in hand, for each peer
INLINE = 48 * 1024  # a shorter body travels in the same frame as its header
IDLE = 120.0  # seconds until a stream that asks nothing is closed


class RemoteError(RuntimeError):
    """The peer answered that it could not do it."""


class ByteBudget:
    """So many bytes at once; who wants more waits."""

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


async def send_message(stream: ByteStream, header: wire.Header, body=b"") -> None:
    """Send one message."""
    view = memoryview(body).cast("B") if len(body) else memoryview(b"")
    head = prefix_and_header(header, len(view))
    if len(view) <= INLINE:
        await stream.write(b"".join((head, view)))
    else:
        await stream.write(view, head)


async def receive_header(stream: ByteStream, largest: int) -> tuple[wire.Header, int]:
    """The next header, and the length of the body that follows."""
    prefix = bytearray(PREFIX.size)
    await stream.fill(memoryview(prefix))
    header_length, body_length = lengths(prefix, largest)
    data = bytearray(header_length)
    await stream.fill(memoryview(data))
    return parse(wire.Header, data), body_length


async def receive_message(
    stream: ByteStream, largest: int, into: memoryview | None = None
) -> tuple[wire.Header, memoryview]:
    """The next message; its body in `into` where it has just that length."""
    header, length = await receive_header(stream, largest)
    if into is not None and header.kind == wire.Header.RESPONSE:
        if length != len(into):
            raise MessageError(
                f"needs a body of {len(into)} bytes. Got {length}. The peer lies or runs "
                "another release."
            )
        body = into
    else:
        body = memoryview(bytearray(length))
    await stream.fill(body)
    return header, body


@dataclass
class Call:
    """A request as its method sees it; `receive` and `send` are for streams."""

    peer: str
    meta: bytes
    body: memoryview
    stream: ByteStream = field(repr=False)
    ended: bool = False
    streamed: bool = False

    async def receive(self) -> memoryview | None:
        """The next that the caller streams after the request; None at the end."""
        if self.ended:
            return None
        header, body = await receive_message(self.stream, LARGEST_REQUEST)
        if header.kind == wire.Header.DATA:
            return body
        if header.kind != wire.Header.END:
            raise MessageError(
                f"needs DATA or END. Got kind {header.kind}. Close streams by `finish`."
            )
        self.ended = True
        return None

    async def send(self, data) -> None:
        """Stream `data` back; waits while the caller does not read."""
        self.streamed = True
        await send_message(self.stream, wire.Header(kind=wire.Header.DATA), data)


Method = Callable[[Call], Awaitable[object]]


class Methods:
    """The methods that peers may call, and the serving of a stream."""

    def __init__(self):
        self._methods: dict[str, Method] = {}
        self._budgets: dict[str, ByteBudget] = {}

    def add(self, name: str, method: Method) -> None:
        """Offer `method`, an async function of a `Call` that returns the body, or None."""
        self._methods[name] = method

    async def serve(self, stream: ByteStream, peer: str) -> None:
        """Answer one call after the other until the peer ends the stream."""
        budget = self._budgets.setdefault(peer, ByteBudget(BUDGET))
        while True:
            with trio.move_on_after(IDLE) as idle:
                header, length = await receive_header(stream, LARGEST_REQUEST)
            if idle.cancelled_caught:
                await stream.close()
                return
            if header.kind == wire.Header.END and not length:
                continue  # of a call whose method did not read to the end
            if header.kind != wire.Header.REQUEST:
                raise MessageError(
                    f"needs a REQUEST. Got kind {header.kind}. Open a stream for each call."
                )
            seconds = min(header.deadline_ms / 1000 or LONGEST_DEADLINE, LONGEST_DEADLINE)
            with trio.fail_after(seconds):
                async with budget.held(length + len(header.meta)):
                    body = memoryview(bytearray(length))
                    await stream.fill(body)
                    await self._answer(Call(peer, header.meta, body, stream), header.method)

    async def _answer(self, call: Call, name: str):
        try:
            method = self._methods.get(name)
            if method is None:
                raise LookupError(
                    f"offers {', '.join(sorted(self._methods))}. Got {name[:80]!r}. "
                    "Run the same release on both sides."
                )
            result: Any = await method(call)
            kind = wire.Header.END if call.streamed else wire.Header.RESPONSE
            await send_message(call.stream, wire.Header(kind=kind), result or b"")
        except (ValueError, LookupError, RuntimeError, OSError, MemoryError) as error:
            # The caller learns why; the stream goes on unless the network failed.
            header = wire.Header(kind=wire.Header.ERROR, error=str(error)[:500])
            await send_message(call.stream, header)
