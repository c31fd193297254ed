"""Tell whether a database that is open is still the one at its path.

SQLite goes on writing to files that were removed or replaced, and says nothing
(https://sqlite.org/howtocorrupt.html, section 2.4): no one else ever reads that.
"""

import os
from pathlib import Path

Identities = dict[str, tuple[int, int] | None]


def sqlite_files(path: str | os.PathLike[str]) -> Identities:
    """The files of an open database, and what they are; the log exists once it is used."""
    path = os.path.abspath(path)
    # SQLite follows a link before it names the log.
    return {name: _identity(name) for name in (path, os.path.realpath(path) + "-wal")}


def replaced(files: Identities) -> Path | None:
    """The first of these files that was removed, or is another one by now."""
    for path, identity in files.items():
        if identity is not None and _identity(path) != identity:
            return Path(path)
    return None


def _identity(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino
