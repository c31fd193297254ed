"""`sedma devices`: list the devices and their figures."""

import argparse
import json
import sys
from typing import Any

from rich.console import Console
from rich.table import Table

from .. import devices


def add_parser(commands: Any) -> None:
    """Declare the options of `sedma devices`."""
    listing = commands.add_parser("devices", help="list the devices and their figures")
    listing.set_defaults(command=list_devices)
    listing.add_argument(
        "--json", action="store_true", help="print one JSON object on stdout"
    )


def list_devices(options: argparse.Namespace) -> int:
    """Perform `sedma devices`; return the exit status."""
    figures = {name: vars(device) for name, device in devices.PRESETS.items()}
    if options.json:
        print(json.dumps(figures))
        return 0
    table = Table(title="SI units; sigma as a fraction of the conductance window")
    table.add_column("")
    for name in figures:
        table.add_column(name, justify="right")
    for field in next(iter(figures.values())):
        table.add_row(field, *(f"{f[field]:g}" for f in figures.values()))
    Console(width=None if sys.stdout.isatty() else 120).print(table)
    return 0
