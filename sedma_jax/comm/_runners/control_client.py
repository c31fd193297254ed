"""Command a node through the control socket in its folder."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import trio

from .._errors import first_cause, reason
from .._libp2p.byte_stream import SocketStream
from .._rpc import wire_pb2 as wire
from .._rpc.calls import StreamingCall
from .._rpc.message_stream import send_message
from .._tensors.manifest import tensor_of
from .control_socket import (
    Progress,
    receive_tensor,
    send_tensor,
    socket_path,
    tensor_header,
)

SILENT = 10.0  # seconds without a sign of life until a node counts as frozen
_GONE = (EOFError, trio.BrokenResourceError, trio.ClosedResourceError, ConnectionError)


@asynccontextmanager
async def _command(
    folder: Path,
    method: str,
    body: bytes = b"",
    meta: bytes = b"",
    timeout: float = 600.0,
) -> AsyncIterator[StreamingCall]:
    """A call of the node in `folder`.

    **Raises:** `OSError` if no node runs there, or if it ends, freezes or takes longer than
    `timeout` seconds; `RemoteError` with what the node says.
    """
    socket_path(folder)
    try:
        with trio.fail_after(timeout):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_watch, folder)
                async with await _connected(folder) as stream:
                    mine = SocketStream(stream)
                    deadline = int(timeout * 1000)
                    header = wire.Header(method=method, meta=meta, deadline_ms=deadline)
                    await send_message(mine, header, body)
                    yield StreamingCall(mine)
                nursery.cancel_scope.cancel()
    except (BaseExceptionGroup, trio.TooSlowError, *_GONE) as error:
        cause = first_cause(error)
        if isinstance(cause, trio.TooSlowError):
            raise _unanswered(folder, f"none within {timeout:g} s") from error
        if isinstance(cause, _GONE):
            raise _unanswered(folder, f"its end ({reason(cause)})") from error
        raise cause from None


def _unanswered(folder: Path, got: str) -> OSError:
    return OSError(
        f"`sedma node` needs a node that answers, in {folder}. Got {got}. Look at its log, "
        "and start it again if it has ended."
    )


async def _connected(folder: Path) -> trio.SocketStream:
    """A connection to the node; waits while more clients queue than the system allows."""
    path = str(socket_path(folder))
    while True:
        # Trio's own function takes a full queue for a connection.
        client = trio.socket.socket(trio.socket.AF_UNIX)
        try:
            client._sock.connect(path)  # pyright: ignore[reportAttributeAccessIssue]
            return trio.SocketStream(client)
        except BlockingIOError:
            client.close()
            await trio.sleep(0.05)
        except OSError as error:
            client.close()
            raise FileNotFoundError(
                f"`sedma node` needs a node that runs in {folder}. Got none. Run `sedma "
                "node start` there, or name the folder of the node by `--dir`."
            ) from error


async def _watch(folder: Path) -> None:
    """Fail once the node gives no sign of life, as when it is stopped; else run on."""
    while True:
        with trio.move_on_after(SILENT) as waiting:
            async with await _connected(folder) as stream:
                mine = SocketStream(stream)
                await send_message(mine, wire.Header(method="alive", deadline_ms=60_000))
                await StreamingCall(mine).receive()
        if waiting.cancelled_caught:
            raise _unanswered(folder, f"no sign of life for {SILENT:g} s")
        await trio.sleep(SILENT / 2)


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
        async with _command(folder, "put", meta=tensor_header(array_)) as call:
            sent = 0

            async def send(piece: memoryview):
                nonlocal sent
                await call.send(piece)
                sent += len(piece)
                if progress is not None:
                    progress(sent // 10**6, array_.nbytes // 10**6)

            await send_tensor(send, array_)
            return bytes(await call.receive() or b"").decode()

    return trio.run(run)


def get(folder: Path, cid: str, progress: Progress | None = None) -> np.ndarray:
    """A tensor by its CID, through the node in `folder`."""

    async def run():
        async with _command(folder, "get", cid.encode()) as call:
            header = bytes(await call.receive() or b"")
            return await receive_tensor(header, call.receive, progress)

    return trio.run(run)
