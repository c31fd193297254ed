"""Messages between peers as bytes: prefix, header, body.

    version (1 byte), flags (1), header length (2), body length (8), network order
    header: protobuf (wire.proto)
    body: raw

The prefix has a fixed size, so that two reads take any header. The body stays outside
protobuf, which would copy it and is limited to 2 GiB.
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
    """A message that breaks the protocol or its limits.

    **Example:**

        >>> everyone = sj.comm.NodeSettings(allowed=frozenset({sj.comm.EVERYONE}))
        >>> with sj.comm.open_node(everyone) as a, sj.comm.open_node(everyone) as b:
        ...     try:
        ...         b.call(b.node.calls.call, b.connect(*a.addresses), 20_000 * "a")
        ...     except sj.comm.MessageError as error:
        ...         print(error)
        a call of a node needs a header of at most 16384 bytes. Got 200.... ...
    """


def prefix_and_header(header: wire.Header, body_length: int) -> bytes:
    """The bytes before the body."""
    data = header.SerializeToString()
    if len(data) > LARGEST_HEADER:
        raise MessageError(
            f"a call of a node needs a header of at most {LARGEST_HEADER} bytes. Got "
            f"{len(data)}. Send long arguments in the body."
        )
    return PREFIX.pack(VERSION, 0, len(data), body_length) + data


def lengths(prefix: bytes | bytearray, largest_body: int) -> tuple[int, int]:
    """Lengths of the header and the body; `MessageError` if one exceeds its limit."""
    version, flags, header, body = PREFIX.unpack(prefix)
    if version != VERSION or flags:
        raise MessageError(
            f"a call of a node needs messages of version {VERSION} without flags. Got "
            f"version {version}, flags {flags}. Run the same release on both sides."
        )
    if header > LARGEST_HEADER or body > min(largest_body, LARGEST_BODY):
        raise MessageError(
            f"a call of a node needs messages of at most {LARGEST_HEADER} bytes of header "
            f"and {largest_body} of body. Got {header} and {body}. Send less at once."
        )
    return header, body


def parse(kind: type[_T], data: bytes | bytearray | memoryview) -> _T:
    """Decode a protobuf message; `MessageError` if `data` is none."""
    message = kind()
    try:
        message.ParseFromString(bytes(data))
    except (DecodeError, UnicodeDecodeError) as error:
        raise MessageError(
            f"`sedma_jax.comm` needs a `{kind.__name__}` message. Got {len(data)} bytes "
            "that are none. Run the same release on both sides."
        ) from error
    return message
