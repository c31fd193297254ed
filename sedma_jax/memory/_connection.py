"""One connection to the database: checked when opened, replaced when lost."""

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from .._extras import install_hint
from .._files.same_file import Identities, replaced, sqlite_files
from ._location import check_file, secrets, shown
from ._migrate import VERSIONS, migrate, version

T = TypeVar("T")
Work = Callable[[Connection], T]

_PATIENCE = 30  # seconds to wait for other writers
_CONNECT_TIMEOUT = 10  # seconds
# The server ends the transaction of a process that is paused during a write after this
# many milliseconds, so that it cannot commit what it announced to Redis long ago
# (`_redis.LEASE`).
LONGEST_PAUSE = 10_000
_MIGRATION_LOCK = 0x5ED3A  # any number that others are unlikely to take

_BUSY = (
    f"Another process has held it for {_PATIENCE} s. Wait until it is done, or end it; "
    "many writers need PostgreSQL."
)
_REMEDIES = {
    sqlite3.SQLITE_BUSY: _BUSY,
    sqlite3.SQLITE_LOCKED: _BUSY,
    sqlite3.SQLITE_PERM: "Check the permissions of the file.",
    sqlite3.SQLITE_READONLY: "Check the permissions of the file and its folder.",
    sqlite3.SQLITE_CANTOPEN: "Check the path and its permissions.",
    sqlite3.SQLITE_FULL: "Free space on the disk.",
    sqlite3.SQLITE_IOERR: "Check the disk, and that there is space left on it.",
}


class Unreachable(ConnectionError):
    """The database cannot be used now. Nothing was written."""


class InDoubt(Unreachable):
    """The connection broke during a commit, which may or may not have happened."""

    def __init__(self, message: str, transaction: str | None, result: Any):
        super().__init__(message)
        self.transaction, self.result = transaction, result


