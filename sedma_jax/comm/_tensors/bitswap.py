"""Exchange blocks with peers of any make: Bitswap 1.2 (and 1.1) of the IPFS specifications.

A chunk of a tensor is a block, and so is its manifest: CIDv1, codec raw, SHA2-256. Whoever
speaks Bitswap fetches the manifest by the CID of the tensor and each chunk by its digest.
The library's client is not used: see `docs/decisions.md`. Of it stay messages and CIDs.

Answers travel on a stream of our own, where other makes look for them. A want is answered
now or not at all: one for a block that comes later is not remembered.
"""

import hashlib
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import trio

from .._libp2p.byte_stream import ByteStream, PeerStream
from .._libp2p.library import BitswapMessage, PeerID, TProtocol, parse_cid
from .._rpc.messages import MessageError, parse
from .fetch import FetchError

log = logging.getLogger("sedma_jax.comm")

PROTOCOLS = [TProtocol(f"/ipfs/bitswap/1.{minor}.0") for minor in (2, 1)]
RAW = b"\x01\x55\x12\x20"  # CID version 1, codec raw, SHA2-256, 32 bytes
LARGEST_BLOCK = 2**21  # what the specification asks for
LARGEST_WANTS = 2**18  # bytes of a message from a peer that owes no block
LARGEST_MESSAGE = 2**22
MOST_WANTS = 1024  # of a peer, that wait for an answer; kubo ignores the rest too
BATCH = 2**19  # bytes of blocks in one answer
AT_ONCE = 16  # blocks owed by a peer
STREAMS = 4  # from one peer at once
PATIENCE = 20.0  # seconds for one message
IDLE = 120.0  # seconds until a stream that says nothing is closed
_HAVE, _DONT_HAVE = 0, 1  # of a presence
_WANT_HAVE = 1
_NETWORK = (EOFError, OSError, RuntimeError, ValueError, trio.TooSlowError)


@dataclass(eq=False)
class _Want:
    """A block that a peer was asked for."""

    answered: trio.Event = field(default_factory=trio.Event)
    block: bytes | None = None


@dataclass(eq=False)
class _Way:
    """The stream that messages to a peer travel on, one at a time, and what it wants."""

    lock: trio.Lock = field(default_factory=trio.Lock)
    stream: PeerStream | None = None
    owed: dict[bytes, Any] = field(default_factory=dict)
    answering: bool = False


