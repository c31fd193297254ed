"""Counts of two words against integers of Python, which have no end."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from hypothesis import given, strategies as st
from sedma_jax.kernels import (
    Count,
    add_counts,
    as_count,
    fold_in_count,
    multiply_count,
    total_count,
)

LONG = st.integers(0, 2**61)
WORD = st.integers(0, 2**32 - 1)


@given(st.lists(LONG, min_size=4, max_size=4), st.lists(LONG, min_size=4, max_size=4))
def test_sums_and_comparisons_are_those_of_integers(a, b):
    total = add_counts(as_count(np.array(a)), as_count(np.array(b)))
    assert [int(count) for count in total] == [x + y for x, y in zip(a, b, strict=True)]
    assert (as_count(np.array(a)) > as_count(np.array(b))).tolist() == [
        x > y for x, y in zip(a, b, strict=True)
    ]


@given(st.lists(WORD, min_size=4, max_size=4), st.integers(0, 2**31 - 1))
def test_products_are_those_of_integers(a, factor):
    product = multiply_count(jnp.asarray(a, jnp.uint32), factor)
    words = zip(product.high.tolist(), product.low.tolist(), strict=True)
    assert [high * 2**32 + low for high, low in words] == [x * factor for x in a]


def test_long_sums_are_exact_along_any_axes():
    # More entries than halves of a word may be added at once.
    numbers = np.random.default_rng(0).integers(0, 2**45, size=(2, 70_000))
    count = as_count(numbers)
    assert total_count(count, (1,)).tolist() == [sum(row) for row in numbers.tolist()]
    assert int(total_count(count)) == sum(numbers.ravel().tolist())
    batched = jax.jit(jax.vmap(total_count))(count)
    assert batched.tolist() == total_count(count, (1,)).tolist()


def test_numbers_of_any_dtype_convert_exactly():
    whole = [0.0, 1.0, 2.0**24 - 1, 2.0**31, 2.0**32, 2.0**53]
    for dtype in (np.float32, np.float64):
        given = np.array(whole, dtype)
        assert as_count(given).tolist() == [int(x) for x in given.tolist()]
        assert as_count(jnp.asarray(given)).tolist() == as_count(given).tolist()
    assert as_count(jnp.asarray([2**40 + 1, -3])).tolist() == [2**40 + 1, 0]
    assert as_count(np.uint32(2**32 - 1)).tolist() == 2**32 - 1


def test_a_count_is_used_like_an_array_of_int64():
    with jax.enable_x64(False):
        count = as_count(np.array([2**40 + 1, 3]))
        assert f"{count[0]:,}" == "1,099,511,627,777" and int(count[1]) == 3
        assert np.sum(count).item() == (count[0] + count[1]).item() == 2**40 + 4
        assert count[0] == 2**40 + 1 and count.tolist() == [2**40 + 1, 3]
        assert jnp.sum(count).dtype == jnp.float32
        assert jax.jit(lambda c: c > 4)(count).tolist() == [True, False]
        assert isinstance(jax.tree.map(jnp.zeros_like, count), Count)


def test_places_below_one_word_fold_in_as_in_jax_and_all_differ():
    key = jr.key(3)
    fold = lambda place: jr.key_data(fold_in_count(key, as_count(place))).tolist()
    for place in (0, 7, 2**31, 2**32 - 1):
        word = jnp.asarray(place, jnp.uint32)
        assert fold(place) == jr.key_data(jr.fold_in(key, word)).tolist()
    places = [7, 2**32 + 7, 2**33 + 7, 7 * 2**32]
    assert len({tuple(fold(place)) for place in places}) == len(places)


def test_numbers_of_numpy_are_exact_without_x64():
    with jax.enable_x64(False):
        for number in (2**24 + 1, 2**53, 3 * 2**61):
            assert int(as_count(np.float64(number))) == number
            assert int(as_count(float(number))) == number
