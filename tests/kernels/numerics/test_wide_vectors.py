import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from sedma_jax.kernels import normal_pair, wide_jit


def draw(x):
    return x[None] * jnp.stack(normal_pair(jr.key(3), x.shape, x.dtype))


def test_results_are_the_same_bit_for_bit():
    x = jnp.linspace(-1, 1, 1003, dtype=np.float32)
    call = wide_jit(lambda x: draw(x))  # with caches of its own
    np.testing.assert_array_equal(call(x), jax.jit(draw)(x))
    assert [call.wide._cache_size(), call.plain._cache_size()] == [1, 0]


def test_other_transformations_take_it_in():
    x, call = jnp.linspace(-1, 1, 12), wide_jit(lambda x: draw(x))
    expected = draw(x)
    np.testing.assert_allclose(jax.jit(call)(x), expected, rtol=1e-12)
    np.testing.assert_allclose(jax.jit(lambda: call(x))(), expected, rtol=1e-12)
    np.testing.assert_allclose(jax.vmap(call)(x[None])[0], expected, rtol=1e-12)
    slope = jax.grad(lambda x: call(x).sum())(x)
    np.testing.assert_allclose(slope, draw(jnp.ones(12)).sum(0), rtol=1e-12)
    assert call.wide._cache_size() == 0


def test_static_arguments_and_names_are_kept():
    call = wide_jit(lambda x, n: x * n, static_argnames="n")
    assert call(jnp.ones(2), n=3).tolist() == [3, 3]
    assert wide_jit(draw).__name__ == "draw"
