"""What is known about other peers, and the choice among them."""

import math
import threading
import time
from dataclasses import dataclass, field

import equinox as eqx
import numpy as np
from jaxtyping import Float

from ...kernels import peer_scores, peer_terms, select_peers
from .._libp2p.library import PeerID, deserialize_public_key
from .._rpc import wire_pb2 as wire
from .._rpc.messages import MessageError, parse
from .weights import WeightLearner

SMOOTHING = 0.2  # of the newest sample in the moving averages
RELAYED = 0.5  # what a peer behind a relay counts
FRESH = 60.0  # seconds that a status, and the time of a range, hold
EXILE = 300.0  # seconds without a peer that lied twice
STRIKES = 2
MOST_PEERS = 4096
LARGEST_STATUS = 4096
_compiling = threading.Lock()  # nodes of one process share what is compiled
_DOMAIN = b"sedma-status:"  # a signature must not serve elsewhere


@dataclass
class Peer:
    """One peer: what it says of itself, and what was seen of it."""

    name: str
    addresses: list[str] = field(default_factory=list)
    zone: str = ""
    idle: float = 0.5  # fraction of cores, until it says
    memory_free: int = 0  # bytes
    load: float = 0.0
    rtt_ms: float = 50.0  # until it was measured
    success: float = 0.8  # moving average of transfers, 0 to 1; strangers get some trust
    measured: bool = False
    usual_idle: float = 0.5  # moving average of it
    asked: float = 0.0  # requests of this node, since its profile was last written
    answered: float = 0.0
    known: bool = False  # whether this node itself dealt with it
    recalled: bool = False  # from an earlier run
    range_ms: float = 0.0  # moving average of a whole range, request to last byte
    ranged: float = -math.inf  # when the last one came
    relayed: bool = False
    strikes: int = 0
    exiled_until: float = 0.0
    sequence: int = 0
    heard: float = -math.inf  # on the monotonic clock of this node
    signed: bytes = field(default=b"", repr=False)

    def measure_rtt(self, seconds: float) -> None:
        """Take in a round trip."""
        share = SMOOTHING if self.measured else 1.0
        self.rtt_ms += share * (seconds * 1000 - self.rtt_ms)
        self.measured = True

    def measure_range(self, seconds: float) -> None:
        """Take in the time of a whole range."""
        share = SMOOTHING if self.range_ms else 1.0
        self.range_ms += share * (seconds * 1000 - self.range_ms)
        self.ranged = time.monotonic()

    @property
    def latency_ms(self) -> float:
        """Of a whole range lately, or a round trip: who is not tried looks quick."""
        if time.monotonic() - self.ranged > FRESH:
            return self.rtt_ms
        return max(self.rtt_ms, self.range_ms)

    def count_request(self, answered: bool) -> None:
        """Take in whether it answered what this node asked for."""
        self.asked, self.answered = self.asked + 1, self.answered + answered
        self.known = True

    def measure_success(self, completed: float, attempted: float) -> None:
        """Take in a transfer."""
        self.asked, self.answered = self.asked + attempted, self.answered + completed
        self.known = True
        self.success += SMOOTHING * (completed / attempted - self.success)


def sign_status(keys, peer: PeerID, status: wire.Status) -> bytes:
    """A status as the peer itself sends it."""
    status.peer = peer.to_bytes()
    data = status.SerializeToString()
    return wire.SignedStatus(
        status=data,
        public_key=keys.public_key.serialize(),
        signature=keys.private_key.sign(_DOMAIN + data),
    ).SerializeToString()


def read_status(data: bytes) -> wire.Status:
    """Check a signed status; `MessageError` for a forged or senseless one."""
    if len(data) > LARGEST_STATUS:
        raise MessageError(
            f"a status has at most {LARGEST_STATUS} bytes. Got {len(data)}. Name fewer "
            "addresses."
        )
    signed = parse(wire.SignedStatus, data)
    status = parse(wire.Status, signed.status)
    try:
        key = deserialize_public_key(signed.public_key)
        genuine = PeerID.from_pubkey(key).to_bytes() == status.peer and key.verify(
            _DOMAIN + signed.status, signed.signature
        )
    except Exception:  # of several libraries, with no common base
        genuine = False
    sensible = (
        0 <= status.idle <= 1
        and 0 <= status.load < 1e6
        and status.memory_free < 2**50
        and len(status.zone) <= 64
        and len(status.addresses) <= 8
    )
    if not (genuine and sensible):
        raise MessageError(
            "a status is signed by its peer, and sensible. Got a "
            f"{'senseless' if genuine else 'forged'} one. Ignore who sent it."
        )
    return status


