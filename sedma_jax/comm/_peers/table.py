"""What a node knows about other peers, and how it chooses among them."""

import math
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from ...kernels import peer_scores, peer_terms, select_peers
from .._libp2p.library import PeerID
from .status import read_status
from .weights import WeightLearner

SMOOTHING = 0.2  # share of the newest sample in the moving averages
RELAYED = 0.5  # factor on the terms of a peer behind a relay
FRESH = 60.0  # seconds that a status, and the time of a range, stay valid
EXILE = 300.0  # seconds that a peer with `STRIKES` lies is left out
STRIKES = 2
MOST_PEERS = 4096
_compiling = threading.Lock()  # the nodes of a process share compiled functions


@dataclass
class Peer:
    """One peer: what it says of itself, and what this node measured."""

    name: str
    addresses: list[str] = field(default_factory=list)
    zone: str = ""
    idle: float = 0.5  # fraction of cores; a guess until its first status
    memory_free: int = 0  # bytes
    load: float = 0.0
    rtt_ms: float = 50.0  # a guess until the first measurement
    success: float = 0.8  # moving average, 0 to 1; strangers are trusted a bit
    measured: bool = False
    usual_idle: float = 0.5  # moving average of `idle`
    asked: float = 0.0  # requests since the profile was last written
    answered: float = 0.0
    known: bool = False  # whether this node itself made a request to it
    recalled: bool = False  # whether its profile is of an earlier run
    range_ms: float = 0.0  # moving average of a whole range, from request to last byte
    ranged: float = -math.inf  # when the last range came
    relayed: bool = False
    strikes: int = 0
    exiled_until: float = 0.0
    sequence: int = 0
    heard: float = -math.inf  # on the monotonic clock of this node
    signed: bytes = field(default=b"", repr=False)

    def measure_rtt(self, seconds: float) -> None:
        """Update the moving average by a round trip."""
        share = SMOOTHING if self.measured else 1.0
        self.rtt_ms += share * (seconds * 1000 - self.rtt_ms)
        self.measured = True

    def measure_range(self, seconds: float) -> None:
        """Update the moving average by the time of a whole range."""
        share = SMOOTHING if self.range_ms else 1.0
        self.range_ms += share * (seconds * 1000 - self.range_ms)
        self.ranged = time.monotonic()

    @property
    def latency_ms(self) -> float:
        """Latency of recent ranges, or the round trip without any; so the peer is tried."""
        if time.monotonic() - self.ranged > FRESH:
            return self.rtt_ms
        return max(self.rtt_ms, self.range_ms)

    def count_request(self, answered: bool) -> None:
        """Count a request of this node, and whether the peer answered it."""
        self.asked, self.answered = self.asked + 1, self.answered + answered
        self.known = True

    def measure_success(self, completed: float, attempted: float) -> None:
        """Update the success rate by a transfer, in parts."""
        self.asked, self.answered = self.asked + attempted, self.answered + completed
        self.known = True
        self.success += SMOOTHING * (completed / attempted - self.success)


@eqx.filter_jit
def _terms(seen: Float[Array | np.ndarray, "peers 4"]) -> Float[Array, "peers 3"]:
    """The terms of Eq. 7, from availability, latency, memory and a factor per peer."""
    available, latency, memory, counts = jnp.asarray(seen).T
    return peer_terms(available, latency, memory) * counts[:, None]


@eqx.filter_jit
def _choice(
    weights: Float[Array, "3"],
    seen: Float[Array | np.ndarray, "peers 4"],
    usable: Bool[Array | np.ndarray, " peers"],
    k: int,
) -> tuple[Array, Array]:
    return select_peers(peer_scores(weights, _terms(seen)), jnp.asarray(usable), k)


