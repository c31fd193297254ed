"""Addresses that strangers name: which are dialled."""

import ipaddress
import socket

import pytest
from comm_nodes import EVERYONE, nodes, wait_until

from sedma_jax import comm
from sedma_jax.comm._libp2p.library import Multiaddr, PeerID, new_ed25519_keys
from sedma_jax.comm._node import gossip
from sedma_jax.comm._peers.status import sign_status
from sedma_jax.comm._rpc import wire_pb2 as wire


@pytest.fixture
def somebody():
    """A service on loopback that speaks no libp2p, and whether anybody has dialled it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.0)

        def dialled():
            try:
                server.accept()[0].close()
                return True
            except BlockingIOError:
                return False

        yield server.getsockname()[1], dialled


def status_of(keys, addresses):
    peer = PeerID.from_pubkey(keys.public_key)
    told = [f"{address}/p2p/{peer}" for address in addresses]
    status = wire.Status(sequence=1, addresses=told)
    return str(peer), sign_status(keys, peer, status)


def test_gossip_makes_an_open_node_dial_no_address_of_its_own_machine(somebody):
    port, dialled = somebody
    with nodes(1) as (node,):
        _, signed = status_of(new_ed25519_keys(), [f"/ip4/127.0.0.1/tcp/{port}"])
        # As a node of the public internet; the test itself needs loopback to reach it.
        node.node.dial_rules._own = lambda: [Multiaddr("/ip4/8.8.8.8/tcp/1")]

        async def tell():
            statuses = wire.Statuses(statuses=[wire.SignedStatus.FromString(signed)])
            gossip.take_statuses(node.node, statuses.SerializeToString())
            for _ in range(5):
                await gossip._meet(node.node)

        node.call(tell)
        assert not dialled()
        # The library's own dials, as of its routing table, pass the same gate.
        peer = PeerID.from_pubkey(new_ed25519_keys().public_key)
        address = Multiaddr(f"/ip4/127.0.0.1/tcp/{port}")

        async def library():
            node.node.host.get_peerstore().add_addrs(peer, [address], 60)
            try:
                await node.node.host.get_network().dial_peer(peer)
            except Exception as error:
                return str(error)

        assert node.call(library, timeout=30)
        assert not dialled()
        # What the owner says is dialled.
        with pytest.raises(ConnectionError):
            node.connect(f"{address}/p2p/{peer}")
        assert wait_until(dialled)


RULES = [
    ("/ip4/93.184.216.34/tcp/4001", (), (), True),
    ("/ip6/2606:2800::1/tcp/4001", (), (), True),
    ("/ip4/127.0.0.1/tcp/4001", (), (), False),
    ("/ip4/127.0.0.1/tcp/4001", ("/ip4/0.0.0.0/tcp/0",), (), False),
    ("/ip4/127.0.0.1/tcp/4001", ("/ip4/127.0.0.1/tcp/0",), (), True),
    ("/ip6/::1/tcp/4001", (), (), False),
    ("/ip6/::ffff:127.0.0.1/tcp/4001", (), (), False),
    ("/ip4/10.1.2.3/tcp/4001", (), (), False),
    ("/ip4/10.1.2.3/tcp/4001", (), ("10.1.0.0/16",), True),
    ("/ip4/10.1.2.3/tcp/4001", ("/ip4/10.9.9.9/tcp/4001",), (), True),
    ("/ip4/192.168.0.9/tcp/4001", ("/ip4/10.9.9.9/tcp/4001",), (), False),
    ("/ip4/169.254.169.254/tcp/80", (), ("0.0.0.0/0",), False),
    ("/ip4/0.0.0.0/tcp/4001", (), (), False),
    ("/ip4/224.0.0.1/tcp/4001", (), (), False),
    ("/dns4/localhost/tcp/4001", (), (), False),
]


@pytest.mark.parametrize(("address", "listen", "networks", "allowed"), RULES)
def test_rules(address, listen, networks, allowed):
    from sedma_jax.comm._libp2p.dial_rules import DialRules

    class Host:
        def get_network(self):
            return self

        transport_manager = type("M", (), {"transport_for_dialing": None})()

    own = [Multiaddr(text) for text in listen]
    rules = DialRules(Host(), map(ipaddress.ip_network, networks), lambda: own)
    assert rules.allows(Multiaddr(address)) is allowed
    rules.vouch([Multiaddr(address)])
    assert rules.allows(Multiaddr(address))


def test_an_address_that_its_key_has_shown_is_dialled_for_that_key_only():
    with comm.open_node(allowed=EVERYONE, listen=("/ip4/0.0.0.0/tcp/0",)) as node:
        rules = node.node.dial_rules
        address = Multiaddr("/ip4/127.0.0.1/tcp/4001")
        assert not rules.allows(address)
        rules.prove("12D3one", "127.0.0.1")
        assert rules.allows(address, "12D3one") and not rules.allows(address, "12D3two")


def test_a_network_that_is_none_is_refused():
    with (
        pytest.raises(ValueError, match=r"as 10\.1\.0\.0/16"),
        comm.open_node(dial=("10.1.2.3/16",)),
    ):
        pass
