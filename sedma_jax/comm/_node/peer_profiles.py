"""What a node learns about others, kept in a long-term memory between runs.

The memory is passed in, since `comm` does not import `sedma_jax.memory`. A node writes four
kinds of patterns, under its name as observer:

- `peer-profile`: a peer that this node itself made requests to; what others say of a peer
  makes no profile. The reward is its availability, the share of requests answered.
- `peer-weights`: the weights of Eq. 7, as learnt by Eq. 8; the reward is their mean
  log-likelihood.
- `tensor-use`: how often a tensor is asked for (Eq. 10); the reward counts accesses.
- `cache-hits`: the reward is the share of requested tensors that were in memory.
"""

import logging
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import trio

from ..._long_term import LongTermMemory
from .._peers.table import STRIKES, Peer
from .._tensors.entry import Use
from .node import Node

log = logging.getLogger("sedma_jax.comm")

MOST = 512  # profiles of peers, and as many of tensors, that a node keeps
AT_ONCE = 256  # of each per transaction
LAST_WRITE = 5.0  # seconds that the write at the end may take
PROFILE, WEIGHTS, USE, HITS = "peer-profile", "peer-weights", "tensor-use", "cache-hits"


class Profiles:
    """The link of one node to its long-term memory.

    **Arguments:**

    - `node`: a `Node`.
    - `memory`: a `LongTermMemory`; it stays open.
    - `most`: profiles of peers, and as many of tensors, to keep.
    """

    def __init__(self, node: Node, memory: LongTermMemory, most: int = MOST):
        self._node, self._memory, self._most = node, memory, most
        self._observer = (
            "nodes without a key" if node.settings.key is None else f"node {node.name}"
        )
        self._owed: list[tuple] = []  # records that could not be written yet
        # By kind, the names that the memory holds for this observer, the oldest first.
        self._kept: dict[str, dict[str, None]] = {PROFILE: {}, USE: {}}
        self._counted = 0, 0  # hits and misses at the last write
        self._lessons = 0

    async def recall(self) -> None:
        """Start with what the last run knew; without it if the memory fails."""
        try:
            found = await trio.to_thread.run_sync(self._recalled)
            for kind, take in ((PROFILE, self._take_profile), (USE, self._take_use)):
                for pattern in sorted(found[kind], key=lambda p: p.updated):
                    (name,) = pattern.choice.values()
                    self._kept[kind][name] = None
                    take(name, pattern.features)
            for pattern in found[WEIGHTS]:
                self._node.peers.learner.resume(pattern.features[:3], pattern.features[3])
        except (OSError, ValueError) as error:
            log.warning("profiles of peers not all recalled: %s", error)

    async def write_often(self) -> None:
        """Write back every `remember_every` seconds, without end."""
        while True:
            await trio.sleep(self._node.settings.remember_every)
            await self.write()

    @asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """Recall before the block, and write back after it."""
        await self.recall()
        try:
            yield
        finally:
            with trio.move_on_after(LAST_WRITE, shield=True):  # pyright: ignore[reportCallIssue]
                await self.write()

    async def write(self) -> None:
        """Write back what is new since the last write; a failed write is tried again."""
        records = [*self._owed, *self._profiles(), *await self._weights(), *self._uses()]
        self._owed = records[-4 * AT_ONCE :]
        if not records:
            return
        try:
            await trio.to_thread.run_sync(
                self._write,
                records,
                abandon_on_cancel=True,  # pyright: ignore[reportCallIssue]
            )
            self._owed = []
        except (OSError, ValueError) as error:
            log.warning("profiles of peers not kept: %s They are tried again.", error)

    def _recalled(self) -> dict[str, list[Any]]:
        kinds = {PROFILE: 6, USE: 3, WEIGHTS: 4}
        return {
            kind: [
                p
                for p in self._memory.recall(kind, self._observer)
                # A shared memory may have patterns of another version.
                if p.features is not None and len(p.features) == length
            ]
            for kind, length in kinds.items()
        }

    def _write(self, records: list[tuple]) -> None:
        self._memory.record_all(records)
        for kind, _, choice, *_ in records:
            if kind in self._kept:
                (name,) = choice.values()
                self._kept[kind].pop(name, None)
                self._kept[kind][name] = None
        # A stranger can invent ids: without a limit they would displace everything else.
        for kind, key in ((PROFILE, "peer"), (USE, "cid")):
            kept = self._kept[kind]
            for name in list(kept)[: max(0, len(kept) - self._most)]:
                self._memory.forget(kind, self._observer, {key: name})
                del kept[name]

    def _profiles(self) -> Iterator[tuple]:
        asked = [peer for peer in self._node.peers if peer.asked]
        for peer in sorted(asked, key=lambda p: -p.asked)[:AT_ONCE]:
            features = (
                *(peer.success, peer.rtt_ms, peer.range_ms),
                *(peer.memory_free / 1e9, peer.usual_idle, peer.strikes),
            )
            share = peer.answered / peer.asked
            peer.asked = peer.answered = 0.0
            yield PROFILE, self._observer, {"peer": peer.name}, share, features

    async def _weights(self) -> list[tuple]:
        learner, lessons = self._node.peers.learner, self._lessons
        if learner.lessons == lessons:
            return []
        self._lessons, model = learner.lessons, learner.model
        fit = await trio.to_thread.run_sync(learner.fit)
        features = [*map(float, model.weights), float(model.bias)]
        choice = {"terms": "availability latency memory_free"}
        return [(WEIGHTS, self._observer, choice, fit, features)]

    def _uses(self) -> Iterator[tuple]:
        store, (hits, misses) = self._node.store, self._counted
        new_hits, asked = store.hits - hits, store.hits + store.misses - hits - misses
        if asked:
            choice, features = {"policy": "utility"}, [store.capacity / 1e6]
            yield HITS, self._observer, choice, new_hits / asked, features
        self._counted = store.hits, store.misses
        used = self._node.store.uses()
        for cid, accesses, use in sorted(used, key=lambda u: -u[1])[:AT_ONCE]:
            features = use.per_hour, use.megabytes, use.last
            yield USE, self._observer, {"cid": cid}, accesses, features

    def _take_profile(self, name: str, features: Sequence[float]) -> None:
        success, rtt_ms, range_ms, memory_free, idle, strikes = features
        peer: Peer = self._node.peers.get(name)
        peer.success, peer.rtt_ms, peer.measured = success, rtt_ms, True
        peer.range_ms, peer.memory_free = range_ms, int(memory_free * 1e9)
        peer.idle = peer.usual_idle = idle
        # A liar is on probation: its exile ended with the last run.
        peer.strikes, peer.recalled = min(int(strikes), STRIKES - 1), True

    def _take_use(self, cid: str, features: Sequence[float]) -> None:
        self._node.store.remember(cid, Use(*features))
