"""Accept jobs from peers, do them in order, and lose none.

A job is acknowledged once it and its tensors are in the journal. Workers take the oldest
job. Its product is on the disk before the job counts as done. A job that was under way when
the service was killed is done again, and recorded once. A job that ends its worker comes
after all others, and fails after some attempts; no other job is touched by that.

What a job brought, and its product, are for its client alone: they are never in the store
of the node, from which any peer may fetch.
"""

import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import trio

from ..._mappings import RESERVE, make_room
from .._node.node import Node
from .._rpc.messages import MessageError
from .._rpc.methods import Call
from .arrival import Needs, bring, check_size
from .job_rows import Job
from .journal import JobRefused, Journal
from .messages import JobRequest, check_id, read_fields, read_job
from .operands import operands
from .private_tensors import PrivateTensors
from .worker_process import Product, WorkerAway, WorkerDied

log = logging.getLogger("sedma_jax.comm")


@runtime_checkable
class Work(Protocol):
    """Does jobs, one at a time, such as `worker_process.WorkerProcess`."""

    def __call__(self, job: Job, settled: Sequence[str]) -> Product:
        """Do a job, in a thread; `settled` are tokens of jobs that ended."""
        ...

    def stop(self) -> None:
        """Give up the job that is done, and every later one."""
        ...


LONGEST_WAIT = 60.0  # seconds that a status waits for the end of a job
LISTED = 100  # jobs
_ARRIVING = 2  # jobs whose tensors are fetched at once
_AWAY = 5.0  # seconds until a worker that does not start is started again


@dataclass(frozen=True)
class ServiceLimits:
    """Limits on the jobs of a service.

    - `workers`: jobs that run at once.
    - `queue`: jobs that wait or run.
    - `largest`: bytes of the tensors of one job, and of its product.
    - `memory`: bytes that a job may need; None for no limit.
    - `grace`: seconds that running jobs get when the service shuts down.
    - `keep`: finished jobs to remember.
    - `attempts`: at a job that ends with its worker, or for lack of a connection.
    """

    workers: int = 1
    queue: int = 1000
    largest: int = 256 * 10**6
    memory: int | None = None
    grace: float = 30.0
    keep: int = 1000
    attempts: int = 3

    def __post_init__(self):
        least = {"workers": 1, "queue": 1, "largest": 1, "keep": 1, "attempts": 1}
        for name, value in vars(self).items():
            if value is not None and not value >= least.get(name, 0):
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
        needs: Needs | None = None,
    ):
        self.node, self.journal, self.limits = node, journal, limits
        self.counts, self.draining = Counts(), False
        self._worker, self._needs = worker, needs
        PrivateTensors(node, journal)
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
                await bring(self.node, self.journal, peer, request, self.limits.largest)
                # Refuse now what would fail later.
                await trio.to_thread.run_sync(self._check, request)
                return await trio.to_thread.run_sync(
                    self.journal.accept, peer, request, self.limits.queue
                )
        finally:
            self._waiting -= 1
            self.journal.let_go(request.cids)

    def _check(self, request: JobRequest) -> None:
        limits = self.limits
        given = operands(self.journal.tensors, request)
        check_size(*given, limits.largest, limits.memory, self._needs)

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
        return json.dumps(job.described()).encode()

    async def _list(self, call: Call) -> bytes:
        jobs = await trio.to_thread.run_sync(self.journal.jobs, call.peer, LISTED)
        return json.dumps([job.described() | {"record": None} for job in jobs]).encode()

    # Work

    async def _work(self, work: Work, abandoned: list[Job]) -> None:
        try:
            await self._work_on(work, abandoned)
        finally:
            work.stop()

    async def _work_on(self, work: Work, abandoned: list[Job]) -> None:
        while not self.draining:
            changed = self._changed
            try:
                job = await trio.to_thread.run_sync(self.journal.claim)
            except OSError as error:  # a full disk, say
                log.error("%s", error)
                await self._pause(_AWAY)
                continue
            if job is None:
                await changed.wait()
                continue
            with self._returned(job, work, abandoned):
                await self._do(job, work)
            self._notify()

    @contextmanager
    def _returned(self, job: Job, work: Work, abandoned: list[Job]) -> Iterator[None]:
        """Queue a job again if it is given up because the service shuts down."""
        try:
            yield
        except trio.Cancelled:
            work.stop()
            self.journal.release(job, blameless=True)
            abandoned.append(job)
            raise

    async def _pause(self, seconds: float) -> None:
        """Sleep, but no longer than the service lives."""
        with trio.move_on_after(seconds):
            await self._ending.wait()

    async def _do(self, job: Job, work: Work) -> None:
        start = time.monotonic()
        try:
            await self._compute_and_keep(job, work, start)
        # No failure of a job may end the service.
        except Exception as error:
            said = " ".join(str(error).split())[:1000] or type(error).__name__
            log.warning("job %s: %s", job.request.id, said)
            if isinstance(error, WorkerAway):
                await self._again(job, _AWAY, blameless=True)
            elif not isinstance(error, WorkerDied | ConnectionError):
                await self._finish(job, start, error=said)
            elif job.blame + 1 < self.limits.attempts:
                pause = isinstance(error, ConnectionError)  # a database that is away
                wait = min(2.0 ** (job.blame + 1), 30.0) if pause else 0.0
                await self._again(job, wait, blameless=False)
            elif isinstance(error, WorkerDied):
                said = (
                    "`JobClient.submit` needs a job that its worker survives. Got one "
                    f"that ended {job.blame + 1} of them, alone in a process each time: "
                    f"{said}. Cut the matrix into blocks of rows."
                )
                await self._finish(job, start, error=said)
            else:
                await self._finish(job, start, error=said)

    async def _again(self, job: Job, seconds: float, *, blameless: bool) -> None:
        """Queue a job again, and wait."""
        release = lambda: self.journal.release(job, blameless=blameless)
        await trio.to_thread.run_sync(release)
        await self._pause(seconds)

    async def _compute_and_keep(self, job: Job, work: Work, start: float) -> None:
        def compute() -> Product:
            make_room(RESERVE)  # this process uses a few programs, too
            settled = self.journal.unsettled()
            product = work(job, settled)
            self.journal.settled(settled)
            return product

        product = await trio.to_thread.run_sync(
            compute,
            abandon_on_cancel=True,  # pyright: ignore[reportCallIssue]
            limiter=self._threads,
        )
        cid, tensors = product.cid, self.journal.tensors
        self.journal.hold([cid])
        try:
            await trio.to_thread.run_sync(tensors.take, cid, product.part)
            if self.node.settings.replicas > 1:
                await self._replicate(cid)
            await self._finish(job, start, cid=cid, record=product.record)
        finally:
            self.journal.let_go([cid])

    async def _replicate(self, cid: str) -> None:
        """Have other peers hold a product, as the node is set up for."""
        try:
            await self.node.put(
                await trio.to_thread.run_sync(self.journal.tensors.load, cid)
            )
            self.node.store.unpin(cid)  # it is on the disk
        except (OSError, RuntimeError, MemoryError, ValueError) as error:
            log.warning("product not replicated: %s It is sent on request.", error)

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
