"""Exchange blocks with peers of any implementation: Bitswap 1.2 and 1.1, as IPFS specifies.

A chunk of a tensor is a block, and so is its manifest: CIDv1, codec raw, SHA2-256. Any peer
that speaks Bitswap can fetch the manifest by the CID of the tensor and each chunk by its
digest. The library's messages and CIDs are used, but not its client; `docs/decisions.md`
says why.

Answers travel on a stream that this node opens, where other implementations expect them. A
want is answered at once or never: one for a block that comes later is not remembered.
"""

import hashlib
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import trio

from .._errors import reason
from .._libp2p.byte_stream import ByteStream, PeerStream
from .._libp2p.library import BitswapMessage, PeerID, TProtocol, parse_cid
from .._rpc.messages import MessageError, parse
from .fetch import FetchError

log = logging.getLogger("sedma_jax.comm")

PROTOCOLS = [TProtocol(f"/ipfs/bitswap/1.{minor}.0") for minor in (2, 1)]
RAW = b"\x01\x55\x12\x20"  # CID version 1, codec raw, SHA2-256, 32 bytes
LARGEST_BLOCK = 2**21  # bytes, as specified
LARGEST_WANTS = 2**18  # bytes of a message of a peer that owes no block
LARGEST_MESSAGE = 2**22
MOST_WANTS = 1024  # unanswered, per peer; kubo ignores the rest too
BATCH = 2**19  # bytes of blocks in one answer
AT_ONCE = 16  # blocks owed by a peer
STREAMS = 4  # opened by one peer at once
PATIENCE = 20.0  # seconds for one message
IDLE = 120.0  # seconds without a message until a stream is closed
_HAVE, _DONT_HAVE = 0, 1  # types of a block presence
_WANT_HAVE = 1
_NETWORK = (EOFError, OSError, RuntimeError, ValueError, trio.TooSlowError)


@dataclass(eq=False)
class _Want:
    """A block that a peer was asked for."""

    answered: trio.Event = field(default_factory=trio.Event)
    block: bytes | None = None


@dataclass(eq=False)
class _Outbox:
    """The stream to one peer, used by one message at a time, and the blocks owed to it."""

    lock: trio.Lock = field(default_factory=trio.Lock)
    stream: PeerStream | None = None
    owed: dict[bytes, Any] = field(default_factory=dict)
    answering: bool = False


