"""Attention whose projections crossbar arrays hold."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import equinox as eqx
import jax
import jax.lax as lax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from ._keys import call_key
from ._layers import AnalogLinear
from ._rewritten import RewriteCost, RewrittenArrays, both, written_products

# What the key of a call makes of this number writes keys and values.
_WRITING = 5
PROJECTIONS = ("query_proj", "key_proj", "value_proj", "output_proj")


class AnalogAttention(eqx.Module):
    """`equinox.nn.MultiheadAttention` with its four projections on crossbar arrays.

    Scores, softmax and the weighted sum are digital. With `products` the keys and the
    values of each call are written to arrays, which compute scores and sum; softmax stays
    digital. `analogize` makes one from an attention layer, on its own or inside a model.

    - `query_proj`, `key_proj`, `value_proj`, `output_proj`: the projections.
    - `dropout`: of the attention weights.
    - `layer`: the digital layer without its weights.
    - `products`: how keys and values are written to arrays, or None.

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
    products: RewrittenArrays | None = None

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
        options: Any = dict(key=key, inference=inference, process_heads=process_heads)
        return self.attend(query, key_, value, mask, **options)[0]

    def attend(
        self,
        query: Float[Array, "q_seq q_size"],
        key_: Float[Array, "kv_seq k_size"],
        value: Float[Array, "v_seq v_size"],
        mask: Bool[Array, "q_seq kv_seq"] | Bool[Array, "heads q_seq kv_seq"] | None = None,
        *,
        key: PRNGKeyArray | None = None,
        inference: bool | None = None,
        process_heads: Callable | None = None,
    ) -> tuple[Float[Array, "q_seq o_size"], RewriteCost | None]:
        """Attend, and say what writing keys and values to arrays took.

        Arguments and errors are those of a call. The cost is None where they are not
        written, or by statistics, which have no pulses.
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
        q, k, v = (jnp.swapaxes(head, 0, 1) for head in heads)
        score_key, mix_key = self._writing_keys(key_, key)
        scores, scored = self._product(q, k, score_key)
        scores = scores / math.sqrt(q.shape[-1])
        if mask is not None:
            mask = mask if mask.ndim == 3 else mask[None]
            scores = jnp.where(mask, scores, jnp.finfo(scores.dtype).min)
        weights = self.dropout(
            jax.nn.softmax(scores, axis=-1), key=keys[3], inference=inference
        )
        mixed, summed = self._product(weights, jnp.swapaxes(v, 1, 2), mix_key)
        mixed = jnp.swapaxes(mixed, 0, 1).reshape(len(query), -1)
        return self.output_proj(mixed, key=keys[4]), both(scored, summed)

    def _product(
        self,
        x: Float[Array, "heads q_seq n"],
        written: Float[Array, "heads m n"],
        key: PRNGKeyArray | None,
    ) -> tuple[Float[Array, "heads q_seq m"], RewriteCost | None]:
        """`x written^T` of each head, on arrays or digitally."""
        if self.products is None or key is None:
            highest = lax.Precision.HIGHEST
            return jnp.einsum("hqn,hmn->hqm", x, written, precision=highest), None
        return written_products(self.products, x, written, key=key)

    def _writing_keys(
        self, x: Array, key: PRNGKeyArray | None
    ) -> tuple[PRNGKeyArray | None, PRNGKeyArray | None]:
        """The keys of both products, from that of the call or of the layer."""
        if self.products is None:
            return None, None
        own = self.key_proj.read_key
        if key is None and own is None:
            raise ValueError(
                "`sedma_jax.nn.AnalogAttention` needs a key to write keys and values to "
                "arrays. Got none. Call `layer(..., key=key)` or give every layer its own "
                "by `sedma_jax.nn.with_read_keys(model, key=key)`."
            )
        key = call_key(self.key_proj.matrix, x, key, own)
        score_key, mix_key = jr.split(jr.fold_in(key, _WRITING))
        return score_key, mix_key

    def digital(self) -> eqx.nn.MultiheadAttention:
        """The digital layer with the weights that the arrays hold."""
        held = [getattr(self, name).digital() for name in PROJECTIONS]
        parts = [*held, self.dropout]
        return eqx.tree_at(_parts, self.layer, parts, is_leaf=lambda x: x is None)


def attention(
    layer: eqx.nn.MultiheadAttention,
    projections: Iterable[AnalogLinear],
    products: RewrittenArrays | None = None,
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
        products=products,
    )


def _parts(layer: eqx.nn.MultiheadAttention) -> list:
    return [getattr(layer, name) for name in (*PROJECTIONS, "dropout")]
