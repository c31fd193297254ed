"""One interface for the streams that messages travel on."""

from abc import ABC, abstractmethod
from typing import Any

import trio

from .muxer_stream import LARGEST_BODY, MuxedStream
from .sockets import is_relayed


class ByteStream(ABC):
    """Bytes in both directions, in order."""

    @abstractmethod
    async def fill(self, buffer: memoryview) -> None:
        """Fill all of `buffer`; `EOFError` if the other side ends first."""

    @abstractmethod
    async def write(self, data: bytes | memoryview, before: bytes = b"") -> None:
        """Send the short `before`, then all of `data`."""

    @abstractmethod
    async def close(self) -> None:
        """Send no more."""

    @abstractmethod
    async def reset(self) -> None:
        """Abort both directions."""


class PeerStream(ByteStream):
    """A stream of a libp2p host."""

    def __init__(self, stream: Any):
        self._stream = stream
        self._muxed = stream.muxed_stream
        self._own = isinstance(self._muxed, MuxedStream)
        self.relayed = is_relayed(stream)

    @property
    def usable(self) -> bool:
        """Whether the peer has ended neither direction, as far as this side knows."""
        if self._own:
            return not (self._muxed.receive_closed or self._muxed.send_closed)
        return not self._stream.is_closed

    @property
    def writable(self) -> bool:
        """Whether bytes can still be sent; the peer may have ended its own side."""
        return not (self._muxed.send_closed if self._own else self._stream.is_closed)

    async def fill(self, buffer: memoryview) -> None:
        """Fill all of `buffer`; `EOFError` if the peer ends first."""
        at = 0
        while at < len(buffer):
            if self._own:
                at += await self._muxed.read_into(buffer[at:])
                continue
            # The library's `read_exactly` gives up after a hundred short reads.
            data = await self._stream.read(len(buffer) - at)
            if not data:
                raise EOFError("the stream ended inside a message")
            buffer[at : at + len(data)] = data
            at += len(data)

    async def write(self, data: bytes | memoryview, before: bytes = b"") -> None:
        """Send the short `before`, then all of `data`."""
        if self._own:
            await self._muxed.write(data, before)
            return
        if before:
            await self._stream.write(before)
        view = memoryview(data).cast("B")
        # The library splits a longer write into a full and a nearly empty Noise record.
        for at in range(0, len(view), LARGEST_BODY):
            await self._stream.write(bytes(view[at : at + LARGEST_BODY]))

    async def close(self) -> None:
        """Send no more."""
        await self._stream.close()

    async def reset(self) -> None:
        """Abort both directions."""
        await self._stream.reset()


class SocketStream(ByteStream):
    """A stream of trio, for the control socket of a node."""

    def __init__(self, stream: trio.abc.Stream):
        self._stream = stream

    async def fill(self, buffer: memoryview) -> None:
        """Fill all of `buffer`; `EOFError` if the other side ends first."""
        at = 0
        while at < len(buffer):
            data = await self._stream.receive_some(min(len(buffer) - at, 2**20))
            if not data:
                raise EOFError("the stream ended inside a message")
            buffer[at : at + len(data)] = data
            at += len(data)

    async def write(self, data: bytes | memoryview, before: bytes = b"") -> None:
        """Send the short `before`, then all of `data`."""
        if before:
            await self._stream.send_all(before)
        await self._stream.send_all(data)

    async def close(self) -> None:
        """Close the connection."""
        await self._stream.aclose()

    async def reset(self) -> None:
        """Close the connection."""
        await self._stream.aclose()
