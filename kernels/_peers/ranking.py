"""Rank the holders of a tensor: the policies of the clients of `peer_network.py`."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float, PRNGKeyArray, UInt32

from .peer_choice import TransferModel, peer_scores

Rank = Callable[..., Float[Array, "requests holders"]]


def rank_by_score(
    model: TransferModel,
    terms: Float[Array, "requests holders 3"],
    names: UInt32[Array, "requests holders"],
    content: UInt32[Array, " requests"],
    exiled: Bool[Array, "requests holders"],
    *,
    key: PRNGKeyArray,
) -> Float[Array, "requests holders"]:
    """Rank by the score of Eq. 7, with peers in exile last.

    **Arguments:**

    - `model`: weights of the score.
    - `terms`: terms of each holder of the tensor of each request, from `peer_terms`.
    - `names`, `content`: keys of peers and of tensors in the routing table.
    - `exiled`: peers that sent what their digest does not match.
    - `key`: typed key, for ranks that are drawn.

    **Returns:**

    A number for each holder; the one of the highest is asked first.

    **Example:**

        >>> model = sj.kernels.TransferModel(jnp.ones(3), jnp.array(0.0))
        >>> terms = jnp.array([[[1.0, 1.0, 1.0], [0.0, 1.0, 1.0]]])
        >>> names = jnp.zeros((1, 2), jnp.uint32)
        >>> content, exiled = jnp.zeros(1, jnp.uint32), jnp.zeros((1, 2), bool)
        >>> known = (model, terms, names, content, exiled)
        >>> print(jnp.argsort(-sj.kernels.rank_by_score(*known, key=jr.key(0))))
        [[0 1]]
    """
    scores = jax.vmap(lambda t: peer_scores(model.weights, t))(terms)
    return jnp.where(exiled, -jnp.inf, scores)


def rank_by_distance(
    model: TransferModel,
    terms: Float[Array, "requests holders 3"],
    names: UInt32[Array, "requests holders"],
    content: UInt32[Array, " requests"],
    exiled: Bool[Array, "requests holders"],
    *,
    key: PRNGKeyArray,
) -> Float[Array, "requests holders"]:
    """Rank by the XOR metric of the routing table: the name nearest the content first.

    Arguments and result are those of `rank_by_score`.

    **Example:**

        >>> model = sj.kernels.TransferModel(jnp.ones(3), jnp.array(0.0))
        >>> terms, names = jnp.ones((1, 2, 3)), jnp.array([[12, 5]], jnp.uint32)
        >>> content, exiled = jnp.array([4], jnp.uint32), jnp.zeros((1, 2), bool)
        >>> known = (model, terms, names, content, exiled)
        >>> print(jnp.argsort(-sj.kernels.rank_by_distance(*known, key=jr.key(0))))
        [[1 0]]
    """
    return -(names ^ content[:, None]).astype(terms.dtype)


def rank_at_random(
    model: TransferModel,
    terms: Float[Array, "requests holders 3"],
    names: UInt32[Array, "requests holders"],
    content: UInt32[Array, " requests"],
    exiled: Bool[Array, "requests holders"],
    *,
    key: PRNGKeyArray,
) -> Float[Array, "requests holders"]:
    """Rank at random. Arguments and result are those of `rank_by_score`.

    **Example:**

        >>> model = sj.kernels.TransferModel(jnp.ones(3), jnp.array(0.0))
        >>> terms, names = jnp.ones((1, 2, 3)), jnp.array([[12, 5]], jnp.uint32)
        >>> content, exiled = jnp.array([4], jnp.uint32), jnp.zeros((1, 2), bool)
        >>> known = (model, terms, names, content, exiled)
        >>> sj.kernels.rank_at_random(*known, key=jr.key(0)).shape
        (1, 2)
    """
    return jr.uniform(key, names.shape, terms.dtype)
