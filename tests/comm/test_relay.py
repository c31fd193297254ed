"""Relays, hole punching, rendezvous and dialling back on loopback.

`test_nat.py` has real NATs. On loopback nobody punches: its addresses are not dialled.
"""

import importlib.util
import struct
from contextlib import contextmanager

import numpy as np
import pytest
import trio
from comm_nodes import EVERYONE, nodes, wait_until

from sedma_jax import comm
from sedma_jax.comm._libp2p.library import (
    HOP_PROTOCOL,
    CircuitV2Protocol,
    DHTMode,
    Multiaddr,
    PeerID,
    RelayLimits,
    RendezvousMessage,
    RendezvousService,
    dcutr,
    info_from_p2p_addr,
    new_ed25519_keys,
    new_host,
)
from sedma_jax.comm._libp2p.library_fixes import dial, tolerate_removed_handlers
from sedma_jax.comm._libp2p.muxer import MuxedConnection
from sedma_jax.comm._libp2p.nat_fixes import (
    MOST_PUNCHED_ADDRESSES,
    HolePunching,
    Relay,
    Rendezvous,
)
from sedma_jax.comm._libp2p.sockets import is_relayed
from sedma_jax.comm._node.dial_back import ask_reachable

OPEN = {"allowed": EVERYONE, "status_every": 0.2}
# Nobody is told of the addresses of others, by which it would connect directly.
QUIET = {**OPEN, "status_every": 600}
LIMITS = RelayLimits(600, 2**28, 16, 8)


def circuits(node):
    return [a for a in node.addresses if "p2p-circuit" in a]


@contextmanager
def behind(relay, **settings):
    """A node that is reached through `relay`, and its address there."""
    settings = {**QUIET, "via_relay": (relay.addresses[0],), **settings}
    with comm.open_node(**settings) as node:
        assert wait_until(lambda: circuits(node), 20)
        yield node, circuits(node)[0]


def connections(node, peer):
    found = node.node.host.get_network().get_connections
    return node.call(_now, lambda: found(PeerID.from_string(peer)))


def _peer_of(record):
    return str(record.peer_id)


async def _now(function):
    return function()


@pytest.fixture(scope="module")
def relay():
    with comm.open_node(**QUIET, relay=True) as node:
        yield node


def test_a_tensor_travels_through_a_relay_and_its_holder_is_discounted(relay):
    with behind(relay) as (far, address), comm.open_node(**OPEN) as near:
        near.connect(address)
        (connection,) = connections(near, far.name)
        assert is_relayed(connection)
        # Bounded memory and keep-alive hold for the relayed connection as well.
        assert isinstance(connection.muxed_conn, MuxedConnection)
        array = np.random.default_rng(8).normal(size=300_000)
        cid = far.put(array)
        np.testing.assert_array_equal(near.get(cid, timeout=30), array)

        def record():
            return next(p for p in near.peers() if p["id"] == far.name)

        assert wait_until(lambda: record()["relayed"] and record()["memory_free"])
        # A node that cannot be dialled serves no routing table; its records are in others.
        find = near.node.dht.find_providers
        assert wait_until(lambda: far.name in map(_peer_of, near.call(find, cid)))
        assert far.node.dht.mode == DHTMode.CLIENT
        table = near.node.peers
        terms = table.terms([far.name])
        table.get(far.name).relayed = False
        np.testing.assert_array_equal(2 * terms, table.terms([far.name]))


def test_a_relay_that_is_not_allowed_is_not_dialled(relay):
    with behind(relay) as (far, address):
        with comm.open_node(allowed=frozenset({far.name})) as near:
            with pytest.raises(ConnectionError, match="needs a relay on the allow-list"):
                near.connect(address)
            assert near.status()["connected"] == []


def test_a_stranger_is_refused_through_a_relay_too(relay):
    with comm.open_node(**QUIET) as stranger:
        at = relay.addresses[0]
        closed_to_all = {**QUIET, "allowed": frozenset()}
        with comm.open_node(**closed_to_all, via_relay=(at,)) as closed:
            assert wait_until(lambda: circuits(closed), 20)
            with pytest.raises(ConnectionError):
                stranger.connect(circuits(closed)[0])
            assert closed.status()["connected"] == [relay.name]


