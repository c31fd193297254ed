"""What a service has promised, on disk: jobs in SQLite, their tensors in files.

A job is `queued`, `running`, `done` or `failed`. Every change is on the disk, by `fsync`,
when its method returns; a process that is killed in between leaves the state before or the
one after. What ran when the process was killed is queued again when the journal is opened,
until it has been tried too often.
"""

import fcntl
import json
import os
import sqlite3
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..._files.whole_files import replacing
from .._tensors.manifest import describe
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
    "number, peer, id, request, state, attempts, accepted, started, finished, cid, "
    "record, error"
)


class JobRefused(RuntimeError):
    """A job that is not taken; what to do stands in the message."""


@dataclass(frozen=True)
class Job:
    """A job as the journal has it; times in seconds since 1970.

    - `attempts`: times it was started.
    - `cid`: of the product, and `record`: of what it took, where it is done.
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
        """For JSON."""
        names = ("state", "attempts", "accepted", "started", "finished", "cid")
        return (
            {"id": self.request.id}
            | {name: getattr(self, name) for name in names}
            | {"record": self.record, "error": self.error}
        )


class Journal:
    """The jobs of a service; its methods may be called from any thread.

    **Arguments:**

    - `folder`: where they are kept; of one process at a time.
    - `attempts`: how often a job may be under way when the process dies; after that it
        counts as failed, since it may be what kills it.
    - `keep`: finished jobs to remember; older ones are forgotten, their results too.
    """

    def __init__(self, folder: Path, *, attempts: int = 3, keep: int = 1000):
        self._tensors = folder / "tensors"
        self._tensors.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._keep, self._lock = keep, threading.RLock()
        self._held: dict[str, int] = {}  # of jobs that are about to be accepted
        self._owner = (folder / "journal.lock").open("w")
        try:
            fcntl.flock(self._owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._owner.close()
            raise OSError(
                f"a journal belongs to one service. Got a second in {folder}. Stop the "
                "first, or choose another folder by `--dir`."
            ) from error
        self._data = sqlite3.connect(
            folder / "jobs.db", isolation_level=None, check_same_thread=False
        )
        self._data.execute("PRAGMA journal_mode = WAL")
        self._data.execute("PRAGMA synchronous = FULL")  # else a power cut loses commits
        self._create(folder)
        self._data.execute(
            "UPDATE jobs SET state = 'failed', finished = ?, error = "
            "'the service died ' || attempts || ' times while it ran' "
            "WHERE state = 'running' AND attempts >= ?",
            (time.time(), attempts),
        )
        self._data.execute("UPDATE jobs SET state = 'queued' WHERE state = 'running'")
        for part in self._tensors.glob(".*"):
            part.unlink()  # of a process that was killed
        self.collect()

    def _create(self, folder):
        (version,) = self._data.execute("PRAGMA user_version").fetchone()
        if version == 0:
            self._data.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = 1; COMMIT;")
        elif version != _VERSION:
            raise ValueError(
                f"a journal needs version {_VERSION}. Got {version} in {folder}. Run the "
                "release that wrote it."
            )

    def close(self) -> None:
        """Let another process have it."""
        with self._lock:
            self._data.close()
            self._owner.close()

    def accept(self, peer: str, request: JobRequest, most: int) -> tuple[Job, bool]:
        """Take a job on, and whether it is new; its tensors are here already.

        **Raises:** `JobRefused` where `most` are under way, or the peer has used the id
        for another job.
        """
        with self._lock:
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
            return job, True

    def known(self, peer: str, request: JobRequest) -> Job | None:
        """The job that is asked for, if it was accepted before."""
        job = self.find(peer, request.id)
        if job is not None and job.request != request:
            raise JobRefused(
                f"an id names one job. Got {request.id} for another than before. Choose "
                "another id."
            )
        return job

    def check_room(self, most: int, arriving: int = 0) -> None:
        """Refuse where too many jobs wait."""
        counts = self.counts()
        waiting = counts["queued"] + counts["running"] + arriving
        if waiting >= most:
            raise JobRefused(
                f"takes on at most {most} jobs at once. Got {waiting} already. Submit it "
                "again later, with the same id."
            )

    def claim(self) -> Job | None:
        """The job that waited longest, which then counts as started; None without any."""
        rows = self._ask(
            "UPDATE jobs SET state = 'running', attempts = attempts + 1, started = ? "
            "WHERE number = (SELECT number FROM jobs WHERE state = 'queued' "
            f"ORDER BY number LIMIT 1) RETURNING {_FIELDS}",
            time.time(),
        )
        return rows[0] if rows else None

    def release(self, job: Job, *, blameless: bool) -> None:
        """Put a job that was claimed back; `blameless` does not count as an attempt."""
        self._ask(
            "UPDATE jobs SET state = 'queued', attempts = attempts - ? "
            f"WHERE number = ? AND state = 'running' RETURNING {_FIELDS}",
            int(blameless),
            job.number,
        )

    def finish(
        self, job: Job, *, cid: str | None = None, record=None, error: str | None = None
    ) -> bool:
        """Record what became of a job; False where that is on record already."""
        rows = self._ask(
            "UPDATE jobs SET state = ?, finished = ?, cid = ?, record = ?, error = ? "
            f"WHERE number = ? AND state = 'running' RETURNING {_FIELDS}",
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
        found = self._ask(f"SELECT {_FIELDS} FROM jobs WHERE peer = ? AND id = ?", peer, id)
        return found[0] if found else None

    def jobs(self, peer: str, limit: int = 100) -> list[Job]:
        """The newest jobs of a peer, newest first."""
        return self._ask(
            f"SELECT {_FIELDS} FROM jobs WHERE peer = ? ORDER BY number DESC LIMIT ?",
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

    def _ask(self, statement, *values) -> list[Job]:
        with self._lock:
            rows = self._data.execute(statement, values).fetchall()
        jobs = []
        for n, peer, _, request, *rest, record, error in rows:
            fields = n, peer, read_job(request), *rest, record and json.loads(record), error
            jobs.append(Job(*fields))  # pyright: ignore[reportCallIssue]
        return jobs

    # Tensors

    def hold(self, cids: list[str]) -> None:
        """Keep tensors until `let_go`, whether or not a job needs them."""
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
            os.fsync(folder)  # the name too
        finally:
            os.close(folder)

    def load(self, cid: str) -> np.ndarray:
        """A tensor from the disk, verified.

        **Raises:** `ValueError` where it is not what was saved, `OSError` without it.
        """
        array = np.load(self._path(cid), allow_pickle=False)
        if describe(array).cid != cid:
            raise ValueError(
                f"needs {self._path(cid)} as it was written. Got another content. Check "
                "the disk, and submit the job again under another id."
            )
        return array

    def collect(self) -> None:
        """Forget the oldest finished jobs, and delete tensors that no job needs."""
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
                written = not path.name.startswith(".")  # else somebody writes it now
                if written and path.stem not in needed:
                    path.unlink(missing_ok=True)

    def _path(self, cid):
        return self._tensors / f"{cid}.npy"


def _cids(request: bytes) -> list[str]:
    """`JobRequest.cids`, of a request that is known to be one."""
    fields = json.loads(request)
    parts = fields["matrix"].items()
    return [fields["vector"], *(cid for name, cid in parts if name != "shape")]
