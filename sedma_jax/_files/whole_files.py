"""Write a file whole or not at all."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file beside `path` that replaces it once it is written without error."""
    handle, part = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    part = Path(part)
    try:
        open(handle, "wb").close()
        yield part
        part.chmod(0o644)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
