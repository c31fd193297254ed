"""Keep compiled programs between processes."""

import os
import stat
from pathlib import Path

import jax

# Loading even the smallest program takes a fraction of compiling it: an end-to-end run of
# a hundred programs starts in 7.0 s with all of them kept, in 9.6 s with those of half a
# second and up, in 18.9 s with none.
_WORTH_KEEPING = 0.0

_VARIABLE = "SEDMA_COMPILATION_CACHE"
_OFF = "off"

# A run keeps about 2 MB; releases of JAX share nothing, so the folder would grow for ever.
_MOST_BYTES = 2**29


def enable_compilation_cache(path: str | os.PathLike[str] | None = None) -> Path:
    """Keep what JAX compiles in a folder, for the processes to come.

    Call it before the first computation: JAX settles on a cache then. The folder may be
    shared by processes, and may be deleted at any time. What it holds is run as it is:
    nobody else should be able to write there.

    **Arguments:**

    - `path`: the folder, made if needed, for its owner alone. Without it `sedma-jax` in
        `XDG_CACHE_HOME`, or in `~/.cache` where that is not set.

    **Returns:**

    The folder.

    **Raises:**

    - `OSError`: if the folder cannot be made.
    """
    path = _default() if path is None else Path(path).expanduser().absolute()
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    jax.config.update("jax_compilation_cache_dir", str(path))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", _WORTH_KEEPING)
    return path


def cache_of_commands(folder: str | None, wanted: bool = True) -> Path | None:
    """The cache that a command of `sedma` uses; None to go without.

    In this order: `folder`, as an option names it; `SEDMA_COMPILATION_CACHE`, a folder or
    `off`; what JAX was configured with; the folder of `enable_compilation_cache`. The
    last, which nobody asked for, is left alone unless it is its user's alone.

    **Raises:**

    - `OSError`: if a folder that was named cannot be made.
    """
    named = folder or os.environ.get(_VARIABLE)
    if not wanted or (folder is None and named == _OFF):
        jax.config.update("jax_enable_compilation_cache", False)
        return None
    if named:
        return enable_compilation_cache(named)
    if (own := jax.config.values["jax_compilation_cache_dir"]) is not None:
        return Path(own)
    try:
        path = _default()
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not _private(path):
            return None
        _forget_oldest(path)
    except (OSError, RuntimeError):  # no home to be found
        return None
    return enable_compilation_cache(path)


def _default() -> Path:
    base = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    return base.expanduser().absolute() / "sedma-jax"


def _private(path: Path) -> bool:
    """Whether this user can write there and, where that can be known, no other can."""
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        return False
    if os.name != "posix":
        return True
    status = path.stat()
    others = stat.S_IWGRP | stat.S_IWOTH
    return status.st_uid == os.geteuid() and not status.st_mode & others


def _forget_oldest(path: Path) -> None:
    """Keep a folder within its bound; JAX does so only with a package of its own choice."""
    kept = [(entry.stat(), entry.path) for entry in os.scandir(path) if entry.is_file()]
    size = sum(status.st_size for status, _ in kept)
    if size <= _MOST_BYTES:
        return
    for status, name in sorted(kept, key=lambda file: file[0].st_mtime):
        Path(name).unlink(missing_ok=True)
        size -= status.st_size
        if size <= _MOST_BYTES // 2:
            break
