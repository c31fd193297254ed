"""Give the products of jobs to those clients alone whose jobs they are of.

A node answers `has`, `manifest` and `range` from its store to every peer that it lets in.
What jobs brought and their products are not in that store but on the disk of the journal:
of these a client gets its own products, and nobody else gets anything.
"""

from collections import OrderedDict
from collections.abc import Callable

import trio

from .._node.node import Node
from .._node.peer_methods import LARGEST_RANGE
from .._rpc import wire_pb2 as wire
from .._rpc.messages import MessageError, parse
from .._rpc.methods import Call
from .._tensors.manifest import CHUNK, check_cid, describe, text_of
from .._tensors.store import Entry
from .journal import Journal

_LOADED = 2  # products in memory, each of at most `ServiceLimits.largest`


class PrivateTensors:
    """Answers for products on disk, in front of the methods that a node has already."""

    def __init__(self, node: Node, journal: Journal):
        self._node, self._journal = node, journal
        self._loaded: OrderedDict[str, Entry] = OrderedDict()
        self._loading = trio.Lock()
        for name, named, answer in (
            ("has", lambda call: bytes(call.body[:100]).decode("ascii", "replace"), None),
            ("manifest", lambda call: text_of(call.meta[:100]), self._manifest),
            ("range", lambda call: text_of(parse(wire.Range, call.meta).cid), self._range),
        ):
            self._put_before(name, named, answer)

    def _put_before(
        self,
        name: str,
        named: Callable[[Call], str],
        answer: Callable[[Call, Entry], bytes | memoryview] | None,
    ) -> None:
        """Ask here first; `named` reads the CID of a call, `answer` is for its owner."""
        otherwise = self._node.methods[name]

        async def method(call: Call):
            try:
                cid = check_cid(named(call))
            except (ValueError, KeyError, TypeError):
                return await otherwise(call)
            known = lambda: self._journal.has_product(call.peer, cid)
            if not await trio.to_thread.run_sync(known):
                return await otherwise(call)
            return b"1" if answer is None else answer(call, await self._entry(cid))

        self._node.methods.add(name, method)

    async def _entry(self, cid: str) -> Entry:
        async with self._loading:
            entry = self._loaded.get(cid)
            if entry is None:
                array = await trio.to_thread.run_sync(self._journal.tensors.load, cid)
                manifest = await trio.to_thread.run_sync(describe, array)
                self._loaded[cid] = entry = Entry(manifest, array, pinned=False)
            self._loaded.move_to_end(cid)
            while len(self._loaded) > _LOADED:
                self._loaded.popitem(last=False)
            return entry

    def _manifest(self, _: Call, entry: Entry) -> bytes:
        return entry.manifest.raw

    def _range(self, call: Call, entry: Entry) -> memoryview:
        request = parse(wire.Range, call.meta)
        end, most = request.offset + request.length, entry.manifest.nbytes
        if not 0 < request.length <= LARGEST_RANGE or request.offset % CHUNK or end > most:
            raise MessageError(
                f"the method `range` needs an offset of a multiple of {CHUNK}, at most "
                f"{LARGEST_RANGE} bytes, and an end within {most}. Got {request.length} at "
                f"{request.offset}. Read the manifest."
            )
        self._node.count_served(call.peer, request.length)
        return entry.bytes[request.offset : end]
