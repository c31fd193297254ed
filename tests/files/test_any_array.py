"""Any array in any file: the numbers that were saved, or one line."""

import numpy as np
import pytest
import scipy.sparse as sp
from any_array import SHAPES, fractions, given_arrays, one_line
from hypothesis import given, strategies as st
from safetensors import SafetensorError
from safetensors.numpy import save as save_tensors

from sedma_jax._files.load import load_matrix

# An object member is a pickle, a record and a date are no numbers, and the last two are
# not even arrays.
BESIDE = {
    "object": np.array([{"k": 1}], object),
    "text": np.array([["row", "col"]]),
    "record": np.zeros((2, 2), "f4,f4"),
    "date": np.array([["2024-01-01"]], "M8[D]"),
    "long": np.zeros(3, "c32"),
}
MATRIX = np.arange(6.0).reshape(2, 3) + 0.5


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("files")


@given(
    array=given_arrays(shapes=SHAPES[1:], containers=["numpy", "masked"]),
    form=st.sampled_from([".npy", ".npz", ".safetensors", "csr", "coo"]),
)
def test_any_array_in_a_file(folder, array, form):
    value, path = np.asarray(array.value), folder / f"a{form if '.' in form else '.npz'}"
    try:
        if form == ".npy":
            np.save(path, value)
        elif form == ".npz":
            np.savez(path, A=value, about=BESIDE["object"])
        elif form == ".safetensors":
            path.write_bytes(save_tensors({"A": array.plain}))
        else:
            sp.save_npz(path, getattr(sp, f"{form}_array")(array.plain))
    except (ValueError, KeyError, TypeError, NotImplementedError, SafetensorError):
        return  # that format has no such dtype
    try:
        held = load_matrix(path)
    except ValueError as error:
        assert one_line(error), error
        good = array.plain.ndim == 2 and array.fits("f8")
        # NumPy writes such floats as raw bytes without a name.
        assert not good or value.dtype.kind == "V"
        return
    held = held.toarray() if isinstance(held, sp.csr_array) else held
    assert held.dtype.isnative and np.array_equal(fractions(held), array.numbers)


@pytest.mark.parametrize("other", BESIDE)
@pytest.mark.parametrize("name", ["", "::A"])
def test_a_member_of_no_numbers_beside_a_matrix(folder, other, name):
    path = folder / "beside.npz"
    np.savez(path, A=MATRIX, meta=BESIDE[other])
    assert np.array_equal(load_matrix(f"{path}{name}"), MATRIX)
    with pytest.raises(ValueError) as refused:
        load_matrix(f"{path}::meta")
    assert one_line(refused.value)


def test_a_damaged_member_beside_a_matrix(folder):
    path = folder / "damaged.npz"
    np.savez(path, A=MATRIX, meta=np.arange(100.0))
    start = path.read_bytes().index(np.arange(100.0).tobytes())
    with path.open("r+b") as file:
        file.seek(start + 8)
        file.write(b"\xff" * 8)
    assert np.array_equal(load_matrix(path), MATRIX)
    with pytest.raises(ValueError, match="CRC"):
        load_matrix(f"{path}::meta")


def test_a_matrix_beside_a_sparse_one(folder):
    path = folder / "both.npz"
    whole = folder / "sparse.npz"
    sp.save_npz(whole, sp.csr_array(MATRIX))
    np.savez(path, **np.load(whole), A=2 * MATRIX, notes=BESIDE["object"])
    assert np.array_equal(load_matrix(path).toarray(), MATRIX)
    assert np.array_equal(load_matrix(f"{path}::A"), 2 * MATRIX)


def test_a_tensor_of_no_numbers_beside_a_matrix(folder):
    path = folder / "beside.safetensors"
    path.write_bytes(save_tensors({"A": MATRIX, "z": MATRIX.astype("c8")}))
    assert np.array_equal(load_matrix(path), MATRIX)
