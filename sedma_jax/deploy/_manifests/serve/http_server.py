"""Serve an agent over HTTP by uvicorn."""

import asyncio
import errno
import io
import socket
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from .agent import FAILED, Agent
from .limits import CONNECTIONS, LARGEST, SECONDS, SILENCE, SLOWEST, Full

_HEADERS = 2**14  # bytes
_BUFFER = 2**16  # bytes that the system keeps of a connection that is not read
_PIECE = 2**16  # bytes of an answer that are written at once

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


async def start_http(
    agent: Agent, port: int
) -> tuple[Callable[[], Coroutine[Any, Any, None]], int]:
    """Start a server; return what stops it, and its port."""
    listener = _listener(port)
    config = uvicorn.Config(
        _application(agent),
        http=_connections(),
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        log_level="error",  # not every malformed request
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        h11_max_incomplete_event_size=_HEADERS,
        timeout_keep_alive=int(SILENCE),
        timeout_graceful_shutdown=25,  # Kubernetes kills after 30
    )
    server, port = uvicorn.Server(config), listener.getsockname()[1]
    running = asyncio.create_task(server.serve([listener]))
    while not server.started and not running.done():
        await asyncio.sleep(0.001)

    async def stop() -> None:
        server.should_exit = True
        await running

    return stop, port


def _listener(port: int) -> socket.socket:
    """Listen on both families: a kubelet probes the address that its pod has."""
    listener = _bound(port)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
    return listener


def _bound(port: int) -> socket.socket:
    if socket.has_dualstack_ipv6():
        try:
            return socket.create_server(
                ("", port), family=socket.AF_INET6, dualstack_ipv6=True
            )
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise
    return socket.create_server(("", port))  # a kernel without IPv6


def _connections() -> type[H11Protocol]:
    """The class of the connections of one server, which has places for so many."""
    waiting: dict[Any, None] = {}  # for a request; the oldest first

    class Connection(H11Protocol):
        """A connection that sends headers within `SILENCE`, or ends.

        uvicorn limits only the time between a response and the next byte.
        """

        _late: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
            super().connection_made(transport)
            if len(self.connections) > CONNECTIONS:
                next(iter(waiting), self)._end()
            self._wait()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self.cycle is None or self.cycle.response_complete:
                self._wait()
            else:
                self._no_longer_waits()

        def connection_lost(self, exc: Exception | None) -> None:
            self._no_longer_waits()
            super().connection_lost(exc)

        def _wait(self) -> None:
            if self._late is None:
                waiting[self] = None
                self._late = self.loop.call_later(SILENCE, self._end)

        def _no_longer_waits(self) -> None:
            waiting.pop(self, None)
            if self._late is not None:
                self._late.cancel()
                self._late = None

        def _end(self) -> None:
            self._no_longer_waits()
            self.transport.abort()

    return Connection


def _application(agent: Agent) -> Callable[[Message, Receive, Send], Awaitable[None]]:
    async def application(scope: Message, receive: Receive, send: Send) -> None:
        if scope["method"] != "POST":
            await _respond(send, 200, b"ready")
            return
        # h11 holds its limit against headers that do not come at once.
        if sum(len(name) + len(value) for name, value in scope["headers"]) > _HEADERS:
            await _refuse(send, 431, f"send headers of up to {_HEADERS} bytes")
            return
        headers = dict(scope["headers"])
        if b"transfer-encoding" in headers or b"content-length" not in headers:
            await _refuse(send, 411, "send Content-Length, and no Transfer-Encoding")
            return
        length, most = int(headers[b"content-length"]), min(LARGEST, agent.room.share)
        if length > most:
            await _refuse(send, 413, f"send up to {most} bytes, or raise its memory")
            return
        address = (scope.get("client") or ("",))[0]
        try:
            with agent.admitted():
                async with agent.room.taken(length, address):
                    request = await _body(length, receive)
                    answer = await agent.answer(request)
                    del request
                    if answer is None:
                        await _respond(send, 500, FAILED.encode())
                    else:
                        await _respond(send, 200, answer)
        except Full:
            await _refuse(send, 503, "the agent has no room now; come back later")
        except TimeoutError:
            await _refuse(send, 408, "send and take bodies faster")
        except ConnectionError:
            return

    return application


async def _body(length: int, receive: Receive) -> bytes:
    """The body of a request.

    **Raises:** `TimeoutError` for one that comes too slowly, `ConnectionError` for one that
    ends early.
    """
    # Its value is handed out without a copy.
    body = io.BytesIO()
    async with asyncio.timeout(SILENCE + length / SLOWEST):
        more = True
        while more:
            async with asyncio.timeout(SILENCE):
                part = await receive()
            if part["type"] != "http.request":
                raise ConnectionError("The caller left before its request was complete.")
            body.write(part.get("body", b""))
            more = part.get("more_body", False)
    return body.getvalue()


async def _respond(send: Send, status: int, content: bytes, *more: tuple) -> None:
    """Answer in pieces, so that no second copy of the answer waits for a slow caller."""
    length = (b"content-length", str(len(content)).encode())
    async with asyncio.timeout(SECONDS + len(content) / SLOWEST):
        await send(
            {"type": "http.response.start", "status": status, "headers": [length, *more]}
        )
        for start in range(0, len(content), _PIECE):
            piece = content[start : start + _PIECE]
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _refuse(send: Send, status: int, why: str) -> None:
    """Answer what is wrong, and close the connection: its body stays unread."""
    await _respond(send, status, why.encode(), (b"connection", b"close"))