class PeerTable:
    """All peers that this node has heard of.

    **Arguments:**

    - `learner`: of the weights of Eq. 7; a new one if left out.
    - `most`: peers to remember.
    """

    def __init__(self, learner: WeightLearner | None = None, most: int = MOST_PEERS):
        self._most = most
        self.learner = learner or WeightLearner()
        self._peers: dict[str, Peer] = {}

    def __iter__(self) -> Iterator[Peer]:
        return iter(list(self._peers.values()))

    def get(self, name: str) -> Peer:
        """The record of a peer, created if there is none."""
        if name not in self._peers:
            if len(self._peers) >= self._most:
                # An attacker can invent strangers: they replace each other only.
                oldest = min(
                    self._peers.values(), key=lambda p: (p.known or p.recalled, p.heard)
                )
                del self._peers[oldest.name]
            self._peers[name] = Peer(name)
        return self._peers[name]

    def take_status(self, data: bytes) -> Peer | None:
        """Store a signed status; None if it is older than the stored one.

        Sequence numbers of the same peer are compared, never two clocks. A peer whose clock
        was set back is believed again once its last status is no longer fresh.
        """
        status = read_status(data)
        peer = self.get(str(PeerID(status.peer)))
        now = time.monotonic()
        if status.sequence <= peer.sequence and now - peer.heard < FRESH:
            return None
        first = not (peer.signed or peer.recalled)
        peer.sequence, peer.heard, peer.signed = status.sequence, now, data
        share = 1.0 if first else SMOOTHING
        peer.usual_idle += share * (status.idle - peer.usual_idle)
        peer.idle, peer.load = status.idle, status.load
        peer.memory_free, peer.zone = status.memory_free, status.zone
        peer.addresses = [a for a in status.addresses if len(a) <= 256]
        return peer

    def strike(self, name: str) -> None:
        """Demote a peer that sent bytes of another digest; the second time, exile it."""
        peer = self.get(name)
        peer.success *= 0.5
        peer.strikes += 1
        if peer.strikes >= STRIKES:
            peer.exiled_until = time.monotonic() + EXILE

    def usable(self, name: str) -> bool:
        """Whether a peer is not exiled for lying."""
        return self.get(name).exiled_until < time.monotonic()

    def terms(self, names: list[str]) -> np.ndarray:
        """The terms of Eq. 7 for some peers.

        Availability is the idle fraction that a peer claims, times the share of transfers
        that it completed. The terms of a peer that is connected through a relay, and so its
        score, count half (`RELAYED`): the relay is shared, limited, and pays with its own
        traffic. A peer that answers statuses at once but ranges late is rated by its
        ranges.
        """
        return np.asarray(_terms(self._seen(names)))[: len(names)]

    def _seen(self, names: list[str]) -> Float[np.ndarray, "peers 4"]:
        # Padded to a power of two, so that few sizes are compiled.
        size = max(8, 1 << (len(names) - 1).bit_length())
        seen = np.ones((size, 4), np.float32)
        for row, name in zip(seen, names, strict=False):
            p = self.get(name)
            relay = RELAYED if p.relayed else 1.0
            row[:] = p.idle * p.success, p.latency_ms, p.memory_free / 1e9, relay
        return seen

    def compile(self) -> None:
        """Compile the choice among a few peers and the learning step; nothing changes."""
        seen = self._seen([])
        with _compiling:
            _choice(self.learner.model.weights, seen, np.zeros(len(seen), bool), len(seen))
        with _compiling:
            _terms(seen)
            self.learner.compile()

    def choose(self, names: list[str], k: int) -> list[str]:
        """The best `k` of some peers, best first, without exiled ones."""
        if not names:
            return []
        seen = self._seen(names)
        usable = np.zeros(len(seen), bool)
        usable[: len(names)] = [self.usable(name) for name in names]
        indices, found = _choice(self.learner.model.weights, seen, usable, len(seen))
        best = [names[i] for i, one in zip(indices, found, strict=True) if one]
        return best[:k]

    def choose_diverse(self, names: list[str], k: int, taken: list[str]) -> list[str]:
        """The best `k` peers, if possible in zones that differ and hold none of `taken`."""
        ranked = self.choose([name for name in names if name not in taken], len(names))
        zones = {self.get(name).zone for name in taken} - {""}
        chosen: list[str] = []
        for fresh_zones_only in (True, False):
            for name in ranked:
                zone = self.get(name).zone
                known = fresh_zones_only and zone in zones
                if len(chosen) == k or name in chosen or known:
                    continue
                chosen.append(name)
                zones |= {zone} - {""}
        return chosen
