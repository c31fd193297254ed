"""Keep compiled programs from one process to the next."""

import os
import stat
from pathlib import Path

import jax

# Loading even the smallest program takes a fraction of compiling it: an end-to-end run of
# a hundred programs starts in 7.0 s if all of them are kept, in 9.6 s if only those that
# take half a second or more to compile are kept, and in 18.9 s if none is kept.
_WORTH_KEEPING = 0.0

_VARIABLE = "SEDMA_COMPILATION_CACHE"
_OFF = "off"

# A run keeps about 2 MB. Releases of JAX share no program, so the folder would grow on.
_MOST_BYTES = 2**29


def enable_compilation_cache(path: str | os.PathLike[str] | None = None) -> Path:
    """Keep what JAX compiles in a folder, for later processes.

    Call it before the first computation, at which JAX fixes its cache. Processes may share
    the folder, and it may be deleted at any time. JAX runs the programs in it unchecked, so
    nobody else should be able to write there.

    **Arguments:**

    - `path`: the folder, which is made for its owner alone if it is missing. By default
        `sedma-jax` in `XDG_CACHE_HOME`, or in `~/.cache` if that is not set.

    **Returns:**

    The folder.

    **Raises:**

    - `OSError`: if the folder cannot be made.

    **Example:**

        >>> folder = sj.enable_compilation_cache("compiled")  # before the first computation
        >>> folder.name, folder.is_dir()
        ('compiled', True)
    """
    path = _default() if path is None else Path(path).expanduser().absolute()
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    jax.config.update("jax_compilation_cache_dir", str(path))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", _WORTH_KEEPING)
    return path


def cache_of_commands(folder: str | None, wanted: bool = True) -> Path | None:
    """The cache that a command of `sedma` uses, or None for no cache.

    The first of these that is set: `folder`, from an option; `SEDMA_COMPILATION_CACHE`, a
    folder or `off`; the configuration of JAX; the folder of `enable_compilation_cache`. The
    last is the default, and is used only if no other user can write there.

    **Raises:**

    - `OSError`: if a named folder cannot be made.
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
    except (OSError, RuntimeError):  # there is no home folder
        return None
    return enable_compilation_cache(path)


def _default() -> Path:
    base = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    return base.expanduser().absolute() / "sedma-jax"


def _private(path: Path) -> bool:
    """Whether this user can write there and, as far as can be known, nobody else can."""
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        return False
    if os.name != "posix":
        return True
    status = path.stat()
    others = stat.S_IWGRP | stat.S_IWOTH
    return status.st_uid == os.geteuid() and not status.st_mode & others


def _forget_oldest(path: Path) -> None:
    """Keep a folder within its bound; JAX does so only with a further package."""
    kept = [(entry.stat(), entry.path) for entry in os.scandir(path) if entry.is_file()]
    size = sum(status.st_size for status, _ in kept)
    if size <= _MOST_BYTES:
        return
    for status, name in sorted(kept, key=lambda file: file[0].st_mtime):
        Path(name).unlink(missing_ok=True)
        size -= status.st_size
        if size <= _MOST_BYTES // 2:
            break
