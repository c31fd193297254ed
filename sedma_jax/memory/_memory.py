"""The long-term memory: choices made before, and the rewards they brought."""

import os
import time
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sqlalchemy import Connection

from . import _statements as statements
from ._json_lines import read_lines, write_lines
from ._pattern import (
    Pattern,
    as_pattern,
    canonical,
    check_name,
    new_row,
    packed_features,
    summarise,
)
from ._store import Store
from ._strategy import Record

CAPACITY = 10_000  # patterns (SPEC, section 4)


class Memory:
    """An open long-term memory; `open` makes one.

    It is a context manager, and `len(memory)` is the number of patterns. Threads may share
    a memory; a process forked from this one has to open its own.

    **Example:**

        >>> memory = sj.memory.open("sqlite://")  # forgotten when closed
        >>> memory.record("tiling", "tall", {"rows": 64}, 1.0)
        >>> memory.record("tiling", "tall", {"rows": 256}, 2.0)
        >>> [pattern.choice["rows"] for pattern in memory.recall("tiling", "tall")]
        [256, 64]
        >>> memory.close()
    """

    def __init__(self, store: Store, capacity: int):
        self._store, self._capacity = store, capacity

    def record(
        self,
        kind: str,
        workload: str,
        choice: Mapping[str, Any],
        reward: ArrayLike,
        *,
        features: ArrayLike | None = None,
    ) -> None:
        """Add the rewards that a choice brought.

        They are merged into the pattern of the same kind, workload and choice in one
        transaction, so that with several writers no reward is lost or counted twice. In a
        full memory a new pattern replaces the least valuable one (`_eviction.py`).

        **Arguments:**

        - `kind`: what was chosen, e.g. `"partition"`; 1 to 200 printable characters.
        - `workload`: the class of workloads, under the same limits.
        - `choice`: JSON of at most 16 KiB. The order of keys does not matter; 1 and 1.0
            differ.
        - `reward`: what the choice brought, larger being better, in one unit per kind: a
            number, or several of which each counts. Magnitudes are below 1e100.
        - `features`: features of the workload, for `nearest`: at most 256 numbers of
            magnitude below 1e15. The ones given last are kept.

        **Raises:**

        - `ValueError`: for arguments outside these limits.
        - `ConnectionError`: if the database cannot be used, and there is no fallback. The
            reward was then not recorded, unless the message says that this is in doubt.
        """
        one = Record(
            kind=kind, workload=workload, choice=choice, reward=reward, features=features
        )
        self.record_all([one])

    def record_all(
        self, records: Iterable[Record | tuple], *, once: str | None = None
    ) -> None:
        """Add the rewards of several choices in one transaction: all of them or none.

        **Arguments:**

        - `records`: each a `Record`, or a tuple of its fields.
        - `once`: a name of 32 letters and digits for these rewards. Nothing is added if
            rewards of that name were, until `settle` forgets it: whoever cannot tell
            whether a call succeeded may repeat it.

        **Raises:** as `record` does.
        """
        rows, now = [], _now()
        for kind, workload, choice, reward, features in records:
            count, mean, m2 = summarise(reward)
            given = {"count": count, "mean": mean, "m2": m2, "updated": now}
            rows.append(new_row(kind, workload, choice, features, **given))
        if once is not None:
            _check_once(once)
        if rows:
            self._store.write(lambda c: statements.write(c, rows, self._capacity, once))

    def settle(self, names: Iterable[str]) -> None:
        """Forget names given as `once`, whose calls nobody will repeat any more."""
        names = list(names)
        for name in names:
            _check_once(name)
        if names:
            self._store.write(lambda c: statements.forget_taken(c, names))

    def recall(self, kind: str, workload: str) -> list[Pattern]:
        """The patterns of a class of workloads, the highest mean reward first.

        Every write committed before the call, by any process, is seen; with
        `staleness=s`, every write committed at least `s` seconds before.

        **Raises:** as `record` does.
        """
        check_name("kind", kind)
        check_name("workload", workload)
        return [as_pattern(row) for row in self._store.rows(kind, workload)]

    def nearest(self, kind: str, features: ArrayLike, k: int = 8) -> list[Pattern]:
        """The `k` patterns of a kind whose features are nearest, nearest first.

        Features are divided by their standard deviation over the patterns of the kind that
        have as many features as those asked for; other patterns are left out. The answer is
        as current as that of `recall`.

        **Raises:** as `record` does, and `ValueError` if `k < 1`.
        """
        check_name("kind", kind)
        packed = packed_features(features)
        if packed is None or k < 1:
            raise ValueError(
                f"`nearest` needs `features` and `k >= 1`. Got {features!r:.40} and {k}. "
                "Use `recall` for workloads without features."
            )
        query = np.frombuffer(packed, "<f8")
        found = self._store.nearest(kind, query, k)
        return [as_pattern(row, distance) for row, distance in found]

    def patterns(
        self, kind: str | None = None, workload: str | None = None
    ) -> list[Pattern]:
        """All patterns, or those of a kind, of a workload, or of both."""
        chosen = statements.selection(kind, workload)
        rows = self._store.read(lambda c: statements.rows(c, chosen))
        return [as_pattern(row) for row in rows]

    def forget(
        self,
        kind: str,
        workload: str | None = None,
        choice: Mapping[str, Any] | None = None,
    ) -> int:
        """Delete the patterns of a kind, or only those of a workload or a choice in it.

        **Returns:** how many were deleted.
        """
        check_name("kind", kind)
        text = None if choice is None else canonical(choice)
        chosen = statements.selection(kind, workload, text)
        return self._store.write(lambda c: statements.remove(c, chosen)).deleted

    def prune(self, keep: int) -> int:
        """Delete all but the `keep` most valuable patterns.

        **Returns:** how many were deleted.
        """
        if keep < 0:
            raise ValueError(f"`prune` needs `keep >= 0`. Got {keep}. Name how many stay.")
        return self._store.write(lambda c: statements.keep_most_valuable(c, keep)).deleted

    def export(self, path: str | os.PathLike[str]) -> int:
        """Write all patterns to a file of JSON Lines, whole or not at all.

        **Returns:** how many were written.
        """
        state, rows = self._store.snapshot()
        write_lines(path, state, rows)
        return len(rows)

    def import_(self, path: str | os.PathLike[str], *, again: bool = False) -> int:
        """Merge the patterns of a file that `export` wrote, all of them or none.

        **Arguments:**

        - `path`: the file, of at most 256 MiB in all and 64 KiB per line.
        - `again`: count the rewards even if they may be counted already, because the file,
            or another export of the same memory, was imported before or comes from this
            memory.

        **Returns:** how many patterns the file had.

        **Raises:**

        - `ValueError`: if a line is not a valid pattern, naming its number; if the rewards
            are counted already.
        """
        name, generation, rows = read_lines(path)

        def merge(connection: Connection) -> statements.Written:
            known = statements.taken_generation(connection, name)
            own = name == statements.state(connection).name
            if (own or known is not None) and not again:
                whose = "this memory itself" if own else "a memory that was imported before"
                raise ValueError(
                    f"`import_` needs rewards that are not counted yet. Got those of "
                    f"{whose} in {os.fspath(path)!r}. Nothing was imported. To count them "
                    "again, say so (`again=True`, `--again`)."
                )
            written = statements.write(connection, rows, self._capacity)
            statements.note_taken(connection, name, generation)
            return written

        self._store.write(merge)
        return len(rows)

    @property
    def name(self) -> str:
        """Where the patterns are stored, without user and password."""
        return self._store.name

    def close(self) -> None:
        """Close the connections. A closed memory stays closed; `open` makes another."""
        self._store.close()

    def __enter__(self):
        return self

    def __exit__(self, *_: object):
        self.close()

    def __len__(self):
        return self._store.read(statements.state).size

    def __repr__(self):
        return f"<sedma_jax memory {self._store.name}>"