class Bitswap:
    """Blocks for other peers, and from them.

    **Arguments:**

    - `host`: of libp2p.
    - `nursery`: where answers are read until the node ends.
    - `find`: the block of a SHA2-256 digest, or None.
    - `served`: told of a peer and the bytes that it was sent.
    """

    def __init__(
        self,
        host,
        nursery: trio.Nursery,
        find: Callable[[bytes], memoryview | None],
        served: Callable[[str, int], None],
    ):
        self._host, self._nursery = host, nursery
        self._find, self._served = find, served
        self._wants: dict[tuple[str, bytes], list[_Want]] = {}
        self._ways: dict[str, _Way] = {}
        self._streams: Counter[str] = Counter()

    async def serve(self, stream: ByteStream, peer: str) -> None:
        """Take messages from a stream until it ends; any error is for the caller."""
        if self._streams[peer] >= STREAMS:
            raise MessageError(
                f"a peer has at most {STREAMS} streams of Bitswap. Got one more. Send on "
                "one that is open."
            )
        self._streams[peer] += 1
        try:
            await self._read(stream, peer)
        finally:
            self._streams[peer] -= 1
            if not self._streams[peer]:
                del self._streams[peer]

    async def fetch(
        self, peer: str, cids: Sequence[str], timeout: float = PATIENCE
    ) -> list[bytes]:
        """Blocks from a connected peer, verified, in the order of their CIDs.

        **Arguments:**

        - `cids`: version 1, SHA2-256, of any codec.
        - `timeout`: seconds without any of them.

        **Raises:** `FetchError` for a peer that has not all of them or does not answer,
        `ValueError` for another kind of CID.
        """
        names = [block_cid(text) for text in cids]
        blocks: dict[bytes, bytes] = {}
        for at in range(0, len(names), AT_ONCE):
            blocks |= await self._fetch(peer, names[at : at + AT_ONCE], timeout)
        return [blocks[name] for name in names]

    async def _fetch(self, peer, names, timeout):
        wants = {name: _Want() for name in names}
        for name, want in wants.items():
            self._wants.setdefault((peer, name), []).append(want)
        try:
            await self._send(peer, _wantlist(wants))
            for want in wants.values():
                with trio.fail_after(timeout):
                    await want.answered.wait()
            missing = sum(want.block is None for want in wants.values())
            if missing:
                raise LookupError(f"{missing} that it does not have")
        except (*_NETWORK, LookupError) as error:
            raise FetchError(
                f"needs {len(names)} blocks of {peer}. Got "
                f"{error or type(error).__name__}. Ask another peer."
            ) from error
        finally:
            for name, want in wants.items():
                waiting = self._wants[peer, name]
                waiting.remove(want)
                if not waiting:
                    del self._wants[peer, name]
            # What came too: Helia sends no block again that was not cancelled since.
            with trio.CancelScope(shield=True), trio.move_on_after(1):  # pyright: ignore[reportCallIssue]
                await self._cancel(peer, [n for n in wants if (peer, n) not in self._wants])
        return {name: want.block for name, want in wants.items()}

    async def _cancel(self, peer, wants):
        try:
            await self._send(peer, _wantlist(wants, cancel=True))
        except _NETWORK as error:
            log.info("wants of %s not cancelled: %s", peer, error)

    async def _read(self, stream, peer):
        while True:
            with trio.fail_after(IDLE):
                first = await _fill(stream, 1)
            with trio.fail_after(PATIENCE):
                owes = any(name == peer for name, _ in self._wants)
                length = await _length(
                    stream, first[0], LARGEST_MESSAGE if owes else LARGEST_WANTS
                )
                message = parse(BitswapMessage, await _fill(stream, length))
            for block in message.payload:
                self._take(peer, block.prefix, block.data)
            for presence in message.blockPresences:
                if presence.type == _DONT_HAVE:
                    self._settle(peer, presence.cid, None)
            self._owe(peer, message.wantlist.entries)

    def _take(self, peer, prefix, block):
        """Take a block in if it was asked of this peer: its digest is made here."""
        if prefix[-2:] == RAW[-2:] and len(block) <= LARGEST_BLOCK:
            self._settle(peer, prefix + hashlib.sha256(block).digest(), block)

    def _settle(self, peer, cid, block):
        for want in self._wants.get((peer, bytes(cid)), []):
            if not want.answered.is_set():
                want.block = block
                want.answered.set()

    def _owe(self, peer, entries):
        if not entries:
            return
        way = self._way(peer)
        for entry in entries:
            if entry.cancel:
                way.owed.pop(entry.block, None)
            elif len(way.owed) < MOST_WANTS and len(entry.block) < 100:
                way.owed[entry.block] = entry
        # Not here: two peers that both write to each other must both read as well.
        if way.owed and not way.answering:
            way.answering = True
            self._nursery.start_soon(self._pay, peer, way)

    async def _pay(self, peer, way):
        """Answer a peer until nothing is owed, or it does not take it."""
        try:
            while way.owed:
                answer = self._answer(peer, way.owed)
                if answer.payload or answer.blockPresences:
                    await self._send(peer, answer)
        except _NETWORK as error:
            log.info("no answers to %s: %s", peer, error or type(error).__name__)
        finally:
            way.owed.clear()
            way.answering = False

    def _answer(self, peer, owed):
        """As many answers as fit one message; they are owed no longer."""
        answer, size = BitswapMessage(), 0
        while owed and size < BATCH:
            entry = owed.pop(next(iter(owed)))
            raw = entry.block[:4] == RAW and len(entry.block) == 36
            block = self._find(entry.block[4:]) if raw else None
            if block is None or len(block) > LARGEST_BLOCK:
                if entry.sendDontHave:
                    answer.blockPresences.add(cid=entry.block, type=_DONT_HAVE)
            elif entry.wantType == _WANT_HAVE:
                answer.blockPresences.add(cid=entry.block, type=_HAVE)
            else:
                answer.payload.add(prefix=RAW, data=bytes(block))
                size += len(block)
                self._served(peer, len(block))
        return answer

    def _way(self, peer):
        if peer not in self._ways:
            connected = {str(p) for p in self._host.get_network().connections}
            self._ways = {p: w for p, w in self._ways.items() if p in connected}
        return self._ways.setdefault(peer, _Way())

    async def _send(self, peer, message):
        data = message.SerializeToString()
        way = self._way(peer)
        with trio.fail_after(PATIENCE):
            async with way.lock:
                if way.stream is None or not way.stream.writable:
                    way.stream = await self._open(peer)
                try:
                    await way.stream.write(_varint(len(data)) + data)
                except BaseException as error:
                    # Half a message would make nonsense of the next.
                    stream, way.stream = way.stream, None
                    with trio.CancelScope(shield=True), trio.move_on_after(1):  # pyright: ignore[reportCallIssue]
                        await stream.reset()
                    if not isinstance(error, Exception):
                        raise
                    # The library's errors have no common base.
                    text = str(error) or type(error).__name__
                    raise ConnectionError(f"the stream ended ({text})") from error

    async def _open(self, peer):
        try:
            opened = await self._host.new_stream(PeerID.from_string(peer), PROTOCOLS)
        except Exception as error:  # the library's errors have no common base
            raise ConnectionError(f"no stream of Bitswap ({error})") from error
        stream = PeerStream(opened)
        self._nursery.start_soon(self._listen, stream, peer)
        return stream

    async def _listen(self, stream, peer):
        """Read what comes back on our own stream: py-libp2p answers there."""
        try:
            await self._read(stream, peer)
        except trio.Cancelled:
            raise
        # Helia ends its side at once, and reads on.
        except Exception as error:
            log.info("no answers of %s on our stream: %s", peer, error)


