"""Columns of numbers in CSV files, and the units of measured conductances."""

from typing import Any

import numpy as np

from .._files.read_files import read_regular
from .._files.refusal import FileRefusal
from ..kernels import shown

UNITS = {"S": 1.0, "mS": 1e-3, "uS": 1e-6, "nS": 1e-9}
_LARGEST_BYTES = 2**26
# Units lie a thousandfold apart: half of that, in logarithms, tells them from scatter.
MIXED = np.sqrt(1e3)


def refusal(call: str, wanted: str, got: object, remedy: str) -> ValueError:
    """What a fit needs, what it got, and the remedy."""
    return ValueError(f"`{call}` needs {wanted}. Got {got}. {remedy}")


def unit_of(call: str, unit: Any) -> float:
    """Siemens per unit."""
    if not isinstance(unit, str) or unit not in UNITS:
        wanted = f"`unit` to be one of {', '.join(UNITS)}"
        raise refusal(call, wanted, repr(unit), "It is that of the conductances.")
    return UNITS[unit]


def columns_of(call: str, path: str, wanted: str, least: int, most: float) -> np.ndarray:
    """A file's numbers, (columns, rows): so many columns, at most one line of heading."""
    try:
        lines = read_regular(path, _LARGEST_BYTES).decode().splitlines()
    except FileRefusal as refused:
        needed, got = refused.args[:2]
        raise refusal(call, needed, got, f"The file is {path}.") from refused.__cause__
    except UnicodeDecodeError:
        raise refusal(call, "a text file", "other bytes", f"The file is {path}.") from None
    rows = [line.split(",") for line in lines if line.strip()]
    for skipped in (0, 1):
        try:
            table = np.array([[float(v) for v in row] for row in rows[skipped:]])
        except ValueError:
            continue
        if table.ndim == 2 and least <= table.shape[1] <= most:
            return table.T
    raise refusal(call, wanted, "others", f"The file is {path}.")


def finite(call: str, name: str, values: Any) -> np.ndarray:
    """Numbers of one name, all of them finite."""
    try:
        found = np.asarray(values, float)
    except (TypeError, ValueError):
        remedy = "Rows have one length."
        raise refusal(call, f"numbers in `{name}`", shown(values), remedy) from None
    if not np.isfinite(found).all():
        wanted, remedy = f"`{name}` to be finite", "Leave those out."
        raise refusal(call, wanted, "NaN or infinity", remedy)
    return found
