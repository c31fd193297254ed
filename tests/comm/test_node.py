"""Nodes on loopback, each in a thread of its own."""

import socket
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import trio
from comm_nodes import EVERYONE, nodes, wait_until

from sedma_jax import comm
from sedma_jax.comm._libp2p.library import LibraryYamux, PeerID, new_host
from sedma_jax.comm._libp2p.library_fixes import use_own_muxer
from sedma_jax.comm._libp2p.muxer import MuxedConnection
from sedma_jax.comm._libp2p.muxer_stream import FRAMES_AT_ONCE, LARGEST_BODY
from sedma_jax.comm._rpc.message_stream import INLINE

ARRAY = np.random.default_rng(3).normal(size=(700, 1000)).astype(np.float32)  # 2.8 MB


@pytest.fixture(scope="module")
def pair():
    with nodes(2) as opened:
        yield opened


def test_a_tensor_travels_and_is_aliased_into_jax(pair):
    a, b = pair
    cid = a.put(jnp.asarray(ARRAY))
    fetched = b.get_jax(cid, timeout=20)
    assert isinstance(fetched, jax.Array)
    np.testing.assert_array_equal(fetched, ARRAY)
    assert fetched.unsafe_buffer_pointer() == b.get(cid).ctypes.data
    with pytest.raises(ValueError, match="read-only"):
        b.get(cid)[0] = 0


def test_every_dtype_and_an_array_without_axes(pair):
    a, b = pair
    for array in (np.array(1.5), np.arange(7) > 3, np.arange(3, dtype=np.complex64)):
        fetched = b.get(a.put(array), timeout=20)
        assert fetched.dtype == array.dtype and fetched.shape == array.shape
        np.testing.assert_array_equal(fetched, array)


def test_bodies_that_end_at_and_around_a_frame_arrive(pair):
    a, b = pair

    async def echo(call):
        return call.body

    a.node.methods.add("echo", echo)
    first = LARGEST_BODY - 64  # with its header it fills a frame, or nearly
    ends = (INLINE, first, LARGEST_BODY, FRAMES_AT_ONCE * LARGEST_BODY)
    data = np.random.default_rng(5).bytes(ends[-1] + 64)
    for size in {max(0, end + step) for end in (0, *ends) for step in (-1, 0, 1, 57, 64)}:
        answer = b.call(b.node.calls.call, a.name, "echo", data[:size])
        assert bytes(answer) == data[:size]


def test_changing_an_array_after_put_changes_nothing(pair):
    a, b = pair
    mine = ARRAY[:10].copy()
    cid = a.put(mine)
    mine[:] = 0
    np.testing.assert_array_equal(b.get(cid, timeout=20), ARRAY[:10])


def test_a_tensor_nobody_has(pair):
    other = comm.Manifest("bool", (1,), 1, b"", b"nobody has this").cid
    with pytest.raises(comm.FetchError, match="needs a provider"):
        pair[1].get(other, timeout=30)


def test_the_routing_table_knows_who_has_a_tensor(pair):
    a, b = pair
    cid = a.put(np.arange(5))

    def found():
        records = b.call(b.node.dht.find_providers, cid)
        return a.name in {str(record.peer_id) for record in records}

    assert wait_until(found)


def test_statuses_spread_with_measured_round_trips(pair):
    a, b = pair
    assert wait_until(
        lambda: any(p["id"] == a.name and p["memory_free"] for p in b.peers())
    )
    record = next(p for p in b.peers() if p["id"] == a.name)
    assert 0 < record["rtt_ms"] < 1000 and 0 <= record["idle"] <= 1
    assert record["connected"] and record["trusted"]
    assert b.name not in {p["id"] for p in b.peers()}


def test_a_stranger_is_refused_on_either_side():
    with comm.open_node() as closed, comm.open_node(allowed=EVERYONE) as stranger:
        with pytest.raises(ConnectionError, match="Check that it runs and allows"):
            stranger.connect(*closed.addresses)
        with pytest.raises(PermissionError, match="allow-list"):
            closed.connect(*stranger.addresses)
        assert closed.status()["connected"] == []
        with comm.open_node(allowed=frozenset({stranger.name})) as friend:
            assert stranger.connect(*friend.addresses) == friend.name
            # The dialling side knows of the connection first.
            assert wait_until(lambda: friend.status()["connected"] == [stranger.name], 15)


def test_the_library_alone_accepts_plaintext_and_we_do_not():
    # Fault 1 of libp2p: its default host offers plaintext.
    assert any("plaintext" in str(p) for p in _security(new_host()))
    with comm.open_node() as node:
        assert [str(p) for p in _security(node.node.host)] == ["/noise"]


def _security(host):
    return host.get_network().upgrader.security_multistream.transports


