"""The jobs that a service has accepted, on disk: jobs in SQLite, their tensors in files.

A job is `queued`, `running`, `done` or `failed`. Every change is on disk, by `fsync`, when
its method returns; a process that is killed before that leaves the old state or the new
one. Opening a journal queues the jobs again that ran when the service was killed. None of
them is to blame for that, since jobs run in processes of their own.
"""

import fcntl
import json
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..._files.read_files import check_input
from ..._files.same_file import replaced, sqlite_files
from .job_rows import COLUMNS, NEW_TOKEN, Job, open_database, read_row
from .messages import JobRequest, encode_job
from .tensor_files import TensorFiles


class JobRefused(RuntimeError):
    """A job that is not accepted; the message says what to do."""


class Journal:
    """The jobs of a service; its methods may be called from any thread.

    **Arguments:**

    - `folder`: where the jobs are kept; one process at a time may use it.
    - `keep`: finished jobs to remember; older ones are forgotten with their products.
    """

    def __init__(self, folder: Path, *, keep: int = 1000):
        self.tensors = TensorFiles(folder / "tensors")
        self._keep, self._lock = keep, threading.RLock()
        self._held: dict[str, int] = {}  # CIDs of jobs that are about to be accepted
        for name in ("journal.lock", "jobs.db"):
            check_input(folder / name, "`sedma serve`")
        self._owner = (folder / "journal.lock").open("w")
        try:
            fcntl.flock(self._owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._owner.close()
            raise OSError(
                "`sedma serve` needs a folder that belongs to one service. Got a second "
                f"one in {folder}. Stop the first, or choose another folder by `--dir`."
            ) from error
        try:
            self._data = open_database(folder / "jobs.db")
        except BaseException:
            self._owner.close()
            raise
        try:
            self._files = sqlite_files(folder / "jobs.db")
            self._data.execute("UPDATE jobs SET state = 'queued' WHERE state = 'running'")
            self.tensors.remove_unfinished()
            self.collect()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the journal, so that another process may open it."""
        with self._turn():
            self._data.close()
            self._owner.close()

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Use the database alone; its errors are `OSError`s."""
        with self._lock:
            try:
                yield
            except sqlite3.Error as error:
                raise OSError(
                    f"`sedma serve` needs a journal that it can write. Got: {error}. Free "
                    "space on its disk, or look for another program that has it open; "
                    "then submit again, with the same id."
                ) from error

    def accept(self, peer: str, request: JobRequest, most: int) -> tuple[Job, bool]:
        """Accept a job whose tensors are saved; the job, and whether it is new.

        **Raises:** `JobRefused` if `most` jobs wait or run, if the peer has used the id for
        another job, or if the database was removed or replaced.
        """
        with self._turn():
            self._check_in_place()  # a job that it knows is lost with it too
            known = self.known(peer, request)
            if known is not None:
                return known, False
            self.check_room(most)
            self._data.execute(
                "INSERT INTO jobs (peer, id, request, state, accepted, token) "
                f"VALUES (?, ?, ?, 'queued', ?, {NEW_TOKEN})",
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
        """Start the job that waited longest; None if no job waits.

        Those that have ended a worker come after all others, so that they hold up none.
        """
        rows = self._ask(
            "UPDATE jobs SET state = 'running', attempts = attempts + 1, started = ? "
            "WHERE number = (SELECT number FROM jobs WHERE state = 'queued' "
            f"ORDER BY blame, number LIMIT 1) RETURNING {COLUMNS}",
            time.time(),
        )
        return rows[0] if rows else None

    def release(self, job: Job, *, blameless: bool) -> None:
        """Queue a claimed job again; if `blameless`, the attempt does not count."""
        self._ask(
            "UPDATE jobs SET state = 'queued', attempts = attempts - ?, blame = blame + ? "
            f"WHERE number = ? AND state = 'running' RETURNING {COLUMNS}",
            int(blameless),
            int(not blameless),
            job.number,
        )

    def unsettled(self) -> list[str]:
        """The tokens of jobs that ended, until `settled` is told of them."""
        with self._turn():
            rows = self._data.execute(
                "SELECT token FROM jobs WHERE state IN ('done', 'failed') "
                "AND token IS NOT NULL ORDER BY number LIMIT 1000"
            )
            return [token for (token,) in rows]

    def settled(self, tokens: Sequence[str]) -> None:
        """Forget the tokens of jobs that ended."""
        with self._turn():
            forget = "UPDATE jobs SET token = NULL WHERE token = ?"
            self._data.executemany(forget, [(token,) for token in tokens])

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
            f"WHERE number = ? AND state = 'running' RETURNING {COLUMNS}",
            "done" if error is None else "failed",
            time.time(),
            cid,
            json.dumps(record, allow_nan=False),
            error,
            job.number,
        )
        self.collect()
        return bool(rows)

    def brought(self, peer: str, cid: str) -> bool:
        """Whether a tensor came with, or of, a job of this peer."""
        with self._turn():
            return bool(
                self._data.execute(
                    "SELECT count(*) FROM jobs WHERE peer = ? AND "
                    "(cid = ? OR (state != 'failed' AND instr(request, ?) > 0))",
                    (peer, cid, cid.encode()),
                ).fetchone()[0]
            )

    def has_product(self, peer: str, cid: str) -> bool:
        """Whether a tensor is the product of a job of this peer."""
        return bool(
            self._ask(
                f"SELECT {COLUMNS} FROM jobs WHERE peer = ? AND cid = ? LIMIT 1", peer, cid
            )
        )

    def find(self, peer: str, id: str) -> Job | None:
        """The job of a peer with an id."""
        found = self._ask(f"SELECT {COLUMNS} FROM jobs WHERE peer = ? AND id = ?", peer, id)
        return found[0] if found else None

    def jobs(self, peer: str, limit: int = 100) -> list[Job]:
        """The newest jobs of a peer, newest first."""
        return self._ask(
            f"SELECT {COLUMNS} FROM jobs WHERE peer = ? ORDER BY number DESC LIMIT ?",
            peer,
            limit,
        )

    def counts(self) -> dict[str, int]:
        """Jobs in each state."""
        with self._turn():
            rows = self._data.execute("SELECT state, count(*) FROM jobs GROUP BY state")
            return {"queued": 0, "running": 0, "done": 0, "failed": 0} | dict(rows)

    def oldest(self) -> float | None:
        """When the job that waits longest was accepted."""
        with self._turn():
            return self._data.execute(
                "SELECT min(accepted) FROM jobs WHERE state = 'queued'"
            ).fetchone()[0]

    def _ask(self, statement: str, *values: Any) -> list[Job]:
        with self._turn():
            rows = self._data.execute(statement, values).fetchall()
        return [read_row(row) for row in rows]

    # Tensors

    def hold(self, cids: list[str]) -> None:
        """Keep tensors until `let_go`, whether a job needs them or not."""
        with self._turn():
            for cid in cids:
                self._held[cid] = self._held.get(cid, 0) + 1

    def let_go(self, cids: list[str]) -> None:
        """End one `hold`."""
        with self._turn():
            for cid in cids:
                self._held[cid] -= 1
                if not self._held[cid]:
                    del self._held[cid]

    def collect(self) -> None:
        """Delete the oldest finished jobs, and all tensors that no job needs."""
        with self._turn():
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
            self.tensors.keep_only(needed)


def _cids(request: bytes) -> list[str]:
    """`JobRequest.cids` of a request in the journal, without checking it again."""
    fields = json.loads(request)
    parts = fields["matrix"].items()
    return [fields["vector"], *(cid for name, cid in parts if name != "shape")]