class Bitswap:
    """Send blocks to other peers, and fetch blocks from them.

    **Arguments:**

    - `host`: of libp2p.
    - `nursery`: runs the tasks that read answers until the node ends.
    - `find`: returns the block of a SHA2-256 digest, or None.
    - `served`: called with a peer and the number of bytes that it was sent.
    """

    def __init__(
        self,
        host: Any,
        nursery: trio.Nursery,
        find: Callable[[bytes], Awaitable[memoryview | None]],
        served: Callable[[str, int], None],
    ):
        self._host, self._nursery = host, nursery
        self._find, self._served = find, served
        self._wants: dict[tuple[str, bytes], list[_Want]] = {}
        self._outboxes: dict[str, _Outbox] = {}
        self._streams: Counter[str] = Counter()

    async def serve(self, stream: ByteStream, peer: str) -> None:
        """Read messages from a stream until it ends; the caller handles all errors."""
        if self._streams[peer] >= STREAMS:
            raise MessageError(
                f"Bitswap needs at most {STREAMS} streams per peer. Got one more. Send on "
                "an open one."
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
        """Fetch blocks from a connected peer, and verify them; in the order of `cids`.

        **Arguments:**

        - `cids`: version 1, SHA2-256, of any codec.
        - `timeout`: seconds to wait for the next block.

        **Raises:** `FetchError` if the peer lacks a block or does not answer, `ValueError`
        for another kind of CID.
        """
        names = [block_cid(text) for text in cids]
        blocks: dict[bytes, bytes] = {}
        for at in range(0, len(names), AT_ONCE):
            blocks |= await self._fetch(peer, names[at : at + AT_ONCE], timeout)
        return [blocks[name] for name in names]

    async def _fetch(
        self, peer: str, names: list[bytes], timeout: float
    ) -> dict[bytes, bytes]:
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
                raise LookupError(f"{missing} blocks that it does not have")
        except (*_NETWORK, LookupError) as error:
            raise FetchError(
                f"`Node.get_block` needs {len(names)} blocks of {peer}. Got "
                f"{reason(error)}. Ask another peer."
            ) from error
        finally:
            for name, want in wants.items():
                waiting = self._wants[peer, name]
                waiting.remove(want)
                if not waiting:
                    del self._wants[peer, name]
            # Received blocks too: Helia sends a block again only after a cancellation.
            with trio.CancelScope(shield=True), trio.move_on_after(1):  # pyright: ignore[reportCallIssue]
                await self._cancel(peer, [n for n in wants if (peer, n) not in self._wants])
        return {name: want.block for name, want in wants.items() if want.block is not None}

    async def _cancel(self, peer: str, wants: Iterable[bytes]) -> None:
        try:
            await self._send(peer, _wantlist(wants, cancel=True))
        except _NETWORK as error:
            log.info("wants of %s not cancelled: %s", peer, error)

    async def _read(self, stream: ByteStream, peer: str) -> None:
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

    def _take(self, peer: str, prefix: bytes, block: bytes) -> None:
        """Accept a block that this peer was asked for; the digest is computed here."""
        if prefix[-2:] == RAW[-2:] and len(block) <= LARGEST_BLOCK:
            self._settle(peer, prefix + hashlib.sha256(block).digest(), block)

    def _settle(self, peer: str, cid: bytes, block: bytes | None) -> None:
        for want in self._wants.get((peer, bytes(cid)), []):
            if not want.answered.is_set():
                want.block = block
                want.answered.set()

    def _owe(self, peer: str, entries: Sequence[Any]) -> None:
        if not entries:
            return
        outbox = self._outbox(peer)
        for entry in entries:
            if entry.cancel:
                outbox.owed.pop(entry.block, None)
            elif len(outbox.owed) < MOST_WANTS and len(entry.block) < 100:
                outbox.owed[entry.block] = entry
        # In a task: two peers that write to each other must both go on reading.
        if outbox.owed and not outbox.answering:
            outbox.answering = True
            self._nursery.start_soon(self._pay, peer, outbox)

    async def _pay(self, peer: str, outbox: _Outbox) -> None:
        """Answer a peer until nothing is owed or sending fails."""
        try:
            while outbox.owed:
                answer = await self._answer(peer, outbox.owed)
                if answer.payload or answer.blockPresences:
                    await self._send(peer, answer)
        # In the nursery of the node, which any other error would end.
        except Exception as error:
            log.info("no answers to %s: %s", peer, reason(error))
        finally:
            outbox.owed.clear()
            outbox.answering = False

    async def _answer(self, peer: str, owed: dict[bytes, Any]) -> Any:
        """A message with as many answers as fit; they are removed from `owed`."""
        answer, size = BitswapMessage(), 0
        while owed and size < BATCH:
            entry = owed.pop(next(iter(owed)))
            raw = entry.block[:4] == RAW and len(entry.block) == 36
            block = await self._find(entry.block[4:]) if raw else None
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

    def _outbox(self, peer: str) -> _Outbox:
        if peer not in self._outboxes:
            connected = {str(p) for p in self._host.get_network().connections}
            self._outboxes = {p: o for p, o in self._outboxes.items() if p in connected}
        return self._outboxes.setdefault(peer, _Outbox())

    async def _send(self, peer: str, message: Any) -> None:
        data = message.SerializeToString()
        outbox = self._outbox(peer)
        with trio.fail_after(PATIENCE):
            async with outbox.lock:
                if outbox.stream is None or not outbox.stream.writable:
                    outbox.stream = await self._open(peer)
                try:
                    await outbox.stream.write(_varint(len(data)) + data)
                except BaseException as error:
                    # After half a message the next one could not be parsed.
                    stream, outbox.stream = outbox.stream, None
                    with trio.CancelScope(shield=True), trio.move_on_after(1):  # pyright: ignore[reportCallIssue]
                        await stream.reset()
                    if not isinstance(error, Exception):
                        raise
                    # The library's errors have no common base.
                    text = reason(error)
                    raise ConnectionError(f"the stream ended ({text})") from error

    async def _open(self, peer: str) -> PeerStream:
        try:
            opened = await self._host.new_stream(PeerID.from_string(peer), PROTOCOLS)
        except Exception as error:  # the library's errors have no common base
            raise ConnectionError(f"no stream of Bitswap ({error})") from error
        stream = PeerStream(opened)
        self._nursery.start_soon(self._listen, stream, peer)
        return stream

    async def _listen(self, stream: ByteStream, peer: str) -> None:
        """Read the stream that this node opened: py-libp2p answers there."""
        try:
            await self._read(stream, peer)
        except trio.Cancelled:
            raise
        # Helia closes its side at once, and goes on reading.
        except Exception as error:
            log.info("no answers of %s on our stream: %s", peer, error)


def block_cid(text: str) -> bytes:
    """The bytes of the CID of a block; `ValueError` for a kind that cannot be fetched."""
    try:
        cid = parse_cid(text).buffer
        if len(text) < 100 and cid[0] == 1 and cid[-34:-32] == RAW[-2:]:
            return cid
    except (ValueError, KeyError, TypeError, IndexError):
        pass
    raise ValueError(
        "`Node.get_block` needs the CID of a block, of version 1, SHA2-256 (bafkrei..., "
        f"bafybei...). Got {text[:80]!r}. Convert it, as `ipfs cid format -v 1` does."
    )


def _wantlist(cids: Iterable[bytes], cancel: bool = False) -> Any:
    message = BitswapMessage()
    for cid in cids:
        message.wantlist.entries.add(
            block=cid, priority=1, cancel=cancel, sendDontHave=not cancel
        )
    return message


async def _fill(stream: ByteStream, length: int) -> bytearray:
    data = bytearray(length)
    await stream.fill(memoryview(data))
    return data


async def _length(stream: ByteStream, byte: int, largest: int) -> int:
    """Read on the length that starts with `byte`, a varint of at most 4 bytes."""
    length = byte & 0x7F
    for shift in (7, 14, 21):
        if byte < 0x80:
            break
        byte = (await _fill(stream, 1))[0]
        length |= (byte & 0x7F) << shift
    if byte >= 0x80 or not 0 < length <= largest:
        raise MessageError(
            f"Bitswap needs messages of 1 to {largest} bytes here. Got {length} or more. "
            "Send less at once."
        )
    return length


def _varint(number: int) -> bytes:
    data = bytearray()
    while number >= 0x80:
        data.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*data, number])
