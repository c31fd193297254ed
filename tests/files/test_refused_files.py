import gzip
import os
import tracemalloc
import zipfile

import numpy as np
import pytest
import scipy.sparse as sp
from file_contents import (
    ARRAY,
    COORDINATE,
    DENSE,
    SPARSE,
    market,
    npy,
    npy_header,
    npz,
    sparse_npz,
)
from safetensors.numpy import save as safetensors_bytes

from sedma_jax._files import refusal as _refusal
from sedma_jax._files.load import load_matrix, load_vector

SHORT = "Got shape (3,). Reshape"
CSR = sp.csr_array(DENSE)
UNREADABLE = {
    # name: (content, fragment of the message)
    "m.txt": ("1 2", "ends in .mtx, .mtx.gz, .npy, .npz or .safetensors. Got '.txt'"),
    "none": ("1 2", "Got ''"),
    "m.npy::a": (npy(DENSE), "`::NAME` only after"),
    # NumPy
    "empty.npy": (b"", "intact .npy"),
    "magic.npy": (b"PK\3\4" + bytes(200), "intact .npy"),
    "short.npy": (npy(DENSE)[:-1], "the 48 bytes that its header promises. Got 47."),
    "header.npy": (npy(DENSE)[:40], "intact .npy"),
    "pickle.npy": (npy(np.array([[{}]]), allow_pickle=True), "Got dtype object"),
    "complex.npy": (npy(DENSE + 1j), "real numbers. Got dtype complex128"),
    "text.npy": (npy(np.array([["a"]])), "real numbers. Got dtype <U1"),
    "bytes.npy": (npy(np.array([[b"a"]])), "real numbers. Got dtype |S1"),
    "record.npy": (npy(np.zeros((2, 2), "f4,f4")), "real numbers. Got dtype [("),
    "time.npy": (npy(np.zeros((2, 2), "M8[s]")), "real numbers. Got dtype datetime64"),
    "norows.npy": (npy(np.zeros((0, 3))), "at least one number. Got shape (0, 3)"),
    "nocols.npy": (npy(np.zeros((3, 0))), "at least one number. Got shape (3, 0)"),
    "scalar.npy": (npy(1.0), "a matrix (2 dimensions). Got shape ()"),
    "short-1d.npy": (npy(DENSE[0]), SHORT),
    "stack.npy": (npy(DENSE[None]), "Got shape (1, 2, 3)"),
    "nan.npy": (npy([[1, 2], [3, np.nan]]), "finite numbers. Got nan at entry 2, 2."),
    "inf.npy": (npy([[1, -np.inf]]), "finite numbers. Got -inf at entry 1, 2."),
    "overflow.npy": (npy(np.array([["1e4000"]], "g")), "Got 1e+4000 and 0 more of"),
    "deep.npy": (npy_header("-" * 9000 + "1"), "intact .npy"),
    "long.npy": (npy_header("(" * 60000), "intact .npy"),
    "negative.npy": (
        npy_header("{'descr': '<f8', 'fortran_order': False, 'shape': (-1, 8)}"),
        "a parse error (shape (-1, 8))",
    ),
    "promise.npy": (
        npy_header("{'descr': '<f8', 'fortran_order': False, 'shape': (9999, 9999)}"),
        "the 799,840,008 bytes that its header promises. Got 0.",
    ),
    "huge.npy": (
        npy_header("{'descr': '<f8', 'fortran_order': False, 'shape': (10**9, 9)}"),
        "intact .npy",
    ),
    "count.npy": (
        npy_header("{'descr': '|i1', 'fortran_order': False, 'shape': (99999, 99999)}"),
        "at most 268,435,456 stored numbers. Got 9,999,800,001.",
    ),
    # NumPy archives
    "empty.npz": (b"", "intact .npz"),
    "magic.npz": (npy(DENSE), "intact .npz"),
    "short.npz": (npz(m=DENSE)[:-30], "intact .npz"),
    "checksum.npz": (npz(m=DENSE).replace(DENSE.tobytes(), bytes(48)), "Bad CRC-32"),
    "lzma.npz": (npz(zipfile.ZIP_LZMA, m=DENSE), "neither stored nor deflated"),
    "nothing.npz": (npz(), "exactly one array that is a matrix (2 dimensions)"),
    "two.npz": (
        npz(a=DENSE, b=DENSE),
        "'a' (2, 3), 'b' (2, 3). Name one as FILE::NAME.",
    ),
    "vector.npz": (npz(v=DENSE[0]), SHORT),
    "member.npz": (npz(m=b"not an array"), "intact .npy"),
    "pickle.npz": (npz(m=npy(np.array([{}]), allow_pickle=True)), "Got dtype object"),
    # SciPy archives
    "nan.npz": (
        sparse_npz(sp.csr_array([[0, 1], [0, np.nan]])),
        "Got nan at entry 2, 2.",
    ),
    "complex.npz": (sparse_npz(sp.csr_array([[1j]])), "Got dtype complex128"),
    "index.npz": (sparse_npz(CSR, indices=CSR.indices + 10**6), "intact sparse .npz"),
    "below.npz": (sparse_npz(CSR, indices=CSR.indices - 1), "intact sparse .npz"),
    "column.npz": (
        sparse_npz(CSR.tocsc(), indices=CSR.indices + 9),
        "intact sparse .npz",
    ),
    "coo.npz": (sparse_npz(SPARSE, row=SPARSE.row + 10**6), "intact sparse .npz"),
    "pointer.npz": (
        sparse_npz(CSR, indptr=np.array([0, 10**6, 0])),
        "pointer decreases",
    ),
    "beyond.npz": (
        sparse_npz(CSR, indptr=np.array([0, 2, 10**6])),
        "intact sparse .npz",
    ),
    "real.npz": (
        sparse_npz(CSR, indices=CSR.indices + np.nan),
        "indices of dtype float64",
    ),
    "layout.npz": (sparse_npz(CSR, format=np.array(b"lil")), "format is called 'lil'"),
    "part.npz": (npz(format=np.array(b"csr"), shape=np.array([2, 3])), "('data')"),
    "wide.npz": (
        sparse_npz(CSR, shape=np.array([2, 2**25])),
        "16,777,216 rows and columns",
    ),
    "sparse-empty.npz": (
        sparse_npz(CSR, shape=np.array([0, 3])),
        "at least one number",
    ),
    # safetensors
    "empty.safetensors": (b"", "intact safetensors"),
    "magic.safetensors": (npy(DENSE), "intact safetensors"),
    "short.safetensors": (safetensors_bytes({"m": DENSE})[:-1], "intact safetensors"),
    "nothing.safetensors": (safetensors_bytes({}), "Got no array."),
    "vector.safetensors": (safetensors_bytes({"v": DENSE[0]}), SHORT),
    "complex.safetensors": (
        safetensors_bytes({"m": DENSE.astype("c8")}),
        "Got dtype C64",
    ),
    "inf.safetensors": (
        safetensors_bytes({"m": DENSE + np.inf}),
        "Got inf at entry 1, 1.",
    ),
    # Matrix Market
    "empty.mtx": ("", "the first line `%%MatrixMarket matrix"),
    "banner.mtx": (
        "%%MatrixMarkt matrix array real general\n1 1\n1\n",
        "the first line",
    ),
    "complex.mtx": (
        ARRAY.replace("real", "complex") + "1 1\n1 2\n",
        "Got array 'complex'",
    ),
    "hermitian.mtx": (
        ARRAY.replace("general", "hermitian") + "1 1\n1\n",
        "'hermitian'",
    ),
    "pattern.mtx": (ARRAY.replace("real", "pattern") + "1 1\n", "Got array 'pattern'"),
    "nosize.mtx": (
        COORDINATE + "% only comments\n",
        "the size line `ROWS COLS ENTRIES`",
    ),
    "size.mtx": (
        COORDINATE + "2 2\n1 1 1\n",
        "the size line `ROWS COLS ENTRIES`. Got '2 2'",
    ),
    "minus.mtx": (COORDINATE + "2 -2 1\n1 1 1\n", "the size line"),
    "digits.mtx": (COORDINATE + f"1 1 {'9' * 5000}\n", "the size line"),
    "norows.mtx": (COORDINATE + "0 2 0\n", "at least one number. Got shape (0, 2)"),
    "tall.mtx": (COORDINATE + "99999999 1 0\n", "at most 16,777,216 rows and columns"),
    "promise.mtx": (COORDINATE + "9999 9999 9999999\n1 1 1\n", "the 9,999,999 entries"),
    "count.mtx": (COORDINATE + "9999 9999 999999999\n1 1 1\n", "at most 268,435,456"),
    "arrays.mtx": (ARRAY + "9999 9999\n1\n", "the 99,980,001 entries"),
    "square.mtx": (
        ARRAY.replace("general", "symmetric") + "2 3\n1\n",
        "a square matrix",
    ),
    "short.mtx": (
        COORDINATE + "2 2 2\n1 1 1.00000\n",
        "the 2 entries that its size line",
    ),
    "none.mtx": (
        COORDINATE + "2 2 1\n          \n",
        "the 1 entries that its size line",
    ),
    "long.mtx": (COORDINATE + "2 2 1\n1 1 1\n2 2 2\n", "promises. Got 2."),
    "more.mtx": (COORDINATE + "2 2 0\n2 2 2\n", "promises. Got 1."),
    "beyond.mtx": (
        COORDINATE + "2 2 1\n1 3 1\n",
        "from 1 1 to 2 2. Got 1 3 in entry 1",
    ),
    "zero.mtx": (COORDINATE + "2 2 2\n1 1 1\n0 1 1\n", "Got 0 1 in entry 2"),
    "half.mtx": (COORDINATE + "2 2 1\n1.5 1 1\n", "whole row and column numbers"),
    "word.mtx": (COORDINATE + "2 2 1\n1 1 one\n", "cannot read (could not convert"),
    "fortran.mtx": (COORDINATE + "1 1 1\n1 1 1D3\n", "could not convert string '1D3'"),
    "comma.mtx": (COORDINATE + "1 1 1\n1 1 1,5\n", "could not convert string '1,5'"),
    "ragged.mtx": (COORDINATE + "2 2 2\n1 1 1.0\n1 2\n", "columns changed from 3 to 2"),
    "columns.mtx": (COORDINATE + "2 2 1\n1 1 1 1\n", "3 plain decimal numbers"),
    "nan.mtx": (COORDINATE + "2 2 2\n1 1 1\n2 1 nan\n", "Got nan at entry 2, 1."),
    "overflow.mtx": (COORDINATE + "1 1 1\n1 1 1e999\n", "Got inf at entry 1, 1."),
    "sum.mtx": (COORDINATE + "1 1 2\n1 1 1e308\n1 1 1e308\n", "Got inf at entry 1, 1."),
    "diagonal.mtx": (
        COORDINATE.replace("general", "skew-symmetric") + "2 2 1\n2 2 1\n",
        "no diagonal entries",
    ),
    "plain.mtx.gz": (market(DENSE), "intact gzip"),
    "short.mtx.gz": (gzip.compress(market(DENSE))[:-9], "intact gzip"),
    "damaged.mtx.gz": (gzip.compress(market(DENSE))[:-8] + bytes(8), "intact gzip"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_refuses_with_one_line(save, name):
    content, fragment = UNREADABLE[name]
    path = save(name.partition("::")[0], content)
    suffix = name[len(path.name) :]
    tracemalloc.start()
    try:
        with pytest.raises(ValueError) as refused:
            load_matrix(f"{path}{suffix}")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    message = str(refused.value)
    assert fragment in message
    assert message.startswith(f"`load_matrix` of '{path}{suffix}' needs ")
    assert message.isprintable() and len(message) < 600
    # None of these files holds 100 kB, whatever it promises.
    assert peak < 4e6


@pytest.mark.parametrize(
    "name, reason",
    [
        ("missing.npy", "No such file or directory"),
        ("folder.npz", "a directory"),
        ("loop.mtx", "symbolic links"),
        ("pipe.npy", "a pipe or device"),
        ("nul\0.npy", "null"),
        ("x" * 300 + ".safetensors", "name too long"),
        ("new\nline.npy", "No such file or directory"),
    ],
)
def test_refuses_what_is_no_file(tmp_path, name, reason):
    (tmp_path / "folder.npz").mkdir()
    (tmp_path / "loop.mtx").symlink_to("loop.mtx")
    os.mkfifo(tmp_path / "pipe.npy")
    with pytest.raises(ValueError, match=reason) as refused:
        load_matrix(tmp_path / name)
    assert str(refused.value).isprintable()


def test_refuses_a_matrix_for_a_vector(save):
    with pytest.raises(ValueError, match=r"`load_vector`.*Got shape \(2, 3\)"):
        load_vector(save("m.npy", npy(DENSE)))


def test_a_bomb_is_not_unpacked(save, monkeypatch):
    monkeypatch.setattr(_refusal, "LARGEST_BYTES", 2**20)
    bomb = bytes(2**26)
    contents = {
        "m.mtx.gz": gzip.compress(bomb),
        "m.npz": npz(zipfile.ZIP_DEFLATED, m=bomb),
        "m.npy": bomb[: 2**20 + 1],
    }
    for name, content in contents.items():
        path = save(name, content)
        tracemalloc.start()
        with pytest.raises(ValueError, match="at most 1,048,576 bytes"):
            load_matrix(path)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 2**23
