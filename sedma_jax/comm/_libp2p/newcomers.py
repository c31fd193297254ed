"""Inbound connections until their handshake: few places and seconds, apart from the others.

The library counts a socket that says nothing as a connection, and keeps the place of every
inbound connection until the node ends: 64 of them in all, and nobody gets in any more. Here
a connection takes one of few places until its peer has shown its key. If all are taken, the
oldest that has said nothing goes, of the same network address first. Whoever has shown its
key gets one of the places of `places.py`, or has to leave.
"""

import logging
from collections.abc import Callable
from typing import Any

from .._errors import reason
from .library import Multiaddr, RawConnection
from .places import Places

log = logging.getLogger("sedma_jax.comm")

HANDSHAKES = 32  # at once
HANDSHAKES_EACH = 16  # of one network address
HANDSHAKE_SECONDS = 5.0


class _Newcomer:
    """A connection whose peer is not known yet, as the library reads and writes it."""

    def __init__(self, stream: Any):
        self._stream = stream
        address = stream.get_remote_address()
        self.host = address[0] if address else ""
        self.heard = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    async def read(self, n: int | None = None) -> bytes:
        """As the stream's; notes that the other side has spoken."""
        data = await self._stream.read(n)
        self.heard = self.heard or bool(data)
        return data

    def drop(self) -> None:
        """Close the connection; cancelling its task would make the library lose count."""
        self._stream.stream.socket.close()


class Newcomers:
    """Takes in connections in place of a swarm of the library."""

    def __init__(self, network: Any, named: Callable[[str], bool]):
        self._network, self.places = network, Places(network, named)
        self._waiting: list[_Newcomer] = []  # the oldest first
        self.dropped = 0
        network._handle_inbound_connection = self.take

    async def take(self, stream: Any, address: Multiaddr) -> None:
        """Handshake with whoever has connected, and run the connection until it ends."""
        newcomer = _Newcomer(stream)
        self._make_room(newcomer.host)
        self._waiting.append(newcomer)
        try:
            raw = RawConnection(newcomer, False)  # pyright: ignore[reportArgumentType]
            connection = await self._network.upgrade_inbound_raw_conn(raw, address)
        except Exception as error:  # the library's errors have no common base
            log.debug("no handshake with %s: %s", newcomer.host, reason(error))
            newcomer.drop()
            return
        finally:
            if newcomer in self._waiting:
                self._waiting.remove(newcomer)
        if not self.places.admit(connection, newcomer.host):
            log.debug("no place for %s", newcomer.host)
            await connection.close()
        await connection.event_closed.wait()  # the listener then closes the socket
        forget_ended(self._network)

    def _make_room(self, host: str) -> None:
        same = [n for n in self._waiting if n.host == host]
        full = len(same) >= HANDSHAKES_EACH
        if full or len(self._waiting) >= HANDSHAKES:
            among = same if full else self._waiting
            silent = (n for n in among if not n.heard)
            victim = next(silent, among[0])
            self._waiting.remove(victim)
            self.dropped += 1
            victim.drop()


def forget_ended(network: Any) -> None:
    """Forget connections that have ended.

    The library adds one that ended during its start after it has removed it, and counts it
    for good.
    """
    for peer, connections in list(network.connections.items()):
        left = [c for c in connections if not c.muxed_conn.event_closed.is_set()]
        if left:
            network.connections[peer] = left
        else:
            del network.connections[peer]
