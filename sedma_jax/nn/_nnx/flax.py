"""Which layers of NNX arrays can compute, and attention on arrays that each call writes."""

from collections.abc import Callable
from typing import Any

import jax
import jax.lax as lax
import jax.numpy as jnp
import jax.random as jr
from flax import nnx
from jaxtyping import Array, Float, PRNGKeyArray

from ...kernels import Device, ProcessorCost, as_count
from .._channels_last import each_axis
from .._converted import raise_converted
from .._flax_weights import digital_weights_of, layer_path, weights_name
from .._inspect import LayerFigures, digital_figures
from .._paths import Path, path_key, refused_at
from .._rewritten import (
    RewriteCost,
    RewrittenArrays,
    both,
    rewritten_arrays,
    written_products,
)

_BASES = (nnx.Linear, nnx.LinearGeneral, nnx.Conv, nnx.ConvTranspose, nnx.Embed)


def base_of(layer: Any) -> Any:
    """The class of NNX whose product a layer computes, or None."""
    for base in _BASES:
        if isinstance(layer, base) and type(layer).__call__ is base.__call__:
            return base
    return None


def convertible(layer: Any) -> bool:
    """Whether the product of a layer is one that arrays can compute."""
    base = base_of(layer)
    if base is None or getattr(layer, weights_name(layer)) is None:
        return False
    if base is nnx.LinearGeneral:
        own = layer.dot_general, layer.dot_general_cls
        return not layer.batch_axis and own == (None, None)
    if base is nnx.Linear:
        return layer.dot_general is lax.dot_general
    if base is nnx.Conv:
        plain = layer.conv_general_dilated is lax.conv_general_dilated
        return plain and set(each_axis(layer.input_dilation, 1)) == {1}
    if base is nnx.ConvTranspose:
        return layer.padding not in ("CIRCULAR", "CAUSAL")
    return True


def refuse_converted(
    call: str, model: nnx.Module, where: Callable[[Path, Any], bool] | None
) -> None:
    """Refuse layers that are converted already, but those that `where` leaves out."""
    found, kinds = [], set()
    for parts, node in nnx.iter_modules(model):
        kind, path = _converted_kind(node), layer_path(parts)
        if kind is not None and (where is None or where(path, node)):
            found.append(f"{type(node).__name__} at {path!r}")
            kinds.add(kind)
    raise_converted(f"flax.{call}", found, kinds)


def _converted_kind(node: Any) -> str | None:
    if hasattr(node, "hardware") and hasattr(node, "drawn"):
        return "hardware-aware"
    analog = hasattr(node, "kernel_dtype") and hasattr(node, "matrix")
    return "analog" if analog else None


def is_attention(layer: Any) -> bool:
    """Whether a layer is an attention whose products are the usual ones."""
    usual = nnx.dot_product_attention
    return isinstance(layer, nnx.MultiHeadAttention) and layer.attention_fn is usual


class _Arrays(nnx.Variable):
    """How keys and values are written; no `nnx.Param`."""


class WriteCost(nnx.Variable):
    """What writing the arrays of the last call took, a `RewriteCost`."""


