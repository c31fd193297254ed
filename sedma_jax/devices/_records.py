"""Devices and measured arrays as plain tables, and back; nothing in a table is run.

A record is a table of its fields; those at their default are left out. Where one of several
kinds may stand, such as a curve, the table names its `kind` as well; the curve of a pulse
response may leave it out, since its fields tell it.
"""

import dataclasses
from typing import Any

import equinox as eqx
import jax.random as jr
import numpy as np

from .. import kernels
from ..kernels import (
    AbstractCurve,
    AbstractDrift,
    AbstractPulseCurve,
    AbstractReadNoise,
    Device,
    MeasuredArray,
    ProgrammingNoise,
    known_numbers,
)

_PULSES = ("TabulatedCurve", "SoftBoundCurve", "ExponentialCurve")
_KINDS: dict[type, tuple[str, ...]] = {
    Device: ("Device",),
    ProgrammingNoise: ("ProgrammingNoise",),
    AbstractPulseCurve: _PULSES,
    AbstractCurve: (
        "PolynomialCurve",
        "LogarithmicCurve",
        "PowerCurve",
        "SaturatingCurve",
        "PiecewiseCurve",
    ),
    AbstractDrift: (
        "PowerLawDrift",
        "LogarithmicDrift",
        "LogarithmicRelaxation",
        "ExponentialRelaxation",
        "TelegraphNoise",
        "TrapGroup",
        "DriftInTurn",
    ),
    AbstractReadNoise: (
        "StationaryReadNoise",
        "RelativeFlickerNoise",
        "AbsoluteFlickerNoise",
    ),
}
# Fields that hold a record, by the class that has them.
_FIELDS: dict[str, type] = {
    "device": Device,
    "programming": ProgrammingNoise,
    "drift": AbstractDrift,
    "read": AbstractReadNoise,
    "curve_ltp": AbstractPulseCurve,
    "curve_ltd": AbstractPulseCurve,
    "models": AbstractDrift,
} | dict.fromkeys(
    "deviation shift quality exponent_mean exponent_deviation below above".split(),
    AbstractCurve,
)
# A deviation of a curve of conductance, where others have one number.
_NUMBERS = {"LogarithmicDrift", "LogarithmicRelaxation", "ExponentialRelaxation"}
_WHOLE = ("levels",)
_DISTRIBUTIONS = {"normal": jr.normal, "uniform": kernels.standard_uniform}
_DEEPEST = 8
_ALONE = ("Device", "ProgrammingNoise", "MeasuredArray")  # which no other kind replaces
_NAMES = {name for names in _KINDS.values() for name in names} | {"MeasuredArray"}
_ROWS = ("pulses", "shares")  # arrays


class RecordRefusal(Exception):
    """A table is no record; made of requirement and value received."""


def plain(value: Any, name: str = "it") -> Any:
    """A record as a table; `RecordRefusal` for what has no plain form."""
    if isinstance(value, eqx.Module):
        return _table(value)
    if isinstance(value, tuple):
        return [plain(part, name) for part in value]
    known = known_numbers(value)
    if known is None or known.dtype.kind not in "iuf" or (known.ndim and name not in _ROWS):
        raise RecordRefusal(f"one `{name}`, known", repr(value))
    return np.asarray(known, float).tolist()


def _table(value: eqx.Module) -> dict[str, Any]:
    name = type(value).__name__
    if type(value) is not getattr(kernels, name, None) or name not in _NAMES:
        raise RecordRefusal("models of this package", f"`{name}`")
    table: dict[str, Any] = {} if name in _ALONE else {"kind": name}
    for field in dataclasses.fields(value):
        part = getattr(value, field.name)
        if part is None or (_simple(part) and _same(part, field.default)):
            continue
        table[field.name] = _named(field.name, part)
    return table


def _simple(part: Any) -> bool:
    return isinstance(part, int | float) or callable(part)


