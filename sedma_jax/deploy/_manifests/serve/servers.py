"""Start the servers of an agent, one for each protocol that it is called by."""

import asyncio
import functools
import threading
from collections.abc import Callable, Coroutine
from typing import Any

from .agent import Agent, Entry
from .calls import call, close_peer, this_peer

Started = tuple[Callable[[], object], int]  # what stops a server, and its port


def serve(entry: Entry, ports: dict[str, int]) -> list[Started]:
    """Start a server for every protocol of `ports`; port 0 takes a free one.

    **Returns:** for every server, in the order of `ports`, what stops it and its port.
    """
    return [_SERVERS[protocol](entry, port) for protocol, port in ports.items()]


def _serve_http(entry: Entry, port: int) -> Started:
    from .http_server import start_http

    return _started(start_http(_agent(entry), port))


def _serve_grpc(entry: Entry, port: int) -> Started:
    from .grpc_server import start_grpc

    return _started(start_grpc(_agent(entry), port))


def _serve_libp2p(entry: Entry, port: int) -> Started:
    peer = this_peer(port, lambda request: entry(request, call))
    return close_peer, peer.port


_SERVERS = {"http": _serve_http, "grpc": _serve_grpc, "libp2p": _serve_libp2p}


@functools.cache
def _loop() -> asyncio.AbstractEventLoop:
    """The event loop of all servers of this process, which runs in a thread of its own."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="servers", daemon=True).start()
    return loop


def _in_loop(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run_coroutine_threadsafe(work, _loop()).result()


@functools.cache
def _agent(entry: Entry) -> Agent:
    """The agent whose servers share threads and room."""

    async def made() -> Agent:
        return Agent(entry)

    return _in_loop(made())


def _started(
    start: Coroutine[Any, Any, tuple[Callable[[], Coroutine[Any, Any, None]], int]],
) -> Started:
    stop, port = _in_loop(start)
    return lambda: _in_loop(stop()), port
