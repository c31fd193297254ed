"""What a node does without being asked: statuses, records, replicas."""

import logging
import math
import os
import random
import time

import trio

from .._libp2p.library import PeerID, parse_cid
from .._libp2p.sockets import is_relayed
from .._peers.table import FRESH, LARGEST_STATUS, read_status, sign_status
from .._rpc import wire_pb2 as wire
from .._rpc.messages import MessageError, parse

log = logging.getLogger("sedma_jax.comm")

MOST_STATUSES = 32  # in one message
GOSSIP_TO = 8  # peers each time
PROVIDE_EVERY = 1.1  # seconds: peers refuse more than 10 records in 10 s
PROVIDE_AGAIN = 12 * 3600.0  # seconds; a record lives 48 hours
REPAIR_AFTER = 10.0  # seconds without a holder until another is found
MOST_LOADS = 256  # peers whose loads are in short-term memory
KEEP_SECONDS = 60.0  # for a peer to fetch what it is asked to hold
REJOIN_EVERY = 5.0  # seconds
_NETWORK = (OSError, RuntimeError, MessageError, MemoryError, trio.TooSlowError)


def start(node, nursery) -> None:
    """Start all upkeep of a node."""
    nursery.start_soon(_join, node)
    nursery.start_soon(_gossip, node)
    nursery.start_soon(_provide, node)
    nursery.start_soon(_repair, node)
    nursery.start_soon(_learn, node)


async def _join(node):
    """Connect to the bootstrap peers, and again whenever one is lost."""
    said = set()
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