def _same(part: Any, default: Any) -> bool:
    return part is default or (isinstance(part, int | float) and part == default)


def _named(field: str, part: Any) -> Any:
    if field == "distribution":
        for name, function in _DISTRIBUTIONS.items():
            if part is function:
                return name
        raise RecordRefusal(f"a distribution among {', '.join(_DISTRIBUTIONS)}", f"{part}")
    return part if field in _WHOLE else plain(part, field)


def record(kind: type, table: Any, where: str = "", depth: int = 0) -> Any:
    """The record that a table is of; `RecordRefusal` for what is none.

    `kind` is what it has to be, or what its kind has to derive from; `where` names it, such
    as " of `drift`".
    Figures out of range are a `ValueError` of the record itself.
    """
    if depth > _DEEPEST:
        raise RecordRefusal(f"at most {_DEEPEST} tables in one another", "more")
    if not isinstance(table, dict):
        raise RecordRefusal(f"a table of the fields{where}", _text(table))
    table = dict(table)
    chosen = _chosen(kind, table, where)
    fields = {field.name: field for field in dataclasses.fields(chosen)}
    for name in table:
        if name not in fields:
            known = ", ".join(fields)
            raise RecordRefusal(f"fields{where} among {known}", f"`{name[:40]}`")
    for name, field in fields.items():
        if field.default is dataclasses.MISSING and name not in table:
            raise RecordRefusal(f"the field `{name}`{where}", "none")
    parts = {
        name: _value(chosen.__name__, name, value, where, depth)
        for name, value in table.items()
    }
    return chosen(**parts)


def _chosen(kind: type, table: dict[str, Any], where: str) -> type:
    if kind is MeasuredArray:
        return kind
    names = _KINDS[kind]
    given = table.pop("kind", None)
    if given is None and len(names) == 1:
        given = names[0]
    if given is None and kind is AbstractPulseCurve:
        for name in names:
            own = {field.name for field in dataclasses.fields(getattr(kernels, name))}
            if table and set(table) <= own:
                given = name
    if given not in names:
        raise RecordRefusal(f"a `kind`{where} among {', '.join(names)}", _text(given))
    return getattr(kernels, str(given))


def _value(owner: str, name: str, value: Any, where: str, depth: int) -> Any:
    inner = f"`{name}`{where}"
    kind = _FIELDS.get(name)
    if kind is not None and not (name == "deviation" and owner in _NUMBERS):
        if name == "models":
            if not isinstance(value, list):
                raise RecordRefusal(f"{inner}, a list of tables", _text(value))
            return tuple(record(kind, part, f" of {inner}", depth + 1) for part in value)
        return record(kind, value, f" of {inner}", depth + 1)
    if name == "distribution":
        if not isinstance(value, str) or value not in _DISTRIBUTIONS:
            known = ", ".join(_DISTRIBUTIONS)
            raise RecordRefusal(f"{inner} to be one of {known}", _text(value))
        return _DISTRIBUTIONS[value]
    if name in _WHOLE:
        if type(value) is not int:
            raise RecordRefusal(f"{inner} to be a whole number", _text(value))
        return value
    several = name in ("cycle_noise", "coefficients", *_ROWS)
    return _numbers(value, inner, several)


def _numbers(value: Any, where: str, several: bool) -> Any:
    number = lambda v: isinstance(v, int | float) and not isinstance(v, bool)
    parts = value if several and isinstance(value, list) else [value]
    if several == isinstance(value, list) and all(map(number, parts)):
        found = tuple(map(_float, parts))
        return found if several else found[0]
    wanted = "a list of numbers" if several else "a number"
    raise RecordRefusal(f"{where} to be {wanted}", _text(value))


def _float(value: int | float) -> float:
    try:
        return float(value)
    except OverflowError:  # a whole number of more digits than any float has
        return float("inf") if value > 0 else float("-inf")


def _text(value: Any) -> str:
    return repr(value)[:80]
