"""The file of a study: a line of JSON for each result, written as it comes.

A process that is killed loses at most the line that it was writing, which the next one cuts
off. Numbers that JSON does not have, infinity and NaN, are words.
"""

import json
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from .._files.read_files import read_regular, told
from .._files.refusal import LARGEST_BYTES, FileRefusal
from .._files.whole_files import check_target

Figures = dict[str, bool | int | float]

_NAME = "`file` of `sedma_jax.study.run`"
_START = b'{"key": "'
_WORDS = ("nan", "inf", "-inf")


def read_results(path: Path) -> dict[str, Figures]:
    """The figures of each result that is there, by its key; a cut line is removed.

    **Raises:** `ValueError` if the file is none of ours, or cannot be read or written.
    """
    check_target(path, _NAME)
    try:
        content = read_regular(path, LARGEST_BYTES)
    except FileRefusal as refusal:
        if isinstance(refusal.__cause__, FileNotFoundError):
            return {}
        raise told(refusal, "`sedma_jax.study.run`", path) from refusal.__cause__
    *lines, tail = content.split(b"\n")
    found = {}
    for number, line in enumerate(lines, 1):
        key, figures = _record(line)
        if key is None:
            raise _not_ours(path, f"another line {number}")
        found[key] = figures
    if tail:
        if not (tail.startswith(_START) or _START.startswith(tail)):
            raise _not_ours(path, "another last line")
        os.truncate(path, len(content) - len(tail))
    return found


def append_results(
    path: Path, results: Iterable[tuple[str, Mapping[str, Any], Figures]]
) -> None:
    """Write the key, the labels and the figures of some results, and wait for the disk."""
    lines = []
    for key, labels, figures in results:
        words = {name: _written(value) for name, value in figures.items()}
        point = {name: _written(value) for name, value in labels.items()}
        lines.append(json.dumps({"key": key, "point": point, "found": words}) + "\n")
    with path.open("ab") as file:
        file.write("".join(lines).encode())
        file.flush()
        os.fsync(file.fileno())


def _written(value: Any) -> Any:
    finite = not isinstance(value, float) or math.isfinite(value)
    return value if finite else str(value)


def _record(line: bytes) -> tuple[str | None, Figures]:
    try:
        record = json.loads(line)
        key, found = record["key"], record["found"]
        figures = {name: _figure(value) for name, value in found.items()}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None, {}
    return (key if isinstance(key, str) else None), figures


def _figure(value: Any) -> bool | int | float:
    if isinstance(value, bool | int | float):
        return value
    if value in _WORDS:
        return float(value)
    raise ValueError


def _not_ours(path: Path, got: str) -> ValueError:
    return ValueError(
        f"{_NAME} needs a file of results, each a line of JSON. Got {got} in "
        f"{str(path)!r}. Name a new file, or remove the line."
    )
