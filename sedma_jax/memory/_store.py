"""A database, the caches in front of it, and the fallback that may replace it."""

import threading
import time
import warnings
from collections.abc import Callable
from secrets import token_hex
from typing import Any, TypeVar

import numpy as np
from sqlalchemy import Connection

from . import _statements as statements
from ._connection import Database, InDoubt, Unreachable
from ._features import FeatureTable
from ._location import check_file, parse, shown
from ._lookup_cache import Bucket, LookupCache
from ._pattern import Row
from ._statements import State, Written

T = TypeVar("T")


class Store:
    """Reads and writes rows; what it caches of them is as current as the database.

    Every lookup first asks whether the database has changed, and drops what has; with
    SQLite that takes no query. With `staleness` it asks no more often than that.
    """

    def __init__(
        self,
        url: str,
        *,
        cache: int,
        redis: str | None,
        fallback: str | None,
        rows: int,
        staleness: float,
        create: bool,
    ):
        location = parse(url)
        if not create and location.get_backend_name() == "sqlite" and check_file(location):
            raise ValueError(
                "`open` with `create=False` needs a memory that exists. Got "
                f"{shown(location)}, which does not. Check the path; `record` "
                "and `import_` make one."
            )
        self._fallback = None if fallback is None else parse(fallback, "fallback")
        self._rows_at_most, self._staleness = rows, staleness
        self._lookups = LookupCache(cache)
        self._lock = threading.RLock()
        try:
            self._use(Database(location))
        except Unreachable as lost:
            self._fall_back(lost)
            return
        if redis is not None:
            try:
                from ._redis import SharedLookups  # an extra of its own

                self._shared = SharedLookups(redis, self._state.name)
            except BaseException:
                self.close()
                raise

    @property
    def name(self) -> str:
        """The database, as messages name it."""
        return self._database.name

    def close(self) -> None:
        """Close the connections."""
        with self._lock:
            self._database.close()
            if self._shared is not None:
                self._shared.close()

    def read(self, work: Callable[[Any], T]) -> T:
        """The result of `work` on the connection."""
        with self._lock:
            return self._try(lambda: self._database.read(work))

    def snapshot(self) -> tuple[State, tuple[Row, ...]]:
        """How far the database has come, and all its patterns."""
        with self._lock:
            return self._try(lambda: self._database.write(statements.snapshot))

    def write(self, work: Callable[[Any], Written]) -> Written:
        """Do `work` in a transaction, after which no lookup is older than that."""
        with self._lock:
            written = self._try(lambda: self._write(work))
            for bucket in written.buckets:
                self._lookups.drop(bucket)
            if written.generation == self._state.generation + 1:
                deleted = written.generation if written.deleted else self._state.deleted
                self._state = self._state._replace(
                    generation=written.generation, deleted=deleted
                )
            else:
                self._data_version, self._checked = None, -np.inf
            return written

    def rows(self, kind: str, workload: str) -> tuple[Row, ...]:
        """The rows of a kind and workload, the highest mean reward first."""
        with self._lock:
            return self._try(lambda: self._rows((kind, workload)))

    def nearest(self, kind: str, features: np.ndarray, k: int) -> list[tuple[Row, float]]:
        """The nearest rows of a kind, and their distances."""
        with self._lock:
            table = self._try(lambda: self._table(kind, features.size))
            return table.nearest(features, k)

    def _use(self, database: Database) -> None:
        self._database = database
        self._shared = None
        self._state: State = database.read(statements.state)
        self._data_version: int | None = None
        self._checked = -np.inf
        self._lookups.clear()
        self._tables: dict[tuple[str, int], tuple[FeatureTable, int]] = {}

    def _fall_back(self, lost: Unreachable) -> None:
        """Go on with the fallback; without one, raise `lost`."""
        fallback, self._fallback = self._fallback, None
        if fallback is None:
            raise lost
        doubt = (
            "What was just recorded may be in both. " if isinstance(lost, InDoubt) else ""
        )
        self._use(Database(fallback))
        warnings.warn(
            f"{lost} Patterns go to {self._database.name} from now on. {doubt}Take them "
            "over with `sedma memory export` and `sedma memory import`.",
            RuntimeWarning,
            stacklevel=4,
        )

    def _try(self, question: Callable[[], T]) -> T:
        """The answer of the database or, if that is unreachable, of the fallback."""
        try:
            return question()
        except Unreachable as lost:
            self._fall_back(lost)
            return question()

    def _write(self, work: Callable[[Any], Written]) -> Written:
        """Write, and see to it that no lookup in Redis stays older than that."""
        shared, token, announced = self._shared, token_hex(8), set()
        if shared is None:
            return self._database.write(work)

        def announced_work(connection: Connection) -> Written:
            written = work(connection)
            announced.update(written.buckets)
            shared.announce(written.buckets, token)
            return written

        try:
            return self._database.write(announced_work)
        finally:
            shared.withdraw(announced, token)

    def _rows(self, bucket: Bucket) -> tuple[Row, ...]:
        # Redis answers as fast as the server would say that nothing changed, so that
        # lookups in this process would save no time.
        keep = self._shared is None or self._database.is_sqlite or self._staleness > 0
        if keep:
            self._catch_up()
            rows = self._lookups.get(bucket)
            if rows is not None:
                return rows
        read = lambda: self._database.read(lambda c: statements.bucket_rows(c, bucket))
        rows = read() if self._shared is None else self._shared.look_up(bucket, read)
        if keep:
            self._lookups.put(bucket, rows)
        return rows

    def _catch_up(self) -> None:
        """Drop what other processes have changed since the last check."""
        now = time.monotonic()
        if now - self._checked < self._staleness:
            return
        data_version = self._database.data_version()
        if data_version is None or data_version != self._data_version:
            self._database.read(self._drop_changed)
            # The version from before the read, so that later changes are looked for again.
            self._data_version = data_version
        self._checked = now

    def _drop_changed(self, connection: Connection) -> None:
        state = statements.state(connection)
        if state.deleted > self._state.generation:
            self._lookups.clear()
        elif state.generation > self._state.generation:
            for bucket in statements.touched(connection, self._state.generation):
                self._lookups.drop(bucket)
        self._state = state

    def _table(self, kind: str, columns: int) -> FeatureTable:
        self._catch_up()
        table, seen = self._tables.get((kind, columns), (None, -1))
        if table is None:
            table = FeatureTable(columns, self._rows_at_most)
        state = self._state

        def update(connection: Connection) -> None:
            if state.deleted > seen >= 0:
                table.keep(statements.digests(connection, kind))
            table.update(statements.featured(connection, kind, seen))

        if seen < state.generation:
            self._database.read(update)
            self._tables[kind, columns] = table, state.generation
        return table
