import jax.numpy as jnp
import numpy as np
import pytest
from sedma_jax.kernels import (
    column_scale,
    cut_tiles,
    differential,
    global_scale,
    join_outputs,
    join_tiles,
    offset,
    signed_weights,
    split_inputs,
    tile_scale,
)


@pytest.mark.parametrize("shape", [(1, 7), (7, 1), (5, 8), (16, 16), (13, 9)])
def test_tiles_hold_the_transposed_parts(shape):
    matrix = np.arange(1.0, 1 + np.prod(shape)).reshape(shape)
    tiles = np.asarray(cut_tiles(jnp.asarray(matrix), 4, 3))
    m, n = shape
    for row in range(m):
        for col in range(n):
            assert tiles[col // 4, row // 3, col % 4, row % 3] == matrix[row, col]
    assert (tiles != 0).sum() == m * n
    np.testing.assert_array_equal(join_tiles(jnp.asarray(tiles), shape), matrix)


def test_split_and_join_make_the_product():
    rng = np.random.default_rng(0)
    matrix, x = rng.random((7, 10)), rng.random((3, 10))
    tiles = cut_tiles(jnp.asarray(matrix), 4, 3)
    parts = split_inputs(jnp.asarray(x), 4)
    sums = jnp.einsum("jbr,jirc->ibc", parts, tiles)
    np.testing.assert_allclose(join_outputs(sums, 7), x @ matrix.T, rtol=1e-13)


@pytest.mark.parametrize("scheme", [differential, offset])
def test_mapping_is_undone(scheme):
    weights = jnp.linspace(-1, 1, 21).reshape(3, 7)
    states = scheme(weights)
    assert states.min() >= 0
    assert states.max() <= 1
    np.testing.assert_allclose(signed_weights(states), weights, atol=1e-15)


def test_a_pair_never_uses_both_cells_and_swaps_with_the_sign():
    weights = jnp.linspace(-1, 1, 21).reshape(3, 7)
    positive, negative = differential(weights)
    assert not (positive * negative).any()
    np.testing.assert_array_equal(differential(-weights)[::-1], differential(weights))


def test_scales_cover_what_they_say():
    tiles = jnp.asarray(np.random.default_rng(1).normal(size=(4, 6, 5)))
    tiles = tiles.at[2, :, 3].set(0)
    size = np.abs(np.asarray(tiles))
    np.testing.assert_array_equal(global_scale(tiles), np.full((4, 5), size.max()))
    np.testing.assert_array_equal(
        tile_scale(tiles), np.repeat(size.max((1, 2))[:, None], 5, 1)
    )
    expected = size.max(1)
    expected[2, 3] = 1  # a bit line of zeros
    np.testing.assert_array_equal(column_scale(tiles), expected)
