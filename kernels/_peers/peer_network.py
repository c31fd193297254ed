"""Simulate peers that come, go, lie and slow down, and clients that choose among them.

Time advances in steps. In each step peers join or leave, and their load and memory change
at random (vmapped over peers); then `requests` clients each want a tensor that `holders`
peers have. A client asks the holders one after the other, in the order of its policy, until
one sends the tensor, which takes, in seconds,

    delay + exp(log_seconds + log_spread n + shared_log_spread m) (1 + load) + rtt,

with `n` standard normal for each attempt and `m` for each request, which is the client's
own pace; a failed attempt takes `exp(fail_log_seconds + fail_log_spread n)`. What clients
know of peers (success, service time, exile, weights of Eq. 7) is one table for all of them,
as if gossip were instant; what peers say of themselves is one step old. The functions of
`transfer_times.py` estimate the parameters of attempts from recorded ones.
"""

from typing import Any

import equinox as eqx
import jax
import jax.lax as lax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, UInt32

from .peer_choice import TransferModel, peer_terms, transfer_log_likelihood
from .ranking import Rank

SMOOTHING = 0.2  # weight of the newest attempt in the moving average of success
FIRST_SUCCESS = 0.8  # success rate assumed for an unknown peer
RIGHT = 1.1  # a choice is right if its time is at most this many times the best
OVERTAKEN = 2.0  # a peer that takes this many times as long as the next one loses to it
WINDOW = 100  # number of attempts that the weights are fitted to
WANDER = 0.1  # share of the way back to its mean that a peer's load goes per step


class PeerNetwork(eqx.Module):
    """The fixed properties of all peers, one entry per peer.

    - `delay`: seconds before a peer answers, from 0.
    - `log_seconds`, `log_spread`: logarithm of the seconds that a tensor takes without
        load, and its standard deviation from attempt to attempt.
    - `fail_log_seconds`, `fail_log_spread`: the same of an attempt that fails.
    - `lies`: whether it sends data that its digest does not match.
    - `leave`, `back`: probabilities, per step, of leaving and of coming back.
    - `killed_at`: step from which it is gone for good, or infinity.
    - `capacity`: tensors per step that double the service time, positive.
    - `position`: in ms; half the round trip is the distance.
    - `access`: ms that its own line adds to every round trip.
    - `idle`: mean idle fraction of its cores, from 0 to 1.
    - `memory_free`: mean, in GB.
    - `name`: its key in the routing table.
    - `shared_log_spread`: standard deviation of the client's own pace, one for all.

    **Example:**

        >>> zero, one = jnp.zeros(3), jnp.ones(3)
        >>> network = sj.kernels.PeerNetwork(  # three that take a second and never leave
        ...     delay=zero, log_seconds=zero, log_spread=zero, fail_log_seconds=zero,
        ...     fail_log_spread=zero, lies=zero > 0, leave=zero, back=one,
        ...     killed_at=jnp.inf * one, capacity=one, position=jnp.zeros((3, 2)),
        ...     access=zero, idle=one, memory_free=8 * one,
        ...     name=jnp.arange(3, dtype=jnp.uint32), shared_log_spread=jnp.zeros(()),
        ... )
    """

    delay: Float[Array, " peers"]
    log_seconds: Float[Array, " peers"]
    log_spread: Float[Array, " peers"]
    fail_log_seconds: Float[Array, " peers"]
    fail_log_spread: Float[Array, " peers"]
    lies: Bool[Array, " peers"]
    leave: Float[Array, " peers"]
    back: Float[Array, " peers"]
    killed_at: Float[Array, " peers"]
    capacity: Float[Array, " peers"]
    position: Float[Array, "peers 2"]
    access: Float[Array, " peers"]
    idle: Float[Array, " peers"]
    memory_free: Float[Array, " peers"]
    name: UInt32[Array, " peers"]
    shared_log_spread: Float[Array, ""]


class NetworkState(eqx.Module):
    """The state of the network, which changes from step to step."""

    alive: Bool[Array, " peers"]
    idle: Float[Array, " peers"]
    memory_free: Float[Array, " peers"]
    load: Float[Array, " peers"]
    success: Float[Array, " peers"]
    service: Float[Array, " peers"]  # moving average of a transfer in ms; 0 if unknown
    exiled: Bool[Array, " peers"]
    model: TransferModel
    optimiser: Any
    terms: Float[Array, "window 3"]
    outcomes: Float[Array, "2 window"]  # completed, attempted
    step: Int[Array, ""]


