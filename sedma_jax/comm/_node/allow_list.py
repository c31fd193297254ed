"""Which peers may connect, and the addresses that name them."""

import ipaddress
from collections.abc import Callable
from typing import Any

from .._libp2p.dial_rules import Network
from .._libp2p.library import Multiaddr, PeerID, info_from_p2p_addr
from .settings import EVERYONE, NodeSettings

# The codes of multihash, and what a serialised Ed25519 key begins with.
_IDENTITY, _SHA256, _ED25519 = 0x00, 0x12, bytes.fromhex("08011220")


def peer_address(address: str) -> Any:
    """The peer id and addresses in an address that ends in `/p2p/ID`."""
    try:
        return info_from_p2p_addr(Multiaddr(address))
    except Exception as error:  # the library's errors have no common base
        raise ValueError(
            "`Node.connect` needs the address of a peer, as in "
            f"/ip4/10.0.0.1/tcp/4001/p2p/12D3KooW.... Got {address[:120]!r}. Take it from "
            "`sedma node status`."
        ) from error


def dialled_networks(settings: NodeSettings) -> list[Network]:
    """The networks in `NodeSettings.dial`."""
    try:
        return [ipaddress.ip_network(text) for text in settings.dial]
    except ValueError as error:
        raise ValueError(
            f"`NodeSettings` needs networks in `dial`, as 10.1.0.0/16. Got: {error}. Write "
            "the address of the network and the length of its prefix."
        ) from error


def named_peers(settings: NodeSettings) -> Callable[[str], bool]:
    """Tell for the id of a peer whether the settings name it; others are strangers."""
    addresses = [*settings.bootstrap, *settings.via_relay]
    names = settings.allowed | {str(peer_address(a).peer_id) for a in addresses}
    return lambda name: name in names


def _is_peer_id(name: str) -> bool:
    """Whether a name is the id of a peer: a public key, or the SHA-256 of one.

    The library takes any text of base 58.
    """
    try:
        data = PeerID.from_string(name).to_bytes()
    except Exception:  # the library's errors have no common base
        return False
    kind, length, *digest = data if len(data) > 2 else (0, 0)
    right = (kind == _SHA256 and length == 32) or (
        kind == _IDENTITY and data[2:6] == _ED25519 and length == 36
    )
    return right and len(digest) == length and str(PeerID(data)) == name


def allow_list(settings: NodeSettings) -> Callable[[str], bool]:
    """Tell for the id of a peer whether it may connect and be connected to."""
    named = [*settings.bootstrap, *settings.via_relay]
    allowed = settings.allowed | {str(peer_address(a).peer_id) for a in named}
    for name in allowed - {EVERYONE}:
        if not _is_peer_id(name):
            raise ValueError(
                "`NodeSettings` needs ids of peers in `allowed`, as in 12D3KooW.... Got "
                f"{name[:80]!r}. Take them from `sedma node status` or `sedma node id`."
            )
    return lambda name: EVERYONE in allowed or name in allowed