def block_cid(text: str) -> bytes:
    """The bytes of the CID of a block; `ValueError` for a kind that is not fetched."""
    try:
        cid = parse_cid(text).buffer
        if len(text) < 100 and cid[0] == 1 and cid[-34:-32] == RAW[-2:]:
            return cid
    except (ValueError, KeyError, TypeError, IndexError):
        pass
    raise ValueError(
        "needs the CID of a block: version 1, SHA2-256 (bafkrei..., bafybei...). Got "
        f"{text[:80]!r}. Convert it, as `ipfs cid format -v 1` does."
    )


def _wantlist(cids, cancel=False):
    message = BitswapMessage()
    for cid in cids:
        message.wantlist.entries.add(
            block=cid, priority=1, cancel=cancel, sendDontHave=not cancel
        )
    return message


async def _fill(stream, length):
    data = bytearray(length)
    await stream.fill(memoryview(data))
    return data


async def _length(stream, byte, largest):
    """The length that starts with `byte`, as a varint of at most 4 bytes."""
    length = byte & 0x7F
    for shift in (7, 14, 21):
        if byte < 0x80:
            break
        byte = (await _fill(stream, 1))[0]
        length |= (byte & 0x7F) << shift
    if byte >= 0x80 or not 0 < length <= largest:
        raise MessageError(
            f"a message of Bitswap has 1 to {largest} bytes here. Got {length} or more. "
            "Send less at once."
        )
    return length


def _varint(number):
    data = bytearray()
    while number >= 0x80:
        data.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*data, number])
