"""The addresses that a node dials when a stranger names them.

Whoever gossips, registers or answers for the routing table names addresses. A node that
dials them all scans networks that the stranger cannot reach: its own machine, its own site.
Public addresses are dialled; others only where this node listens itself, where the peer's
own key has shown up, or where the owner says so.
"""

import ipaddress
from collections.abc import Callable, Iterable
from typing import Any

from .library import Multiaddr

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
MOST_PROVED = 4096  # peers and addresses
MOST_VOUCHED = 4096  # addresses
_PRIVATE = tuple(
    ipaddress.ip_network(text)
    for text in (
        *("127.0.0.0/8", "::1/128", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"),
        *("100.64.0.0/10", "fc00::/7"),
    )
)


class DialRules:
    """Which addresses a host dials; it asks before every dial.

    **Arguments:**

    - `host`: of libp2p.
    - `networks`: that may be dialled whoever names them.
    - `own`: returns the addresses at which this node listens and is announced.
    """

    def __init__(
        self, host: Any, networks: Iterable[Network], own: Callable[[], Iterable[Multiaddr]]
    ):
        self._networks, self._own = tuple(networks), own
        self._vouched: dict[str, None] = {}  # the oldest first
        self._proved: dict[tuple[str, str], None] = {}
        manager = host.get_network().transport_manager
        self._transport = manager.transport_for_dialing
        manager.transport_for_dialing = self._checked

    def vouch(self, addresses: Iterable[Multiaddr]) -> None:
        """Allow addresses that the owner, or a peer that it names, has given."""
        for address in addresses:
            _remember(self._vouched, _bare(address), MOST_VOUCHED)

    def prove(self, peer: str, ip: Any) -> None:
        """Note that the key of a peer has shown up at an address."""
        _remember(self._proved, (peer, str(ip)), MOST_PROVED)

    def allows(self, address: Multiaddr, peer: str | None = None) -> bool:
        """Whether an address may be dialled, for a peer or for any."""
        if _bare(address) in self._vouched:
            return True
        ip = _ip(address)
        if ip is None or ip.is_unspecified or ip.is_multicast or ip.is_link_local:
            return False  # a name may stand for any address
        shown = (str(ip) for p, at in self._proved if peer in (None, p) and at == str(ip))
        if any(ip in network for network in self._networks) or any(shown):
            return True
        if ip.is_global:
            return True
        return any(ip in n and self._listens_in(n) for n in _PRIVATE)

    def _listens_in(self, network: Network) -> bool:
        return any((ip := _ip(a)) is not None and ip in network for a in self._own())

    def _checked(self, address: Multiaddr) -> Any:
        """The transport for an address; `PermissionError` if it is not to be dialled."""
        if not self.allows(address):
            raise PermissionError(
                "`sedma_jax.comm` dials public addresses, its own networks and those of "
                f"`NodeSettings.dial`. Got {address}. Add its network there (`--dial`)."
            )
        return self._transport(address)


def _remember(known: dict, key: Any, most: int) -> None:
    known.pop(key, None)
    known[key] = None
    if len(known) > most:
        del known[next(iter(known))]


def _bare(address: Multiaddr) -> str:
    return str(address).partition("/p2p/")[0]


def _ip(address: Multiaddr) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    parts = str(address).split("/")
    try:
        ip = ipaddress.ip_address(parts[2])
    except (IndexError, ValueError):
        return None
    mapped = getattr(ip, "ipv4_mapped", None)
    return mapped or ip
