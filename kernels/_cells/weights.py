"""The weights that a read of the cells sees, from their conductances."""

from jaxtyping import Array, Float

from .device import Device, series_conductance
from .mapping import signed_weights


def visible_weights(
    conductance: Float[Array, "polarity rows cols"], device: Device
) -> Float[Array, "rows cols"]:
    """Weights read through the access transistor, in units of the read-current range.

    A pair subtracts the currents of its two cells; a single cell has the current of a
    reference in the middle of the window subtracted. Conductances outside the window
    give weights beyond 1.

    **Arguments:**

    - `conductance`: conductances of the cells themselves, in siemens, from 0 up.
    - `device`: its window sets the unit; its `r_access` is in series with every cell.

    **Returns:**

    Weights, from -1 to 1 for cells within the window.

    **Example:**

        >>> device = sj.Device(0.0, 1e-5, pulses_ltp=100, pulses_ltd=100)
        >>> pair = jnp.array([[[1e-5, 0.0]], [[0.0, 5e-6]]])
        >>> print(sj.kernels.visible_weights(pair, device))
        [[ 1.  -0.5]]
    """
    low, high = (
        series_conductance(g, device.r_access) for g in (device.g_min, device.g_max)
    )
    through = series_conductance(conductance, device.r_access)
    return signed_weights(((through - low) / (high - low)).astype(conductance.dtype))


def weight_per_siemens(
    conductance: Float[Array, "polarity rows cols"], device: Device
) -> Float[Array, "polarity rows cols"]:
    """Magnitude of the change of a weight per conductance of each cell, in 1/siemens.

    It is `d/dG [G / (1 + G r)] = 1 / (1 + G r)**2` over the range of the read current, and
    twice that for a single cell, which spans twice the range.

    **Example:**

        >>> device = sj.Device(0.0, 1e-5, pulses_ltp=100, pulses_ltd=100)
        >>> pair = jnp.full((2, 1, 1), 5e-6)
        >>> slope = sj.kernels.weight_per_siemens(pair, device)
        >>> print(np.asarray(1e-6 * slope[:, 0, 0]).round(3))  # 1 / 10 uS
        [0.1 0.1]
    """
    low, high = (
        series_conductance(g, device.r_access) for g in (device.g_min, device.g_max)
    )
    gain = 2.0 if len(conductance) == 1 else 1.0
    load = 1 + conductance * device.r_access
    return (gain / ((high - low) * load**2)).astype(conductance.dtype)
