"""One stream of the muxer."""

from collections import deque
from typing import Any

import trio

from .library import IMuxedStream, MuxedStreamEOF, MuxedStreamError, MuxedStreamReset
from .noise_records import LARGEST_PLAIN
from .uncontended_lock import held
from .yamux_frames import (
    DATA,
    FIN,
    FIRST_WINDOW,
    HEADER,
    LARGEST_WINDOW,
    RST,
    WINDOW_UPDATE,
    frame,
)

LARGEST_BODY = LARGEST_PLAIN - HEADER.size  # a frame that fills one record
FRAMES_AT_ONCE = 8  # encrypted and sent together


class MuxedStream(IMuxedStream):
    """A stream whose receive window grows only as its reader takes bytes.

    `read_into` copies once, into the caller's buffer.
    """

    def __init__(self, stream_id: int, connection: Any, *, initiator: bool):
        self.stream_id = stream_id
        self.muxed_conn = self.conn = connection
        self.is_initiator = initiator
        self.closed = self.send_closed = self.receive_closed = self.was_reset = False
        self.window = FIRST_WINDOW  # size of the receive window
        self._receivable = FIRST_WINDOW
        self._sendable = FIRST_WINDOW
        self._taken = 0  # bytes read since the last credit
        self._unread: deque[memoryview] = deque()
        self._unread_bytes = 0
        self._readable, self._writable = trio.Event(), trio.Event()
        self._write_lock = trio.Lock()

    async def _until_readable(self) -> None:
        while not self._unread_bytes:
            if self.was_reset:
                raise MuxedStreamReset("the peer has reset the stream")
            if self.receive_closed:
                raise MuxedStreamEOF("the peer will send no more")
            self._readable = trio.Event()
            await self._readable.wait()

    async def read(self, n: int | None = None) -> bytes:
        """Read at least one and at most `n` bytes; `MuxedStreamEOF` at the end."""
        if n == 0:
            return b""
        await self._until_readable()
        size = len(self._unread[0])
        out = bytearray(size if n is None or n < 0 else min(n, size))
        self._take(memoryview(out))
        return bytes(out)

    async def read_into(self, buffer: memoryview) -> int:
        """Wait for bytes and copy them into `buffer`; how many, at least one."""
        if not len(buffer):
            return 0
        await self._until_readable()
        return self._take(buffer)

    def _take(self, buffer: memoryview) -> int:
        taken = 0
        while self._unread and taken < len(buffer):
            piece = self._unread[0]
            count = min(len(piece), len(buffer) - taken)
            buffer[taken : taken + count] = piece[:count]
            taken += count
            if count == len(piece):
                self._unread.popleft()
            else:
                self._unread[0] = piece[count:]
        self._unread_bytes -= taken
        self.conn.count_unread(-taken)
        self._taken += taken
        if self._taken >= self.window // 2 and not self.receive_closed:
            self.window += self.conn.grow(min(self.window, LARGEST_WINDOW - self.window))
            credit = self.window - self._receivable - self._unread_bytes
            self._taken = 0
            if credit > 0:
                self._receivable += credit
                self.conn.queue(frame(WINDOW_UPDATE, 0, self.stream_id, credit))
        return taken

    async def write(self, data: bytes | memoryview, before: bytes = b"") -> None:
        """Send `before`, which needs no frame of its own, then all of `data`.

        Waits while the peer's window is full.
        """
        view = memoryview(data).cast("B")
        async with held(self._write_lock):
            while len(view) or before:
                while not self._sendable:
                    self._check_writable()
                    self._writable = trio.Event()
                    await self._writable.wait()
                self._check_writable()
                frames = []
                while (
                    (len(view) or before)
                    and self._sendable
                    and len(frames) < FRAMES_AT_ONCE
                ):
                    most = min(self._sendable, LARGEST_BODY)
                    head, before = before[:most], before[most:]
                    body = view[: most - len(head)]
                    view = view[len(body) :]
                    count = len(head) + len(body)
                    self._sendable -= count
                    header = frame(DATA, 0, self.stream_id, count)
                    frames.append(b"".join((header, head, body)))
                await self.conn.send(frames)

    def _check_writable(self) -> None:
        if self.was_reset:
            raise MuxedStreamReset("the stream was reset")
        if self.send_closed or self.conn.is_closed:
            raise MuxedStreamError("the stream is closed")

    async def close(self) -> None:
        """Tell the peer that no more will be sent; reading goes on."""
        async with held(self._write_lock):
            if not self.send_closed:
                self.send_closed = True
                self.conn.queue(frame(WINDOW_UPDATE, FIN, self.stream_id, 0))
        self._forget_if_done()

    async def reset(self) -> None:
        """Abort both directions at once."""
        if not self.was_reset and not self.closed:
            self.conn.queue(frame(WINDOW_UPDATE, RST, self.stream_id, 0))
        self.end()

    def end(self) -> None:
        """Wake all waiting tasks, and drop unread bytes."""
        self.was_reset = self.closed = self.send_closed = self.receive_closed = True
        self._unread.clear()
        self.conn.count_unread(-self._unread_bytes)
        self._unread_bytes = 0
        self._readable.set()
        self._writable.set()
        self.conn.forget(self)

    def receive(self, body: memoryview) -> bool:
        """Take in what the peer sent; False if it sent beyond its window."""
        self._receivable -= len(body)
        if self._receivable < 0:
            return False
        if len(body) and not self.receive_closed:
            self._unread.append(body)
            self._unread_bytes += len(body)
            self._readable.set()
            self.conn.count_unread(len(body))
        return True

    def credit(self, count: int) -> bool:
        """Let `count` more bytes be sent; False if the window overflows."""
        self._sendable += count
        self._writable.set()
        return self._sendable < 2**32

    def finish_receiving(self) -> None:
        """Note that the peer will send no more."""
        self.receive_closed = True
        self._readable.set()
        self._forget_if_done()

    def _forget_if_done(self) -> None:
        if self.send_closed and self.receive_closed:
            self.closed = True
            self.conn.forget(self)

    def set_deadline(self, ttl: int) -> None:
        """Not supported: wrap the call in `trio.fail_after`."""
        raise NotImplementedError(
            "`MuxedStream` needs deadlines of trio. Got a call of `set_deadline`. Use "
            "`trio.fail_after` instead."
        )

    def get_remote_address(self) -> Any:
        """Address and port of the peer."""
        return self.conn.get_remote_address()

    async def __aenter__(self) -> "MuxedStream":
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()
