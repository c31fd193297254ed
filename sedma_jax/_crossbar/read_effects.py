"""Effects of a read: noise that depends on the conductances, and nonlinearity.

Call them after the effects on the cells. `matvec` takes them into account.
"""

import dataclasses

import jax
import jax.lax as lax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from .._keys import check_key
from .._mappings import forgettable
from .._tiling.partition import Vectors
from ..kernels import (
    AbstractReadNoise,
    CubicCurrent,
    check_kind,
    coefficients_through,
    current_coefficients,
    fold_in_count,
    read_moments,
    read_noise,
    series_conductance,
    split_inputs,
    strips_from_tiles,
    visible_weights,
    weight_per_siemens,
)
from .abstract_crossbar import check_converters
from .converters import ADC, DAC, convert, drive_lines
from .crossbar import (
    Crossbar,
    add_tiles,
    check_crossbar,
    check_vector,
    tile_currents,
    tile_index,
)
from .effects import (
    Conductances,
    Scalar,
    TracedScalar,
    check_like,
    check_time,
    used_cells,
    width_of,
)

# Tells the noise of conversions from the noise of reads.
_CONVERSION = 2**31


def with_read_noise(
    crossbar: Crossbar,
    model: AbstractReadNoise,
    time: Scalar = 0.0,
    programmed: Crossbar | None = None,
) -> Crossbar:
    """Read with noise that depends on the state of each cell, by one draw per output.

    The noise of an output is normal, with the mean and the variance of the sum over its
    cells, the limits of the model included. Its variance, `sum_r v_r**2 s(g_rc)**2`, is a
    second product beside the first. `per_cell_noisy_matvec` draws every cell instead. Noise
    passes the access transistor to first order. The noise of `device.sigma_read` is added.

    **Arguments:**

    - `crossbar`: as programmed, aged, and so on.
    - `model`: e.g. `sedma_jax.noise_models.PCM.read`, with a normal or uniform
        distribution.
    - `time`: since programming, in seconds; used if the noise grows with it.
    - `programmed`: the crossbar before it drifted; used if the noise depends on it. By
        default `crossbar` itself.

    **Raises:**

    - `ValueError`: if the distribution is neither normal nor uniform; if `time` is
        negative or not finite; if `model` is no model of read noise.

    **Example:**

        >>> model = sj.noise_models.PCM
        >>> crossbar = sj.program_exactly(np.eye(4), model.device, array=4)
        >>> crossbar = sj.with_read_noise(crossbar, model.read, time=60.0)
        >>> y, z = (sj.matvec(crossbar, np.ones(4), key=jr.key(n)) for n in (0, 1))
        >>> bool(jnp.any(y != z))  # each read differs
        True
    """
    _check_noise("with_read_noise", crossbar, model, time, programmed)
    before = (crossbar if programmed is None else programmed).conductance
    strips, variance = _noisy(crossbar, model, time, before)
    return dataclasses.replace(crossbar, strips=strips, read_variance=variance)


def _check_noise(
    call: str,
    crossbar: Crossbar,
    model: AbstractReadNoise,
    time: Scalar,
    programmed: Crossbar | None,
) -> None:
    """Refuse what is no model of read noise, no crossbar, or no time."""
    check_crossbar(call, crossbar=crossbar)
    remedy = "Of published statistics it is `read`: `with_read_noise(c, PCM.read)`."
    kind = AbstractReadNoise
    check_kind(f"sedma_jax.{call}", kind, "a model of read noise", remedy, model=model)
    check_time(f"sedma_jax.{call}", time)
    if programmed is not None:
        check_like(call, crossbar, programmed=programmed)


@forgettable
@jax.jit
def _noisy(
    crossbar: Crossbar,
    model: AbstractReadNoise,
    time: TracedScalar,
    programmed: Conductances,
) -> tuple[Float[Array, "strips lines rows"], Float[Array, "strips lines rows"]]:
    """The mean weights and the variance of their read noise, laid out as strips."""
    device, g = crossbar.device, crossbar.conductance
    shift, variance = read_moments(model, g, time, programmed)
    slope = jax.vmap(lambda g: weight_per_siemens(g, device))(g)
    weights = jax.vmap(lambda g: visible_weights(g, device))(g + shift)
    used = used_cells(crossbar, g.shape)
    variance = jnp.sum(slope**2 * variance, axis=1)
    lay = lambda tiles: strips_from_tiles(jnp.where(used, tiles, 0), width_of(crossbar))
    return lay(weights), lay(variance)


def per_cell_noisy_matvec(
    crossbar: Crossbar,
    x: Vectors,
    model: AbstractReadNoise,
    time: Scalar = 0.0,
    programmed: Crossbar | None = None,
    *,
    dac: DAC | None = None,
    adc: ADC | None = None,
    key: PRNGKeyArray,
) -> Float[Array, "*batch m"]:
    """Multiply with the read noise of every cell drawn anew for every vector.

    This is the reference for `with_read_noise`: it takes any distribution of the noise, and
    the access transistor as it is. It costs one draw per cell and vector, `m n batch` in
    all and twice that for pairs. Only the cells of one tile are in memory at a time.

    **Arguments:**

    - `crossbar`, `model`, `time`, `programmed`: as in `with_read_noise`.
    - `x`, `dac`, `adc`, `key`: as in `matvec`.

    **Raises:**

    - `ValueError`: as `matvec` and `with_read_noise` do, and if `crossbar` comes from
        `with_read_noise`, whose noise would count twice.

    **Example:**

        >>> model = sj.noise_models.PCM
        >>> crossbar = sj.program_exactly(np.eye(4), model.device, array=4)
        >>> x = np.ones(4)
        >>> y = sj.per_cell_noisy_matvec(crossbar, x, model.read, 60.0, key=jr.key(0))
        >>> bool(jnp.max(jnp.abs(y - 1)) < 0.3)
        True
    """
    check_key(key)
    _check_noise("per_cell_noisy_matvec", crossbar, model, time, programmed)
    check_converters("per_cell_noisy_matvec", dac, adc)
    x = check_vector(x, crossbar)
    if crossbar.read_variance is not None:
        raise ValueError(
            "`sedma_jax.per_cell_noisy_matvec` needs a crossbar that has not been through "
            "`with_read_noise`. Got one that has. Use `matvec`, or the crossbar before."
        )
    before = (crossbar if programmed is None else programmed).conductance
    y = _per_cell(crossbar, jnp.atleast_2d(x), model, time, before, dac, adc, key)
    return y if x.ndim == 2 else y[0]


