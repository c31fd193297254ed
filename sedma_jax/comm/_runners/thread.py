"""A node beside synchronous code: it runs in a thread of its own."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np
import trio

from .._node.node import Node, running_node
from .._node.peer_profiles import LongTermMemory, ShortTermMemory
from .._node.settings import NodeSettings


class OpenNode:
    """A node that runs; every method may be called from any thread but its own."""

    def __init__(self, node: Node, token: trio.lowlevel.TrioToken):
        self.node, self._token = node, token

    def call(self, function, *arguments, timeout: float | None = None) -> Any:
        """Run an async function in the node's thread and wait for its result.

        **Raises:** what it raises; `TimeoutError` after `timeout` seconds.
        """

        async def within():
            if timeout is None:
                return await function(*arguments)
            with trio.move_on_after(timeout):
                return await function(*arguments)
            raise TimeoutError(
                f"needs an answer within {timeout} s. Got none. Allow more, or check that "
                "peers are connected."
            )

        try:
            return trio.from_thread.run(within, trio_token=self._token)
        except BaseExceptionGroup as group:
            raise first_of(group) from None

    @property
    def name(self) -> str:
        """The id of this node."""
        return self.node.name

    @property
    def addresses(self) -> list[str]:
        """Addresses for `connect` and for the `bootstrap` of others."""
        return trio.from_thread.run_sync(
            lambda: self.node.addresses, trio_token=self._token
        )

    def connect(self, *addresses: str) -> str:
        """Connect to a peer by any of its addresses; its id."""
        return self.call(self.node.connect, *addresses)

    def put(self, array) -> str:
        """Offer an array, of JAX or NumPy, to peers; its CID.

        A NumPy array is copied, since its owner may change it.
        """
        mine = np.asarray(array) if isinstance(array, jax.Array) else np.array(array)
        return self.call(self.node.put, mine)

    def get(self, cid: str, timeout: float | None = None) -> np.ndarray:
        """A tensor by its CID, verified and read only.

        Its memory is aligned, so that `get_jax` does not copy it.

        **Raises:** `FetchError` when no peer could send it, `ValueError` for what is no
        CID, `TimeoutError`.
        """
        return self.call(self.node.get, cid, timeout=timeout)

    def get_jax(self, cid: str, timeout: float | None = None) -> jax.Array:
        """As `get`, as an array of JAX on the CPU in the same memory."""
        array = self.get(cid, timeout)
        return alias(array)

    def get_block(
        self, cid: str, peer: str | None = None, timeout: float | None = None
    ) -> bytes:
        """A block by its CID, by Bitswap from `peer` or any that is connected; verified.

        **Raises:** `FetchError` when none has it, `ValueError` for a CID that is not of
        version 1 and SHA2-256, `TimeoutError`.
        """
        return self.call(self.node.get_block, cid, peer, timeout=timeout)

    @property
    def short_term(self) -> ShortTermMemory | None:
        """The short-term memory that `open_node` was given, with what came since."""
        return self.node.short_term

    def peers(self) -> list[dict]:
        """The peers that this node knows: what they say, what was seen, their score."""
        return self.call(described_peers, self.node)

    def status(self) -> dict:
        """This node itself: id, addresses, connections, memory, cache, weights."""
        return self.call(node_status, self.node)


def first_of(error: BaseException) -> BaseException:
    """The first cause inside groups of exceptions, which nurseries make of any."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def alias(array: np.ndarray) -> jax.Array:
    """An array of JAX in the memory of a NumPy array that nobody will change."""
    if array.dtype == bool or jax.dtypes.canonicalize_dtype(array.dtype) != array.dtype:
        return jax.numpy.asarray(array)
    # JAX cannot take what is read only; it does not write either.
    base = array if array.flags.writeable else _writeable(array)
    return jax.dlpack.from_dlpack(base)


def _writeable(array: np.ndarray) -> np.ndarray:
    base = array
    while isinstance(base.base, np.ndarray):
        base = base.base
    start = array.ctypes.data - base.ctypes.data
    return (
        base.view(np.uint8)[start : start + array.nbytes]
        .view(array.dtype)
        .reshape(array.shape)
    )


async def described_peers(node: Node) -> list[dict]:
    """The peers that a node knows, as records for JSON."""
    connected = set(node.connected())
    peers = list(node.peers)
    weights = np.asarray(node.peers.learner.model.weights)
    scores = node.peers.terms([p.name for p in peers]) @ weights if peers else []
    return [
        {
            "id": peer.name,
            "connected": peer.name in connected,
            "score": float(score),
            "rtt_ms": peer.rtt_ms,
            "success": peer.success,
            "idle": peer.idle,
            "memory_free": peer.memory_free,
            "zone": peer.zone,
            "relayed": peer.relayed,
            "trusted": node.peers.usable(peer.name),
        }
        for peer, score in zip(peers, scores, strict=True)
    ]


async def node_status(node: Node) -> dict:
    """A node itself, as a record for JSON."""
    model = node.peers.learner.model
    return {
        "id": node.name,
        "addresses": node.addresses,
        "connected": sorted(node.connected()),
        "reachable": node.relaying.reachable,
        "punched": node.relaying.punching.succeeded,
        "not_punched": node.relaying.punching.failed,
        "tensors": len(node.store),
        "bytes": node.store.used,
        "pinned_bytes": node.store.pinned_bytes,
        "capacity": node.store.capacity,
        "hits": node.store.hits,
        "misses": node.store.misses,
        "evictions": node.store.evictions,
        "weights": [float(w) for w in model.weights],
        "served_bytes": sum(node.serving.values()),
    }


@contextmanager
def open_node(
    settings: NodeSettings | None = None,
    *,
    memory: LongTermMemory | None = None,
    short_term: ShortTermMemory | None = None,
    **named,
) -> Iterator[OpenNode]:
    """Run a node in a thread of its own while the block runs.

    **Arguments:** a `NodeSettings`, or its fields by name, and

    - `memory`: of `sedma_jax.memory.open`. The profiles of peers, the weights and the use
        of tensors are recalled from it, and written back every `remember_every` seconds
        and at the end. A node without a `key` shares them with all that have none.
    - `short_term`: a `sedma_jax.memory.ShortTerm`, for the current `load` and
        `memory_free` of this node, and the `load ID` of its peers. The node's own
        `short_term` is the one with the samples.

    ```python
    with sj.comm.open_node(allowed=frozenset({other})) as node:
        cid = node.put(array)
    ```
    """
    settings = settings or NodeSettings(**named)
    started, stop = threading.Event(), trio.Event()
    opened: list[OpenNode] = []
    failed: list[BaseException] = []

    async def run():
        running = running_node(settings, memory=memory, short_term=short_term)
        async with running as node:
            opened.append(OpenNode(node, trio.lowlevel.current_trio_token()))
            started.set()
            await stop.wait()

    def thread():
        try:
            trio.run(run)
        except BaseException as error:
            failed.append(first_of(error))
        finally:
            started.set()

    worker = threading.Thread(target=thread, name="sedma-node", daemon=True)
    worker.start()
    started.wait()
    if failed:
        raise failed[0]
    try:
        yield opened[0]
    finally:
        try:
            opened[0]._token.run_sync_soon(stop.set)
        except trio.RunFinishedError:
            pass
        worker.join(10)
    if failed:
        raise failed[0]
