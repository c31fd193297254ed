"""The long-term memory: what was chosen before, and what it brought."""

import os
import time
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

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

    A context manager. `len(memory)` is the number of patterns. Threads may share it;
    a process forked from this one needs its own.
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
        transaction: writers in other processes lose nothing and double nothing. In a
        full memory a new pattern takes the place of the least valuable one.

        **Arguments:**

        - `kind`: what was chosen, e.g. `"partition"`; 1 to 200 printable characters.
        - `workload`: the class of workloads; the same limits.
        - `choice`: JSON of at most 16 KiB. The order of keys does not matter; 1 and 1.0
            differ.
        - `reward`: what it brought, more is better, in one unit for a kind; a number, or
            several to be counted each. Of magnitude below 1e100.
        - `features`: of the workload, for `nearest`: at most 256 numbers of magnitude
            below 1e15. The last given ones count.

        **Raises:**

        - `ValueError`: for arguments outside these limits.
        - `ConnectionError`: if the database cannot be used, and there is no fallback. The
            reward is then not recorded, or the message says that this is in doubt.
        """
        self.record_all([Record(kind, workload, choice, reward, features)])

    def record_all(self, records: Iterable[Record | tuple]) -> None:
        """Add the rewards of several choices in one transaction: all of them or none.

        **Arguments:**

        - `records`: `(kind, workload, choice, reward, features)` as `record` takes them.

        **Raises:** as `record` does.
        """
        rows, now = [], _now()
        for kind, workload, choice, reward, features in records:
            count, mean, m2 = summarise(reward)
            given = {"count": count, "mean": mean, "m2": m2, "updated": now}
            rows.append(new_row(kind, workload, choice, features, **given))
        if rows:
            self._store.write(lambda c: statements.write(c, rows, self._capacity))

    def recall(self, kind: str, workload: str) -> list[Pattern]:
        """Patterns of a class of workloads, the highest mean reward first.

        A write that was committed before the call, by any process, is seen; with
        `staleness=s`, one that was committed `s` seconds before.
        """
        check_name("kind", kind)
        check_name("workload", workload)
        return [as_pattern(row) for row in self._store.rows(kind, workload)]

    def nearest(self, kind: str, features: ArrayLike, k: int = 8) -> list[Pattern]:
        """The `k` patterns of a kind whose features are nearest, nearest first.

        Features are divided by their standard deviation over the patterns of the kind
        with as many features as asked for; others are left out. As current as `recall`.
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

    def patterns(self, kind: str | None = None, workload: str | None = None):
        """All patterns there are, or those of a kind and workload, as a list."""
        chosen = statements.selection(kind, workload)
        rows = self._store.read(lambda c: statements.rows(c, chosen))
        return [as_pattern(row) for row in rows]

    def forget(
        self,
        kind: str,
        workload: str | None = None,
        choice: Mapping[str, Any] | None = None,
    ) -> int:
        """Delete the patterns of a kind, of a workload of it, or of one choice.

        **Returns:** how many there were.
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

        **Returns:** how many there were.
        """
        state, rows = self._store.snapshot()
        write_lines(path, state, rows)
        return len(rows)

    def import_(self, path: str | os.PathLike[str], *, again: bool = False) -> int:
        """Merge the patterns of a file that `export` wrote, all of them or none.

        **Arguments:**

        - `path`: the file, of at most 256 MiB and 64 KiB a line.
        - `again`: count the rewards again, even if they are counted already: because the
            file, or another export of the same memory, was imported before, or comes from
            this memory.

        **Returns:** how many patterns it had.

        **Raises:**

        - `ValueError`: with the number of the line that is not a valid pattern; if the
            rewards are counted already.
        """
        name, generation, rows = read_lines(path)

        def merge(connection):
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
        """Where the patterns are, without user and password."""
        return self._store.name

    def close(self) -> None:
        """Close the connections. A closed memory stays closed."""
        self._store.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
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
    """Open a long-term memory, and make or migrate its tables if need be.

    **Arguments:**

    - `url`: `sqlite:///patterns.db` (a file, made if it is missing; `sqlite://` is
        forgotten when closed) or `postgresql://user:password@host/database`.
    - `cache`: lookups that this process keeps; 0 keeps none.
    - `redis`: `redis://...` of a server that keeps lookups for several processes.
    - `fallback`: `sqlite:///...` to go on with where the database cannot be reached.
    - `capacity`: patterns the memory holds at most.
    - `staleness`: seconds for which a lookup may be answered without a question to the
        database whether it changed. Own writes are always seen.
    - `create`: whether to make a file that is missing.

    **Raises:**

    - `ValueError`: for a URL of another form, a file that is damaged or no SQLite file,
        and tables of a newer version. None of them is changed.
    - `ConnectionError`: if the database cannot be reached, and there is no fallback.
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


def _now() -> int:
    return time.time_ns() // 1000
