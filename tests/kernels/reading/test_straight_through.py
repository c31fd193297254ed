import jax
import jax.numpy as jnp
import numpy as np
from sedma_jax.kernels import clip_columns, digitise, digitise_straight_through


def test_value_of_the_converter_and_gradient_of_the_identity_inside():
    values = jnp.array([-1.5, -1.0, -0.31, 0.0, 0.49, 1.0, 1.01])
    weights = jnp.arange(1.0, 8.0)
    convert = lambda v: digitise_straight_through(v, 1.0, bits=4)
    np.testing.assert_array_equal(convert(values), digitise(values, 1.0, bits=4))
    gradient = jax.grad(lambda v: weights @ convert(v))(values)
    np.testing.assert_array_equal(gradient, [0, 2, 3, 4, 5, 6, 0])


def test_columns_are_clipped_at_their_root_mean_square():
    tiles = np.random.default_rng(0).normal(size=(2, 6, 3))
    used = jnp.array([6, 4], jnp.int32)
    tiles[1, 4:] = 0
    clip = lambda t: clip_columns(t, 1.2, used)
    for tile, clipped, rows in zip(tiles, clip(jnp.asarray(tiles)), used, strict=True):
        limit = 1.2 * np.sqrt((tile[: int(rows)] ** 2).mean(0))
        np.testing.assert_allclose(clipped, np.clip(tile, -limit, limit), rtol=1e-14)
    gradient = jax.grad(lambda t: jnp.sum(clip(t)))(jnp.asarray(tiles))
    assert set(np.unique(gradient[0])) == {0.0, 1.0}