@forgettable
@jax.jit
def _per_cell(
    crossbar: Crossbar,
    x: Float[Array, "batch n"],
    model: AbstractReadNoise,
    time: TracedScalar,
    programmed: Conductances,
    dac: DAC | None,
    adc: ADC | None,
    key: PRNGKeyArray,
) -> Float[Array, "batch m"]:
    """`per_cell_noisy_matvec`, for vectors that are checked already."""
    device = crossbar.device
    constant_key, cell_key = jr.split(key)
    converter_key = jr.fold_in(key, _CONVERSION)
    voltages, drive = drive_lines(x.astype(crossbar.dtype), dac, key=key)
    currents = tile_currents(crossbar, voltages, key=constant_key)
    parts = split_inputs(voltages, crossbar.array[0])[crossbar.inputs]

    def read_tile(arguments: tuple) -> Array:
        g, before, parts, index, used = arguments
        tile_key = fold_in_count(cell_key, index)
        quiet = visible_weights(g, device)

        def read_vector(arguments: tuple) -> Array:
            v, place = arguments
            seen = read_noise(model, g, time, before, key=jr.fold_in(tile_key, place))
            change = jnp.where(used, visible_weights(seen, device) - quiet, 0)
            return jnp.matmul(v, change, precision=lax.Precision.HIGHEST)

        return lax.map(read_vector, (parts, jnp.arange(len(parts), dtype=jnp.int32)))

    tiles = (
        crossbar.conductance,
        programmed,
        parts,
        tile_index(crossbar),
        used_cells(crossbar, crossbar.conductance.shape),
    )
    currents = currents + lax.map(read_tile, tiles)
    return add_tiles(crossbar, convert(currents, adc, converter_key)) * drive


def with_nonlinear_current(crossbar: Crossbar, model: CubicCurrent) -> Crossbar:
    """Read cells whose current is `g v + a(g) v**2 + b(g) v**3`.

    Each cell of a pair has its own `a` and `b`, and their currents are subtracted. The
    reference of a single cell obeys Ohm's law. Behind an access transistor the same
    series holds to third order. Voltages are in units of `device.v_read`, so the
    nonlinearity grows with it. Inputs below zero drive negative voltages, at which the
    term of `a` has the opposite sign relative to the current.

    **Arguments:**

    - `crossbar`: as programmed, aged, and so on.
    - `model`: e.g. `sedma_jax.noise_models.MILO_2021_CURRENT`.

    **Raises:**

    - `ValueError`: if `model` is no `CubicCurrent`.

    **Example:**

        >>> device = sj.Device(0.0, 1e-4, pulses_ltp=100, pulses_ltd=100, v_read=0.5)
        >>> model = sj.kernels.CubicCurrent((0.0,), (4e-5,))  # I = g v + 4e-5 A/V**3 v**3
        >>> crossbar = sj.program_exactly(np.ones((1, 1)), device, array=1)
        >>> crossbar = sj.with_nonlinear_current(crossbar, model)
        >>> y = sj.matvec(crossbar, np.ones(1), key=jr.key(0))
        >>> print(np.asarray(y).round(3))  # 1 + 4e-5 v_read**2 / g
        [1.1]
    """
    check_crossbar("with_nonlinear_current", crossbar=crossbar)
    check_kind(
        "sedma_jax.with_nonlinear_current",
        CubicCurrent,
        "a `CubicCurrent`",
        "Such as `sedma_jax.noise_models.MILO_2021_CURRENT`.",
        model=model,
    )
    return dataclasses.replace(crossbar, higher_order=_higher_order(crossbar, model))


@forgettable
@jax.jit
def _higher_order(
    crossbar: Crossbar, model: CubicCurrent
) -> Float[Array, "strips lines powers"]:
    """Weights of the square and of the cube of the voltages, laid out as strips."""
    device, g = crossbar.device, crossbar.conductance
    quadratic, cubic = coefficients_through(
        g, *current_coefficients(g, model), device.r_access
    )
    low, high = (
        series_conductance(g, device.r_access) for g in (device.g_min, device.g_max)
    )
    per_volt = device.v_read / (high - low)
    orders = jnp.stack([quadratic * per_volt, cubic * (device.v_read * per_volt)], axis=2)
    weights = 2 * orders[:, 0] if g.shape[1] == 1 else orders[:, 0] - orders[:, 1]
    used = used_cells(crossbar, g.shape)[:, None]
    weights = jnp.where(used, weights, 0).astype(g.dtype)
    count, _, rows, cols = weights.shape
    return strips_from_tiles(weights.reshape(count, 2 * rows, cols), width_of(crossbar))