class Database:
    """A connection: a read commits by itself, a write is a transaction.

    Threads take turns. A lost connection to a server is replaced once per call.
    """

    def __init__(self, url: URL):
        self.name = shown(url)
        self.is_sqlite = url.get_backend_name() == "sqlite"
        self._url = url
        self._process = os.getpid()
        self._lock = threading.RLock()
        self._current: Connection | None = None
        self._files: Identities = {}
        self._closed = False
        self._connect()

    def close(self) -> None:
        """Close the connection for good."""
        with self._lock:
            self._closed = True
            self._drop()

    def read(self, work: Work[T]) -> T:
        """Call `work` with the connection, and once more if that was lost."""
        with self._held():
            try:
                return self._run(work)
            except Unreachable:
                if self.is_sqlite:
                    raise
            self._connect()
            return self._run(work)

    def write(self, work: Work[T]) -> T:
        """Call `work` in a transaction.

        It is called once more if the connection was lost, and the transaction with it.
        """
        with self._held():
            try:
                return self._run(work, transaction=True)
            except InDoubt as doubt:
                if self.is_sqlite:
                    raise
                self._reconnect_in_doubt(doubt)
                if self._committed(doubt):
                    return doubt.result
            except Unreachable:
                if self.is_sqlite:
                    raise
                self._connect()
            return self._run(work, transaction=True)

    def data_version(self) -> int | None:
        """A number that changes when another connection commits; None if unknown."""
        if not self.is_sqlite:
            return None
        with self._held():
            # SQLAlchemy is bypassed: it would take longer than the lookup that this saves.
            return self._raw.execute("PRAGMA data_version").fetchone()[0]

    @contextmanager
    def _held(self) -> Iterator[None]:
        """Hold the lock, with a connection, in the process that opened it."""
        if os.getpid() != self._process:
            raise RuntimeError(
                "A memory needs to be used in the process that opened it. Got one that "
                "was forked from it. Open the memory again there."
            )
        with self._lock:
            if self._closed:
                raise ValueError(
                    "A memory needs to be open. Got a closed one. Open it again."
                )
            if self._current is None:
                self._connect()
            if gone := self._gone("Nothing was written"):
                raise Unreachable(gone)
            yield

    def _gone(self, outcome: str) -> str | None:
        """What to say if nobody else will ever read the files, or None."""
        path = replaced(self._files)
        if path is None:
            return None
        return (
            f"The memory {self.name} needs its files to stay while it is open. Got "
            f"{path.name} removed or replaced. {outcome}. Open the memory again."
        )

    @property
    def _connection(self) -> Connection:
        if self._current is None:
            raise RuntimeError("There is no connection.")  # a bug of ours
        return self._current

    def _run(self, work: Work[T], transaction: bool = False) -> T:
        connection = self._connection
        try:
            if not transaction:
                return work(connection)
            connection.exec_driver_sql("BEGIN IMMEDIATE" if self.is_sqlite else "BEGIN")
            try:
                result = work(connection)
                name = None if self.is_sqlite else self._transaction_name()
            except BaseException:
                with suppress(SQLAlchemyError):
                    connection.exec_driver_sql("ROLLBACK")
                raise
            self._commit(name, result)
            if gone := self._gone("What was being written may be lost"):
                raise InDoubt(gone, name, result)
            return result
        except SQLAlchemyError as error:
            lost = self._explained(error)
            if isinstance(lost, Unreachable) and not self.is_sqlite:
                self._drop()
            raise lost from None

    def _transaction_name(self) -> str:
        return self._connection.exec_driver_sql(
            "SELECT pg_current_xact_id()::text"
        ).scalar_one()

    def _commit(self, name: str | None, result: Any) -> None:
        try:
            self._connection.exec_driver_sql("COMMIT")
        except SQLAlchemyError as error:
            lost = self._explained(error)
            if self.is_sqlite:
                with suppress(SQLAlchemyError):
                    self._connection.exec_driver_sql("ROLLBACK")
            elif isinstance(lost, Unreachable):
                self._drop()
                raise InDoubt(str(lost), name, result) from None
            raise lost from None

    def _reconnect_in_doubt(self, doubt: InDoubt) -> None:
        try:
            self._connect()
        except Unreachable:
            raise InDoubt(
                f"{doubt} It broke during a commit: what was being written may be there "
                "or not.",
                doubt.transaction,
                doubt.result,
            ) from None

    def _committed(self, doubt: InDoubt) -> bool:
        """Whether the transaction was committed, once its server process has ended it."""
        question = "SELECT pg_xact_status(CAST(%s AS xid8))"
        while True:
            status = self._run(
                lambda connection: connection.exec_driver_sql(
                    question, (doubt.transaction,)
                ).scalar_one()
            )
            if status != "in progress":
                return status == "committed"
            time.sleep(0.05)

    def _connect(self) -> None:
        self._drop()
        new = check_file(self._url) if self.is_sqlite else False
        try:
            engine = _engine(self._url, self.is_sqlite)
            self._current = engine.connect()
            self._raw: Any = self._connection.connection.dbapi_connection
            self._check(new)
            if self.is_sqlite and self._url.database not in (None, "", ":memory:"):
                self._files = sqlite_files(str(self._url.database))
        except SQLAlchemyError as error:
            self._drop()
            raise self._explained(error) from None
        except BaseException:
            self._drop()
            raise

    def _check(self, new: bool) -> None:
        """Refuse what this package did not write, before changing anything."""
        connection = self._connection
        if self.is_sqlite and not new:
            damage = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar()
            if damage != "ok":
                raise self._damaged(" ".join(str(damage).split()))
        if self._is_current():
            return
        if self.is_sqlite:
            connection.exec_driver_sql("PRAGMA journal_mode = WAL")
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        else:
            connection.exec_driver_sql("BEGIN")
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})")
        try:
            if not self._is_current():  # no other process was faster
                migrate(connection)
        except BaseException:
            with suppress(SQLAlchemyError):
                connection.exec_driver_sql("ROLLBACK")
            raise
        connection.exec_driver_sql("COMMIT")

    def _is_current(self) -> bool:
        found = version(self._connection)
        if found is not None and found not in VERSIONS:
            raise ValueError(
                f"The memory {self.name} needs to have tables of version {VERSIONS[-1]} or "
                f"earlier. Got {found!r:.40}, from a newer sedma-jax. Nothing was changed. "
                "Update sedma-jax, or open another memory."
            )
        return found == VERSIONS[-1]

    def _drop(self) -> None:
        connection, self._current = self._current, None
        if connection is not None:
            # It is invalidated first, since `close` alone asks for a rollback, which a lost
            # connection does not answer.
            with suppress(SQLAlchemyError):
                connection.invalidate()
            with suppress(SQLAlchemyError):
                connection.close()

    def _explained(self, error: SQLAlchemyError) -> Exception:
        """The exception to raise in place of an error that may quote a password."""
        cause = getattr(error, "orig", None) or error
        reason = " ".join(str(cause).split())[:300].rstrip(".") or type(cause).__name__
        for secret in secrets(self._url):
            reason = reason.replace(secret, "***")
        lost = isinstance(error, OperationalError | InterfaceError) or getattr(
            error, "connection_invalidated", False
        )
        if self.is_sqlite and "decode to UTF-8" in reason:
            return self._damaged(reason)
        if lost:
            # The low byte of SQLite's extended codes is the kind of error.
            code = getattr(cause, "sqlite_errorcode", 0) & 0xFF
            remedy = (
                _REMEDIES.get(code, "Check the path, its permissions and the space left.")
                if self.is_sqlite
                else "Check that the server runs and the URL is right, or give `fallback=`."
            )
            return Unreachable(
                f"The memory needs the database {self.name}. Got: {reason}. {remedy}"
            )
        if self.is_sqlite and isinstance(error, DBAPIError):
            return self._damaged(reason)
        return RuntimeError(f"The database {self.name} refused. It said: {reason}.")

    def _damaged(self, reason: str) -> ValueError:
        return ValueError(
            f"The memory needs {self.name} to be an intact SQLite file. Got one that is "
            f"damaged or something else ({reason}). Nothing was changed. Restore a copy, "
            "or name another file."
        )


def _engine(url: URL, is_sqlite: bool) -> Engine:
    if is_sqlite:
        arguments: dict[str, Any] = {"timeout": _PATIENCE, "check_same_thread": False}
    else:
        options = (
            f"-c lock_timeout={_PATIENCE * 1000} "
            f"-c idle_in_transaction_session_timeout={LONGEST_PAUSE} "
            + str(url.query.get("options", ""))
        )
        arguments = {"options": options}
        if "connect_timeout" not in url.query:
            arguments["connect_timeout"] = _CONNECT_TIMEOUT
    try:
        engine = create_engine(
            url,
            poolclass=NullPool,
            isolation_level="AUTOCOMMIT",
            connect_args=arguments,
            hide_parameters=True,
        )
    except ImportError:
        raise ImportError(
            "A memory in PostgreSQL needs psycopg, which is not installed. "
            f"{install_hint('postgres')}"
        ) from None
    if is_sqlite:
        event.listen(engine, "connect", _synchronise)
    return engine


def _synchronise(connection: Any, _: object) -> None:
    # With WAL, a killed process loses nothing that it committed; a power failure may lose
    # the last commits, but leaves the file intact (https://sqlite.org/wal.html).
    connection.execute("PRAGMA synchronous = NORMAL")
