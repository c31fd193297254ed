"""The socket in a node's folder, through which other processes of its user command it.

The protocol is the one between peers. Whoever may open the socket may command the node.
"""

import json
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import trio

from .._libp2p.byte_stream import SocketStream
from .._node.description import described_peers, node_status
from .._node.node import Node
from .._rpc import wire_pb2 as wire
from .._rpc.calls import StreamingCall
from .._rpc.message_stream import send_message
from .._rpc.messages import MessageError
from .._rpc.methods import Call, Methods
from .._tensors.manifest import DTYPES, LARGEST_TENSOR, bytes_of, tensor_of

Progress = Callable[[int, int], None]
"""Is told how many MB have travelled, of how many."""

PIECE = 2**20  # bytes sent at once
LONGEST_PATH = 100  # bytes; Unix allows a few more


def socket_path(folder: Path) -> Path:
    """The control socket of the node in `folder`."""
    path = folder / "control.sock"
    if len(os.fsencode(path)) > LONGEST_PATH:
        raise ValueError(
            f"`sedma node` needs a path of at most {LONGEST_PATH} bytes for its socket. "
            f"Got {path}. Choose a shorter folder by `--dir`."
        )
    return path


def _tensor_header(array: np.ndarray) -> bytes:
    return json.dumps({"dtype": array.dtype.name, "shape": array.shape}).encode()


def _empty(header: bytes) -> np.ndarray:
    try:
        fields = json.loads(header)
        dtype, shape = fields["dtype"], tuple(int(n) for n in fields["shape"])
        size = int(np.prod(shape, dtype=object)) if min(shape, default=1) > 0 else 0
        if dtype in DTYPES and 0 < size * np.dtype(dtype).itemsize <= LARGEST_TENSOR:
            return np.empty(shape, dtype)
    except (ValueError, KeyError, TypeError):
        pass
    raise MessageError(
        "`sedma node` needs dtype and shape of a tensor of at most "
        f"{LARGEST_TENSOR:,} bytes. Got {header[:100]!r}. Cut it into blocks."
    )


async def _send_tensor(
    send: Callable[[memoryview], Awaitable[None]], array: np.ndarray
) -> None:
    view = bytes_of(array)
    for at in range(0, len(view), PIECE):
        await send(view[at : at + PIECE])


async def _receive_tensor(
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
        array = await _receive_tensor(call.meta, call.receive)
        return (await node.put(array)).encode()

    async def get(call: Call):
        array = await node.get(bytes(call.body[:100]).decode("ascii", "replace"))
        await call.send(_tensor_header(array))
        await _send_tensor(call.send, array)

    async def connect(call: Call):
        return (await node.connect(bytes(call.body).decode())).encode()

    async def peers(call: Call):
        return json.dumps(await described_peers(node)).encode()

    async def status(call: Call):
        return json.dumps(await node_status(node)).encode()

    for method in (put, get, connect, peers, status):
        methods.add(method.__name__, method)
    return methods


async def serve_control(
    node: Node,
    folder: Path,
    *,
    task_status: Any = trio.TASK_STATUS_IGNORED,
) -> None:
    """Take commands until cancelled; `OSError` if another node runs in `folder`."""
    path, methods = socket_path(folder), _methods(node)
    if path.exists():
        try:
            await (await trio.open_unix_socket(str(path))).aclose()
        except OSError:
            path.unlink()  # left by a node that was killed
        else:
            raise OSError(
                "`sedma node start` needs a folder in which no other node runs. Got "
                f"{folder}. Stop the other node, or choose another folder by `--dir`."
            )
    listener = trio.socket.socket(socket.AF_UNIX)
    await listener.bind(str(path))
    path.chmod(0o600)
    listener.listen(16)

    async def serve(stream: trio.SocketStream):
        with trio.CancelScope() as scope:  # pyright: ignore[reportCallIssue]
            try:
                await methods.serve(SocketStream(stream), "control")
            except (EOFError, OSError, ValueError, trio.BrokenResourceError):
                scope.cancel()
        await trio.aclose_forcefully(stream)

    try:
        await trio.serve_listeners(
            serve, [trio.SocketListener(listener)], task_status=task_status
        )
    finally:
        path.unlink(missing_ok=True)


@asynccontextmanager
async def _command(
    folder: Path,
    method: str,
    body: bytes = b"",
    meta: bytes = b"",
    timeout: float = 600.0,
) -> AsyncIterator[StreamingCall]:
    """A call of the node in `folder`."""
    try:
        stream = await trio.open_unix_socket(str(socket_path(folder)))
    except OSError as error:
        raise OSError(
            f"`sedma node` needs a node that runs in {folder}. Got none. Run `sedma node "
            "start` there, or name the folder of the node by `--dir`."
        ) from error
    mine = SocketStream(stream)
    with trio.fail_after(timeout):
        async with stream:
            header = wire.Header(method=method, meta=meta, deadline_ms=int(timeout * 1000))
            await send_message(mine, header, body)
            yield StreamingCall(mine)


def ask(folder: Path, method: str, body: bytes = b"", timeout: float = 60.0) -> Any:
    """The answer of the node in `folder` to `peers`, `status` or `connect`."""

    async def run():
        async with _command(folder, method, body, timeout=timeout) as call:
            text = bytes(await call.receive() or b"").decode()
            return text if method == "connect" else json.loads(text)

    return trio.run(run)


def put(folder: Path, array: np.ndarray, progress: Progress | None = None) -> str:
    """Have the node in `folder` offer an array; its CID."""

    async def run():
        array_ = tensor_of(array)
        async with _command(folder, "put", meta=_tensor_header(array_)) as call:
            sent = 0

            async def send(piece: memoryview):
                nonlocal sent
                await call.send(piece)
                sent += len(piece)
                if progress is not None:
                    progress(sent // 10**6, array_.nbytes // 10**6)

            await _send_tensor(send, array_)
            return bytes(await call.receive() or b"").decode()

    return trio.run(run)


def get(folder: Path, cid: str, progress: Progress | None = None) -> np.ndarray:
    """A tensor by its CID, through the node in `folder`."""

    async def run():
        async with _command(folder, "get", cid.encode()) as call:
            header = bytes(await call.receive() or b"")
            return await _receive_tensor(header, call.receive, progress)

    return trio.run(run)
