"""Standard output and error, and what becomes of a command that cannot write there."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from typing import Any


class OutputError(Exception):
    """Standard output cannot be written. No `OSError`: files and sockets are others."""


class OutputClosedError(OutputError):
    """Whoever read standard output, `head` say, has seen enough."""


class _Output:
    """A stream whose failures are `OutputError`s."""

    def __init__(self, stream: Any):
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with _failures():
            return self._stream.write(text)

    def flush(self) -> None:
        with _failures():
            self._stream.flush()


@contextmanager
def _failures() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError as error:
        raise OutputClosedError from error
    except OSError as error:
        raise OutputError(
            f"standard output cannot be written: {error.strerror}. Direct it elsewhere."
        ) from error


@contextmanager
def standard_streams() -> Iterator[None]:
    """Streams that take any text and report failures; flushed at the end.

    **Raises:** `OutputError` if standard output is closed or cannot be written.
    """
    if sys.stderr is None:
        # Python prints to standard output what is meant for a closed standard error.
        sys.stderr = open(os.devnull, "w")
    if sys.stdout is None:
        # Otherwise the next file that is opened would take its place.
        raise OutputError("standard output is closed. Direct it to a file or /dev/null.")
    # The name of a file need not be text in the encoding of the terminal.
    with suppress(AttributeError):
        sys.stdout.reconfigure(errors="backslashreplace")  # pyright: ignore
    stream = sys.stdout
    output = _Output(stream)
    try:
        with redirect_stdout(output):  # pyright: ignore[reportArgumentType]
            yield
        output.flush()
    except OutputError:
        _discard(stream)
        raise


_LONGEST = 4000  # characters of an error, which may quote its input


def complain(text: str) -> None:
    """Print a line on standard error, if that can be written; of a long one both ends."""
    if len(text) > _LONGEST:
        half = _LONGEST // 2
        text = f"{text[:half]} ... ({len(text) - 2 * half:,} characters) ... {text[-half:]}"
    try:
        print(f"sedma: {text}", file=sys.stderr, flush=True)
    except OSError:
        _discard(sys.stderr)


def _discard(stream: Any) -> None:
    """Drop what could not be written, which Python would try again when it ends."""
    with (
        suppress(OSError, ValueError),  # a stream of a test has no descriptor
        open(os.devnull, "w") as nowhere,
    ):
        os.dup2(nowhere.fileno(), stream.fileno())
