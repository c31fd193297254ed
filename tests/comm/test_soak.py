"""Long runs: the muxer under everything at once, and memory under attack."""

import numpy as np
import pytest
import trio
from comm_nodes import nodes, wait_until

from bench.comm.flood import peaks
from sedma_jax.comm._libp2p.library import PeerID
from sedma_jax.comm._libp2p.muxer import GROWTH_BUDGET, MOST_STREAMS
from sedma_jax.comm._libp2p.yamux_frames import FIRST_WINDOW
from sedma_jax.comm._rpc.calls import PROTOCOL, STREAMS

pytestmark = pytest.mark.slow


def muxed(node, other):
    found = node.node.host.get_network().get_connections
    (connection,) = found(PeerID.from_string(other.name))
    return connection.muxed_conn


def test_thousands_of_calls_leave_the_connection_as_it_was():
    rng = np.random.default_rng(11)
    data = rng.bytes(2**20)
    with nodes(2) as (server, client):

        async def mirror(call):
            while (piece := await call.receive()) is not None:
                await call.send(piece)

        server.node.methods.add("mirror", mirror)
        calls, peer = client.node.calls, server.name
        before = muxed(client, server), muxed(server, client)
        done = {"echo": 0, "mirror": 0, "left": 0, "garbage": 0}

        def some(most):
            start = int(rng.integers(0, len(data) - most))
            return data[start : start + int(rng.integers(0, most))]

        async def echo():
            sent = some(300_000)
            assert bytes(await calls.call(peer, "echo", sent, timeout=120)) == sent

        async def mirrored():
            async with calls.open(peer, "mirror", timeout=120) as call:
                for _ in range(int(rng.integers(1, 6))):
                    sent = some(100_000) + b"."
                    await call.send(sent)
                    assert bytes(await call.receive()) == sent
                await call.finish()
                assert await call.receive() is None

        async def left():
            with trio.move_on_after(float(rng.uniform(0, 0.02))):
                async with calls.open(peer, "mirror", timeout=120) as call:
                    while True:
                        await call.send(some(100_000) + b".")
                        await call.receive()

        async def garbage():
            name = PeerID.from_string(peer)
            stream = await client.node.host.new_stream(name, [PROTOCOL])
            await stream.write(b"\xff" * int(rng.integers(1, 5000)))
            await stream.reset()

        kinds = {"echo": echo, "mirror": mirrored, "left": left, "garbage": garbage}

        async def worker():
            for _ in range(250):
                kind = str(rng.choice(list(kinds), p=[0.5, 0.3, 0.15, 0.05]))
                await kinds[kind]()
                done[kind] += 1

        async def soak():
            async with trio.open_nursery() as nursery:
                for _ in range(12):
                    nursery.start_soon(worker)

        client.call(soak, timeout=500)
        assert sum(done.values()) == 3000 and min(done.values()) > 50
        assert (muxed(client, server), muxed(server, client)) == before

        def settled(connection):
            # Left are streams that wait for the next call, and their windows alone.
            streams = list(connection._streams.values())
            grown = sum(stream.window - FIRST_WINDOW for stream in streams)
            return (
                len(streams) <= 2 * STREAMS
                and connection._growth + grown == GROWTH_BUDGET
                and not any(stream._unread_bytes for stream in streams)
            )

        assert wait_until(lambda: all(map(settled, before)), 30)


def test_memory_under_attack_is_bounded():
    found = peaks("own")
    # 64 streams of 256 KiB may wait unread; a slow reader's answers wait at their source.
    unread = MOST_STREAMS * FIRST_WINDOW / 1e6
    assert found["flood"] < 4 * unread
    assert found["garbage"] < 4 * unread
    assert found["slow readers"] < GROWTH_BUDGET / 1e6 + 4 * unread
