"""A peer: its host, its table of others, and the tensors it serves."""

import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import trio

from ..._long_term import ShortTermMemory
from .._errors import reason
from .._libp2p import library_fixes, places
from .._libp2p.byte_stream import ByteStream, PeerStream
from .._libp2p.dial_rules import DialRules
from .._libp2p.library import KadDHT, KeyPair, Multiaddr, PeerID
from .._peers.table import PeerTable
from .._rpc.calls import Calls
from .._rpc.messages import MessageError
from .._rpc.methods import Methods
from .._tensors.bitswap import RAW, Bitswap, block_cid
from .._tensors.disk import DamagedError, Disk, cost
from .._tensors.entry import Entry
from .._tensors.fetch import FetchError, Transfer, fetch_manifest, fetch_tensor
from .._tensors.manifest import Manifest, check_cid, describe, tensor_of
from .._tensors.store import TensorStore
from .._tensors.tiers import Tiers
from .allow_list import allow_list, dialled_networks, named_peers, peer_address
from .parts import KeepsReplicas, WayThroughNat
from .settings import NodeSettings

log = logging.getLogger("sedma_jax.comm")

MOST_SERVED = 4096  # peers whose bytes are counted apart
MOST_ISSUED = 4096  # statuses of its own that a node recognises
FIND_SECONDS = 3.0  # for the routing table; connected peers are asked meanwhile


