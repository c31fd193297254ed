"""The process in which a worker does jobs: it takes them from the service that started it.

It ends with the service, may take so much memory and no more, and counts its memory
mappings before each job.
"""

import json
import os
import resource
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ..._mappings import RESERVE, make_room
from .._errors import reason
from .._tensors.manifest import describe
from .messages import JobRequest, read_job
from .operands import Operand, operands
from .tensor_files import TensorFiles, write_durably

Do = Callable[[JobRequest, str, Operand, np.ndarray], tuple[np.ndarray, dict]]
"""Does a job; is given its request, its token, its matrix and vectors; returns the product,
and a record for JSON."""
Settle = Callable[[list[str]], None]
Make = Callable[[dict[str, Any]], tuple[Do, Settle]]

_EXHAUSTED = ("RESOURCE_EXHAUSTED", "Out of memory", "std::bad_alloc")


def serve(number: int, make: Make) -> None:
    """Do jobs until the service ends.

    **Arguments:**

    - `number`: of the socket that this process inherited.
    - `make`: maps the setup of the service to what does a job, and to what is told the
        tokens of jobs that ended. It loads all libraries that jobs need: what they take is
        not counted against the limit.
    """
    link = socket.socket(fileno=number)
    lines = _lines(link)
    setup = next(lines)
    try:
        do, settle = make(setup)
        limit_memory(setup.get("memory_limit"))
    except Exception as error:
        _send(link, {"error": " ".join(reason(error).split())[:1000]})
        return
    tensors = TensorFiles(Path(setup["tensors"]))
    _send(link, {"ready": True})
    for line in lines:
        roomy = make_room(RESERVE)
        answer = _done(line, tensors, do, settle)
        # Another process has all mappings to itself, and no pieces of freed memory.
        answer["retire"] = not roomy or bool(answer.get("retire"))
        _send(link, answer)


def _lines(link: socket.socket) -> Any:
    """The lines of the service; this process ends with it, in the middle of a job too."""
    arrived: list[dict] = []
    changed = threading.Condition()

    def read() -> None:
        with link.makefile("rb") as file:
            for text in file:
                with changed:
                    arrived.append(json.loads(text))
                    changed.notify()
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    while True:
        with changed:
            while not arrived:
                changed.wait()
            line = arrived.pop(0)
        yield line


def _send(link: socket.socket, answer: dict) -> None:
    try:
        link.sendall(json.dumps(answer, allow_nan=False).encode() + b"\n")
    except OSError:
        os._exit(0)  # the service has gone


def _done(line: dict, tensors: TensorFiles, do: Do, settle: Settle) -> dict:
    """Do one job; the answer to the service."""
    try:
        settle(line["settled"])
        request = read_job(line["request"].encode())
        y, record = do(request, line["token"], *operands(tensors, request))
        y = np.ascontiguousarray(y)
        record = json.loads(json.dumps(record, allow_nan=False))
        write_durably(tensors.folder / line["part"], y)
        return {"cid": describe(y).cid, "record": record}
    except Exception as error:
        said = " ".join(reason(error).split())[:1000]
        exhausted = isinstance(error, MemoryError) or any(w in said for w in _EXHAUSTED)
        if exhausted:
            said = (
                "`JobClient.submit` needs a job that fits in the memory of a worker. Got "
                f"one that does not ({said[:200]}). Cut the matrix into blocks of rows, or "
                "give workers more by --worker-memory."
            )
        temporary = isinstance(error, ConnectionError)  # a database that is away
        return {"error": said, "temporary": temporary, "retire": exhausted}


def limit_memory(limit: int | None) -> None:
    """Let this process take `limit` bytes beside what it has, and die first if all is full.

    Where the system keeps no such limit, outside Linux, nothing is done.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # an image of gigabytes helps nobody
    try:
        Path("/proc/self/oom_score_adj").write_text("800")
        status = Path("/proc/self/status").read_text()
    except OSError:
        return
    if limit is not None:
        (taken,) = (line for line in status.splitlines() if line.startswith("VmData:"))
        most = int(taken.split()[1]) * 1024 + limit
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))
