"""Patterns as JSON: in files with one pattern per line, and in Redis.

The first line of a file says what the file is, which memory it comes from, at which
generation, and how many patterns follow. The input is not trusted: every field is checked,
and sizes are limited before anything is parsed.
"""

import json
import os
import time
from pathlib import Path
from typing import Any

from .._files.read_files import opened
from .._files.refusal import FileRefusal
from .._files.whole_files import replacing
from ._pattern import LARGEST_REWARD, Row, choice_of, new_row, unpacked_features
from ._statements import State

_FORMAT = "sedma-memory"
_VERSION = 1
_LONGEST_LINE = 2**16  # bytes
_LARGEST_FILE = 2**28  # bytes
_LARGEST_COUNT = 2**53
_FIELDS = ("kind", "workload", "choice", "features", "count", "mean", "m2", "updated")
_DAY = 86400 * 10**6  # microseconds: how far the clocks of two machines may differ


def as_fields(row: Row) -> dict[str, Any]:
    """A row as a JSON object."""
    features = unpacked_features(row.features)
    return {name: getattr(row, name) for name in _FIELDS} | {
        "choice": choice_of(row),
        "features": features and list(features),
    }


def as_row(fields: object) -> Row:
    """Check a JSON object, and make a row of it."""
    if not isinstance(fields, dict) or fields.keys() != set(_FIELDS):
        names = sorted(map(str, fields)) if isinstance(fields, dict) else fields
        raise FileRefusal(
            f"an object with the fields {', '.join(_FIELDS)} and no others",
            f"{names!r:.80}",
            "Export it again.",
        )
    numbers = _checked_numbers(fields)
    features = fields["features"]
    if features is not None and not (
        isinstance(features, list) and all(type(x) in (int, float) for x in features)
    ):
        raise FileRefusal(
            "`features` to be a list of numbers or null",
            f"{features!r:.80}",
            "Mend the line, or leave it out.",
        )
    try:
        names = fields["kind"], fields["workload"]
        return new_row(*names, fields["choice"], features, **numbers)
    except ValueError as error:
        raise FileRefusal("what `record` would take", f"this: {error}", "") from error


def _checked_numbers(fields: dict[str, Any]) -> dict[str, Any]:
    """Count, time, mean and sum of squared deviations, each within its range."""
    numbers = {}
    for name, low, high in (
        ("count", 1, _LARGEST_COUNT),
        ("updated", 0, time.time_ns() // 1000 + _DAY),
    ):
        numbers[name] = value = fields[name]
        if type(value) is not int or not low <= value <= high:
            raise FileRefusal(
                f"`{name}` to be an integer from {low} to {high}",
                f"{value!r:.80}",
                "Mend the line, or leave it out.",
            )
    most = 4 * LARGEST_REWARD**2 * numbers["count"] if numbers["count"] > 1 else 0.0
    for name, low, high in (
        ("mean", -LARGEST_REWARD, LARGEST_REWARD),
        ("m2", 0.0, most),
    ):
        value = fields[name]
        if type(value) not in (int, float) or not low <= value <= high:
            raise FileRefusal(
                f"`{name}` to be a number from {low:g} to {high:g}",
                f"{value!r:.80}",
                "Mend the line, or leave it out.",
            )
        numbers[name] = float(value)
    return numbers


def write_lines(path: str | os.PathLike[str], state: State, rows: tuple[Row, ...]) -> None:
    """Write a file, whole or not at all."""
    header = {
        "format": _FORMAT,
        "version": _VERSION,
        "memory": state.name,
        "generation": state.generation,
        "patterns": len(rows),
    }
    with replacing(Path(path)) as part, part.open("w", encoding="ascii") as file:
        for line in (header, *map(as_fields, rows)):
            file.write(json.dumps(line, separators=(",", ":"), allow_nan=False) + "\n")


def read_lines(path: str | os.PathLike[str]) -> tuple[str, int, list[Row]]:
    """The name and generation of the memory that was exported, and its patterns."""
    number, rows, places = 0, [], {}
    try:
        with opened(path, _LARGEST_FILE) as file:
            lines = iter(lambda: file.readline(_LONGEST_LINE + 1), b"")
            number = 1
            name, generation, count = _header(next(lines, b""))
            for number, line in enumerate(lines, 2):
                row = as_row(_parsed(line))
                first = places.setdefault(row.digest, number)
                if first != number:
                    raise FileRefusal(
                        "each kind, workload and choice once",
                        f"those of line {first}",
                        "Leave one of the two out.",
                    )
                rows.append(row)
        if len(rows) != count:
            raise FileRefusal(
                f"the {count:,} patterns that its first line names",
                f"{len(rows):,}",
                "Copy it again.",
            )
    except FileRefusal as refusal:
        wanted, got, remedy = refusal.args
        where = f", line {number}," if number else ""
        raise ValueError(
            f"`import_` of {os.fspath(path)!r}{where} needs {wanted}. Got {got}. "
            f"{remedy} Nothing was imported.".replace(".. ", ". ").replace("  ", " ")
        ) from refusal.__cause__
    return name, generation, rows


def _header(line: bytes) -> tuple[str, int, int]:
    fields = _parsed(line)
    known = isinstance(fields, dict) and fields.get("format") == _FORMAT
    if not known:
        raise FileRefusal(
            f'a first line with "format": "{_FORMAT}"',
            f"{fields!r:.80}",
            "Write the file with `sedma memory export`.",
        )
    if fields.get("version") != _VERSION:
        raise FileRefusal(
            f"version {_VERSION} of the format",
            f"{fields.get('version')!r:.80}",
            "Update sedma-jax.",
        )
    name, generation, count = (fields.get(k) for k in ("memory", "generation", "patterns"))
    if (
        not (isinstance(name, str) and len(name) == 32 and name.isalnum())
        or not (type(generation) is int and 0 <= generation < 2**63)
        or not (type(count) is int and 0 <= count < 2**63)
    ):
        raise FileRefusal(
            "a first line with `memory`, `generation` and `patterns`",
            f"{fields!r:.80}",
            "Export it again.",
        )
    return name, generation, count


def _parsed(line: bytes) -> Any:
    if len(line) > _LONGEST_LINE:
        raise FileRefusal(
            f"lines of at most {_LONGEST_LINE:,} bytes",
            "a longer one",
            "Write one pattern per line.",
        )
    try:
        return json.loads(line.decode(), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise FileRefusal("one JSON object", f"{line!r:.80}", "Export it again.") from error


def _no_constant(name: str) -> None:
    raise ValueError(name)
