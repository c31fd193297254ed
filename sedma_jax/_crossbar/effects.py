"""Effects on a programmed crossbar before it is read: crossbar in, crossbar out.

Each effect acts on the conductances and then recomputes the weights that a read sees, so
that effects compose in the order of the calls:

    faulty = inject_faults(crossbar, fault_map(crossbar, 0.001, 0.01, key=array_key))
    aged = age(faulty, drift_model, 3600.0, key=drift_key)
    wired = with_line_resistance(aged, 2.0, 2.0)

All of them work inside `jit`, and pass gradients wherever conductances do. The draws for
a tile depend only on the key and on the place of the tile.
"""

import dataclasses
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Bool, Float, Int8, Key, Num, PRNGKeyArray

from .._keys import check_key
from .._mappings import forgettable
from .._tiling.partition import Partition, Vectors
from ..kernels import (
    FROM_ZERO,
    SHARE,
    AbstractDrift,
    Device,
    ProgrammingNoise,
    Requirement,
    RetentionTable,
    apply_faults,
    check_callable,
    check_given,
    check_kind,
    check_numbers,
    column_drift_compensation,
    draw_faults,
    drift,
    fold_in_count,
    program_noise,
    sample_retention,
    strips_from_tiles,
    visible_weights,
)
from .converters import drive_lines
from .crossbar import Crossbar, check_crossbar, check_vector, tile_currents, tile_index

Conductances = Float[Array, "tiles polarity rows cols"]
Scalar = Float[Array, ""] | float | int
Reads = Float[Array, "reads cols"]
Ratio = Callable[[Reads, Reads], Float[Array, "..."]]
# Under `jit` a Python number is an array, of integers too.
TracedScalar = Num[Array, ""] | float | int
TileKeys = Key[Array, " tiles"]
SIEMENS = Requirement(lambda v: (v >= 0) & (v <= 0.1), "from 0 to 0.1 siemens")
_FAULT = Requirement(lambda v: (v == 0) | (abs(v) == 1), "of -1, 0 and +1")

# One number for each effect, so that two effects with one key draw independently.
_PROGRAMMING, _DRIFT, _FAULTS = 1, 2, 3


def with_conductance(crossbar: Crossbar, conductance: Conductances) -> Crossbar:
    """Give the arrays other conductances: measured ones, or those after an effect.

    **Arguments:**

    - `crossbar`: from `program` or an effect.
    - `conductance`: of every cell, in siemens, from 0 up.

    **Raises:**

    - `ValueError`: if the shape differs from that of `crossbar.conductance`, or if the
        crossbar already has read noise or nonlinearity, which follow from the conductances.

    **Example:**

        >>> crossbar = sj.program_exactly(np.eye(4), "epiram", array=4)
        >>> swapped = sj.with_conductance(crossbar, crossbar.conductance[:, ::-1])
        >>> print(np.asarray(sj.stored_matrix(swapped)[0]).round(3) + 0)
        [-1.  0.  0.  0.]
    """
    check_crossbar("with_conductance", crossbar=crossbar)
    shape = np.shape(conductance)
    if shape != crossbar.conductance.shape:
        raise ValueError(
            "`sedma_jax.with_conductance` needs one conductance for each cell, in shape "
            f"{crossbar.conductance.shape}. Got {shape}. Tiles come first, "
            "then the cells of a pair, word lines and bit lines."
        )
    check_numbers(
        "sedma_jax.with_conductance",
        SIEMENS,
        "Microsiemens are siemens times 1e-6.",
        conductance=conductance,
    )
    return holding(crossbar, jnp.asarray(conductance, crossbar.conductance.dtype))


def holding(crossbar: Crossbar, conductance: Conductances) -> Crossbar:
    """`with_conductance`, for conductances of the right shape."""
    if crossbar.read_variance is not None or crossbar.higher_order is not None:
        raise ValueError(
            "`sedma_jax.with_conductance`, like each effect on conductances, needs to come "
            "before `with_read_noise` and `with_nonlinear_current`. Got a crossbar that "
            "one of these two returned. Call those last."
        )
    used = used_cells(crossbar, conductance.shape)
    weights = masked_weights(conductance, used, crossbar.device)
    strips = strips_from_tiles(weights, width_of(crossbar))
    return dataclasses.replace(crossbar, strips=strips, conductance=conductance)


def width_of(crossbar: Crossbar) -> int:
    """The number of tiles side by side in each strip."""
    return crossbar.strips.shape[1] // crossbar.array[1]


