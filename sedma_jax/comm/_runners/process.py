"""Run a node in a process of its own, with tensors passed in shared memory.

A node in a thread competes with JAX for the interpreter's lock; one in a process does not.
Requests and answers are lines of JSON over a socket pair. A tensor lies in an anonymous
file that only the two processes have open, so that nothing is left behind if one is killed.
"""

import dataclasses
import json
import mmap
import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np
from numpy.typing import ArrayLike

from .._errors import reason
from .._node.settings import NodeSettings
from .._tensors.fetch import FetchError
from .._tensors.manifest import tensor_of
from .thread import OpenNode, alias, open_node

LARGEST_LINE = 2**24
AT_ONCE = 16  # requests at once; more wait
START_SECONDS = 120.0
_CHILD = "from sedma_jax.comm._runners.process import main; main()"
_ERRORS = {
    kind.__name__: kind
    for kind in (
        *(ConnectionError, FetchError, MemoryError, OSError, PermissionError),
        *(RuntimeError, TimeoutError, ValueError),
    )
}


class ProcessNode:
    """A node in a process of its own; every method may be called from any thread.

    It has the methods of `OpenNode` that need no access to the node itself. Once the
    process has ended they raise `ConnectionError`.

    **Example:**

        >>> with sj.comm.open_node_process() as node:
        ...     cid = node.put(np.arange(3.0))
        ...     print(node.get(cid), node.status()["tensors"])
        [0. 1. 2.] 1
    """

    def __init__(self, process: subprocess.Popen, link: socket.socket):
        self._process, self._link = process, link
        self._lock, self._count = threading.Lock(), 0
        self._waiting: dict[int, Future] = {}
        self._ended = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.name: str = self._ask("name", seconds=START_SECONDS)

    @property
    def addresses(self) -> list[str]:
        """Addresses for `connect` and for the `bootstrap` of others."""
        return self._ask("addresses")

    def connect(self, *addresses: str) -> str:
        """Connect to a peer by any of its addresses; its id."""
        return self._ask("connect", addresses)

    def put(self, array: jax.Array | ArrayLike) -> str:
        """Offer an array of JAX or NumPy to peers; its CID."""
        array = tensor_of(array)
        with _shared(array.nbytes) as file:
            shared = _view(file, array.nbytes).view(array.dtype).reshape(array.shape)
            shared[...] = array
            del shared  # otherwise the traceback of an error would keep the memory
            given = array.dtype.name, array.shape, array.nbytes
            return self._ask("put", given, file)

    def get(self, cid: str, timeout: float | None = None) -> np.ndarray:
        """A tensor by its CID, verified and read only; errors as `OpenNode.get`."""
        (dtype, shape, nbytes), file = self._ask("get", (cid, timeout))
        try:
            array = _view(file, nbytes).view(np.dtype(dtype)).reshape(shape)
        finally:
            os.close(file)
        array.flags.writeable = False
        return array

    def get_jax(self, cid: str, timeout: float | None = None) -> jax.Array:
        """As `get`, but an array of JAX on the CPU, in the same memory."""
        return alias(self.get(cid, timeout))

    def peers(self) -> list[dict]:
        """The peers that the node knows: their statuses, measurements and scores."""
        return self._ask("peers")

    def status(self) -> dict:
        """The node itself: id, addresses, connections, memory, cache, weights."""
        return self._ask("status")

    @property
    def pid(self) -> int:
        """The id of the process."""
        return self._process.pid

    def _ask(
        self,
        method: str,
        arguments: Sequence[Any] = (),
        file: int | None = None,
        seconds: float | None = None,
    ) -> Any:
        answer: Future = Future()
        with self._lock:
            if self._ended:
                raise self._gone()
            self._count += 1
            self._waiting[self._count] = answer
            line = {"id": self._count, "method": method, "arguments": arguments}
            try:
                _send(self._link, line, file)
            except OSError:
                del self._waiting[self._count]
                raise self._gone() from None
        return answer.result(seconds)

    def _read(self) -> None:
        try:
            for line, file in _lines(self._link):
                waiting = self._waiting.pop(line["id"])
                if "error" in line:
                    kind = _ERRORS.get(line["kind"], RuntimeError)
                    waiting.set_exception(kind(line["error"]))
                else:
                    result = line["result"]
                    waiting.set_result(result if file is None else (result, file))
        except OSError:
            pass
        with self._lock:
            self._ended = True
        for waiting in self._waiting.values():
            waiting.set_exception(self._gone())

    def _gone(self) -> ConnectionError:
        try:
            code = self._process.wait(5)
        except subprocess.TimeoutExpired:
            code = "none yet"
        return ConnectionError(
            f"`ProcessNode` needs its process, {self._process.pid}. Got its end, exit "
            f"status {code}. Read its log on stderr, and open the node again."
        )

    def _close(self) -> None:
        try:
            self._link.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # the other side has gone
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()
        self._link.close()


