"""What a node does without being asked: join, gossip, provide records, repair, learn."""

import logging
from collections.abc import Awaitable, Callable
from functools import partial

import trio

from .._libp2p.newcomers import forget_ended
from .._rpc.messages import MessageError
from . import gossip
from .node import Node

log = logging.getLogger("sedma_jax.comm")

PROVIDE_EVERY = 1.1  # seconds: peers refuse more than 10 records in 10 s
PROVIDE_AGAIN = 12 * 3600.0  # seconds; a record lives 48 hours
REJOIN_EVERY = 5.0  # seconds
SWEEP_EVERY = 5.0  # seconds
RESTORE_EVERY = 5.0  # seconds
_NETWORK = (OSError, RuntimeError, MessageError, MemoryError, trio.TooSlowError)
RESTART_AFTER = 5.0  # seconds, of a task that failed


def start(node: Node, nursery: trio.Nursery) -> None:
    """Start all background tasks of a node; none of them can end it."""
    tasks = {
        "joining": partial(_join, node),
        "gossip": partial(gossip.run, node),
        "providing": partial(_provide, node),
        "replication": node.replication.run,
        "learning": partial(_learn, node),
        "sweeping": partial(_sweep, node),
        "saving": node.tiers.save_often,
        "restoring": partial(_restore, node),
    }
    for name, task in tasks.items():
        nursery.start_soon(_forever, name, task)


async def _forever(name: str, task: Callable[[], Awaitable[None]]) -> None:
    """Run a task without end, and again after an error that it did not foresee."""
    while True:
        try:
            await task()
        except Exception as error:
            log.error("%s failed; it starts again", name, exc_info=error)
        await trio.sleep(RESTART_AFTER)


async def _join(node: Node) -> None:
    """Connect to the bootstrap peers, and reconnect whenever one is lost."""
    said: set[str] = set()
    while True:
        for address in node.settings.bootstrap:
            try:
                if address.rpartition("/")[2] not in node.connected():
                    await node.connect(address)
                    said.discard(address)
            except ConnectionError as error:
                if address not in said:
                    log.warning("bootstrap: %s It is tried again.", error)
                    said.add(address)
        await trio.sleep(REJOIN_EVERY)


async def _sweep(node: Node) -> None:
    """Forget connections that this node opened and that have ended."""
    while True:
        await trio.sleep(SWEEP_EVERY)
        forget_ended(node.host.get_network())
        node.calls.forget(node.connected())


async def _restore(node: Node) -> None:
    """Fetch again from others what the disk had lost and this node is to hold."""
    while True:
        for cid, lost in list(node.tiers.lost.items()):
            entry = node.store.peek(cid)
            if entry is None or not entry.pinned:
                try:
                    entry = await node.fetch_to_hold(
                        cid,
                        [n for n in lost.holders if n in node.connected()],
                        kept_for=lost.kept_for,
                        wanted=lost.wanted_holders,
                    )
                except _NETWORK as error:
                    log.info("%s is not restored yet: %s", cid, error)
                    continue
                entry.holders, entry.leader = lost.holders, lost.leader
            node.tiers.lost.pop(cid, None)
        await trio.sleep(RESTORE_EVERY)


async def _learn(node: Node) -> None:
    """Learn from transfers as they end; no transfer waits for that or for the compiler."""
    # Not abandoned: a thread that compiles while the interpreter ends may crash it.
    await trio.to_thread.run_sync(node.peers.compile)
    while True:
        await node.outcomes.wait()
        node.outcomes = trio.Event()
        await trio.to_thread.run_sync(node.peers.learner.learn)


async def _provide(node: Node) -> None:
    """Store records of tensors in the routing table, no faster than peers accept them."""
    due: dict[str, float] = {}
    while True:
        while node.to_provide:
            due[node.to_provide.pop()] = 0.0
        now = trio.current_time()
        for cid in [cid for cid, when in due.items() if when <= now][:1]:
            if node.store.peek(cid) is None:
                del due[cid]
                continue
            try:
                await node.dht.provide(cid)
                due[cid] = now + (PROVIDE_AGAIN if node.connected() else 5)
            except Exception as error:  # the library's errors have no common base
                log.info("record not stored: %s", error)
                due[cid] = now + 30
        await trio.sleep(PROVIDE_EVERY)