class Transfers(eqx.Module):
    """What became of each request of one step, or of all steps."""

    seconds: Float[Array, "*steps requests"]  # to the last verified byte, or until given up
    arrived: Bool[Array, "*steps requests"]
    right: Bool[Array, "*steps requests"]  # the first choice was within 10 % of the best
    attempts: Int[Array, "*steps requests"]  # attempts, skipped liars included
    sent: Int[Array, "*steps requests"]  # whole tensors sent, wrong ones included


class _Requests(eqx.Module):
    """The requests of one step, each with the peers that hold its tensor."""

    held: Int[Array, "requests holders"]  # the holders of each tensor
    content: UInt32[Array, " requests"]  # its key in the routing table
    rtt: Float[Array, "requests holders"]  # ms between client and holder


class _Attempts(eqx.Module):
    """The attempts of all clients of one step, in the order of asking."""

    peer: Int[Array, "requests holders"]
    asked: Bool[Array, "requests holders"]  # nobody before it sent the tensor
    failed: Bool[Array, "requests holders"]  # it is away, lies or is in exile
    lying: Bool[Array, "requests holders"]  # it sends a wrong tensor
    exiled: Bool[Array, "requests holders"]
    seconds: Float[Array, "requests holders"]  # of the attempt, the round trip included
    service: Float[Array, "requests holders"]  # seconds of a transfer at the peer
    best: Float[Array, " requests"]  # seconds of the fastest peer that would send it


def initial_network_state(network: PeerNetwork, optimiser: Any = None) -> NetworkState:
    """Make the first state: every peer is alive and unknown, and all weights are 1.

    **Example:**

        >>> zero, one = jnp.zeros(3), jnp.ones(3)
        >>> network = sj.kernels.PeerNetwork(
        ...     *5 * (zero,), zero > 0, zero, one, jnp.inf * one, one, jnp.zeros((3, 2)),
        ...     zero, one, 8 * one, jnp.arange(3, dtype=jnp.uint32), jnp.zeros(()),
        ... )
        >>> state = sj.kernels.initial_network_state(network)
        >>> print(state.alive, state.model.weights)
        [ True  True  True] [1. 1. 1.]
    """
    peers, dtype = network.idle.shape, network.idle.dtype
    model = TransferModel(jnp.ones(3, dtype), jnp.zeros((), dtype))
    return NetworkState(
        alive=jnp.ones(peers, bool),
        idle=network.idle,
        memory_free=network.memory_free,
        load=jnp.zeros(peers, dtype),
        success=jnp.full(peers, FIRST_SUCCESS, dtype),
        service=jnp.zeros(peers, dtype),
        exiled=jnp.zeros(peers, bool),
        model=model,
        optimiser=None if optimiser is None else optimiser.init(model),
        terms=jnp.zeros((WINDOW, 3), dtype),
        outcomes=jnp.zeros((2, WINDOW), dtype),
        step=jnp.zeros((), int),
    )


def simulate_network(
    network: PeerNetwork,
    state: NetworkState,
    rank: Rank,
    *,
    steps: int,
    requests: int,
    holders: int,
    connected: bool = False,
    optimiser: Any = None,
    learning_steps: int = 1,
    key: PRNGKeyArray,
) -> tuple[NetworkState, Transfers]:
    """Simulate `steps` steps of `requests` requests each.

    **Arguments:**

    - `rank`: `rank_by_score`, `rank_by_distance`, `rank_at_random`, or another function of
        the same arguments; the peer of highest rank is asked first.
    - `requests`, `holders`, `steps`: at least 1, with `holders` at most the number of
        peers. All are static. Holders are drawn with replacement unless they are all peers.
    - `connected`: whether clients have connections to all peers, so that they ask those
        last that were gone one step before. Static.
    - `optimiser`: an optax optimiser, as in `initial_network_state`, which learns the
        weights (Eq. 8) in `learning_steps` steps after each step of the network. None
        leaves them unchanged.

    **Returns:**

    The state after the last step, and what became of every request.

    **Example:**

        >>> zero, one = jnp.zeros(3), jnp.ones(3)
        >>> network = sj.kernels.PeerNetwork(
        ...     *5 * (zero,), zero > 0, zero, one, jnp.inf * one, one, jnp.zeros((3, 2)),
        ...     zero, one, 8 * one, jnp.arange(3, dtype=jnp.uint32), jnp.zeros(()),
        ... )
        >>> state = sj.kernels.initial_network_state(network)
        >>> state, done = sj.kernels.simulate_network(
        ...     network, state, sj.kernels.rank_by_score,
        ...     steps=2, requests=1, holders=3, key=jr.key(0),
        ... )
        >>> bool(jnp.all(done.arrived)), float(done.seconds[0, 0])  # exp(log_seconds)
        (True, 1.0)
    """

    def step(state, key):
        keys = dict(zip(("peers", "requests", "order"), jr.split(key, 3), strict=True))
        was_alive = state.alive
        state = _peer_events(network, state, key=keys["peers"])
        return _serve_requests(
            network,
            state,
            lambda *known: rank(*known, key=keys["order"]),
            (requests, holders),
            was_alive if connected else None,
            optimiser,
            learning_steps,
            key=keys["requests"],
        )

    return lax.scan(step, state, jr.split(key, steps))


