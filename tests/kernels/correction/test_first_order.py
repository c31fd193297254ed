import jax.numpy as jnp
import numpy as np
from sedma_jax.kernels import correct_first_order, first_order_inputs


def test_first_order_leaves_the_product_of_the_errors():
    rng = np.random.default_rng(5)
    A, x = rng.normal(size=(9, 7)), rng.normal(size=7)
    E, e = 1e-3 * rng.normal(size=(9, 7)), 1e-3 * rng.normal(size=7)
    inputs = first_order_inputs(jnp.asarray(x[None]), jnp.asarray((x + e)[None]))
    raw, p = correct_first_order(inputs @ (A + E).T, jnp.asarray((A @ (x + e))[None]))
    np.testing.assert_allclose(raw[0], (A + E) @ x, rtol=0, atol=1e-14)
    np.testing.assert_allclose(p[0], A @ x - E @ e, rtol=0, atol=1e-14)
