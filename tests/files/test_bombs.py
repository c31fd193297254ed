"""Small files that would unpack to much, and files that say what cannot be."""

import gzip
import tracemalloc
import zipfile

import numpy as np
import pytest
from file_contents import ARRAY, COORDINATE, npy, npz

from sedma_jax._files import refusal
from sedma_jax._files.load import load_matrix


def peak_of(path, message):
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=message):
            load_matrix(path)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_what_unpacks_a_thousandfold_is_refused(save):
    many = bytes(2**28)
    for name, content in {
        "m.mtx.gz": gzip.compress(b"%%MatrixMarket matrix array real general\n" + many),
        "m.npz": npz(zipfile.ZIP_DEFLATED, m=npy(np.zeros((2**14, 2**11)))),
    }.items():
        assert len(content) < 2**20
        peak = peak_of(save(name, content), "at most 200 bytes unpacked per byte")
        assert peak < refusal.RATIO_FROM + 2**25


def test_zeros_of_a_usual_size_are_still_read(save):
    zeros = np.zeros((1000, 1000))
    path = save("m.npz", npz(zipfile.ZIP_DEFLATED, m=npy(zeros)))
    np.testing.assert_array_equal(load_matrix(path), zeros)


def test_an_archive_of_too_many_arrays(save):
    path = save("m.npz", npz(**{f"a{i}": b"" for i in range(refusal.MOST_MEMBERS + 1)}))
    with pytest.raises(ValueError, match="at most 4,096 arrays"):
        load_matrix(path)


def test_comments_have_an_end(save):
    comments = b"%\n" * 2**19 + b"% and more\n" * 2**16
    path = save("m.mtx", ARRAY.encode() + comments + b"1 1\n1\n")
    with pytest.raises(ValueError, match="within 1,048,576 bytes of comments"):
        load_matrix(path)
    path = save("m.mtx", ARRAY.encode() + b"% a line\n" * 1000 + b"1 1\n1\n")
    np.testing.assert_array_equal(load_matrix(path), [[1.0]])


def test_integers_are_whole(save):
    integer = COORDINATE.replace("real", "integer")
    for value, told in (
        ("1.5", "whole numbers.*Got 1.5 in entry 1"),
        ("9007199254740994", "at most 9007199254740992 in magnitude"),
        ("1e300", "whole numbers"),
    ):
        path = save("m.mtx", integer + f"1 1 1\n1 1 {value}\n")
        with pytest.raises(ValueError, match=told):
            load_matrix(path)
        dense = ARRAY.replace("real", "integer") + f"1 1\n{value}\n"
        with pytest.raises(ValueError, match=told):
            load_matrix(save("d.mtx", dense))
    path = save("m.mtx", integer + "1 2 2\n1 1 -3\n1 2 9007199254740992\n")
    np.testing.assert_array_equal(load_matrix(path).toarray(), [[-3, 2**53]])


@pytest.mark.parametrize("symmetry", ["symmetric", "skew-symmetric"])
def test_a_symmetric_file_has_one_half(save, symmetry):
    head = COORDINATE.replace("general", symmetry)
    both = save("m.mtx", head + "3 3 3\n3 1 5\n2 1 7\n1 2 7\n")
    with pytest.raises(ValueError, match="Got both entry 1 2 and entry 2 1"):
        load_matrix(both)
    sign = 1 if symmetry == "symmetric" else -1
    # Either half will do, and what is listed twice in it is summed.
    for entries, value in (("2 1 7\n2 1 1\n", 8), ("1 2 7\n1 2 1\n", sign * 8)):
        matrix = load_matrix(save("m.mtx", head + "2 2 2\n" + entries))
        np.testing.assert_array_equal(matrix.toarray(), [[0, sign * value], [value, 0]])
