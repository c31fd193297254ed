"""Blocks by Bitswap: between our nodes, with the library's client, and with nonsense."""

import hashlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import trio
from comm_nodes import nodes, wait_until
from libp2p.bitswap import BitswapClient
from libp2p.bitswap.pb.bitswap_pb2 import Message
from libp2p.network.stream.exceptions import StreamError

from sedma_jax import comm
from sedma_jax.comm._libp2p.library import PeerID, cid_to_text, compute_cid_v1
from sedma_jax.comm._tensors.bitswap import (
    MOST_WANTS,
    PROTOCOLS,
    RAW,
    _varint,
    _Want,
    _wantlist,
)
from sedma_jax.comm._tensors.manifest import CHUNK, describe, read_manifest

ARRAY = np.random.default_rng(8).integers(0, 255, 10 * CHUNK + 1000, np.uint8)


def cid_of(block):
    return cid_to_text(compute_cid_v1(bytes(block)))


@pytest.fixture(scope="module")
def pair():
    with nodes(2) as opened:
        yield opened


def test_a_tensor_travels_as_a_manifest_and_blocks(pair):
    a, b = pair
    cid = a.put(ARRAY)
    manifest = read_manifest(b.get_block(cid, timeout=20))
    assert manifest.cid == cid
    digests = manifest.digests(0, manifest.nbytes)
    cids = [cid_to_text(RAW + digest) for digest in digests]
    blocks = b.call(b.node.bitswap.fetch, a.name, cids)
    np.testing.assert_array_equal(np.frombuffer(b"".join(blocks), np.uint8), ARRAY)
    assert a.status()["served_bytes"] >= len(ARRAY)
    assert (
        b.get_block(cids[3], a.name, timeout=20) == ARRAY[3 * CHUNK : 4 * CHUNK].tobytes()
    )


def test_both_fetch_from_each_other_at_once(pair):
    a, b = pair
    arrays = [np.random.default_rng(i).integers(0, 255, 2**23, np.uint8) for i in (1, 2)]
    cids = []
    for node, array in zip(pair, arrays, strict=True):
        node.put(array)
        cids.append([cid_of(array[i : i + CHUNK]) for i in range(0, 2**23, CHUNK)])

    with ThreadPoolExecutor(2) as pool:
        by_a = pool.submit(a.call, a.node.bitswap.fetch, b.name, cids[1])
        by_b = pool.submit(b.call, b.node.bitswap.fetch, a.name, cids[0])
        assert b"".join(by_a.result()) == arrays[1].tobytes()
        assert b"".join(by_b.result()) == arrays[0].tobytes()


def test_a_block_that_nobody_has_or_of_another_kind(pair):
    with pytest.raises(comm.FetchError, match="does not have"):
        pair[1].get_block(cid_of(b"nobody has this"), timeout=20)
    for text in ("QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWKPbdG", "x", "bafk" * 40):
        with pytest.raises(ValueError, match="version 1, SHA2-256"):
            pair[1].get_block(text)


def test_an_evicted_tensor_leaves_its_shared_chunks_to_the_other():
    shared = np.zeros(2 * CHUNK, np.uint8)
    with nodes(1, capacity=5 * CHUNK) as (node,):
        first = np.concatenate([shared, np.ones(CHUNK, np.uint8)])
        store = node.node.store
        cid = node.put(shared)
        node.put(first)
        last = hashlib.sha256(first[-CHUNK:]).digest()
        assert store.locate(last) == (describe(first).cid, 2)
        store.unpin(describe(first).cid)
        node.put(np.full(2 * CHUNK, 7, np.uint8))  # evicts `first`
        assert store.evictions == 1
        assert store.locate(last) is None
        zeros = hashlib.sha256(shared[:CHUNK]).digest()
        assert bytes(node.call(node.node.tiers.block, zeros)) == bytes(CHUNK)
        assert node.get_block(cid) == store.peek(cid).manifest.raw


