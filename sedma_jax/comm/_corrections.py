"""What libp2p 0.8.1 gets wrong, corrected; the tests show each fault.

Every correction says when it can go. `require_version` refuses any other version, since a
correction of what is not wrong would be a fault of ours.
"""

from collections.abc import Iterable

import trio

from . import _muxer
from ._libp2p import (
    KAD_MODULES,
    VERSION,
    LibraryYamux,
    Multiaddr,
    NoiseTransport,
    PeerID,
    TProtocol,
    muxer_multistream,
)

CORRECTED = "0.8.1"
KAD_PROTOCOL = TProtocol("/sedma/kad/1.0.0")


def require_version():
    """Refuse a libp2p whose faults are not known."""
    if VERSION != CORRECTED:
        raise ImportError(
            f"`sedma_jax.comm` corrects libp2p {CORRECTED}. Got libp2p {VERSION}. "
            "Install with `pip install 'sedma-jax[comm]'`."
        )


def use_own_muxer():
    """`muxer_opt` is ignored for yamux: `MuxerMultistream.new_conn` names the class.

    Connections over anything but Noise over TCP (a relay) keep the library's.
    """
    muxer_multistream.Yamux = _yamux  # pyright: ignore[reportPrivateImportUsage]


def _yamux(secured_conn, peer_id, is_initiator=None, on_close=None):
    kind = _muxer.MuxedConnection if _muxer.suits(secured_conn) else LibraryYamux
    return kind(secured_conn, peer_id, is_initiator=is_initiator, on_close=on_close)


def use_library_muxer():
    """Undo `use_own_muxer`, to compare."""
    muxer_multistream.Yamux = LibraryYamux  # pyright: ignore[reportPrivateImportUsage]


def use_own_routing_protocol():
    """`KadDHT(protocol_prefix=...)` is ignored: peers would join the public network."""
    for module in KAD_MODULES:
        setattr(module, "PROTOCOL_ID", KAD_PROTOCOL)  # noqa: B010 - types know no such name


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


async def dial(host, peer: PeerID, addresses: Iterable[Multiaddr], timeout: float = 3.0):
    """Connect by the first address that works; errors of all of them if none does.

    The library tries one address of each transport only, and then refuses the peer for 60
    seconds, even by an address that works.
    """
    if host.get_network().get_connections(peer):
        return
    failures = []
    for address in addresses:
        try:
            with trio.fail_after(timeout):
                await host.get_network().dial_addr(address, peer)
            host.get_peerstore().add_addrs(peer, [address], 3600)
            return
        except Exception as error:  # the library's errors have no common base
            failures.append(f"{address}: {error or type(error).__name__}")
    raise ConnectionError(
        f"needs an address by which peer {peer} answers. Got "
        f"{'; '.join(failures) or 'none'}. Check that it runs and allows this peer."
    )
