import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tolerances import gamma

from sedma_jax import kernels

RNG = np.random.default_rng(1)
PEERS = 50
AVAILABILITY = RNG.uniform(0, 1, PEERS)
LATENCY = RNG.lognormal(3, 1.5, PEERS)
MEMORY = RNG.exponential(8, PEERS)
WEIGHTS = np.array([0.5, 1.5, 0.25])


def terms(dtype=jnp.float64):
    return kernels.peer_terms(
        *(jnp.asarray(a, dtype) for a in (AVAILABILITY, LATENCY, MEMORY))
    )


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_scores_are_equation_7(dtype):
    # Eq. 7 with weights in 1, ms and 1/GB, peer by peer.
    w1, w2, w3 = WEIGHTS * [1, 10, 1 / 8]
    expected = [
        w1 * a + w2 / max(t, 1) + w3 * m
        for a, t, m in zip(AVAILABILITY, LATENCY, MEMORY, strict=True)
    ]
    scores = kernels.peer_scores(jnp.asarray(WEIGHTS, dtype), terms(dtype))
    assert scores.dtype == dtype
    np.testing.assert_allclose(scores, expected, rtol=gamma(8, dtype))


def test_latency_below_a_millisecond_counts_as_one():
    one = jnp.ones(2)
    assert kernels.peer_terms(one, jnp.array([0.0, 1.0]), one)[:, 1].tolist() == [10, 10]


def test_the_best_usable_peers_are_selected_in_order():
    scores = jnp.array([1.0, 5.0, 3.0, 5.0, 2.0])
    usable = jnp.array([True, False, True, True, True])
    indices, found = jax.jit(kernels.select_peers, static_argnums=2)(scores, usable, 3)
    assert indices.tolist() == [3, 2, 4]
    assert found.all()


def test_selection_says_where_no_peer_is_left():
    usable = jnp.array([False, True, False])
    indices, found = kernels.select_peers(jnp.arange(3.0), usable, 2)
    assert indices[0] == 1
    assert found.tolist() == [True, False]


def test_gradient_of_the_log_likelihood_is_the_closed_form():
    attempted = RNG.integers(0, 9, PEERS).astype(float)
    completed = np.floor(attempted * RNG.uniform(0, 1, PEERS))
    z = np.asarray(terms())
    rate = 1 / (1 + np.exp(-(z @ WEIGHTS - 1.0)))
    residual = completed - attempted * rate
    model = kernels.TransferModel(jnp.asarray(WEIGHTS), jnp.asarray(-1.0))
    gradient = jax.grad(kernels.transfer_log_likelihood)(
        model, terms(), jnp.asarray(completed), jnp.asarray(attempted)
    )
    bound = gamma(8 * PEERS, float) * (np.abs(residual) @ z).sum() / attempted.sum()
    np.testing.assert_allclose(gradient.weights, residual @ z / attempted.sum(), atol=bound)
    np.testing.assert_allclose(gradient.bias, residual.sum() / attempted.sum(), atol=bound)


def test_an_empty_window_has_no_gradient():
    model = kernels.TransferModel(jnp.ones(3), jnp.asarray(0.0))
    zeros = jnp.zeros(PEERS)
    gradient = jax.grad(kernels.transfer_log_likelihood)(model, terms(), zeros, zeros)
    assert not gradient.weights.any() and gradient.bias == 0
