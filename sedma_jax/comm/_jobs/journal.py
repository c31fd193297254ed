"""The jobs that a service has accepted, on disk: jobs in SQLite, their tensors in files.

A job is `queued`, `running`, `done` or `failed`. Every change is on disk, by `fsync`, when
its method returns; a process that is killed before that leaves the old state or the new
one. Opening a journal queues the jobs again that ran when the process was killed, unless
they have been tried too often.
"""

import fcntl
import json
import os
import sqlite3
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..._files.same_file import replaced, sqlite_files
from ..._files.whole_files import replacing
from .._tensors.manifest import describe, tensor_of
from .messages import JobRequest, encode_job, read_job

_VERSION = 1
_SCHEMA = """
CREATE TABLE jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    peer TEXT NOT NULL, id TEXT NOT NULL, request BLOB NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('queued', 'running', 'done', 'failed')),
    attempts INTEGER NOT NULL DEFAULT 0,
    accepted REAL NOT NULL, started REAL, finished REAL,
    cid TEXT, record TEXT, error TEXT,
    UNIQUE (peer, id)
);
CREATE INDEX jobs_by_state ON jobs (state, number);
"""
_FIELDS = (
    *("number", "peer", "request", "state", "attempts", "accepted", "started"),
    *("finished", "cid", "record", "error"),
)
_COLUMNS = ", ".join(_FIELDS)


class JobRefused(RuntimeError):
    """A job that is not accepted; the message says what to do."""


@dataclass(frozen=True)
class Job:
    """A job as the journal has it; times in seconds since 1970.

    - `attempts`: number of times it was started.
    - `cid`: of the product, and `record`: of the computation, if it is done.
    """

    number: int
    peer: str
    request: JobRequest
    state: str
    attempts: int
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


