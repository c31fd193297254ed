"""Call the methods of other peers; idle streams are kept for the next call."""

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any

import trio

from .._errors import reason
from .._libp2p.byte_stream import ByteStream, PeerStream
from .._libp2p.library import PeerID, TProtocol
from .._libp2p.sockets import is_relayed
from .._libp2p.uncontended_lock import held
from . import wire_pb2 as wire
from .message_stream import receive_message, send_message
from .messages import LARGEST_BODY, MessageError

PROTOCOL = TProtocol("/sedma/rpc/1.0.0")
STREAMS = 24  # calls in flight per peer; more wait


class RemoteError(RuntimeError):
    """The peer answered that it could not do what was asked.

    **Example:**

        >>> everyone = sj.comm.NodeSettings(allowed=frozenset({sj.comm.EVERYONE}))
        >>> with sj.comm.open_node(everyone) as a, sj.comm.open_node(everyone) as b:
        ...     peer = b.connect(*a.addresses)
        ...     try:
        ...         b.call(b.node.calls.call, peer, "sing")
        ...     except sj.comm.RemoteError as error:
        ...         print(error)
        a call of a node needs one of echo, ... Got 'sing'. ...
    """


class StreamingCall:
    """An open call; data travels at the pace of the slower side."""

    def __init__(self, stream: ByteStream, largest: int = LARGEST_BODY):
        self._stream, self._largest = stream, largest
        self.finished = self.answered = False

    async def send(self, data: bytes | memoryview) -> None:
        """Stream `data` to the method."""
        await send_message(self._stream, wire.Header(kind=wire.Header.DATA), data)

    async def finish(self) -> None:
        """Tell the method that no more will be sent."""
        self.finished = True
        await send_message(self._stream, wire.Header(kind=wire.Header.END))

    async def receive(self, into: memoryview | None = None) -> memoryview | None:
        """The next piece that the method streams back, or its result; None at the end."""
        if self.answered:
            return None
        header, body = await receive_message(self._stream, self._largest, into)
        self.answered = header.kind != wire.Header.DATA
        if header.kind == wire.Header.ERROR:
            raise RemoteError(header.error)
        if header.kind == wire.Header.REQUEST:
            raise MessageError(
                "the call of a peer's method needs an answer. Got a REQUEST. The peer is "
                "broken; ask another one."
            )
        return None if header.kind == wire.Header.END and not len(body) else body


class Calls:
    """Calls to other peers."""

    def __init__(self, host: Any):
        self._host = host
        self._idle: dict[str, list[PeerStream]] = {}
        self._slots: dict[str, trio.Semaphore] = {}

    async def call(
        self,
        peer: str,
        method: str,
        body: bytes | memoryview = b"",
        *,
        meta: bytes = b"",
        timeout: float = 10.0,
        into: memoryview | None = None,
        largest: int = LARGEST_BODY,
    ) -> memoryview:
        """Call a method and return the body of its answer.

        **Arguments:**

        - `peer`: id of a connected peer.
        - `timeout`: seconds until both sides give up.
        - `into`: a buffer of exactly the size of the answer, filled without another copy.
        - `largest`: bytes of the answer.

        **Raises:** `RemoteError` with the peer's message, `ConnectionError` if the peer
        went away, `trio.TooSlowError` after `timeout`, `MessageError` for an answer that
        breaks the protocol.
        """
        opened = self.open(peer, method, body, meta=meta, timeout=timeout, largest=largest)
        async with opened as call:
            call.finished = True  # the request is all: no END follows
            return await call.receive(into) or memoryview(b"")

    @asynccontextmanager
    async def open(
        self,
        peer: str,
        method: str,
        body: bytes | memoryview = b"",
        *,
        meta: bytes = b"",
        timeout: float = 60.0,
        largest: int = LARGEST_BODY,
    ) -> AsyncIterator[StreamingCall]:
        """Open a call that streams; leaving the block before its end cancels the call."""
        header = wire.Header(
            method=method, meta=meta, deadline_ms=max(1, int(timeout * 1000))
        )
        slots = self._slots.setdefault(peer, trio.Semaphore(STREAMS))
        with trio.fail_after(timeout):
            async with held(slots):
                stream = await self._stream(peer)
                call = StreamingCall(stream, largest)
                try:
                    with _peer_errors(peer):
                        await send_message(stream, header, body)
                        yield call
                finally:
                    if call.answered and call.finished:
                        self._idle.setdefault(peer, []).append(stream)
                    else:
                        with trio.CancelScope(shield=True), trio.move_on_after(1):  # pyright: ignore[reportCallIssue]
                            await stream.reset()

    def forget(self, connected: Collection[str]) -> None:
        """Drop what is kept for peers that have left."""
        for peer, slots in list(self._slots.items()):
            if peer not in connected and slots.value == STREAMS:
                del self._slots[peer]
                self._idle.pop(peer, None)

    async def _stream(self, peer: str) -> PeerStream:
        idle = self._idle.get(peer, [])
        while idle:
            stream = idle.pop()
            if stream.usable and not (stream.relayed and self._directly(peer)):
                return stream
            await stream.reset()
        with _peer_errors(peer):
            stream = await self._host.new_stream(PeerID.from_string(peer), [PROTOCOL])
            return PeerStream(stream)

    def _directly(self, peer: str) -> bool:
        found = self._host.get_network().get_connections(PeerID.from_string(peer))
        return not all(map(is_relayed, found))


class _peer_errors:
    """Turn the library's errors, which have no common base, into `ConnectionError`."""

    def __init__(self, peer: str):
        self._peer = peer

    def __enter__(self) -> "_peer_errors":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        module = getattr(kind, "__module__", "")
        if error and (module.startswith("libp2p") or isinstance(error, EOFError)):
            raise ConnectionError(
                f"the call of a peer's method needs {self._peer} to stay connected. Got "
                f"{reason(error)}. Ask another peer."
            ) from error