@eqx.filter_jit
def _terms(seen):
    """The terms of Eq. 7; rows of availability, latency, memory, and what they count."""
    available, latency, memory, counts = seen.T
    return peer_terms(available, latency, memory) * counts[:, None]


@eqx.filter_jit
def _choice(weights, seen, usable, k):
    return select_peers(peer_scores(weights, _terms(seen)), usable, k)


class PeerTable:
    """All peers that this node has heard of."""

    def __init__(self, learner: WeightLearner | None = None):
        self.learner = learner or WeightLearner()
        self._peers: dict[str, Peer] = {}

    def __iter__(self):
        return iter(list(self._peers.values()))

    def get(self, name: str) -> Peer:
        """The record of a peer, made if there is none."""
        if name not in self._peers:
            if len(self._peers) >= MOST_PEERS:
                # Strangers cost nothing to make up: they replace each other.
                oldest = min(
                    self._peers.values(), key=lambda p: (p.known or p.recalled, p.heard)
                )
                del self._peers[oldest.name]
            self._peers[name] = Peer(name)
        return self._peers[name]

    def take_status(self, data: bytes) -> Peer | None:
        """Take in a signed status; None if it is older than what is known.

        Only the sequence of one and the same peer is compared, never two clocks. A peer
        whose clock was set back is heard again once its last status has gone stale.
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
        """A peer sent what its digest does not match: demote it, then drop it."""
        peer = self.get(name)
        peer.success *= 0.5
        peer.strikes += 1
        if peer.strikes >= STRIKES:
            peer.exiled_until = time.monotonic() + EXILE

    def usable(self, name: str) -> bool:
        """Whether a peer is not in exile for lying."""
        return self.get(name).exiled_until < time.monotonic()

    def terms(self, names: list[str]) -> np.ndarray:
        """The terms of Eq. 7 for some peers.

        Availability is the idle fraction that a peer claims, times the share of transfers
        that it completed. Of a peer that is connected through a relay all terms count half
        (`RELAYED`), and so does its score: its way is shared and limited, and another
        peer's bytes pay for it. A peer that answers to statuses at once and to requests
        late is as slow as it is to requests.
        """
        return np.asarray(_terms(self._seen(names)))[: len(names)]

    def _seen(self, names: list[str]) -> Float[np.ndarray, "peers 4"]:
        # Rounded up to a power of two, so that few sizes are compiled.
        size = max(8, 1 << (len(names) - 1).bit_length())
        seen = np.ones((size, 4), np.float32)
        for row, name in zip(seen, names, strict=False):
            p = self.get(name)
            relay = RELAYED if p.relayed else 1.0
            row[:] = p.idle * p.success, p.latency_ms, p.memory_free / 1e9, relay
        return seen

    def compile(self) -> None:
        """Compile what a choice among few and a lesson need; both are unchanged by it."""
        seen = self._seen([])
        with _compiling:
            _choice(self.learner.model.weights, seen, np.zeros(len(seen), bool), len(seen))
        with _compiling:
            _terms(seen)
            self.learner.compile()

    def choose(self, names: list[str], k: int) -> list[str]:
        """The best `k` of some peers, best first; liars are left out."""
        if not names:
            return []
        seen = self._seen(names)
        usable = np.zeros(len(seen), bool)
        usable[: len(names)] = [self.usable(name) for name in names]
        indices, found = _choice(self.learner.model.weights, seen, usable, len(seen))
        best = [names[i] for i, one in zip(indices, found, strict=True) if one]
        return best[:k]

    def choose_diverse(self, names: list[str], k: int, taken: list[str]) -> list[str]:
        """The best `k` peers, of zones that `taken` and they do not share, if possible."""
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