class Journal:
    """The jobs of a service; its methods may be called from any thread.

    **Arguments:**

    - `folder`: where the jobs are kept; one process at a time may use it.
    - `attempts`: how often a job may be running when the process dies; after that it counts
        as failed, since it may be the cause.
    - `keep`: finished jobs to remember; older ones are forgotten with their products.
    """

    def __init__(self, folder: Path, *, attempts: int = 3, keep: int = 1000):
        self._tensors = folder / "tensors"
        self._tensors.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._keep, self._lock = keep, threading.RLock()
        self._held: dict[str, int] = {}  # CIDs of jobs that are about to be accepted
        self._owner = (folder / "journal.lock").open("w")
        try:
            fcntl.flock(self._owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._owner.close()
            raise OSError(
                "`sedma serve` needs a folder that belongs to one service. Got a second "
                f"one in {folder}. Stop the first, or choose another folder by `--dir`."
            ) from error
        self._data = sqlite3.connect(
            folder / "jobs.db", isolation_level=None, check_same_thread=False
        )
        self._data.execute("PRAGMA journal_mode = WAL")
        self._data.execute(
            "PRAGMA synchronous = FULL"
        )  # otherwise a power cut loses commits
        self._create(folder)
        self._files = sqlite_files(folder / "jobs.db")
        self._data.execute(
            "UPDATE jobs SET state = 'failed', finished = ?, error = "
            "'the service died ' || attempts || ' times while it ran' "
            "WHERE state = 'running' AND attempts >= ?",
            (time.time(), attempts),
        )
        self._data.execute("UPDATE jobs SET state = 'queued' WHERE state = 'running'")
        for part in self._tensors.glob(".*"):
            part.unlink()  # left by a process that was killed
        self.collect()

    def _create(self, folder: Path) -> None:
        (version,) = self._data.execute("PRAGMA user_version").fetchone()
        if version == 0:
            self._data.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = 1; COMMIT;")
        elif version != _VERSION:
            raise ValueError(
                f"`sedma serve` needs a journal of version {_VERSION}. Got {version} in "
                f"{folder}. Run the release that wrote it."
            )

    def close(self) -> None:
        """Close the journal, so that another process may open it."""
        with self._lock:
            self._data.close()
            self._owner.close()

    def accept(self, peer: str, request: JobRequest, most: int) -> tuple[Job, bool]:
        """Accept a job whose tensors are saved; the job, and whether it is new.

        **Raises:** `JobRefused` if `most` jobs wait or run, if the peer has used the id for
        another job, or if the database was removed or replaced.
        """
        with self._lock:
            self._check_in_place()  # a job that it knows is lost with it too
            known = self.known(peer, request)
            if known is not None:
                return known, False
            self.check_room(most)
            self._data.execute(
                "INSERT INTO jobs (peer, id, request, state, accepted) "
                "VALUES (?, ?, ?, 'queued', ?)",
                (peer, request.id, encode_job(request), time.time()),
            )
            job = self.find(peer, request.id)
            assert job is not None
            self._check_in_place()
            return job, True

    def _check_in_place(self) -> None:
        path = replaced(self._files)
        if path is not None:
            raise JobRefused(
                "`JobClient.submit` needs a service that can keep jobs. Got one whose "
                f"{path.name} was removed or replaced. Start that service again."
            )

    def known(self, peer: str, request: JobRequest) -> Job | None:
        """The job of a request if it was accepted before."""
        job = self.find(peer, request.id)
        if job is not None and job.request != request:
            raise JobRefused(
                "`JobClient.submit` needs an id that names one job. Got "
                f"{request.id} for another job than before. Choose another id."
            )
        return job

    def check_room(self, most: int, arriving: int = 0) -> None:
        """Raise `JobRefused` if too many jobs wait or run."""
        counts = self.counts()
        waiting = counts["queued"] + counts["running"] + arriving
        if waiting >= most:
            raise JobRefused(
                f"`JobClient.submit` needs room: a service takes at most {most} jobs at "
                f"once. Got {waiting} already. Submit it again later, with the same id."
            )

    def claim(self) -> Job | None:
        """Start the job that waited longest; None if no job waits."""
        rows = self._ask(
            "UPDATE jobs SET state = 'running', attempts = attempts + 1, started = ? "
            "WHERE number = (SELECT number FROM jobs WHERE state = 'queued' "
            f"ORDER BY number LIMIT 1) RETURNING {_COLUMNS}",
            time.time(),
        )
        return rows[0] if rows else None

    def release(self, job: Job, *, blameless: bool) -> None:
        """Queue a claimed job again; if `blameless`, the attempt does not count."""
        self._ask(
            "UPDATE jobs SET state = 'queued', attempts = attempts - ? "
            f"WHERE number = ? AND state = 'running' RETURNING {_COLUMNS}",
            int(blameless),
            job.number,
        )

    def finish(
        self,
        job: Job,
        *,
        cid: str | None = None,
        record: dict | None = None,
        error: str | None = None,
    ) -> bool:
        """Record the end of a job; False if it is recorded already."""
        rows = self._ask(
            "UPDATE jobs SET state = ?, finished = ?, cid = ?, record = ?, error = ? "
            f"WHERE number = ? AND state = 'running' RETURNING {_COLUMNS}",
            "done" if error is None else "failed",
            time.time(),
            cid,
            json.dumps(record, allow_nan=False),
            error,
            job.number,
        )
        self.collect()
        return bool(rows)

    def find(self, peer: str, id: str) -> Job | None:
        """The job of a peer with an id."""
        found = self._ask(
            f"SELECT {_COLUMNS} FROM jobs WHERE peer = ? AND id = ?", peer, id
        )
        return found[0] if found else None

    def jobs(self, peer: str, limit: int = 100) -> list[Job]:
        """The newest jobs of a peer, newest first."""
        return self._ask(
            f"SELECT {_COLUMNS} FROM jobs WHERE peer = ? ORDER BY number DESC LIMIT ?",
            peer,
            limit,
        )

    def counts(self) -> dict[str, int]:
        """Jobs in each state."""
        with self._lock:
            rows = self._data.execute("SELECT state, count(*) FROM jobs GROUP BY state")
            return {"queued": 0, "running": 0, "done": 0, "failed": 0} | dict(rows)

    def oldest(self) -> float | None:
        """When the job that waits longest was accepted."""
        with self._lock:
            return self._data.execute(
                "SELECT min(accepted) FROM jobs WHERE state = 'queued'"
            ).fetchone()[0]

    def _ask(self, statement: str, *values: Any) -> list[Job]:
        with self._lock:
            rows = self._data.execute(statement, values).fetchall()
        return [_job(dict(zip(_FIELDS, row, strict=True))) for row in rows]

    # Tensors

    def hold(self, cids: list[str]) -> None:
        """Keep tensors until `let_go`, whether a job needs them or not."""
        with self._lock:
            for cid in cids:
                self._held[cid] = self._held.get(cid, 0) + 1

    def let_go(self, cids: list[str]) -> None:
        """End one `hold`."""
        with self._lock:
            for cid in cids:
                self._held[cid] -= 1
                if not self._held[cid]:
                    del self._held[cid]

    def has(self, cid: str) -> bool:
        """Whether a tensor is on disk."""
        return self._path(cid).exists()

    def save(self, cid: str, array: np.ndarray) -> None:
        """Write a tensor to the disk."""
        with replacing(self._path(cid)) as part, part.open("wb") as file:
            np.save(file, array, allow_pickle=False)
            file.flush()
            os.fsync(file.fileno())
        folder = os.open(self._tensors, os.O_RDONLY)
        try:
            os.fsync(folder)  # makes the name durable too
        finally:
            os.close(folder)

    def load(self, cid: str) -> np.ndarray:
        """Read a tensor from the disk, and verify it.

        **Raises:** `ValueError` if its content has changed, `OSError` if it is missing.
        """
        array = tensor_of(np.load(self._path(cid), allow_pickle=False))
        if describe(array).cid != cid:
            raise ValueError(
                f"`sedma serve` needs {self._path(cid)} as it was written. Got another "
                "content. Check the disk, and submit the job again under another id."
            )
        return array

    def collect(self) -> None:
        """Delete the oldest finished jobs, and all tensors that no job needs."""
        with self._lock:
            self._data.execute(
                "DELETE FROM jobs WHERE number IN (SELECT number FROM jobs WHERE state IN "
                "('done', 'failed') ORDER BY number DESC LIMIT -1 OFFSET ?)",
                (self._keep,),
            )
            needed = set(self._held)
            for state, request, cid in self._data.execute(
                "SELECT state, request, cid FROM jobs WHERE state != 'failed'"
            ):
                needed |= {cid} if state == "done" else set(_cids(request))
            for path in self._tensors.iterdir():
                written = not path.name.startswith(".")  # otherwise somebody is writing it
                if written and path.stem not in needed:
                    path.unlink(missing_ok=True)

    def _path(self, cid: str) -> Path:
        return self._tensors / f"{cid}.npy"


def _job(fields: dict[str, Any]) -> Job:
    """A job from the columns of the journal."""
    record = fields["record"]
    fields["request"] = read_job(fields["request"])
    fields["record"] = None if record is None else json.loads(record)
    return Job(**fields)


def _cids(request: bytes) -> list[str]:
    """`JobRequest.cids` of a request in the journal, without checking it again."""
    fields = json.loads(request)
    parts = fields["matrix"].items()
    return [fields["vector"], *(cid for name, cid in parts if name != "shape")]
