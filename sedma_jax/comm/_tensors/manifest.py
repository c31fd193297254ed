"""The manifest of a tensor: dtype, shape, and the digest of every chunk.

The CID of the serialised manifest names the tensor. A chunk has 256 KiB, so that any
Bitswap peer can fetch it as a block by its digest.
"""

import hashlib
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..._tiling.native import native_array
from .._libp2p.library import cid_to_text, compute_cid_v1, parse_cid
from .._rpc import wire_pb2 as wire
from .._rpc.messages import parse

CHUNK = 256 * 1024
LARGEST_TENSOR = 2**32  # bytes; its manifest has 512 KiB
LARGEST_MANIFEST = 2**20
MOST_AXES = 32
# A fixed list, so that NumPy interprets no string of a peer: "O" would be a pointer.
DTYPES = frozenset(
    ["bool", "complex64", "complex128", "float16", "float32", "float64"]
    + [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
)
_DIGEST = 32


class ManifestError(ValueError):
    """A manifest that contradicts itself or exceeds a limit; it counts against its sender.

    `get` then asks the next provider, and raises `FetchError` if there is none.

    **Example:**

        >>> async def empty(call):
        ...     return b""
        >>> everyone = sj.comm.NodeSettings(allowed=frozenset({sj.comm.EVERYONE}))
        >>> with sj.comm.open_node(everyone) as a, sj.comm.open_node(everyone) as b:
        ...     a.node.methods.add("manifest", empty)
        ...     _ = b.connect(*a.addresses)
        ...     b.get(a.put(np.arange(3.0)))
        Traceback (most recent call last):
        sedma_jax...FetchError: ... Got 12D3KooW...: no manifest. ...
    """


@dataclass(frozen=True)
class Manifest:
    """The description of a tensor; its CID is the digest of `raw`.

    - `dtype`, `shape`: as NumPy names them.
    - `nbytes`: bytes of the tensor, 1 to 2**32.
    - `sha256`: digests of 32 bytes of its chunks of 256 KiB, one after the other.
    - `raw`: the manifest as it travels.

    **Example:**

        >>> with sj.comm.open_node() as node:
        ...     cid = node.put(np.zeros((2, 3), np.float32))
        ...     manifest = node.node.store.get(cid).manifest
        >>> manifest.shape, manifest.nbytes, len(manifest.sha256), manifest.cid == cid
        ((2, 3), 24, 32, True)
    """

    dtype: str
    shape: tuple[int, ...]
    nbytes: int
    sha256: bytes
    raw: bytes

    @property
    def cid(self) -> str:
        """The CID that names the tensor."""
        return text_of(compute_cid_v1(self.raw))

    def digests(self, offset: int, length: int) -> list[bytes]:
        """Digests of the chunks of a range that starts at a multiple of a chunk."""
        first, last = offset // CHUNK, math.ceil((offset + length) / CHUNK)
        at = range(first * _DIGEST, last * _DIGEST, _DIGEST)
        return [self.sha256[i : i + _DIGEST] for i in at]

    def matches(self, offset: int, data: memoryview) -> bool:
        """Whether the tensor has `data` at `offset`, a multiple of a chunk."""
        return _digests(data) == self.digests(offset, len(data))


def _digests(data: memoryview) -> list[bytes]:
    return [
        hashlib.sha256(data[i : i + CHUNK]).digest() for i in range(0, len(data), CHUNK)
    ]


def tensor_of(given: Any) -> np.ndarray:
    """An array of any container as a tensor: in the byte order of this machine, in C order.

    A manifest names the dtype, and so has no place for a byte order.

    **Raises:** `ValueError` for an array that no manifest can describe.
    """
    array = native_array(given, "Node.put")
    dtype = array.dtype.name
    if dtype not in DTYPES:
        raise ValueError(
            f"`Node.put` needs one of the dtypes {', '.join(sorted(DTYPES))}. Got {dtype}. "
            "Convert with `astype`."
        )
    if not 0 < array.nbytes <= LARGEST_TENSOR or array.ndim > MOST_AXES:
        raise ValueError(
            f"`Node.put` needs 1 to {LARGEST_TENSOR:,} bytes and at most {MOST_AXES} axes. "
            f"Got shape {array.shape}, {array.nbytes:,} bytes. Cut the array into blocks."
        )
    return np.asarray(array, order="C")


def describe(array: Any) -> Manifest:
    """The manifest of an array."""
    array = tensor_of(array)
    message = wire.Manifest(
        dtype=array.dtype.name,
        shape=array.shape,
        nbytes=array.nbytes,
        chunk=CHUNK,
        sha256=b"".join(_digests(bytes_of(array))),
    )
    return read_manifest(message.SerializeToString(deterministic=True))


def bytes_of(array: Any) -> memoryview:
    """The bytes of a tensor, without a copy of one that `tensor_of` returned."""
    return tensor_of(array).reshape(-1).view(np.uint8).data.toreadonly()


def read_manifest(raw: bytes) -> Manifest:
    """Decode a manifest from an untrusted source; `ManifestError` if it is invalid."""
    if len(raw) > LARGEST_MANIFEST:
        raise ManifestError(
            f"`Node.get` needs a manifest of at most {LARGEST_MANIFEST:,} bytes. Got "
            f"{len(raw):,}. Ask another peer."
        )
    message = parse(wire.Manifest, raw)
    shape = tuple(message.shape)
    if message.dtype not in DTYPES:
        raise ManifestError(
            "`Node.get` needs a manifest with one of the dtypes "
            f"{', '.join(sorted(DTYPES))}. Got {message.dtype[:40]!r}. Ask another peer."
        )
    size = math.prod(shape) * np.dtype(message.dtype).itemsize
    chunks = math.ceil(message.nbytes / CHUNK)
    if (
        len(shape) > MOST_AXES
        or size != message.nbytes
        or not 0 < size <= LARGEST_TENSOR
        or message.chunk != CHUNK
        or len(message.sha256) != chunks * _DIGEST
    ):
        raise ManifestError(
            f"`Node.get` needs a manifest whose shape, size and digests agree. Got {shape} "
            f"of {message.dtype}, {message.nbytes} bytes, {len(message.sha256)} bytes of "
            f"digests for chunks of {message.chunk}. Ask another peer."
        )
    return Manifest(
        dtype=message.dtype,
        shape=shape,
        nbytes=message.nbytes,
        sha256=message.sha256,
        raw=bytes(raw),
    )


def text_of(cid: bytes) -> str:
    """A CID as text."""
    return cid_to_text(cid)


def check_cid(text: str) -> str:
    """A CID that somebody typed, in its usual form; `ValueError` if it is none.

    It is of version 1 and of codec `raw`, as `put` returns it.

    **Example:**

        >>> cid = "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"
        >>> sj.comm.check_cid(cid) == cid
        True
        >>> sj.comm.check_cid(cid[:40])
        Traceback (most recent call last):
        ValueError: ... Got 'bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzd'. Copy all of it.
    """
    try:
        cid = parse_cid(text)
        if cid.version == 1 and cid.codec == "raw" and len(text) < 100:
            return text_of(cid.buffer)
    except (ValueError, KeyError, TypeError):
        pass
    raise ValueError(
        "`sedma_jax.comm.check_cid` needs the CID of a tensor, as `put` returns it "
        f"(bafkrei...). Got {text[:80]!r}. Copy all of it."
    )


def empty_aligned(nbytes: int) -> np.ndarray:
    """Uninitialised bytes, aligned to 64, which JAX aliases instead of copying."""
    whole = np.empty(nbytes + 64, np.uint8)
    start = -whole.ctypes.data % 64
    return whole[start : start + nbytes]
