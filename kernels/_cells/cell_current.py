"""Current of a cell that does not obey Ohm's law."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._numerics.requirements import POSITIVE, check_numbers
from .device import Scalar
from .noise_curves import check_polynomials, evaluate_polynomial


class CubicCurrent(eqx.Module):
    """`I = g V + a V**2 + b V**3`, `a` and `b` polynomials in `u = log10(g / g_0)`.

    - `quadratic`, `cubic`: coefficients of `a`, in A/V**2, and `b`, in A/V**3, from
        the constant up. A fit in `log10(g)` should be expanded about a `g_0` within
        the window: about 1 siemens its terms cancel to a thousandth.
    - `g_0`: reference conductance, in siemens.
    - `g_ohmic`: conductance, in siemens, below which cells obey Ohm's law.

    **Example:**

        >>> model = sj.kernels.CubicCurrent(quadratic=(0.0,), cubic=(1e-6,), g_0=1e-5)
        >>> a, b = sj.kernels.current_coefficients(jnp.array([1e-5, 0.0]), model)
        >>> print(b)  # A/V**3; a cell below `g_ohmic` obeys Ohm's law
        [1.e-06 0.e+00]
    """

    quadratic: tuple[Scalar, ...]
    cubic: tuple[Scalar, ...]
    g_0: Scalar = 1.0
    g_ohmic: Scalar = 1e-9

    def __check_init__(self):
        call = "sedma_jax.kernels.CubicCurrent"
        check_polynomials(call, quadratic=self.quadratic, cubic=self.cubic)
        remedy = "It is in siemens."
        check_numbers(call, POSITIVE, remedy, g_0=self.g_0, g_ohmic=self.g_ohmic)


def nonlinear_current(
    conductance: Float[Array, "*#cells"],
    voltage: Float[Array, "*#cells"],
    model: CubicCurrent,
) -> Float[Array, "*#cells"]:
    """Current through each cell, in amperes.

    **Arguments:**

    - `conductance`: ratio of current to voltage near 0 V, in siemens.
    - `voltage`: in volts, within the range of the fit. Its sign matters: the
        second-order term makes a cell asymmetric.
    - `model`: the fit.

    **Returns:**

    Currents in amperes. Their sum over word lines is the current of a bit line.
    """
    quadratic, cubic = current_coefficients(conductance, model)
    return voltage * (conductance + (quadratic + cubic * voltage) * voltage)


def current_coefficients(
    conductance: Float[Array, " *cells"], model: CubicCurrent
) -> tuple[Float[Array, " *cells"], Float[Array, " *cells"]]:
    """Evaluate `a`, in A/V**2, and `b`, in A/V**3, per cell; zero where it is ohmic.

    **Arguments:**

    - `conductance`: ratio of current to voltage near 0 V, in siemens, from 0 up.
    - `model`: the fit, within the window that it was measured for.

    **Example:**

        >>> model = sj.kernels.CubicCurrent(quadratic=(2e-6, 1e-6), cubic=(0.0,), g_0=1e-5)
        >>> a, _ = sj.kernels.current_coefficients(jnp.array([1e-5, 1e-4]), model)
        >>> print(np.asarray(1e6 * a).round(3))  # uA/V**2: 2 + 1 log10(g / g_0)
        [2. 3.]
    """
    conducts = conductance >= model.g_ohmic
    ratio = conductance / model.g_0
    u = jnp.log10(jnp.where(conducts, ratio, jnp.ones_like(ratio)))
    zero = jnp.zeros_like(u)
    return (
        jnp.where(conducts, evaluate_polynomial(model.quadratic, u), zero),
        jnp.where(conducts, evaluate_polynomial(model.cubic, u), zero),
    )


def coefficients_through(
    conductance: Float[Array, " *cells"],
    quadratic: Float[Array, " *cells"],
    cubic: Float[Array, " *cells"],
    resistance: Scalar,
) -> tuple[Float[Array, " *cells"], Float[Array, " *cells"]]:
    """Coefficients of cells in series with `resistance`, in ohms.

    The series `I(v)` that inverts `v = u + r (g u + a u**2 + b u**3)` has, with
    `k = 1 + g r`, the coefficients `a / k**3` and `b / k**4 - 2 r a**2 / k**5`. It is
    exact to third order, the order in which it is used.

    **Arguments:**

    - `conductance`: of the cells alone, in siemens, from 0 up.
    - `quadratic`, `cubic`: their `a`, in A/V**2, and `b`, in A/V**3.
    - `resistance`: in ohms, from 0 up.

    **Example:**

        >>> g, a, b = (jnp.array([v]) for v in (1e-4, 1e-5, 0.0))
        >>> a, b = sj.kernels.coefficients_through(g, a, b, 1e4)  # k = 1 + g r = 2
        >>> print(np.asarray(1e6 * a).round(3))  # 10 uA/V**2 over k**3
        [1.25]
    """
    k = 1 + conductance * resistance
    return quadratic / k**3, cubic / k**4 - 2 * resistance * quadratic**2 / k**5
