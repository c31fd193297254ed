"""Many peers that come, go, lie and slow down, and clients that choose among them.

Time advances in steps. In each, peers join or leave and their load and memory wander
(vmapped over peers); then `requests` clients each want a tensor that `holders` peers have.
A client asks them one after the other, in the order of its policy, until one sends it, in
seconds

    delay + exp(log_seconds + log_spread n + shared_log_spread m) (1 + load) + rtt,

`n` standard normal for each attempt and `m` for each request, which is the client's own
pace; a failed attempt takes `exp(fail_log_seconds + fail_log_spread n)`. What is known of
peers (success, service time, exile, weights of Eq. 7) is one table for all clients, as if
gossip were instant; what peers say of themselves is a step old. `fit_log_normal` and
`fit_shared_log_normal` find the parameters of attempts from recorded ones.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.lax as lax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, UInt32

from .peer_choice import (
    TransferModel,
    peer_scores,
    peer_terms,
    transfer_log_likelihood,
)

SMOOTHING = 0.2  # of the newest attempt in the moving average of success
FIRST_SUCCESS = 0.8  # what a stranger is trusted
RIGHT = 1.1  # a choice within this of the best time is right
OVERTAKEN = 2.0  # times what the next peer takes: it would ask for the rest, and be first
WINDOW = 100  # attempts that the weights are fitted to
WANDER = 0.1  # share of the way back to its mean that a peer's load goes in a step


class PeerNetwork(eqx.Module):
    """What every peer is; all arrays have one entry for each."""

    delay: Float[Array, " peers"]  # seconds before it answers
    log_seconds: Float[Array, " peers"]  # of an unloaded peer sending a whole tensor
    log_spread: Float[Array, " peers"]
    fail_log_seconds: Float[Array, " peers"]
    fail_log_spread: Float[Array, " peers"]
    lies: Bool[Array, " peers"]  # sends what its digest does not match
    leave: Float[Array, " peers"]  # probability of leaving in a step
    back: Float[Array, " peers"]  # probability of coming back in a step
    killed_at: Float[Array, " peers"]  # step from which it is gone for good, or infinity
    capacity: Float[Array, " peers"]  # tensors in a step at which service takes twice
    position: Float[Array, "peers 2"]  # ms: half the round trip is the distance
    access: Float[Array, " peers"]  # ms of its own line, in every round trip
    idle: Float[Array, " peers"]  # mean idle fraction of its cores
    memory_free: Float[Array, " peers"]  # mean, in GB
    name: UInt32[Array, " peers"]  # its key in the routing table
    shared_log_spread: Float[Array, ""]


class NetworkState(eqx.Module):
    """What changes from step to step."""

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
    attempts: Int[Array, "*steps requests"]  # liars that are not asked again included
    sent: Int[Array, "*steps requests"]  # whole tensors on the wire, wrong ones included


Rank = Callable[..., Float[Array, "requests holders"]]


def rank_by_score(model, terms, names, content, exiled, *, key):
    """Eq. 7; peers in exile last."""
    scores = jax.vmap(lambda t: peer_scores(model.weights, t))(terms)
    return jnp.where(exiled, -jnp.inf, scores)


def rank_by_distance(model, terms, names, content, exiled, *, key):
    """The XOR metric of the routing table alone."""
    return -(names ^ content[:, None]).astype(terms.dtype)


def rank_at_random(model, terms, names, content, exiled, *, key):
    """No preference."""
    return jr.uniform(key, names.shape, terms.dtype)


def fit_log_normal(
    seconds: Float[Array, " attempts"],
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Mean and standard deviation of the logarithm, of greatest likelihood.

    **Arguments:**

    - `seconds`: positive, at least one.
    """
    logs = jnp.log(seconds)
    return logs.mean(), logs.std()


def fit_shared_log_normal(
    seconds: Float[Array, "requests peers"],
) -> tuple[Float[Array, " peers"], Float[Array, ""], Float[Array, ""]]:
    """Log means of peers, their own log spread, and that which they share in a request.

    By analysis of variance: the residual of a two-way layout without interaction, and
    what the means of requests scatter beyond it.

    **Arguments:**

    - `seconds`: positive, of two or more peers asked in each of two or more requests.
    """
    logs = jnp.log(seconds)
    requests, peers = logs.shape
    of_peers, of_requests = logs.mean(0), logs.mean(1, keepdims=True)
    residual = logs - of_peers[None] - of_requests + logs.mean()
    own = (residual**2).sum() / ((requests - 1) * (peers - 1))
    shared = jnp.maximum(of_requests.var(ddof=1) - own / peers, 0)
    return of_peers, jnp.sqrt(own), jnp.sqrt(shared)


