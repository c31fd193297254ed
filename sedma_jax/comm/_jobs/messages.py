"""A job as its client submits it: JSON, checked field by field.

    {"version": 1, "id": "...", "matrix": {"values": CID}, "vector": CID,
     "device": "epiram", "seed": 0}

`device` may be a table of its figures, as `sedma_jax.devices.save` writes it.
A sparse matrix is `{"data": CID, "rows": CID, "cols": CID, "shape": [m, n]}`. Tensors are
named by CID, so that they are verified, and sent once if jobs share them.
"""

import json
import re
from dataclasses import dataclass
from typing import Any

from ...devices import PULSED
from ...devices._file import device_of_table, device_text
from .._rpc.messages import MessageError
from .._tensors.manifest import check_cid

VERSION = 1
LARGEST_JOB = 16384  # bytes: tensors by CID, and a device with tables
LARGEST_SIDE = 2**31 - 1
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_PARTS = {frozenset({"values"}), frozenset({"data", "rows", "cols", "shape"})}


@dataclass(frozen=True)
class JobRequest:
    """A request to compute a corrected product.

    - `id`: chosen by the client; the same id names the same job.
    - `matrix`: CIDs of its parts: `values` of a dense one; `data`, `rows` and `cols` of the
        nonzeros of a sparse one.
    - `shape`: of a sparse matrix; None for a dense one.
    - `vector`: CID of `x`, one vector or a batch.
    - `device`: name of one of `PULSED`, or the line of another (`device_text`).
    - `seed`: seed of all randomness.
    """

    id: str
    matrix: dict[str, str]
    shape: tuple[int, int] | None
    vector: str
    device: str
    seed: int

    @property
    def cids(self) -> list[str]:
        """The CIDs of its tensors."""
        return [*self.matrix.values(), self.vector]


def encode_job(job: JobRequest) -> bytes:
    """A request as bytes; equal requests have equal bytes."""
    matrix = job.matrix | ({"shape": job.shape} if job.shape else {})
    fields = {
        "version": VERSION,
        "id": job.id,
        "matrix": matrix,
        "vector": job.vector,
        "device": json.loads(job.device) if job.device[:1] == "{" else job.device,
        "seed": job.seed,
    }
    return json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()


def read_job(data: bytes | memoryview) -> JobRequest:
    """Decode a request from an untrusted source; `MessageError` says what is wrong."""
    fields = read_fields(data, {"version", "id", "matrix", "vector", "device", "seed"})
    _whole(fields["version"], "a version", VERSION, VERSION)
    matrix = fields["matrix"]
    if not isinstance(matrix, dict) or frozenset(matrix) not in _PARTS:
        raise _needs("a matrix of `values`, or of `data`, `rows`, `cols`, `shape`", matrix)
    shape = matrix.pop("shape", None)
    if shape is not None:
        if not (isinstance(shape, list) and len(shape) == 2):
            raise _needs("a shape of two numbers", shape)
        rows, cols = (_whole(side, "sides", 1, LARGEST_SIDE) for side in shape)
        shape = rows, cols
    return JobRequest(
        id=check_id(fields["id"]),
        matrix={part: _cid(cid) for part, cid in matrix.items()},
        shape=shape,
        vector=_cid(fields["vector"]),
        device=_device(fields["device"]),
        seed=_whole(fields["seed"], "a seed", 0, 2**32 - 1),
    )


def _device(value: object) -> str:
    if isinstance(value, str) and value in PULSED:
        return value
    if not isinstance(value, dict):
        raise _needs(f"a device, one of {', '.join(PULSED)}, or a table", value)
    try:
        return device_text("JobClient.submit", device_of_table(value))
    except ValueError as error:
        raise MessageError(f"`JobClient.submit` needs a device. Got: {error}") from error


def read_fields(data: bytes | memoryview, names: set[str]) -> dict:
    """The fields of a JSON object that has exactly these names."""
    if len(data) > LARGEST_JOB:
        raise MessageError(
            f"`JobClient.submit` needs a job of at most {LARGEST_JOB} bytes. Got "
            f"{len(data)}. Send arrays by CID."
        )
    try:
        fields = json.loads(bytes(data).decode(), object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise _needs("a JSON object", bytes(data[:80])) from error
    if not isinstance(fields, dict) or fields.keys() != names:
        raise _needs(f"the fields {', '.join(sorted(names))}", fields)
    return fields


def check_id(value: object) -> str:
    """The id of a job; `MessageError` if it is none."""
    if not (isinstance(value, str) and _ID.fullmatch(value)):
        raise _needs("an id of 1 to 64 letters, digits, `.`, `_`, `-`", value)
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise ValueError("a repeated name")
    return fields


def _whole(value: object, what: str, least: int, most: int) -> int:
    if type(value) is not int or not least <= value <= most:
        raise _needs(f"{what} from {least} to {most}", value)
    return value


def _cid(value: object) -> str:
    if not isinstance(value, str):
        raise _needs("the CID of a tensor", value)
    try:
        return check_cid(value)
    except ValueError as error:
        raise MessageError(str(error)) from error


def _needs(requirement: str, value: object) -> MessageError:
    return MessageError(
        f"`JobClient.submit` needs {requirement}. Got {str(value)[:80]!r}. Run the same "
        "release on both sides."
    )
