"""The settings of a node."""

from dataclasses import dataclass
from pathlib import Path

EVERYONE = "*"
"""The entry of `NodeSettings.allowed` that lets every peer in."""


@dataclass(frozen=True)
class NodeSettings:
    """The settings of a node; by default it lets no peer in.

    **Arguments:**

    - `listen`: TCP addresses to listen on.
    - `announce`: addresses to tell others if they differ, as behind a forwarded port.
    - `key`: file of the node's key, generated on first use; None for a key of this run.
    - `allowed`: ids of peers that may connect and be connected to; with `EVERYONE` in it
        all may. Peers named in `bootstrap` and `via_relay` are allowed too.
    - `bootstrap`: addresses, with `/p2p/ID`, of peers to connect to; the node tries again
        until they answer.
    - `capacity`: bytes of memory for tensors.
    - `folder`: of the tensors on the disk, for this node alone; a node that is started
        there again has them. None to hold tensors in memory only.
    - `disk`: bytes of the disk for tensors, if there is a folder.
    - `replicas`: number of peers that hold each tensor put here, including this one.
    - `repair_after`: seconds that a holder may be away until another takes its place.
    - `zone`: name of what fails together with this node, such as a rack; replicas go to
        different zones. Up to 64 characters.
    - `status_every`: seconds between two statuses to others.
    - `relay`: carry connections between peers that cannot reach each other, and let them
        find each other. At most 64 peers hold a place; a connection ends after 600 s or
        256 MiB.
    - `via_relay`: addresses, with `/p2p/ID`, of relays. At a relay that cannot dial this
        node back, the node holds a place and is dialled through it.
    - `dial`: networks, as 10.1.0.0/16, in which addresses that strangers name are dialled,
        beside public ones and those in which this node listens.
    - `namespace`: a name that peers share to find each other at a relay.
    - `remember_every`: seconds between two writes to long-term memory, if there is one.
    - `own_muxer`: False for libp2p's own muxer, for comparisons.

    **Raises:** `ValueError` for fewer than one replica, a period that is not positive, or a
    zone or namespace of another length.

    **Example:**

        >>> settings = sj.comm.NodeSettings(capacity=10**9, zone="rack-1")
        >>> settings.allowed, settings.listen  # nobody is let in, and a port is found
        (frozenset(), ('/ip4/127.0.0.1/tcp/0',))
        >>> sj.comm.NodeSettings(replicas=0)
        Traceback (most recent call last):
        ValueError: `NodeSettings` needs replicas >= 1, ...
    """

    listen: tuple[str, ...] = ("/ip4/127.0.0.1/tcp/0",)
    announce: tuple[str, ...] = ()
    key: Path | None = None
    allowed: frozenset[str] = frozenset()
    bootstrap: tuple[str, ...] = ()
    capacity: int = 2**30
    folder: Path | None = None
    disk: int = 10**10
    replicas: int = 1
    repair_after: float = 10.0
    zone: str = ""
    status_every: float = 5.0
    relay: bool = False
    via_relay: tuple[str, ...] = ()
    dial: tuple[str, ...] = ()
    namespace: str = "sedma"
    remember_every: float = 60.0
    own_muxer: bool = True

    def __post_init__(self):
        periods = self.status_every, self.remember_every, self.repair_after
        if self.replicas < 1 or min(periods) <= 0 or len(self.zone) > 64:
            raise ValueError(
                "`NodeSettings` needs replicas >= 1, periods > 0 and a zone of at most 64 "
                f"characters. Got {self.replicas}, {periods}, {self.zone!r}. Leave them "
                "out for the defaults."
            )
        if not 0 < len(self.namespace) <= 64:
            raise ValueError(
                "`NodeSettings` needs a namespace of 1 to 64 characters. Got "
                f"{self.namespace!r}. Leave it out for the default."
            )
