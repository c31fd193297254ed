"""Finite numbers that float32 cannot hold are refused; all others give NumPy's product."""

import inspect

import jax
import jax.random as jr
import numpy as np
import pytest
import scipy.sparse
from hypothesis import given, strategies as st

import sedma_jax as sj
from sedma_jax._tiling.number_range import check_range, surely_in_range
from sedma_jax._tiling.tile_source import tile_source

RNG = np.random.default_rng(0)
A, X = RNG.normal(size=(6, 5)), RNG.normal(size=5)
DEVICE = sj.devices.EPIRAM
KEY = jr.key(0)
REFUSED = r"float32 can hold.*jax_enable_x64.*--float64"
exponents = st.floats(-300, 300)


def product(A, x=X):
    crossbar = sj.program_exactly(A, DEVICE, array=(8, 8))
    return np.asarray(sj.matvec(crossbar, x, key=KEY), float)


def programmed(A):
    return sj.program(A, DEVICE, array=(8, 8), key=KEY)


def streamed(A):
    return sj.stream_matvec(A, X, DEVICE, array=(8, 8), key=KEY)


WAYS = {
    "dense": lambda A: product(A),
    "scipy": lambda A: product(scipy.sparse.csr_array(A)),
    "program": programmed,
    "stream": streamed,
    "stream sparse": lambda A: streamed(scipy.sparse.coo_array(A)),
    "corrected": lambda A: sj.corrected_matvec(A, X, DEVICE, array=(8, 8), key=KEY),
    "pool": lambda A: sj.program_pool(A, sj.Pool([sj.ArrayKind(8, 8, 4, DEVICE)]), key=KEY),
    "x": lambda A: product(np.ones((6, 5)), A),
    "denoise": lambda A: sj.denoise(A, 0.5),
}


@pytest.mark.parametrize("scale", [1e300, 1e39, 1e-46, 1e-300])
@pytest.mark.parametrize("way", WAYS)
def test_what_float32_cannot_hold_is_refused_on_every_way_in(way, scale):
    with jax.enable_x64(False), pytest.raises(ValueError, match=REFUSED):
        WAYS[way](A * scale)


@pytest.mark.parametrize("way", WAYS)
def test_double_precision_takes_it(way):
    WAYS[way](A * 1e100)


@given(exponents)
def test_a_product_is_right_or_refused_at_any_scale(exponent):
    scale = 10.0**exponent
    with jax.enable_x64(False):
        try:
            y = product(A * scale)
        except ValueError as refusal:
            assert not 1e-31 < scale < 1e37 and "float32 can hold" in str(refusal)
            return
    # Cells are set exactly: what is left is the read noise, of 5 standard deviations.
    noise = 5 * 2 * np.sqrt(2) * DEVICE.sigma_read * np.linalg.norm(X)
    bound = np.abs(A).max() * noise + 1e-5 * np.abs(A) @ np.abs(X)
    assert np.all(np.abs(y / scale - A @ X) <= bound)


@pytest.mark.parametrize("way", ["dense", "scipy", "program", "stream", "corrected"])
def test_entries_that_vanish_beside_others_are_rounded(way):
    # As of a Gaussian kernel, of which whole tiles vanish.
    kernel = np.exp(-((np.arange(27)[:, None] - np.arange(5)) ** 2.0))
    assert 0 < kernel.min() < 1e-250 and kernel.max() == 1
    with jax.enable_x64(False):
        WAYS[way](kernel)


def test_each_vector_of_a_batch_has_to_be_held():
    with jax.enable_x64(False), pytest.raises(ValueError, match=REFUSED):
        product(A, np.stack([X, X * 1e-50]))


def test_vectors_have_to_fit_the_dtype_of_the_matrix():
    with pytest.raises(ValueError, match=REFUSED):
        product(A.astype(np.float32), X * 1e300)


def test_the_message_names_the_entry():
    with pytest.raises(ValueError, match=r"Got 1e\+99 at \(1, 2\)"):
        values = np.ones((2, 3))
        values[1, 2] = 1e99
        check_range(values, "A", np.float32)


