import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sedma_jax.kernels import nearest_rows
from tolerances import gamma


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_against_distances_in_double_precision(dtype):
    rng = np.random.default_rng(1)
    occupied = rng.random(200) < 0.7
    # Units differ by far; one feature is large and varies little, one not at all.
    scale = np.array([1e-6, 1.0, 1e5, 1.0, 1.0])
    table = (rng.normal(size=(200, 5)) * scale + [0, 0, 0, 100.0, 0]).astype(dtype)
    table[:, 4] = 3.0
    query = table[17] + (0.1 * scale).astype(dtype)
    index, distance = jax.jit(nearest_rows, static_argnames="k")(
        jnp.asarray(table), jnp.asarray(occupied), jnp.asarray(query), k=9
    )
    assert distance.dtype == dtype
    known = table[occupied].astype(np.float64)
    spread = known.std(axis=0)
    spread[4] = 1.0
    exact = np.linalg.norm((table.astype(np.float64) - query) / spread, axis=1)
    exact[~occupied] = np.inf
    # The spread of feature 3 is known to the rounding of its mean, 100, of 1.
    bound = 100 * gamma(200, dtype)
    np.testing.assert_array_equal(np.argsort(exact)[:9], index)
    np.testing.assert_allclose(distance, np.sort(exact)[:9], rtol=bound)


def test_few_rows_and_overflow():
    table = jnp.zeros((8, 1)).at[:3, 0].set(jnp.asarray([0.0, 1e-15, 1e15]))
    occupied = jnp.arange(8) < 3
    index, distance = nearest_rows(table, occupied, jnp.asarray([1e15]), k=8)
    assert index[0] == 2 and distance[0] == 0
    assert sorted(index[:3].tolist()) == [0, 1, 2]
    assert np.isfinite(distance[:3]).all() and np.isinf(distance[3:]).all()
    empty = nearest_rows(table, jnp.zeros(8, bool), jnp.asarray([1.0]), k=1)[1]
    assert np.isinf(empty).all()


def test_equal_distances_keep_the_order_of_the_table():
    table = jnp.asarray([[1.0], [0.0], [1.0], [0.0]])
    index, _ = nearest_rows(table, jnp.ones(4, bool), jnp.asarray([0.5]), k=4)
    assert index.tolist() == [0, 1, 2, 3]


def test_a_batch_is_its_queries():
    rng = np.random.default_rng(2)
    table, queries = (jnp.asarray(rng.normal(size=(n, 3))) for n in (16, 2))
    occupied = jnp.ones(16, bool)
    index, distance = jax.vmap(lambda q: nearest_rows(table, occupied, q, k=4))(queries)
    for i, query in enumerate(queries):
        alone = nearest_rows(table, occupied, query, k=4)
        np.testing.assert_array_equal(index[i], alone[0])
        np.testing.assert_allclose(distance[i], alone[1], rtol=gamma(40, np.float64))


@pytest.mark.parametrize("k", [0, 5])
def test_more_than_there_are(k):
    with pytest.raises(ValueError, match="from 1 to the 4 rows"):
        nearest_rows(jnp.zeros((4, 1)), jnp.ones(4, bool), jnp.zeros(1), k=k)
