"""Faults of libp2p 0.8.1 in relays, hole punching and rendezvous, corrected.

As in `library_fixes.py`, the tests show each fault.
"""

import ipaddress
import logging
import time
from collections.abc import Callable
from typing import Any

import trio

from .._errors import reason
from .library import (
    CircuitV2Protocol,
    ConnectionType,
    Multiaddr,
    PeerID,
    RawConnection,
    RelayLimits,
    RendezvousMessage,
    RendezvousService,
    dcutr,
    rendezvous_answer,
)

log = logging.getLogger("sedma_jax.comm")

RELAYED_AT_ONCE = 64 * 1024  # bytes
PUNCHES = 2  # attempts; nearly all that ever succeed do so at the first
PUNCH_SECONDS = 30.0  # for all attempts together
MOST_PUNCHED_ADDRESSES = 8
MOST_REGISTERED_ADDRESSES = 16


class Relay(CircuitV2Protocol):
    """Circuit relay v2, for the relay itself and for the peers that it connects.

    The library has three faults. It reserves a place for whatever peer a request names, so
    that one peer can take all places. When a circuit ends, it closes the newest circuit of
    the same peer. And it believes the relay about who comes through it.
    """

    def __init__(self, host: Any, limits: RelayLimits, *, allow_hop: bool):
        super().__init__(host, limits=limits, allow_hop=allow_hop)
        self.on_circuit: Callable[[PeerID], None] = lambda peer: None

    async def _handle_reserve(self, stream: Any, msg: Any) -> None:
        msg.ClearField("peer")  # the library then reserves for the peer that asks
        await super()._handle_reserve(stream, msg)

    async def _relay_data(
        self,
        src_stream: Any,
        dst_stream: Any,
        peer_id: PeerID,
        deadline: float | None = None,
        circuit_data_limit: list[Any] | None = None,
    ) -> None:
        left: list[Any] = circuit_data_limit or [float("inf")]
        seconds = float("inf") if deadline is None else deadline - time.monotonic()
        with trio.move_on_after(max(seconds, 0)):
            try:
                while data := await src_stream.read(RELAYED_AT_ONCE):
                    left[0] -= len(data)
                    if left[0] < 0:
                        break
                    await dst_stream.write(data)
            except Exception as error:  # the library's errors have no common base
                log.info("circuit of %s ended: %s", peer_id, type(error).__name__)
        with trio.CancelScope(shield=True):  # pyright: ignore[reportCallIssue]
            self._active_relays.pop(peer_id, None)
            for stream in (src_stream, dst_stream):
                await stream.reset()

    async def handle_incoming_connection(self, stream: Any, remote_peer_id: bytes) -> None:
        """Accept a circuit if the peer at its end is the one that the relay named."""
        claimed, relay = PeerID(remote_peer_id), stream.muxed_conn.peer_id
        address = Multiaddr(f"/p2p/{relay}/p2p-circuit/p2p/{claimed}")
        raw = RawConnection(
            stream, False, connection_type=ConnectionType.RELAYED, addresses=[address]
        )
        muxed = await self.host.upgrade_inbound_connection(raw, address)
        if muxed.peer_id != claimed:
            await muxed.close()
            raise ConnectionError(
                f"`sedma_jax.comm` needs at the end of a circuit the peer that the relay "
                f"named, {claimed}. Got {muxed.peer_id} through relay {relay}. Use another "
                "relay."
            )
        self.on_circuit(claimed)


def punching_sources(host: Any) -> list[tuple[int, str, int]]:
    """Local addresses that hole punching dials from: family, address, port.

    The library takes the first address that the host announces. With a forwarded port that
    is not an address of this machine, and the loopback leads nowhere.
    """
    sources = []
    for address in host.get_transport_addrs():
        if found := dcutr._tcp_ip_port(address):
            sources.append(found)
    return sorted(sources, key=lambda each: ipaddress.ip_address(each[1]).is_loopback)


