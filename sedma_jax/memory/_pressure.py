"""How much of the memory of this machine is in use."""

from collections.abc import Iterable, Iterator
from pathlib import Path

_MEMINFO = Path("/proc/meminfo")
_GROUP = Path("/sys/fs/cgroup")


def memory_pressure() -> float:
    """Share of memory in use, from 0 to 1: of the machine, or of this container if more.

    If the system does not say, as outside Linux, it is taken to be a half.

    **Example:**

        >>> 0 <= sj.memory.memory_pressure() <= 1
        True
    """
    shares = [share for share in (_machine(), _container()) if share is not None]
    return min(max(shares, default=0.5), 1.0)


def memory_size() -> int:
    """Bytes of memory of this machine, or of this container if fewer; 2 GB if unknown."""
    sizes = []
    try:
        figures = dict(_pairs(_MEMINFO.read_text().splitlines()))
        sizes.append(int(figures["MemTotal"].split()[0]) * 1024)
    except (OSError, KeyError, ValueError):
        pass
    try:
        sizes.append(int((_GROUP / "memory.max").read_text()))
    except (OSError, ValueError):
        pass  # "max" is no limit
    return min(sizes, default=2 * 10**9)


def _machine() -> float | None:
    try:
        lines = _MEMINFO.read_text().splitlines()
        figures = {name: int(rest.split()[0]) for name, rest in _pairs(lines)}
        return 1 - figures["MemAvailable"] / figures["MemTotal"]
    except (OSError, KeyError, ValueError, ZeroDivisionError):
        return None


def _pairs(lines: Iterable[str]) -> Iterator[list[str]]:
    return (line.split(":", 1) for line in lines if ":" in line)


def _container() -> float | None:
    try:
        limit = (_GROUP / "memory.max").read_text().strip()
        used = int((_GROUP / "memory.current").read_text())
        # The page cache is released when memory is needed.
        cache = dict(line.split() for line in (_GROUP / "memory.stat").open())
        return (used - int(cache.get("inactive_file", 0))) / int(limit)
    except (OSError, ValueError, ZeroDivisionError):
        return None  # "max" is no limit