@pytest.mark.slow
def test_a_relay_that_is_restarted_gets_the_reservation_again(tmp_path):
    key = tmp_path / "key"
    with comm.open_node(**QUIET, relay=True, key=key) as first:
        listen = tuple(a.partition("/p2p/")[0] for a in first.addresses[:1])
        at = first.addresses[0]
        context = behind(first)
        far, address = context.__enter__()
    try:
        assert wait_until(lambda: not circuits(far), 20)
        with comm.open_node(**QUIET, relay=True, key=key, listen=listen) as again:
            assert again.addresses[0] == at
            assert wait_until(lambda: circuits(far) == [address], 20)
            with comm.open_node(**QUIET) as near:
                assert near.connect(address) == far.name
    finally:
        context.__exit__(None, None, None)


def test_nodes_of_one_namespace_meet_at_a_relay():
    here = {**QUIET, "namespace": "here"}
    with comm.open_node(**here, relay=True) as point:
        here["via_relay"] = (point.addresses[0],)
        with comm.open_node(**here) as a, comm.open_node(**here) as b:
            with comm.open_node(**{**here, "namespace": "there"}) as c:
                assert wait_until(lambda: b.name in a.status()["connected"], 40)
                assert c.status()["connected"] == [point.name]


def test_dialling_back_tells_an_open_port_from_a_closed_one():
    with nodes(2) as (a, b):
        peer = PeerID.from_string(b.name)
        port = b.addresses[0].split("/")[4]

        async def asked(port):
            body = struct.pack("!H", int(port))
            return bytes(await b.node.calls.call(a.name, "reach", body))

        assert b.call(asked, port) == f"127.0.0.1 {port}".encode()
        assert b.call(asked, 1) == b"127.0.0.1"
        # The port of somebody else.
        assert b.call(asked, a.addresses[0].split("/")[4]) == b"127.0.0.1"
        found = b.call(ask_reachable, b.node, a.name)
        assert found == [f"/ip4/127.0.0.1/tcp/{port}"]
        with pytest.raises(comm.RemoteError, match="1 to 4 ports"):
            b.call(b.node.calls.call, a.name, "reach", bytes(100))

        # Fault 10 of libp2p: any port is found open by way of the connection there is.
        async def library():
            from libp2p.host.autonat import AutoNATService

            return await AutoNATService(a.node.host, serve=False)._try_dial(
                peer, [Multiaddr("/ip4/127.0.0.1/tcp/1").to_bytes()]
            )

        assert a.call(library) is not None


def test_dialling_back_goes_to_no_peer_behind_a_relay(relay):
    with behind(relay) as (far, address), comm.open_node(**QUIET) as near:
        near.connect(address)
        with pytest.raises(comm.RemoteError, match="direct connection"):
            near.call(ask_reachable, near.node, far.name)


def serve_as_relay(node, kind, limits=LIMITS):
    """Have a node relay by the library's protocol, or by the corrected one."""
    protocol = kind(node.node.host, limits=limits, allow_hop=True)
    node.node.host.set_stream_handler(HOP_PROTOCOL, protocol._handle_hop_stream)
    return protocol


both = pytest.mark.parametrize(
    "kind", [CircuitV2Protocol, Relay], ids=["library", "corrected"]
)


@both
def test_a_reservation_is_for_who_asks(kind):
    with nodes(2) as (relay, peer):
        protocol = serve_as_relay(relay, kind)
        other = PeerID.from_pubkey(new_ed25519_keys().public_key)

        async def reserve_for_another():
            from libp2p.relay.circuit_v2.pb.circuit_pb2 import HopMessage
            from libp2p.relay.circuit_v2.utils import write_delimited_msg

            name = PeerID.from_string(relay.name)
            stream = await peer.node.host.new_stream(name, [HOP_PROTOCOL])
            message = HopMessage(type=HopMessage.RESERVE)
            message.peer.id = other.to_bytes()
            await write_delimited_msg(stream, message)
            await stream.close()

        peer.call(reserve_for_another, timeout=20)
        reserved = protocol.resource_manager._reservations
        assert wait_until(lambda: reserved)
        # The fault: one peer takes all places, in names that it makes up.
        named = other if kind is CircuitV2Protocol else PeerID.from_string(peer.name)
        assert list(reserved) == [named]