def used_cells(
    places: Crossbar | Partition, shape: tuple[int, ...]
) -> Bool[Array, "tiles rows cols"]:
    """Which cells of the tiles hold a matrix entry; `shape` ends in rows and cols."""
    m, n = places.shape
    rows, cols = (jnp.arange(size, dtype=jnp.int32)[None] for size in shape[-2:])
    inputs, outputs = jnp.asarray(places.inputs), jnp.asarray(places.outputs)
    row = inputs[:, None] * shape[-2] + rows < n
    col = outputs[:, None] * shape[-1] + cols < m
    return row[:, :, None] & col[:, None, :]


@forgettable
@jax.jit
def masked_weights(
    conductance: Conductances, used: Bool[Array, "tiles rows cols"], device: Device
) -> Float[Array, "tiles rows cols"]:
    """The weights that a read sees; zero in cells that are not used."""
    weights = jax.vmap(lambda g: visible_weights(g, device))(conductance)
    return jnp.where(used, weights, 0)


def fault_map(
    crossbar: Crossbar, p_on: Scalar, p_off: Scalar, *, key: PRNGKeyArray
) -> Int8[Array, "tiles polarity rows cols"]:
    """Draw independently for each cell whether it is stuck: +1 on, -1 off, 0 healthy.

    **Arguments:**

    - `crossbar`: its arrays give the shape.
    - `p_on`, `p_off`: probabilities of being stuck at `g_max` and at `g_min`, each at
        least 0 and together at most 1.
    - `key`: identifies the arrays: the same key gives the same faults.

    **Raises:**

    - `ValueError`: if the probabilities are out of range; if `key` is not a typed key.

    **Example:**

        >>> crossbar = sj.program_exactly(np.eye(4), "epiram", array=4)
        >>> faults = sj.fault_map(crossbar, p_on=0.0, p_off=1.0, key=jr.key(0))
        >>> faults.shape, bool(jnp.all(faults == -1))
        ((1, 2, 4, 4), True)
    """
    call, remedy = "sedma_jax.fault_map", "Divide percentages by 100."
    check_crossbar("fault_map", crossbar=crossbar)
    check_given(call, SHARE, remedy, p_on=p_on, p_off=p_off)
    shape = crossbar.conductance.shape[1:]
    draw = lambda key: draw_faults(shape, p_on, p_off, key=key)
    return jax.vmap(draw)(_tile_keys(crossbar, key, _FAULTS))


def inject_faults(
    crossbar: Crossbar, faults: Int8[Array, "tiles polarity rows cols"]
) -> Crossbar:
    """Put stuck cells at the ends of the conductance window.

    A stuck cell neither drifts nor responds to programming. To model that, apply faults
    after `perturb` and `age`.

    **Arguments:**

    - `crossbar`: as programmed.
    - `faults`: for each cell +1 (stuck on), -1 (stuck off) or 0 (healthy), measured or
        drawn by `fault_map`.

    **Raises:**

    - `ValueError`: if there is not one entry for each cell, or one is none of the three.

    **Example:**

        >>> crossbar = sj.program_exactly(np.eye(4), "epiram", array=4)
        >>> faults = jnp.zeros((1, 2, 4, 4), jnp.int8).at[0, 0, 0, 0].set(-1)  # stuck off
        >>> broken = sj.inject_faults(crossbar, faults)
        >>> print(np.asarray(jnp.diag(sj.stored_matrix(broken))).round(3) + 0)
        [0. 1. 1. 1.]
    """
    check_crossbar("inject_faults", crossbar=crossbar)
    if np.shape(faults) != crossbar.conductance.shape:
        raise ValueError(
            "`sedma_jax.inject_faults` needs one entry for each cell, in shape "
            f"{crossbar.conductance.shape}. Got {np.shape(faults)}. Tiles come first, then "
            "the cells of a pair, word lines and bit lines."
        )
    remedy = "+1 is stuck on, -1 stuck off, 0 healthy."
    check_numbers("sedma_jax.inject_faults", _FAULT, remedy, faults=faults)
    device, faults = crossbar.device, jnp.asarray(faults)
    stuck = apply_faults(crossbar.conductance, faults, device.g_min, device.g_max)
    return holding(crossbar, stuck)


