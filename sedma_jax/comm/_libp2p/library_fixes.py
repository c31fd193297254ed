"""What libp2p 0.8.1 gets wrong, corrected; the tests show each fault.

Every correction says when it can go. `require_version` refuses any other version, since a
correction of what is not wrong would be a fault of ours.
"""

import ipaddress
import logging
import time
from collections.abc import Callable, Iterable
from typing import Any

import trio

from . import muxer
from .library import (
    KAD_MODULES,
    VERSION,
    CircuitV2Protocol,
    ConnectionType,
    LibraryYamux,
    Multiaddr,
    NoiseTransport,
    PeerID,
    RawConnection,
    RendezvousMessage,
    RendezvousService,
    TProtocol,
    dcutr,
    muxer_multistream,
    rendezvous_answer,
)

log = logging.getLogger("sedma_jax.comm")

CORRECTED = "0.8.1"
KAD_PROTOCOL = TProtocol("/sedma/kad/1.0.0")
HEAD_START = 0.3  # seconds of an address before the next one is tried too
RELAYED_AT_ONCE = 64 * 1024  # bytes
PUNCHES = 2  # nearly all that ever succeed do so at the first
PUNCH_SECONDS = 30.0  # for all of them
MOST_PUNCHED_ADDRESSES = 8
MOST_REGISTERED_ADDRESSES = 16


def require_version():
    """Refuse a libp2p whose faults are not known."""
    if VERSION != CORRECTED:
        raise ImportError(
            f"`sedma_jax.comm` corrects libp2p {CORRECTED}. Got libp2p {VERSION}. "
            "Install with `pip install 'sedma-jax[comm]'`."
        )


def use_own_muxer():
    """`muxer_opt` is ignored for yamux: `MuxerMultistream.new_conn` names the class.

    Connections that are not Noise over TCP, or over our muxer at a relay, keep the
    library's.
    """
    muxer_multistream.Yamux = _yamux  # pyright: ignore[reportPrivateImportUsage]


def _yamux(secured_conn, peer_id, is_initiator=None, on_close=None):
    kind = muxer.MuxedConnection if muxer.suits(secured_conn) else LibraryYamux
    return kind(secured_conn, peer_id, is_initiator=is_initiator, on_close=on_close)


def use_library_muxer():
    """Undo `use_own_muxer`, to compare."""
    muxer_multistream.Yamux = LibraryYamux  # pyright: ignore[reportPrivateImportUsage]


def use_own_routing_protocol():
    """`KadDHT(protocol_prefix=...)` is ignored: peers would join the public network."""
    for module in KAD_MODULES:
        setattr(module, "PROTOCOL_ID", KAD_PROTOCOL)  # noqa: B010 - types know no such name


class _Handlers(dict):
    def __missing__(self, protocol):
        return None


def tolerate_removed_handlers(host):
    """A protocol whose handler goes while a peer negotiates it ends that stream only.

    The library looks the handler up again after it has answered, and `KeyError` ends the
    node.
    """
    host.multiselect.handlers = _Handlers(host.multiselect.handlers)


class AllowedPeersOnly(NoiseTransport):
    """Noise that ends a connection as soon as the peer is known and not allowed.

    The library's gater knows addresses of the network, which peers share and change.
    """

    def __init__(self, keys, noise_key, allowed):
        super().__init__(keys, noise_privkey=noise_key)
        self._allowed = allowed

    async def secure_inbound(self, conn):
        """Handshake with whoever dials; `PermissionError` for a stranger."""
        return await self._checked(await super().secure_inbound(conn))

    async def secure_outbound(self, conn, peer_id):
        """Handshake with who was dialled; `PermissionError` for a stranger."""
        return await self._checked(await super().secure_outbound(conn, peer_id))

    async def _checked(self, session):
        peer = session.get_remote_peer()
        if not self._allowed(str(peer)):
            await session.close()
            raise PermissionError(
                f"only peers on the allow-list may connect. Got {peer}. "
                "Add it to `allowed` to let it in."
            )
        return session


