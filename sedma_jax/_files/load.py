"""Read matrices and vectors from untrusted files.

Sizes are checked against the file and against limits before anything of that size is
allocated, nothing is unpickled, and every refusal is one `ValueError` line.
"""

import gzip
import io
import math
import os
import sys
import zlib
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from scipy.sparse import csr_array

from . import refusal
from .matrix_market import parse_matrix_market
from .numpy_files import Shapes, as_float, parse_npy, parse_npz
from .read_files import opened, read_regular, told
from .refusal import FileRefusal, check_count, check_shape, check_unpacked, damaged

_CHUNK = 2**20
_SUFFIXES = (".mtx", ".mtx.gz", ".npy", ".npz", ".safetensors")
_TENSOR_DTYPES = "F64 F32 F16 BF16 I64 I32 I16 I8 U64 U32 U16 U8 BOOL".split()
_KINDS = {1: "a vector (1 dimension)", 2: "a matrix (2 dimensions)"}


def load_matrix(path: str | os.PathLike[str]) -> np.ndarray | csr_array:
    """Read a matrix; a sparse file gives a sparse matrix.

    Reads Matrix Market (`.mtx`, `.mtx.gz`: real, integer and pattern, every real
    symmetry), NumPy (`.npy`, `.npz`), `scipy.sparse.save_npz` and `.safetensors`. If a
    file holds several arrays, the only matrix is taken; `FILE::NAME` names another.

    **Arguments:**

    - `path`: the file, of at most 2 GiB uncompressed (a `.safetensors` file of any
        size), with at most 268,435,456 stored numbers and 16,777,216 rows or columns.

    **Returns:**

    The matrix: in float32 if the file holds that or a shorter float type, in float64 if
    it holds a longer one, integers or booleans.

    **Raises:**

    - `ValueError`: if the file is missing, damaged, too large, or not a finite real
        matrix with at least one row and one column.
    """
    return _load(path, "load_matrix", ndim=2)


def load_vector(path: str | os.PathLike[str]) -> np.ndarray:
    """Read a vector, from the formats and under the limits of `load_matrix`.

    A matrix of one row or one column also counts as a vector.
    """
    vector = _load(path, "load_vector", ndim=1)
    return (vector.toarray() if isinstance(vector, csr_array) else vector).ravel()


def _load(path: str | os.PathLike[str], caller: str, ndim: int) -> np.ndarray | csr_array:
    path = os.fspath(path)
    try:
        array = _read(path, ndim)
        if not _fits(array.shape, ndim):
            raise FileRefusal(_KINDS[ndim], f"shape {array.shape}", "Reshape it first.")
        check_shape(array.shape)
        array = as_float(array)
        _check_finite(array)
        return array
    except FileRefusal as refused:
        raise told(refused, f"`{caller}`", path) from refused.__cause__


def _fits(shape: tuple[int, ...], ndim: int) -> bool:
    return len(shape) == ndim or (ndim == 1 and len(shape) == 2 and 1 in shape)


def _read(path: str, ndim: int) -> np.ndarray | csr_array:
    file, name = path, None
    if "::" in path and not os.path.lexists(path):
        file, _, name = path.rpartition("::")
    suffix = next((s for s in _SUFFIXES if file.lower().endswith(s)), None)
    if suffix is None:
        raise FileRefusal(
            f"a file name that ends in {', '.join(_SUFFIXES[:-1])} or {_SUFFIXES[-1]}",
            f"{Path(file).suffix!r}",
            "Save it in one of these formats.",
        )
    if name is not None and suffix not in (".npz", ".safetensors"):
        raise FileRefusal(
            "`::NAME` only after .npz and .safetensors", f"{name!r}", "Leave it out."
        )
    if suffix == ".safetensors":
        with opened(file, sys.maxsize):  # it is mapped, not read
            return _read_safetensors(file, name, ndim)
    content = read_regular(file, refusal.LARGEST_BYTES)
    if suffix == ".npz":
        choose = lambda shapes, numbers: _choose(shapes, numbers, name, ndim)
        return parse_npz(content, choose, named=name is not None)
    if suffix == ".npy":
        return parse_npy(content)
    return parse_matrix_market(_gunzip(content) if suffix == ".mtx.gz" else content)


def _gunzip(content: bytes) -> bytes:
    """Decompress, but never more than the limit."""
    chunks, total = [], 0
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as stream:
            while chunk := stream.read(_CHUNK):
                total += len(chunk)
                check_unpacked(total, len(content))
                chunks.append(chunk)
    except (OSError, EOFError, zlib.error) as error:
        raise damaged("gzip", error, "gzip") from error
    return b"".join(chunks)


def _read_safetensors(file: str, name: str | None, ndim: int) -> np.ndarray:
    try:
        with safe_open(file, framework="numpy") as tensors:
            parts = {key: tensors.get_slice(key) for key in tensors.keys()}
            shapes = {key: tuple(part.get_shape()) for key, part in parts.items()}
            dtypes = {key: part.get_dtype() for key, part in parts.items()}
            real = [key for key, dtype in dtypes.items() if dtype in _TENSOR_DTYPES]
            numbers = {key: shapes[key] for key in real}
            name = _choose(shapes, numbers, name, ndim)
            dtype = dtypes[name]
            if dtype not in _TENSOR_DTYPES:
                raise FileRefusal("real numbers", f"dtype {dtype}", "Convert it first.")
            check_count(math.prod(shapes[name]))
            return tensors.get_tensor(name)
    except (SafetensorError, OSError) as error:
        raise damaged("safetensors", error, "safetensors.numpy.save_file") from error


def _choose(shapes: Shapes, numbers: Shapes, name: str | None, ndim: int) -> str:
    """The name of the array asked for, or else of the only one of numbers that fits."""
    listed = ", ".join(f"{key!r} {shape}" for key, shape in list(shapes.items())[:10])
    listed += f" and {len(shapes) - 10} more" if len(shapes) > 10 else ""
    if name is not None and name in shapes:
        return name
    if name is not None:
        raise FileRefusal("the name of an array in it", f"{name!r}", f"It holds {listed}.")
    fitting = [key for key, shape in numbers.items() if _fits(shape, ndim)]
    if len(shapes) == 1:
        fitting = list(shapes)  # its shape is refused with better words
    if len(fitting) != 1:
        raise FileRefusal(
            f"exactly one array that is {_KINDS[ndim]}, or the name of one",
            listed or "no array",
            "Name one as FILE::NAME.",
        )
    return fitting[0]


def _check_finite(array: np.ndarray | csr_array) -> None:
    stored = array.data if isinstance(array, csr_array) else array
    finite = np.isfinite(stored)
    if finite.all():
        return
    where = np.unravel_index(np.argmin(finite), finite.shape)
    value = stored[where]
    if isinstance(array, csr_array):
        (place,) = where
        where = np.searchsorted(array.indptr, place, "right") - 1, array.indices[place]
    place = ", ".join(str(index + 1) for index in where)
    raise FileRefusal("finite numbers", f"{value} at entry {place}", "Mend the entry.")
