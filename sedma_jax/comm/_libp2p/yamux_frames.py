"""Frames of yamux, as bytes; no input or output.

A frame is a header of 12 bytes, `version type flags stream length` in network order. In a
data frame, `length` bytes follow (hashicorp/yamux, spec.md).
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple

HEADER = struct.Struct("!BBHII")
DATA, WINDOW_UPDATE, PING, GO_AWAY = range(4)
SYN, ACK, FIN, RST = 1, 2, 4, 8
FIRST_WINDOW = 256 * 1024  # bytes that a new stream may send; fixed by the protocol
LARGEST_WINDOW = 4 * 1024 * 1024  # bytes; the window of a stream that is read quickly


class FrameError(ValueError):
    """Bytes that break the protocol."""


class Frame(NamedTuple):
    """One frame; `value` is the header's last field: for data the length of the body."""

    kind: int
    flags: int
    stream: int
    value: int
    body: memoryview


_NOTHING = memoryview(b"")


def frame(kind: int, flags: int, stream: int, value: int) -> bytes:
    """The header of a frame."""
    return HEADER.pack(0, kind, flags, stream, value)


class FrameReader:
    """Cut decrypted records into frames; an incomplete frame waits for the next record.

    It holds at most one frame and one record, whatever arrives.
    """

    def __init__(self):
        self._rest = bytearray()

    def frames(self, record: bytes) -> Iterator[Frame]:
        """The frames that `record` completes; `FrameError` if it breaks the protocol."""
        if self._rest:
            self._rest += record
            # Bodies are views, which must outlive the buffer.
            data = bytes(self._rest)
        else:
            data = record
        view, at, end = memoryview(data), 0, len(data)
        while end - at >= HEADER.size:
            version, kind, flags, stream, value = HEADER.unpack_from(data, at)
            if version != 0 or kind > GO_AWAY or flags > 15:
                raise FrameError(f"version {version}, type {kind}, flags {flags}")
            if (stream == 0) != (kind in (PING, GO_AWAY)):
                raise FrameError(f"type {kind} on stream {stream}")
            body = _NOTHING
            start = at + HEADER.size
            if kind == DATA:
                if value > LARGEST_WINDOW:
                    raise FrameError(f"{value} bytes in a frame")
                if end - start < value:
                    break
                body = view[start : start + value]
                start += value
                # A short body must not keep a whole record in memory.
                if 2 * value < end:
                    body = memoryview(bytes(body))
            yield Frame(kind=kind, flags=flags, stream=stream, value=value, body=body)
            at = start
        self._rest = bytearray(view[at:])
