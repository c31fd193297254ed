"""Fit log-normal distributions to recorded times of transfers."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def fit_log_normal(
    seconds: Float[Array, " attempts"],
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Maximum-likelihood mean and standard deviation of the logarithm.

    **Arguments:**

    - `seconds`: positive times of at least one attempt.

    **Example:**

        >>> mean, spread = sj.kernels.fit_log_normal(jnp.exp(jnp.array([1.0, 3.0])))
        >>> print(np.asarray(mean).round(3), np.asarray(spread).round(3))
        2.0 1.0
    """
    logs = jnp.log(seconds)
    return logs.mean(), logs.std()


def fit_shared_log_normal(
    seconds: Float[Array, "requests peers"],
) -> tuple[Float[Array, " peers"], Float[Array, ""], Float[Array, ""]]:
    """Log means of peers, their own log spread, and the one shared within a request.

    The estimate is an analysis of variance: the own spread is the residual of a two-way
    layout without interaction, and the shared one is the scatter of the request means
    beyond it.

    **Arguments:**

    - `seconds`: positive times of two or more peers asked in each of two or more requests.

    **Example:**

        >>> seconds = jnp.exp(jnp.array([[0.0, 1.0], [2.0, 3.0]]))  # the peers differ by e
        >>> peers, own, shared = sj.kernels.fit_shared_log_normal(seconds)
        >>> print(np.asarray(peers).round(3), bool(own < 1e-3))  # both requests show it
        [1. 2.] True
    """
    logs = jnp.log(seconds)
    requests, peers = logs.shape
    of_peers, of_requests = logs.mean(0), logs.mean(1, keepdims=True)
    residual = logs - of_peers[None] - of_requests + logs.mean()
    own = (residual**2).sum() / ((requests - 1) * (peers - 1))
    shared = jnp.maximum(of_requests.var(ddof=1) - own / peers, 0)
    return of_peers, jnp.sqrt(own), jnp.sqrt(shared)
