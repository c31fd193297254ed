"""Send and receive messages on a stream."""

from .._libp2p.byte_stream import ByteStream
from . import wire_pb2 as wire
from .messages import PREFIX, MessageError, lengths, parse, prefix_and_header

PIECE = 256 * 1024  # bytes of memory taken at once for a body
INLINE = 48 * 1024  # bytes; a shorter body travels in the same frame as its header


async def send_message(
    stream: ByteStream, header: wire.Header, body: bytes | memoryview = b""
) -> None:
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
    """The next message; the body of a response is received into `into` if it is given."""
    header, length = await receive_header(stream, largest)
    if into is not None and header.kind == wire.Header.RESPONSE:
        if length != len(into):
            raise MessageError(
                f"the call of a peer's method needs an answer of {len(into)} bytes. Got "
                f"{length}. The peer lies or runs another release; ask another one."
            )
        await stream.fill(into)
        return header, into
    return header, await receive_body(stream, length)


async def receive_body(stream: ByteStream, length: int) -> memoryview:
    """A body of `length` bytes; what is only announced takes no memory."""
    data = bytearray()
    while len(data) < length:
        at, count = len(data), min(PIECE, length - len(data))
        data += bytes(count)
        with memoryview(data)[at:] as view:
            await stream.fill(view)
    return memoryview(data)
