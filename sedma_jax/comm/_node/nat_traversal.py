"""Traverse NAT: relays (circuit v2), hole punching (DCUtR), rendezvous.

A node that cannot be dialled holds a reservation at its relays and is dialled through them.
A node dialled that way starts to punch a hole at once, and new calls take the direct
connection as soon as it exists. Such nodes also find each other at their relays.
"""

import logging
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import trio

from .._errors import reason
from .._libp2p.library import (
    HOP_PROTOCOL,
    CircuitV2Transport,
    DHTMode,
    Multiaddr,
    PeerID,
    RelayConfig,
    RelayLimits,
    RelayRole,
    RendezvousClient,
    RendezvousMessage,
    background_trio_service,
    info_from_p2p_addr,
)
from .._libp2p.library_fixes import dial
from .._libp2p.nat_fixes import (
    MOST_REGISTERED_ADDRESSES,
    HolePunching,
    Relay,
    Rendezvous,
    is_public,
)
from .dial_back import ask_reachable
from .node import Node

log = logging.getLogger("sedma_jax.comm")

LIMITS = RelayLimits(
    duration=600,  # seconds per circuit
    data=2**28,  # bytes per circuit
    max_circuit_conns=16,  # per peer
    max_reservations=64,
    reservation_ttl=600,  # seconds, after which the place of a lost peer is free
)
CHECK_EVERY = 1.0  # seconds between two checks of the connection to a relay
MEET_EVERY = 10.0  # seconds
MEET_AT_ONCE = 8  # peers
REGISTERED = 600  # seconds that a registration lasts
DIAL_SECONDS = 8.0


