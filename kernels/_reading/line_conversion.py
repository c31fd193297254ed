"""Convert and scale the currents of strips, by ideal converters or by real ones."""

import jax.lax as lax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from .conversion import codes, converter_steps
from .converter_errors import convert_lines
from .strips import Strips

# Steps per unit of current (None for ideal or ranging converters), and scale of the codes.
Factors = tuple[Float[Array, "*strips lines"] | None, Float[Array, "*strips lines"]]


def factors_of(strips: Strips) -> Factors:
    """The factors of the currents and of the codes of each bit line.

    They are computed before the loop, in which XLA would repeat the work for every vector.
    """
    if strips.bits is None or strips.full_scale is None:
        return None, strips.scale
    per_step, lsb = converter_steps(strips.full_scale, bits=strips.bits[:, None])
    return per_step, lsb * strips.scale


def convert_batch(
    strip: Strips,
    factors: Factors,
    currents: Float[Array, "batch lines"],
    draws: Float[Array, "lines batch"] | None,
) -> Float[Array, "batch lines"]:
    """Converted and scaled currents of one strip."""
    return converted(strip, factors, currents.T, draws).T


def converted(
    strip: Strips,
    factors: Factors,
    currents: Float[Array, "lines batch"],
    draws: Float[Array, "lines batch"] | None = None,
) -> Float[Array, "lines batch"]:
    """The same as `convert_batch`, with one row per bit line."""
    per_step, scale = factors
    bits = strip.bits
    if bits is None:
        return currents * scale[:, None]
    if per_step is not None and not _real(strip):
        return codes(currents, per_step[:, None], bits=bits) * scale[:, None]
    if per_step is None:
        return _ranged(strip, scale, currents, draws, bits)
    per_step, scale = per_step[:, None], scale[:, None]
    errors, straight = strip.errors, strip.straight
    return convert_lines(
        currents, per_step, scale, errors, draws, bits=bits, straight=straight
    )


def _real(strip: Strips) -> bool:
    """Whether converters do more than round."""
    return strip.errors is not None or strip.straight


def _ranged(
    strip: Strips,
    scale: Float[Array, " lines"],
    currents: Float[Array, "lines batch"],
    draws: Float[Array, "lines batch"] | None,
    bits: Int[Array, ""],
) -> Float[Array, "lines batch"]:
    """Converted currents, in one range for the bit lines of a tile and one vector."""
    tiles = currents.reshape(-1, strip.cols, currents.shape[1])
    full_scale = jnp.max(jnp.abs(tiles), axis=1, keepdims=True)
    if strip.straight:
        full_scale = lax.stop_gradient(full_scale)
    per_step, lsb = converter_steps(full_scale, bits=bits)
    scaled = lsb * scale.reshape(-1, strip.cols, 1)
    if not _real(strip):
        return (codes(tiles, per_step, bits=bits) * scaled).reshape(currents.shape)
    per_step = jnp.repeat(per_step[:, 0], strip.cols, axis=0)
    scaled, errors, straight = scaled.reshape(currents.shape), strip.errors, strip.straight
    return convert_lines(
        currents, per_step, scaled, errors, draws, bits=bits, straight=straight
    )
