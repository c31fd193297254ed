"""Accept jobs from peers, do them in order, and lose none.

A job is acknowledged once it and its tensors are in the journal. Workers take the oldest
job. Its product is on the disk, and offered under its CID, before the job counts as done. A
job whose process was killed is done again, and recorded once.
"""

import json
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse
import trio

from .._node.node import Node
from .._rpc.messages import MessageError
from .._rpc.methods import Call
from .._tensors.fetch import fetch_manifest
from .._tensors.manifest import describe
from .journal import Job, JobRefused, Journal
from .messages import JobRequest, check_id, read_fields, read_job

log = logging.getLogger("sedma_jax.comm")

Operand = np.ndarray | scipy.sparse.coo_array
Work = Callable[[JobRequest, Operand, np.ndarray], tuple[np.ndarray, dict]]
"""Does a job, in a thread; returns the product, and a record for JSON."""

LONGEST_WAIT = 60.0  # seconds that a status waits for the end of a job
LISTED = 100  # jobs
_ARRIVING = 2  # jobs whose tensors are fetched at once
_INDICES = ("int32", "int64")
_VALUES = ("float32", "float64")


@dataclass(frozen=True)
class ServiceLimits:
    """Limits on the jobs of a service.

    - `workers`: jobs that run at once.
    - `queue`: jobs that wait or run.
    - `largest`: bytes of the tensors of one job.
    - `grace`: seconds that running jobs get when the service shuts down.
    - `keep`: finished jobs to remember.
    - `attempts`: at a job that ends with the process, or for lack of a connection.
    """

    workers: int = 1
    queue: int = 1000
    largest: int = 256 * 10**6
    grace: float = 30.0
    keep: int = 1000
    attempts: int = 3

    def __post_init__(self):
        least = {"workers": 1, "queue": 1, "largest": 1, "keep": 1, "attempts": 1}
        for name, value in vars(self).items():
            if not value >= least.get(name, 0):
                raise ValueError(
                    f"`ServiceLimits` needs `{name}` of at least {least.get(name, 0)}. "
                    f"Got {value}. Leave it out for the default."
                )


@dataclass
class Counts:
    """What a service did since it started."""

    accepted: int = 0
    refused: int = 0
    done: int = 0
    failed: int = 0
    seconds: float = 0.0  # of jobs that ended


