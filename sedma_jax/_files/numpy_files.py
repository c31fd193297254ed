"""Parse the bytes of `.npy` and `.npz` files without trusting them."""

import io
import math
import zipfile
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from scipy import sparse
from scipy.sparse import csr_array

from .._tiling.native import float_dtype, inexact, native_array
from .read_files import StrPath, read_regular, told
from .refusal import (
    MOST_MEMBERS,
    FileRefusal,
    check_count,
    check_shape,
    check_unpacked,
    damaged,
)

_HEADERS = {
    # Version 3 differs from 2 only in the field names of structured arrays.
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_NUMBERS = "biufc"  # complex ones are refused with better words
_KINDS = _NUMBERS + "S"  # the format of a sparse matrix is text
_LONGEST_HEADER = 2**16
# What `scipy.sparse.save_npz` writes, depending on the format.
_SPARSE = set("format shape data row col offsets indices indptr".split())


Shapes = dict[str, tuple[int, ...]]


def load_npy(path: StrPath, caller: str, limit: int) -> np.ndarray:
    """Read the array of an `.npy` file: numbers of any kind and shape, of `limit` bytes.

    **Raises:** `ValueError` in one line that names `caller`, if there is none.
    """
    try:
        return parse_npy(read_regular(path, limit + _LONGEST_HEADER), _NUMBERS)
    except FileRefusal as refusal:
        raise told(refusal, caller, path) from refusal.__cause__


def parse_npy(content: bytes, kinds: str = _KINDS) -> np.ndarray:
    """View the array of an `.npy` file, after checking the size that its header states.

    `kinds` are those of the dtypes that are taken.
    """
    try:
        stream = io.BytesIO(content)
        shape, fortran, dtype = _header(stream)
        if dtype.kind not in kinds:
            raise FileRefusal(
                "real numbers", f"dtype {str(dtype)[:60]}", "Convert it first."
            )
        # NumPy multiplies the other sizes even if one of them is zero.
        check_count(math.prod(size or 1 for size in shape))
        count = math.prod(shape)
        promised, held = count * dtype.itemsize, len(content) - stream.tell()
        if promised > held:
            raise FileRefusal(
                f"the {promised:,} bytes that its header promises",
                f"{held:,}",
                "The file is cut short: copy it again.",
            )
        flat = np.frombuffer(content, dtype, count, stream.tell())
        return flat.reshape(shape, order="F" if fortran else "C")
    except FileRefusal:
        raise
    # NumPy evaluates the header as a Python literal, and a hostile one raises anything,
    # from `RecursionError` to `tokenize.TokenError`.
    except Exception as error:
        raise damaged(".npy", error, "numpy.save") from error


def _header(stream: io.BytesIO) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(stream)
    shape, fortran, dtype = _HEADERS[version](stream)
    if not all(type(size) is int and size >= 0 for size in shape):
        raise ValueError(f"shape {shape}")
    return shape, fortran, dtype


def parse_npz(
    content: bytes, choose: Callable[[Shapes, Shapes], str], *, named: bool
) -> np.ndarray | csr_array:
    """View one array of an `.npz` file, or the matrix that `save_npz` wrote.

    Of the other members no more than the header is read, so that none of them matters.

    **Arguments:**

    - `choose`: names an array, given the shapes of all members and of those with numbers.
    - `named`: whether one is asked for, even if the file looks like one of `save_npz`.
    """
    with _archive(content) as (archive, members):
        parts = members.keys() & _SPARSE
        whole = "data" in parts or members.keys() == parts
        if {"format", "shape"} <= parts and whole and not named:
            _check_sizes([members[name] for name in parts], content)
            return _assemble({name: _member(archive, members[name]) for name in parts})
        shapes, numbers = {}, {}
        for name, member in members.items():
            shapes[name], dtype = _peeked(archive, member)
            if dtype is not None and dtype.kind in _NUMBERS:
                numbers[name] = shapes[name]
        chosen = members[choose(shapes, numbers)]
        _check_sizes([chosen], content)
        return _member(archive, chosen)


def parse_arrays(content: bytes, names: Collection[str]) -> dict[str, np.ndarray]:
    """Those of the named arrays that an `.npz` file has, of numbers or of text."""
    with _archive(content) as (archive, members):
        found = {name: members[name] for name in names if name in members}
        _check_sizes([*found.values()], content)
        return {name: _member(archive, m, _KINDS + "U") for name, m in found.items()}


def parse_all_arrays(content: bytes) -> dict[str, np.ndarray]:
    """All arrays of an `.npz` file, of numbers."""
    with _archive(content) as (archive, members):
        _check_sizes([*members.values()], content)
        return {name: _member(archive, member) for name, member in members.items()}


@contextmanager
def _archive(
    content: bytes,
) -> Iterator[tuple[zipfile.ZipFile, dict[str, zipfile.ZipInfo]]]:
    """An `.npz` file that is open, and its members by the names of their arrays."""
    try:
        archive = zipfile.ZipFile(io.BytesIO(content))
        infos = archive.infolist()
    # A damaged archive raises anything, from `BadZipFile` to `struct.error`.
    except Exception as error:
        raise damaged(".npz", error, "numpy.savez") from error
    with archive:
        if len(infos) > MOST_MEMBERS:
            raise FileRefusal(
                f"at most {MOST_MEMBERS:,} arrays", f"{len(infos):,}", "Split the file."
            )
        yield archive, {m.filename.removesuffix(".npy"): m for m in infos}


def _check_sizes(members: list[zipfile.ZipInfo], content: bytes) -> None:
    """Refuse what would unpack to too much, before anything is unpacked."""
    sizes = {kind: 0 for kind in _COMPRESSIONS}
    for member in members:
        sizes[member.compress_type] = sizes.get(member.compress_type, 0) + member.file_size
    if sizes[zipfile.ZIP_STORED] > len(content):
        raise damaged(".npz", "arrays that overlap", "numpy.savez")
    check_unpacked(sizes[zipfile.ZIP_DEFLATED], len(content))


def _peeked(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo
) -> tuple[tuple[int, ...], np.dtype | None]:
    """Shape and dtype by the header of a member; no dtype if it cannot be read."""
    try:
        _check_compression(member)
        with archive.open(member) as stream:
            shape, _, dtype = _header(io.BytesIO(stream.read(_LONGEST_HEADER)))
            return shape, dtype
    except Exception:  # it is refused if it is asked for, with reasons
        return (), None


def _member(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, kinds: str = _KINDS
) -> np.ndarray:
    try:
        _check_compression(member)
        content = archive.read(member)
    except Exception as error:
        raise damaged(".npz", error, "numpy.savez") from error
    return parse_npy(content, kinds)


def _check_compression(member: zipfile.ZipInfo) -> None:
    # Other decompressors allocate whatever the file asks for. These two yield no more than
    # the size that a member declares.
    if member.compress_type not in _COMPRESSIONS:
        raise ValueError("a member is neither stored nor deflated")


def _assemble(parts: dict[str, np.ndarray]) -> csr_array:
    """Put together what `scipy.sparse.save_npz` took apart.

    `scipy.sparse.load_npz` does not check the indices, and a conversion then writes to
    wherever they point.
    """
    try:
        layout = parts["format"].item().decode()
        rows, cols = map(int, parts["shape"])
        check_shape((rows, cols))
        data = as_float(parts["data"])
        match layout:
            case "coo":
                matrix = (data, (_indices(parts, "row"), _indices(parts, "col")))
            case "dia":
                matrix = (data, _indices(parts, "offsets"))
            case "csr" | "csc" | "bsr":
                starts = _indices(parts, "indptr")
                # `check_format` skips the full check unless the last pointer is positive.
                if not (np.diff(starts) >= 0).all():
                    raise ValueError("the index pointer decreases")
                matrix = (data, _indices(parts, "indices"), starts)
            case _:
                raise ValueError(f"no sparse format is called {layout!r}")
        built = getattr(sparse, f"{layout}_array")(matrix, shape=(rows, cols))
        if layout in ("csr", "csc", "bsr"):
            built.check_format(full_check=True)
        return csr_array(built)
    except FileRefusal:
        raise
    # With missing parts, wrong dtypes or shapes SciPy raises various exceptions.
    except Exception as error:
        raise damaged("sparse .npz", error, "scipy.sparse.save_npz") from error


def _indices(parts: dict[str, np.ndarray], name: str) -> np.ndarray:
    array = parts[name]
    if array.dtype.kind not in "iu" or array.ndim != 1:
        raise ValueError(f"{name} of dtype {array.dtype} and shape {array.shape}")
    return array.astype(np.int64)


def as_float(array: Any) -> Any:
    """Convert an array to float32 if that holds its dtype exactly, otherwise to float64."""
    # The name is asked too: NumPy does not count bfloat16 and its kin as floats.
    if array.dtype.kind not in "biuf" and "float" not in array.dtype.name:
        raise FileRefusal("real numbers", f"dtype {array.dtype}", "Convert it first.")
    dtype = float_dtype(array.dtype, integers=np.float64)
    stored = native_array(array.data if isinstance(array, csr_array) else array, "A")
    lost = inexact(stored, dtype)
    if lost is not None:
        raise FileRefusal(
            f"numbers that {dtype} holds exactly",
            f"{np.asarray(stored)[lost[0]]!s} and {lost[1] - 1} more of {array.dtype}",
            f"Round them with `.astype('{dtype}')`.",
        )
    with np.errstate(all="ignore"):  # a signalling NaN
        return array.astype(dtype)
