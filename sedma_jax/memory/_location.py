"""Where a memory is stored: URLs that are safe to show, files that are safe to open."""

import os
from pathlib import Path
from urllib.parse import quote, quote_plus

from platformdirs import user_data_path
from sqlalchemy import URL, make_url

from .._files.read_files import check_input

_DRIVERS = {
    "sqlite": "sqlite",
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
    "postgresql+psycopg": "postgresql+psycopg",
}
_MAGIC = b"SQLite format 3\0"


def default_url() -> str:
    """The URL of the user's own memory, whose folder is created if needed.

    This is `memory.db` in the folder for application data, on Linux
    `$XDG_DATA_HOME/sedma` or `~/.local/share/sedma`, unless the environment variable
    `SEDMA_MEMORY` names another URL.

    **Example:**

        >>> url = sj.memory.default_url()
        >>> url.startswith("sqlite:///"), url.endswith("memory.db")
        (True, True)
    """
    if named := os.environ.get("SEDMA_MEMORY"):
        return named
    folder = user_data_path("sedma", appauthor=False, ensure_exists=True)
    return f"sqlite:///{folder / 'memory.db'}"


def parse(url: str, argument: str = "url") -> URL:
    """Check a URL without showing it, since it may hold a password."""
    try:
        parsed = make_url(url)
    except Exception:  # SQLAlchemy's errors may quote it
        parsed = None
    if parsed is None or parsed.drivername not in _DRIVERS:
        got = "text that is no URL" if parsed is None else f"{parsed.drivername[:40]!r}"
        raise ValueError(
            f"`{argument}` needs a URL such as sqlite:///patterns.db or "
            f"postgresql://user@host/database. Got {got}. In a password write %40 for @, "
            "%3A for : and %2F for /."
        )
    return parsed.set(drivername=_DRIVERS[parsed.drivername])


def shown(url: URL) -> str:
    """A URL as messages show it: without user, password and options."""
    if url.get_backend_name() == "sqlite":
        return f"sqlite:///{url.database or ''}"
    port = f":{url.port}" if url.port else ""
    return f"postgresql://{url.host or ''}{port}/{url.database or ''}"


def secrets(url: URL) -> list[str]:
    """The texts of a URL that no message may contain."""
    words = [str(url.password or "")]
    words += [str(url.query.get(name, "")) for name in ("password", "sslpassword")]
    words = [word for word in words if word]
    return [form for word in words for form in (word, quote(word, ""), quote_plus(word))]


def check_file(url: URL) -> bool:
    """Whether an SQLite file is yet to be created; refuse any other kind of file."""
    if not url.database or url.database == ":memory:":
        return True
    path = Path(url.database)
    check_input(path, "The memory")
    try:
        with path.open("rb") as file:
            start = file.read(len(_MAGIC))
    except FileNotFoundError:
        return True
    except OSError:
        return False  # SQLite explains it when it opens the file
    if start and start != _MAGIC:
        raise ValueError(
            f"The memory needs {shown(url)} to be an SQLite file. Got one that is damaged "
            "or something else. Nothing was changed. Restore a copy, or name another file."
        )
    return not start
