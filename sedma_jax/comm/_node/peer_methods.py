"""The methods that every node offers to its peers."""

import trio

from .._rpc import wire_pb2 as wire
from .._rpc.messages import MessageError, parse
from .._rpc.methods import Call
from .._tensors.entry import Entry
from .._tensors.manifest import CHUNK, check_cid, text_of
from .gossip import LARGEST_STATUSES, statuses, take_statuses
from .node import Node

LARGEST_RANGE = 16 * CHUNK
MOST_HOLDERS = 32
LONGEST_NAME = 100  # bytes of the id of a peer
LARGEST_KEEP = 4096


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
        cid = entry.manifest.cid
        return await node.tiers.part(cid, entry, request.offset, request.length)

    async def keep(call: Call):
        request = parse(wire.Keep, call.body)
        cid = check_cid(text_of(request.cid))
        names = [*request.holders, call.peer]
        if len(names) > MOST_HOLDERS or max(map(len, names)) > LONGEST_NAME:
            raise MessageError(
                f"the method `keep` needs at most {MOST_HOLDERS - 1} holders with names of "
                f"{LONGEST_NAME} bytes. Got {len(names) - 1}. Send fewer."
            )
        entry = node.store.peek(cid)
        if entry is None or not entry.pinned:
            kept_for = "" if node.named(call.peer) else call.peer
            entry = await node.fetch_to_hold(cid, [call.peer], kept_for=kept_for)
        entry.holders = {*request.holders, node.name}
        entry.leader = call.peer
        entry.wanted_holders = min(max(request.wanted, 1), MOST_HOLDERS)
        node.to_provide.append(cid)
        return b"1"

    async def status(call: Call):
        told = statuses(node, call.peer)
        await trio.to_thread.run_sync(take_statuses, node, bytes(call.body))
        return told

    node.methods.add("echo", echo)
    node.methods.add("has", has, 100)
    node.methods.add("manifest", manifest, 0)
    node.methods.add("range", part, 0)
    node.methods.add("keep", keep, LARGEST_KEEP)
    node.methods.add("status", status, LARGEST_STATUSES)


def _entry(node: Node, cid: bytes) -> Entry:
    entry = node.store.peek(text_of(cid)) if 0 < len(cid) < 100 else None
    if entry is None:
        raise LookupError(
            "`Node.get` needs a peer that has the tensor. Got one that has not. Ask the "
            "providers of the tensor."
        )
    return entry