def _peer_events(
    network: PeerNetwork, state: NetworkState, *, key: PRNGKeyArray
) -> NetworkState:
    """Let each peer join or leave, and change its idle cores and memory."""

    def one(leave, back, killed_at, mean_idle, mean_memory, alive, idle, memory, load, key):
        coin, first, second = jr.split(key, 3)
        stays = jr.uniform(coin, (), leave.dtype) >= jnp.where(alive, leave, 1 - back)
        alive = stays & (state.step.astype(killed_at.dtype) < killed_at)
        noise = jr.normal(first, (), idle.dtype) * 0.05
        free = mean_idle - load  # serving takes cores too
        idle = jnp.clip(idle + WANDER * (free - idle) + noise, 0, 1)
        noise = jr.normal(second, (), memory.dtype) * 0.05 * mean_memory
        return alive, idle, jnp.maximum(memory + WANDER * (mean_memory - memory) + noise, 0)

    alive, idle, memory = jax.vmap(one)(
        network.leave,
        network.back,
        network.killed_at,
        network.idle,
        network.memory_free,
        state.alive,
        state.idle,
        state.memory_free,
        state.load,
        jr.split(key, len(network.idle)),
    )
    where = lambda s: (s.alive, s.idle, s.memory_free)
    return eqx.tree_at(where, state, (alive, idle, memory))


def _serve_requests(
    network: PeerNetwork,
    state: NetworkState,
    rank: Rank,
    shape: tuple[int, int],
    known_alive: Bool[Array, " peers"] | None,
    optimiser: Any,
    learning_steps: int,
    *,
    key: PRNGKeyArray,
) -> tuple[NetworkState, Transfers]:
    """Draw the requests of a step, let clients ask, and update what is known of peers."""
    names = ("client", "holder", "content", "time", "failure", "shared")
    keys: dict[str, PRNGKeyArray] = dict(zip(names, jr.split(key, 6), strict=True))
    requests = _draw_requests(network, shape, keys)
    terms, order = _ask_order(network, state, rank, requests, known_alive)
    attempts = _attempt(network, state, requests, order, keys)
    done = _transfers(attempts)
    state = _observe(network, state, attempts)
    if optimiser is None:
        return state, done
    first = jnp.take_along_axis(terms, order[:, :1, None], axis=1)[:, 0]
    seconds, failed = attempts.seconds, attempts.failed
    overtaken = (seconds[:, :1] > OVERTAKEN * seconds[:, 1:2]) & ~failed[:, 1:2]
    in_time = ~failed[:, 0] & ~overtaken.any(1)
    return _learn(state, first, in_time, optimiser, learning_steps), done


def _draw_requests(
    network: PeerNetwork, shape: tuple[int, int], keys: dict[str, PRNGKeyArray]
) -> _Requests:
    """Draw who asks, for what, and which peers hold it."""
    requests, holders = shape
    peers = len(network.idle)
    client = jr.randint(keys["client"], (requests, 1), 0, peers)
    if holders == peers:
        held = jnp.broadcast_to(jnp.arange(peers), shape)
    else:
        held = jr.randint(keys["holder"], shape, 0, peers)
    content = jr.bits(keys["content"], (requests,), jnp.uint32)
    away = network.position[held] - network.position[client]
    rtt = 2 * jnp.sqrt((away**2).sum(-1)) + network.access[held] + network.access[client]
    return _Requests(held, content, rtt)


def _ask_order(
    network: PeerNetwork,
    state: NetworkState,
    rank: Rank,
    requests: _Requests,
    known_alive: Bool[Array, " peers"] | None,
) -> tuple[Float[Array, "requests holders 3"], Int[Array, "requests holders"]]:
    """The terms of Eq. 7 of all holders, and the order in which they are asked."""
    held = requests.held
    available = state.idle[held] * state.success[held]
    latency = requests.rtt + state.service[held]
    terms = jax.vmap(peer_terms)(available, latency, state.memory_free[held])
    scores = rank(
        state.model, terms, network.name[held], requests.content, state.exiled[held]
    )
    if known_alive is not None:
        scores = jnp.where(known_alive[held], scores, -jnp.inf)
    return terms, jnp.argsort(-scores, axis=1)


