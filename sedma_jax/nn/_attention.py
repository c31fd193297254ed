"""Attention whose projections crossbar arrays hold."""

import math
from collections.abc import Callable, Iterable

import equinox as eqx
import jax
import jax.lax as lax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from ._layers import AnalogLinear

PROJECTIONS = ("query_proj", "key_proj", "value_proj", "output_proj")


class AnalogAttention(eqx.Module):
    """`equinox.nn.MultiheadAttention` with its four projections on crossbar arrays.

    Scores, softmax and the weighted sum are digital. `analogize` makes one from an
    attention layer, on its own or inside a model.

    - `query_proj`, `key_proj`, `value_proj`, `output_proj`: the projections.
    - `dropout`: of the attention weights.
    - `layer`: the digital layer without its weights.

    **Example:**

        >>> import equinox as eqx
        >>> layer = eqx.nn.MultiheadAttention(num_heads=2, query_size=4, key=jr.key(0))
        >>> analog = sj.nn.analogize(layer, "epiram", array=4, key=jr.key(1))
        >>> tokens = jr.normal(jr.key(2), (5, 4))
        >>> y = analog(tokens, tokens, tokens, key=jr.key(3))
        >>> y.shape, bool(jnp.max(jnp.abs(y - layer(tokens, tokens, tokens))) < 0.3)
        ((5, 4), True)
    """

    query_proj: AnalogLinear
    key_proj: AnalogLinear
    value_proj: AnalogLinear
    output_proj: AnalogLinear
    dropout: eqx.nn.Dropout
    layer: eqx.nn.MultiheadAttention = eqx.field(static=True)

    def __call__(
        self,
        query: Float[Array, "q_seq q_size"],
        key_: Float[Array, "kv_seq k_size"],
        value: Float[Array, "v_seq v_size"],
        mask: Bool[Array, "q_seq kv_seq"] | Bool[Array, "heads q_seq kv_seq"] | None = None,
        *,
        key: PRNGKeyArray | None = None,
        inference: bool | None = None,
        process_heads: Callable | None = None,
    ) -> Float[Array, "q_seq o_size"]:
        """Attend as the digital layer does; each token has its own read noise.

        **Arguments:**

        - `query`, `key_`, `value`, `mask`, `inference`, `process_heads`: as in
            `equinox.nn.MultiheadAttention`.
        - `key`: key of the reads of all projections, and of dropout.

        **Raises:**

        - `ValueError`: if `key_` and `value` differ in length; if a key is missing; if
            `process_heads` changes a shape.
        """
        if len(key_) != len(value):
            raise ValueError(
                "`sedma_jax.nn.AnalogAttention` needs as many keys as values. "
                f"Got {len(key_)} and {len(value)}. Pass one value for each key."
            )
        keys = [None] * 5 if key is None else list(jr.split(key, 5))
        heads = tuple(
            projection(x, key=key).reshape(len(x), self.layer.num_heads, -1)
            for projection, x, key in zip(
                (self.query_proj, self.key_proj, self.value_proj),
                (query, key_, value),
                keys,
                strict=False,
            )
        )
        if process_heads is not None:
            shapes = [h.shape for h in heads]
            heads = process_heads(*heads)
            if [h.shape for h in heads] != shapes:
                raise ValueError(
                    "`sedma_jax.nn.AnalogAttention` needs `process_heads` to keep the "
                    f"shapes of the heads, {shapes}. Got {[h.shape for h in heads]}. "
                    "Return each head in its own shape."
                )
        q, k, v = heads
        highest = lax.Precision.HIGHEST
        scores = jnp.einsum("qhd,khd->hqk", q, k, precision=highest)
        scores = scores / math.sqrt(q.shape[-1])
        if mask is not None:
            mask = mask if mask.ndim == 3 else mask[None]
            scores = jnp.where(mask, scores, jnp.finfo(scores.dtype).min)
        weights = self.dropout(
            jax.nn.softmax(scores, axis=-1), key=keys[3], inference=inference
        )
        mixed = jnp.einsum("hqk,khd->qhd", weights, v, precision=highest)
        return self.output_proj(mixed.reshape(len(query), -1), key=keys[4])

    def digital(self) -> eqx.nn.MultiheadAttention:
        """The digital layer with the weights that the arrays hold."""
        held = [getattr(self, name).digital() for name in PROJECTIONS]
        parts = [*held, self.dropout]
        return eqx.tree_at(_parts, self.layer, parts, is_leaf=lambda x: x is None)


def attention(
    layer: eqx.nn.MultiheadAttention, projections: Iterable[AnalogLinear]
) -> AnalogAttention:
    """The analog layer of projections that are programmed already."""
    empty = eqx.tree_at(_parts, layer, [None] * (len(PROJECTIONS) + 1))
    query, key_, value, output = projections
    return AnalogAttention(
        query_proj=query,
        key_proj=key_,
        value_proj=value,
        output_proj=output,
        dropout=layer.dropout,
        layer=empty,
    )


def _parts(layer: eqx.nn.MultiheadAttention) -> list:
    return [getattr(layer, name) for name in (*PROJECTIONS, "dropout")]
