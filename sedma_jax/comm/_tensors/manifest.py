"""What a tensor is made of: dtype, shape, and the digest of every chunk.

The CID of the serialised manifest names the tensor. A chunk is 256 KiB, so that each is a
block that any Bitswap peer can fetch by its own digest.
"""

import hashlib
import math
from dataclasses import dataclass

import numpy as np

from .._libp2p.library import cid_to_text, compute_cid_v1, parse_cid
from .._rpc import wire_pb2 as wire
from .._rpc.messages import parse

CHUNK = 256 * 1024
LARGEST_TENSOR = 2**32  # bytes; its manifest has 512 KiB
LARGEST_MANIFEST = 2**20
MOST_AXES = 32
# Named, so that no peer has NumPy interpret a string of its own: "O" would be a pointer.
DTYPES = frozenset(
    ["bool", "complex64", "complex128", "float16", "float32", "float64"]
    + [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
)
_DIGEST = 32


class ManifestError(ValueError):
    """A manifest that no node writes."""


@dataclass(frozen=True)
class Manifest:
    """A tensor's description; `raw` is what its CID is the digest of."""

    dtype: str
    shape: tuple[int, ...]
    nbytes: int
    sha256: bytes
    raw: bytes

    @property
    def cid(self) -> str:
        """The name of the tensor."""
        return text_of(compute_cid_v1(self.raw))

    def digests(self, offset: int, length: int) -> list[bytes]:
        """Digests of the chunks of a range that starts at a chunk."""
        first, last = offset // CHUNK, math.ceil((offset + length) / CHUNK)
        at = range(first * _DIGEST, last * _DIGEST, _DIGEST)
        return [self.sha256[i : i + _DIGEST] for i in at]

    def matches(self, offset: int, data: memoryview) -> bool:
        """Whether `data` is what the tensor has at `offset`, a multiple of a chunk."""
        return _digests(data) == self.digests(offset, len(data))


def _digests(data: memoryview) -> list[bytes]:
    return [
        hashlib.sha256(data[i : i + CHUNK]).digest() for i in range(0, len(data), CHUNK)
    ]


def check_tensor(array: np.ndarray) -> None:
    """Refuse, as a `ValueError`, an array that no manifest describes."""
    dtype = array.dtype.name
    if dtype not in DTYPES:
        raise ValueError(
            f"tensors have one of the dtypes {', '.join(sorted(DTYPES))}. Got {dtype}. "
            "Convert with `astype`."
        )
    if not 0 < array.nbytes <= LARGEST_TENSOR or array.ndim > MOST_AXES:
        raise ValueError(
            f"tensors have 1 to {LARGEST_TENSOR:,} bytes. Got shape {array.shape}, "
            f"{array.nbytes:,} bytes. Cut the array into blocks."
        )


def describe(array: np.ndarray) -> Manifest:
    """The manifest of a C-contiguous array."""
    check_tensor(array)
    message = wire.Manifest(
        dtype=array.dtype.name,
        shape=array.shape,
        nbytes=array.nbytes,
        chunk=CHUNK,
        sha256=b"".join(_digests(bytes_of(array))),
    )
    return read_manifest(message.SerializeToString(deterministic=True))


def bytes_of(array: np.ndarray) -> memoryview:
    """The bytes of a C-contiguous array, without a copy."""
    return array.reshape(-1).view(np.uint8).data.toreadonly()


def read_manifest(raw: bytes) -> Manifest:
    """Check a manifest that came from anywhere; `ManifestError` for nonsense."""
    if len(raw) > LARGEST_MANIFEST:
        raise ManifestError(
            f"a manifest has at most {LARGEST_MANIFEST:,} bytes. Got {len(raw):,}. "
            "Ask another peer."
        )
    message = parse(wire.Manifest, raw)
    shape = tuple(message.shape)
    if message.dtype not in DTYPES:
        raise ManifestError(
            f"a manifest has one of the dtypes {', '.join(sorted(DTYPES))}. Got "
            f"{message.dtype[:40]!r}. Convert the array before putting it."
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
            f"a manifest has a shape, bytes and digests that agree. Got {shape} of "
            f"{message.dtype}, {message.nbytes} bytes, {len(message.sha256)} bytes of "
            f"digests for chunks of {message.chunk}. Ask another peer."
        )
    return Manifest(message.dtype, shape, message.nbytes, message.sha256, bytes(raw))


def text_of(cid: bytes) -> str:
    """A CID as text."""
    return cid_to_text(cid)


def check_cid(text: str) -> str:
    """A CID that was typed, in its usual form; `ValueError` if it is none."""
    try:
        cid = parse_cid(text)
        if cid.version == 1 and cid.codec == "raw" and len(text) < 100:
            return text_of(cid.buffer)
    except (ValueError, KeyError, TypeError):
        pass
    raise ValueError(
        f"needs the CID of a tensor, as `put` prints it (bafkrei...). Got {text[:80]!r}. "
        "Copy all of it."
    )


def empty_aligned(nbytes: int) -> np.ndarray:
    """Bytes at a multiple of 64, which JAX aliases instead of copying."""
    whole = np.empty(nbytes + 64, np.uint8)
    start = -whole.ctypes.data % 64
    return whole[start : start + nbytes]