def own_status(node) -> bytes:
    """What this node says of itself, signed."""
    load = _load()
    # Rises over restarts as far as the clock does; see `PeerTable.take_status`.
    node.sequence = max(node.sequence + 1, time.time_ns() // 1_000_000)
    status = wire.Status(
        sequence=node.sequence,
        idle=min(max(1 - load, 0), 1),
        load=load,
        memory_free=node.store.free,
        zone=node.settings.zone,
        addresses=node.addresses[:8],
    )
    return sign_status(node.keys, node.host.get_id(), status)


def _load() -> float:
    return os.getloadavg()[0] / (os.cpu_count() or 1)


def statuses(node) -> bytes:
    """This node's status, and the newest it has heard of others."""
    now = time.monotonic()
    fresh = [p.signed for p in node.peers if p.signed and now - p.heard < FRESH / 2]
    chosen = random.sample(fresh, min(len(fresh), MOST_STATUSES - 1))
    parts = [parse(wire.SignedStatus, data) for data in (own_status(node), *chosen)]
    return wire.Statuses(statuses=parts).SerializeToString()


def take_statuses(node, data: bytes) -> None:
    """Take in statuses; one that is forged spoils the message it came in."""
    if len(data) > MOST_STATUSES * LARGEST_STATUS:
        raise MessageError(
            f"at most {MOST_STATUSES} statuses come at once. Got {len(data)} bytes. Send "
            "fewer."
        )
    for each in parse(wire.Statuses, data).statuses[:MOST_STATUSES]:
        signed = each.SerializeToString()
        if each.status and read_status(signed).peer != node.host.get_id().to_bytes():
            node.peers.take_status(signed)


async def _note_loads(node, names: set[str]):
    """Add the current loads of this node and its peers to short-term memory."""
    samples = {"load": _load(), "memory_free": float(node.store.free)}
    for name in node.connected():
        peer = node.peers.get(name)
        if peer.heard > -math.inf and (name in names or len(names) < MOST_LOADS):
            names.add(name)
            samples[f"load {name}"] = peer.load
    node.short_term = await trio.to_thread.run_sync(lambda: node.short_term.add(**samples))


async def _gossip(node):
    noted: set[str] = set()
    while True:
        names = node.connected()
        for name in random.sample(names, min(len(names), GOSSIP_TO)):
            started = trio.current_time()
            answered = False
            try:
                message = await trio.to_thread.run_sync(statuses, node)
                started = trio.current_time()
                answer = await node.calls.call(name, "status", message, timeout=3)
                peer = node.peers.get(name)
                peer.measure_rtt(trio.current_time() - started)
                peer.relayed = _relayed(node, name)
                await trio.to_thread.run_sync(take_statuses, node, bytes(answer))
                answered = True
            except _NETWORK as error:
                log.info("no status of %s: %s", name, error or type(error).__name__)
            node.peers.get(name).count_request(answered)
        if node.short_term is not None:
            await _note_loads(node, noted)
        await _meet(node)
        await trio.sleep(node.settings.status_every)


def _relayed(node, name: str) -> bool:
    connections = node.host.get_network().get_connections(PeerID.from_string(name))
    return bool(connections) and all(map(is_relayed, connections))


async def _meet(node):
    """Connect to some of the peers that others told of."""
    connected = {*node.connected(), node.name}
    strangers = (p for p in node.peers if p.addresses and p.name not in connected)
    known = [p for p in strangers if node.allowed(p.name)]
    now = time.monotonic()
    fresh = [p for p in known if now - p.heard < FRESH and node.peers.usable(p.name)]
    for peer in random.sample(fresh, min(len(fresh), 2)):
        try:
            await node.connect(*peer.addresses)
        except (ConnectionError, ValueError) as error:
            log.info("not met: %s", error)


async def _learn(node):
    """Follow the outcomes of transfers; none waits for that, nor for the compiler."""
    # Not abandoned: a thread that compiles while the interpreter ends may crash it.
    await trio.to_thread.run_sync(node.peers.compile)
    while True:
        await node.outcomes.wait()
        node.outcomes = trio.Event()
        await trio.to_thread.run_sync(node.peers.learner.learn)


async def _provide(node):
    """Tell the routing table of tensors, no faster than it takes."""
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


async def replicate(
    node, cid: str, lost: "set[str] | frozenset[str]" = frozenset()
) -> None:
    """Have other peers hold a tensor until there are as many holders as wanted.

    One call at a time for each tensor. In the end every holder knows of all the others:
    who knows of too few would look for more.

    **Arguments:**

    - `lost`: holders that are gone.
    """
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
            if await _keep(node, cid, chosen[0], holders, entry.wanted_holders):
                entry.holders, told = holders, {chosen[0]}
        if lost or told:
            await _tell_holders(node, cid, entry, told)


async def hand_over(node, cid: str) -> None:
    """Leave a tensor to its other holders: this node goes, and is not to be replaced."""
    entry = node.store.peek(cid)
    entry.holders.discard(node.name)
    entry.wanted_holders = max(1, entry.wanted_holders - 1)
    await _tell_holders(node, cid, entry, set())


async def _keep(node, cid: str, name: str, holders: set[str], wanted: int) -> bool:
    request = wire.Keep(cid=parse_cid(cid).buffer, holders=holders, wanted=wanted)
    try:
        await node.calls.call(
            name, "keep", request.SerializeToString(), timeout=KEEP_SECONDS
        )
        node.peers.get(name).count_request(True)
        return True
    except _NETWORK as error:
        log.info("%s does not hold %s: %s", name, cid, error or type(error).__name__)
        node.peers.get(name).count_request(False)
        return False


def _repairs(node, entry, left: set[str], connected: set[str]) -> bool:
    """Whether it is this node that looks for holders: two at once would find too many.

    Who last asked others to hold the tensor goes on doing so; once it is gone, of those
    left the first by id.
    """
    leader = entry.leader or node.name
    return node.name == (leader if leader in left & connected else min(left, default=""))


async def _repair(node):
    """Replace holders that are gone, and find those that were not there before."""
    missing: dict[str, float] = {}
    while True:
        connected = {*node.connected(), node.name}
        now = trio.current_time()
        pinned = [(cid, e) for cid, e in node.store if e.pinned and e.wanted_holders > 1]
        for cid, entry in pinned:
            for name in entry.holders - connected:
                missing.setdefault(name, now)
            for name in connected & missing.keys():
                del missing[name]
            lost = {n for n in entry.holders if now - missing.get(n, now) >= REPAIR_AFTER}
            left = entry.holders - lost
            short = lost or len(left) < entry.wanted_holders
            if short and _repairs(node, entry, left, connected):
                log.info("%s lost %d holders", cid, len(lost))
                await replicate(node, cid, lost)
        await trio.sleep(REPAIR_AFTER / 5)


async def _tell_holders(node, cid: str, entry, told: set[str]):
    for name in entry.holders - told - {node.name}:
        await _keep(node, cid, name, entry.holders, entry.wanted_holders)