async def dial(
    host,
    peer: PeerID,
    addresses: Iterable[Multiaddr],
    timeout: float = 3.0,
    through_relay=None,
):
    """Connect by the first address that works; errors of all of them if none does.

    The library tries one address of each transport only, and then refuses the peer for 60
    seconds, even by an address that works. Here each address gets a head start over the
    next, so that a dead one costs no more than that.

    **Arguments:** `through_relay` dials addresses with `/p2p-circuit`; without it they are
    left out.
    """
    network = host.get_network()
    if network.get_connections(peer):
        return
    failures: list[str] = []

    async def one(address: Multiaddr, failed: trio.Event):
        try:
            if "/p2p-circuit" not in str(address):
                with trio.fail_after(timeout):
                    await network.dial_addr(address, peer)
                host.get_peerstore().add_addrs(peer, [address], 3600)
            elif through_relay is not None:
                await through_relay(address, peer)
            else:
                raise ConnectionError("this node dials through no relay")
            nursery.cancel_scope.cancel()
        except Exception as error:  # the library's errors have no common base
            failures.append(f"{address}: {error or type(error).__name__}")
            failed.set()

    # Direct ways first; what is relayed is slower for its whole life.
    ordered = sorted(addresses, key=lambda address: "/p2p-circuit" in str(address))
    async with trio.open_nursery() as nursery:
        for address in ordered:
            failed = trio.Event()
            nursery.start_soon(one, address, failed)
            with trio.move_on_after(HEAD_START):
                await failed.wait()
    if not network.get_connections(peer):
        raise ConnectionError(
            f"needs an address by which peer {peer} answers. Got "
            f"{'; '.join(failures) or 'none'}. Check that it runs and allows this peer."
        )


class Relay(CircuitV2Protocol):
    """Circuit relay v2, on the side of the relay and of those it connects.

    The library reserves for whatever peer a request names, so that one takes all places;
    at the end of a circuit it closes the newest one of the same peer; and it takes the name
    of who comes through a relay from the relay.
    """

    def __init__(self, host, limits, *, allow_hop: bool):
        super().__init__(host, limits=limits, allow_hop=allow_hop)
        self.on_circuit: Callable[[PeerID], None] = lambda peer: None

    async def _handle_reserve(self, stream, msg):
        msg.ClearField("peer")  # the library then takes the peer that asks
        await super()._handle_reserve(stream, msg)

    async def _relay_data(
        self, src_stream, dst_stream, peer_id, deadline=None, circuit_data_limit=None
    ):
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

    async def handle_incoming_connection(self, stream, remote_peer_id):
        """Take a circuit: handshake with whoever is at its end, which must be as named."""
        claimed, relay = PeerID(remote_peer_id), stream.muxed_conn.peer_id
        address = Multiaddr(f"/p2p/{relay}/p2p-circuit/p2p/{claimed}")
        raw = RawConnection(
            stream, False, connection_type=ConnectionType.RELAYED, addresses=[address]
        )
        muxed = await self.host.upgrade_inbound_connection(raw, address)
        if muxed.peer_id != claimed:
            await muxed.close()
            raise ConnectionError(f"relay {relay} named {claimed}. Got {muxed.peer_id}.")
        self.on_circuit(claimed)


def punching_sources(host) -> list[tuple[int, str, int]]:
    """Where dials that punch a hole start: family, address, port.

    The library takes the first address that the host announces, which is not its own where
    a port is forwarded, and leads nowhere where it is the loopback.
    """
    sources = []
    for address in host.get_transport_addrs():
        if found := dcutr._tcp_ip_port(address):
            sources.append(found)
    return sorted(sources, key=lambda each: ipaddress.ip_address(each[1]).is_loopback)


