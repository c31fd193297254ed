"""Parse the bytes of `.npy` and `.npz` files without trusting them."""

import io
import math
import zipfile
from typing import Any

import numpy as np
from scipy import sparse
from scipy.sparse import csr_array

from .refusal import FileRefusal, check_bytes, check_count, check_shape, damaged

_HEADERS = {
    # Version 3 differs from 2 only in the field names of structured arrays.
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def parse_npy(content: bytes) -> np.ndarray:
    """View the array of an `.npy` file, after checking the size that its header states."""
    try:
        stream = io.BytesIO(content)
        version = np.lib.format.read_magic(stream)
        shape, fortran, dtype = _HEADERS[version](stream)
        if dtype.kind not in "biufcS":
            raise FileRefusal(
                "real numbers", f"dtype {str(dtype)[:60]}", "Convert it first."
            )
        if not all(type(size) is int and size >= 0 for size in shape):
            raise ValueError(f"shape {shape}")
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


def parse_npz(content: bytes) -> dict[str, np.ndarray] | csr_array:
    """View the arrays of an `.npz` file, or the matrix that `save_npz` wrote."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = archive.infolist()
            # Other decompressors allocate whatever the file asks for. These two yield no
            # more than the size that a member declares.
            if any(member.compress_type not in _COMPRESSIONS for member in members):
                raise ValueError("a member is neither stored nor deflated")
            check_bytes(sum(member.file_size for member in members))
            files = {member.filename: archive.read(member) for member in members}
    except FileRefusal:
        raise
    # A damaged archive raises anything, from `BadZipFile` to `struct.error`.
    except Exception as error:
        raise damaged(".npz", error, "numpy.savez") from error
    arrays = {name.removesuffix(".npy"): parse_npy(file) for name, file in files.items()}
    return _assemble(arrays) if {"format", "shape"} <= arrays.keys() else arrays


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
    if array.dtype.kind == "f" or "float" in array.dtype.name:
        dtype = np.float32 if array.dtype.itemsize <= 4 else np.float64
    elif array.dtype.kind in "biu":
        dtype = np.float64
    else:
        raise FileRefusal("real numbers", f"dtype {array.dtype}", "Convert it first.")
    with np.errstate(all="ignore"):  # an overflow is refused later, as infinite
        return array.astype(dtype)
