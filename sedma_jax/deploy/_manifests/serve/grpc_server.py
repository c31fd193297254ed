"""Serve an agent over gRPC."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import grpc
import grpc.aio

from .agent import FAILED, Agent
from .limits import CONNECTIONS, LARGEST, REQUESTS, SILENCE, Full

_SLOWEST = 2**20  # bytes/s of a message: gRPC does not show how much of one has come


async def start_grpc(
    agent: Agent, port: int
) -> tuple[Callable[[], Coroutine[Any, Any, None]], int]:
    """Start a server; return what stops it, and its port."""
    # gRPC keeps a message twice while it is received.
    largest = min(LARGEST, agent.room.share // 2)
    patience = SILENCE + largest / _SLOWEST

    async def answer(messages: Any, context: grpc.aio.ServicerContext) -> bytes:
        try:
            # The message is not read before there is room for the largest.
            async with agent.room.taken(
                2 * largest, context.peer().rpartition(":")[0]
            ) as room:
                async with asyncio.timeout(patience):
                    request = await context.read()
                if not isinstance(request, bytes):  # the end, without a message
                    await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "send a message")
                room.resize(len(request))
                content = await agent.answer(request)
        except (Full, TimeoutError):
            await context.abort(
                grpc.StatusCode.RESOURCE_EXHAUSTED, "no room now; come back later"
            )
        if content is None:
            await context.abort(grpc.StatusCode.INTERNAL, FAILED)
        return content

    # To the caller it is a call with one message; here it is one that can wait.
    method = grpc.stream_unary_rpc_method_handler(answer)
    server = grpc.aio.server(
        maximum_concurrent_rpcs=REQUESTS,
        options=[
            ("grpc.max_receive_message_length", largest),
            ("grpc.max_metadata_size", 2**14),
            # Else gRPC buffers megabytes of every stream before anybody reads it.
            ("grpc.http2.bdp_probe", 0),
            ("grpc.http2.lookahead_bytes", 2**16),
            ("grpc.max_concurrent_streams", REQUESTS),
            ("grpc.server_handshake_timeout_ms", int(SILENCE * 1000)),
            ("grpc.max_allowed_incoming_connections", CONNECTIONS),
        ],
    )
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("sedma.Agent", {"Call": method}),)
    )
    port = server.add_insecure_port(f"[::]:{port}")
    await server.start()

    async def stop() -> None:
        await server.stop(1)

    return stop, port
