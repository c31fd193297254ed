"""Read files that somebody names: regular ones only, and no more than a limit.

Opening a pipe would wait for a writer, and a device such as `/dev/zero`, perhaps behind a
link, has no end.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from .refusal import FileRefusal

StrPath = str | os.PathLike[str]


@contextmanager
def opened(path: StrPath, limit: int) -> Iterator[BinaryIO]:
    """A regular file of at most `limit` bytes, open for reading.

    **Raises:** `FileRefusal`, with `FileNotFoundError` as its cause where there is none.
    """
    try:
        # What it is is asked of the open file: the name may come to mean another one.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        raise _unopened(error) from error
    try:
        status = os.fstat(handle)
        _check_kind(status)
    except BaseException:
        os.close(handle)
        raise
    with open(handle, "rb") as file:
        if status.st_size > limit:
            raise FileRefusal(
                f"at most {limit:,} bytes", f"{status.st_size:,}", "Name a smaller file."
            )
        yield file


def read_regular(path: StrPath, limit: int) -> bytes:
    """The content of a regular file of at most `limit` bytes; errors as of `opened`."""
    with opened(path, limit) as file:
        try:
            # A buffer as large as the limit would be allocated whole.
            content = file.read(os.fstat(file.fileno()).st_size)
            grown = file.read(1)
        except OSError as error:
            raise _unopened(error) from error
    if grown:
        raise FileRefusal(
            "a file that nobody writes to meanwhile", "one that grows", "Copy it first."
        )
    return content


def check_input(path: StrPath, name: str) -> None:
    """Refuse a path at which there is something else than a regular file.

    For files that other libraries read. **Raises:** `ValueError`, which names `name`.
    """
    try:
        _check_kind(os.stat(path))
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        told = getattr(error, "strerror", None) or str(error)
        raise ValueError(
            f"{name} needs a file that can be opened. Got {os.fspath(path)!r}: {told}. "
            "Check the path and its permissions."
        ) from error
    except FileRefusal as refusal:
        wanted, got, remedy = refusal.args
        raise ValueError(
            f"{name} needs {wanted}. Got {got} at {os.fspath(path)!r}. {remedy}"
        ) from None


def told(refusal: FileRefusal, name: str, path: StrPath) -> ValueError:
    """A refusal as the one line that a user reads."""
    wanted, got, remedy = refusal.args
    return ValueError(f"{name} of {os.fspath(path)!r} needs {wanted}. Got {got}. {remedy}")


def _check_kind(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = "directory" if stat.S_ISDIR(status.st_mode) else "pipe or device"
        raise FileRefusal("a regular file", f"a {kind}", "Name a file.")


def _unopened(error: OSError | ValueError) -> FileRefusal:
    refusal = FileRefusal(
        "a file that it can open",
        getattr(error, "strerror", None) or str(error),
        "Check the path and its permissions.",
    )
    refusal.__cause__ = error
    return refusal
