"""Score peers, choose among them, and say how likely a transfer is to complete.

The score of a peer is a weighted sum of its resources (SEDMA, Eq. 7),

    score = w1 availability + w2 / latency + w3 free memory.

The three terms differ by orders of magnitude (1/ms, GB), so that `peer_terms` counts each
in a unit of its own, and the weights are dimensionless. A transfer completes with
probability

    success rate = 1 / (1 + exp(-(score + bias))),

which is fitted to recorded transfers: the gradient of `transfer_log_likelihood` is the
derivative in Eq. 8.
"""

import equinox as eqx
import jax
import jax.lax as lax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

LATENCY_UNIT = 10.0  # ms: a round trip inside one region counts as 1
LATENCY_FLOOR = 1.0  # ms: below it latency makes no difference, as on loopback
MEMORY_UNIT = 8.0  # GB: a small machine, half of it free, counts as 1


class TransferModel(eqx.Module):
    """What makes a transfer succeed.

    - `weights`: of the three terms of the score (Eq. 7), dimensionless.
    - `bias`: log odds of success at score 0.

    **Example:**

        >>> model = sj.kernels.TransferModel(jnp.ones(3), jnp.array(0.0))
        >>> terms = sj.kernels.peer_terms(*(jnp.array([v]) for v in (0.5, 20.0, 8.0)))
        >>> score = sj.kernels.peer_scores(model.weights, terms) + model.bias
        >>> print(np.asarray(score).round(3))  # 0.5 + 10 / 20 + 8 / 8
        [2.]
        >>> print(np.asarray(jax.nn.sigmoid(score)).round(3))  # success rate
        [0.881]
    """

    weights: Float[Array, "3"]
    bias: Float[Array, ""]


def peer_terms(
    availability: Float[Array, " peers"],
    latency: Float[Array, " peers"],
    memory_free: Float[Array, " peers"],
) -> Float[Array, "peers 3"]:
    """Compute the three terms of Eq. 7, each in a unit of its own.

    **Arguments:**

    - `availability`: fraction of idle cores, 0 to 1.
    - `latency`: round-trip time, in ms. Below 1 ms it counts as 1 ms.
    - `memory_free`: in GB (10^9 bytes).

    **Returns:**

    `(availability, 10 ms / latency, memory_free / 8 GB)` for each peer.

    **Example:**

        >>> idle, ms, gigabytes = jnp.array([0.5]), jnp.array([20.0]), jnp.array([16.0])
        >>> print(sj.kernels.peer_terms(idle, ms, gigabytes))
        [[0.5 0.5 2. ]]
    """
    return jnp.stack(
        [
            availability,
            LATENCY_UNIT / jnp.maximum(latency, LATENCY_FLOOR),
            memory_free / MEMORY_UNIT,
        ],
        axis=-1,
    )


def peer_scores(
    weights: Float[Array, "3"], terms: Float[Array, "peers 3"]
) -> Float[Array, " peers"]:
    """Evaluate Eq. 7 for all peers at once; `terms` as `peer_terms` returns them.

    **Example:**

        >>> terms = jnp.array([[0.5, 0.5, 2.0], [1.0, 10.0, 1.0]])
        >>> print(sj.kernels.peer_scores(jnp.array([1.0, 2.0, 1.0]), terms))
        [ 3.5 22. ]
    """
    return jnp.matmul(terms, weights, precision=lax.Precision.HIGHEST)


def select_peers(
    scores: Float[Array, " peers"], usable: Bool[Array, " peers"], k: int
) -> tuple[Int[Array, " k"], Bool[Array, " k"]]:
    """Select the `k` usable peers of highest score, best first.

    **Arguments:**

    - `scores`: one finite number per peer.
    - `usable`: False for peers that must not be chosen.
    - `k`: 1 to the number of peers. Static.

    **Returns:**

    Their indices, and True where a usable peer was left: with fewer than `k` usable peers
    the last entries are False. Among equal scores the lower index comes first.

    **Example:**

        >>> usable = jnp.array([True, False, True])
        >>> best, found = sj.kernels.select_peers(jnp.array([1.0, 9.0, 2.0]), usable, 3)
        >>> print(best[:2], found)  # the peer of score 9 must not be chosen
        [2 0] [ True  True False]
    """
    best, indices = lax.top_k(jnp.where(usable, scores, -jnp.inf), k)
    return indices, best > -jnp.inf


def transfer_log_likelihood(
    model: TransferModel,
    terms: Float[Array, "transfers 3"],
    completed: Float[Array, " transfers"],
    attempted: Float[Array, " transfers"],
) -> Float[Array, ""]:
    """Mean log-likelihood, in nats per attempt, of recorded transfers.

    **Arguments:**

    - `model`: the weights and bias to be fitted.
    - `terms`: terms of the peer of each transfer, at the time it was chosen.
    - `completed`, `attempted`: parts of each transfer, `0 <= completed <= attempted`.
        A row of zeros has no effect, so that a window need not be full.

    **Returns:**

    A number of at most 0. Its gradient in `model.weights` is
    `sum((completed - attempted * rate) * terms) / sum(attempted)`.

    **Example:**

        >>> model = sj.kernels.TransferModel(jnp.zeros(3), jnp.array(0.0))  # even odds
        >>> terms, parts = jnp.ones((2, 3)), jnp.array([1.0, 0.0])
        >>> value = sj.kernels.transfer_log_likelihood(model, terms, parts, jnp.ones(2))
        >>> print(np.asarray(value).round(3), round(np.log(0.5), 3))
        -0.693 -0.693
    """
    logits = peer_scores(model.weights, terms) + model.bias
    total = completed * jax.nn.log_sigmoid(logits) + (
        attempted - completed
    ) * jax.nn.log_sigmoid(-logits)
    return jnp.sum(total) / jnp.maximum(jnp.sum(attempted), 1)
