"""Replicas: find peers that hold a tensor too, and replace those that are lost."""

import logging

import trio

from .._errors import reason
from .._libp2p.library import parse_cid
from .._rpc import wire_pb2 as wire
from .._rpc.messages import MessageError
from .._tensors.entry import Entry
from .node import Node

log = logging.getLogger("sedma_jax.comm")

KEEP_SECONDS = 60.0  # for a peer to fetch the tensor that it is asked to hold
_NETWORK = (OSError, RuntimeError, MessageError, MemoryError, trio.TooSlowError)


class Replication:
    """Keeps as many holders of each tensor as were asked for; `node.replication` is it."""

    def __init__(self, node: Node):
        self._node = node
        self.rounds = 0  # of repair, that have ended

    async def replicate(
        self, cid: str, lost: set[str] | frozenset[str] = frozenset()
    ) -> None:
        """Have other peers hold a tensor until there are as many holders as wanted.

        One call at a time per tensor. At its end every holder knows of all others: one that
        knew of too few would look for more.

        **Arguments:**

        - `lost`: holders that are gone.
        """
        node = self._node
        entry = node.store.peek(cid)
        if entry is None:
            return
        async with entry.replicating:
            entry.holders -= lost
            told: set[str] = set()
            tried: set[str] = set()
            while len(entry.holders) < entry.wanted_holders:
                names = [n for n in node.connected() if n not in entry.holders | tried]
                chosen = await trio.to_thread.run_sync(
                    node.peers.choose_diverse, names, 1, list(entry.holders)
                )
                if not chosen:
                    break
                tried.add(chosen[0])
                holders = entry.holders | {chosen[0]}
                if await self._keep(cid, chosen[0], holders, entry.wanted_holders):
                    entry.holders, told = holders, {chosen[0]}
            if lost or told:
                await self._tell_holders(cid, entry, told)

    async def hand_over(self, cid: str) -> set[str]:
        """Leave a tensor to its other holders: this node leaves and needs no replacement.

        **Returns:** the other holders.
        """
        entry = self._node.store.peek(cid)
        assert entry is not None
        entry.holders.discard(self._node.name)
        entry.wanted_holders = max(1, entry.wanted_holders - 1)
        await self._tell_holders(cid, entry, set())
        return entry.holders

    async def run(self) -> None:
        """Replace holders that are gone and find missing ones, without end."""
        node, after = self._node, self._node.settings.repair_after
        missing: dict[str, float] = {}  # since when a holder is not connected
        while True:
            connected = {*node.connected(), node.name}
            now = trio.current_time()
            pinned = [
                (cid, e) for cid, e in node.store if e.pinned and e.wanted_holders > 1
            ]
            for cid, entry in pinned:
                for name in entry.holders - connected:
                    missing.setdefault(name, now)
                for name in connected & missing.keys():
                    del missing[name]
                lost = {n for n in entry.holders if now - missing.get(n, now) >= after}
                left = entry.holders - lost
                short = lost or len(left) < entry.wanted_holders
                if short and self._repairs(entry, left, connected):
                    log.info("%s lost %d holders", cid, len(lost))
                    await self.replicate(cid, lost)
            await self._tell_of_given_up()
            self.rounds += 1
            await trio.sleep(after / 5)

    def _repairs(self, entry: Entry, left: set[str], connected: set[str]) -> bool:
        """Whether this node looks for holders: two that do so would find too many.

        The peer that last asked others to hold the tensor goes on doing so. Once it is
        gone, the remaining holder with the first id does.
        """
        leader = entry.leader or self._node.name
        repairs = leader if leader in left & connected else min(left, default="")
        return self._node.name == repairs

    async def _tell_of_given_up(self) -> None:
        """Tell the other holders of tensors that went for want of room.

        Else they would count on this node, which stays connected, for good.
        """
        given_up = self._node.store.given_up
        while given_up:
            cid, entry = given_up.popleft()
            if self._node.store.peek(cid) is None:
                entry.holders.discard(self._node.name)
                await self._tell_holders(cid, entry, set())

    async def _keep(self, cid: str, name: str, holders: set[str], wanted: int) -> bool:
        """Ask a peer to hold a tensor; whether it does."""
        node = self._node
        request = wire.Keep(cid=parse_cid(cid).buffer, holders=holders, wanted=wanted)
        kept = True
        try:
            await node.calls.call(
                name, "keep", request.SerializeToString(), timeout=KEEP_SECONDS
            )
        except _NETWORK as error:
            log.info("%s does not hold %s: %s", name, cid, reason(error))
            kept = False
        node.peers.get(name).count_request(kept)
        return kept

    async def _tell_holders(self, cid: str, entry: Entry, told: set[str]) -> None:
        for name in entry.holders - told - {self._node.name}:
            await self._keep(cid, name, entry.holders, entry.wanted_holders)