def perturb(crossbar: Crossbar, noise: ProgrammingNoise, *, key: PRNGKeyArray) -> Crossbar:
    """Replace each conductance by a draw from the programming noise of a published array.

    Together with `program_exactly` this is statistical programming, which replaces the
    closed loop of `program`.

    **Arguments:**

    - `crossbar`: its conductances are the targets.
    - `noise`: e.g. `sedma_jax.noise_models.WAN_2022.programming`.
    - `key`: typed key of the draws.

    **Raises:**

    - `ValueError`: if `noise` is no `ProgrammingNoise`; if `key` is not a typed key.

    **Example:**

        >>> model = sj.noise_models.WAN_2022
        >>> exact = sj.program_exactly(np.eye(4), model.device, array=4)
        >>> crossbar = sj.perturb(exact, model.programming, key=jr.key(0))
        >>> error = jnp.abs(sj.stored_matrix(crossbar) - np.eye(4))  # 1 to 3 %
        >>> bool((jnp.max(error) > 0.01) & (jnp.max(error) < 0.2))
        True
    """
    check_crossbar("perturb", crossbar=crossbar)
    remedy = "Of published statistics it is `programming`: `perturb(c, PCM.programming)`."
    check_kind(
        "sedma_jax.perturb", ProgrammingNoise, "a `ProgrammingNoise`", remedy, noise=noise
    )
    keys = _tile_keys(crossbar, key, _PROGRAMMING)
    return holding(crossbar, _perturbed(noise, crossbar.conductance, keys))


@forgettable
@jax.jit
def _perturbed(
    noise: ProgrammingNoise, conductance: Conductances, keys: TileKeys
) -> Conductances:
    return jax.vmap(lambda g, key: program_noise(noise, g, key=key))(conductance, keys)


def retain(
    crossbar: Crossbar, table: RetentionTable, time: Scalar, *, key: PRNGKeyArray
) -> Crossbar:
    """Replace each target by the conductance of a measured array after `time` seconds.

    A table such as that of `sedma_jax.noise_models.sonos_retention` covers programming
    noise and drift: use it after `program_exactly`, in place of `perturb` and `age`. The
    same key gives each cell the same deviate at all times, from 0 seconds up.

    **Raises:**

    - `ValueError`: if `time` is negative or not finite; if `table` is no `RetentionTable`.

    **Example:**

        >>> device = sj.noise_models.window(0.0, 3.2e-5, v_read=0.1)
        >>> exact = sj.program_exactly(np.eye(4), device, array=4)
        >>> table = sj.noise_models.sonos_retention(v_read=0.1)
        >>> crossbar = sj.retain(exact, table, 86400.0, key=jr.key(0))  # a day
        >>> bool(jnp.any(sj.stored_matrix(crossbar) != np.eye(4)))
        True
    """
    check_crossbar("retain", crossbar=crossbar)
    check_kind(
        "sedma_jax.retain",
        RetentionTable,
        "a `RetentionTable`",
        "Such as `sedma_jax.noise_models.sonos_retention(0.2)`.",
        table=table,
    )
    check_time("sedma_jax.retain", time)
    keys = _tile_keys(crossbar, key, _DRIFT)
    return holding(crossbar, _retained(table, crossbar.conductance, time, keys))


@forgettable
@jax.jit
def _retained(
    table: RetentionTable, conductance: Conductances, time: TracedScalar, keys: TileKeys
) -> Conductances:
    sample = lambda g, key: sample_retention(table, g, time, key=key)
    return jax.vmap(sample)(conductance, keys)


def age(
    crossbar: Crossbar,
    model: AbstractDrift,
    time: Scalar,
    target: Crossbar | None = None,
    *,
    key: PRNGKeyArray,
) -> Crossbar:
    """Let the cells drift for `time` seconds after programming.

    **Arguments:**

    - `crossbar`: as programmed. Time counts from programming: to follow an array over
        time, age the programmed crossbar to each time, with one key.
    - `model`: e.g. `sedma_jax.noise_models.PCM.drift`.
    - `time`: in seconds, from 0 up.
    - `target`: holds the target conductances, to which the published statistics refer.
        By default the programmed conductances replace them.
    - `key`: identifies the cells: the same key gives each cell the same drift exponent at
        all times.

    **Raises:**

    - `ValueError`: if `time` is negative or not finite; if `model` is no model of drift.

    **Example:**

        >>> model = sj.noise_models.PCM
        >>> crossbar = sj.program_exactly(np.eye(4), model.device, array=4)
        >>> old = sj.age(crossbar, model.drift, 3600.0, key=jr.key(0))
        >>> kept = jnp.diag(sj.stored_matrix(old))  # exponents near 0.05
        >>> bool(jnp.all((kept > 0.6) & (kept < 0.9)))
        True
    """
    check_crossbar("age", crossbar=crossbar)
    check_kind(
        "sedma_jax.age",
        AbstractDrift,
        "a model of drift",
        "Of published statistics it is `drift`: `age(c, PCM.drift, seconds, key=key)`.",
        model=model,
    )
    check_time("sedma_jax.age", time)
    if target is not None:
        check_like("age", crossbar, target=target)
    keys = _tile_keys(crossbar, key, _DRIFT)
    aim = (crossbar if target is None else target).conductance
    return holding(crossbar, _aged(model, crossbar.conductance, time, aim, keys))


