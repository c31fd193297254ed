import ml_dtypes
import numpy as np
import pytest
import scipy.io
import scipy.sparse as sp
from file_contents import ARRAY, COORDINATE, DENSE, READABLE, npy, npz, sparse_npz
from hypothesis import given, settings, strategies as st
from safetensors.numpy import save as safetensors_bytes

from sedma_jax._files.load import load_matrix, load_vector


def dense(matrix):
    return matrix.toarray() if sp.issparse(matrix) else matrix


@pytest.mark.parametrize("name", READABLE)
def test_reads_exactly_what_was_written(save, name):
    matrix = load_matrix(save(name, READABLE[name]))
    np.testing.assert_array_equal(dense(matrix), DENSE, strict=True)
    layouts = (
        "coo",
        "csr",
        "csc",
        "bsr",
        "dia",
        "coordinate",
        "no-",
        "windows",
        "bl",
        "S",
    )
    if sp.issparse(matrix) or name.startswith(layouts):
        assert isinstance(matrix, sp.csr_array) and matrix.has_canonical_format


@pytest.mark.parametrize("name", ["bcsstk02", "west0067", "fs_183_1"])
def test_agrees_with_scipy_on_published_matrices(pytestconfig, name):
    path = pytestconfig.rootpath / "data" / f"{name}.mtx"
    np.testing.assert_array_equal(
        load_matrix(path).toarray(),
        scipy.io.mmread(path, spmatrix=False).toarray(),
        strict=True,
    )


@pytest.mark.parametrize(
    "text, expected",
    [
        ("coordinate pattern general\n2 2 2\n1 2\n2 2", [[0, 1], [0, 1]]),
        ("coordinate integer symmetric\n2 2 2\n1 1 4\n2 1 -3", [[4, -3], [-3, 0]]),
        ("coordinate pattern symmetric\n2 2 1\n2 1", [[0, 1], [1, 0]]),
        ("coordinate real skew-symmetric\n2 2 1\n2 1 3", [[0, -3], [3, 0]]),
        ("coordinate real general\n1 2 3\n1 1 1\n1 2 7\n1 1 2.5", [[3.5, 7]]),
        ("coordinate real general\n2 1 0\n", [[0], [0]]),
        ("array real general\n2 2\n1\n2\n3\n4", [[1, 3], [2, 4]]),
        ("array integer symmetric\n2 2\n1\n2\n3", [[1, 2], [2, 3]]),
        (
            "array real skew-symmetric\n3 3\n1\n2\n3",
            [[0, -1, -2], [1, 0, -3], [2, 3, 0]],
        ),
        ("array double general\n%a comment\n\n%another\n1 1\n-.5E1\n", [[-5]]),
    ],
)
def test_matrix_market_expands(save, text, expected):
    matrix = load_matrix(save("m.mtx", f"%%MatrixMarket matrix {text}"))
    np.testing.assert_array_equal(dense(matrix), np.array(expected, float), strict=True)


@pytest.mark.parametrize(
    "dtype, expected",
    [
        *((dtype, "f4") for dtype in ("f2", ml_dtypes.bfloat16, "f4")),
        *((dtype, "f8") for dtype in ("f8", "g", "?", "i1", "u2", "i8", "u8")),
    ],
)
def test_dtypes(save, dtype, expected):
    array = np.array([[0, 1], [1, 1]], dtype)
    contents = {}
    if dtype is not ml_dtypes.bfloat16:  # NumPy writes it as nameless bytes
        contents["m.npy"] = npy(array)
        contents["m.npz"] = npz(m=array)
    if dtype != "g":
        contents["m.safetensors"] = safetensors_bytes({"m": array})
    for name, content in contents.items():
        matrix = load_matrix(save(name, content))
        np.testing.assert_array_equal(matrix, array.astype(expected), strict=True)


def test_integers_stay_exact(save):
    array = np.array([[2**53 - 1, -(2**53)]])
    assert (load_matrix(save("m.npy", npy(array))) == array).all()


@pytest.mark.parametrize(
    "name, content",
    [
        ("v.npy", npy([1.0, 0, 3])),
        ("row.npy", npy([[1.0, 0, 3]])),
        ("column.mtx", f"{ARRAY}3 1\n1\n0\n3\n"),
        ("sparse.mtx", f"{COORDINATE}1 3 2\n1 1 1\n1 3 3\n"),
        ("sparse.npz", sparse_npz(sp.coo_array([[1.0], [0], [3]]))),
        ("pair.npz", npz(weights=np.eye(3), bias=np.array([1.0, 0, 3]))),
        ("v.safetensors", safetensors_bytes({"bias": np.array([1.0, 0, 3])})),
    ],
)
def test_vectors(save, name, content):
    vector = load_vector(save(name, content))
    np.testing.assert_array_equal(vector, np.array([1.0, 0, 3]), strict=True)


def test_a_name_chooses_among_several(save):
    for name, content in {
        "m.safetensors": safetensors_bytes({"a::b": DENSE, "c": DENSE + 1}),
        "m.npz": npz(**{"a::b": DENSE, "c": DENSE + 1}),
    }.items():
        path = save(name, content)
        np.testing.assert_array_equal(load_matrix(f"{path}::c"), DENSE + 1)
        with pytest.raises(ValueError, match=r"'a::b' \(2, 3\), 'c' \(2, 3\)\. Name one"):
            load_matrix(path)
        with pytest.raises(ValueError, match=r"Got 'd'\. It holds 'a::b'"):
            load_matrix(f"{path}::d")


def test_a_file_whose_name_has_colons(save):
    path = save("x::y.npy", npy(DENSE))
    np.testing.assert_array_equal(load_matrix(path), DENSE)


def spoil(content, edits):
    for place, replaced, inserted in edits:
        start = int(place * len(content))
        content = content[:start] + inserted + content[start + replaced :]
    return content


# Digits and blanks reach deeper into text than arbitrary bytes do.
pieces = st.binary(max_size=4) | st.text("0123456789-+.eE \n%(),:'", max_size=4).map(
    str.encode
)
edits = st.lists(
    st.tuples(st.floats(0, 1), st.integers(0, 9) | st.just(10**6), pieces),
    min_size=1,
    max_size=3,
)


def check_spoilt(tmp_path_factory, name, changes):
    path = tmp_path_factory.getbasetemp() / name
    path.write_bytes(spoil(READABLE[name], changes))
    for load in (load_matrix, load_vector):
        try:
            array = dense(load(path)) if load is load_vector else load(path)
        except ValueError as refusal:
            assert str(refusal).isprintable()
        else:
            stored = array.data if sp.issparse(array) else array
            assert stored.dtype in (np.float32, np.float64)
            assert np.isfinite(stored).all() and min(array.shape) > 0


@pytest.mark.parametrize("name", READABLE)
@given(changes=edits)
@settings(max_examples=20)
def test_spoilt_files_are_read_or_refused(tmp_path_factory, name, changes):
    check_spoilt(tmp_path_factory, name, changes)


@pytest.mark.slow
@pytest.mark.parametrize("name", READABLE)
@given(changes=edits)
@settings(max_examples=200)
def test_many_spoilt_files_are_read_or_refused(tmp_path_factory, name, changes):
    check_spoilt(tmp_path_factory, name, changes)