async def _echo(node, peer):
    return bytes(await node.node.calls.call(peer, "echo", b"there", timeout=3))


@both
def test_the_end_of_one_circuit_leaves_the_others(kind):
    with nodes(1, status_every=600) as (point,):
        serve_as_relay(point, kind)
        with (
            behind(point) as (one, to_one),
            behind(point) as (two, to_two),
        ):
            with comm.open_node(**QUIET) as near:
                near.connect(to_one)
                near.connect(to_two)
                assert near.call(_echo, near, two.name) == b"there"
                (connection,) = connections(near, one.name)
                near.call(connection.close, timeout=20)
                # The relay has ended the first circuit by then.
                assert wait_until(lambda: near.name not in one.status()["connected"])
                if kind is CircuitV2Protocol:
                    lost = lambda: two.name not in near.status()["connected"]
                    assert wait_until(lost, 20)
                else:
                    assert near.call(_echo, near, two.name) == b"there"


def test_a_circuit_ends_when_its_time_is_up():
    with nodes(1, status_every=600) as (point,):
        serve_as_relay(point, Relay, RelayLimits(1, 2**28, 16, 8))
        with behind(point) as (far, address), comm.open_node(**QUIET) as near:
            near.connect(address)
            assert wait_until(lambda: far.name not in near.status()["connected"])


def test_who_comes_through_a_relay_is_who_the_relay_names(relay):
    with behind(relay) as (far, address), comm.open_node(**QUIET) as near:
        victim = PeerID.from_pubkey(new_ed25519_keys().public_key)
        taken = []
        protocol = far.node.relaying._relay
        handle = protocol.handle_incoming_connection

        async def lie(stream, named):
            try:
                await handle(stream, victim.to_bytes())
            except ConnectionError as error:
                taken.append(str(error))
                raise

        protocol.handle_incoming_connection = lie
        try:
            near.connect(address)
        except ConnectionError:
            pass
        assert wait_until(lambda: taken)
        assert str(victim) in taken[0] and near.name in taken[0]
        assert wait_until(lambda: near.name not in far.status()["connected"])


def test_holes_are_punched_from_an_address_of_this_machine():
    # Anew, since the corrected function takes the place of the library's.
    spec = importlib.util.spec_from_file_location("library_dcutr", dcutr.__file__)
    library = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(library)
    with comm.open_node(announce=("/ip4/1.2.3.4/tcp/99",)) as node:
        host = node.node.host
        port = int(str(host.get_transport_addrs()[0]).rpartition("/")[2])
        assert library._local_tcp_listen_addrs(host) == [(4, "1.2.3.4", 99)]
        assert dcutr._local_tcp_listen_addrs(host) == [(4, "127.0.0.1", port)]


def test_only_few_and_sensible_addresses_are_punched():
    host = new_host()
    named = [f"/ip4/127.0.0.1/tcp/{port}" for port in range(1, 5)]
    named += [f"/ip4/9.9.9.{i}/tcp/4001" for i in range(40)]
    raw = [Multiaddr(address).to_bytes() for address in named]
    # The fault: a peer may have this machine dial hundreds, itself among them.
    assert len(dcutr.DCUtRProtocol(host)._decode_observed_addrs(raw)) == 44
    found = HolePunching(host)._decode_observed_addrs(raw)
    assert 0 < len(found) <= MOST_PUNCHED_ADDRESSES
    assert all(str(address).startswith("/ip4/9.") for address in found)