@contextmanager
def open_node_process(
    settings: NodeSettings | None = None, **named: Any
) -> Iterator[ProcessNode]:
    """Run a node in a process of its own while the block runs: for many or large tensors.

    Passing a tensor copies it once, into memory that both processes share.

    **Arguments:** a `NodeSettings`, or its fields by name.

    **Raises:** what `open_node` does, and `ConnectionError` if the process ends.

    **Example:**

        >>> everyone = sj.comm.NodeSettings(allowed=frozenset({sj.comm.EVERYONE}))
        >>> with sj.comm.open_node_process(everyone) as a, sj.comm.open_node(everyone) as b:
        ...     met = b.connect(*a.addresses) == a.name
        ...     found = b.get(a.put(np.arange(3.0)))  # from the other process, and verified
        >>> met, found.tolist()
        (True, [0.0, 1.0, 2.0])
    """
    settings = settings or NodeSettings(**named)
    mine, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-c", _CHILD, str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # an interrupt reaches only this one
            env=os.environ | {"JAX_PLATFORMS": "cpu"},  # this process uses the accelerator
        )
    node = None
    try:
        _send(mine, {"settings": _as_json(settings)})
        node = ProcessNode(process, mine)
        yield node
    finally:
        if node is not None:
            node._close()
        else:
            mine.close()
            process.kill()
            process.wait()


def _as_json(settings: NodeSettings) -> dict:
    fields = dataclasses.asdict(settings)
    for name in ("key", "folder"):
        fields[name] = None if fields[name] is None else os.fspath(fields[name])
    return fields | {"allowed": sorted(settings.allowed)}


def _settings(fields: dict) -> NodeSettings:
    for name in ("listen", "announce", "bootstrap", "via_relay", "dial"):
        fields[name] = tuple(fields[name])
    fields["allowed"] = frozenset(fields["allowed"])
    for name in ("key", "folder"):
        fields[name] = None if fields[name] is None else Path(fields[name])
    return NodeSettings(**fields)


@contextmanager
def _shared(nbytes: int) -> Iterator[int]:
    """An open file in memory without a name."""
    if hasattr(os, "memfd_create"):
        file = os.fdopen(os.memfd_create("sedma"), "r+b")
    else:
        file = tempfile.TemporaryFile()
    with file:
        file.truncate(nbytes)
        yield file.fileno()


def _view(file: int, nbytes: int) -> np.ndarray:
    """The bytes of a shared file, page-aligned; they stay valid after it is closed."""
    return np.frombuffer(mmap.mmap(file, nbytes), np.uint8)


def _send(link: socket.socket, line: dict, file: int | None = None) -> None:
    data = json.dumps(line | {"file": file is not None}).encode() + b"\n"
    # The file travels with the first byte.
    sent = socket.send_fds(link, [data], [] if file is None else [file])
    link.sendall(data[sent:])


def _lines(link: socket.socket) -> Iterator[tuple[dict, int | None]]:
    """The lines of the other side, each with its file, until that side ends."""
    held, files = bytearray(), []
    while True:
        data, more, _, _ = socket.recv_fds(link, 2**16, AT_ONCE)
        files += more
        held += data
        if not data or len(held) > LARGEST_LINE:
            return
        while b"\n" in held:
            line, _, held = held.partition(b"\n")
            line = json.loads(bytes(line))
            yield line, files.pop(0) if line["file"] else None


def _answer(node: OpenNode, method: str, arguments: Sequence[Any], file: int | None) -> Any:
    if method in ("name", "addresses"):
        return getattr(node, method)
    if method in ("connect", "peers", "status"):
        return getattr(node, method)(*arguments)
    assert method == "put" and file is not None
    dtype, shape, nbytes = arguments
    try:
        array = _view(file, nbytes).view(np.dtype(dtype)).reshape(shape)
    finally:
        os.close(file)
    return node.call(node.node.put, array)  # nobody else writes to it


def _serve(link: socket.socket) -> None:
    """In the child process: answer requests until the link ends."""
    lines, lock = _lines(link), threading.Lock()
    first, _ = next(lines)

    def answer(line: dict, found: dict, file: int | None = None):
        with lock:
            try:
                _send(link, found | {"id": line["id"]}, file)
            except OSError:
                pass  # nobody waits any more

    def do(line: dict, file: int | None, node: OpenNode):
        method, arguments = line["method"], line["arguments"]
        try:
            if method != "get":
                answer(line, {"result": _answer(node, method, arguments, file)})
                return
            array = node.get(*arguments)
            with _shared(array.nbytes) as out:
                _view(out, array.nbytes)[:] = array.reshape(-1).view(np.uint8)
                given = array.dtype.name, array.shape, array.nbytes
                answer(line, {"result": given}, out)
        except Exception as error:
            answer(line, _described(error))

    with ExitStack() as stack:
        try:
            node = stack.enter_context(open_node(_settings(first["settings"])))
        except Exception as error:
            answer(next(lines)[0], _described(error))
            return
        pool = ThreadPoolExecutor(AT_ONCE)
        for line, file in lines:
            pool.submit(do, line, file, node)
        pool.shutdown(wait=False, cancel_futures=True)


def _described(error: Exception) -> dict:
    names = (kind.__name__ for kind in type(error).__mro__)
    known = next((name for name in names if name in _ERRORS), "RuntimeError")
    return {"error": reason(error), "kind": known}


def main() -> None:
    """The child process; its argument is the number of the socket that it inherits."""
    from .daemon import log_to_stderr

    log_to_stderr(False)
    _serve(socket.socket(fileno=int(sys.argv[1])))
