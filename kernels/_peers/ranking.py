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
    """Rank by Eq. 7, with peers in exile last."""
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
    """Rank by the XOR metric of the routing table alone."""
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
    """Rank at random."""
    return jr.uniform(key, names.shape, terms.dtype)