class HolePunching(dcutr.DCUtRProtocol):
    """DCUtR: replace a relayed connection by a direct one.

    The library has three faults. Both sides start sessions, one peer after the other, so
    that two sessions collide and one hopeless peer delays the others by twenty seconds. It
    first dials all private addresses of the other side. And it dials any number of
    addresses that the peer names, on this machine too.
    """

    def __init__(self, host: Any):
        # Longer than one second, after which TCP sends a lost SYN again.
        super().__init__(host, dial_timeout=4)
        self._ask, self._asked = trio.open_memory_channel[PeerID](64)
        dcutr._local_tcp_listen_addrs = punching_sources
        self.succeeded = self.failed = 0

    def upgrade(self, peer: PeerID) -> None:
        """Start to punch a hole to a peer that dialled through a relay; does not wait."""
        try:
            self._ask.send_nowait(peer)
        except trio.WouldBlock:
            log.info("too many peers at once: %s stays behind its relay", peer)

    async def _auto_drive_loop(self) -> None:
        async with trio.open_nursery() as nursery:
            async for peer in self._asked:
                nursery.start_soon(self._drive, peer)

    async def _drive(self, peer: PeerID):
        with trio.move_on_after(PUNCH_SECONDS):
            for _ in range(PUNCHES):
                try:
                    await self.initiate_hole_punch(peer)
                except Exception as error:  # the library's errors have no common base
                    log.info("punching to %s: %s", peer, reason(error))
                # Its return value does not tell whether the other side's dial succeeded.
                if await self._verify_direct_connection(peer):
                    self.succeeded += 1
                    return
                await trio.sleep(1)
        self.failed += 1
        log.info("no direct way to %s: it stays behind its relay", peer)

    async def _try_unilateral_upgrade(self, peer_id: PeerID) -> bool:
        try:
            known = self.host.get_peerstore().addrs(peer_id)
        except Exception:  # it raises if it knows none
            known = []
        for address in known:
            if "/p2p-circuit" not in str(address) and is_public(address):
                with trio.move_on_after(1):
                    await self._dial_peer(peer_id, address)
                if await self._verify_direct_connection(peer_id):
                    return True
        return await self._verify_direct_connection(peer_id)

    async def _get_observed_addrs(self) -> Any:
        # Right after connecting, the relay may not have said yet which address it sees.
        with trio.move_on_after(1):
            manager = self.host._observed_addr_manager  # pyright: ignore[reportAttributeAccessIssue]
            while not manager.addrs(min_observers=1):
                await trio.sleep(0.02)
        return await super()._get_observed_addrs()

    def _decode_observed_addrs(self, addr_bytes: Any) -> list[Multiaddr]:
        found = super()._decode_observed_addrs(addr_bytes[: 2 * MOST_PUNCHED_ADDRESSES])
        return [a for a in found if _may_be_punched(a)][:MOST_PUNCHED_ADDRESSES]


def ip_of(
    address: Multiaddr,
) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The IP address that a multiaddress starts with; None for a host name."""
    parts = str(address).split("/")
    try:
        return ipaddress.ip_address(parts[2])
    except (IndexError, ValueError):
        return None


def is_public(address: Multiaddr) -> bool:
    """Whether an address is of the public internet."""
    ip = ip_of(address)
    return ip is not None and ip.is_global


def _may_be_punched(address: Multiaddr) -> bool:
    ip = ip_of(address)
    return (
        ip is not None
        and "/tcp/" in str(address)
        and not (ip.is_loopback or ip.is_unspecified or ip.is_multicast or ip.is_link_local)
    )


class Rendezvous(RendezvousService):
    """A rendezvous point for one namespace.

    The library creates an entry for every namespace that anybody asks for and never removes
    it, and it stores any number of addresses per peer.
    """

    def __init__(self, host: Any, namespace: str):
        super().__init__(host)
        self._namespace = namespace

    def _handle_register(self, peer_id: PeerID, register_msg: Any) -> Any:
        if (
            register_msg.ns == self._namespace
            and len(register_msg.peer.addrs) <= MOST_REGISTERED_ADDRESSES
        ):
            return super()._handle_register(peer_id, register_msg)
        return rendezvous_answer(
            RendezvousMessage.E_NOT_AUTHORIZED,
            f"this rendezvous point needs the namespace {self._namespace!r} and at most "
            f"{MOST_REGISTERED_ADDRESSES} addresses",
        )

    def _handle_discover(self, peer_id: PeerID, discover_msg: Any) -> Any:
        if discover_msg.ns != self._namespace:
            discover_msg.ns = ""  # which the library refuses
        return super()._handle_discover(peer_id, discover_msg)
