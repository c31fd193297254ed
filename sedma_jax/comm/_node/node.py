"""A peer: its host, its table of others, and the tensors it serves."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from functools import partial

import numpy as np
import trio

from .._libp2p import keystore, library_fixes
from .._libp2p.byte_stream import PeerStream
from .._libp2p.library import (
    NOISE_ID,
    YAMUX_ID,
    ConnectionConfig,
    DHTMode,
    KadDHT,
    KeyPair,
    LibraryYamux,
    Multiaddr,
    PeerID,
    ResourceLimits,
    ResourceManager,
    TProtocol,
    background_trio_service,
    info_from_p2p_addr,
    new_ed25519_keys,
    new_host,
    new_x25519_keys,
)
from .._peers.table import PeerTable
from .._rpc.calls import PROTOCOL, Calls
from .._rpc.messages import MessageError
from .._rpc.methods import Methods
from .._tensors import bitswap
from .._tensors.fetch import FetchError, Transfer, fetch_manifest, fetch_tensor
from .._tensors.manifest import check_cid, describe
from .._tensors.store import TensorStore
from . import background_tasks
from .dial_back import add_reach
from .nat_traversal import Relaying
from .peer_methods import add_methods
from .peer_profiles import LongTermMemory, Profiles, ShortTermMemory
from .settings import EVERYONE, NodeSettings

log = logging.getLogger("sedma_jax.comm")

MOST_CONNECTIONS = 64
MOST_STREAMS = 1024
FIND_SECONDS = 3.0  # for the routing table; connected peers are asked meanwhile


class Node:
    """A running node; `running_node` makes one. All methods are for its trio thread."""

    def __init__(
        self,
        settings: NodeSettings,
        keys: KeyPair,
        host,
        short_term: ShortTermMemory | None = None,
    ):
        self.settings, self.keys, self.host = settings, keys, host
        self.short_term = short_term
        self.allowed = _allow(settings)
        self.name = str(host.get_id())
        self.peers = PeerTable()
        self.store = TensorStore(settings.capacity)
        self.methods = Methods()
        self.calls = Calls(host)
        self.relaying = Relaying(self)
        self.dht: KadDHT | None = None
        self.bitswap: bitswap.Bitswap | None = None
        self.outcomes = trio.Event()  # of transfers, to learn from
        self.sequence = 0
        self.serving: dict[str, int] = {}  # bytes sent to each peer
        self.last_transfer = Transfer()
        self.to_provide: list[str] = []  # CIDs that the routing table does not know of yet
        add_methods(self)
        add_reach(self)

    @property
    def addresses(self) -> list[str]:
        """Addresses under which others reach this node, with its id."""
        told = [str(address) for address in self.host.get_addrs()]
        return list(dict.fromkeys([*told, *self.relaying.addresses]))

    def connected(self) -> list[str]:
        """Ids of the peers that a connection is open to."""
        return [str(peer) for peer in self.host.get_network().connections]

    async def connect(self, *addresses: str) -> str:
        """Connect to a peer by any of its addresses; its id."""
        infos = [_peer_address(address) for address in addresses]
        peer = infos[0].peer_id
        if not self.allowed(str(peer)):
            raise PermissionError(
                f"connects to peers on the allow-list. Got {peer}. Add it to `allowed`."
            )
        await self._dial(peer, [a for info in infos for a in info.addrs])
        self.peers.get(str(peer))
        if self.dht is not None:
            await self.dht.add_peer(peer)
        return str(peer)

    async def _dial(self, peer: PeerID, addresses):
        await library_fixes.dial(
            self.host, peer, addresses, through_relay=self.relaying.dial
        )

    def count_served(self, peer: str, nbytes: int) -> None:
        """Count bytes of tensors that a peer was sent."""
        self.serving[peer] = self.serving.get(peer, 0) + nbytes

    def statuses(self) -> bytes:
        """This node's status, signed, and the newest it has heard of others."""
        return background_tasks.statuses(self)

    def take_statuses(self, data: bytes) -> None:
        """Take in what another node knows; `MessageError` for a forged status."""
        background_tasks.take_statuses(self, data)

    async def put(self, array: np.ndarray) -> str:
        """Hold a tensor and offer it to others; its CID, of manifest and content.

        With `replicas` above 1 other peers are asked to hold it too, before this returns.
        Fewer connected peers than that is no error: the missing replicas follow.
        """
        array = np.asarray(array, order="C")
        manifest = await trio.to_thread.run_sync(describe, array)
        entry = self.store.add(manifest, array, pinned=True)
        entry.holders.add(self.name)
        entry.wanted_holders = max(entry.wanted_holders, self.settings.replicas)
        await background_tasks.replicate(self, manifest.cid)
        self.to_provide.append(manifest.cid)
        return manifest.cid

    async def get(self, cid: str) -> np.ndarray:
        """A tensor, from here or from peers; read only, verified.

        **Raises:** `FetchError` when no peer could send it, `ValueError` for what is no
        CID.
        """
        cid = check_cid(cid)
        entry = self.store.get(cid)
        if entry is None:
            entry = await self.fetch(cid, [], pinned=False)
        return entry.array

    async def get_block(self, cid: str, peer: str | None = None) -> bytes:
        """A block by its CID, from here or by Bitswap from peers of any make; verified.

        **Arguments:**

        - `cid`: version 1, SHA2-256, of any codec.
        - `peer`: whom to ask, connected to already; without it all, the best first.

        **Raises:** `FetchError` when none has it, `ValueError` for another kind of CID.
        """
        name = bitswap.block_cid(cid)
        block = self.store.block(name[-32:]) if name.startswith(bitswap.RAW) else None
        if block is not None:
            return bytes(block)
        names = [peer] if peer else self.connected()
        assert self.bitswap is not None
        failures = []
        for each in await trio.to_thread.run_sync(self.peers.choose, names, len(names)):
            try:
                return (await self.bitswap.fetch(each, [cid]))[0]
            except FetchError as error:
                failures.append(str(error))
        raise FetchError(
            f"needs a connected peer that has block {cid}. Got "
            f"{'; '.join(failures) or 'none'}. Connect to one by its address."
        )

    async def fetch(self, cid: str, hints: list[str], *, pinned: bool):
        """Fetch a tensor into the store, from `hints` and whoever is found."""
        providers = await self.providers(cid, hints)
        manifest = await fetch_manifest(self.calls, self.peers, cid, providers)
        if pinned:
            self.store.require_room(manifest.nbytes)
        array, self.last_transfer = await fetch_tensor(
            self.calls, self.peers, manifest, providers
        )
        self.outcomes.set()
        return self.store.add(manifest, array, pinned=pinned)

    async def providers(self, cid: str, hints: list[str]) -> list[str]:
        """Connected peers that have a tensor, the best first.

        Asks the routing table, and, since a record may be late or lost, the connected
        peers themselves.
        """
        found = set(hints)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._ask_routing_table, cid, found)
            for name in self.connected():
                nursery.start_soon(self._ask, name, cid, found)
        found.discard(self.name)
        usable = [name for name in found if name in self.connected()]
        return await trio.to_thread.run_sync(self.peers.choose, usable, len(usable))

    async def _ask(self, name: str, cid: str, found: set[str]):
        try:
            has = await self.calls.call(name, "has", cid.encode(), timeout=FIND_SECONDS)
        except (OSError, RuntimeError, MessageError, trio.TooSlowError):
            return
        if len(has):
            found.add(name)

    async def _ask_routing_table(self, cid: str, found: set[str]):
        assert self.dht is not None
        with trio.move_on_after(FIND_SECONDS):
            try:
                records = await self.dht.find_providers(cid)
            except Exception as error:  # the library's errors have no common base
                log.info("routing table failed: %s", error)
                return
            for record in records:
                name = str(record.peer_id)
                try:
                    if name != self.name and self.peers.usable(name) and self.allowed(name):
                        # A record does not tell of relays; the peer's status does.
                        told = self.peers.get(name).addresses
                        more = [a for t in told for a in _peer_address(t).addrs]
                        await self._dial(record.peer_id, [*record.addrs, *more])
                        found.add(name)
                except (ConnectionError, ValueError) as error:
                    log.info("provider not reached: %s", error)

    async def _serve(self, serve, stream):
        peer = str(stream.muxed_conn.peer_id)
        mine = PeerStream(stream)
        try:
            await serve(mine, peer)
        except trio.Cancelled:
            raise
        # Whatever a peer does to a stream ends that stream, and nothing else.
        except Exception as error:
            log.info("stream of %s ended: %s", peer, error or type(error).__name__)
            with trio.move_on_after(1):
                await mine.reset()


