"""Run a node in a thread of its own, beside synchronous code."""

import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np
import trio
from numpy.typing import ArrayLike

from ..._long_term import LongTermMemory, ShortTermMemory
from .._errors import first_cause
from .._node.description import described_peers, node_status
from .._node.node import Node
from .._node.running import running_node
from .._node.settings import NodeSettings
from .._tensors.manifest import tensor_of


class OpenNode:
    """A running node; every method may be called from any thread but the node's own.

    **Example:**

        >>> with sj.comm.open_node() as node:
        ...     cid = node.put(jnp.arange(3))
        ...     print(node.get(cid), node.status()["tensors"], node.peers())
        [0 1 2] 1 []
    """

    def __init__(self, node: Node, token: trio.lowlevel.TrioToken):
        self.node, self._token = node, token

    def call(
        self,
        function: Callable[..., Awaitable[Any]],
        *arguments: Any,
        timeout: float | None = None,
    ) -> Any:
        """Run an async function in the node's thread and wait for its result.

        **Raises:** what the function raises; `TimeoutError` after `timeout` seconds.
        """

        async def within():
            if timeout is None:
                return await function(*arguments)
            with trio.move_on_after(timeout):
                return await function(*arguments)
            raise TimeoutError(
                f"`OpenNode.call` needs an answer within {timeout} s. Got none. Allow "
                "more, or check that peers are connected."
            )

        try:
            return trio.from_thread.run(within, trio_token=self._token)
        except BaseExceptionGroup as group:
            raise first_cause(group) from None

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
        """Connect to a peer by any of its addresses; its id.

        **Raises:** `ConnectionError` if it cannot be reached, `PermissionError` if it is
        not on the allow-list, `ValueError` for an invalid address.
        """
        return self.call(self.node.connect, *addresses)

    def put(self, array: jax.Array | ArrayLike) -> str:
        """Offer an array of JAX or NumPy to peers; its CID.

        A NumPy array is copied, since its owner may change it.

        **Raises:** `ValueError` for an array that no manifest can describe, `MemoryError`
        if `NodeSettings.capacity` has no room.
        """
        mine = tensor_of(array)
        if not isinstance(array, jax.Array):
            mine = mine.copy()
        return self.call(self.node.put, mine)

    def get(self, cid: str, timeout: float | None = None) -> np.ndarray:
        """A tensor by its CID, verified and read only.

        Its memory is aligned, so that `get_jax` does not copy it.

        **Raises:** `FetchError` if no peer could send it, `ValueError` for an invalid CID,
        `TimeoutError`.
        """
        return self.call(self.node.get, cid, timeout=timeout)

    def get_jax(self, cid: str, timeout: float | None = None) -> jax.Array:
        """As `get`, but an array of JAX on the CPU, in the same memory."""
        array = self.get(cid, timeout)
        return alias(array)

    def get_block(
        self, cid: str, peer: str | None = None, timeout: float | None = None
    ) -> bytes:
        """A block by its CID, by Bitswap from `peer` or any connected peer; verified.

        **Raises:** `FetchError` if no peer has it, `ValueError` for a CID other than of
        version 1 and SHA2-256, `TimeoutError`.
        """
        return self.call(self.node.get_block, cid, peer, timeout=timeout)

    @property
    def short_term(self) -> ShortTermMemory | None:
        """The short-term memory given to `open_node`, with the samples added since."""
        return self.node.short_term

    def peers(self) -> list[dict]:
        """The peers that this node knows: their statuses, measurements and scores."""
        return self.call(described_peers, self.node)

    def status(self) -> dict:
        """This node itself: id, addresses, connections, memory, cache, weights."""
        return self.call(node_status, self.node)


def alias(array: np.ndarray) -> jax.Array:
    """An array of JAX in the memory of a NumPy array that nobody will change.

    JAX copies memory that is not aligned to 64 bytes, and dtypes that it does not have,
    as float64 without `jax_enable_x64`. What `get` fetches from a peer is aligned.

    **Example:**

        >>> memory = np.zeros(32, np.float32)
        >>> aligned = memory[-memory.ctypes.data % 64 // 4 :][:16]
        >>> sj.comm.alias(aligned).unsafe_buffer_pointer() == aligned.ctypes.data
        True
    """
    if array.dtype == bool or jax.dtypes.canonicalize_dtype(array.dtype) != array.dtype:
        return jax.numpy.asarray(array)
    # JAX does not accept read-only memory, although it does not write to it.
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


@contextmanager
def open_node(
    settings: NodeSettings | None = None,
    *,
    memory: LongTermMemory | None = None,
    short_term: ShortTermMemory | None = None,
    **named: Any,
) -> Iterator[OpenNode]:
    """Run a node in a thread of its own while the block runs.

    **Arguments:** a `NodeSettings`, or its fields by name, and

    - `memory`: of `sedma_jax.memory.open`. The node recalls from it the profiles of peers,
        the weights and the use of tensors, and writes them back every `remember_every`
        seconds and at the end. All nodes without a `key` share one set.
    - `short_term`: a `sedma_jax.memory.ShortTerm`. The node adds samples of its own `load`
        and `memory_free`, and of the `load ID` of its peers; the memory with these samples
        is the node's `short_term`.

    **Raises:** `ValueError` for invalid settings or a file that holds no key,
    `PermissionError` for a key that others may read, `OSError` if the node cannot listen.

    **Example:**

        >>> everyone = sj.comm.NodeSettings(allowed=frozenset({sj.comm.EVERYONE}))
        >>> with sj.comm.open_node(everyone) as a, sj.comm.open_node(everyone) as b:
        ...     met = b.connect(*a.addresses) == a.name
        ...     found = b.get(a.put(np.arange(3.0)))  # from a, and verified
        >>> met, found.tolist()
        (True, [0.0, 1.0, 2.0])
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
            failed.append(first_cause(error))
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
