"""Where `sedma node get` writes: a file whole or not at all, anything else in place."""

import errno
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def output(path: Path) -> Iterator[BinaryIO]:
    """A file to write to, in the place of `path` once the block has ended without error.

    A link is followed. What is there keeps its mode and owner; a new file has the mode that
    the umask gives. A device or FIFO is written in place.

    **Raises:** `ValueError` for a folder, or a FIFO that nobody reads; `OSError`.
    """
    path = Path(os.path.realpath(path))
    try:
        there = path.stat()
    except FileNotFoundError:
        there = None
    if there is not None and stat.S_ISDIR(there.st_mode):
        raise ValueError(
            f"`--out` needs the name of a file. Got the folder {path}. Add a name to it."
        )
    if there is not None and not stat.S_ISREG(there.st_mode):
        with open(_opened(path), "wb") as file:
            yield file
        return
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:80]}.")
    try:
        with open(handle, "wb") as file:
            yield file
            file.flush()
            _take_over(file.fileno(), there)
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def _opened(path: Path) -> int:
    try:
        # Without waiting for a reader, who may never come.
        handle = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        raise ValueError(
            f"`--out` needs a FIFO that somebody reads. Got {path}, which nobody has open. "
            "Start the reader first."
        ) from error
    os.set_blocking(handle, True)
    return handle


def _take_over(handle: int, there: os.stat_result | None) -> None:
    """Give a file the mode and owner of the one that it replaces."""
    if there is None:
        mask = os.umask(0)
        os.umask(mask)
        os.fchmod(handle, 0o666 & ~mask)
        return
    mine = os.fstat(handle)
    if (mine.st_uid, mine.st_gid) != (there.st_uid, there.st_gid):
        os.fchown(handle, there.st_uid, there.st_gid)  # `PermissionError` for others
    os.fchmod(handle, stat.S_IMODE(there.st_mode))
