"""Ask another agent, over the protocol of the edge to it."""

import importlib
import os
import threading
import urllib.parse
import urllib.request
from collections.abc import Callable
from typing import Any

from .limits import LARGEST, SECONDS


def call(agent: str, request: bytes) -> bytes:
    """Ask another agent over the protocol of the edge to it.

    **Raises:** `LookupError` for an agent without an edge, `OSError` for one that fails.
    """
    address = os.environ.get("SEDMA_CALL_" + agent.upper().replace("-", "_"))
    if address is None:
        raise LookupError(f"The workflow has no edge to {agent!r}. Add one to `edges:`.")
    parts = urllib.parse.urlsplit(address)
    if parts.scheme == "grpc":
        return _call_grpc(agent, parts.netloc, request)
    if parts.scheme == "libp2p":
        name = f"{os.environ['SEDMA_AGENT'].partition('/')[0]}/{agent}"
        return this_peer().call(name, parts.hostname, parts.port, request, SECONDS)
    with urllib.request.urlopen(address, request, timeout=SECONDS) as answer:
        content = answer.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise OSError(f"{agent} answered more than {LARGEST} bytes. Answer in pieces.")
    return content


def _call_grpc(agent: str, address: str, request: bytes) -> bytes:
    import grpc

    size = ("grpc.max_receive_message_length", LARGEST)
    with grpc.insecure_channel(address, options=[size]) as channel:
        try:
            method = channel.unary_unary("/sedma.Agent/Call")
            return method(request, timeout=SECONDS, wait_for_ready=True)
        except grpc.RpcError as error:
            raise OSError(f"{agent} at {address} failed: {error.code().name}.") from error


_peers: dict[str, Any] = {}  # by the agent's name; a process has one
_lock = threading.Lock()


def this_peer(
    port: int | None = None, answer: Callable[[bytes], bytes] | None = None
) -> Any:
    """The peer of this agent, started when it is first needed."""
    name = os.environ["SEDMA_AGENT"]
    with _lock:
        if name not in _peers:
            comm = importlib.import_module("sedma_jax.comm")
            neighbours = set(filter(None, os.environ.get("SEDMA_CALLERS", "").split(",")))
            for key, address in os.environ.items():
                if key.startswith("SEDMA_CALL_") and address.startswith("libp2p:"):
                    neighbours.add(key[len("SEDMA_CALL_") :].lower().replace("_", "-"))
            workflow = name.partition("/")[0]
            _peers[name] = comm.AgentPeer(
                name,
                secret=os.environ.get("SEDMA_SECRET", ""),
                neighbours={f"{workflow}/{agent}" for agent in neighbours},
                port=port,
                answer=answer,
            )
        return _peers[name]


def close_peer() -> None:
    """End the peer of this agent."""
    if peer := _peers.pop(os.environ["SEDMA_AGENT"], None):
        peer.close()
