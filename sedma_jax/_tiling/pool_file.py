"""Read a pool of arrays from a file."""

import json
import tomllib
from typing import Any

from .. import devices
from .._files.read_files import read_regular
from .._files.refusal import FileRefusal
from .pool import ArrayKind, Pool

_FIELDS = ("device", "rows", "cols", "count")
_LARGEST_BYTES = 2**20


def load_pool(path: str) -> Pool:
    """Read a pool from a `.toml` or `.json` file.

    It holds a list `arrays` of tables with `device` (a name of `devices.PULSED`),
    `rows` (word lines), `cols` (bit lines) and `count`:

        [[arrays]]
        device = "epiram"
        rows = 256
        cols = 256
        count = 16

    **Raises:**

    - `ValueError`: if the file cannot be read, or has other contents.

    **Example:**

        >>> from pathlib import Path
        >>> kind = '{"device": "epiram", "rows": 256, "cols": 256, "count": 16}'
        >>> _ = Path("pool.json").write_text('{"arrays": [' + kind + "]}")
        >>> sj.load_pool("pool.json").kinds[0].count
        16
    """
    content = _content(path)
    if not (isinstance(content, dict) and list(content) == ["arrays"]):
        raise _refusal(path, "one list `arrays` and nothing else", _shown(content))
    entries = content["arrays"]
    if not (isinstance(entries, list) and entries):
        raise _refusal(path, "`arrays` to be a list of at least one table", _shown(entries))
    kinds = [_kind(path, number, entry) for number, entry in enumerate(entries, 1)]
    return Pool(tuple(kinds))


def _content(path: str) -> Any:
    try:
        content = read_regular(path, _LARGEST_BYTES)
    except FileRefusal as refused:
        raise _refusal(path, *refused.args[:2]) from refused.__cause__
    try:
        text = content.decode()
        return json.loads(text) if path.lower().endswith(".json") else tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        # Both parsers raise a ValueError, and so does decoding.
        raise _refusal(path, "to be TOML, or JSON if its name says so", error) from error


def _kind(path: str, number: int, entry: Any) -> ArrayKind:
    if not isinstance(entry, dict) or set(entry) != set(_FIELDS):
        wanted = f"exactly the fields {', '.join(_FIELDS)} in array {number}"
        got = ", ".join(map(str, entry)) if isinstance(entry, dict) else _shown(entry)
        raise _refusal(path, wanted, got[:60] or "none")
    name = str(entry["device"]).lower().replace("_", "-")
    if name not in devices.PULSED:
        known = ", ".join(devices.PULSED)
        wanted = f"a device of array {number} that is one of {known}"
        raise _refusal(path, wanted, _shown(entry["device"]))
    for field in _FIELDS[1:]:
        value = entry[field]
        if type(value) is not int or not 1 <= value <= 2**20:
            wanted = f"a whole `{field}` of array {number} from 1 to {2**20:,}"
            raise _refusal(path, wanted, _shown(value))
    return ArrayKind(entry["rows"], entry["cols"], entry["count"], devices.PULSED[name])


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _refusal(path: str, wanted: str, got: object) -> ValueError:
    return ValueError(
        f"`--pool` needs {wanted}. Got {got} in {path}. See `sedma_jax.load_pool`."
    )
