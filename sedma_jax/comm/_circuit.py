"""What a secured connection runs over: a socket, or a stream through a relay."""

from typing import Any

import trio

from ._libp2p import NetStream, NoiseTransportReadWriter
from ._muxer_stream import MuxedStream


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
    return socket if isinstance(socket, trio.SocketStream) else None


class CircuitSocket:
    """A stream through a relay, with as much of a socket's face as the muxer uses."""

    def __init__(self, stream: NetStream):
        self._stream = stream

    @property
    def socket(self):
        """What `close` ends at once; here the same object."""
        return self

    async def receive_some(self, most: int) -> bytes:
        """Up to `most` bytes; none at the end."""
        try:
            return await self._stream.read(most)
        except Exception:  # the library's errors have no common base
            return b""

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
