"""The socket in a node's folder, through which other processes of its user command it.

The protocol is the one between peers. Whoever may open the socket may command the node.
`control_client.py` is the other side.
"""

import fcntl
import json
import logging
import math
import os
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import trio

from .._errors import reason
from .._libp2p.byte_stream import SocketStream
from .._node.description import described_peers, node_status
from .._node.node import Node
from .._rpc.messages import MessageError
from .._rpc.methods import Call, Methods
from .._tensors.manifest import DTYPES, LARGEST_TENSOR, MOST_AXES, bytes_of

log = logging.getLogger("sedma_jax.comm")

Progress = Callable[[int, int], None]
"""Is told how many MB have travelled, of how many."""

PIECE = 2**20  # bytes sent at once
LONGEST_PATH = 100  # bytes; Unix allows a few more
BACKLOG = 512  # connections that wait until the node takes them


def socket_path(folder: Path) -> Path:
    """The control socket of the node in `folder`."""
    path = folder / "control.sock"
    if len(os.fsencode(path)) > LONGEST_PATH:
        raise ValueError(
            f"`sedma node` needs a path of at most {LONGEST_PATH} bytes for its socket. "
            f"Got {path}. Choose a shorter folder by `--dir`."
        )
    return path


def tensor_header(array: np.ndarray) -> bytes:
    return json.dumps({"dtype": array.dtype.name, "shape": array.shape}).encode()


def _empty(header: bytes) -> np.ndarray:
    try:
        fields = json.loads(header)
        dtype, shape = fields["dtype"], fields["shape"]
        whole = len(shape) <= MOST_AXES and all(type(n) is int for n in shape)
        size = math.prod(shape) if whole and min(shape, default=1) > 0 else 0
        if dtype in DTYPES and 0 < size * np.dtype(dtype).itemsize <= LARGEST_TENSOR:
            return np.empty(shape, dtype)
    except (ValueError, LookupError, TypeError, RecursionError):
        pass
    raise MessageError(
        "`sedma node` needs dtype and shape of a tensor of at most "
        f"{LARGEST_TENSOR:,} bytes. Got {header[:100]!r}. Cut it into blocks."
    )


async def send_tensor(
    send: Callable[[memoryview], Awaitable[None]], array: np.ndarray
) -> None:
    view = bytes_of(array)
    for at in range(0, len(view), PIECE):
        await send(view[at : at + PIECE])


async def receive_tensor(
    header: bytes,
    receive: Callable[[], Awaitable[memoryview | None]],
    progress: Progress | None = None,
) -> np.ndarray:
    array = _empty(header)
    view, at = array.reshape(-1).view(np.uint8).data, 0
    while at < len(view):
        piece = await receive()
        if piece is None or at + len(piece) > len(view):
            break
        view[at : at + len(piece)] = piece
        at += len(piece)
        if progress is not None:
            progress(at // 10**6, len(view) // 10**6)
    else:
        return array
    raise MessageError(
        f"`sedma node` needs {len(view)} bytes of a tensor. Got another number. Send all "
        "of it."
    )


def _methods(node: Node) -> Methods:
    methods = Methods()

    async def put(call: Call):
        array = await receive_tensor(call.meta, call.receive)
        return (await node.put(array)).encode()

    async def get(call: Call):
        array = await node.get(bytes(call.body[:100]).decode("ascii", "replace"))
        await call.send(tensor_header(array))
        await send_tensor(call.send, array)

    async def connect(call: Call):
        return (await node.connect(bytes(call.body).decode())).encode()

    async def peers(call: Call):
        return json.dumps(await described_peers(node)).encode()

    async def status(call: Call):
        return json.dumps(await node_status(node)).encode()

    async def alive(call: Call):
        return b"1"

    for method in (put, get, connect, peers, status, alive):
        methods.add(method.__name__, method)
    return methods


async def serve_control(
    node: Node,
    folder: Path,
    *,
    task_status: Any = trio.TASK_STATUS_IGNORED,
) -> None:
    """Take commands until cancelled; `OSError` if another node runs in `folder`.

    No command ends the node: whatever goes wrong ends only its connection.
    """
    path, methods = socket_path(folder), _methods(node)

    async def serve(stream: trio.SocketStream):
        try:
            await methods.serve(SocketStream(stream), "control")
        except (EOFError, OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the client has left
        except Exception as error:
            log.warning("a command was not answered: %s", reason(error))
        finally:
            await trio.aclose_forcefully(stream)

    with _alone(folder):
        path.unlink(missing_ok=True)  # left by a node that was killed
        listener = socket.socket(socket.AF_UNIX)
        before = os.umask(0o177)
        try:
            listener.bind(str(path))
        finally:
            os.umask(before)
        listener.listen(BACKLOG)
        listeners = [trio.SocketListener(trio.socket.from_stdlib_socket(listener))]
        try:
            await trio.serve_listeners(serve, listeners, task_status=task_status)
        finally:
            path.unlink(missing_ok=True)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Let one node run in a folder; the system frees the lock of one that was killed."""
    with open(folder / "node.lock", "ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OSError(
                "`sedma node start` needs a folder in which no other node runs. Got "
                f"{folder}. Stop the other node, or choose another folder by `--dir`."
            ) from None
        yield
