"""Describe one resistive memory technology, and the shape of its pulse response.

A train of `x P` identical pulses takes a fresh cell from the bottom of its window to the
fraction

    s(x) = (1 - exp(-u x)) / (1 - exp(-u)),       0 <= x <= 1,

of the window (Chen, Peng & Yu 2018, IEEE TCAD 37, 3067, Eq. 8-10, with `u = P / A`). Data
sheets quote the curvature `u` through a label `NL` that is proportional to the largest
distance between this curve and the diagonal.
"""

from decimal import Decimal
from fractions import Fraction

import equinox as eqx
import jax
import jax.lax as lax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._numerics.requirements import (
    FINITE,
    FROM_ONE,
    FROM_ZERO,
    Requirement,
    check_kind,
    check_numbers,
    known_numbers,
    shown,
)
from .pulse_curve import AbstractPulseCurve

Scalar = Float[Array, ""] | float | int


_NAME = "sedma_jax.devices.Device"


def _floating(value: Scalar) -> Scalar:
    """A Python number, if it is a number of any kind; `Device` refuses truth values."""
    number = isinstance(value, int | float | np.number | Fraction | Decimal)
    number = number and not isinstance(value, bool | np.complexfloating)
    return float(value) if number else value


# `NL = LABEL * max_x (s(x) - x)`: fitted to the published label table to six digits.
_LABEL = 10.101525
_LARGEST_LABEL = 9.0
# Conductances that float32 needs in a window, for states to 0.4 %.
_STEPS = 256

# A cell of a tenth of a siemens is a wire; who writes microsiemens as siemens exceeds it.
_LARGEST_SIEMENS = 0.1

_REQUIREMENTS = (
    # Fields, requirement, remedy.
    (
        "g_min g_max",
        Requirement(lambda v: (v >= 0) & (v <= _LARGEST_SIEMENS), "from 0 to 0.1 siemens"),
        "Microsiemens are siemens times 1e-6. Conductances carry no sign: negative "
        "weights come from the mapping.",
    ),
    (
        "pulses_ltp pulses_ltd",
        FROM_ONE,
        "It is the number of pulses that cross the window.",
    ),
    (
        "nonlinearity_ltp",
        Requirement(lambda v: abs(v) <= _LARGEST_LABEL, "from -9 to 9"),
        "It is the NL label of NeuroSim, not the constant A.",
    ),
    (
        "nonlinearity_ltd",
        Requirement(lambda v: (v <= 0) & (v >= -_LARGEST_LABEL), "from -9 to 0"),
        "It is the NL label of NeuroSim, not the constant A; that of a depression which "
        "is steepest at the top is negative. Tables that leave out the sign mean it.",
    ),
    (
        "sigma_c2c sigma_d2d sigma_read t_ltp t_ltd t_read r_access",
        FROM_ZERO,
        "Zero switches the effect off.",
    ),
    ("v_ltp v_ltd v_read", FINITE, "It is in volts. Check the unit."),
)