def _attempt(
    network: PeerNetwork,
    state: NetworkState,
    requests: _Requests,
    order: Int[Array, "requests holders"],
    keys: dict[str, PRNGKeyArray],
) -> _Attempts:
    """Draw how long each holder takes, and who is asked until one sends the tensor."""
    held, dtype = requests.held, network.idle.dtype
    count, shape = len(held), held.shape
    exiled, lies = state.exiled[held], network.lies[held]
    fails = ~state.alive[held] | lies | exiled
    whole = jnp.exp(
        network.log_seconds[held]
        + network.log_spread[held] * jr.normal(keys["time"], shape, dtype)
        + network.shared_log_spread * jr.normal(keys["shared"], (count, 1), dtype)
    )
    failing = jnp.exp(
        network.fail_log_seconds[held]
        + network.fail_log_spread[held] * jr.normal(keys["failure"], shape, dtype)
    )
    service = network.delay[held] + whole * (1 + state.load[held])
    whole = service + requests.rtt / 1000
    # A client that has caught a liar does not ask it again.
    failing = jnp.where(exiled, 0, failing)

    in_order = lambda values: jnp.take_along_axis(values, order, axis=1)
    failed = in_order(fails)
    asked = jnp.cumprod(failed, axis=1, dtype=int)
    asked = jnp.concatenate([jnp.ones((count, 1), int), asked[:, :-1]], axis=1) > 0
    return _Attempts(
        peer=in_order(held),
        asked=asked,
        failed=failed,
        lying=in_order(lies & state.alive[held] & ~exiled),
        exiled=in_order(exiled),
        seconds=in_order(jnp.where(fails, failing, whole)),
        service=in_order(service),
        best=jnp.where(fails, jnp.inf, whole).min(axis=1),
    )


def _transfers(attempts: _Attempts) -> Transfers:
    """What became of each request."""
    asked, failed, seconds = attempts.asked, attempts.failed, attempts.seconds
    return Transfers(
        seconds=jnp.where(asked, seconds, 0).sum(1),
        arrived=(~failed).any(1),
        right=~failed[:, 0] & (seconds[:, 0] <= RIGHT * attempts.best),
        attempts=asked.sum(1),
        sent=(asked & (~failed | attempts.lying)).sum(1),
    )


def _observe(
    network: PeerNetwork, state: NetworkState, attempts: _Attempts
) -> NetworkState:
    """Update success, service time, exile and load of peers by the attempts of a step."""
    dtype = network.idle.dtype

    def summed(of, values=None):
        counts = (attempts.asked & of).astype(dtype)
        counts = counts if values is None else counts * values
        return jnp.zeros(len(network.idle), dtype).at[attempts.peer].add(counts)

    tried, came = summed(~attempts.exiled), summed(~attempts.failed)
    share = 1 - (1 - SMOOTHING) ** tried
    success = state.success + share * (came / jnp.maximum(tried, 1) - state.success)
    mean = 1000 * summed(~attempts.failed, attempts.service) / jnp.maximum(came, 1)
    share = jnp.where(
        state.service > 0, 1 - (1 - SMOOTHING) ** came, (came > 0).astype(dtype)
    )
    return eqx.tree_at(
        lambda s: (s.success, s.service, s.exiled, s.load, s.step),
        state,
        (
            success,
            state.service + share * (mean - state.service),
            state.exiled | (summed(attempts.lying) > 0),
            came / network.capacity,
            state.step + 1,
        ),
    )


def _learn(
    state: NetworkState,
    terms: Float[Array, "requests 3"],
    came: Bool[Array, " requests"],
    optimiser: Any,
    steps: int,
) -> NetworkState:
    """Follow the gradient of Eq. 8 on the last attempts, each the first of a request.

    In `comm` idle peers ask for what slow ones still owe, so that a peer that is overtaken
    counts as failed.
    """
    new = min(len(terms), WINDOW)
    outcomes = jnp.stack([came[:new], jnp.ones(new, bool)]).astype(state.outcomes.dtype)
    kept = jnp.roll(state.terms, new, axis=0).at[:new].set(terms[:new])
    counts = jnp.roll(state.outcomes, new, axis=1).at[:, :new].set(outcomes)

    def step(_, carry):
        model, inner = carry
        gradient = jax.grad(transfer_log_likelihood)(model, kept, *counts)
        ascent = jax.tree.map(jnp.negative, gradient)
        updates, inner = optimiser.update(ascent, inner, model)
        model = eqx.apply_updates(model, updates)
        return TransferModel(jnp.clip(model.weights, 0, 100), model.bias), inner

    model, inner = lax.fori_loop(0, steps, step, (state.model, state.optimiser))
    where = lambda s: (s.model, s.optimiser, s.terms, s.outcomes)
    return eqx.tree_at(where, state, (model, inner, kept, counts))
