"""What strangers announce, send and ask to keep takes bounded memory."""

import subprocess
import sys
from contextlib import contextmanager

import numpy as np
import psutil
import pytest
import trio
from comm_nodes import EVERYONE, nodes, wait_until

from sedma_jax import comm
from sedma_jax.comm._libp2p import muxer
from sedma_jax.comm._libp2p.library import PeerID, parse_cid
from sedma_jax.comm._rpc import body_memory, wire_pb2 as wire
from sedma_jax.comm._rpc.calls import PROTOCOL
from sedma_jax.comm._rpc.messages import PREFIX, prefix_and_header

NODE = """
import sys
from pathlib import Path
from sedma_jax import comm
settings = comm.NodeSettings(allowed=frozenset({comm.EVERYONE}), capacity=64 * 2**20)
with comm.open_node(settings) as node:
    print(node.addresses[0], flush=True)
    for line in sys.stdin:
        print(len(node.status()["connected"]), flush=True)
"""


@contextmanager
def victim():
    """An open node in a process of its own; its address and memory."""
    process = subprocess.Popen(
        [sys.executable, "-c", NODE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process.stdout.readline().strip(), psutil.Process(process.pid)
    finally:
        process.kill()
        process.communicate()


def resident(process):
    return process.memory_info().rss / 2**20


async def announce(node, peer, streams, length, method="echo", sent=0):
    """Open streams that announce a body, and send only a part of it."""
    kept = []
    for _ in range(streams):
        try:
            stream = await node.node.host.new_stream(PeerID.from_string(peer), [PROTOCOL])
        except Exception:
            break  # cut off
        head = prefix_and_header(wire.Header(method=method, deadline_ms=600_000), length)
        try:
            with trio.move_on_after(2):
                await stream.muxed_stream.write(head + bytes(sent))
        except Exception:
            pass  # refused
        kept.append(stream)
    return kept


def strangers(stack_of, address, count):
    from contextlib import ExitStack

    stack = stack_of.enter_context(ExitStack())
    opened = [stack.enter_context(comm.open_node(allowed=EVERYONE)) for _ in range(count)]
    for each in opened:
        each.connect(address)
    return opened


def flood(count, sent):
    """Memory that a node takes for what `count` strangers announce, in MiB."""
    from contextlib import ExitStack

    with ExitStack() as stack, victim() as (address, process):
        peer = address.rpartition("/")[2]
        before = resident(process)
        kept = [
            each.call(announce, each, peer, 8, 15 * 2**20, "echo", sent)
            for each in strangers(stack, address, count)
        ]
        trio.run(trio.sleep, 2)
        with comm.open_node(allowed=EVERYONE) as honest:
            honest.connect(address)

            async def echo(data):
                return await honest.node.calls.call(peer, "echo", data, timeout=30)

            assert bytes(honest.call(echo, b"x" * 10**6)) == b"x" * 10**6
        grown = resident(process) - before
        assert kept
        return grown


def test_bodies_that_are_only_announced_take_no_memory():
    assert flood(4, 0) < 100  # 4 x 60 MiB were taken before; a connection takes some


@pytest.mark.slow
@pytest.mark.parametrize("sent", [0, 2**20])
def test_64_strangers_that_announce_bodies(sent):
    # The honest one needs a place too.
    assert flood(60, sent) < body_memory.BUDGET_IN_ALL / 2**20 + 250


def test_a_body_that_stalls_gives_way_to_others(monkeypatch):
    monkeypatch.setattr(body_memory, "BUDGET_IN_ALL", 4 * 2**20)
    with nodes(3) as (node, stalling, honest):
        stalling.call(announce, stalling, node.name, 3, 3 * 2**20, "echo", 2**20)

        async def echo(data):
            return await honest.node.calls.call(node.name, "echo", data, timeout=20)

        for _ in range(3):
            data = np.random.default_rng(0).bytes(3 * 2**20)
            assert bytes(honest.call(echo, data)) == data


def test_streams_that_nobody_reads_are_bounded_for_all_peers_together(monkeypatch):
    monkeypatch.setattr(muxer, "MOST_UNREAD", 2**21)
    with nodes(3) as (node, flooding, honest):

        async def never_read(call):
            await trio.sleep_forever()

        node.node.methods.add("stall", never_read)
        flooding.call(announce, flooding, node.name, 12, 0, "stall", 250_000)
        assert wait_until(lambda: node.status()["connected"] == [honest.name])
        assert wait_until(lambda: muxer._all.unread <= 2**21)

        async def echo():
            return await honest.node.calls.call(node.name, "echo", bytes(10**6))

        assert len(honest.call(echo)) == 10**6


def test_a_body_beyond_what_its_method_reads_is_refused():
    with nodes(2) as (node, other):
        for method in ("has", "manifest", "range", "keep", "reach"):

            async def ask(method=method):
                await other.node.calls.call(node.name, method, bytes(2**16), timeout=10)

            with pytest.raises(ConnectionError):  # cut off, not read
                other.call(ask, timeout=20)
        assert wait_until(lambda: other.status()["connected"])


def test_an_answer_beyond_what_was_asked_for_is_refused():
    with nodes(2) as (liar, node):

        async def huge(call):
            head = (
                PREFIX.pack(1, 0, 2, 2**30)
                + wire.Header(kind=wire.Header.RESPONSE).SerializeToString()
            )
            await call.stream.write(head)
            await trio.sleep_forever()

        cid = "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"
        for method in ("has", "manifest", "status"):
            liar.node.methods.add(method, huge)
        process, found = psutil.Process(), []
        before = process.memory_info().rss

        async def watched():
            with trio.move_on_after(4):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(_ask_all, node, liar.name, cid)
                    while True:
                        await trio.sleep(0.1)
                        found.append(process.memory_info().rss - before)

        node.call(watched)
        assert max(found) < 200 * 2**20


async def _ask_all(node, peer, cid):
    """Ask for a tensor again and again, whatever comes."""
    while True:
        try:
            await node.node.get(cid)
        except comm.FetchError:
            await trio.sleep(0.1)


def test_what_is_known_of_peers_that_left_is_forgotten():
    with nodes(1) as (node,):
        for _ in range(5):
            with comm.open_node(allowed=EVERYONE) as other:
                name = other.name
                other.connect(*node.addresses)

                async def echo(other=other):
                    await other.node.calls.call(node.name, "echo", b"1")

                other.call(echo)

        def forgotten():
            held = node.node.methods._memory._used, node.node.calls._slots
            return not any(name in known for known in held)

        assert wait_until(forgotten, 30)


async def keep(node, peer, cid, holders=()):
    request = wire.Keep(cid=parse_cid(cid).buffer, holders=holders, wanted=1)
    return await node.node.calls.call(peer, "keep", request.SerializeToString(), timeout=60)


def pinned_by(stranger, node, seeds, size):
    """How many tensors of a stranger a node has agreed to keep."""
    kept = 0
    for seed in seeds:
        cid = stranger.put(np.random.default_rng(seed).integers(0, 255, size, np.uint8))
        try:
            stranger.call(keep, stranger, node.name, cid)
            kept += 1
        except comm.RemoteError as error:
            assert "needs" in str(error)
    return kept


def test_strangers_cannot_fill_a_node_and_the_owner_always_has_room():
    size = 2**20
    with nodes(4, capacity=16 * size) as (node, *others):
        agreed = [
            pinned_by(stranger, node, range(100 * i, 100 * i + 8), size)
            for i, stranger in enumerate(others)
        ]
        # A quarter each, of a share of a half for all: the third's displaced others'.
        assert max(agreed) <= 4
        assert node.status()["pinned_bytes"] <= 8 * size
        for seed in range(15):
            node.put(np.random.default_rng(10_000 + seed).integers(0, 255, size, np.uint8))
        assert node.status()["pinned_bytes"] <= 16 * size


def test_of_what_strangers_pinned_the_least_useful_goes():
    size = 2**20
    with nodes(4, capacity=8 * size) as (node, *others):
        first = [
            others[0].put(np.random.default_rng(s).integers(0, 255, size, np.uint8))
            for s in range(2)
        ]
        for cid in first:
            others[0].call(keep, others[0], node.name, cid)
        for _ in range(5):  # the second of them is wanted
            others[1].get(first[1])
            others[1].node.store.drop(first[1])
        for i, stranger in enumerate(others[1:]):
            pinned_by(stranger, node, range(50 * i + 10, 50 * i + 12), size)
        held = {cid for cid, _ in node.node.store}
        assert first[1] in held and first[0] not in held


def test_a_peer_that_is_named_may_fill_the_capacity(tmp_path):
    size = 2**20
    key = tmp_path / "key"
    with (
        comm.open_node(key=key, allowed=EVERYONE) as friend,
        comm.open_node(allowed=EVERYONE | {comm.key_id(key)}, capacity=16 * size) as node,
    ):
        friend.connect(*node.addresses)
        assert pinned_by(friend, node, range(15), size) == 15


def test_names_of_holders_are_bounded():
    with nodes(2, capacity=2**24) as (node, stranger):
        cid = stranger.put(np.arange(1000))
        with pytest.raises(comm.RemoteError, match="needs"):
            stranger.call(keep, stranger, node.name, cid, ["x" * 1000] * 3)
