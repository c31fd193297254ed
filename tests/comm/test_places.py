"""Places of an open node: strangers cannot take those of peers that it names."""

from contextlib import ExitStack
from types import SimpleNamespace

import pytest
import trio
from comm_nodes import EVERYONE, wait_until

from sedma_jax import comm
from sedma_jax.comm._libp2p import places
from sedma_jax.comm._libp2p.places import Place, leaving, network_of

QUIET = {"allowed": EVERYONE, "status_every": 600}


def place(network, used):
    return Place(SimpleNamespace(last_used=used), network)


@pytest.mark.parametrize(
    ("host", "network"),
    [
        ("192.0.2.77", "192.0.2.0/24"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1::/48"),
        ("::ffff:192.0.2.77", "192.0.2.0/24"),
        ("fe80::1%eth0", "fe80::/48"),
        ("", ""),
    ],
)
def test_addresses_of_one_sender_are_one_network(host, network):
    assert network_of(host) == network


def test_who_leaves_for_a_newcomer():
    now, busy, idle = 100.0, 99.0, 100.0 - places.IDLE
    crowd = [place("a", busy - i) for i in range(4)]
    # Of the network that has more than the newcomer's would have, the least busy goes.
    assert leaving([*crowd, place("b", idle)], "b", now) is crowd[3]
    assert leaving([*crowd, place("b", idle)], "c", now) is crowd[3]
    # Among its own, or where all have as many, only who is idle.
    assert leaving(crowd, "a", now) is None
    even = [place("a", busy), place("b", busy)]
    assert leaving(even, "a", now) is None
    quiet = [*even, place("b", idle), place("a", idle - 1)]
    assert leaving(quiet, "a", now) is quiet[3]
    # For a peer that is named one goes in any case.
    assert leaving(crowd, None, now) is crowd[3]
    assert leaving([], None, now) is None


def stranger(stack, node):
    found = stack.enter_context(comm.open_node(**QUIET))
    found.connect(*node.addresses)
    return found


def friend_of(stack, tmp_path, name="friend"):
    return stack.enter_context(comm.open_node(**QUIET, key=tmp_path / name))


def connected(node):
    return set(node.status()["connected"])


def test_peers_that_are_named_have_places_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setattr(places, "STRANGERS", 3)
    monkeypatch.setattr(places, "NAMED", 1)
    named = frozenset(comm.key_id(tmp_path / name) for name in ("friend", "other"))
    with ExitStack() as stack:
        node = stack.enter_context(
            comm.open_node(allowed=EVERYONE | named, status_every=600)
        )
        first = [stranger(stack, node) for _ in range(3)]
        assert wait_until(lambda: connected(node) == {s.name for s in first})
        late = stranger(stack, node)
        assert wait_until(lambda: not connected(late))
        assert connected(node) == {s.name for s in first}  # all were busy just now
        friend = friend_of(stack, tmp_path)
        friend.connect(*node.addresses)
        assert wait_until(lambda: len(connected(node)) == 4)
        # All places are taken: a second one takes a stranger's.
        other = friend_of(stack, tmp_path, "other")
        other.connect(*node.addresses)
        assert wait_until(lambda: {friend.name, other.name} <= connected(node))
        assert wait_until(lambda: len(connected(node)) == 4)


def test_a_newcomer_takes_the_place_of_who_is_idle(monkeypatch):
    monkeypatch.setattr(places, "STRANGERS", 2)
    monkeypatch.setattr(places, "IDLE", 3.0)
    with ExitStack() as stack:
        node = stack.enter_context(comm.open_node(**QUIET))
        idle, busy = stranger(stack, node), stranger(stack, node)
        assert wait_until(lambda: connected(node) == {idle.name, busy.name})
        for _ in range(8):
            trio.run(trio.sleep, 0.5)

            async def echo():
                await busy.node.calls.call(node.name, "echo", b"1")

            busy.call(echo)
        late = stranger(stack, node)
        assert wait_until(lambda: connected(node) == {late.name, busy.name})


def test_what_strangers_name_is_not_dialled_into_the_places_of_others(monkeypatch):
    monkeypatch.setattr(places, "STRANGERS", 1)
    with ExitStack() as stack:
        node = stack.enter_context(comm.open_node(**QUIET))
        stranger(stack, node)
        assert wait_until(lambda: connected(node))
        other = stack.enter_context(comm.open_node(**QUIET))

        async def told_by_a_stranger():
            await node.node.connect(*addresses, vouched=False)

        addresses = other.addresses
        with pytest.raises(ConnectionError, match="a place for a peer that strangers"):
            node.call(told_by_a_stranger)
        node.connect(*addresses)  # as the owner says


@pytest.mark.slow
def test_a_named_peer_gets_in_past_64_strangers_with_keys(tmp_path):
    named = frozenset({comm.key_id(tmp_path / "friend")})
    with ExitStack() as stack:
        node = stack.enter_context(
            comm.open_node(allowed=EVERYONE | named, status_every=600)
        )
        for _ in range(places.STRANGERS + 6):
            stranger(stack, node)
        assert wait_until(lambda: len(connected(node)) == places.STRANGERS)
        friend = friend_of(stack, tmp_path)
        friend.connect(*node.addresses)
        assert wait_until(lambda: friend.name in connected(node))
