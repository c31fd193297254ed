"""Devices and measured arrays of one's own in JSON and TOML files.

    g_min = 1e-6
    g_max = 1e-5
    pulses_ltp = 128
    pulses_ltd = 128
    sigma_c2c = 0.02
    [curve_ltp]
    pulses = [0.0, 0.5, 1.0]
    shares = [0.0, 0.8, 1.0]

Fields are those of `Device`. A file that has `programming` is of a `MeasuredArray`, with
its window under `device`, and names the `kind` of each of its models:

    [device]
    g_min = 0.0
    g_max = 2.5e-5
    pulses_ltp = 1024
    pulses_ltd = 1024
    [programming.deviation]
    kind = "PolynomialCurve"
    coefficients = [1e-7, 2e-7]
    reference = 2.5e-5

Nothing in a file is run.
"""

import json
import os
import tomllib
from pathlib import Path
from typing import Any

from .._files.read_files import read_regular
from .._files.refusal import FileRefusal
from .._files.whole_files import replacing
from ..kernels import Device, MeasuredArray, check_kind
from ._pulsed import PULSED
from ._records import RecordRefusal, plain, record

_LARGEST_BYTES = 2**20
_LOAD = "sedma_jax.devices.load"


def load(path: str | os.PathLike) -> Device | MeasuredArray:
    """Read a device or a measured array from a `.json` or `.toml` file of at most 1 MiB.

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
        table = json.loads(text) if path.lower().endswith(".json") else tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise _refusal(path, "to be TOML, or JSON if its name says so", error) from error
    if not isinstance(table, dict):
        raise _refusal(path, "a table of the fields of `Device`", type(table).__name__)
    kind = MeasuredArray if "programming" in table else Device
    try:
        return record(kind, table)
    except RecordRefusal as refused:
        raise _refusal(path, *refused.args) from None


def load_device(path: str | os.PathLike) -> Device:
    """Read a file of a device with pulses; a measured array is refused as well."""
    found = load(path)
    if isinstance(found, Device):
        return found
    raise _refusal(os.fspath(path), "a device with pulses", "a `MeasuredArray`")


def _refusal(path: str, wanted: str, got: object) -> ValueError:
    text = " ".join(str(got).split())[:80]
    return ValueError(f"`{_LOAD}` needs {wanted}. Got {text} in {path}. See `Device`.")


def save(device: Device | MeasuredArray, path: str | os.PathLike) -> None:
    """Write a device or measured array to a `.json` file, which `load` reads to the same.

    An earlier file of the name stays whole until the new one is.

    **Raises:** `ValueError` for another ending, for what is neither, for one that has
    figures for several devices or a model of one's own, or if there can be no such file.

    **Example:**

        >>> sj.devices.save(sj.noise_models.PCM, "mine.json")
        >>> sj.devices.load("mine.json").drift.t_0 == sj.noise_models.PCM.drift.t_0
        True
    """
    call = "sedma_jax.devices.save"
    check_kind(
        call,
        (Device, MeasuredArray),
        "a `Device` or a `MeasuredArray`",
        "A fit has its in `device` or `model`.",
        device=device,
    )
    path = os.fspath(path)
    if not path.lower().endswith(".json"):
        raise ValueError(
            f"`{call}` needs a name that ends in .json. Got {path}. Rename it."
        )
    text = json.dumps(_plain(call, device), indent=1) + "\n"
    with replacing(Path(path)) as part:
        part.write_text(text)


def _plain(call: str, device: Any) -> dict[str, Any]:
    try:
        return plain(device)
    except RecordRefusal as refused:
        wanted, got = refused.args
        raise ValueError(
            f"`{call}` needs {wanted}. Got {got[:200]}. Give each device by itself."
        ) from None


def device_text(call: str, device: Device) -> str:
    """A device as one line of JSON; equal devices have equal lines."""
    remedy = "Such as `sedma_jax.devices.EPIRAM`."
    check_kind(call, Device, "a `Device`", remedy, device=device)
    return json.dumps(_plain(call, device), sort_keys=True, separators=(",", ":"))


def device_of_table(table: Any) -> Device:
    """The device of a table, or of its text; `ValueError` for what is none."""
    try:
        if isinstance(table, str):
            table = json.loads(table)
        return record(Device, table, " of a device")
    except RecordRefusal as refused:
        wanted, got = refused.args
        raise ValueError(f"{wanted}. Got {got}.") from None


def named_or_own(text: str) -> Device:
    """The device that a name of `PULSED`, or a line of `device_text`, stands for."""
    return PULSED[text] if text in PULSED else device_of_table(text)
