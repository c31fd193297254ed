"""Bytes of matrix files as the format writers of NumPy, SciPy and safetensors make them."""

import gzip
import io
import struct
import zipfile

import numpy as np
import scipy.io
import scipy.sparse as sp
from safetensors.numpy import save as safetensors_bytes

DENSE = np.array([[1.5, -2.0, 0.0], [0.25, 1e-300, 3e7]])
COORDINATE = "%%MatrixMarket matrix coordinate real general\n"
ARRAY = "%%MatrixMarket matrix array real general\n"


def npy(array, **options):
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.asanyarray(array), **options)
    return stream.getvalue()


def npy_header(text, version=(1, 0)):
    length = struct.pack("<H" if version == (1, 0) else "<I", len(text))
    return b"\x93NUMPY" + bytes(version) + length + text.encode()


def npz(compression=zipfile.ZIP_STORED, **members):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        for name, content in members.items():
            content = content if isinstance(content, bytes) else npy(content)
            archive.writestr(f"{name}.npy", content)
    return stream.getvalue()


def sparse_npz(matrix, **replaced):
    stream = io.BytesIO()
    sp.save_npz(stream, matrix)
    stream.seek(0)
    with np.load(stream) as parts:
        return npz(**(dict(parts) | replaced))


def market(matrix, **options):
    stream = io.BytesIO()
    scipy.io.mmwrite(stream, matrix, precision=17, **options)
    return stream.getvalue()


SPARSE = sp.coo_array(DENSE)
READABLE = {
    "a.npy": npy(DENSE),
    "fortran.NPY": npy(np.asfortranarray(DENSE)),
    "version2.npy": npy(DENSE, version=(2, 0)),
    "big-endian.npy": npy(DENSE.astype(">f8")),
    "one.npz": npz(weights=DENSE),
    "deflated.npz": npz(zipfile.ZIP_DEFLATED, weights=DENSE),
    "beside-a-vector.npz": npz(weights=DENSE, bias=DENSE[0]),
    "one.safetensors": safetensors_bytes({"weights": DENSE}),
    "pair.safetensors": safetensors_bytes({"weights": DENSE, "bias": DENSE[0]}),
    "array.mtx": market(DENSE),
    "array.mtx.gz": gzip.compress(market(DENSE)),
    "coordinate.mtx": market(SPARSE),
    "no-final-newline.mtx": market(SPARSE).rstrip(),
    "windows.mtx": market(SPARSE).replace(b"\n", b"\r\n"),
    "blank-lines.mtx": market(SPARSE).replace(b"\n", b"\n \n\n").replace(b" ", b"\t "),
    "Shouting.MTX": market(SPARSE).replace(b"coordinate real", b"Coordinate REAL", 1),
} | {
    f"{layout}.npz": sparse_npz(SPARSE.asformat(layout))
    for layout in ("coo", "csr", "csc", "bsr", "dia")
}
