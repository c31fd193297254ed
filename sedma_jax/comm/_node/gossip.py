"""Statuses that nodes exchange, and the peers that a node meets through them."""

import logging
import math
import os
import random
import time

import trio

from .._errors import reason
from .._libp2p.library import PeerID
from .._libp2p.nat_fixes import ip_of
from .._libp2p.sockets import is_relayed
from .._peers.status import LARGEST_STATUS, read_status, sign_status
from .._peers.table import FRESH
from .._rpc import wire_pb2 as wire
from .._rpc.messages import MessageError, parse
from .node import Node, another_uses_the_key

log = logging.getLogger("sedma_jax.comm")

MOST_STATUSES = 32  # per message
LARGEST_STATUSES = MOST_STATUSES * LARGEST_STATUS
GOSSIP_TO = 8  # peers per round
MEET_AT_ONCE = 2  # peers per round
MOST_LOADS = 256  # peers whose loads are in short-term memory
_NETWORK = (OSError, RuntimeError, MessageError, MemoryError, trio.TooSlowError)


def own_status(node: Node) -> bytes:
    """What this node says of itself, signed."""
    load = _load()
    # Grows over restarts as long as the clock does; see `PeerTable.take_status`.
    node.sequence = max(node.sequence + 1, time.time_ns() // 1_000_000)
    status = wire.Status(
        sequence=node.sequence,
        idle=min(max(1 - load, 0), 1),
        load=load,
        memory_free=node.store.free,
        zone=node.settings.zone,
        addresses=node.addresses[:8],
    )
    node.issued.append(node.sequence)
    return sign_status(node.keys, node.host.get_id(), status)


def _load() -> float:
    return os.getloadavg()[0] / (os.cpu_count() or 1)


def statuses(node: Node, to: str = "") -> bytes:
    """This node's status, signed, and the newest that it has heard of others.

    **Arguments:** `to`: a peer that is told what was heard under its own key, too.
    """
    now = time.monotonic()
    fresh = [p.signed for p in node.peers if p.signed and now - p.heard < FRESH / 2]
    chosen = random.sample(fresh, min(len(fresh), MOST_STATUSES - 2))
    if to and (known := node.peers.get(to).signed):
        chosen.append(known)
    parts = [parse(wire.SignedStatus, data) for data in (own_status(node), *chosen)]
    return wire.Statuses(statuses=parts).SerializeToString()


def take_statuses(node: Node, data: bytes) -> None:
    """Store statuses that a peer sent; `MessageError` for a message with a forged one."""
    if len(data) > LARGEST_STATUSES:
        raise MessageError(
            f"`sedma_jax.comm` needs at most {MOST_STATUSES} statuses per message. Got "
            f"{len(data)} bytes. Send fewer."
        )
    for each in parse(wire.Statuses, data).statuses[:MOST_STATUSES]:
        signed = each.SerializeToString()
        if not each.status:
            continue
        status = read_status(signed)
        if status.peer != node.host.get_id().to_bytes():
            node.peers.take_status(signed)
        # An earlier run of this node signed smaller numbers, its own are known.
        elif status.sequence > _recognised(node) and status.sequence not in node.issued:
            if not node.same_key:
                log.error("%s", another_uses_the_key(node.name))
            node.same_key = True


def _recognised(node: Node) -> int:
    """The number above which this node knows all that it has signed.

    A peer may come back with one that was forgotten since.
    """
    full = len(node.issued) == node.issued.maxlen
    return max(node.started, node.issued[0] - 1) if full else node.started


async def run(node: Node) -> None:
    """Exchange statuses with some peers every `status_every` seconds, without end."""
    noted: set[str] = set()
    while True:
        names = node.connected()
        for name in random.sample(names, min(len(names), GOSSIP_TO)):
            node.peers.get(name).count_request(await _exchange(node, name))
        if node.short_term is not None:
            await _note_loads(node, noted)
        await _meet(node)
        await trio.sleep(node.settings.status_every)


async def _exchange(node: Node, name: str) -> bool:
    """Exchange statuses with a peer; whether it answered."""
    try:
        message = await trio.to_thread.run_sync(statuses, node)
        started = trio.current_time()
        answer = await node.calls.call(
            name, "status", message, timeout=3, largest=LARGEST_STATUSES
        )
        peer = node.peers.get(name)
        peer.measure_rtt(trio.current_time() - started)
        peer.relayed = _relayed(node, name)
        _note_where(node, name)
        await trio.to_thread.run_sync(take_statuses, node, bytes(answer))
        return True
    except _NETWORK as error:
        log.info("no status of %s: %s", name, reason(error))
        return False


def _relayed(node: Node, name: str) -> bool:
    connections = node.host.get_network().get_connections(PeerID.from_string(name))
    return bool(connections) and all(map(is_relayed, connections))


def _note_where(node: Node, name: str) -> None:
    """Note the address at which the key of a peer has shown up."""
    for connection in node.host.get_network().get_connections(PeerID.from_string(name)):
        if not is_relayed(connection):
            for address in connection.muxed_conn.get_transport_addresses():
                node.dial_rules.prove(name, ip_of(address))


async def _note_loads(node: Node, names: set[str]) -> None:
    """Add the current loads of this node and its peers to short-term memory."""
    samples = {"load": _load(), "memory_free": float(node.store.free)}
    for name in node.connected():
        peer = node.peers.get(name)
        if peer.heard > -math.inf and (name in names or len(names) < MOST_LOADS):
            names.add(name)
            samples[f"load {name}"] = peer.load
    memory = node.short_term
    assert memory is not None
    node.short_term = await trio.to_thread.run_sync(lambda: memory.add(**samples))


async def _meet(node: Node) -> None:
    """Connect to some of the peers that others have statuses of."""
    connected = {*node.connected(), node.name}
    strangers = (p for p in node.peers if p.addresses and p.name not in connected)
    known = [p for p in strangers if node.allowed(p.name)]
    now = time.monotonic()
    fresh = [p for p in known if now - p.heard < FRESH and node.peers.usable(p.name)]
    for peer in random.sample(fresh, min(len(fresh), MEET_AT_ONCE)):
        try:
            await node.connect(*peer.addresses, vouched=False)
        except (ConnectionError, ValueError) as error:
            log.info("not met: %s", error)
