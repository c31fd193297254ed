import jax.numpy as jnp
import numpy as np
from sedma_jax.kernels import correct_first_order


def test_first_order_leaves_the_product_of_the_errors():
    rng = np.random.default_rng(5)
    A, x = rng.normal(size=(9, 7)), rng.normal(size=7)
    E, e = 1e-3 * rng.normal(size=(9, 7)), 1e-3 * rng.normal(size=7)
    args = (jnp.asarray(v) for v in (A, A + E, x, x + e))
    p = correct_first_order(*args)
    np.testing.assert_allclose(p, A @ x - E @ e, rtol=0, atol=1e-14)
