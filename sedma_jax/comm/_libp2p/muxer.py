"""A yamux connection over Noise: faster than the library's, with bounded memory.

It speaks the library's protocol, over TCP or through a relay. These things differ: one task
reads records and cuts them into frames; tasks wait on events; a stream's window grows only
while the stream is read, within a budget per connection; and a ping every two seconds
detects a peer that is gone.
"""

from collections.abc import Awaitable, Callable
from typing import Any

import trio

from .library import IMuxedConn, MuxedConnUnavailable, MuxedStreamError, PeerID
from .muxer_stream import MuxedStream
from .noise_records import NoiseRecords
from .sockets import raw_connection, socket_of
from .uncontended_lock import held
from .yamux_frames import (
    ACK,
    DATA,
    FIN,
    FIRST_WINDOW,
    GO_AWAY,
    PING,
    RST,
    SYN,
    WINDOW_UPDATE,
    FrameError,
    FrameReader,
    frame,
)

MOST_STREAMS = 64  # that the peer may open; each may send 256 KiB before anyone reads
MOST_UNREAD = 256 * 2**20  # bytes that wait for readers, on all connections together
GROWTH_BUDGET = 32 * 2**20  # bytes by which the windows of one connection may grow
MOST_REPLIES = 4096  # headers waiting to be sent; a peer that causes more does not read
RECEIVED_AT_ONCE = 256 * 1024  # bytes; a record has up to 64 KiB
PING_EVERY = 2.0  # seconds
SILENCE = 2.5  # seconds without a byte after a ping, until the peer counts as gone


def suits(secured_connection: Any) -> bool:
    """Whether a connection is Noise over TCP, or over a stream of this muxer."""
    return socket_of(secured_connection) is not None


class _All:
    """The connections of this process, and the bytes on them that wait for readers."""

    def __init__(self):
        self.connections: set[MuxedConnection] = set()
        self.unread = 0


_all = _All()


