"""Every way of NumPy, SciPy, JAX and pandas to hold numbers: these numbers, or a line."""

import inspect
import subprocess
import sys
import tracemalloc
from fractions import Fraction

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from any_array import DENSE, SHAPES, fractions, given_arrays, one_line
from hypothesis import given
from jax.experimental.sparse import BCOO

from sedma_jax._tiling import partition as tiling
from sedma_jax._tiling.native import exactly
from sedma_jax._tiling.partition import assemble, checked_array, checked_sparse, partition
from sedma_jax._tiling.tile_source import tile_source
from sedma_jax.memory._pattern import LARGEST_FEATURE, packed_features, unpacked_features

# The shape checks of the test session know arrays alone.
partition, tile_source = inspect.unwrap(partition), inspect.unwrap(tile_source)


def read(call):
    """The numbers that come out, or None where one line refused."""
    try:
        return np.asarray(call())
    except ValueError as error:
        assert one_line(error), error
        return None


def whole(matrix):
    parts = partition(matrix, 4, 4)
    return assemble(parts.tiles, parts)


def cut(matrix):
    source = tile_source(matrix, 4, 4)
    everything = source.partition(np.arange(len(source.inputs)), len(source.inputs))
    return assemble(everything.tiles, everything)


@pytest.mark.parametrize("way", [whole, cut])
@given(array=given_arrays())
def test_matrices(way, array):
    held = read(lambda: way(array.value))
    good = array.plain.ndim == 2 and array.fits("f8")
    assert (held is not None) == good
    assert not good or np.array_equal(fractions(held), array.numbers)


@given(array=given_arrays(containers=DENSE))
def test_vectors(array):
    held = read(lambda: checked_array(array.value, "x", ndim=(1, 2)))
    good = array.plain.ndim in (1, 2) and array.fits("f8")
    assert (held is not None) == good
    assert not good or np.array_equal(fractions(held), array.numbers)


def in_range(array):
    """Whether float32 holds the largest number, and numbers that nothing exceeds."""
    sizes = [abs(number) for number in array.numbers.ravel()]
    largest, tiny = max(sizes), Fraction(2) ** -126
    if largest >= Fraction(2) ** 128 - Fraction(2) ** 103:  # rounds to infinity
        return False
    beside_larger = largest >= tiny * 2**23
    return beside_larger or not any(0 < size < tiny for size in sizes)


@given(array=given_arrays(shapes=SHAPES[2:3]))
def test_in_32_bits_integers_are_exact_and_floats_rounded_once(array):
    with jax.enable_x64(False):
        held = read(lambda: whole(array.value))
    floats = array.plain.dtype.kind == "f" or "float" in array.plain.dtype.name
    good = array.fits("f8" if floats else "f4") and in_range(array)
    assert (held is not None) == good
    if held is not None:
        assert held.dtype == np.float32
        error = np.abs(fractions(held) - array.numbers)
        unit = np.finfo(np.float32).eps / 2 if floats else 0
        # Below the normal numbers a rounding is absolute.
        assert (error <= unit * np.abs(array.numbers) + 2.0**-149).all()


@given(array=given_arrays(shapes=SHAPES[:2], containers=DENSE))
def test_features_of_memory(array):
    packed = read(lambda: np.array(packed_features(array.value), object))
    largest = 0 if array.numbers is None else max(abs(n) for n in array.numbers.ravel())
    good = array.plain.ndim == 1 and array.fits("f8") and largest < LARGEST_FEATURE
    assert (packed is not None) == good
    if good:
        kept = np.array(unpacked_features(packed.item()))
        assert np.array_equal(fractions(kept), array.numbers)


SMALL = np.arange(1.0, 13).reshape(3, 4)
FORMS = r"""
import jax, jax.numpy as jnp, numpy as np, pandas as pd, scipy.sparse as sp
import sedma_jax as sj
from jax.experimental.sparse import BCOO

A, x = np.arange(1.0, 13).reshape(3, 4), np.arange(1.0, 5)
frame = pd.DataFrame(A).astype({0: int, 1: "f4", 2: "Int64"})
forms = [A.astype(">f8"), A.astype("g"), A.astype("f2"), A.astype(">i4"), np.asmatrix(A),
         np.asfortranarray(A)[::-1][::-1], np.ma.MaskedArray(A), frame, A.tolist(),
         sp.dia_array(A), sp.csc_matrix(A), BCOO.fromdense(jnp.asarray(A, jnp.bfloat16))]
vectors = [x.astype(">f8"), x.astype("f2"), x.astype("u8"), x.tolist(), pd.Series(x)]
device, key = sj.devices.EPIRAM, jax.random.key(0)
options = dict(array=(4, 4), key=key)
crossbar, _ = sj.program(A, device, **options)
y = sj.matvec(crossbar, x, key=key)
for form in forms:
    other, _ = sj.program(form, device, **options)
    assert (other.weights == crossbar.weights).all(), type(form)
for vector in vectors:
    assert (sj.matvec(crossbar, vector, key=key) == y).all(), type(vector)
print(len(forms), len(vectors))
"""


