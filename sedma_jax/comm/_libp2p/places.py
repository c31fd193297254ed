"""Places for peers whose key is known: some for strangers, more for those that are named.

Keys cost nothing, so that strangers may want all places of a node that lets everybody in.
Peers that the node names have places of their own, and take a stranger's when these are
full. Among strangers, networks share alike: a newcomer takes the place of one from the
network that has more than its own, or else of one that has been idle.
"""

import ipaddress
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import trio

STRANGERS = 64
NAMED = 16  # more, for peers that are named
IDLE = 30.0  # seconds without a byte of a stream until a newcomer may take the place
_PREFIX = {4: 24, 6: 48}  # bits of what counts as one network


@dataclass(eq=False)
class Place:
    """A connection that a peer has opened."""

    connection: Any
    network: str
    named: bool = False

    @property
    def used(self) -> float:
        """When a stream of it last brought something."""
        return getattr(self.connection, "last_used", math.inf)


def network_of(host: str) -> str:
    """The network of an address, of which one sender may own all."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return str(ipaddress.ip_network((address, _PREFIX[address.version]), strict=False))


def leaving(strangers: Sequence[Place], network: str | None, now: float) -> Place | None:
    """The stranger that goes so that one of `network` may come; None if the newcomer goes.

    **Arguments:** `network`: None for a newcomer that is named, for whom one goes in any
    case.
    """
    counts = Counter(place.network for place in strangers)
    most = max(counts.values(), default=0)
    if network is None or most > counts[network] + 1:
        among = [place for place in strangers if counts[place.network] == most]
    else:
        among = [place for place in strangers if now - place.used >= IDLE]
    return min(among, key=lambda place: place.used, default=None)


class Places:
    """Who of those that connect to a node keeps a place."""

    def __init__(self, network: Any, named: Callable[[str], bool]):
        self._network, self._named = network, named
        self._held: list[Place] = []
        self.displaced = 0

    def admit(self, connection: Any, host: str) -> bool:
        """Whether a connection that has proven its key stays; another may go for it."""
        self._held = [p for p in self._held if not p.connection.event_closed.is_set()]
        strangers = [place for place in self._held if not place.named]
        place = Place(connection, network_of(host), self._named(str(connection.peer_id)))
        full = len(self._network.get_connections()) > STRANGERS + NAMED
        if full or (not place.named and len(strangers) >= STRANGERS):
            network = None if place.named else place.network
            victim = leaving(strangers, network, trio.current_time())
            if victim is None or not hasattr(victim.connection, "break_off"):
                return False
            self._held.remove(victim)
            self.displaced += 1
            victim.connection.break_off()
        self._held.append(place)
        return True