class JobService:
    """The jobs of a node; `run` works on them."""

    def __init__(
        self,
        node: Node,
        journal: Journal,
        worker: Callable[[], Work],
        limits: ServiceLimits,
    ):
        self.node, self.journal, self.limits = node, journal, limits
        self.counts, self.draining = Counts(), False
        self._worker = worker
        self._arriving, self._waiting = trio.Semaphore(_ARRIVING), 0
        self._changed = trio.Event()
        self._threads = trio.CapacityLimiter(limits.workers)
        self._grace, self._ending = trio.CancelScope(), trio.Event()  # pyright: ignore[reportCallIssue]
        for name, method in (
            ("job-submit", self._submit),
            ("job-status", self._status),
            ("job-list", self._list),
        ):
            node.methods.add(name, method)

    def accepting(self) -> bool:
        """Whether a job would be accepted now."""
        counts = self.journal.counts()
        room = counts["queued"] + counts["running"] < self.limits.queue
        return room and not self.draining

    async def run(self) -> int:
        """Work until `drain`; the number of jobs given up after `ServiceLimits.grace`."""
        abandoned: list[Job] = []
        with self._grace:
            async with trio.open_nursery() as nursery:
                for _ in range(self.limits.workers):
                    nursery.start_soon(self._work, self._worker(), abandoned)
        return len(abandoned)

    def drain(self) -> None:
        """Accept no more jobs; `run` ends once running jobs are done or `grace` is over."""
        if not self.draining:
            self.draining = True
            self._ending.set()
            self._grace.deadline = trio.current_time() + self.limits.grace
            self._notify()

    def give_up(self) -> None:
        """End `run` without waiting; running jobs go back to the journal."""
        self.drain()
        self._grace.cancel()

    # Methods that peers call

    async def _submit(self, call: Call) -> bytes:
        try:
            request = read_job(call.body)
            job, new = await self._accept(call.peer, request)
        except (ValueError, RuntimeError, OSError, MemoryError):
            self.counts.refused += 1
            raise
        if new:
            self.counts.accepted += 1
            self._notify()
        return json.dumps(job.described()).encode()

    async def _accept(self, peer: str, request: JobRequest) -> tuple[Job, bool]:
        known = await trio.to_thread.run_sync(self.journal.known, peer, request)
        if known is not None:
            return known, False
        if self.draining:
            raise JobRefused(
                "`JobClient.submit` needs a service that is not shutting down. Got one "
                "that is. Submit the job again with the same id when it is back."
            )
        self.journal.check_room(self.limits.queue, self._waiting)
        self._waiting += 1
        self.journal.hold(request.cids)
        try:
            async with self._arriving:
                await self._bring(peer, request)
                # Refuse tensors that do not fit together now: the job would fail later.
                await trio.to_thread.run_sync(operands, self.journal, request)
                return await trio.to_thread.run_sync(
                    self.journal.accept, peer, request, self.limits.queue
                )
        finally:
            self._waiting -= 1
            self.journal.let_go(request.cids)

    async def _bring(self, peer: str, request: JobRequest) -> None:
        """Fetch the tensors of a job onto the disk."""
        total = 0
        for cid in dict.fromkeys(request.cids):
            if self.journal.has(cid):
                continue
            manifest = await fetch_manifest(self.node.calls, self.node.peers, cid, [peer])
            total += manifest.nbytes
            if total > self.limits.largest:
                raise JobRefused(
                    "`JobClient.submit` needs tensors of at most "
                    f"{self.limits.largest:,} bytes together. Got {total:,}. Cut the "
                    "matrix into blocks of rows."
                )
            if manifest.dtype not in (*_INDICES, *_VALUES):
                raise JobRefused(
                    "`JobClient.submit` needs tensors of "
                    f"{', '.join((*_INDICES, *_VALUES))}. Got {manifest.dtype}. Convert "
                    "with `astype`."
                )
            array = await self.node.fetch(cid, [peer])
            await trio.to_thread.run_sync(self.journal.save, cid, array)

    async def _status(self, call: Call) -> bytes:
        fields = read_fields(call.body, {"id", "wait"})
        wait = fields["wait"]
        if type(wait) not in (int, float) or not 0 <= wait <= LONGEST_WAIT:
            raise MessageError(
                f"`JobClient.status` needs a wait of 0 to {LONGEST_WAIT:g} seconds. Got "
                f"{wait!r}. Ask again."
            )
        id = check_id(fields["id"])
        with trio.move_on_after(wait):
            while True:
                changed = self._changed
                job = self.journal.find(call.peer, id)
                if job is None or job.state in ("done", "failed"):
                    break
                if self.draining and job.state == "queued":
                    break  # it will run after the next start
                await changed.wait()
        job = self.journal.find(call.peer, id)
        if job is None:
            raise LookupError(
                f"`JobClient.status` needs a job of this client. Got {id}. List the jobs; "
                "old ones are forgotten."
            )
        if job.cid is not None:
            await self._offer(job.cid)
        return json.dumps(job.described()).encode()

    async def _offer(self, cid: str) -> None:
        """Load a product into memory, from where peers can fetch it."""
        if self.node.store.peek(cid) is None:
            array = await trio.to_thread.run_sync(self.journal.load, cid)
            manifest = await trio.to_thread.run_sync(describe, array)
            self.node.store.add(manifest, array, pinned=False)

    async def _list(self, call: Call) -> bytes:
        jobs = await trio.to_thread.run_sync(self.journal.jobs, call.peer, LISTED)
        return json.dumps([job.described() | {"record": None} for job in jobs]).encode()

    # Work

    async def _work(self, work: Work, abandoned: list[Job]) -> None:
        while not self.draining:
            changed = self._changed
            job = await trio.to_thread.run_sync(self.journal.claim)
            if job is None:
                await changed.wait()
                continue
            with self._returned(job, abandoned):
                await self._do(job, work)
            self._notify()

    @contextmanager
    def _returned(self, job: Job, abandoned: list[Job]) -> Iterator[None]:
        """Queue a job again if it is given up because the service shuts down."""
        try:
            yield
        except trio.Cancelled:
            self.journal.release(job, blameless=True)
            abandoned.append(job)
            raise

    async def _do(self, job: Job, work: Work) -> None:
        start = time.monotonic()
        try:
            await self._compute_and_keep(job, work, start)
        # No failure of a job may end the service.
        except Exception as error:
            said = " ".join(str(error).split()) or type(error).__name__
            log.warning("job %s: %s", job.request.id, said)
            temporary = isinstance(error, ConnectionError)  # a database that is away
            if temporary and job.attempts < self.limits.attempts:
                self.journal.release(job, blameless=False)
                with trio.move_on_after(min(2.0**job.attempts, 30.0)):
                    await self._ending.wait()
            else:
                await self._finish(job, start, error=said)

    async def _compute_and_keep(self, job: Job, work: Work, start: float) -> None:
        def compute():
            y, record = work(job.request, *operands(self.journal, job.request))
            y = np.ascontiguousarray(y)
            return y, describe(y).cid, json.loads(json.dumps(record, allow_nan=False))

        y, cid, record = await trio.to_thread.run_sync(
            compute,
            abandon_on_cancel=True,  # pyright: ignore[reportCallIssue]
            limiter=self._threads,
        )
        self.journal.hold([cid])
        try:
            await trio.to_thread.run_sync(self.journal.save, cid, y)
            await self._publish(y)
            await self._finish(job, start, cid=cid, record=record)
        finally:
            self.journal.let_go([cid])

    async def _publish(self, y: np.ndarray) -> None:
        """Offer a product to peers, with as many replicas as the node is set up for."""
        try:
            cid = await self.node.put(y)
            self.node.store.unpin(cid)  # it is on the disk
        except (OSError, RuntimeError, MemoryError) as error:
            log.warning("product not offered: %s It is sent on request.", error)

    async def _finish(self, job: Job, start: float, **outcome: Any) -> None:
        finish = lambda: self.journal.finish(job, **outcome)
        if await trio.to_thread.run_sync(finish):
            self.counts.seconds += time.monotonic() - start
            if outcome.get("error") is None:
                self.counts.done += 1
            else:
                self.counts.failed += 1

    def _notify(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


def operands(journal: Journal, request: JobRequest) -> tuple[Operand, np.ndarray]:
    """Read the matrix and vectors of a job from the disk.

    **Raises:** `ValueError` if they do not fit together.
    """
    parts = {name: journal.load(cid) for name, cid in request.matrix.items()}
    x = journal.load(request.vector)
    matrix = _sparse(request, parts) if request.shape else parts["values"]
    if (
        matrix.ndim != 2
        or x.ndim not in (1, 2)
        or x.shape[-1] != matrix.shape[1]
        or not {matrix.dtype.name, x.dtype.name} <= set(_VALUES)
    ):
        raise ValueError(
            "`JobClient.submit` needs a matrix (m, n) and vectors (n,) or (batch, n), of "
            f"float32 or float64. Got {matrix.shape} of {matrix.dtype}, {x.shape} of "
            f"{x.dtype}. Check that the vector fits the matrix."
        )
    return matrix, x


def _sparse(request: JobRequest, parts: dict[str, np.ndarray]) -> scipy.sparse.coo_array:
    data, rows, cols = parts["data"], parts["rows"], parts["cols"]
    m, n = request.shape or (0, 0)
    fits = lambda index, end: (
        index.dtype.name in _INDICES and 0 <= index.min() and index.max() < end
    )
    if (
        not data.ndim == rows.ndim == cols.ndim == 1
        or not len(data) == len(rows) == len(cols) > 0
        or not (fits(rows, m) and fits(cols, n))
    ):
        raise ValueError(
            "`JobClient.submit` needs for a sparse matrix as many rows and columns as "
            f"data, int32 or int64, within its shape. Got {data.shape}, {rows.shape}, "
            f"{cols.shape} for {(m, n)}. Take them from `scipy.sparse.coo_array`."
        )
    return scipy.sparse.coo_array((data, (rows, cols)), shape=(m, n))
