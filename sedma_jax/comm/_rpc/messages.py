"""Messages between peers as bytes: prefix, header, body.

    version (1 byte), flags (1), header length (2), body length (8), network order
    header: protobuf (wire.proto)
    body: raw

The prefix has a fixed size, so that two reads take any header; the body stays outside of
protobuf, which would copy it and end at 2 GiB.
"""

import struct
from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from . import wire_pb2 as wire

_T = TypeVar("_T", bound=Message)

VERSION = 1
PREFIX = struct.Struct("!BBHQ")
LARGEST_HEADER = 16 * 1024
LARGEST_BODY = 2**30


class MessageError(ValueError):
    """A message that breaks the protocol or its limits."""


def prefix_and_header(header: wire.Header, body_length: int) -> bytes:
    """The bytes that come before the body."""
    data = header.SerializeToString()
    if len(data) > LARGEST_HEADER:
        raise MessageError(
            f"a header has at most {LARGEST_HEADER} bytes. Got {len(data)}. "
            "Send long arguments in the body."
        )
    return PREFIX.pack(VERSION, 0, len(data), body_length) + data


def lengths(prefix: bytes | bytearray, largest_body: int) -> tuple[int, int]:
    """Lengths of the header and the body; `MessageError` beyond a limit."""
    version, flags, header, body = PREFIX.unpack(prefix)
    if version != VERSION or flags:
        raise MessageError(
            f"messages have version {VERSION} and no flags. Got version {version}, flags "
            f"{flags}. Run the same release on both sides."
        )
    if header > LARGEST_HEADER or body > min(largest_body, LARGEST_BODY):
        raise MessageError(
            f"a message has at most {LARGEST_HEADER} bytes of header and {largest_body} of "
            f"body. Got {header} and {body}. Send less at once."
        )
    return header, body


def parse(kind: type[_T], data: bytes | bytearray | memoryview) -> _T:
    """A message of protobuf; `MessageError` if it is none."""
    message = kind()
    try:
        message.ParseFromString(bytes(data))
    except (DecodeError, UnicodeDecodeError) as error:
        raise MessageError(
            f"needs a `{kind.__name__}` message. Got {len(data)} bytes that are none. "
            "Run the same release on both sides."
        ) from error
    return message