class NatTraversal:
    """How one node is reached behind NAT, and reaches others; `node.relaying` is it."""

    def __init__(self, node: Node):
        self._node = node
        settings = node.settings
        self._relay = Relay(node.host, LIMITS, allow_hop=settings.relay)
        self._transport = CircuitV2Transport(
            node.host, self._relay, RelayConfig(roles=RelayRole.STOP, limits=LIMITS)
        )
        self.punching = HolePunching(node.host)
        self._relay.on_circuit = self.punching.upgrade
        if settings.relay:
            Rendezvous(node.host, settings.namespace)
        self.circuits: dict[str, str] = {}  # from a relay to the address through it
        self.reached: dict[str, list[str]] = {}  # from a relay to the addresses it reached

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Serve as a relay and keep reservations, as set up, while the block runs."""
        settings = self._node.settings
        async with AsyncExitStack() as stack:
            if settings.relay or settings.via_relay:
                await stack.enter_async_context(background_trio_service(self._relay))
            await stack.enter_async_context(background_trio_service(self.punching))
            nursery = await stack.enter_async_context(trio.open_nursery())
            for address in settings.via_relay:
                nursery.start_soon(self._keep_reserved, address)
                nursery.start_soon(self._meet, address)
            yield
            nursery.cancel_scope.cancel()

    @property
    def addresses(self) -> list[str]:
        """Addresses of this node that relays reached, and addresses through relays."""
        name = self._node.name
        direct = {a for found in self.reached.values() for a in found}
        return [f"{a}/p2p/{name}" for a in [*sorted(direct), *self.circuits.values()]]

    @property
    def reachable(self) -> bool | None:
        """Whether a relay could dial this node; None until one has tried."""
        return any(self.reached.values()) if self.reached else None

    async def dial(self, address: Multiaddr, peer: PeerID) -> None:
        """Connect to `peer` through the relay in `address`; the relay must be allowed."""
        before = str(address).partition("/p2p-circuit")[0]
        relay = info_from_p2p_addr(Multiaddr(before))
        if not self._node.allowed(str(relay.peer_id)):
            raise PermissionError(
                "`Node.connect` needs a relay on the allow-list. Got "
                f"{relay.peer_id}. Add it to `allowed` or to `via_relay`."
            )
        await dial(self._node.host, relay.peer_id, relay.addrs)
        whole = Multiaddr(f"{before}/p2p-circuit/p2p/{peer}")
        with trio.fail_after(DIAL_SECONDS):
            target = info_from_p2p_addr(whole)
            raw = await self._transport._dial_via_circuit_addr(whole, target)
            await self._node.host.upgrade_outbound_connection(raw, peer)

    async def _keep_reserved(self, address: str) -> None:
        """Hold a place at a relay as long as nobody can dial this node."""
        relay = info_from_p2p_addr(Multiaddr(address)).peer_id
        name, held, renew, said = str(relay), None, 0.0, False
        while True:
            try:
                await self._node.connect(address)
                connection = self._connection(relay)
                # A relay that was restarted has lost its reservations.
                if connection is not held or time.monotonic() > renew:
                    await self._learn_reach(name)
                    if not self.reached[name]:
                        await self._reserve(relay)
                        self.circuits[name] = f"{address}/p2p-circuit"
                    held, said = connection, False
                    renew = time.monotonic() + LIMITS.reservation_ttl / 2
            except Exception as error:  # the library's errors have no common base
                self.circuits.pop(name, None)
                if not said:
                    told = reason(error)
                    log.warning("relay %s: %s It is tried again.", name, told)
                held, said = None, True
            await trio.sleep(CHECK_EVERY)

    def _connection(self, relay: PeerID) -> Any:
        return next(iter(self._node.host.get_network().get_connections(relay)), None)

    async def _learn_reach(self, relay: str) -> None:
        try:
            found = await ask_reachable(self._node, relay)
        except Exception as error:  # a relay of other software does not dial back
            log.info("%s did not dial back: %s", relay, reason(error))
            found = []
        # A relay that reaches a private address says nothing about peers outside.
        public = [a for a in found if is_public(Multiaddr(a))]
        self.reached[relay] = public
        if public:
            self.circuits.pop(relay, None)
            await self._node.dht.switch_mode(DHTMode.SERVER)

    async def _reserve(self, relay: PeerID) -> None:
        with trio.fail_after(DIAL_SECONDS):
            stream = await self._node.host.new_stream(relay, [HOP_PROTOCOL])
            try:
                done = await self._transport._make_reservation(stream, relay)
            finally:
                await stream.close()
        if not done:
            raise ConnectionError(
                f"`via_relay` needs relays that reserve a place. Got a refusal of {relay}: "
                "it is no relay, or full. Name another."
            )

    async def _meet(self, address: str) -> None:
        """Register at a relay, and connect to other nodes that did."""
        relay = info_from_p2p_addr(Multiaddr(address)).peer_id
        while True:
            try:
                if str(relay) in self.reached:
                    await self._register(relay)
                    await self._discover(relay)
            except Exception as error:  # the library's errors have no common base
                log.info("rendezvous at %s: %s", relay, reason(error))
            await trio.sleep(
                MEET_EVERY if self.reached.get(str(relay)) is not None else 0.2
            )

    async def _register(self, relay: PeerID) -> None:
        message = RendezvousMessage(type=RendezvousMessage.REGISTER)
        message.register.ns = self._node.settings.namespace
        message.register.ttl = REGISTERED
        message.register.peer.id = PeerID.from_string(self._node.name).to_bytes()
        for text in self._node.addresses[-MOST_REGISTERED_ADDRESSES:]:
            bare = Multiaddr(text.rpartition("/p2p/")[0])
            message.register.peer.addrs.append(bare.to_bytes())
        answer = await RendezvousClient(self._node.host, relay)._send_message(message)
        if answer is None or answer.registerResponse.status != RendezvousMessage.OK:
            raise ConnectionError(
                "`namespace` needs a relay that is a rendezvous point of it. Got a refusal "
                f"of {relay}. Start the relay with the same namespace."
            )

    async def _discover(self, relay: PeerID) -> None:
        node = self._node
        namespace = node.settings.namespace
        found, _ = await RendezvousClient(node.host, relay).discover(namespace)
        known = {*node.connected(), node.name}
        new = [
            i for i in found if str(i.peer_id) not in known and node.allowed(str(i.peer_id))
        ]

        async def one(info: Any):
            addresses = [f"{address}/p2p/{info.peer_id}" for address in info.addrs]
            try:
                await node.connect(*addresses, vouched=False)
            except (ConnectionError, ValueError) as error:
                log.info("not met: %s", error)

        async with trio.open_nursery() as nursery:
            for info in new[:MEET_AT_ONCE]:
                nursery.start_soon(one, info)
