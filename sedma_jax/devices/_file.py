"""Devices of one's own in JSON and TOML files.

    g_min = 1e-6
    g_max = 1e-5
    pulses_ltp = 128
    pulses_ltd = 128
    sigma_c2c = 0.02
    [curve_ltp]
    pulses = [0.0, 0.5, 1.0]
    shares = [0.0, 0.8, 1.0]

Fields are those of `Device`. A curve is a table with the fields of `TabulatedCurve` or of
`SoftBoundCurve`. Nothing in a file is run.
"""

import dataclasses
import json
import os
import tomllib
from pathlib import Path
from typing import Any

import numpy as np

from .._files.read_files import read_regular
from .._files.refusal import FileRefusal
from .._files.whole_files import replacing
from ..kernels import (
    AbstractPulseCurve,
    Device,
    SoftBoundCurve,
    TabulatedCurve,
    check_kind,
    known_numbers,
)

_LARGEST_BYTES = 2**20
_FIELDS = {field.name: field for field in dataclasses.fields(Device)}
_CURVES = (TabulatedCurve, SoftBoundCurve)
_LOAD = "sedma_jax.devices.load"


def load(path: str | os.PathLike) -> Device:
    """Read a device from a `.json` or `.toml` file of at most 1 MiB.

    **Raises:** `ValueError` if the file cannot be read, has a field that a device has not,
    lacks one that it needs, or holds a figure out of range; each in one line.

    **Example:**

        >>> sj.devices.save(sj.devices.EPIRAM, "mine.json")
        >>> sj.devices.name_of(sj.devices.load("mine.json"))
        'epiram'
    """
    path = os.fspath(path)
    try:
        content = read_regular(path, _LARGEST_BYTES)
    except FileRefusal as refused:
        raise _refusal(path, *refused.args[:2]) from refused.__cause__
    try:
        text = content.decode()
        record = json.loads(text) if path.lower().endswith(".json") else tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise _refusal(path, "to be TOML, or JSON if its name says so", error) from error
    if not isinstance(record, dict):
        raise _refusal(path, "a table of the fields of `Device`", type(record).__name__)
    for name in record:
        if name not in _FIELDS:
            known = ", ".join(_FIELDS)
            raise _refusal(path, f"fields among {known}", f"`{name[:40]}`")
    for name, field in _FIELDS.items():
        if field.default is dataclasses.MISSING and name not in record:
            raise _refusal(path, f"the field `{name}`", "none")
    return Device(**{name: _value(path, name, v) for name, v in record.items()})


def _value(path: str, name: str, value: Any) -> Any:
    if name.startswith("curve_"):
        fields = set(value) if isinstance(value, dict) else set()
        for kind in _CURVES:
            if fields and fields <= {field.name for field in dataclasses.fields(kind)}:
                numbers = {k: _numbers(path, k, v) for k, v in value.items()}
                try:
                    return kind(**numbers)
                except TypeError as error:
                    raise _refusal(
                        path, f"all fields of `{name}`", sorted(fields)
                    ) from error
        wanted = f"`{name}` with `pulses` and `shares`, or `exponent` and `bound`"
        raise _refusal(path, wanted, sorted(fields) or value)
    if name == "cycle_noise":
        return tuple(_numbers(path, name, value, several=True))
    return _numbers(path, name, value, several=False)


def _numbers(path: str, name: str, value: Any, several: bool | None = None) -> Any:
    number = lambda v: isinstance(v, int | float) and not isinstance(v, bool)
    if isinstance(value, list):
        if several is not False and all(map(number, value)):
            return [float(v) for v in value]
    elif number(value) and not several:
        return float(value)
    wanted = "a list of numbers" if several else "a number"
    raise _refusal(path, f"`{name}` to be {wanted}", repr(value))


def _refusal(path: str, wanted: str, got: object) -> ValueError:
    text = " ".join(str(got).split())[:80]
    return ValueError(f"`{_LOAD}` needs {wanted}. Got {text} in {path}. See `Device`.")


def save(device: Device, path: str | os.PathLike) -> None:
    """Write a device to a `.json` file, which `load` reads to the same figures.

    An earlier file of the name stays whole until the new one is.

    **Raises:** `ValueError` for another ending, for what is no `Device`, for one that has
    figures for several devices, or if there can be no such file.

    **Example:**

        >>> sj.devices.save(sj.devices.AG_ASI, "mine.json")
        >>> sj.devices.load("mine.json").g_max == sj.devices.AG_ASI.g_max
        True
    """
    call = "sedma_jax.devices.save"
    check_kind(
        call, Device, "a `Device`", "A `MeasuredArray` has its in `device`.", device=device
    )
    path = os.fspath(path)
    if not path.lower().endswith(".json"):
        raise ValueError(
            f"`{call}` needs a name that ends in .json. Got {path}. Rename it."
        )
    record = {}
    for name, field in _FIELDS.items():
        value = getattr(device, name)
        if value is not None and (name.startswith("curve_") or value != field.default):
            record[name] = _plain(call, name, value)
    text = json.dumps(record, indent=1) + "\n"
    with replacing(Path(path)) as part:
        part.write_text(text)


def _plain(call: str, name: str, value: Any) -> Any:
    if isinstance(value, AbstractPulseCurve):
        parts = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        return {key: np.asarray(part, float).tolist() for key, part in parts.items()}
    if isinstance(value, tuple):
        return [_plain(call, name, v) for v in value]
    known = known_numbers(value)
    if known is None or known.ndim:
        raise ValueError(
            f"`{call}` needs one `{name}`. Got {value!r}. Save each device by itself."
        )
    return float(known)