class WrittenAttention(nnx.Module):
    """`nnx.dot_product_attention` on arrays to which each call writes keys and values.

    - `arrays`: how they are written, a `RewrittenArrays`.
    - `cost`: what that took in the last call; None by statistics, which have no pulses.
    - `reads`: stream of the keys of writing and reading.
    """

    def __init__(self, arrays: RewrittenArrays, reads: nnx.RngStream, pulses: bool):
        nothing = jnp.zeros((), jnp.float32)
        cost = RewriteCost(as_count(0), nothing, nothing)
        self.arrays = _Arrays(arrays)
        self.cost = WriteCost(cost) if pulses else nnx.data(None)
        self.reads = reads

    def __call__(
        self,
        query: Float[Array, "*batch q_seq heads depth"],
        key: Float[Array, "*batch kv_seq kv_heads depth"],
        value: Float[Array, "*batch kv_seq kv_heads v_depth"],
        bias: Array | None = None,
        mask: Array | None = None,
        broadcast_dropout: bool = True,
        dropout_rng: PRNGKeyArray | None = None,
        dropout_rate: float = 0.0,
        deterministic: bool = False,
        dtype: Any = None,
        precision: Any = None,
        module: Any = None,
        is_causal: bool = False,
    ) -> Float[Array, "*batch q_seq heads v_depth"]:
        """Attend; arguments are those of `nnx.dot_product_attention`."""
        del precision
        dtype = dtype or jnp.result_type(query, key, value)
        query, key, value = (x.astype(dtype) for x in (query, key, value))
        *batch, q_seq, heads, depth = query.shape
        kv_seq, kv_heads = key.shape[-3:-1]
        score_key, mix_key = jr.split(self.reads())
        # Several heads of queries may share one of keys, whose arrays they all drive.
        q = query / jnp.sqrt(depth).astype(dtype)
        q = jnp.moveaxis(q, -3, -2).reshape(-1, heads // kv_heads * q_seq, depth)
        heads_first = lambda x: jnp.moveaxis(x, -3, -2).reshape(-1, kv_seq, x.shape[-1])
        k, v = heads_first(key), heads_first(value)
        arrays = self.arrays.get_value()
        scores, scored = written_products(arrays, q, k, key=score_key)
        scores = scores.reshape(*batch, heads, q_seq, kv_seq)
        if bias is not None:
            scores = scores + bias
        if is_causal:
            causal = jnp.tri(q_seq, kv_seq, dtype=bool)
            mask = causal if mask is None else mask.astype(bool) & causal
        if mask is not None:
            scores = jnp.where(mask, scores, jnp.finfo(dtype).min)
        weights = jax.nn.softmax(scores).astype(dtype)
        if module:
            module.sow(nnx.Intermediate, "attention_weights", weights)
        if not deterministic and dropout_rate > 0 and dropout_rng is not None:
            shape = (1,) * (len(batch) + 1) if broadcast_dropout else (*batch, heads)
            share = 1 - dropout_rate
            keep = jr.bernoulli(dropout_rng, share, (*shape, q_seq, kv_seq))
            weights = weights * keep.astype(dtype) / jnp.asarray(share, dtype)
        mixed = weights.reshape(-1, heads // kv_heads * q_seq, kv_seq)
        y, summed = written_products(arrays, mixed, jnp.swapaxes(v, 1, 2), key=mix_key)
        cost = both(scored, summed)
        if cost is not None and self.cost is not None:
            energy, latency = (f.astype(jnp.float32) for f in (cost.energy, cost.latency))
            self.cost.set_value(RewriteCost(cost.pulses, energy, latency))
        return jnp.moveaxis(y.reshape(*batch, heads, q_seq, -1), -3, -2)


def write_products(
    path: Path, layer: Any, technology: Any, options: dict, *, key: PRNGKeyArray
) -> None:
    """Have an attention compute on arrays that each call writes, as `options` say."""
    with refused_at(path):
        arrays = rewritten_arrays(technology, options)
    reads = nnx.RngStream(path_key(key, f"{path}.attention_fn"), tag="reads")
    written = WrittenAttention(arrays, reads, isinstance(arrays.device, Device))
    layer.attention_fn = nnx.data(written)


def digital_products(layer: Any) -> None:
    """Have an attention compute digitally again; leaves other nodes alone."""
    if isinstance(getattr(layer, "attention_fn", None), WrittenAttention):
        layer.attention_fn = nnx.static(nnx.dot_product_attention)


def node_figures(
    path: Path, node: Any, processor: ProcessorCost | None
) -> list[LayerFigures]:
    """The figures of a digital layer of NNX."""
    kind, lookup = type(node).__name__, isinstance(node, nnx.Embed)
    weights = digital_weights_of(node)
    return [digital_figures(path, kind, w, lookup, processor) for w in weights]
