"""Run a service as a process: node, journal, workers, health, signals."""

import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import trio

from ..._long_term import LongTermMemory
from .._errors import first_cause
from .._node.description import node_status
from .._node.running import running_node
from .._node.settings import NodeSettings
from .._runners.control_socket import serve_control, socket_path
from .arrival import Needs
from .journal import Journal
from .metrics import Health
from .service import JobService, ServiceLimits
from .worker_process import WorkerProcess


def run_service(
    settings: NodeSettings,
    folder: Path,
    command: Sequence[str],
    setup: dict[str, Any],
    limits: ServiceLimits,
    *,
    needs: Needs,
    memory: LongTermMemory | None = None,
    http: tuple[str, int] | None,
    started: Callable[[dict], None],
    ended: Callable[[int, int], None],
) -> None:
    """Serve jobs until SIGTERM or SIGINT; a second signal ends it without waiting.

    **Arguments:**

    - `settings`: settings of the node.
    - `folder`: folder of the journal and the control socket.
    - `command`, `setup`: of a worker, as `WorkerProcess` takes them.
    - `limits`: limits on jobs.
    - `needs`: the bytes that a job takes.
    - `memory`: keeps what the node learns about its peers.
    - `http`: host and port at which health and metrics are served.
    - `started`: called with the status of the node.
    - `ended`: called with the number of jobs that stay in the journal, and of those that
        were given up while they ran.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    socket_path(folder)
    journal = Journal(folder, keep=limits.keep)
    abandoned = 0
    setup = setup | {"memory_limit": limits.memory}
    worker = lambda: WorkerProcess(command, journal.tensors.folder, setup)

    async def run():
        nonlocal abandoned
        async with (
            running_node(settings, memory=memory) as node,
            trio.open_nursery() as nursery,
        ):
            serve = lambda task_status: serve_control(node, folder, task_status=task_status)
            await nursery.start(serve)
            service = JobService(node, journal, worker, limits, needs)
            health = None
            if http is not None:
                health = Health(service, *http)
                nursery.start_soon(health.beat)
            nursery.start_soon(_drain_on_signals, service)
            status = await node_status(node)
            status["jobs"] = journal.counts()
            status["http"] = None
            if http and health:
                host = f"[{http[0]}]" if ":" in http[0] else http[0]
                status["http"] = f"{host}:{health.port}"
            started(status)
            abandoned = await service.run()
            if health is not None:
                await trio.to_thread.run_sync(health.close)
            nursery.cancel_scope.cancel()

    try:
        trio.run(run)
        left = journal.counts()
        ended(left["queued"], abandoned)
    except BaseExceptionGroup as group:
        raise first_cause(group) from None
    finally:
        journal.close()
    if abandoned:
        # Threads whose results nobody waits for would delay or crash the exit.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


async def _drain_on_signals(service: JobService) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            if service.draining:
                service.give_up()
            service.drain()
