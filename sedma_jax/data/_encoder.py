"""The encoder of BERT, which embeds a sentence as one vector."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.lax as lax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray


class EncoderLayer(eqx.Module):
    """One layer of `SentenceEncoder`: attention, then two linear layers at each place.

    A norm follows each of the two, after what went in is added (Devlin et al. 2019, NAACL).

    - `query`, `key`, `value`, `out`: of attention, width to width.
    - `fc1`, `fc2`: width to hidden and back, with an exact GELU between them.
    - `attention_norm`, `output_norm`: over the width.
    - `heads`: number of heads, which divides the width.

    **Example:**

        >>> import equinox as eqx
        >>> linear, norm = eqx.nn.Linear(4, 4, key=jr.key(0)), eqx.nn.LayerNorm(4)
        >>> layer = sj.data.EncoderLayer(*[linear] * 4, norm, linear, linear, norm, heads=2)
        >>> mask = jnp.array([True, True, False])
        >>> run, x = jax.jit(lambda x: layer(x, mask)[:2]), jr.normal(jr.key(1), (3, 4))
        >>> change = run(x) - run(x.at[2].set(9.0))  # what the mask leaves out is not seen
        >>> print(np.abs(change).max().round(5))
        0.0
    """

    query: eqx.nn.Linear
    key: eqx.nn.Linear
    value: eqx.nn.Linear
    out: eqx.nn.Linear
    attention_norm: eqx.nn.LayerNorm
    fc1: eqx.nn.Linear
    fc2: eqx.nn.Linear
    output_norm: eqx.nn.LayerNorm
    heads: int = eqx.field(static=True)

    def __call__(
        self,
        x: Float[Array, "length width"],
        mask: Bool[Array, " length"],
        *,
        key: PRNGKeyArray | None = None,
    ) -> Float[Array, "length width"]:
        """Compute the new states of the places; only those in `mask` are attended to.

        `key` is for layers that are noisy when read, as analog ones are.
        """
        keys = [None] * 6 if key is None else list(jr.split(key, 6))
        split = lambda y: y.reshape(len(y), self.heads, -1)
        q, k, v = (
            split(_at_each_place(linear, x, key))
            for linear, key in zip((self.query, self.key, self.value), keys, strict=False)
        )
        exact = lax.Precision.HIGHEST
        scores = jnp.einsum("ihd,jhd->hij", q, k, precision=exact) * q.shape[-1] ** -0.5
        weights = jax.nn.softmax(jnp.where(mask[None, None], scores, -jnp.inf), axis=-1)
        mixed = jnp.einsum("hij,jhd->ihd", weights, v, precision=exact)
        mixed = _at_each_place(self.out, mixed.reshape(x.shape), keys[3])
        x = jax.vmap(self.attention_norm)(x + mixed)
        hidden = jax.nn.gelu(_at_each_place(self.fc1, x, keys[4]), approximate=False)
        return jax.vmap(self.output_norm)(x + _at_each_place(self.fc2, hidden, keys[5]))


class SentenceEncoder(eqx.Module):
    """A transformer that turns a sentence into one vector of unit length.

    It is BERT (Devlin et al. 2019, NAACL), whose states are averaged over the places of the
    sentence (Reimers & Gurevych 2019, EMNLP). Its linear layers are `equinox.nn.Linear`, or
    layers that replace them, such as `sedma_jax.nn.AnalogLinear`, and are called with all
    places of a sentence at once: `layer(x, key=key)` with `x` of `(length, inputs)`.

    - `words`, `positions`, `types`: embeddings of words, of places and of the two kinds of
        sentences, of which the first is taken. They are added, and `norm` is applied.
    - `layers`: of attention, in their order.

    **Example:**

        >>> import equinox as eqx
        >>> tables = (eqx.nn.Embedding(8, 4, key=key) for key in jr.split(jr.key(0), 3))
        >>> encoder = sj.data.SentenceEncoder(*tables, eqx.nn.LayerNorm(4), layers=())
        >>> run = jax.jit(lambda tokens: encoder(tokens, jnp.array([True, True, False])))
        >>> v, w = run(jnp.array([5, 3, 0])), run(jnp.array([5, 3, 7]))  # two, and padding
        >>> print(np.linalg.norm(v).round(5), np.linalg.norm(v - w).round(5))
        1.0 0.0
    """

    words: eqx.nn.Embedding
    positions: eqx.nn.Embedding
    types: eqx.nn.Embedding
    norm: eqx.nn.LayerNorm
    layers: tuple[EncoderLayer, ...]

    def __call__(
        self,
        tokens: Int[Array, " length"],
        mask: Bool[Array, " length"],
        *,
        key: PRNGKeyArray | None = None,
    ) -> Float[Array, " width"]:
        """Embed one sentence.

        **Arguments:**

        - `tokens`: numbers of the words; at most as many as there are positions.
        - `mask`: which tokens count, at least one; the others are padding.
        - `key`: for layers that are noisy when read, as analog ones are.

        **Returns:**

        A vector of length 1.

        **Raises:**

        - `ValueError`: if there are more tokens than positions.
        """
        if len(tokens) > self.positions.num_embeddings:
            raise ValueError(
                "`sedma_jax.data.SentenceEncoder` needs at most "
                f"{self.positions.num_embeddings} tokens. Got {len(tokens)}. Cut the text."
            )
        keys = [None] * len(self.layers) if key is None else jr.split(key, len(self.layers))
        x = jax.vmap(self.words)(tokens) + self.positions.weight[: len(tokens)]
        x = jax.vmap(self.norm)(x + self.types.weight[:1])
        with jax.default_matmul_precision("highest"):
            for layer, layer_key in zip(self.layers, keys, strict=True):
                x = layer(x, mask, key=layer_key)
        counts = mask.astype(x.dtype)
        mean = jnp.matmul(counts, x, precision=lax.Precision.HIGHEST) / jnp.sum(counts)
        return mean / jnp.linalg.norm(mean)


def _at_each_place(
    layer: Callable[..., Any], x: Float[Array, "length inputs"], key: PRNGKeyArray | None
) -> Float[Array, "length outputs"]:
    """Apply a layer at each place; layers other than Equinox's take all places at once."""
    if isinstance(layer, eqx.nn.Linear):
        return jax.vmap(layer)(x)
    return layer(x, key=key)
