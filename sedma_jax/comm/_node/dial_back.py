"""Find out whether others can connect to this node: ask a peer to dial back.

libp2p's own service for this, AutoNAT, is wrong: its server "dials" over the connection of
the request, and so finds every port open.
"""

import ipaddress
import struct
from typing import Any

import trio

from .._libp2p.library import Multiaddr, PeerID
from .._libp2p.nat_fixes import ip_of
from .._libp2p.sockets import is_relayed
from .._rpc.messages import MessageError
from .._rpc.methods import Call
from .node import Node

MOST_PORTS = 4
DIAL_SECONDS = 3.0
AT_ONCE = 8  # dials, for all peers together


async def ask_reachable(node: Node, peer: str) -> list[str]:
    """Addresses at which `peer` reaches this node by a new connection.

    A positive answer holds for networks like that of `peer`, and for NATs that filter by
    port. A NAT that filters by address only lets in every peer that this node once dialled.
    """
    ports = [
        int(port)
        for address in node.host.get_transport_addrs()
        if (port := address.value_for_protocol("tcp")) and int(port)
    ][:MOST_PORTS]
    if not ports:
        return []
    request = struct.pack(f"!{len(ports)}H", *ports)
    answer = bytes(await node.calls.call(peer, "reach", request, timeout=10, largest=256))
    ip, *found = answer[:200].decode("ascii", "replace").split()
    ip = ipaddress.ip_address(ip)
    return [f"/ip{ip.version}/{ip}/tcp/{p}" for p in ports if str(p) in found]


def add_dial_back(node: Node) -> None:
    """Offer to dial peers back, only at the address that their connection comes from."""
    dials = trio.CapacityLimiter(AT_ONCE)

    async def reach(call: Call):
        if len(call.body) % 2 or not 0 < len(call.body) <= 2 * MOST_PORTS:
            raise MessageError(
                f"the method `reach` needs 1 to {MOST_PORTS} ports of two bytes. Got "
                f"{len(call.body)} bytes. Run the same release on both sides."
            )
        ports = struct.unpack(f"!{len(call.body) // 2}H", call.body)
        peer = PeerID.from_string(call.peer)
        ip = _observed(node, peer)
        found: list[str] = []

        async def one(port: int):
            address = Multiaddr(f"/ip{ip.version}/{ip}/tcp/{port}")
            async with dials:
                if await answers(node.host, address, peer):
                    found.append(str(port))

        async with trio.open_nursery() as nursery:
            for port in {*ports} - {0}:
                nursery.start_soon(one, port)
        return " ".join([str(ip), *found]).encode()

    node.methods.add("reach", reach, 256)


def _observed(node: Node, peer: PeerID) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """The address that the connection of a peer comes from."""
    for connection in node.host.get_network().get_connections(peer):
        if not is_relayed(connection):
            for address in connection.muxed_conn.get_transport_addresses():
                if (ip := ip_of(address)) is not None:
                    node.dial_rules.prove(str(peer), ip)
                    return ip
    raise MessageError(
        "the method `reach` needs a direct connection. Got a relayed one. Connect directly."
    )


async def answers(host: Any, address: Multiaddr, peer: PeerID) -> bool:
    """Whether a new connection to `address` reaches this peer; it is closed again."""
    network = host.get_network()
    raw = None
    with trio.move_on_after(DIAL_SECONDS):
        try:
            raw = await network.transport_manager.transport_for_dialing(address).dial(
                address
            )
            await network.upgrader.upgrade_security(raw, True, peer)
            return True
        except Exception:  # the library's errors have no common base
            return False
        finally:
            if raw is not None:
                with trio.CancelScope(shield=True):  # pyright: ignore[reportCallIssue]
                    await raw.close()
    return False