@forgettable
@jax.jit
def _aged(
    model: AbstractDrift,
    conductance: Conductances,
    time: TracedScalar,
    target: Conductances,
    keys: TileKeys,
) -> Conductances:
    one = lambda g, aim, key: drift(model, g, time, aim, key=key)
    return jax.vmap(one)(conductance, target, keys)


def check_time(call: str, time: Scalar) -> None:
    """Refuse a time since programming that is negative or not finite."""
    remedy = "Time counts from programming, in seconds."
    check_given(call, FROM_ZERO, remedy, time=time)


def check_like(call: str, crossbar: Crossbar, **others: Crossbar) -> None:
    """Refuse another crossbar that is none, or has other arrays."""
    check_crossbar(call, **others)
    for name, other in others.items():
        want, got = crossbar.conductance.shape, other.conductance.shape
        if want != got:
            raise ValueError(
                f"`sedma_jax.{call}` needs `{name}` to have the arrays of `crossbar`, in "
                f"shape {want}. Got {got}. Pass the same crossbar at another time."
            )


def _tile_keys(crossbar: Crossbar, key: PRNGKeyArray, effect: int) -> TileKeys:
    """A key for each tile, which depends on the effect and on the place of the tile."""
    check_key(key)
    places, key = tile_index(crossbar), jr.fold_in(key, effect)
    return jax.vmap(fold_in_count, (None, 0))(key, places)


def compensate_drift(
    crossbar: Crossbar,
    reference: Crossbar,
    inputs: Vectors,
    *,
    ratio: Ratio = column_drift_compensation,
    key: PRNGKeyArray,
) -> Crossbar:
    """Undo the mean effect of drift by a digital scale, measured with known inputs.

    The arrays are read with the same inputs after programming and again now, read noise
    included; the outputs are scaled up by the loss of current (Joshi et al. 2020, Nat.
    Commun. 11, 2473). The scale undoes a proportional loss. Pairs of cells lose in
    proportion; single cells do not, since their reference does not drift.

    **Arguments:**

    - `crossbar`: as it is now.
    - `reference`: the same crossbar after programming.
    - `inputs`: vectors to read with. Noisy arrays need many or large ones.
    - `ratio`: `column_drift_compensation` gives a scale for each bit line,
        `drift_compensation` one for each tile.
    - `key`: typed key of the read noise of both reads.

    **Returns:**

    The crossbar with another `scale`.

    **Raises:**

    - `ValueError`: as `matvec` does; if `reference` has other arrays.

    **Example:**

        >>> model = sj.noise_models.PCM
        >>> crossbar = sj.program_exactly(np.eye(4), model.device, array=4)
        >>> old = sj.age(crossbar, model.drift, 3600.0, key=jr.key(0))
        >>> old = sj.compensate_drift(old, crossbar, np.eye(4), key=jr.key(1))
        >>> print(np.asarray(jnp.diag(sj.stored_matrix(old))).round(3))
        [1. 1. 1. 1.]
    """
    check_key(key)
    check_crossbar("compensate_drift", crossbar=crossbar)
    check_like("compensate_drift", crossbar, reference=reference)
    check_callable(
        "sedma_jax.compensate_drift",
        "a function of the currents before and now",
        "`column_drift_compensation` is one.",
        ratio=ratio,
    )
    inputs = jnp.atleast_2d(check_vector(inputs, crossbar))
    gain = _gain(crossbar, reference, inputs, key, ratio)
    return dataclasses.replace(crossbar, scale=crossbar.scale * gain)


@forgettable
@partial(jax.jit, static_argnames=("ratio",))
def _gain(
    crossbar: Crossbar,
    reference: Crossbar,
    inputs: Float[Array, "reads n"],
    key: PRNGKeyArray,
    ratio: Ratio,
) -> Float[Array, "tiles cols"]:
    """The factor that restores the currents of each tile or bit line."""
    voltages, _ = drive_lines(inputs.astype(crossbar.dtype), None)
    before_key, now_key = jr.split(key)
    before = tile_currents(reference, voltages, key=before_key)
    now = tile_currents(crossbar, voltages, key=now_key)
    return jax.vmap(ratio)(before, now).reshape(len(now), -1)
