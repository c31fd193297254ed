"""The methods that a node offers to peers, and the answers to their calls.

A stream carries one call at a time and is reused for the next. A caller that cancels resets
the stream, which cancels the method here. A deadline travels with the request. Requests are
read only as far as there is memory for them; the rest waits at the peer.
"""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import trio

from .._errors import first_cause, reason
from .._libp2p.byte_stream import ByteStream
from . import wire_pb2 as wire
from .body_memory import BodyMemory
from .message_stream import receive_header, receive_message, send_message
from .messages import MessageError

log = logging.getLogger("sedma_jax.comm")

LONGEST_DEADLINE = 600.0  # seconds
LARGEST_REQUEST = 16 * 2**20
IDLE = 120.0  # seconds without a request until a stream is closed
# Kinds of errors whose text was written for callers.
_FORESEEN = (ValueError, LookupError, RuntimeError, OSError, MemoryError, trio.TooSlowError)


@dataclass
class Call:
    """A request as its method sees it.

    `receive` and `send` are for calls that stream.

    - `peer`: id of the caller.
    - `meta`, `body`: bytes of the request, at most 16 KiB with the header, and as many as
        its method takes.

    **Example:**

        >>> async def twice(call):
        ...     return 2 * bytes(call.body)
        >>> everyone = sj.comm.NodeSettings(allowed=frozenset({sj.comm.EVERYONE}))
        >>> with sj.comm.open_node(everyone) as a, sj.comm.open_node(everyone) as b:
        ...     a.node.methods.add("twice", twice)
        ...     answer = b.call(b.node.calls.call, b.connect(*a.addresses), "twice", b"ab")
        >>> bytes(answer)
        b'abab'
    """

    peer: str
    meta: bytes
    body: memoryview
    stream: ByteStream = field(repr=False)
    ended: bool = False
    streamed: bool = False
    sending: bool = False  # a message is out in part

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
        await self.respond(wire.Header.DATA, data)

    async def respond(self, kind: Any, data: bytes | memoryview) -> None:
        """Send one message to the caller."""
        self.sending = True
        await send_message(self.stream, wire.Header(kind=kind), data)
        self.sending = False


Method = Callable[[Call], Awaitable[Any]]


class Methods:
    """The methods that peers may call."""

    def __init__(self):
        self._methods: dict[str, Method] = {}
        self._largest: dict[str, int] = {}
        self._memory = BodyMemory()

    def __getitem__(self, name: str) -> Method:
        return self._methods[name]

    def add(self, name: str, method: Method, largest: int = LARGEST_REQUEST) -> None:
        """Offer `method`, an async function of a `Call` that returns the body or None.

        **Arguments:** `largest`: bytes of a request's body; a caller that sends more is cut
        off.
        """
        self._methods[name], self._largest[name] = method, largest

    async def serve(self, stream: ByteStream, peer: str) -> None:
        """Answer one call after another until the peer ends the stream."""
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
            if length > self._largest.get(header.method, 0):
                raise MessageError(
                    f"the method `{header.method[:80]}` needs a body of at most "
                    f"{self._largest.get(header.method, 0)} bytes. Got {length}. Send less."
                )
            seconds = min(header.deadline_ms / 1000 or LONGEST_DEADLINE, LONGEST_DEADLINE)
            call = Call(peer=peer, meta=header.meta, body=memoryview(b""), stream=stream)
            with trio.move_on_after(seconds) as deadline:
                async with self._memory.body(stream, length, peer) as call.body:
                    await self._answer(call, header.method)
            if deadline.cancelled_caught:
                await _say_too_late(call, header.method, seconds)
                return

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
            await call.respond(kind, result or b"")
        except Exception as error:
            if call.sending:
                raise  # half a message is out: nothing more can be said on this stream
            # Tell the caller why; the stream goes on unless the network failed.
            header = wire.Header(kind=wire.Header.ERROR, error=_told(error, name)[:500])
            await send_message(call.stream, header)


def _told(error: Exception, name: str) -> str:
    """What a caller is told of an error; of one that nobody foresaw, only its kind."""
    error = first_cause(error)  # pyright: ignore[reportAssignmentType]
    if isinstance(error, _FORESEEN):
        return reason(error)
    log.error("the method %s failed", name, exc_info=error)
    return (
        f"the method `{name[:80]}` needs a request that it can do. Got "
        f"{type(error).__name__} inside the node. Its log says more."
    )


async def _say_too_late(call: Call, name: str, seconds: float) -> None:
    """Tell the caller that its deadline has passed, and end the stream."""
    if call.sending:
        raise trio.TooSlowError
    header = wire.Header(
        kind=wire.Header.ERROR,
        error=f"the method `{name[:80]}` needs to end within {seconds:g} s, the deadline "
        "of its call. Got no end until then. Allow more.",
    )
    with trio.move_on_after(1):
        await send_message(call.stream, header)
        await call.stream.close()