class HolePunching(dcutr.DCUtRProtocol):
    """DCUtR: from a relayed connection to a direct one.

    The library drives both sides, one peer after the other, so that two sessions cross and
    one hopeless peer holds up the rest for twenty seconds; it first dials all addresses of
    the other network; and it dials whatever addresses the peer names, any number of them,
    on this machine too.
    """

    def __init__(self, host):
        # Longer than the first second, after which TCP sends a lost SYN again.
        super().__init__(host, dial_timeout=4)
        self._ask, self._asked = trio.open_memory_channel[PeerID](64)
        dcutr._local_tcp_listen_addrs = punching_sources
        self.succeeded = self.failed = 0

    def upgrade(self, peer: PeerID) -> None:
        """Try to reach directly a peer that dialled through a relay, soon."""
        try:
            self._ask.send_nowait(peer)
        except trio.WouldBlock:
            log.info("too many peers at once: %s stays behind its relay", peer)

    async def _auto_drive_loop(self):
        async with trio.open_nursery() as nursery:
            async for peer in self._asked:
                nursery.start_soon(self._drive, peer)

    async def _drive(self, peer: PeerID):
        with trio.move_on_after(PUNCH_SECONDS):
            for _ in range(PUNCHES):
                try:
                    await self.initiate_hole_punch(peer)
                except Exception as error:  # the library's errors have no common base
                    log.info("punching to %s: %s", peer, error or type(error).__name__)
                # What it returns misses that the dial of the other side got through.
                if await self._verify_direct_connection(peer):
                    self.succeeded += 1
                    return
                await trio.sleep(1)
        self.failed += 1
        log.info("no direct way to %s: it stays behind its relay", peer)

    async def _try_unilateral_upgrade(self, peer_id):
        try:
            known = self.host.get_peerstore().addrs(peer_id)
        except Exception:  # it raises where it knows none
            known = []
        for address in known:
            if "/p2p-circuit" not in str(address) and is_public(address):
                with trio.move_on_after(1):
                    await self._dial_peer(peer_id, address)
                if await self._verify_direct_connection(peer_id):
                    return True
        return await self._verify_direct_connection(peer_id)

    async def _get_observed_addrs(self):
        # Just connected, the relay may not have said yet what it sees.
        with trio.move_on_after(1):
            manager = self.host._observed_addr_manager  # pyright: ignore[reportAttributeAccessIssue]
            while not manager.addrs(min_observers=1):
                await trio.sleep(0.02)
        return await super()._get_observed_addrs()

    def _decode_observed_addrs(self, addr_bytes):
        found = super()._decode_observed_addrs(addr_bytes[: 2 * MOST_PUNCHED_ADDRESSES])
        return [a for a in found if _may_be_punched(a)][:MOST_PUNCHED_ADDRESSES]


def ip_of(address: Multiaddr):
    """The IP address at the start of an address; None for a name."""
    parts = str(address).split("/")
    try:
        return ipaddress.ip_address(parts[2])
    except (IndexError, ValueError):
        return None


def is_public(address: Multiaddr) -> bool:
    """Whether an address is of the internet, not of some private network."""
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

    The library makes an entry for every namespace that anybody asks for, which nothing
    removes, and takes any number of addresses of a peer.
    """

    def __init__(self, host, namespace: str):
        super().__init__(host)
        self._namespace = namespace

    def _handle_register(self, peer_id, register_msg):
        if (
            register_msg.ns == self._namespace
            and len(register_msg.peer.addrs) <= MOST_REGISTERED_ADDRESSES
        ):
            return super()._handle_register(peer_id, register_msg)
        return rendezvous_answer(
            RendezvousMessage.E_NOT_AUTHORIZED,
            f"needs the namespace {self._namespace!r} and at most "
            f"{MOST_REGISTERED_ADDRESSES} addresses",
        )

    def _handle_discover(self, peer_id, discover_msg):
        if discover_msg.ns != self._namespace:
            discover_msg.ns = ""  # which the library refuses
        return super()._handle_discover(peer_id, discover_msg)
