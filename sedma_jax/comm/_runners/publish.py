"""Publish a tensor: offer it under its CID, and have the best peers hold it."""

import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..._long_term import LongTermMemory
from .._libp2p.keystore import key_id
from .._node.description import described_peers
from .._node.node import Node
from .._node.settings import NodeSettings
from .thread import OpenNode, open_node

_EMBEDDED = 3  # peers if none is named
_STATUS_EVERY = 0.2  # seconds: a score needs a status, and this node lives for one tensor


@dataclass(frozen=True)
class Publication:
    """A published tensor.

    - `cid`: of its manifest, and thus of its content.
    - `peers`: the peers that hold it and have verified it, as records for JSON with the
        `score` of Eq. 7; without the node that published it.
    - `embedded`: whether the peers lived in this process and ended with the call.
    - `seconds`: from the request until the last peer has verified its last byte.

    **Example:**

        >>> with sj.comm.open_node(allowed=frozenset({sj.comm.EVERYONE})) as node:
        ...     found = sj.comm.publish(np.arange(3.0), peers=node.addresses, copies=1)
        ...     print(node.get(found.cid), found.peers[0]["id"] == node.name)
        [0. 1. 2.] True
        >>> found.embedded, found.seconds > 0
        (False, True)
    """

    cid: str
    peers: list[dict]
    embedded: bool
    seconds: float


def publish(
    array: np.ndarray,
    *,
    peers: Sequence[str] = (),
    copies: int = 2,
    key: Path | None = None,
    memory: LongTermMemory | None = None,
    patience: float = 10.0,
) -> Publication:
    """Have the peers of the highest score of Eq. 7 fetch and hold a tensor.

    **Arguments:**

    - `array`: what to publish.
    - `peers`: addresses, with `/p2p/ID`, of peers that let this node in; if left out, three
        peers on loopback in this process, which let in each other only.
    - `copies`: number of peers that are to hold it, at least 1; if fewer peers are there,
        all of them hold it.
    - `key`: file of this node's key, by which the peers know it; a new one if left out.
    - `memory`: as in `open_node`.
    - `patience`: seconds to wait for the peers' statuses, by which they are chosen.

    **Returns:** what was published, and where.

    **Raises:** `ValueError` for `copies` below 1 or an invalid address; `ConnectionError`
    if no peer holds the tensor in the end.

    **Example:**

        >>> published = sj.comm.publish(np.arange(3.0))  # among peers in this process
        >>> len(published.peers), published.embedded
        (2, True)
    """
    if copies < 1:
        raise ValueError(
            f"`sedma_jax.comm.publish` needs copies >= 1. Got {copies}. Leave it out for "
            "the default, 2."
        )
    with ExitStack() as stack:
        if peers:
            settings = NodeSettings(
                key=key,
                bootstrap=tuple(peers),
                replicas=copies + 1,
                status_every=_STATUS_EVERY,
            )
            node = stack.enter_context(open_node(settings, memory=memory))
        else:
            node = _embedded(stack, copies, key, memory)
        wanted = len(peers) or _EMBEDDED
        _wait_for_statuses(node, wanted, patience)
        start = time.perf_counter()
        cid, holders = node.call(_put, node.node, array)
        seconds = time.perf_counter() - start
    if not holders:
        raise ConnectionError(
            f"`sedma_jax.comm.publish` needs a peer that holds {cid}. Got none of "
            f"{wanted}. Check that they run and let {node.name} in (`sedma node start "
            "--allow ID`, or `--open` if this node has no `key` of its own)."
        )
    return Publication(cid=cid, peers=holders, embedded=not peers, seconds=seconds)


def _embedded(
    stack: ExitStack, copies: int, key: Path | None, memory: LongTermMemory | None
) -> OpenNode:
    """This node, among others in this process that let in each other only."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    keys = [key or folder / "0", *(folder / str(i + 1) for i in range(_EMBEDDED))]
    names = frozenset(map(key_id, keys))
    node, *others = [
        stack.enter_context(
            open_node(
                key=path,
                allowed=names,
                replicas=copies + 1,
                status_every=_STATUS_EVERY,
                zone=str(i),
                memory=memory if i == 0 else None,
            )
        )
        for i, path in enumerate(keys)
    ]
    for other in others:
        node.connect(*other.addresses)
    return node


def _wait_for_statuses(node: OpenNode, wanted: int, patience: float) -> None:
    """Wait for the statuses of peers: a peer without one is not chosen first."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        # Every status names the free memory.
        told = [p for p in node.peers() if p["connected"] and p["memory_free"]]
        if len(told) >= wanted:
            return
        time.sleep(0.05)


async def _put(node: Node, array: np.ndarray) -> tuple[str, list[dict]]:
    cid = await node.put(array)
    holders = await node.replication.hand_over(cid)
    described = await described_peers(node)
    held = [peer for peer in described if peer["id"] in holders]
    return cid, sorted(held, key=lambda peer: -peer["score"])