class MuxedConnection(IMuxedConn):
    """One connection to a peer, and its streams."""

    def __init__(
        self,
        secured_conn: Any,
        peer_id: PeerID,
        is_initiator: bool | None = None,
        on_close: Callable[[], Awaitable[Any]] | None = None,
    ):
        self.secured_conn, self.peer_id, self.on_close = secured_conn, peer_id, on_close
        self._initiator = (
            secured_conn.is_initiator if is_initiator is None else is_initiator
        )
        self._next_id = 1 if self._initiator else 2
        self._streams: dict[int, MuxedStream] = {}
        self._closed = False
        self.event_started, self.event_closed = trio.Event(), trio.Event()
        self.event_shutting_down = trio.Event()
        self._accepted, self._to_accept = trio.open_memory_channel[MuxedStream](
            MOST_STREAMS
        )
        self._send_lock = trio.Lock()
        self._replies: list[bytes] = []
        self._reply_waits = trio.Event()
        self._answered = trio.Event()
        self._pinged = (0, 0.0)  # nonce and time
        self._rtt = 0.0
        self._growth = GROWTH_BUDGET
        self.unread = 0  # bytes that wait for readers
        self.last_used = trio.current_time()  # when a stream last brought something
        self._scope: trio.CancelScope | None = None
        self._records = NoiseRecords(secured_conn.conn.noise_state)
        self._raw = raw_connection(secured_conn)
        self._socket = socket_of(secured_conn)

    @property
    def is_initiator(self) -> bool:
        """Whether this side dialled."""
        return self._initiator

    @property
    def is_closed(self) -> bool:
        """Whether the connection has ended."""
        return self._closed

    @property
    def is_established(self) -> bool:
        """Whether streams can be opened."""
        return self.event_started.is_set() and not self._closed

    def rtt(self) -> float:
        """Round-trip time of the last ping, in seconds; 0 before the first."""
        return self._rtt

    def get_transport_addresses(self) -> Any:
        """Addresses of the underlying connection."""
        return self._raw.get_transport_addresses()

    def get_connection_type(self) -> Any:
        """Direct or relayed."""
        return self._raw.get_connection_type()

    def get_remote_address(self) -> Any:
        """Address and port of the peer."""
        return self.secured_conn.get_remote_address()

    async def start(self) -> None:
        """Run the connection until it ends."""
        async with trio.open_nursery() as nursery:
            self._scope = nursery.cancel_scope
            _all.connections.add(self)
            try:
                self.event_started.set()
                nursery.start_soon(self._send_replies)
                nursery.start_soon(self._keep_alive)
                await self._receive()
            except _ENDINGS:
                pass
            finally:
                with trio.CancelScope(shield=True):  # pyright: ignore[reportCallIssue]
                    await self._end()
                nursery.cancel_scope.cancel()

    async def send(self, frames: list[bytes]) -> None:
        """Encrypt and send frames in order, or none of them.

        Cancelling the caller does not cut a record short, which would end the connection
        for all streams. The keep-alive detects a peer that takes nothing.
        """
        async with held(self._send_lock):
            if self._closed:
                raise MuxedStreamError("the connection has ended")
            out = self._records.seal(frames)
            with trio.CancelScope(shield=True):  # pyright: ignore[reportCallIssue]
                try:
                    await self._socket.send_all(out)
                except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                    raise MuxedStreamError("the connection is lost") from error

    def queue(self, header: bytes) -> None:
        """Queue a frame without a body, for callers that must not wait."""
        if len(self._replies) >= MOST_REPLIES:
            if self._scope is not None:
                self._scope.cancel()
            return
        self._replies.append(header)
        self._reply_waits.set()

    def grow(self, wanted: int) -> int:
        """Take up to `wanted` bytes from the budget by which windows may grow."""
        granted = min(wanted, self._growth)
        self._growth -= granted
        return granted

    def count_unread(self, change: int) -> None:
        """Count bytes that wait for readers; if they are too many, who has most is cut off.

        A window limits one stream. Streams that nobody reads, of many peers, add up.
        """
        self.unread += change
        _all.unread += change
        if change > 0 and _all.unread > MOST_UNREAD:
            max(_all.connections, key=lambda one: one.unread).break_off()

    def break_off(self) -> None:
        """End the connection at once, without a word to the peer."""
        # Closing the socket first wakes a sender whose peer takes nothing.
        self._socket.close()
        if self._scope is not None:
            self._scope.cancel()

    def forget(self, stream: MuxedStream) -> None:
        """Drop an ended stream, and give the growth of its window back to the budget."""
        if self._streams.pop(stream.stream_id, None) is not None:
            self._growth += stream.window - FIRST_WINDOW

    async def open_stream(self) -> MuxedStream:
        """Open a stream to the peer."""
        if self._closed:
            raise MuxedStreamError("the connection has ended")
        stream = MuxedStream(self._next_id, self, initiator=True)
        self._next_id += 2
        self._streams[stream.stream_id] = stream
        await self.send([frame(WINDOW_UPDATE, SYN, stream.stream_id, 0)])
        return stream

    async def accept_stream(self) -> MuxedStream:
        """The next stream that the peer opens."""
        try:
            return await self._to_accept.receive()
        except (trio.EndOfChannel, trio.ClosedResourceError) as error:
            raise MuxedConnUnavailable("the connection has ended") from error

    async def _send_replies(self) -> None:
        try:
            while True:
                await self._reply_waits.wait()
                self._reply_waits = trio.Event()
                waiting, self._replies = self._replies, []
                # Many headers share a record.
                for at in range(0, len(waiting), 1024):
                    await self.send([b"".join(waiting[at : at + 1024])])
        except MuxedStreamError:
            await self._socket.aclose()

    async def _keep_alive(self) -> None:
        nonce = 0
        while True:
            await trio.sleep(PING_EVERY)
            nonce = (nonce + 1) % 2**32
            self._pinged = nonce, trio.current_time()
            self.queue(frame(PING, SYN, 0, nonce))
            self._answered = trio.Event()
            with trio.move_on_after(SILENCE):
                await self._answered.wait()
            if not self._answered.is_set():
                self.break_off()

    async def _receive(self) -> None:
        reader = FrameReader()
        early = self.secured_conn._drain(None)  # bytes that were read beyond the handshake
        if early:
            self._handle_all(reader, early)
        raw, end = memoryview(bytearray(RECEIVED_AT_ONCE)), 0
        while True:
            count = await self._socket.receive_into(raw[end:])
            if not count:
                return
            self._answered.set()  # any byte shows that the peer is alive
            at, end = 0, end + count
            while end - at >= 2:
                stop = at + 2 + ((raw[at] << 8) | raw[at + 1])
                if stop > end:
                    break
                self._handle_all(reader, self._records.open(raw[at + 2 : stop]))
                at = stop
            raw[: end - at] = raw[at:end]
            end -= at

    def _handle_all(self, reader: FrameReader, record: bytes) -> None:
        for kind, flags, stream_id, value, body in reader.frames(record):
            if kind == DATA or kind == WINDOW_UPDATE:
                self._handle(kind, flags, stream_id, value, body)
            elif kind == PING and flags & SYN:
                self.queue(frame(PING, ACK, 0, value))
            elif kind == PING and (value, flags & ACK) == (self._pinged[0], ACK):
                self._rtt = trio.current_time() - self._pinged[1]
            elif kind == GO_AWAY:
                raise EOFError("the peer ends the connection")

    def _handle(
        self, kind: int, flags: int, stream_id: int, value: int, body: memoryview
    ) -> None:
        stream = self._streams.get(stream_id)
        if flags & SYN:
            theirs = (stream_id % 2 == 1) != self._initiator
            if stream is not None or not theirs:
                raise FrameError(f"stream {stream_id} opened twice, or not by its side")
            if sum(s.is_initiator is False for s in self._streams.values()) >= MOST_STREAMS:
                self.queue(frame(WINDOW_UPDATE, RST, stream_id, 0))
                return
            stream = MuxedStream(stream_id, self, initiator=False)
            try:
                self._accepted.send_nowait(stream)
            except trio.WouldBlock:
                self.queue(frame(WINDOW_UPDATE, RST, stream_id, 0))
                return
            self._streams[stream_id] = stream
            self.queue(frame(WINDOW_UPDATE, ACK, stream_id, 0))
        if stream is None:
            return  # reset on this side, before the peer knew
        if kind == DATA:
            self.last_used = trio.current_time()
            if not stream.receive(body):
                raise FrameError(f"stream {stream_id} sent beyond its window")
        if kind == WINDOW_UPDATE and value and not stream.credit(value):
            raise FrameError(f"the window of stream {stream_id} overflows")
        if flags & RST:
            stream.end()
        elif flags & FIN:
            stream.finish_receiving()

    async def _end(self) -> None:
        if self._closed:
            return
        self._closed = True
        _all.connections.discard(self)
        self.event_shutting_down.set()
        self._accepted.close()
        for stream in list(self._streams.values()):
            stream.end()
        try:
            await self.secured_conn.close()
        except Exception:  # the library's errors have no common base
            pass
        self.event_closed.set()
        if self.on_close is not None:
            await self.on_close()

    async def close(self, error_code: int = 0) -> None:
        """Tell the peer, and end the connection."""
        if not self._closed:
            with trio.move_on_after(1):
                try:
                    await self.send([frame(GO_AWAY, 0, 0, error_code)])
                except MuxedStreamError:
                    pass
        await self._end()
        if self._scope is not None:
            self._scope.cancel()


_ENDINGS = (
    FrameError,
    EOFError,
    OSError,
    trio.BrokenResourceError,
    trio.ClosedResourceError,
)
