"""Calling the methods of other peers, over streams that are kept for the next call."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from .._libp2p.byte_stream import ByteStream, PeerStream
from .._libp2p.library import PeerID, TProtocol
from .._libp2p.sockets import is_relayed
from .._libp2p.uncontended_lock import held
from . import wire_pb2 as wire
from .messages import LARGEST_BODY, MessageError
from .methods import RemoteError, receive_message, send_message

PROTOCOL = TProtocol("/sedma/rpc/1.0.0")
STREAMS = 24  # calls in flight to one peer; more wait


class StreamingCall:
    """An open call; what is sent and received travels at the pace of the slower side."""

    def __init__(self, stream: ByteStream):
        self._stream = stream
        self.finished = self.answered = False

    async def send(self, data) -> None:
        """Stream `data` to the method."""
        await send_message(self._stream, wire.Header(kind=wire.Header.DATA), data)

    async def finish(self) -> None:
        """Say that no more will be sent."""
        self.finished = True
        await send_message(self._stream, wire.Header(kind=wire.Header.END))

    async def receive(self, into: memoryview | None = None) -> memoryview | None:
        """The next that the method streams back, or what it returns; None at the end."""
        if self.answered:
            return None
        header, body = await receive_message(self._stream, LARGEST_BODY, into)
        self.answered = header.kind != wire.Header.DATA
        if header.kind == wire.Header.ERROR:
            raise RemoteError(header.error)
        if header.kind == wire.Header.REQUEST:
            raise MessageError("needs an answer. Got a REQUEST. The peer is broken.")
        return None if header.kind == wire.Header.END and not len(body) else body


class Calls:
    """Calls to other peers."""

    def __init__(self, host):
        self._host = host
        self._idle: dict[str, list[PeerStream]] = {}
        self._slots: dict[str, trio.Semaphore] = {}

    async def call(
        self,
        peer: str,
        method: str,
        body=b"",
        *,
        meta: bytes = b"",
        timeout: float = 10.0,
        into: memoryview | None = None,
    ) -> memoryview:
        """Call a method and return the body of its answer.

        **Arguments:**

        - `peer`: whom, connected to already.
        - `timeout`: seconds until both sides give up.
        - `into`: a buffer of just the size of the answer, filled without another copy.

        **Raises:** `RemoteError` with what the peer said, `ConnectionError` for a peer that
        went away, `trio.TooSlowError` after `timeout`, `MessageError` for no answer.
        """
        async with self.open(peer, method, body, meta=meta, timeout=timeout) as call:
            call.finished = True  # a request alone: no END follows
            return await call.receive(into) or memoryview(b"")

    @asynccontextmanager
    async def open(
        self, peer: str, method: str, body=b"", *, meta: bytes = b"", timeout: float = 60.0
    ) -> AsyncIterator[StreamingCall]:
        """Open a call that streams; leaving the block early cancels it."""
        header = wire.Header(
            method=method, meta=meta, deadline_ms=max(1, int(timeout * 1000))
        )
        slots = self._slots.setdefault(peer, trio.Semaphore(STREAMS))
        with trio.fail_after(timeout):
            async with held(slots):
                stream = await self._stream(peer)
                call = StreamingCall(stream)
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
    """Turns the network's errors, which have no common base, into `ConnectionError`."""

    def __init__(self, peer: str):
        self._peer = peer

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        module = getattr(kind, "__module__", "")
        if module.startswith("libp2p") or isinstance(error, EOFError):
            raise ConnectionError(
                f"needs peer {self._peer} to stay connected. Got {error or kind.__name__}. "
                "Try another peer."
            ) from error