def test_a_rendezvous_point_keeps_one_namespace_and_few_addresses():
    peer = PeerID.from_pubkey(new_ed25519_keys().public_key)

    def ask(service, namespace):
        return service._handle_discover(peer, RendezvousMessage.Discover(ns=namespace))

    library = RendezvousService(new_host())
    for i in range(100):
        ask(library, f"n{i}")
    assert len(library.registrations) == 100  # the fault: nothing takes them away
    ours = Rendezvous(new_host(), "ours")
    for i in range(100):
        answer = ask(ours, f"n{i}").discoverResponse
        assert answer.status == RendezvousMessage.E_INVALID_NAMESPACE
    assert not ours.registrations

    def register(count, namespace="ours"):
        message = RendezvousMessage.Register(ns=namespace, ttl=600)
        message.peer.id = peer.to_bytes()
        address = Multiaddr("/ip4/1.2.3.4/tcp/1").to_bytes()
        message.peer.addrs.extend([address] * count)
        return ours._handle_register(peer, message).registerResponse.status

    assert register(1000) == RendezvousMessage.E_NOT_AUTHORIZED
    assert register(1, "theirs") == RendezvousMessage.E_NOT_AUTHORIZED
    assert register(2) == RendezvousMessage.OK
    assert len(ask(ours, "ours").discoverResponse.registrations) == 1


class Negotiation:
    """A peer that asks for a protocol, which is taken away while it is answered."""

    def __init__(self, host, protocol):
        self._host, self._protocol = host, protocol
        self._says = ["/multistream/1.0.0", protocol]

    async def read(self):
        return self._says.pop(0)

    async def write(self, text):
        if text == self._protocol:
            self._host.remove_stream_handler(self._protocol)


@pytest.mark.parametrize("corrected", [False, True])
def test_a_handler_that_goes_during_negotiation_ends_one_stream(corrected):
    async def ignore(stream):
        pass

    async def negotiate():
        host = new_host()
        host.set_stream_handler("/t/1", ignore)
        if corrected:
            tolerate_removed_handlers(host)
        return await host.multiselect.negotiate(Negotiation(host, "/t/1"))

    if corrected:
        assert trio.run(negotiate) == ("/t/1", None)
    else:
        with pytest.raises(KeyError):  # the fault: it ends the whole node
            trio.run(negotiate)


def test_a_dead_address_costs_no_more_than_its_head_start():
    with nodes(1) as (a,), comm.open_node(**OPEN) as b:
        info = info_from_p2p_addr(Multiaddr(a.addresses[0]))
        held, good = Multiaddr("/ip4/127.0.0.1/tcp/1"), info.addrs[0]
        network = b.node.host.get_network()
        dial_address = network.dial_addr

        async def silent(address, peer):
            if address == held:  # as behind a firewall that drops
                await trio.sleep_forever()
            return await dial_address(address, peer)

        network.dial_addr = silent
        b.call(dial, b.node.host, info.peer_id, [held, good], 600, timeout=30)
        assert b.status()["connected"] == [a.name]


def test_streams_at_a_relay_are_left_for_the_direct_connection(relay):
    with behind(relay) as (far, address), comm.open_node(**OPEN) as near:
        near.connect(address)
        assert near.call(_echo, near, far.name) == b"there"
        info = info_from_p2p_addr(Multiaddr(far.addresses[0]))
        network = near.node.host.get_network()
        near.call(network.dial_addr, info.addrs[0], info.peer_id, timeout=20)
        assert len(connections(near, far.name)) == 2
        direct = next(c for c in connections(near, far.name) if not is_relayed(c))
        before = len(direct.get_streams())
        assert near.call(_echo, near, far.name) == b"there"
        assert len(direct.get_streams()) > before
        assert wait_until(lambda: not _known(near, far.name)["relayed"])


def _known(node, name):
    return next(p for p in node.peers() if p["id"] == name)


def test_limits_of_a_circuit_hold_for_both_directions_together():
    with nodes(1, status_every=600) as (point,):
        serve_as_relay(point, Relay, RelayLimits(600, 2**20, 16, 8))
        with behind(point) as (far, address), comm.open_node(**QUIET) as near:
            near.connect(address)

            async def fill():
                for _ in range(8):
                    body = bytes(2**18)
                    await near.node.calls.call(far.name, "echo", body, timeout=10)

            with pytest.raises((ConnectionError, OSError)):
                near.call(fill, timeout=30)
            assert wait_until(lambda: far.name not in near.status()["connected"])
