"""Open untrusted files of data sets."""

import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .._files.refusal import FileRefusal, damaged

LARGEST_JSON = 2**29  # bytes; instances_train2017.json has 448 MiB
SHOWN = 80  # characters of a file's own text that an error repeats


@contextmanager
def refusing(caller: str, path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn a `FileRefusal` into a one-line `ValueError` that names function and file."""
    try:
        yield
    except FileRefusal as refusal:
        requirement, got, remedy = refusal.args
        raise ValueError(
            f"`sedma_jax.data.{caller}` of {os.fspath(path)!r} needs {requirement}. "
            f"Got {got}. {remedy}"
        ) from refusal.__cause__


def read_bytes(path: Path, limit: int) -> bytes:
    """The content of a regular file, unless it is longer than the limit."""
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):  # reading a pipe would block for ever
            raise FileRefusal(
                "a regular file", "a directory, pipe or device", "Name a file."
            )
        check_size(status.st_size, limit)
        with open(path, "rb") as file:
            content = file.read(limit + 1)
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        raise FileRefusal(
            "a file that it can open",
            getattr(error, "strerror", None) or str(error),
            "Check the path, its permissions, and that the archive was unpacked there.",
        ) from error
    check_size(len(content), limit)
    return content


def check_size(count: int, limit: int) -> None:
    """Refuse a file that is longer than the limit for its kind."""
    if count > limit:
        raise FileRefusal(
            f"a file of at most {limit:,} bytes", f"{count:,}", "Name another file."
        )


def read_json(path: Path, writer: str) -> Any:
    """The content of a JSON file."""
    try:
        return json.loads(read_bytes(path, LARGEST_JSON))
    except (ValueError, RecursionError) as error:  # a Unicode error is a ValueError
        raise damaged("JSON", error, writer) from error


def plain_name(name: Any, where: str) -> str:
    """A file name without folders, which cannot lead out of its folder."""
    if (
        not isinstance(name, str)
        or name in ("", ".", "..")
        or len(name) > 255  # NAME_MAX of Linux
        or any(character in "/\\:\0" for character in name)
    ):
        raise FileRefusal(
            f"plain file names, without folders, in {where}",
            repr(name)[:SHOWN],
            "Do not use a file that points elsewhere: get it from its publisher.",
        )
    return name


def field(record: Any, name: str, kind: type | tuple[type, ...], where: str) -> Any:
    """A field of a JSON object, which has to be of this type."""
    value = record.get(name) if isinstance(record, dict) else None
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        words = {list: "a list", str: "text", dict: "an object", int: "a whole number"}
        named = words.get(kind, "a number") if isinstance(kind, type) else "a number"
        got = "no object" if not isinstance(record, dict) else repr(value)[:SHOWN]
        raise FileRefusal(
            f"{named} as `{name}` of {where}", got, "Get the file from its publisher."
        )
    return value


def subfolder(folder: Path, name: str) -> Path:
    """A folder of the published layout, which has to exist."""
    path = folder / name
    if not path.is_dir():
        raise FileRefusal(
            f"the folder `{name}` in it, as the published archive unpacks",
            "none",
            "Unpack the archive there, or name the folder that holds it.",
        )
    return path
