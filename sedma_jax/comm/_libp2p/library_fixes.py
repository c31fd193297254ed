"""Faults of libp2p 0.8.1, corrected; `nat_fixes.py` has those of relays and NAT.

The tests show each fault, so they tell when a correction can be removed. `require_version`
refuses every other version, in which a correction might do harm.
"""

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import trio

from ..._extras import install_hint
from .._errors import reason
from . import muxer
from .library import (
    KAD_MODULES,
    VERSION,
    KeyPair,
    LibraryYamux,
    Multiaddr,
    NoiseTransport,
    PeerID,
    TProtocol,
    muxer_multistream,
)

CORRECTED = "0.8.1"
KAD_PROTOCOL = TProtocol("/sedma/kad/1.0.0")
HEAD_START = 0.3  # seconds that an address gets before the next one is tried as well


def require_version() -> None:
    """Refuse a libp2p whose faults are not known."""
    if VERSION != CORRECTED:
        raise ImportError(
            f"`sedma_jax.comm` needs libp2p {CORRECTED}, whose faults it corrects. Got "
            f"libp2p {VERSION}. {install_hint('comm')}"
        )


def use_own_muxer() -> None:
    """Have our muxer carry connections that are Noise over TCP or over one of our circuits.

    The library ignores `muxer_opt` for yamux: `MuxerMultistream.new_conn` names the class.
    Other connections keep the library's muxer.
    """
    muxer_multistream.Yamux = _yamux  # pyright: ignore[reportPrivateImportUsage]


def _yamux(
    secured_conn: Any,
    peer_id: PeerID,
    is_initiator: bool | None = None,
    on_close: Callable[[], Awaitable[Any]] | None = None,
) -> Any:
    kind = muxer.MuxedConnection if muxer.suits(secured_conn) else LibraryYamux
    return kind(secured_conn, peer_id, is_initiator=is_initiator, on_close=on_close)


def use_library_muxer() -> None:
    """Undo `use_own_muxer`, for comparisons."""
    muxer_multistream.Yamux = LibraryYamux  # pyright: ignore[reportPrivateImportUsage]


def use_own_routing_protocol() -> None:
    """Keep the routing table apart from the public network's.

    The library ignores `KadDHT(protocol_prefix=...)`, so that peers would join the public
    network.
    """
    for module in KAD_MODULES:
        setattr(module, "PROTOCOL_ID", KAD_PROTOCOL)  # noqa: B010 - types know no such name


class _Handlers(dict):
    def __missing__(self, protocol: TProtocol) -> None:
        return None


def tolerate_removed_handlers(host: Any) -> None:
    """Let a handler that is removed during a negotiation end only that stream.

    The library looks the handler up a second time after its answer, and the `KeyError` ends
    the node.
    """
    host.multiselect.handlers = _Handlers(host.multiselect.handlers)


class AllowedPeersOnly(NoiseTransport):
    """Noise that closes the connection of a peer that is not allowed, once its id is known.

    The library's gater filters by network address, which peers share and change.
    """

    def __init__(self, keys: KeyPair, noise_key: Any, allowed: Callable[[str], bool]):
        super().__init__(keys, noise_privkey=noise_key)
        self._allowed = allowed

    async def secure_inbound(self, conn: Any) -> Any:
        """Handshake with the peer that dials; `PermissionError` for a stranger."""
        return await self._checked(await super().secure_inbound(conn))

    async def secure_outbound(self, conn: Any, peer_id: PeerID) -> Any:
        """Handshake with the peer that was dialled; `PermissionError` for a stranger."""
        return await self._checked(await super().secure_outbound(conn, peer_id))

    async def _checked(self, session: Any) -> Any:
        peer = session.get_remote_peer()
        if not self._allowed(str(peer)):
            await session.close()
            raise PermissionError(
                f"`sedma_jax.comm` connects only to peers on the allow-list. Got {peer}. "
                "Add it to `allowed` to let it in."
            )
        return session


async def dial(
    host: Any,
    peer: PeerID,
    addresses: Iterable[Multiaddr],
    timeout: float = 3.0,
    through_relay: Callable[[Multiaddr, PeerID], Awaitable[None]] | None = None,
) -> None:
    """Connect by the first address that works.

    The library tries one address per transport and then refuses the peer for 60 seconds,
    even at an address that works. Here each address gets a head start over the next, so
    that a dead address costs only that long.

    **Arguments:** `through_relay` dials addresses with `/p2p-circuit`; without it they are
    left out.

    **Raises:** `ConnectionError` with the error of every address if none works.
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
            failures.append(f"{address}: {reason(error)}")
            failed.set()

    # Direct addresses first: a relayed connection stays slower for its whole life.
    ordered = sorted(addresses, key=lambda address: "/p2p-circuit" in str(address))
    async with trio.open_nursery() as nursery:
        for address in ordered:
            failed = trio.Event()
            nursery.start_soon(one, address, failed)
            with trio.move_on_after(HEAD_START):
                await failed.wait()
    if not network.get_connections(peer):
        raise ConnectionError(
            f"`Node.connect` needs an address at which peer {peer} answers. Got "
            f"{'; '.join(failures) or 'none'}. Check that it runs and allows this peer."
        )
