"""`sedma devices`: list the devices and their figures, and the measured arrays."""

import argparse
import json
from typing import TYPE_CHECKING, Any

from ._terminal.tables import print_table

if TYPE_CHECKING:
    from ..kernels import ProgrammingNoise


def add_parser(commands: Any) -> None:
    """Declare the options of `sedma devices`."""
    listing = commands.add_parser("devices", help="list the devices and their figures")
    listing.set_defaults(command=list_devices)
    listing.add_argument(
        "--json", action="store_true", help="print one JSON object on stdout"
    )


def list_devices(options: argparse.Namespace) -> int:
    """Perform `sedma devices`; return the exit status."""
    from .. import devices

    presets = {name: _plain(device) for name, device in devices.PRESETS.items()}
    measured = _measured_arrays()
    if options.json:
        print(json.dumps(presets | measured))
        return 0
    print_table(
        ("", *presets),
        [
            (field, *(f"{figures[field]:g}" for figures in presets.values()))
            for field in next(iter(presets.values()))
        ],
        right=(*presets,),
        title="Devices. SI units; sigma as a fraction of the conductance window.",
    )
    fields = [f for f in next(iter(measured.values())) if f != "source"]
    print_table(
        ("", *fields),
        [
            (name, *map(_cell, (figures[field] for field in fields)))
            for name, figures in measured.items()
        ],
        right=[field for field in fields if field not in ("drift", "read")],
        title="Measured arrays, for perturb, age and with_read_noise. Siemens; sigma of "
        "programming as a fraction of the window, at its middle and its top.",
    )
    print_table(
        ("", "source"),
        [(name, known.source) for name, known in devices.CATALOGUE.items()],
        title="Sources. By name in sedma_jax.devices.CATALOGUE.",
    )
    return 0


def _plain(device: Any) -> dict[str, float]:
    """The figures of a device; shapes that it has not are left out."""
    return {name: value for name, value in vars(device).items() if value is not None}


def _measured_arrays() -> dict[str, dict[str, Any]]:
    """The window of each array, its noise, the kinds of its other noise, its source."""
    from ..devices import CATALOGUE
    from ..kernels import MeasuredArray

    kind = lambda model: None if model is None else type(model).__name__
    found = {}
    for name, technology in CATALOGUE.items():
        array = technology.device
        if isinstance(array, MeasuredArray):
            found[name] = {
                **_figures(array.device.g_min, array.device.g_max, array.programming),
                "drift": kind(array.drift),
                "read": kind(array.read),
                "source": technology.source,
            }
    return found


def _figures(g_min: Any, g_max: Any, noise: "ProgrammingNoise") -> dict[str, float]:
    import jax.numpy as jnp

    window = float(g_max) - float(g_min)
    middle = (float(g_min) + float(g_max)) / 2
    sigmas = noise.deviation(jnp.asarray([middle, float(g_max)]))
    at_middle, at_top = (max(float(sigma), 0.0) / window for sigma in sigmas)
    return {
        "g_min": float(g_min),
        "g_max": float(g_max),
        "sigma_middle": at_middle,
        "sigma_top": at_top,
    }


def _cell(value: str | float | None) -> str:
    if value is None:
        return "-"
    return value if isinstance(value, str) else f"{value:.3g}"