def test_a_dead_address_does_not_hide_a_good_one(pair):
    a, _ = pair
    dead = f"/ip4/127.0.0.1/tcp/1/p2p/{a.name}"
    with comm.open_node(allowed=EVERYONE) as c:
        with pytest.raises(ConnectionError, match="tcp/1"):
            c.connect(dead)
        # Fault 6 of libp2p: it would now refuse this peer for 60 seconds.
        assert c.connect(dead, *a.addresses) == a.name


def test_a_bootstrap_that_comes_later_is_joined(tmp_path):
    key, port = tmp_path / "key", free_port()
    address = f"/ip4/127.0.0.1/tcp/{port}"
    with comm.open_node(key=key) as a:
        peer = a.name
    with comm.open_node(bootstrap=(f"{address}/p2p/{peer}",)) as node:
        cid = node.put(np.arange(3))
        assert node.get(cid).tolist() == [0, 1, 2]  # alone it works for itself
        with comm.open_node(key=key, allowed=EVERYONE, listen=(address,)) as late:
            assert late.name == peer
            assert wait_until(lambda: node.status()["connected"] == [peer], 15)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


PEER = "12D3KooWS4W2r2NjDoFP3tHBwaYtGms4n2h92hDKkHsteN1sBidw"
RSA_PEER = "QmVvtzcZgCkMnSFf2dnrBPXrWuNFWNM9J3MpZQCvWPuVZf"


@pytest.mark.parametrize(
    "settings",
    [
        {"allowed": frozenset({"not an id"})},
        # The library takes any text of base 58 for an id.
        {"allowed": frozenset({"foo"})},
        {"allowed": frozenset({PEER[:-1]})},
        {"allowed": frozenset({PEER + "a"})},
        {"allowed": frozenset({RSA_PEER[:-1]})},
        {"allowed": frozenset({comm.EVERYONE, "foo"})},
        {"bootstrap": ("/ip4/1.2.3.4/tcp/1",)},
        {"replicas": 0},
        {"capacity": 0},
        {"zone": "z" * 65},
        {"namespace": ""},
        {"via_relay": ("/ip4/1.2.3.4/tcp/1",)},
    ],
)
def test_settings_without_sense_are_refused(settings):
    with pytest.raises(ValueError, match="Got"):
        with comm.open_node(**settings):
            pass


def test_ids_of_all_kinds_of_keys_are_taken():
    with comm.open_node(allowed=frozenset({PEER, RSA_PEER})) as node:
        assert node.node.allowed(RSA_PEER) and not node.node.allowed("foo")


def test_our_muxer_carries_the_connections(pair):
    # Fault 5 of libp2p: what `muxer_opt` names is not used.
    for node, other in (pair, reversed(pair)):
        assert isinstance(_muxed(node, other), MuxedConnection)
        assert wait_until(lambda: _muxed(node, other).rtt() > 0)  # noqa: B023 - called now


def _muxed(node, peer):
    """The connection to a peer; others may have come by what peers tell each other."""
    found = node.node.host.get_network().get_connections
    return found(PeerID.from_string(peer.name))[0].muxed_conn


def test_the_library_muxer_understands_ours():
    with nodes(1) as (a,), comm.open_node(allowed=EVERYONE, own_muxer=False) as b:
        b.connect(*a.addresses)
        assert isinstance(_muxed(b, a), LibraryYamux)
        assert wait_until(lambda: b.name in a.status()["connected"])
        assert isinstance(_muxed(a, b), LibraryYamux | MuxedConnection)
        cid = a.put(ARRAY)
        np.testing.assert_array_equal(b.get(cid, timeout=30), ARRAY)
    use_own_muxer()


def test_the_caller_gets_a_timeout(pair):
    a, b = pair

    async def never(call):
        await trio.sleep_forever()

    a.node.methods.add("never", never)

    async def wait():
        await b.node.calls.call(a.name, "never", timeout=0.2)

    started = time.monotonic()
    with pytest.raises(trio.TooSlowError):
        b.call(wait)
    assert time.monotonic() - started < 9  # and not ten, which is the default


@pytest.mark.slow
def test_replicas_survive_their_first_holder():
    with nodes(2, replicas=2) as (b, c):
        # It meets nobody else, so that the first replica is where it is looked for.
        only = frozenset({b.name})
        with comm.open_node(allowed=only, replicas=2, status_every=0.2) as a:
            a.connect(*b.addresses)
            cid = a.put(ARRAY)
            assert b.node.store.peek(cid).pinned
            assert c.node.store.peek(cid) is None
        # The holder that is left finds another, without the first.
        assert wait_until(lambda: c.node.store.peek(cid), 40)
        assert c.node.store.peek(cid).holders == {b.name, c.name}
        np.testing.assert_array_equal(c.get(cid), ARRAY)
