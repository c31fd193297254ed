"""The methods that every node offers to its peers."""

import trio

from .._rpc import wire_pb2 as wire
from .._rpc.messages import MessageError, parse
from .._rpc.methods import Call
from .._tensors.manifest import CHUNK, check_cid, text_of
from .._tensors.store import Entry
from .gossip import statuses, take_statuses
from .node import Node

LARGEST_RANGE = 16 * CHUNK
MOST_HOLDERS = 32


def add_methods(node: Node) -> None:
    """Offer all methods but that of `dial_back.py`."""

    async def echo(call: Call):
        return call.body

    async def has(call: Call):
        cid = check_cid(bytes(call.body[:100]).decode("ascii", "replace"))
        return b"1" if node.store.peek(cid) is not None else b""

    async def manifest(call: Call):
        return _entry(node, call.meta).manifest.raw

    async def part(call: Call):
        request = parse(wire.Range, call.meta)
        entry = _entry(node, request.cid)
        end = request.offset + request.length
        aligned = request.offset % CHUNK == 0
        if not (0 < request.length <= LARGEST_RANGE and aligned):
            raise MessageError(
                f"the method `range` needs an offset of a multiple of {CHUNK} and at most "
                f"{LARGEST_RANGE} bytes. Got {request.length} at {request.offset}. Ask for "
                "less."
            )
        if end > entry.manifest.nbytes:
            raise MessageError(
                "the method `range` needs a range within the "
                f"{entry.manifest.nbytes} bytes of its tensor. Got an end of {end}. "
                "Read the manifest."
            )
        entry.count_access(1 / max(1, entry.manifest.nbytes // request.length))
        node.count_served(call.peer, request.length)
        return entry.bytes[request.offset : end]

    async def keep(call: Call):
        request = parse(wire.Keep, call.body)
        cid = check_cid(text_of(request.cid))
        entry = node.store.peek(cid)
        if entry is None or not entry.pinned:
            entry = await node.fetch(cid, [call.peer], pinned=True)
        entry.pinned = True
        entry.holders = {*request.holders[:MOST_HOLDERS], node.name}
        entry.leader = call.peer
        entry.wanted_holders = min(max(request.wanted, 1), MOST_HOLDERS)
        node.to_provide.append(cid)
        return b"1"

    async def status(call: Call):
        await trio.to_thread.run_sync(take_statuses, node, bytes(call.body))
        return statuses(node)

    for name, method in {
        "echo": echo,
        "has": has,
        "manifest": manifest,
        "range": part,
        "keep": keep,
        "status": status,
    }.items():
        node.methods.add(name, method)


def _entry(node: Node, cid: bytes) -> Entry:
    entry = node.store.peek(text_of(cid)) if 0 < len(cid) < 100 else None
    if entry is None:
        raise LookupError(
            "`Node.get` needs a peer that has the tensor. Got one that has not. Ask the "
            "providers of the tensor."
        )
    return entry
