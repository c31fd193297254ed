"""Submit jobs to a service, and get their products."""

import fcntl
import json
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ..._tiling.native import real_floats
from ..._tiling.partition import Sparse, checked_sparse
from ...devices import Device
from ...devices._file import device_text
from .._libp2p.keystore import load_or_create
from .._libp2p.library import PeerID
from .._node.settings import NodeSettings
from .._runners.thread import OpenNode, open_node
from .messages import JobRequest, encode_job
from .service import LONGEST_WAIT

_TRAVEL_SECONDS = 600.0  # for the tensors of a job


class JobClient:
    """A connection to a service; `open_jobs` makes one.

    Every method raises `ConnectionError` if the service goes away, `RemoteError` with its
    message if it refuses, and `trio.TooSlowError` if it does not answer in time.

    **Example:**

        >>> everyone = sj.comm.NodeSettings(allowed=frozenset({sj.comm.EVERYONE}))
        >>> with sj.comm.open_node(everyone) as node:  # a node, and no service
        ...     with sj.comm.open_jobs(node.addresses[0]) as jobs:
        ...         jobs.jobs()
        Traceback (most recent call last):
        sedma_jax...RemoteError: a call of a node needs one of ... Got 'job-list'. ...
    """

    def __init__(self, node: OpenNode, service: str):
        self.node, self.service = node, service

    def submit(
        self,
        A: Any,
        x: Any,
        *,
        device: Device | str = "epiram",
        seed: int = 0,
        id: str | None = None,
    ) -> dict:
        """Submit a corrected product; returns once the service has accepted the job.

        **Arguments:**

        - `A`: matrix, dense or a sparse one of SciPy or JAX, and `x`: one vector or a
            batch; of numbers that float32 or float64 holds exactly.
        - `device`: a device with one figure for each property, or the name of one of
            `sedma_jax.devices.PULSED`; `seed`: seed of all randomness.
        - `id`: of the job; a new one if left out. Submitting it again under the same id
            gives the same job, so that a lost answer does no harm.

        **Returns:** the job, as `status` gives it.

        **Raises:** `ValueError` for other numbers, `RemoteError` with the message of the
        service, `ConnectionError`.
        """
        if isinstance(A, Sparse):
            entries = checked_sparse(A)
            parts = {"data": entries.data, "rows": entries.row, "cols": entries.col}
            shape = int(entries.shape[0]), int(entries.shape[1])
        else:
            parts, shape = {"values": real_floats(A, "A")}, None
        request = JobRequest(
            id=id or uuid.uuid4().hex,
            matrix={name: self.node.put(part) for name, part in parts.items()},
            shape=shape,
            vector=self.node.put(real_floats(x, "x")),
            device=(
                device
                if isinstance(device, str)
                else device_text("sedma_jax.comm.JobClient.submit", device)
            ),
            seed=seed,
        )
        return self._ask("job-submit", encode_job(request), _TRAVEL_SECONDS)

    def status(self, id: str, wait: float = 0.0) -> dict:
        """A job: `state` (queued, running, done, failed), times, `cid`, `record`, `error`.

        **Arguments:**

        - `id`: of the job.
        - `wait`: seconds to wait for its end, 0 to 60.

        **Raises:** `RemoteError` for a job that is none of this client.
        """
        question = json.dumps({"id": id, "wait": wait}).encode()
        return self._ask("job-status", question, 30.0 + wait)

    def result(self, id: str, timeout: float = 600.0) -> tuple[np.ndarray, dict]:
        """Wait for the end of a job; its verified product, and the job.

        **Raises:** `RuntimeError` if the job failed, `TimeoutError` after `timeout` s.
        """
        end = time.monotonic() + timeout
        while True:
            wait = min(LONGEST_WAIT, max(end - time.monotonic(), 0.0))
            asked = time.monotonic()
            job = self.status(id, wait)
            if job["state"] == "done":
                return self.node.get(job["cid"], timeout=_TRAVEL_SECONDS), job
            if job["state"] == "failed":
                raise RuntimeError(
                    f"`JobClient.result` needs a job that succeeded. Got {id}, which "
                    f"failed: {job['error']}"
                )
            if time.monotonic() >= end:
                raise TimeoutError(
                    f"`JobClient.result` needs the end of job {id} within {timeout:g} s. "
                    f"Got it {job['state']}. Ask again later."
                )
            if time.monotonic() - asked < min(
                wait, 1.0
            ):  # it answers early while it shuts down
                time.sleep(min(1.0, wait))

    def jobs(self) -> list[dict]:
        """The newest hundred jobs of this client, newest first, without `record`."""
        return self._ask("job-list", b"", 30.0)

    def _ask(self, method: str, body: bytes, timeout: float) -> Any:
        async def ask():
            return await self.node.node.calls.call(
                self.service, method, body, timeout=timeout
            )

        return json.loads(bytes(self.node.call(ask)))


def client_id(key: Path) -> str:
    """The id by which a service knows the owner of a key; generated on first use."""
    return str(PeerID.from_pubkey(load_or_create(key).public_key))


@contextmanager
def open_jobs(address: str, *, key: Path | None = None) -> Iterator[JobClient]:
    """Connect to a service while the block runs.

    **Arguments:**

    - `address`: of the service, with `/p2p/ID`, as `sedma serve` prints it.
    - `key`: file of this client's key, by which the service lets it in and knows its jobs;
        a new one if left out. A second client with the same key waits for the first.

    **Raises:** `ConnectionError` if the service is away or refuses this client;
    `ValueError` for an invalid address or a file that holds no key; `PermissionError` for a
    key that others may read.

    **Example:**

        >>> with sj.comm.open_node() as node:  # it lets nobody in, nor does `sedma serve`
        ...     with sj.comm.open_jobs(node.addresses[0]) as jobs:
        ...         y, job = jobs.result(jobs.submit(np.eye(2), np.ones(2))["id"])
        Traceback (most recent call last):
        ConnectionError: ... needs a service ... Start `sedma serve` with --allow ...
    """
    with _alone(key):
        service = frozenset({address.rpartition("/p2p/")[2]})
        with open_node(NodeSettings(key=key, allowed=service)) as node:
            try:
                name = node.connect(address)
            except ConnectionError as error:
                raise ConnectionError(
                    f"`sedma_jax.comm.open_jobs` needs a service at {address} that lets "
                    f"{node.name} in. Got: {error} Start `sedma serve` with --allow and "
                    "that id."
                ) from error
            yield JobClient(node, name)


@contextmanager
def _alone(key: Path | None) -> Iterator[None]:
    """Let one client per key run at a time: a service has one connection per peer."""
    if key is None:
        yield
        return
    load_or_create(key)
    with open(key) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
