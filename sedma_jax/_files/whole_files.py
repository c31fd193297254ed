"""Write a file whole or not at all, where that is possible, and as its owner set it up."""

import errno
import os
import secrets
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PATIENCE = 10.0  # seconds for somebody to read a pipe


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file that takes the place of `path` once it is written without error.

    A symbolic link stays, and what it points to is replaced. A file keeps its mode and
    owner; a new one gets the mode that the umask leaves. What is no regular file, a device
    or a pipe, is written in place.

    **Raises:** `ValueError` if `path` cannot be written to as a file, `OSError`.
    """
    check_target(path)
    found = _status(path)
    target = Path(os.path.realpath(path))
    regular = found is None or stat.S_ISREG(found.st_mode)
    if found is not None:
        if not os.access(path, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        # Of a file that is open but has no name, `/dev/stdout` is still a link.
        regular = regular and target.exists() and os.path.samefile(target, path)
    if not regular:
        with _in_place(path) as part:
            yield part
        return
    part = target.with_name(f".{target.name[:100]}.{secrets.token_hex(8)}")
    mode = 0o666 if found is None else 0o600  # nobody reads it before the owner is known
    os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode))
    try:
        yield part
        if found is None or _same_owner_and_mode(part, found):
            _flush(part)
            part.replace(target)
        else:
            _copy_into(part, path)
    finally:
        part.unlink(missing_ok=True)


def check_target(path: Path, name: str | None = None) -> None:
    """Refuse what cannot be written to as a file, before the work whose result it is for.

    **Arguments:**

    - `path`: of the file.
    - `name`: of the option or argument that the message names.

    **Raises:** `ValueError`.
    """
    name = name or "a file to write"
    try:
        found = _status(path)
        parent = Path(os.path.realpath(path)).parent
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        told = getattr(error, "strerror", None) or str(error)
        raise ValueError(
            f"{name} needs a path that can be opened. Got {str(path)[:200]!r}: {told}. "
            "Name another file."
        ) from error
    kind = None
    if found is not None and stat.S_ISDIR(found.st_mode):
        kind = "a folder"
    elif found is not None and stat.S_ISSOCK(found.st_mode):
        kind = "a socket"
    elif found is None and not parent.is_dir():
        kind = f"one in {str(parent)[:200]!r}, which is no folder"
    if kind is not None:
        raise ValueError(
            f"{name} needs a file in a folder that exists. Got {str(path)[:200]!r}, "
            f"{kind}. Make the folder first, or name another file."
        )


def check_folder(path: Path, name: str) -> None:
    """Refuse what can be no folder for results, before the work; as `check_target`."""
    try:
        above = next(p for p in (path, *path.absolute().parents) if os.path.lexists(p))
        found = above.is_dir()
    except (OSError, ValueError, StopIteration):
        above, found = path, False
    if not found:
        raise ValueError(
            f"{name} needs a folder, or a path at which one can be made. Got "
            f"{str(path)[:200]!r}, where {str(above)[:200]!r} is none. Name another folder."
        )


def _status(path: Path) -> os.stat_result | None:
    """What a path leads to; None for what is yet to be made."""
    try:
        return os.stat(path)
    except FileNotFoundError:
        return None


def _same_owner_and_mode(part: Path, found: os.stat_result) -> bool:
    """Give a new file the owner and mode of the old one; False if that is not allowed."""
    mine = os.stat(part)
    try:
        if (mine.st_uid, mine.st_gid) != (found.st_uid, found.st_gid):
            os.chown(part, found.st_uid, found.st_gid)
        os.chmod(part, stat.S_IMODE(found.st_mode))
    except PermissionError:
        return False
    return True


@contextmanager
def _in_place(path: Path) -> Iterator[Path]:
    """A temporary file elsewhere whose content goes into what is there already."""
    with tempfile.TemporaryDirectory() as folder:
        part = Path(folder, path.name or "part")
        part.touch()
        yield part
        _copy_into(part, path)


def _copy_into(part: Path, path: Path) -> None:
    with part.open("rb") as file, open(_opened(path), "wb") as there:
        shutil.copyfileobj(file, there)
        if stat.S_ISREG(os.fstat(there.fileno()).st_mode):
            there.truncate()


def _opened(path: Path) -> int:
    """A descriptor to write to what is there; waits only a while for a reader of a pipe."""
    end = time.monotonic() + _PATIENCE
    while True:
        try:
            handle = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            if error.errno != errno.ENXIO or time.monotonic() >= end:
                raise
            time.sleep(0.05)
        else:
            os.set_blocking(handle, True)
            return handle


def _flush(part: Path) -> None:
    with part.open("rb") as file:
        os.fsync(file.fileno())