def initial_network_state(network: PeerNetwork, optimiser: Any = None) -> NetworkState:
    """Everybody is there, nobody known, and all weights are 1."""
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
    """Run `steps` steps of `requests` requests each.

    **Arguments:**

    - `rank`: `rank_by_score`, `rank_by_distance`, `rank_at_random`, or another function of
        the same arguments; the highest is asked first.
    - `requests`, `holders`, `steps`: at least 1; `holders` at most the number of peers.
        All static. Holders are drawn with replacement where they are not all peers.
    - `connected`: whether clients have connections to all peers, and so ask those last that
        were gone a step before. Static.
    - `optimiser`: of optax, as in `initial_network_state`: weights are learnt (Eq. 8) by
        `learning_steps` steps after each step of the network. None leaves them.

    **Returns:**

    The state after the last step, and what became of every request.
    """

    def step(state, key):
        keys = dict(zip(("peers", "requests", "order"), jr.split(key, 3), strict=True))
        was_alive = state.alive
        state = _peer_events(network, state, key=keys["peers"])
        return _requests(
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


def _peer_events(network, state, *, key):
    """Join, leave, and wander: each peer on its own."""

    def one(leave, back, killed_at, mean_idle, mean_memory, alive, idle, memory, load, key):
        coin, first, second = jr.split(key, 3)
        stays = jr.uniform(coin, (), leave.dtype) >= jnp.where(alive, leave, 1 - back)
        alive = stays & (state.step.astype(killed_at.dtype) < killed_at)
        noise = jr.normal(first, (), idle.dtype) * 0.05
        free = mean_idle - load  # what it serves takes cores too
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


def _requests(network, state, rank, shape, known_alive, optimiser, learning_steps, *, key):
    names = ("client", "holder", "content", "time", "failure", "shared")
    keys = dict(zip(names, jr.split(key, 6), strict=True))
    requests, holders = shape
    peers, dtype = len(network.idle), network.idle.dtype
    client = jr.randint(keys["client"], (requests, 1), 0, peers)
    if holders == peers:
        held = jnp.broadcast_to(jnp.arange(peers), shape)
    else:
        held = jr.randint(keys["holder"], shape, 0, peers)
    content = jr.bits(keys["content"], (requests,), jnp.uint32)

    away = network.position[held] - network.position[client]
    rtt = 2 * jnp.sqrt((away**2).sum(-1)) + network.access[held] + network.access[client]
    available = state.idle[held] * state.success[held]
    latency = rtt + state.service[held]
    terms = jax.vmap(peer_terms)(available, latency, state.memory_free[held])
    scores = rank(state.model, terms, network.name[held], content, state.exiled[held])
    if known_alive is not None:
        scores = jnp.where(known_alive[held], scores, -jnp.inf)
    order = jnp.argsort(-scores, axis=1)

    exiled, lies = state.exiled[held], network.lies[held]
    fails = ~state.alive[held] | lies | exiled
    whole = jnp.exp(
        network.log_seconds[held]
        + network.log_spread[held] * jr.normal(keys["time"], shape, dtype)
        + network.shared_log_spread * jr.normal(keys["shared"], (requests, 1), dtype)
    )
    failing = jnp.exp(
        network.fail_log_seconds[held]
        + network.fail_log_spread[held] * jr.normal(keys["failure"], shape, dtype)
    )
    service = network.delay[held] + whole * (1 + state.load[held])
    whole = service + rtt / 1000
    # A client that has caught a liar does not ask it again.
    failing = jnp.where(exiled, 0, failing)

    in_order = lambda values: jnp.take_along_axis(values, order, axis=1)
    failed, seconds = in_order(fails), in_order(jnp.where(fails, failing, whole))
    asked = jnp.cumprod(failed, axis=1, dtype=int)
    asked = jnp.concatenate([jnp.ones((requests, 1), int), asked[:, :-1]], axis=1) > 0
    asked_peer, lying = in_order(held), in_order(lies & state.alive[held] & ~exiled)
    best = jnp.where(fails, jnp.inf, whole).min(axis=1)
    done = Transfers(
        seconds=jnp.where(asked, seconds, 0).sum(1),
        arrived=(~fails).any(1),
        right=~failed[:, 0] & (seconds[:, 0] <= RIGHT * best),
        attempts=asked.sum(1),
        sent=(asked & (~failed | lying)).sum(1),
    )

    def summed(of, values=None):
        counts = (asked & of).astype(dtype)
        counts = counts if values is None else counts * values
        return jnp.zeros(peers, dtype).at[asked_peer].add(counts)

    tried, came = summed(~in_order(exiled)), summed(~failed)
    share = 1 - (1 - SMOOTHING) ** tried
    success = state.success + share * (came / jnp.maximum(tried, 1) - state.success)
    mean = 1000 * summed(~failed, in_order(service)) / jnp.maximum(came, 1)
    share = jnp.where(
        state.service > 0, 1 - (1 - SMOOTHING) ** came, (came > 0).astype(dtype)
    )
    state = eqx.tree_at(
        lambda s: (s.success, s.service, s.exiled, s.load, s.step),
        state,
        (
            success,
            state.service + share * (mean - state.service),
            state.exiled | (summed(lying) > 0),
            came / network.capacity,
            state.step + 1,
        ),
    )
    if optimiser is None:
        return state, done
    first = jnp.take_along_axis(terms, order[:, :1, None], axis=1)[:, 0]
    overtaken = (seconds[:, :1] > OVERTAKEN * seconds[:, 1:2]) & ~failed[:, 1:2]
    in_time = ~failed[:, 0] & ~overtaken.any(1)
    return _learn(state, first, in_time, optimiser, learning_steps), done


def _learn(state, terms, came, optimiser, steps):
    """Follow the gradient of Eq. 8 on the last attempts, each the first of a request.

    As in `comm`, where idle peers ask for what slow ones owe, who is overtaken has failed.
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
