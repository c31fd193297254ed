"""The weights and products that layers train with, whatever framework the layers are of.

Where the hardware is a `Device` alone, errors of programming come from its scheme, and
reads are computed here, with a gradient that is zero where a converter saturates.
Otherwise the arrays themselves are simulated, as `sedma_jax.nn.analogize` makes them and
`sedma_jax.nn.age` ages them, and gradients pass straight through all they do.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.lax as lax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ..._arguments import technology_of
from ..._crossbar.abstract_crossbar import check_converters
from ..._crossbar.converters import ADC, DAC, check_ideal, input_range
from ..._crossbar.crossbar import Crossbar
from ..._crossbar.effects import age, compensate_drift
from ..._crossbar.read_effects import with_read_noise
from ..._programming.options import Programming, Scaling, programming_from
from ..._programming.program import program_tiles
from ..._tiling.native import as_floats
from ...kernels import (
    FROM_ZERO,
    AbstractDrift,
    Device,
    Requirement,
    Scheme,
    VerifyRule,
    check_callable,
    check_counts,
    check_given,
    check_kind,
    check_numbers,
    clip_columns,
    column_scale,
    cut_tiles,
    digitise_learned,
    digitise_straight_through,
    gaussian,
    join_tiles,
    sampled_rewrite,
)
from ...noise_models import MeasuredArray
from .._matrix import AnalogMatrix, multiply
from .._program_matrix import program_matrix

Blocks = Float[Array, "groups m n"]
Seconds = Float[Array, ""] | float | int
_CLIP = Requirement(lambda v: v > 0, "above 0")
Effects = Callable[..., Crossbar]


class Hardware(eqx.Module):
    """The hardware that a layer is trained for; see the arguments of `hardware_aware`.

    `measured` is None where `device` is not that of published statistics.

    **Example:**

        >>> import equinox as eqx
        >>> layer = eqx.nn.Linear(4, 3, key=jr.key(0))
        >>> adc = sj.ADC(bits=8)
        >>> aware = sj.nn.hardware_aware(layer, "epiram", adc=adc, clip=2.5, array=64)
        >>> aware.hardware.adc.bits, aware.hardware.clip, aware.hardware.array
        (8, 2.5, (64, 64))
    """

    device: Device
    measured: MeasuredArray | None
    rule: VerifyRule | None
    dac: DAC | None
    adc: ADC | None
    drift: AbstractDrift | None
    clip: float | None = eqx.field(static=True)
    array: tuple[int, int] = eqx.field(static=True)
    scheme: Scheme | Callable = eqx.field(static=True)
    scaling: Scaling = eqx.field(static=True)
    effects: Effects | None = eqx.field(static=True)
    seconds: tuple[float, ...] = eqx.field(static=True)
    compensation_reads: int = eqx.field(static=True)


def hardware_from(
    call: str,
    device: Device | MeasuredArray | str,
    *,
    scheme: Scheme | Callable | str | None = None,
    rule: VerifyRule | None = None,
    dac: DAC | None = None,
    adc: ADC | None = None,
    clip: float | None = None,
    array: tuple[int, int] | int = (256, 256),
    scaling: Scaling | str = column_scale,
    effects: Effects | None = None,
    seconds: Seconds | Sequence[float] | None = None,
    drift: AbstractDrift | None = None,
    compensation_reads: int = 0,
) -> Hardware:
    """The hardware that the public function `call` is asked to train for; checked."""
    technology = technology_of(call, device)
    check_converters(call, dac, adc)
    check_ideal(call, dac, adc)
    remedy = "Leave it out to clip nothing."
    check_numbers(f"sedma_jax.{call}", _CLIP, remedy, clip=clip)
    full_scale = None if adc is None else adc.full_scale
    if full_scale is not None and jnp.ndim(full_scale):
        raise ValueError(
            f"`sedma_jax.{call}` needs one `full_scale` for all tiles. Got shape "
            f"{jnp.shape(full_scale)}. Leave it out for an automatic range."
        )
    measured = technology if isinstance(technology, MeasuredArray) else None
    if measured is not None and (scheme is not None or rule is not None):
        raise ValueError(
            f"`sedma_jax.{call}` needs a `Device` for a scheme or a rule. Got them with "
            "published statistics, which include all that programming did. Leave them out, "
            "or name a `Device`."
        )
    scheme = sampled_rewrite if scheme is None else scheme
    how = programming_from(
        call, None, array=array, scheme=scheme, rule=rule, scaling=scaling
    )
    hardware = Hardware(
        device=technology.device if isinstance(technology, MeasuredArray) else technology,
        measured=measured,
        rule=how.rule,
        dac=dac,
        adc=adc,
        drift=drift,
        clip=clip,
        array=how.array,
        scheme=how.scheme,
        scaling=how.scaling,
        effects=effects,
        seconds=_times_of(f"sedma_jax.{call}", seconds),
        compensation_reads=compensation_reads,
    )
    _check_hardware(f"sedma_jax.{call}", hardware)
    learned = any(c is not None and c.learned for c in (dac, adc))
    if learned and simulates_arrays(hardware):
        raise ValueError(
            f"`sedma_jax.{call}` needs ranges that are given where whole arrays are "
            "simulated, where no gradient reaches them. Got `learned` ranges. Learn "
            "them on a `Device` alone, and give what they became."
        )
    return hardware


def simulates_arrays(hardware: Hardware) -> bool:
    """Whether more than a device and its ideal converters has to be simulated."""
    alone = hardware.measured is None and hardware.effects is None and not hardware.seconds
    return not (alone and hardware.scaling is column_scale)


def _stopped(tree: Any) -> Any:
    """The same without gradients; Python numbers stay so."""
    return jax.tree.map(lambda x: lax.stop_gradient(x) if eqx.is_array(x) else x, tree)


def clipped(weight: Blocks, hardware: Hardware) -> Blocks:
    """The weights within the limit of each bit line."""
    if hardware.clip is None:
        return weight
    tiles, used = _tiles(weight, hardware)
    return _blocks(clip_columns(tiles, hardware.clip, used), weight.shape, hardware)


def programmed(
    weight: Blocks,
    hardware: Hardware,
    seconds: Seconds | None = None,
    *,
    key: PRNGKeyArray,
) -> tuple[Blocks, AnalogMatrix | None]:
    """Weights with errors, whose gradients are those of `weight`, and their arrays."""
    if not simulates_arrays(hardware) and seconds is None:
        return _programmed_tiles(weight, hardware, key), None
    weight = clipped(weight, hardware)
    arrays = _stopped(_arrays(_stopped(weight), _stopped(hardware), seconds, key))
    held = lax.stop_gradient(_held(arrays, weight.shape))
    return weight + lax.stop_gradient(held.astype(weight.dtype) - weight), arrays


def aware_product(
    weight: Blocks,
    arrays: AnalogMatrix | None,
    vectors: Float[Array, "groups batch n"],
    hardware: Hardware,
    *,
    key: PRNGKeyArray,
) -> Float[Array, "groups batch m"]:
    """Multiply with converters and read noise, for each group."""
    vectors = jnp.asarray(as_floats(vectors, "x"))
    if arrays is None:
        return _tile_products(weight, vectors, hardware, key)
    groups, m, _ = weight.shape
    exact = jnp.einsum("gmn,gbn->gbm", weight, vectors, precision=lax.Precision.HIGHEST)
    x = jnp.moveaxis(vectors, 0, 1).reshape(vectors.shape[1], -1)
    y = multiply(*_stopped((arrays, x)), key=key)
    y = jnp.moveaxis(y.reshape(-1, groups, m), 1, 0).astype(exact.dtype)
    return exact + lax.stop_gradient(y - exact)


def _arrays(
    weight: Blocks, hardware: Hardware, seconds: Seconds | None, key: PRNGKeyArray
) -> AnalogMatrix:
    """The arrays of one layer: programmed, drifted, with all effects and read noise."""
    programming_key, time_key, drift_key, effects_key, read_key = jr.split(key, 5)
    options: dict[str, Any] = {"array": hardware.array, "scaling": hardware.scaling}
    technology: Device | MeasuredArray = hardware.device
    if hardware.measured is None:
        options |= {"scheme": hardware.scheme, "rule": hardware.rule}
    else:
        technology = hardware.measured
    matrix = program_matrix(
        weight.reshape(-1, weight.shape[2]),
        technology,
        groups=len(weight),
        dac=hardware.dac,
        adc=hardware.adc,
        key=programming_key,
        **options,
    )
    if seconds is None and hardware.seconds:
        seconds = jr.choice(time_key, jnp.asarray(hardware.seconds, weight.dtype))
    programmed: Any = matrix.crossbar
    fresh: Crossbar = dataclasses.replace(programmed, read_variance=None)
    now = fresh
    if seconds is not None:
        target = None
        if matrix.target is not None:
            target = dataclasses.replace(fresh, conductance=matrix.target)
        now = age(fresh, drift_of(hardware), seconds, target, key=drift_key)
    if hardware.effects is not None:
        # The same wires and faults, then and now.
        fresh, now = (hardware.effects(c, key=effects_key) for c in (fresh, now))
    noise = None if hardware.measured is None else hardware.measured.read
    if noise is not None and now.read_variance is None:
        now = with_read_noise(now, noise, 0.0 if seconds is None else seconds, fresh)
    if hardware.compensation_reads and seconds is not None:
        input_key, now_key = jr.split(read_key)
        size = hardware.compensation_reads, fresh.shape[1]
        inputs = jr.normal(input_key, size, fresh.dtype)
        now = compensate_drift(now, fresh, inputs, key=now_key)
    return dataclasses.replace(matrix, crossbar=now)


def drift_of(hardware: Hardware) -> AbstractDrift:
    """The drift model; refuses hardware that has none.

    **Raises:**

    - `ValueError`: if there is none.
    """
    own = None if hardware.measured is None else hardware.measured.drift
    model = own if hardware.drift is None else hardware.drift
    if model is None:
        raise ValueError(
            "Training for a time after programming needs a drift model. Got none. Pass "
            "`drift`, such as `sedma_jax.noise_models.PCM.drift`, to `hardware_aware`, or "
            "statistics that have one."
        )
    return model


def _times_of(call: str, seconds: Seconds | Sequence[float] | None) -> tuple[float, ...]:
    """The times to train for, as a tuple; refuses what are none."""
    if seconds is None:
        return ()
    remedy = (
        "Time counts from the end of programming. `draw_programming` takes traced ones."
    )
    if isinstance(seconds, Sequence) and not isinstance(seconds, str):
        each = {f"seconds[{place}]": t for place, t in enumerate(seconds)}
    else:
        each = {"seconds": seconds}
    for name, t in each.items():
        check_given(call, FROM_ZERO, remedy, **{name: t})
    return tuple(float(t) for t in each.values())


def _check_hardware(call: str, hardware: Hardware) -> None:
    """Refuse effects that are no function, drift that is none, and drift to no time."""
    remedy = "Such as `lambda c, key: sedma_jax.with_line_resistance(c, 2.0, 2.0)`."
    if hardware.effects is not None:
        wanted = "a function of a crossbar and a `key`"
        check_callable(call, wanted, remedy, effects=hardware.effects)
    if hardware.drift is not None:
        remedy = "Such as `sedma_jax.noise_models.PCM.drift`."
        kind = AbstractDrift
        check_kind(call, kind, "a model of drift", remedy, drift=hardware.drift)
    reads, remedy = hardware.compensation_reads, "256 is many; 0 compensates nothing."
    check_counts(call, 0, math.inf, remedy, compensation_reads=reads)
    if hardware.seconds:
        drift_of(hardware)


def _held(arrays: AnalogMatrix, shape: tuple[int, ...]) -> Blocks:
    """What the arrays hold, block by block."""
    groups, m, n = shape
    blocks = arrays.crossbar.stored_matrix().reshape(groups, m, groups, n)
    place = jnp.arange(groups)
    return blocks[place, :, place]


def _sizes(shape: tuple[int, ...], hardware: Hardware) -> tuple[int, int]:
    """Word lines and bit lines used of an array."""
    return min(hardware.array[0], shape[2]), min(hardware.array[1], shape[1])


def _tiles(
    weight: Blocks, hardware: Hardware
) -> tuple[Float[Array, "tiles rows cols"], Int[Array, "..."]]:
    """The weights cut into tiles, and the number of rows that each tile uses."""
    rows, cols = _sizes(weight.shape, hardware)
    grid = jax.vmap(lambda a: cut_tiles(a, rows, cols))(weight)
    used = weight.shape[2] - rows * jnp.arange(grid.shape[1], dtype=jnp.int32)
    used = jnp.broadcast_to(jnp.minimum(used, rows)[None, :, None], grid.shape[:3])
    return grid.reshape(-1, rows, cols), used.ravel()


def _blocks(
    tiles: Float[Array, "tiles rows cols"], shape: tuple[int, ...], hardware: Hardware
) -> Blocks:
    """The inverse of `_tiles`."""
    groups, m, n = shape
    rows, cols = _sizes(shape, hardware)
    grid = tiles.reshape(groups, -(-n // rows), -(-m // cols), rows, cols)
    return jax.vmap(lambda g: join_tiles(g, (m, n)))(grid)


def _programmed_tiles(weight: Blocks, hardware: Hardware, key: PRNGKeyArray) -> Blocks:
    """The weights with the errors of the scheme."""
    m, cols = weight.shape[1], _sizes(weight.shape, hardware)[1]
    tiles, used_rows = _tiles(weight, hardware)
    if hardware.clip is not None:
        tiles = clip_columns(tiles, hardware.clip, used_rows)
    scale = lax.stop_gradient(column_scale(tiles))
    place = jnp.arange(len(tiles), dtype=jnp.int32)
    used_cols = jnp.minimum(m - place % -(-m // cols) * cols, cols)
    device, rule = lax.stop_gradient((hardware.device, hardware.rule))
    weights, _, _ = program_tiles(
        tiles,
        scale,
        place,
        used_rows,
        used_cols,
        device,
        Programming(scheme=hardware.scheme, rule=rule),
        key=key,
    )
    tiles = jnp.swapaxes(weights, 1, 2) * scale[:, None, :]
    return _blocks(tiles, weight.shape, hardware)


def _tile_products(
    matrices: Blocks,
    vectors: Float[Array, "groups batch n"],
    hardware: Hardware,
    key: PRNGKeyArray,
) -> Float[Array, "groups batch m"]:
    """Multiply with converters and read noise, tile by tile, for each group."""
    groups, m, n = matrices.shape
    rows, cols = _sizes(matrices.shape, hardware)
    dac, adc = hardware.dac, hardware.adc
    drive = input_range(vectors, dac)
    volts = vectors / drive
    if dac is not None:
        volts = digitise_straight_through(volts, 1.0, bits=dac.bits)
    blocks = -(-n // rows)
    volts = jnp.pad(volts, ((0, 0), (0, 0), (0, blocks * rows - n)))
    volts = volts.reshape(*volts.shape[:2], blocks, rows)
    grid = jax.vmap(lambda a: cut_tiles(a, rows, cols))(matrices)
    scale = jax.vmap(column_scale)(grid.reshape(groups, -1, rows, cols))
    scale = lax.stop_gradient(scale.reshape(groups, blocks, -1, 1, cols))
    currents = jnp.einsum(
        "gbir,giorc->giobc", volts, grid / scale, precision=lax.Precision.HIGHEST
    )
    device = lax.stop_gradient(hardware.device)
    # The factor 2 is for the pair of cells. The root has no gradient at zero, and the noise
    # needs none.
    size = lax.stop_gradient(jnp.sqrt(2 * jnp.sum(volts**2, axis=3)))
    size = jnp.moveaxis(size, 2, 1)[:, :, None, :, None]
    draws = gaussian(device.sigma_read, currents.shape, currents.dtype, key=key)
    currents = currents + draws * size
    if adc is not None:
        full_scale: Any = adc.full_scale
        if full_scale is None:
            full_scale = jnp.max(jnp.abs(currents), axis=4, keepdims=True)
            full_scale = lax.stop_gradient(full_scale)
        full_scale = jnp.asarray(full_scale, currents.dtype)
        full_scale = jnp.broadcast_to(full_scale, currents.shape)
        quantise = digitise_learned if adc.learned else digitise_straight_through
        currents = quantise(currents, full_scale, bits=adc.bits)
    sums = jnp.sum(currents * scale, axis=1)
    y = jnp.moveaxis(sums, 1, 2).reshape(groups, vectors.shape[1], -1)[:, :, :m]
    return y * drive