def open(
    url: str,
    *,
    cache: int = 1024,
    redis: str | None = None,
    fallback: str | None = None,
    capacity: int = CAPACITY,
    staleness: float = 0.0,
    create: bool = True,
) -> Memory:
    """Open a long-term memory, and create or migrate its tables if needed.

    **Arguments:**

    - `url`: `sqlite:///patterns.db` (a file, created if it is missing; `sqlite://` is
        forgotten when closed) or `postgresql://user:password@host/database`.
    - `cache`: how many lookups this process keeps; 0 keeps none.
    - `redis`: `redis://...` of a server that keeps lookups for several processes.
    - `fallback`: `sqlite:///...` to use if the database cannot be reached.
    - `capacity`: how many patterns the memory holds at most.
    - `staleness`: seconds for which a lookup may be answered without asking the database
        whether it has changed. Own writes are always seen.
    - `create`: whether to create a file that is missing.

    **Raises:**

    - `ValueError`: for a URL of another form, a file that is damaged or is not an SQLite
        file, and tables of a newer version, none of which is changed; for a `cache` or
        `staleness` below 0, or a `capacity` below 1.
    - `ConnectionError`: if the database cannot be reached, and there is no fallback.

    **Example:**

        >>> with sj.memory.open("sqlite:///patterns.db") as memory:
        ...     memory.record("tiling", "tall", {"rows": 64}, 1.0)
        >>> with sj.memory.open("sqlite:///patterns.db") as memory:  # another day
        ...     len(memory), memory.recall("tiling", "tall")[0].mean
        (1, 1.0)
    """
    if cache < 0 or capacity < 1 or not 0 <= staleness:
        raise ValueError(
            "`open` needs `cache >= 0`, `capacity >= 1` and `staleness >= 0`. Got "
            f"{cache=}, {capacity=}, {staleness=}. Leave them out for the defaults."
        )
    store = Store(
        url,
        cache=cache,
        redis=redis,
        fallback=fallback,
        rows=capacity,
        staleness=staleness,
        create=create,
    )
    return Memory(store, capacity)


def _check_once(name: str) -> None:
    if not (len(name) == 32 and name.isascii() and name.isalnum()):
        raise ValueError(
            "`record_all` needs `once` of 32 letters and digits. Got "
            f"{name[:40]!r}. `uuid.uuid4().hex` makes one."
        )


def _now() -> int:
    return time.time_ns() // 1000