class Device(eqx.Module):
    """One resistive memory technology, as the behaviour of its cells.

    Every field is a leaf of the pytree, so that `jax.vmap` and `jax.grad` reach all of
    them, and one compilation serves all devices. Which schemes of programming have a
    reverse-mode gradient, `sedma_jax.program` says. Derive a device of your own with
    `dataclasses.replace(sedma_jax.devices.EPIRAM, sigma_c2c=0.01)`.

    - `g_min`, `g_max`: conductance window, in siemens, `0 <= g_min < g_max <= 0.1`.
    - `pulses_ltp`, `pulses_ltd`: identical pulses that cross the window upwards
        (potentiation) and downwards (depression), at least 1.
    - `nonlinearity_ltp`, `nonlinearity_ltd`: label `NL` of the pulse response, from -9
        to 9, that of depression from -9 to 0; 0 is a straight line, and depression is
        steepest at the top.
    - `sigma_c2c`: cycle-to-cycle noise of one pulse, standard deviation as a fraction of
        the window; `n` pulses leave `sqrt(n)` times as much.
    - `sigma_d2d`: device-to-device spread of both labels, standard deviation in label
        units.
    - `sigma_read`: noise of one read, standard deviation as a fraction of the range of
        the read current.
    - `v_ltp`, `v_ltd`: write voltages, in volts. Only their squares are used.
    - `t_ltp`, `t_ltd`: pulse widths, in seconds.
    - `v_read`, `t_read`: read voltage and time, in volts and seconds.
    - `r_access`: resistance of the access transistor in series with the cell, in ohms.
    - `curve_ltp`, `curve_ltd`: the shape of a pulse response that no label describes, such
        as `sedma_jax.kernels.TabulatedCurve`; the label has to be 0 then, and `sigma_d2d`.
    - `cycle_noise`: coefficients, from the constant up, of a polynomial in the state (0 at
        `g_min`, 1 at `g_max`, before the train) by which `sigma_c2c` is multiplied. It
        applies where pulses are applied; rules of programming plan with `sigma_c2c`.

    **Gradients:** pathwise, the draws held fixed. Nothing is drawn for reads where
    `sigma_read` is 0, and its derivative is 0 there; just above, it is that of the draw.

    **Raises:** `ValueError` for a figure out of range. Traced ones are not checked.

    **Example:**

        >>> device = sj.Device(1e-6, 1e-5, pulses_ltp=100, pulses_ltd=100, sigma_c2c=0.02)
        >>> print(round(device.g_max / device.g_min))  # on/off ratio
        10
        >>> sj.Device(1.0, 10.0, pulses_ltp=100, pulses_ltd=100)
        Traceback (most recent call last):
        ValueError: ... Microsiemens are siemens times 1e-6. ...
    """

    g_min: Scalar = eqx.field(converter=_floating)
    g_max: Scalar = eqx.field(converter=_floating)
    pulses_ltp: Scalar = eqx.field(converter=_floating)
    pulses_ltd: Scalar = eqx.field(converter=_floating)
    nonlinearity_ltp: Scalar = eqx.field(converter=_floating, default=0.0)
    nonlinearity_ltd: Scalar = eqx.field(converter=_floating, default=0.0)
    sigma_c2c: Scalar = eqx.field(converter=_floating, default=0.0)
    sigma_d2d: Scalar = eqx.field(converter=_floating, default=0.0)
    sigma_read: Scalar = eqx.field(converter=_floating, default=0.0)
    v_ltp: Scalar = eqx.field(converter=_floating, default=1.0)
    v_ltd: Scalar = eqx.field(converter=_floating, default=-1.0)
    t_ltp: Scalar = eqx.field(converter=_floating, default=1e-7)
    t_ltd: Scalar = eqx.field(converter=_floating, default=1e-7)
    v_read: Scalar = eqx.field(converter=_floating, default=0.5)
    t_read: Scalar = eqx.field(converter=_floating, default=5e-9)
    r_access: Scalar = eqx.field(converter=_floating, default=0.0)
    curve_ltp: AbstractPulseCurve | None = None
    curve_ltd: AbstractPulseCurve | None = None
    cycle_noise: tuple[Scalar, ...] | None = None

    def __check_init__(self):
        for names, requirement, remedy in _REQUIREMENTS:
            fields = {name: getattr(self, name) for name in names.split()}
            check_numbers(_NAME, requirement, remedy, **fields)
        low, high = known_numbers(self.g_min), known_numbers(self.g_max)
        if low is not None and high is not None and not np.all(low < high):
            raise ValueError(
                f"`{_NAME}` needs `g_min < g_max`, in siemens. Got "
                f"g_min={shown(self.g_min)}, g_max={shown(self.g_max)}. Are they swapped?"
            )
        _check_collapse(self.g_min, self.g_max)
        _check_shapes(self)


def _check_shapes(device: Device) -> None:
    """Refuse curves that are none, or that come beside a label."""
    for name in ("ltp", "ltd"):
        curve = getattr(device, f"curve_{name}")
        if curve is None:
            continue
        remedy = "Such as `sedma_jax.kernels.TabulatedCurve`."
        check_kind(_NAME, AbstractPulseCurve, "a curve", remedy, **{f"curve_{name}": curve})
        label = f"nonlinearity_{name}"
        for field in (label, "sigma_d2d"):
            known = known_numbers(getattr(device, field))
            if known is not None and np.any(known != 0):
                raise ValueError(
                    f"`{_NAME}` needs `{field}` to be 0 beside `curve_{name}`. Got "
                    f"{shown(getattr(device, field))}. Labels describe exponential laws."
                )
    if device.cycle_noise is not None:
        remedy = "Write `(1.0, 0.5)`: the constant first."
        wanted = "coefficients"
        check_kind(_NAME, tuple, wanted, remedy, cycle_noise=device.cycle_noise)
        for value in device.cycle_noise or (None,):
            if value is None:
                raise ValueError(
                    f"`{_NAME}` needs `cycle_noise` to hold one. Got (). {remedy}"
                )
            check_numbers(_NAME, FINITE, remedy, cycle_noise=value)


