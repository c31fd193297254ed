"""What a secured connection runs over: a socket, or a stream through a relay."""

from typing import Any

import trio

from .library import NetStream, NoiseTransportReadWriter
from .muxer_stream import MuxedStream


def raw_connection(secured_connection) -> Any:
    """The connection under Noise; None where there is no Noise."""
    layer = getattr(secured_connection, "conn", None)
    if not isinstance(layer, NoiseTransportReadWriter):
        return None
    return getattr(layer.read_writer, "read_write_closer", None)


def is_relayed(connection) -> bool:
    """Whether a connection of the host, or the one of a stream, runs through a relay."""
    secured = getattr(connection.muxed_conn, "secured_conn", None)
    return isinstance(getattr(raw_connection(secured), "stream", None), NetStream)


def socket_of(secured_connection) -> Any:
    """What bytes are read from and written to; None where our muxer does not suit."""
    stream = getattr(raw_connection(secured_connection), "stream", None)
    if isinstance(stream, NetStream):
        ours = isinstance(stream.muxed_stream, MuxedStream)
        return CircuitSocket(stream) if ours else None
    socket = getattr(stream, "stream", None)
    return TcpSocket(socket) if isinstance(socket, trio.SocketStream) else None


class TcpSocket:
    """A socket, which reads into a buffer that is there already."""

    def __init__(self, stream: trio.SocketStream):
        self._stream = stream

    async def receive_into(self, buffer: memoryview) -> int:
        """How many bytes came, at most the buffer's; 0 at the end."""
        return await self._stream.socket.recv_into(buffer)

    async def send_all(self, data) -> None:
        """Send all of `data`."""
        await self._stream.send_all(data)

    async def aclose(self) -> None:
        """End both directions."""
        await self._stream.aclose()

    def close(self) -> None:
        """End both directions at once, and whoever waits for the other side."""
        self._stream.socket.close()


class CircuitSocket:
    """A stream through a relay, with the same face."""

    def __init__(self, stream: NetStream):
        self._stream = stream

    async def receive_into(self, buffer: memoryview) -> int:
        """How many bytes came, at most the buffer's; 0 at the end."""
        try:
            return await self._stream.muxed_stream.read_into(buffer)  # pyright: ignore[reportAttributeAccessIssue]
        except Exception:  # the library's errors have no common base
            return 0

    async def send_all(self, data) -> None:
        """Send all of `data`."""
        try:
            await self._stream.write(data)
        except Exception as error:  # the library's errors have no common base
            raise trio.BrokenResourceError("the relay ended the circuit") from error

    async def aclose(self) -> None:
        """End both directions."""
        await self._stream.reset()

    def close(self) -> None:
        """End both directions on this side, and whoever waits for the other."""
        self._stream.muxed_stream.end()  # pyright: ignore[reportAttributeAccessIssue]
