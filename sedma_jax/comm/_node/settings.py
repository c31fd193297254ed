"""How a node is set up."""

from dataclasses import dataclass
from pathlib import Path

EVERYONE = "*"
"""An entry of the allow-list that lets every peer in."""


@dataclass(frozen=True)
class NodeSettings:
    """How a node is set up; what is not allowed is refused.

    **Arguments:**

    - `listen`: addresses to listen on, TCP.
    - `announce`: addresses to tell others, where they differ (behind a port forwarding).
    - `key`: file of the node's key, made on first use; None for a key of this run only.
    - `allowed`: ids of peers that may connect and be connected to; `EVERYONE` in it lets
        all in. Peers named in `bootstrap` are allowed too.
    - `bootstrap`: addresses, with `/p2p/ID`, of peers to join; tried again until they
        answer.
    - `capacity`: bytes of memory for tensors.
    - `replicas`: how many peers hold each tensor that is put here, this one included.
    - `zone`: what fails together with this node, such as a rack; replicas go to different
        ones. Up to 64 characters.
    - `status_every`: seconds between two statuses to others.
    - `relay`: carry connections between peers that cannot reach each other, and be where
        they find each other. At most 64 peers hold a place; a connection ends after 600 s
        or 256 MiB.
    - `via_relay`: addresses, with `/p2p/ID`, of relays. Where a relay cannot dial this node
        back, it holds a place there to be dialled through it. They are allowed.
    - `namespace`: a name that peers share to find each other at a relay.
    - `remember_every`: seconds between two writes to long-term memory, where there is one.
    - `own_muxer`: False for libp2p's own, to compare.
    """

    listen: tuple[str, ...] = ("/ip4/127.0.0.1/tcp/0",)
    announce: tuple[str, ...] = ()
    key: Path | None = None
    allowed: frozenset[str] = frozenset()
    bootstrap: tuple[str, ...] = ()
    capacity: int = 2**30
    replicas: int = 1
    zone: str = ""
    status_every: float = 5.0
    relay: bool = False
    via_relay: tuple[str, ...] = ()
    namespace: str = "sedma"
    remember_every: float = 60.0
    own_muxer: bool = True

    def __post_init__(self):
        periods = self.status_every, self.remember_every
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