def _check_collapse(g_min: Scalar, g_max: Scalar) -> None:
    """Refuse a window in which float32 has too few conductances, or loses small ones."""
    known = [known_numbers(g) for g in (g_min, g_max)]
    if any(values is None or values.dtype.kind not in "iuf" for values in known):
        return
    low, high = (np.asarray(values, float) for values in known)
    single = np.finfo(np.float32)
    call = "`sedma_jax.devices.Device` needs"
    if np.any(high - low < _STEPS * float(single.eps) * high):
        raise ValueError(
            f"{call} `g_min` and `g_max` so far apart that float32 has {_STEPS} numbers "
            f"between them. Got {g_min=}, {g_max=}. Take a wider window, in siemens."
        )
    least, most = float(single.tiny / single.eps), float(single.max)
    if np.any((high < least) | (high > most)):
        raise ValueError(
            f"{call} a `g_max` of which float32 can hold shares, from {least:.2g} to "
            f"{most:.2g}. Got {g_max=}. It is in siemens."
        )


def curvature(
    nonlinearity: Float[Array, " *shape"] | float,
) -> Float[Array, " *shape"]:
    """Convert nonlinearity labels to the curvature `u` of the pulse response.

    Solves `NL = 10.101525 * [1/c - 1/u + log(c/u)/u]`, `c = 1 - exp(-u)`, the largest
    distance of the curve from the diagonal in closed form, by Newton's method. The
    function is concave, so that the iteration rises to the root from `u = 8 NL / 10.1`.

    **Arguments:**

    - `nonlinearity`: labels; their magnitude is limited to 9.

    **Returns:**

    Curvatures, with the sign of the labels.
    """
    nonlinearity = jnp.asarray(nonlinearity)
    # The curve is odd and smooth; `jnp.abs` would have the derivative 0 at zero.
    size = jnp.where(nonlinearity < 0, -nonlinearity, nonlinearity)
    height = jnp.minimum(size, _LARGEST_LABEL) / _LABEL

    def climb(_, u):
        value, slope = jax.jvp(_height, (u,), (jnp.ones_like(u),))
        return u - (value - height) / slope

    u = lax.fori_loop(0, 10, climb, 8 * height)
    return jnp.where(nonlinearity < 0, -u, u)


def _height(u: Float[Array, " *shape"]) -> Float[Array, " *shape"]:
    """Largest distance between the pulse response and the diagonal, for `u >= 0`."""
    # Below 1 cancellation leaves the closed form a few digits in float32; the series is
    # exact to 1e-6 there.
    series = u / 8 - u**3 / 576 + u**5 / 25920
    safe = jnp.where(u < 1, 1.0, u).astype(u.dtype)
    c = -jnp.expm1(-safe)
    return jnp.where(u < 1, series, 1 / c - 1 / safe + jnp.log(c / safe) / safe)


def series_conductance(
    conductance: Float[Array, " *shape"] | Scalar, resistance: Scalar
) -> Float[Array, " *shape"]:
    """Conductance of a cell in series with a resistance: `g / (1 + g r)`.

    **Arguments:**

    - `conductance`: of the cell itself, in siemens, from 0 up.
    - `resistance`: in ohms, from 0 up, such as `Device.r_access`.

    **Returns:**

    Conductance in siemens, from 0 to `1 / r`.

    **Example:**

        >>> g = sj.kernels.series_conductance(1e-4, 10e3)  # two times 10 kOhm
        >>> print(np.asarray(1e6 * g).round(3))
        50.0
    """
    return jnp.asarray(conductance / (1 + conductance * resistance))
