"""The database of a journal: its table, its rows as jobs, and what opening it repairs."""

import json
import logging
import math
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .._errors import reason
from .._tensors.manifest import check_cid
from .messages import JobRequest, read_job

log = logging.getLogger("sedma_jax.comm")

_VERSION = 2
_SCHEMA = """
CREATE TABLE jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    peer TEXT NOT NULL, id TEXT NOT NULL, request BLOB NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('queued', 'running', 'done', 'failed')),
    attempts INTEGER NOT NULL DEFAULT 0,
    accepted REAL NOT NULL, started REAL, finished REAL,
    cid TEXT, record TEXT, error TEXT,
    blame INTEGER NOT NULL DEFAULT 0, token TEXT,
    UNIQUE (peer, id)
);
CREATE INDEX jobs_by_state ON jobs (state, number);
CREATE TABLE damaged AS SELECT * FROM jobs;
"""
NEW_TOKEN = "lower(hex(randomblob(16)))"
_FROM_VERSION_1 = f"""
ALTER TABLE jobs ADD COLUMN blame INTEGER NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN token TEXT;
UPDATE jobs SET token = {NEW_TOKEN} WHERE state IN ('queued', 'running');
CREATE TABLE damaged AS SELECT * FROM jobs WHERE 0;
"""
_FIELDS = (
    *("number", "peer", "request", "state", "attempts", "blame", "token", "accepted"),
    *("started", "finished", "cid", "record", "error"),
)
COLUMNS = ", ".join(_FIELDS)


@dataclass(frozen=True)
class Job:
    """A job as the journal has it; times in seconds since 1970.

    - `attempts`: number of times it was started.
    - `blame`: those of them that it ended by the death of its worker, or for lack of a
        connection.
    - `token`: a random name of 32 letters and digits, under which its rewards count once.
    - `cid`: of the product, and `record`: of the computation, if it is done.
    """

    number: int
    peer: str
    request: JobRequest
    state: str
    attempts: int
    blame: int
    token: str | None
    accepted: float
    started: float | None
    finished: float | None
    cid: str | None
    record: dict | None
    error: str | None

    def described(self) -> dict:
        """The job as a record for JSON."""
        names = ("state", "attempts", "accepted", "started", "finished", "cid")
        return (
            {"id": self.request.id}
            | {name: getattr(self, name) for name in names}
            | {"record": self.record, "error": self.error}
        )


def read_row(row: Sequence[Any]) -> Job:
    """A job from its row, in the order of `COLUMNS`."""
    fields = dict(zip(_FIELDS, row, strict=True))
    record = fields["record"]
    fields["request"] = read_job(fields["request"])
    fields["record"] = None if record is None else json.loads(record)
    return Job(**fields)


def open_database(path: Path) -> sqlite3.Connection:
    """Open the database of a journal; it is made, or brought up to date, if needed.

    Rows that are not as a service writes them go to the table `damaged`.

    **Raises:** `ValueError` for a file that is damaged or of another version, `OSError` for
    one that cannot be written.
    """
    try:
        data = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            data.execute("PRAGMA journal_mode = WAL")
            # Otherwise a power cut loses commits.
            data.execute("PRAGMA synchronous = FULL")
            _create(data, path)
            (sound,) = data.execute("PRAGMA quick_check(1)").fetchone()
            if sound != "ok":
                raise sqlite3.DatabaseError(" ".join(sound.split())[:200])
            _set_damaged_apart(data, path)
        except BaseException:
            data.close()
            raise
        return data
    except sqlite3.OperationalError as error:
        raise OSError(
            f"`sedma serve` needs a journal that it can write. Got {path}: {error}. Look "
            "for another program that has it open, for a full disk, and at permissions."
        ) from error
    except sqlite3.DatabaseError as error:
        raise ValueError(
            f"`sedma serve` needs a journal as it wrote it. Got {path}, which is damaged: "
            f"{reason(error)}. Restore a copy, or move it away to begin an empty journal."
        ) from error


def _create(data: sqlite3.Connection, path: Path) -> None:
    (version,) = data.execute("PRAGMA user_version").fetchone()
    change = {0: _SCHEMA, 1: _FROM_VERSION_1}.get(version)
    if change is not None:
        data.executescript(f"BEGIN; {change} PRAGMA user_version = {_VERSION}; COMMIT;")
    elif version != _VERSION:
        raise ValueError(
            f"`sedma serve` needs a journal of version {_VERSION}. Got {version} in "
            f"{path}. Run the release that wrote it."
        )


def _set_damaged_apart(data: sqlite3.Connection, path: Path) -> None:
    """Move rows that somebody has edited into what is no job where no worker finds them."""
    for row in data.execute(f"SELECT {COLUMNS} FROM jobs").fetchall():
        try:
            _check(read_row(row))
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            told = " ".join(reason(error).split())[:300]
            log.warning(
                "row %s of %s is not as a service wrote it, and was moved to the table "
                "`damaged`: %s",
                *(row[0], path, told),
            )
            with data:
                data.execute("BEGIN")
                data.execute(
                    "INSERT INTO damaged SELECT * FROM jobs WHERE number = ?", row[:1]
                )
                data.execute("DELETE FROM jobs WHERE number = ?", row[:1])


def _check(job: Job) -> None:
    """Raise `ValueError` for a job whose columns are not of the kinds that are written."""
    times = [job.accepted, *(t for t in (job.started, job.finished) if t is not None)]
    kinds = {
        "peer": isinstance(job.peer, str),
        "attempts": type(job.attempts) is int and job.attempts >= 0,
        "blame": type(job.blame) is int and job.blame >= 0,
        "token": job.token is None or (isinstance(job.token, str) and job.token.isalnum()),
        "times": all(isinstance(t, float | int) and math.isfinite(t) for t in times),
        "record": job.record is None or isinstance(job.record, dict),
        "error": job.error is None or isinstance(job.error, str),
        "cid": (job.cid is None) == (job.state != "done"),
    }
    wrong = [name for name, right in kinds.items() if not right]
    if wrong:
        raise ValueError(f"{', '.join(wrong)} of another kind")
    if job.cid is not None:
        check_cid(job.cid)
