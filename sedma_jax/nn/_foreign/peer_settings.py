"""Settings of other simulators: what has a counterpart here, and what has none."""

import dataclasses
import enum
import json
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from ..._files.read_files import read_regular, told
from ..._files.refusal import FileRefusal
from ...kernels import Device, shown
from ...noise_models import MeasuredArray

_LARGEST_BYTES = 2**24


class PeerSettings(NamedTuple):
    """What settings of another simulator are here.

    - `device`: the technology, for `analogize`, `program_matrix` or `program_exactly`.
    - `options`: of `analogize` and `program_matrix`: converters, arrays, scaling.
    - `calls`: what is done by a function of its own here, by its name in `sedma_jax`, with
        its arguments, such as `{"with_line_resistance": {"r_word": 1.0, "r_bit": 1.0}}`.
    - `without`: each term that changes something there and has no counterpart in the above,
        with what is said of it.

    Terms of training and of the simulator itself, such as a GPU's number, are not listed.

    **Example:**

        >>> adc = {"model": "SignMagnitudeADC", "bits": 8}
        >>> settings = sj.nn.from_crosssim({"xbar": {"adc": {"mvm": adc}}})
        >>> settings.options["adc"].bits, settings.without
        (8, {})
    """

    device: Device | MeasuredArray
    options: dict[str, Any]
    calls: dict[str, dict[str, Any]]
    without: dict[str, str]


class Terms:
    """Nested settings, of which each is asked for by its path, and nothing is forgotten.

    **Arguments:**

    - `given`: nested mappings.
    """

    def __init__(self, given: Mapping[str, Any]):
        self.given = dict(_flat(given))
        self.asked: set[str] = set()

    def get(self, path: str, default: Any) -> Any:
        """A term, which has been dealt with then; null is the default."""
        self.asked.add(path)
        value = self.given.get(path)
        return default if value is None else value

    def number(self, call: str, path: str, default: float) -> float:
        """A term that is a number."""
        value = self.get(path, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(
                f"`{call}` needs `{path}` to be a number. Got {shown(value)}. Correct it."
            )
        return value

    def none_of(self, neutral: Mapping[str, Any], why: str = "") -> dict[str, str]:
        """Terms without a counterpart that are not at the value that does nothing."""
        found = {}
        for path, idle in neutral.items():
            value = self.get(path, idle)
            if value != idle:
                found[path] = f"{shown(value)}{why and '. ' + why}"
        return found

    def rest(self, ignored: tuple[str, ...]) -> dict[str, str]:
        """Terms that nobody has asked for, but for those below some paths."""
        return {
            path: f"{shown(value)}. It is not known here."
            for path, value in self.given.items()
            if path not in self.asked and not path.startswith(ignored) and value is not None
        }


def _flat(given: Any, above: str = "") -> list[tuple[str, Any]]:
    found = []
    for name, value in given.items():
        path = f"{above}.{name}" if above else str(name)
        found += _flat(value, path) if isinstance(value, Mapping) else [(path, value)]
    return found


def settings_of(call: str, given: Any) -> dict[str, Any]:
    """Nested mappings of a file, of a mapping, or of the attributes of an object."""
    if isinstance(given, str | os.PathLike):
        return _read(call, given)
    found = plain_settings(given)
    if not isinstance(found, dict):
        raise ValueError(
            f"`{call}` needs settings: an object, a mapping, or the path of a JSON file. "
            f"Got {shown(given)}. Pass one of these."
        )
    return found


def plain_settings(given: Any, depth: int = 12) -> Any:
    """Records, enumerations and objects as mappings, names and numbers."""
    if isinstance(given, enum.Enum):
        return given.name
    if given is None or isinstance(given, bool | int | float | str):
        return given
    if depth and isinstance(given, Mapping):
        return {str(name): plain_settings(v, depth - 1) for name, v in given.items()}
    if isinstance(given, list | tuple):
        return [plain_settings(v, depth - 1) for v in given] if depth else []
    if depth and not isinstance(given, type) and hasattr(given, "__dict__"):
        names = [n for n in vars(given) if not n.startswith("_")]
        if dataclasses.is_dataclass(given):
            names = [field.name for field in dataclasses.fields(given)]
        parts = {n: plain_settings(getattr(given, n), depth - 1) for n in names}
        return {"type": type(given).__name__, **parts}
    return getattr(given, "__name__", type(given).__name__)


def _read(call: str, path: str | os.PathLike[str]) -> dict[str, Any]:
    try:
        content = read_regular(path, _LARGEST_BYTES)
        try:
            found = json.loads(content)
        except (ValueError, RecursionError) as error:
            got = " ".join(str(error).split())[:80]
            raise FileRefusal("JSON", got, "Write it by the other simulator.") from error
        if not isinstance(found, dict):
            got = f"a {type(found).__name__}"
            raise FileRefusal("a JSON object", got, "Write it by the other simulator.")
    except FileRefusal as refusal:
        raise told(refusal, f"`{call}`", path) from refusal.__cause__
    return found
