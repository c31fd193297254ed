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

    pulsed = {name: _plain(device) for name, device in devices.PULSED.items()}
    measured = _measured_arrays()
    windows = _windows()
    if options.json:
        print(json.dumps(pulsed | measured | windows))
        return 0
    # Two tables: eight columns of figures are wider than most terminals.
    names = list(pulsed)
    for part in (names[:4], names[4:]):
        print_table(
            ("", *part),
            [
                (field, *(_cell(pulsed[name].get(field), "g") for name in part))
                for field in dict.fromkeys(f for name in part for f in pulsed[name])
            ],
            right=(*part,),
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
        ("", "g_min", "g_max"),
        [
            (name, *(_cell(figures[field]) for field in ("g_min", "g_max")))
            for name, figures in windows.items()
        ],
        right=("g_min", "g_max"),
        title="Windows, in siemens: no more is published where they were read.",
    )
    print_table(
        ("", "source", "derived"),
        [
            (name, known.source, known.derived or "-")
            for name, known in devices.CATALOGUE.items()
        ],
        title="Sources. By name in sedma_jax.devices.CATALOGUE.",
    )
    return 0


def _plain(device: Any) -> dict[str, Any]:
    """The figures of a device; of a curve its kind and its figures."""
    from ..devices._records import plain

    return {
        name: value if isinstance(value, float) else plain(value, name)
        for name, value in vars(device).items()
        if value is not None
    }


def _windows() -> dict[str, dict[str, Any]]:
    """The window of each technology of which no more is published, and its source."""
    from ..devices import CATALOGUE, PULSED
    from ..kernels import Device

    return {
        name: {
            "g_min": technology.device.g_min,
            "g_max": technology.device.g_max,
            "source": technology.source,
        }
        for name, technology in CATALOGUE.items()
        if isinstance(technology.device, Device) and name not in PULSED
    }


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


def _cell(value: Any, form: str = ".3g") -> str:
    if value is None:
        return "-"
    if isinstance(value, dict):
        return value["kind"]
    return value if isinstance(value, str) else f"{value:{form}}"