def test_sums_of_a_sparse_matrix_that_overflow_are_refused():
    twice = scipy.sparse.coo_array(([3e38, 3e38], ([0, 0], [0, 0])), shape=(2, 2))
    with jax.enable_x64(False), pytest.raises(ValueError, match="float32 can hold"):
        product(twice, X[:2])


@pytest.mark.parametrize("array", [(2**15, 2**15), (2**20, 2**20)])
def test_arrays_whose_cells_exceed_their_numbers_are_refused(array):
    for call in (sj.program, sj.program_residual):
        options = {"slices": 2} if call is sj.program_residual else {}
        with pytest.raises(ValueError, match="fewer than 1,073,741,824 cells"):
            call(np.ones((2, 2)), DEVICE, array=array, key=KEY, **options)
    with pytest.raises(ValueError, match="fewer than 1,073,741,824 cells"):
        tile_source(np.ones((2, 2)), *array)


def test_sides_beyond_32_bits_are_refused():
    wide = scipy.sparse.coo_array(([1.0], ([0], [2**31])), shape=(2, 2**31 + 1))
    for call in (sj.program, sj.stream_matvec):
        given = (wide, X, DEVICE) if call is sj.stream_matvec else (wide, DEVICE)
        with pytest.raises(ValueError, match="fewer than 2,147,483,648 rows"):
            call(*given, array=(8, 8), key=KEY)


def test_tiles_of_a_grid_beyond_32_bits_differ_in_their_noise():
    # Tiles 0 and 2**32 of a grid of 2**18 x 2**18: one product of 32 bits would be equal.
    side = 2**22
    places = [0, 2**14 * 16]
    rows, cols = np.meshgrid(np.arange(16), np.arange(16))
    rows = np.concatenate([rows.ravel()] * 2)
    cols = np.concatenate([cols.ravel() + place for place in places])
    big = scipy.sparse.coo_array((np.full(512, 0.5), (rows, cols)), shape=(side, side))
    crossbar, _ = sj.program(big, DEVICE, array=(16, 16), key=KEY)
    place = sj._crossbar.crossbar.tile_index(crossbar)
    assert place.tolist() == [0, 2**14 * 2**18]
    first, second = np.asarray(crossbar.conductance)
    assert not np.array_equal(first, second)
    alone, _ = sj.program(np.full((16, 16), 0.5), DEVICE, array=(16, 16), key=KEY)
    np.testing.assert_array_equal(alone.conductance[0], first)


def test_the_largest_number_is_looked_for_once():
    kernel = np.exp(-((np.arange(64)[:, None] - np.arange(64)) ** 2.0))
    reads = []

    class File:
        shape, dtype = kernel.shape, kernel.dtype

        def __getitem__(self, item):
            reads.append(item)
            return kernel[item]

    with jax.enable_x64(False):
        source = inspect.unwrap(tile_source)(File(), 8, 8)
        source.cut(np.arange(64))
    assert len(reads) == 64 + 1  # the tiles, and all rows in one slab


WORST = (np.nan, np.inf, -np.inf, 3e38, 1e-38, 1e-45, 0.0, 1.0, 1e300, 1e-300)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("background", [0.0, 1e-40, 1e-38, 1.0, 2e38])
@pytest.mark.parametrize("worst", WORST)
def test_what_passes_is_finite_and_in_the_range_of_float32(dtype, background, worst):
    with np.errstate(over="ignore", under="ignore"):
        values = np.full((3, 5), background, dtype)
        values[1, 2] = worst
        held = values.astype(np.float32)
    if surely_in_range(values, np.float32):
        assert np.all(np.isfinite(held)) and np.max(np.abs(held)) > 1e-37


def test_ordinary_matrices_pass_and_vectors_are_left_to_the_full_look():
    values = np.random.default_rng(0).standard_normal((3, 5))
    assert surely_in_range(values, np.float32)
    assert surely_in_range(np.asfortranarray(values), np.float32)
    assert not surely_in_range(values, np.float32, vectors=True)
    assert not surely_in_range(values[:, ::2], np.float32)
