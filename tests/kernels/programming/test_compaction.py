import jax
import numpy as np
import pytest
from sedma_jax.kernels._programming.compaction import compacted, count_before


@pytest.mark.parametrize(("width", "size"), [(1, 1), (37, 12), (64, 64)])
@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_chosen_lanes_are_packed_in_order(width, size, share):
    chosen = np.random.default_rng(width).random((2, 5, width)) < share
    before = jax.jit(count_before)(chosen)
    np.testing.assert_array_equal(before, np.cumsum(chosen, axis=2) - chosen)
    lane, held = jax.jit(compacted, static_argnums=2)(chosen, before, size)
    assert lane.shape == held.shape == (2, 5, size)
    for place in np.ndindex(2, 5):
        expected = np.flatnonzero(chosen[place])[:size]
        np.testing.assert_array_equal(lane[place][held[place]], expected)
        np.testing.assert_array_equal(held[place], np.arange(size) < len(expected))