def test_blocks_that_were_not_asked_for_or_are_others_are_dropped(pair):
    a, b = pair
    name, block = b.name, b"unsolicited"
    bitswap = a.node.bitswap
    prefix, cid = RAW, compute_cid_v1(block)

    async def push():
        bitswap._take(name, prefix, block)
        assert not bitswap._wants
        want = _Want()
        bitswap._wants[name, cid] = [want]
        bitswap._take(name, prefix, b"another block")
        bitswap._take("another peer", prefix, block)
        bitswap._take(name, prefix[:3], block)
        assert not want.answered.is_set()
        bitswap._take(name, prefix, block)
        assert want.block == block
        del bitswap._wants[name, cid]

    a.call(push)


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xff\xff\xff\x7f",  # 32 GiB
        b"\x80\x80\x40",  # a MiB from a peer that owes nothing
        b"\x00",
        b"\x05nonse",
        b"\x02\xff\xff",
    ],
)
def test_nonsense_ends_its_stream_and_nothing_else(pair, data):
    a, b = pair
    cid = a.put(ARRAY[:1000])

    async def send():
        peer = PeerID.from_string(a.name)
        stream = await b.node.host.new_stream(peer, PROTOCOLS)
        await stream.write(data)
        with trio.fail_after(20), pytest.raises(StreamError):
            while await stream.read(1):
                pass

    b.call(send)
    assert b.get_block(cid, timeout=20)


def test_wants_of_one_peer_are_bounded(pair):
    a, b = pair
    bitswap = a.node.bitswap
    digests = [hashlib.sha256(bytes([i % 256, i // 256])).digest() for i in range(3000)]
    entries = [Message.Wantlist.Entry(block=RAW + digest) for digest in digests]

    async def flood():
        outbox = bitswap._outbox(b.name)
        outbox.answering = True  # nobody pays
        bitswap._owe(b.name, entries)
        owed = len(outbox.owed)
        entries[0].cancel = True
        bitswap._owe(b.name, entries[:1])
        left = len(outbox.owed)
        outbox.owed.clear()
        outbox.answering = False
        return owed, left

    assert a.call(flood) == (MOST_WANTS, MOST_WANTS - 1)


def test_a_peer_that_resets_every_answer_harms_nobody():
    with nodes(2) as (a, b):
        cid = a.put(ARRAY)
        chunks = [ARRAY[i : i + CHUNK] for i in range(0, len(ARRAY), CHUNK)]
        message = _wantlist([compute_cid_v1(chunk.tobytes()) for chunk in chunks])
        data = message.SerializeToString()
        resets = []

        async def reset(stream):
            await stream.read(1000)  # of 512 KiB: the rest waits for room
            resets.append(stream)
            await stream.reset()

        async def want():
            b.node.host.set_stream_handler(PROTOCOLS[0], reset)
            peer = PeerID.from_string(a.name)
            for _ in range(3):
                stream = await b.node.host.new_stream(peer, PROTOCOLS)
                await stream.write(_varint(len(data)) + data)

        b.call(want)
        assert wait_until(lambda: resets)
        assert wait_until(lambda: not a.node.bitswap._outboxes[b.name].answering)
        np.testing.assert_array_equal(b.get(cid, timeout=20), ARRAY)


def test_the_librarys_client_gets_our_block():
    block = ARRAY[:5000].tobytes()

    async def get(host, name):
        async with trio.open_nursery() as nursery:
            client = BitswapClient(host)  # takes over the protocol of its host
            client.set_nursery(nursery)
            await client.start()
            got = await client.new_session().get_block(
                compute_cid_v1(block), peer_id=PeerID.from_string(name), timeout=20
            )
            await client.stop()
            nursery.cancel_scope.cancel()
        return got

    with nodes(2) as (a, b):
        a.put(ARRAY[:5000])
        assert b.call(get, b.node.host, a.name) == block