def test_public_functions_compute_with_the_same_numbers():
    # Without the shape checks of the test session, which know arrays alone.
    done = subprocess.run(
        [sys.executable, "-c", FORMS], capture_output=True, text=True, cwd="/"
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout == "12 5\n"


def test_many_rows_of_few_entries_take_no_memory(monkeypatch):
    last = 2**31 - 2
    index = np.array([[last, 0], [3, 1], [last, 0], [3, 0], [3, 1], [5, 0]], np.int32)
    data = np.array([1, 2, 4, 8, 16, 0], np.float32)
    entries = sp.coo_array((data, tuple(index.T)), shape=(last + 1, 2))
    tracemalloc.start()
    try:
        held = checked_sparse(entries)
        # In CSR its rows alone would take 8.6 GB.
        assert tracemalloc.get_traced_memory()[1] < 10**6
    finally:
        tracemalloc.stop()
    assert list(zip(held.row, held.col, held.data, strict=True)) == [
        *((3, 0, 8), (3, 1, 18), (last, 0, 5))
    ]
    given = BCOO((jnp.asarray(data), jnp.asarray(index)), shape=(last + 1, 2))
    assert checked_sparse(given).nnz == 3
    # Both ways give the same, entry by entry.
    rng = np.random.default_rng(0)
    places = tuple(rng.integers(0, 30, (2, 500)))
    many = sp.coo_array((rng.normal(size=500), places), shape=(30, 30))
    first = checked_sparse(many)
    monkeypatch.setattr(tiling, "_FEW_ROWS", -(10**6))
    second = checked_sparse(many)
    for name in ("row", "col"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
    np.testing.assert_allclose(first.data, second.data, rtol=1e-14)


def test_duplicates_add_up_exactly():
    place = np.array([0, 0]), np.array([1, 1])
    twice = lambda data: sp.coo_array((np.array(data), place), shape=(2, 2))
    held = checked_sparse(twice(np.array([100, 100], np.int8)))
    assert held.toarray()[0, 1] == 200  # int8 would wrap to -56
    assert checked_sparse(twice([True, True])).toarray()[0, 1] == 1
    assert checked_sparse(twice([1.5, -1.5])).nnz == 0
    index = jnp.array([[0, 1], [0, 1], [2, 2]])  # the last one is padding
    held = checked_sparse(BCOO((jnp.array([100, 100, 7], jnp.int8), index), shape=(2, 2)))
    assert held.toarray().tolist() == [[0, 200], [0, 0]]


REFUSED = {
    "masked": (np.ma.masked_equal(SMALL, 3), "1 masked"),
    "masked rows": ([np.ma.masked_equal(SMALL[0], 3)], "1 masked"),
    "ragged": ([[1.0, 2.0], [3.0]], "cannot convert"),
    "joined": ([[2**53 + 1, 0.5]], "beside its floats"),
    "joined columns": (pd.DataFrame({"a": [2**53 + 1], "b": [0.5]}), "beside its floats"),
    "gap": (pd.DataFrame({"a": pd.array([1, None], "Int64")}), "Got nan"),
    "text": (pd.DataFrame({"a": [1.0], "b": ["x"]}), "column 'b'"),
    "date": (pd.DataFrame({"a": pd.to_datetime(["2024-01-01"])}), "column 'a'"),
    "span": (SMALL.astype("m8[s]"), "dtype timedelta64"),
    "object": (SMALL.astype(object), "dtype object"),
    "record": (np.zeros((2, 2), "f4,f4"), "dtype"),
    "wide": (np.full((2, 2), 2**53 + 1), "9007199254740993"),
    "fine": (np.full((2, 2), np.longdouble(1) + np.longdouble(2) ** -60), "float64 holds"),
    "complex": (jnp.ones((2, 2), complex), "real entries"),
    "keys": (jr.split(jr.key(0), (2, 2)), "dtype key"),
    "nothing": (None, "dtype object"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_in_one_line(name):
    value, said = REFUSED[name]
    with pytest.raises(ValueError, match=said) as refused:
        partition(value, 4, 4)
    assert one_line(refused.value)


def test_a_sparse_vector_is_refused():
    with pytest.raises(ValueError, match="dense array"):
        checked_array(sp.coo_array(np.ones(3)), "x", ndim=(1, 2))


def test_half_precision_is_converted_under_a_trace_too():
    weights = jnp.asarray(SMALL, jnp.bfloat16)
    held = jax.jit(lambda w: partition(w, 4, 4).tiles)(weights)
    assert held.dtype == jnp.float32
    assert np.array_equal(held[0, :4, :3], SMALL.T)
    assert exactly(weights, np.dtype("f4"), "A").dtype == jnp.float32


def test_a_streamed_file_of_foreign_bytes(tmp_path):
    np.save(tmp_path / "a.npy", SMALL.astype(">f4"))
    streamed = tile_source(np.load(tmp_path / "a.npy", mmap_mode="r"), 4, 4)
    native = tile_source(SMALL.astype("f4"), 4, 4)
    assert np.array_equal(cut(np.load(tmp_path / "a.npy", mmap_mode="r")), SMALL)
    assert streamed.digest() == native.digest()
