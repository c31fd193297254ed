"""More technologies whose pulses are published, beside the four of `_presets.py`.

The first three are in the tables of Chen, Peng & Yu (2018, IEEE TCAD 37, 3067, Table I) and
of Jerry et al. (2017, IEEE IEDM, the table of its last page), which has the pulses.
They give the number of conductance states, taken as that of pulses as the four have it, the
labels, the on-resistance and the on/off ratio: `g_max = 1 / R_on`, `g_min = g_max / ratio`.
"Below 1 %" of cycle-to-cycle noise is taken as 1 %, and "below 0.5 %" as 0.5 %.
"""

import zlib

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ..kernels import Device, ExponentialCurve
from ._presets import PRESETS

TAOX_TIO2 = Device(
    g_min=1 / 5e6 / 2,
    g_max=1 / 5e6,
    pulses_ltp=102,
    pulses_ltd=102,
    # Chen, Peng & Yu; Jerry et al. have 0.66 and -0.69 for the same device.
    nonlinearity_ltp=1.85,
    nonlinearity_ltd=-1.79,
    sigma_c2c=0.01,
    v_ltp=3.0,
    v_ltd=-3.0,
    t_ltp=40e-3,
    t_ltd=10e-3,
)
"""TaOx/TiO2 interface (Gao et al. 2015): smooth and slow, on/off ratio 2."""

PCMO = Device(
    g_min=1 / 23e6 / 6.84,
    g_max=1 / 23e6,
    pulses_ltp=50,
    pulses_ltd=50,
    nonlinearity_ltp=3.68,
    nonlinearity_ltd=-6.76,
    sigma_c2c=0.01,
    v_ltp=-2.0,
    v_ltd=2.0,
    t_ltp=1e-3,
    t_ltd=1e-3,
)
"""Manganite PCMO (Park et al. 2013): strongly nonlinear, high resistance."""

HZO_FEFET = Device(
    g_min=1 / 559.28e3 / 45,
    g_max=1 / 559.28e3,
    pulses_ltp=32,
    pulses_ltd=32,
    nonlinearity_ltp=1.75,
    sigma_c2c=0.005,
    v_ltp=3.65,
    v_ltd=-2.95,
    t_ltp=75e-9,
    t_ltd=75e-9,
    # Its label, +1.46, has the sign of potentiation: depression runs back along that curve,
    # slow at the top. This is minus the curvature of the label.
    curve_ltd=ExponentialCurve(-1.178304),
)
"""Ferroelectric transistor (Jerry et al. 2017): fast; voltages are means of a rise."""

# aihwkit's fit `EcRamPresetDevice`: steps of 0.002 of a range of 2, falling linearly from
# 1.0814 to 0.8847 of that upwards, and from 1.7204 to 0.4915 downwards. Such steps are the
# exponential law with the curvature `log(first / last)`.
LI_ECRAM = Device(
    g_min=1 / 500e6 / 40,
    g_max=1 / 500e6,
    pulses_ltp=1021,
    pulses_ltd=1020,
    nonlinearity_ltp=0.25335,
    nonlinearity_ltd=-1.54860,
    sigma_c2c=0.3 * 0.002 / 2.0,
)
"""Lithium electrochemical memory (Tang et al. 2018): a thousand states, 500 MOhm."""

PULSED = PRESETS | {
    "taox-tio2": TAOX_TIO2,
    "pcmo": PCMO,
    "hzo-fefet": HZO_FEFET,
    "li-ecram": LI_ECRAM,
}
"""All technologies with published pulses, by the names that a device may be given by."""


def name_of(device: Device | None) -> str:
    """The name of one of `PULSED`; any other device is named after its main figures.

    None is "any": an array of a pool that leaves its device open.

    **Example:**

        >>> sj.devices.name_of(sj.devices.EPIRAM), sj.devices.name_of(None)
        ('epiram', 'any')
    """
    if device is None:
        return "any"
    for name, known in PULSED.items():
        if known is device or bool(eqx.tree_equal(known, device)):
            return name
    main = ("g_min", "g_max", "pulses_ltp", "sigma_c2c", "t_ltp")
    figures = (f"{float(jnp.asarray(getattr(device, name))):.3g}" for name in main)
    shapes = (device.curve_ltp, device.curve_ltd, device.cycle_noise)
    content = b"".join(np.asarray(v, float).tobytes() for v in jax.tree.leaves(shapes))
    shape = [f"{zlib.crc32(content):08x}"] if content else []
    return "-".join(["custom", *figures, *shape])