class Node:
    """A running node; `running_node` makes one. Its methods are for its trio thread.

    Other threads reach it by `OpenNode.call`.

    **Example:**

        >>> with sj.comm.open_node() as opened:
        ...     node = opened.node
        ...     cid = opened.call(node.put, np.arange(3.0))
        ...     print(opened.call(node.get, cid), node.connected())
        [0. 1. 2.] []
    """

    # `running_node` sets these.
    relaying: WayThroughNat
    replication: KeepsReplicas
    dht: KadDHT
    bitswap: Bitswap

    def __init__(
        self,
        settings: NodeSettings,
        keys: KeyPair,
        host: Any,
        short_term: ShortTermMemory | None = None,
    ):
        self.settings, self.keys, self.host = settings, keys, host
        self.short_term = short_term
        self.allowed = allow_list(settings)
        self.named = named_peers(settings)
        self.name = str(host.get_id())
        self.dial_rules = DialRules(host, dialled_networks(settings), self._own_addresses)
        self.peers = PeerTable()
        if settings.folder is None:
            self.store = TensorStore(settings.capacity)
            self.tiers = Tiers(self.store, None)
        else:
            self.store = TensorStore(settings.disk, settings.capacity, cost)
            self.tiers = Tiers(self.store, Disk(settings.folder))
        self.methods = Methods()
        self.calls = Calls(host)
        self.outcomes = trio.Event()  # set by transfers, to learn from
        self.sequence = 0  # of this node's last status
        self.started = time.time_ns() // 1_000_000  # no status has a smaller sequence
        self.issued: deque[int] = deque(maxlen=MOST_ISSUED)
        self.same_key = False  # whether another node that runs has the key of this one
        self.served_bytes: dict[str, int] = {}  # bytes of tensors sent, by peer
        self.last_transfer = Transfer()
        self.to_provide: list[str] = []  # CIDs that the routing table does not have yet

    @property
    def addresses(self) -> list[str]:
        """Addresses at which others reach this node, with its id."""
        told = [str(address) for address in self.host.get_addrs()]
        return list(dict.fromkeys([*told, *self.relaying.addresses]))

    def _own_addresses(self) -> list[Multiaddr]:
        told = [*self.settings.listen, *self.settings.announce]
        wildcard = any("/0.0.0.0/" in text or "/::/" in text for text in told)
        # Of an address that stands for all, those of this machine but the loopback.
        more = [a for a in self.host.get_addrs() if wildcard and not _loops_back(a)]
        return [*map(Multiaddr, told), *more]

    def connected(self) -> list[str]:
        """Ids of the connected peers."""
        return [str(peer) for peer in self.host.get_network().connections]

    async def connect(self, *addresses: str, vouched: bool = True) -> str:
        """Connect to a peer by any of its addresses; its id.

        **Arguments:** `vouched`: False for addresses that strangers have named.

        **Raises:** `ConnectionError` if it cannot be reached, `PermissionError` if it is
        not on the allow-list, `ValueError` for an invalid address.
        """
        infos = [peer_address(address) for address in addresses]
        peer = infos[0].peer_id
        if str(peer) == self.name or self.same_key:
            raise ConnectionError(another_uses_the_key(self.name))
        if not self.allowed(str(peer)):
            raise PermissionError(
                f"`Node.connect` needs a peer on the allow-list. Got {peer}. Add it to "
                "`allowed`."
            )
        addresses_ = [a for info in infos for a in info.addrs]
        if vouched or self.named(str(peer)):
            self.dial_rules.vouch(addresses_)
        await self._dial(peer, addresses_, vouched)
        self.peers.get(str(peer))
        await self.dht.add_peer(peer)
        return str(peer)

    async def _dial(
        self, peer: PeerID, addresses: Iterable[Multiaddr], vouched: bool
    ) -> None:
        connected = len(self.connected())
        if not (vouched or self.named(str(peer))) and connected >= places.STRANGERS:
            raise ConnectionError(
                "`Node.connect` needs a place for a peer that strangers name. Got "
                f"{connected} connections. Name the peer in `allowed`."
            )
        allowed = [
            a
            for a in addresses
            if "/p2p-circuit" in str(a) or self.dial_rules.allows(a, str(peer))
        ]
        await library_fixes.dial(self.host, peer, allowed, through_relay=self.relaying.dial)

    def count_served(self, peer: str, nbytes: int) -> None:
        """Count bytes of tensors that were sent to a peer."""
        if peer not in self.served_bytes and len(self.served_bytes) >= MOST_SERVED:
            peer = "others"
        self.served_bytes[peer] = self.served_bytes.get(peer, 0) + nbytes

    async def put(self, array: np.ndarray) -> str:
        """Hold a tensor and offer it to others; the CID of its manifest.

        With `replicas` above 1, other peers are asked to hold it too before this returns.
        Fewer connected peers are no error: the missing replicas follow.

        **Raises:** `ValueError` for an array that no manifest can describe, `MemoryError`
        if `NodeSettings.capacity` has no room.
        """
        array = tensor_of(array)
        manifest, part = await self._describe_and_stage(array)
        wanted = self.settings.replicas
        entry = await self.tiers.hold(
            manifest, array, pinned=True, holders=[self.name], wanted=wanted, part=part
        )
        entry.holders.add(self.name)
        entry.wanted_holders = max(entry.wanted_holders, wanted)
        await self.replication.replicate(manifest.cid)
        self.to_provide.append(manifest.cid)
        return manifest.cid

    async def _describe_and_stage(self, array: np.ndarray) -> tuple[Manifest, Path | None]:
        """The manifest of a tensor, and its bytes on the disk, both at the same time."""
        self.store.require_room(array.nbytes)
        described: list[Manifest] = []
        staged: list[Path | None] = []
        failed: list[OSError] = []

        async def describe_it():
            described.append(await trio.to_thread.run_sync(describe, array))

        async def stage_it():
            try:
                staged.append(await self.tiers.stage(array))
            except OSError as error:
                failed.append(error)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(describe_it)
            nursery.start_soon(stage_it)
        if failed:
            raise failed[0]
        return described[0], staged[0]

    async def get(self, cid: str) -> np.ndarray:
        """A tensor, from memory, the disk or peers; verified and read only.

        **Raises:** `FetchError` if no peer could send it, `ValueError` for an invalid CID.
        """
        cid = check_cid(cid)
        entry = self.store.get(cid)
        if entry is not None:
            try:
                return await self.tiers.array(cid, entry)
            except DamagedError:
                pass  # others may have it
        return await self.fetch(cid, [])

    async def get_block(self, cid: str, peer: str | None = None) -> bytes:
        """A block by its CID, from memory or by Bitswap from any kind of peer; verified.

        **Arguments:**

        - `cid`: version 1, SHA2-256, of any codec.
        - `peer`: id of a connected peer; if left out, all are asked, the best first.

        **Raises:** `FetchError` if no peer has it, `ValueError` for another kind of CID.
        """
        name = block_cid(cid)
        block = await self.tiers.block(name[-32:]) if name.startswith(RAW) else None
        if block is not None:
            return bytes(block)
        names = [peer] if peer else self.connected()
        failures = []
        for each in await trio.to_thread.run_sync(self.peers.choose, names, len(names)):
            try:
                return (await self.bitswap.fetch(each, [cid]))[0]
            except FetchError as error:
                failures.append(str(error))
        raise FetchError(
            f"`Node.get_block` needs a connected peer that has block {cid}. Got "
            f"{'; '.join(failures) or 'none'}. Connect to one by its address."
        )

    async def fetch(self, cid: str, hints: list[str]) -> np.ndarray:
        """Fetch a tensor from `hints` and other providers; it is kept in the cache."""
        manifest, array = await self._fetch(cid, hints)
        await self.tiers.hold(manifest, array, pinned=False)
        return array

    async def fetch_to_hold(
        self, cid: str, hints: list[str], *, kept_for: str = "", wanted: int = 1
    ) -> Entry:
        """Fetch a tensor and pin it.

        **Arguments:** `kept_for` and `wanted`: as the fields of `Entry`.

        **Raises:** `MemoryError` if there is no room, before anything is fetched.
        """
        manifest, array = await self._fetch(cid, hints, pinned=True, kept_for=kept_for)
        return await self.tiers.hold(
            manifest, array, pinned=True, kept_for=kept_for, wanted=wanted
        )

    async def _fetch(
        self, cid: str, hints: list[str], *, pinned: bool = False, kept_for: str = ""
    ) -> tuple[Manifest, np.ndarray]:
        providers = await self.providers(cid, hints)
        manifest = await fetch_manifest(self.calls, self.peers, cid, providers)
        # Whatever else is asked for meanwhile, its room is taken.
        size = self.store.cost(manifest)
        with self.store.promised(size, kept_for) if pinned else nullcontext():
            array, self.last_transfer = await fetch_tensor(
                self.calls, self.peers, manifest, providers
            )
        self.outcomes.set()
        return manifest, array

    async def providers(self, cid: str, hints: list[str]) -> list[str]:
        """Connected peers that have a tensor, the best first.

        Asks the routing table and, since its record may be late or lost, all connected
        peers.
        """
        found = set(hints)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._ask_routing_table, cid, found)
            for name in self.connected():
                nursery.start_soon(self._ask, name, cid, found)
        found.discard(self.name)
        usable = [name for name in found if name in self.connected()]
        return await trio.to_thread.run_sync(self.peers.choose, usable, len(usable))

    async def _ask(self, name: str, cid: str, found: set[str]) -> None:
        try:
            has = await self.calls.call(
                name, "has", cid.encode(), timeout=FIND_SECONDS, largest=16
            )
        except (OSError, RuntimeError, MessageError, trio.TooSlowError):
            return
        if len(has):
            found.add(name)

    async def _ask_routing_table(self, cid: str, found: set[str]) -> None:
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
                        # Relayed addresses are in the peer's status, not in the record.
                        told = self.peers.get(name).addresses
                        more = [a for t in told for a in peer_address(t).addrs]
                        await self._dial(record.peer_id, [*record.addrs, *more], False)
                        found.add(name)
                except (ConnectionError, ValueError) as error:
                    log.info("provider not reached: %s", error)

    async def handle(
        self, serve: Callable[[ByteStream, str], Awaitable[None]], stream: Any
    ) -> None:
        """Serve a stream that a peer opened; whatever goes wrong ends only that stream."""
        peer = str(stream.muxed_conn.peer_id)
        mine = PeerStream(stream)
        try:
            await serve(mine, peer)
        except trio.Cancelled:
            raise
        except Exception as error:
            log.info("stream of %s ended: %s", peer, reason(error))
            with trio.move_on_after(1):
                await mine.reset()


def another_uses_the_key(name: str) -> str:
    """What to say when two nodes have one key."""
    return (
        f"`Node.connect` needs a key that no other node uses. Got another node as {name}, "
        "which peers mistake for this one: they do not find its tensors. Start one of the "
        "two with a key of its own (`--dir`)."
    )


def _loops_back(address: Multiaddr) -> bool:
    text = str(address)
    return text.startswith("/ip4/127.") or text.startswith("/ip6/::1/")