def _peer_address(address: str):
    try:
        return info_from_p2p_addr(Multiaddr(address))
    except Exception as error:  # the library's errors have no common base
        raise ValueError(
            "needs the address of a peer, as in /ip4/10.0.0.1/tcp/4001/p2p/12D3KooW.... "
            f"Got {address[:120]!r}. Take it from `sedma node status`."
        ) from error


def _allow(settings: NodeSettings):
    named = [*settings.bootstrap, *settings.via_relay]
    bootstrap = {str(_peer_address(a).peer_id) for a in named}
    allowed = settings.allowed | bootstrap
    for name in allowed - {EVERYONE}:
        try:
            PeerID.from_string(name)
        except Exception as error:
            raise ValueError(
                f"`allowed` needs ids of peers, as in 12D3KooW.... Got {name[:80]!r}. Take "
                "it from `sedma node status`."
            ) from error
    return lambda name: EVERYONE in allowed or name in allowed


@asynccontextmanager
async def running_node(
    settings: NodeSettings,
    *,
    memory: LongTermMemory | None = None,
    short_term: ShortTermMemory | None = None,
) -> AsyncIterator[Node]:
    """Run a node while the block runs; `memory` and `short_term` as in `open_node`."""
    library_fixes.require_version()
    library_fixes.use_own_routing_protocol()
    if settings.own_muxer:
        library_fixes.use_own_muxer()
    else:
        library_fixes.use_library_muxer()
    allowed = _allow(settings)
    listen = [Multiaddr(address) for address in settings.listen]
    keys = (
        new_ed25519_keys()
        if settings.key is None
        else keystore.load_or_create(settings.key)
    )
    noise = library_fixes.AllowedPeersOnly(keys, new_x25519_keys().private_key, allowed)
    host = new_host(
        key_pair=keys,
        listen_addrs=listen,
        sec_opt={NOISE_ID: noise},
        muxer_opt={TProtocol(YAMUX_ID): LibraryYamux},
        resource_manager=ResourceManager(
            limits=ResourceLimits(
                max_connections=MOST_CONNECTIONS, max_streams=MOST_STREAMS
            )
        ),
        connection_config=ConnectionConfig(
            max_connections_per_peer=1,
            # Else it dials everybody it knows until it has a hundred connections.
            min_connections=0,
            low_watermark=0,
            high_watermark=MOST_CONNECTIONS,
            max_connections=MOST_CONNECTIONS,
            enable_health_monitoring=not settings.own_muxer,
            health_initial_delay=1,
            health_warmup_window=0,
            health_check_interval=2,
            ping_timeout=2,
            abort_connection_on_ping_failure=True,
        ),
        announce_addrs=[Multiaddr(a) for a in settings.announce] or None,
    )
    library_fixes.tolerate_removed_handlers(host)
    node = Node(settings, keys, host, short_term)
    profiles = None if memory is None else Profiles(node, memory)
    host.set_stream_handler(PROTOCOL, partial(node._serve, node.methods.serve))
    async with (
        nullcontext() if profiles is None else profiles.kept(),
        host.run(listen_addrs=listen),
        trio.open_nursery() as nursery,
    ):
        node.bitswap = bitswap.Bitswap(host, nursery, node.store.block, node.count_served)
        for protocol in bitswap.PROTOCOLS:
            host.set_stream_handler(protocol, partial(node._serve, node.bitswap.serve))
        # Others would dial in vain a node that is behind NAT.
        behind = bool(settings.via_relay)
        node.dht = KadDHT(host, DHTMode.CLIENT if behind else DHTMode.SERVER)
        async with background_trio_service(node.dht), node.relaying.running():
            background_tasks.start(node, nursery)
            if profiles is not None:
                nursery.start_soon(profiles.write_often)
            yield node
            nursery.cancel_scope.cancel()
