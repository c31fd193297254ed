"""Assemble a node from its parts and run it."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from functools import partial

import trio

from ..._long_term import LongTermMemory, ShortTermMemory
from .._libp2p.keystore import load_or_create
from .._libp2p.library import (
    DHTMode,
    KadDHT,
    Multiaddr,
    background_trio_service,
    new_ed25519_keys,
)
from .._libp2p.node_host import make_host
from .._rpc.calls import PROTOCOL
from .._tensors.bitswap import PROTOCOLS, Bitswap
from . import background_tasks
from .allow_list import allow_list, named_peers
from .dial_back import add_dial_back
from .nat_traversal import NatTraversal
from .node import Node
from .peer_methods import add_methods
from .peer_profiles import Profiles
from .replicas import Replication
from .settings import NodeSettings

log = logging.getLogger("sedma_jax.comm")

LAST_SAVE = 5.0  # seconds that writing to the disk at the end may take


@asynccontextmanager
async def running_node(
    settings: NodeSettings,
    *,
    memory: LongTermMemory | None = None,
    short_term: ShortTermMemory | None = None,
) -> AsyncIterator[Node]:
    """Run a node while the block runs, under trio.

    **Arguments:** as of `open_node`, which runs a node beside synchronous code.

    **Raises:** `OSError` if an address to listen on is taken; as `open_node` does.

    **Example:**

        >>> import trio
        >>> async def main():
        ...     async with sj.comm.running_node(sj.comm.NodeSettings()) as node:
        ...         return await node.get(await node.put(np.arange(3.0)))
        >>> print(trio.run(main))
        [0. 1. 2.]
    """
    allowed = allow_list(settings)
    listen = [Multiaddr(address) for address in settings.listen]
    keys = new_ed25519_keys() if settings.key is None else load_or_create(settings.key)
    host = make_host(
        keys,
        listen=listen,
        announce=[Multiaddr(address) for address in settings.announce],
        allowed=allowed,
        named=named_peers(settings),
        own_muxer=settings.own_muxer,
    )
    node = Node(settings, keys, host, short_term)
    node.relaying, node.replication = NatTraversal(node), Replication(node)
    add_methods(node)
    add_dial_back(node)
    profiles = None if memory is None else Profiles(node, memory)
    host.set_stream_handler(PROTOCOL, partial(node.handle, node.methods.serve))
    async with (
        _disk(node),
        nullcontext() if profiles is None else profiles.kept(),
        host.run(listen_addrs=listen),
        trio.open_nursery() as nursery,
    ):
        node.bitswap = Bitswap(host, nursery, node.tiers.block, node.count_served)
        for protocol in PROTOCOLS:
            host.set_stream_handler(protocol, partial(node.handle, node.bitswap.serve))
        # As a server of the routing table, a node behind NAT would be dialled in vain.
        behind = bool(settings.via_relay)
        node.dht = KadDHT(host, DHTMode.CLIENT if behind else DHTMode.SERVER)
        async with background_trio_service(node.dht), node.relaying.running():
            background_tasks.start(node, nursery)
            if profiles is not None:
                nursery.start_soon(profiles.write_often)
            yield node
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def _disk(node: Node) -> AsyncIterator[None]:
    """Take up what the node's disk holds, and leave it in order at the end."""
    disk = node.tiers.disk
    if disk is None:
        yield
        return
    try:
        await node.tiers.start()
        node.to_provide += [cid for cid, entry in node.store if entry.pinned]
        yield
    finally:
        with trio.CancelScope(shield=True), trio.move_on_after(LAST_SAVE):  # pyright: ignore[reportCallIssue]
            try:
                await node.tiers.save()
            except OSError as error:
                log.warning("not saved at the end: %s", error)
        disk.close()
