"""Do jobs in a process of its own, whose memory is limited and whose death is one job's.

Parent and child exchange lines of JSON over a socket pair; tensors and products travel as
files in the folder of the journal, so that a product never takes memory of the service. The
child ends when the parent does.
"""

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from .._tensors.manifest import check_cid
from .job_rows import Job
from .messages import encode_job

LARGEST_LINE = 2**24  # bytes
START_SECONDS = 300.0  # for the child to import what it needs, on a busy machine
_END_SECONDS = 10.0


class WorkerDied(RuntimeError):
    """The process of a worker ended while it did a job."""


class WorkerAway(ConnectionError):
    """The process of a worker does not start: the fault of no job."""


class JobFailed(RuntimeError):
    """What a job raised in its worker; the message is that of the error."""


@dataclass(frozen=True)
class Product:
    """A product on the disk: its CID, its unnamed file, and a record for JSON."""

    cid: str
    part: Path
    record: dict


class WorkerProcess:
    """A worker in a process of its own, which starts with the first job.

    **Arguments:**

    - `command`: of the child, which calls `sedma_jax.comm._jobs.worker_child.serve`; the
        number of its socket is added.
    - `tensors`: folder of the tensors of jobs, where the product goes.
    - `setup`: what the child is told first, beside the folder; for JSON.
    """

    def __init__(self, command: Sequence[str], tensors: Path, setup: dict[str, Any]):
        self._command, self._tensors, self._setup = list(command), tensors, setup
        self._lock, self._busy, self._stopped = threading.Lock(), False, False
        self._process: subprocess.Popen | None = None
        self._link: socket.socket | None = None
        self._lines: BinaryIO | None = None

    def __call__(self, job: Job, settled: Sequence[str]) -> Product:
        """Do a job; `settled` are tokens of jobs that ended.

        **Raises:** `WorkerDied`, `WorkerAway`, `JobFailed` with the message of the job, and
        `ConnectionError` if the worker says that it would succeed later.
        """
        with self._lock:
            self._busy = True
        try:
            return self._do(job, settled)
        finally:
            with self._lock:
                self._busy = False
                if self._stopped:
                    self._end()

    def _do(self, job: Job, settled: Sequence[str]) -> Product:
        self._start()
        part = self._tensors / f".product-{job.number}-{job.attempts}"
        told = {
            "request": encode_job(job.request).decode(),
            "token": job.token,
            "part": part.name,
            "settled": list(settled),
        }
        answer = self._ask(told)
        if answer is None:
            part.unlink(missing_ok=True)
            told = self._ended()
            self._end()
            raise WorkerDied(f"the process of its worker {told}")
        if answer.get("retire"):
            self._end()
        if "error" in answer:
            part.unlink(missing_ok=True)
            kind = ConnectionError if answer.get("temporary") else JobFailed
            raise kind(str(answer["error"])[:1000])
        return Product(check_cid(answer["cid"]), part, answer["record"])

    @property
    def pid(self) -> int | None:
        """The id of the process; None if none runs."""
        return None if self._process is None else self._process.pid

    def stop(self) -> None:
        """End the process, at once and for good; its job ends in `WorkerDied`."""
        with self._lock:
            self._stopped = True
            if self._process is not None:
                self._process.kill()
            if not self._busy:
                self._end()

    def _start(self) -> None:
        if self._process is not None and self._process.poll() is None:
            return
        self._end()
        mine, theirs = socket.socketpair()
        with theirs, self._lock:
            if self._stopped:
                mine.close()
                raise WorkerAway("the service ends")
            self._process = subprocess.Popen(
                [*self._command, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=sys.stderr.fileno() if _has_descriptor() else subprocess.DEVNULL,
                start_new_session=True,  # an interrupt reaches only this one
                # Several workers share an accelerator.
                env={"XLA_PYTHON_CLIENT_PREALLOCATE": "false"} | os.environ,
            )
        self._link, self._lines = mine, mine.makefile("rb")
        mine.settimeout(START_SECONDS)
        try:
            answer = self._ask(self._setup | {"tensors": str(self._tensors)})
        except TimeoutError:
            answer = None
        if answer is None or "error" in answer:
            told = answer["error"] if answer else f"its process {self._ended()}"
            self._end()
            raise WorkerAway(
                f"`sedma serve` needs a worker that starts. Got: {told}. Read its log on "
                "stderr; it tries again."
            )
        mine.settimeout(None)

    def _ask(self, line: dict) -> dict | None:
        """The answer of the child; None if it ended instead."""
        assert self._link is not None and self._lines is not None
        try:
            self._link.sendall(json.dumps(line).encode() + b"\n")
            answer = self._lines.readline(LARGEST_LINE)
            found = json.loads(answer) if answer.endswith(b"\n") else None
        except TimeoutError:
            raise
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    def _ended(self) -> str:
        """How the process ended, in words."""
        assert self._process is not None
        try:
            status = self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            status = self._process.wait()
        return f"was ended by signal {-status}" if status < 0 else f"ended with {status}"

    def _end(self) -> None:
        for part in (self._lines, self._link):
            if part is not None:
                part.close()
        self._lines = self._link = None
        if self._process is not None:
            try:
                self._process.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None


def _has_descriptor() -> bool:
    try:
        return sys.stderr.fileno() >= 0
    except (OSError, ValueError, AttributeError):
        return False
