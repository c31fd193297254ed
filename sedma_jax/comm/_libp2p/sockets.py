"""What carries a secured connection: a TCP socket, or a stream through a relay."""

from typing import Any

import trio

from .library import NetStream, NoiseTransportReadWriter
from .muxer_stream import MuxedStream


def raw_connection(secured_connection: Any) -> Any:
    """The connection below Noise; None without Noise."""
    layer = getattr(secured_connection, "conn", None)
    if not isinstance(layer, NoiseTransportReadWriter):
        return None
    return getattr(layer.read_writer, "read_write_closer", None)


def is_relayed(connection: Any) -> bool:
    """Whether a connection of the host, or a stream's connection, runs through a relay."""
    secured = getattr(connection.muxed_conn, "secured_conn", None)
    return isinstance(getattr(raw_connection(secured), "stream", None), NetStream)


def socket_of(secured_connection: Any) -> Any:
    """The socket or circuit below a connection; None if our muxer cannot use it."""
    stream = getattr(raw_connection(secured_connection), "stream", None)
    if isinstance(stream, NetStream):
        ours = isinstance(stream.muxed_stream, MuxedStream)
        return CircuitSocket(stream) if ours else None
    socket = getattr(stream, "stream", None)
    return TcpSocket(socket) if isinstance(socket, trio.SocketStream) else None


class TcpSocket:
    """A TCP socket that reads into a given buffer."""

    def __init__(self, stream: trio.SocketStream):
        self._stream = stream

    async def receive_into(self, buffer: memoryview) -> int:
        """Read at most the buffer's length; the number of bytes, 0 at the end."""
        return await self._stream.socket.recv_into(buffer)

    async def send_all(self, data: bytes | memoryview) -> None:
        """Send all of `data`."""
        await self._stream.send_all(data)

    async def aclose(self) -> None:
        """Close both directions."""
        await self._stream.aclose()

    def close(self) -> None:
        """Close both directions at once; tasks that wait for the other side are woken."""
        self._stream.socket.close()


class CircuitSocket:
    """A stream through a relay, with the methods of `TcpSocket`."""

    def __init__(self, stream: NetStream):
        self._stream = stream

    async def receive_into(self, buffer: memoryview) -> int:
        """Read at most the buffer's length; the number of bytes, 0 at the end."""
        try:
            return await self._stream.muxed_stream.read_into(buffer)  # pyright: ignore[reportAttributeAccessIssue]
        except Exception:  # the library's errors have no common base
            return 0

    async def send_all(self, data: bytes | memoryview) -> None:
        """Send all of `data`."""
        try:
            await self._stream.write(data)  # pyright: ignore[reportArgumentType]
        except Exception as error:  # the library's errors have no common base
            raise trio.BrokenResourceError("the relay ended the circuit") from error

    async def aclose(self) -> None:
        """Close both directions."""
        await self._stream.reset()

    def close(self) -> None:
        """Close both directions on this side; tasks that wait for the other are woken."""
        self._stream.muxed_stream.end()  # pyright: ignore[reportAttributeAccessIssue]
