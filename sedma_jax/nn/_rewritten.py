"""Products of two inputs, as in attention, on arrays that are written for each call."""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from .._arguments import technology_of
from .._crossbar.converters import ADC, DAC
from .._programming.options import Programming, programming_from
from ..kernels import Count, Device, add_counts, total_count
from ..noise_models import MeasuredArray
from ._effects import Effects
from ._matrix import AnalogMatrix, multiply
from ._program_matrix import program_matrix


class RewrittenArrays(eqx.Module):
    """How arrays are written anew for each call, with the options of `program_matrix`.

    - `device`, `programming`, `slices`, `cell_bits`, `input_bits`, `dac`, `adc`,
        `effects`: as in `sedma_jax.nn.program_matrix`.

    **Example:**

        >>> import equinox as eqx
        >>> layer = eqx.nn.MultiheadAttention(num_heads=2, query_size=4, key=jr.key(0))
        >>> how = dict(array=4, rewritten=True, key=jr.key(1))
        >>> analog = sj.nn.analogize(layer, "epiram", adc=sj.ADC(8), **how)
        >>> analog.products.programming.array, analog.products.adc.bits
        ((4, 4), 8)
    """

    device: Device | MeasuredArray
    programming: Programming
    slices: int = eqx.field(static=True, default=1)
    cell_bits: int | None = eqx.field(static=True, default=None)
    input_bits: int | None = eqx.field(static=True, default=None)
    dac: DAC | None = None
    adc: ADC | None = None
    effects: Effects | None = None


_FIELDS = tuple(field.name for field in dataclasses.fields(RewrittenArrays))[2:]
# What the layer's own arrays take besides, which has no effect on a product.
_OF_THE_LAYER = ("progress", "encoding", "lam", "groups")


def rewritten_arrays(
    device: Device | MeasuredArray | str, options: dict[str, Any]
) -> RewrittenArrays:
    """The arrays of products of two inputs, from the options of an attention.

    **Raises:**

    - `ValueError`: if products are corrected, or arrays are of a pool.
    """
    call = "nn.analogize"
    options = {name: v for name, v in options.items() if name not in _OF_THE_LAYER}
    for name in ("corrected", "plan"):
        value = options.pop(name, None)
        if value is not None and value is not False:
            raise ValueError(
                f"`sedma_jax.{call}` needs plain products on arrays of one kind for keys "
                f"and values, which are written anew. Got `{name}`. Leave it out, or "
                "`rewritten`."
            )
    own = {name: options.pop(name) for name in _FIELDS if name in options}
    programming = programming_from(call, options.pop("programming", None), **options)
    return RewrittenArrays(technology_of(call, device), programming, **own)


class RewriteCost(eqx.Module):
    """What it took to write the arrays of one call.

    - `pulses`: write pulses; `int(cost.pulses)` is exact.
    - `energy`: joules, of pulses and of verify reads.
    - `latency`: seconds. All arrays are written side by side.

    **Example:**

        >>> import equinox as eqx
        >>> layer = eqx.nn.MultiheadAttention(num_heads=2, query_size=4, key=jr.key(0))
        >>> how = dict(array=4, rewritten=True, key=jr.key(1))
        >>> analog = sj.nn.analogize(layer, "epiram", **how)
        >>> x = jr.normal(jr.key(2), (5, 4))
        >>> y, cost = analog.attend(x, x, x, key=jr.key(3))
        >>> y.shape, int(cost.pulses) > 0, bool(cost.energy > 0)
        ((5, 4), True, True)
    """

    pulses: Count
    energy: Float[Array, ""]
    latency: Float[Array, ""]


def written_products(
    arrays: RewrittenArrays,
    x: Float[Array, "heads batch n"],
    weights: Float[Array, "heads m n"],
    *,
    key: PRNGKeyArray,
) -> tuple[Float[Array, "heads batch m"], RewriteCost | None]:
    """Write a matrix for each head, and multiply by it: `x weights^T`, and the cost.

    Statistics have no pulses, so that the cost is None.
    """

    def one(x: Array, weights: Array, key: PRNGKeyArray):
        write_key, read_key = jr.split(key)
        matrix = written(arrays, weights, key=write_key)
        return multiply(matrix, x, key=read_key), _cost(matrix)

    y, costs = jax.vmap(one)(x, weights, jr.split(key, len(x)))
    return y.astype(x.dtype), None if costs is None else _total(costs)


def written(
    arrays: RewrittenArrays, weights: Float[Array, "m n"], *, key: PRNGKeyArray
) -> AnalogMatrix:
    """The arrays with a matrix of one call."""
    return program_matrix(
        weights,
        arrays.device,
        arrays.programming,
        slices=arrays.slices,
        cell_bits=arrays.cell_bits,
        input_bits=arrays.input_bits,
        dac=arrays.dac,
        adc=arrays.adc,
        effects=arrays.effects,
        key=key,
    )


def both(one: RewriteCost | None, other: RewriteCost | None) -> RewriteCost | None:
    """The cost of arrays that are written side by side."""
    if one is None or other is None:
        return None
    return RewriteCost(
        pulses=add_counts(one.pulses, other.pulses),
        energy=one.energy + other.energy,
        latency=jnp.maximum(one.latency, other.latency),
    )


def _cost(matrix: AnalogMatrix) -> RewriteCost | None:
    stats = matrix.stats
    if stats is None:
        return None
    return RewriteCost(stats.pulses, stats.energy, stats.latency)


def _total(costs: RewriteCost) -> RewriteCost:
    """Of all heads together."""
    pulses, energy = total_count(costs.pulses), jnp.sum(costs.energy)
    return RewriteCost(pulses, energy, jnp.max(costs.latency))
