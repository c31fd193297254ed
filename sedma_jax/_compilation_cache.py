"""Keep compiled programs between processes."""

import os
from pathlib import Path

import jax

# Compilations shorter than this, in seconds, cost about as much to load as to repeat.
_WORTH_KEEPING = 0.5


def enable_compilation_cache(path: str | os.PathLike[str] | None = None) -> Path:
    """Keep what JAX compiles in a folder, for the processes to come.

    Call it before the first computation: JAX settles on a cache then. Programs are kept if
    they took half a second or more to compile. The folder may be shared by processes, and
    may be deleted at any time.

    **Arguments:**

    - `path`: the folder, made if needed. Without it `sedma-jax` in `XDG_CACHE_HOME`, or
        in `~/.cache` where that is not set.

    **Returns:**

    The folder.

    **Raises:**

    - `OSError`: if the folder cannot be made.
    """
    if path is None:
        path = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "sedma-jax"
    path = Path(path).expanduser().absolute()
    path.mkdir(parents=True, exist_ok=True)
    jax.config.update("jax_compilation_cache_dir", str(path))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", _WORTH_KEEPING)
    return path
