"""Agents of a workflow that call each other over libp2p."""

import hashlib
import hmac
import socket
import sys
import tempfile
from collections.abc import Callable, Collection
from contextlib import ExitStack
from pathlib import Path

import trio

from .._libp2p.library import KeyPair, PeerID, new_ed25519_keys
from .._node.node import Node
from .._rpc.calls import RemoteError
from .._rpc.messages import MessageError
from .._rpc.methods import Call, Method
from .thread import open_node

_THREADS = 32  # that run the agent's function, as for its other protocols


_SHORTEST = 32  # characters of a secret: 128 bits, if they are hexadecimal and random
_KINDS = 8  # of characters that it has at least; of 32 random digits, 6 in 10**8 have less


def _keys(name: str, secret: str) -> KeyPair:
    """The keys of an agent; the secret gives the keys of all agents."""
    _refuse_weak(secret)
    return new_ed25519_keys(hmac.digest(secret.encode(), name.encode(), hashlib.sha256))


def _refuse_weak(secret: str) -> None:
    """Refuse a secret that a stranger may guess; the message does not quote it."""
    repeated = (secret + secret).find(secret, 1) < len(secret)
    if len(secret) < _SHORTEST or len(set(secret)) < _KINDS or repeated:
        raise ValueError(
            f"Agents need a secret of at least {_SHORTEST} random characters, since it "
            f"gives the keys of all of them. Got one of {len(secret)} characters"
            f"{', all of them a few repeated ones' * (len(secret) >= _SHORTEST)}. Take "
            "`openssl rand -hex 32` for SEDMA_SECRET."
        )


def agent_id(name: str, secret: str) -> str:
    """The id of an agent's peer, the same on every run and in every replica.

    **Arguments:**

    - `name`: names of workflow and agent, as in `tour/critic`.
    - `secret`: shared by the agents of a workflow, at least 32 random characters.

    **Raises:** `ValueError` for a secret that may be guessed.

    **Example:**

        >>> secret = "what `openssl rand -hex 32` prints"
        >>> name = sj.comm.agent_id("tour/critic", secret)
        >>> name == sj.comm.agent_id("tour/critic", secret), name[:8]
        (True, '12D3KooW')
        >>> sj.comm.agent_id("tour/critic", "secret")
        Traceback (most recent call last):
        ValueError: Agents need a secret of at least 32 random characters, ...
    """
    return str(PeerID.from_pubkey(_keys(name, secret).public_key))


class AgentPeer:
    """The libp2p peer of one agent; it lets in only the peers of its neighbours.

    **Arguments:**

    - `name`, `secret`: as for `agent_id`.
    - `neighbours`: names of the agents that it calls and that call it.
    - `port`: to listen on, 0 for any free one; None for an agent that only calls.
    - `answer`: maps a request to its answer; called in threads, several at once.

    **Raises:** `ValueError` for a secret that may be guessed.

    **Example:**

        >>> secret = "what `openssl rand -hex 32` prints"
        >>> critic = sj.comm.AgentPeer(
        ...     "critic", secret=secret, neighbours=["guide"], port=0, answer=bytes.upper
        ... )
        >>> guide = sj.comm.AgentPeer("guide", secret=secret, neighbours=["critic"])
        >>> guide.call("critic", "127.0.0.1", critic.port, b"fine", seconds=10.0)
        b'FINE'
        >>> guide.close(), critic.close()
        (None, None)
    """

    def __init__(
        self,
        name: str,
        *,
        secret: str,
        neighbours: Collection[str] = (),
        port: int | None = None,
        answer: Callable[[bytes], bytes] | None = None,
    ):
        self._secret, self._stack = secret, ExitStack()
        every = "/ip6/::" if _takes_both_families() else "/ip4/0.0.0.0"
        listen = () if port is None else (f"{every}/tcp/{port}",)
        with tempfile.TemporaryDirectory() as folder:
            key = Path(folder, "key")
            key.touch(mode=0o600)
            key.write_bytes(_keys(name, secret).private_key.serialize())
            self._node = self._stack.enter_context(
                open_node(
                    listen=listen or ("/ip4/127.0.0.1/tcp/0",),
                    key=key,
                    allowed=frozenset(agent_id(n, secret) for n in neighbours),
                )
            )
        if answer is not None:
            self._node.node.methods.add("agent", _method(answer))
        (address, *_) = self._node.addresses
        self.port = int(address.split("/")[4])

    def call(
        self, name: str, host: str, port: int, request: bytes, seconds: float
    ) -> bytes:
        """Ask the agent `name` at a host and port, within `seconds`.

        **Raises:** `OSError` if the agent fails, cannot be reached, or is a different one.
        """
        peer = agent_id(name, self._secret)
        node: Node = self._node.node

        async def ask():
            if peer not in node.connected():
                found = await trio.to_thread.run_sync(
                    lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
                )
                await node.connect(*(_address(row[0], row[4], peer) for row in found))
            return bytes(await node.calls.call(peer, "agent", request, timeout=seconds))

        try:
            return self._node.call(ask, timeout=seconds)
        except (
            RemoteError,
            MessageError,
            trio.TooSlowError,
            trio.RunFinishedError,
        ) as error:
            raise OSError(
                f"`AgentPeer.call` needs an answer of {name} at {host}:{port}. Got: "
                f"{error}. Check its log."
            ) from error

    def close(self) -> None:
        """Close the connections and end the peer."""
        self._stack.close()


def _address(family: int, at: tuple, peer: str) -> str:
    """The address of a peer at what `getaddrinfo` found."""
    kind = "ip6" if family == socket.AF_INET6 else "ip4"
    return f"/{kind}/{at[0]}/tcp/{at[1]}/p2p/{peer}"


def _method(answer: Callable[[bytes], bytes]) -> Method:
    threads = trio.CapacityLimiter(_THREADS)

    async def method(call: Call) -> bytes:
        work = lambda: bytes(answer(bytes(call.body)))
        try:
            # With a limiter of its own a slow agent does not stop the node's other work.
            return await trio.to_thread.run_sync(work, limiter=threads)
        except Exception as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
            raise RuntimeError("the agent failed; its log says why") from error

    return method


def _takes_both_families() -> bool:
    """Whether a socket on IPv6's any-address takes IPv4 too, as libp2p opens it."""
    try:
        with socket.socket(socket.AF_INET6) as probe:
            return not probe.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
    except OSError:
        return False
