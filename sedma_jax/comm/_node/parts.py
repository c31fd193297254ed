"""What a node expects of the parts that know the node, so that no import goes both ways."""

from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from .._libp2p.library import Multiaddr, PeerID


class WayThroughNat(Protocol):
    """How a node is reached behind NAT; `nat_traversal.NatTraversal` is one."""

    punching: Any

    @property
    def addresses(self) -> list[str]: ...

    @property
    def reachable(self) -> bool | None: ...

    def running(self) -> AbstractAsyncContextManager[None]: ...

    async def dial(self, address: Multiaddr, peer: PeerID) -> None: ...


class KeepsReplicas(Protocol):
    """What keeps other holders of tensors; `replicas.Replication` is one."""

    async def replicate(self, cid: str) -> None: ...

    async def hand_over(self, cid: str) -> set[str]: ...

    async def run(self) -> None: ...
