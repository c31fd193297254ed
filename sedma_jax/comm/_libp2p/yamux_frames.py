"""Frames of yamux, as bytes; no input or output.

A frame is a header of 12 bytes, `version type flags stream length` in network order, and
for data `length` bytes after it (hashicorp/yamux, spec.md).
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple

HEADER = struct.Struct("!BBHII")
DATA, WINDOW_UPDATE, PING, GO_AWAY = range(4)
SYN, ACK, FIN, RST = 1, 2, 4, 8
FIRST_WINDOW = 256 * 1024  # fixed by the protocol: what a new stream may send
LARGEST_WINDOW = 4 * 1024 * 1024  # what a stream that is read quickly grows to


class FrameError(ValueError):
    """Bytes that no peer that keeps to the protocol sends."""


class Frame(NamedTuple):
    """One frame; `value` is the length of the body, or what the header holds instead."""

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
    """Cut decrypted records into frames; what is incomplete waits for the next record.

    Holds at most one frame and one record, whatever comes.
    """

    def __init__(self):
        self._rest = bytearray()

    def frames(self, record: bytes) -> Iterator[Frame]:
        """The frames that `record` completes; `FrameError` for what is no frame."""
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
            yield Frame(kind, flags, stream, value, body)
            at = start
        self._rest = bytearray(view[at:])
