"""Connections before their handshake: few, short, and the oldest silent one goes first."""

import socket
import time
from contextlib import ExitStack

import pytest
from comm_nodes import EVERYONE, nodes, wait_until

from sedma_jax import comm
from sedma_jax.comm._libp2p.newcomers import HANDSHAKE_SECONDS, HANDSHAKES


def silent(stack, node):
    """A TCP connection to a node that says nothing."""
    _, _, ip, _, port, *_ = node.addresses[0].split("/")
    return stack.enter_context(socket.create_connection((ip, int(port)), 10))


def ended(client):
    client.settimeout(0)
    try:
        while client.recv(4096):
            pass
        return True
    except BlockingIOError:
        return False
    except OSError:
        return True


def test_a_newcomer_gets_in_past_silent_connections():
    with ExitStack() as stack, nodes(1) as (node,):
        clients = [silent(stack, node) for _ in range(3 * HANDSHAKES)]
        with comm.open_node(allowed=EVERYONE) as newcomer:
            newcomer.connect(*node.addresses)
        # The oldest have gone, one by one.
        assert wait_until(lambda: sum(map(ended, clients)) >= 2 * HANDSHAKES)
        assert wait_until(lambda: all(map(ended, clients)), 2 * HANDSHAKE_SECONDS + 5)


@pytest.mark.slow
def test_allowed_newcomers_get_in_while_200_sockets_are_silent_for_45_s():
    with ExitStack() as stack, nodes(1) as (node,):
        clients, got_in, end = [], 0, time.monotonic() + 45
        while time.monotonic() < end:
            # Whoever was dropped comes again at once.
            clients = [c for c in clients if not ended(c)]
            clients += [silent(stack, node) for _ in range(200 - len(clients))]
            with comm.open_node(allowed=EVERYONE) as newcomer:
                newcomer.connect(*node.addresses)
                got_in += 1
        assert got_in >= 10


def test_a_node_lets_in_newcomers_however_many_have_come_and_gone():
    with nodes(1) as (node,):
        for _ in range(70):
            with comm.open_node(allowed=EVERYONE) as other:
                other.connect(*node.addresses)
        assert wait_until(lambda: not node.status()["connected"], 40)


def test_half_a_handshake_is_cut_short():
    with ExitStack() as stack, nodes(1) as (node,):
        client = silent(stack, node)
        client.sendall(b"\x13/multistream/1.0.0\n")
        assert not ended(client)
        assert wait_until(lambda: ended(client), HANDSHAKE_SECONDS + 10)
