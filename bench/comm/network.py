"""A simulated network of peers: against five real ones, then with 10^3 to 10^6.

    python -m bench.comm.network [--sizes 1000 10000 100000 1000000] [--out DIR]

First the parameters of each of the five peers are fitted to the attempts that
`five_peers.py` recorded in its runs by lot. Then the runs of the two other policies, none
of whose data were used, are predicted and compared with what was measured.

Then the comparison of Table 6 (routing by score, by distance alone, by lot) is made on
networks whose attempts take as long as those of the good, the slow and the lying peer of
the trace. Assumed, not fitted: 2 % of peers lie and 10 % are slow, sessions last an hour
and absences ten minutes, 8 peers hold a tensor, a plane takes 75 ms to cross one way,
access takes 5 ms, mean idle fractions are 0.2 to 0.9, 1 to 32 GB are free, and each step of
a second has one request of 1 MiB per 20 peers. All clients know what peers do (see the
kernel). Writes `network.json`.
"""

import json
import time
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from sedma_jax.kernels import (
    PeerNetwork,
    fit_log_normal,
    fit_shared_log_normal,
    initial_network_state,
    rank_at_random,
    rank_by_distance,
    rank_by_score,
    simulate_network,
)

from bench.shared import RESULTS, parser_of, write_json
from sedma_jax.comm import WeightLearner

RANKS = {
    "full": rank_by_score,
    "DHT only": rank_by_distance,
    "random": rank_at_random,
    "static weights": rank_by_score,  # never learnt
}
KINDS = ("good", "slow", "lying")
FITTED = "random"  # the policy whose runs the parameters come from
SAMPLES = 400  # simulated runs of the five peers
HOLDERS, STEPS, SHARE = 8, 120, 20  # SHARE: peers per request of a step
SESSION, ABSENCE = 3600.0, 600.0  # seconds
TENSOR_GB = 2**20 / 1e9
FIRST = 60  # steps until the network is in its steady state


def times_of(trace):
    """Milliseconds of every peer in each turn of the fitted runs, negative if it failed."""
    runs = trace["policies"][FITTED]
    turns = [turn for run in runs for turn in run]
    return np.array([turn[2] for turn in turns]), [set(turn[0]) for turn in turns]


def fit(trace):
    """Log mean and spread of success and failure for each of the five peers."""
    times, asked = times_of(trace)
    kinds = trace["kinds"]
    good = [i for i, kind in enumerate(kinds) if kind == "good"]
    means, own, shared = fit_shared_log_normal(jnp.asarray(times[:, good] / 1e3))
    fitted = {"shared_log_spread": float(shared)}
    for i, kind in enumerate(kinds):
        came, failed = times[:, i][times[:, i] > 0] / 1e3, -times[:, i][times[:, i] < 0]
        if kind == "lying":
            # A client that has caught it before does not ask it, at no cost.
            first = [i not in who for who in asked]
            failed = -times[:, i][np.array(first) & (times[:, i] < 0)]
        failure = fit_log_normal(jnp.asarray(failed / 1e3)) if len(failed) else (0.0, 0.0)
        # All have the same machine and program, so a slower one waits before it answers.
        late = np.median(came) - np.median(times[:, good]) / 1e3 if len(came) else 0.0
        fitted[f"{kind} {i}"] = {
            "delay": max(float(late), 0.0),
            "log_seconds": float(means.mean()),
            "log_spread": float(own),
            "fail_log_seconds": float(failure[0]),
            "fail_log_spread": float(failure[1]),
        }
    return fitted


def real_five(trace, fitted):
    """The five peers of the trace as a network on one spot."""
    kinds = trace["kinds"]
    each = [fitted[f"{kind} {i}"] for i, kind in enumerate(kinds)]
    field = lambda name: jnp.asarray([peer[name] for peer in each])
    constant = lambda value: jnp.full(len(kinds), value)
    killed = [trace["killed_at"] if kind == "killed" else np.inf for kind in kinds]
    return PeerNetwork(
        delay=field("delay"),
        log_seconds=field("log_seconds"),
        log_spread=field("log_spread"),
        fail_log_seconds=field("fail_log_seconds"),
        fail_log_spread=field("fail_log_spread"),
        lies=jnp.asarray([kind == "lying" for kind in kinds]),
        leave=constant(0.0),
        back=constant(0.0),
        killed_at=jnp.asarray(killed),
        capacity=constant(np.inf),
        position=jnp.zeros((len(kinds), 2)),
        access=constant(0.0),
        idle=constant(0.5),
        memory_free=constant(1.0),
        name=jnp.zeros(len(kinds), jnp.uint32),
        shared_log_spread=jnp.asarray(fitted["shared_log_spread"]),
    )


def figures(seconds, arrived, right, attempts):
    """The figures that are compared, from arrays of one shape."""
    seconds = np.where(arrived, seconds, np.nan)
    return {
        "mean_ms": float(1e3 * np.nanmean(seconds)),
        "median_ms": float(1e3 * np.nanmedian(seconds)),
        "p99_ms": float(1e3 * np.nanquantile(seconds, 0.99)),
        "accuracy": float(np.mean(right)),
        "attempts": float(np.mean(attempts)),
    }


def measured(runs):
    """The same figures of recorded runs."""
    turns = [turn for run in runs for turn in run]

    def right(order, peers):
        best = min(ms for ms in peers if ms > 0)
        return 0 < peers[order[0]] <= 1.1 * best

    return figures(
        np.array([whole / 1e3 if whole else np.nan for _, whole, _ in turns]),
        np.array([whole is not None for _, whole, _ in turns]),
        [right(order, peers) for order, _, peers in turns],
        [len(order) for order, _, _ in turns],
    )


def along(routes):
    """A rule that takes peers in the order of a route, which XOR of real keys gave."""
    position = jnp.argsort(jnp.asarray(routes), axis=1)

    def rank(model, terms, names, content, exiled, *, key):
        return -position[content % len(position)].astype(terms.dtype)

    return rank


def predicted(network, name, turns, routes):
    """Figures of many simulated runs, with round trips of their own.

    The order of routing by distance depends on keys that each run draws, so it is an input.
    """
    optimiser = optimiser_of(name)
    rank = (
        along([route for run in routes for route in run])
        if name == "DHT only"
        else RANKS[name]
    )
    peers = len(network.idle)

    @eqx.filter_jit
    @jax.vmap
    def run(key):
        line, requests = jr.split(key)
        # No peer should be the first among equals in every run.
        access = jr.uniform(line, (peers,)) * 1e-3
        one = eqx.tree_at(lambda n: n.access, network, access)
        _, done = simulate_network(
            one,
            initial_network_state(one, optimiser),
            rank,
            steps=turns,
            requests=1,
            holders=peers,
            connected=True,
            optimiser=optimiser,
            learning_steps=25,
            key=requests,
        )
        return done

    done = run(jr.split(jr.key(0), SAMPLES))
    return figures(
        *map(np.asarray, (done.seconds, done.arrived, done.right, done.attempts))
    )


def population(size, fitted, seed=0):
    """A network of the kinds in the trace, under the assumptions at the top of the file."""
    rng = np.random.default_rng(seed)
    kind = rng.choice(3, size, p=[0.88, 0.1, 0.02])
    rows = [next(v for k, v in fitted.items() if k.startswith(n)) for n in KINDS]
    gone = next(v for k, v in fitted.items() if k.startswith("killed"))
    pick = lambda name: np.array([row[name] for row in rows])[kind]
    lies = kind == 2
    array = lambda values: jnp.asarray(np.broadcast_to(values, size), jnp.float32)
    return PeerNetwork(
        delay=array(pick("delay")),
        log_seconds=array(pick("log_seconds")),
        log_spread=array(pick("log_spread")),
        fail_log_seconds=array(
            np.where(lies, pick("fail_log_seconds"), gone["fail_log_seconds"])
        ),
        fail_log_spread=array(
            np.where(lies, pick("fail_log_spread"), gone["fail_log_spread"])
        ),
        lies=jnp.asarray(lies),
        leave=array(1 / SESSION),
        back=array(1 / ABSENCE),
        killed_at=array(np.inf),
        capacity=array(4.0),
        position=jnp.asarray(rng.uniform(0, 75, (size, 2)), jnp.float32),
        access=array(5.0),
        idle=array(rng.uniform(0.2, 0.9, size)),
        memory_free=array(rng.uniform(1, 32, size)),
        name=jnp.asarray(rng.integers(0, 2**32, size, np.uint32)),
        shared_log_spread=jnp.asarray(fitted["shared_log_spread"], jnp.float32),
    )


def optimiser_of(policy: str):
    """The optimiser of the one policy that learns weights, as nodes have it."""
    # Private, but the simulation has to learn as nodes do.
    return WeightLearner()._optimiser if policy == "full" else None


def simulation(policy: str, requests: int):
    """Compile a policy: `run(network, key)` gives the last state, and what was done."""
    optimiser = optimiser_of(policy)

    @eqx.filter_jit
    def run(network, key):
        return simulate_network(
            network,
            initial_network_state(network, optimiser),
            RANKS[policy],
            steps=STEPS,
            requests=requests,
            holders=HOLDERS,
            optimiser=optimiser,
            learning_steps=25,
            key=key,
        )

    return run


def steady(done):
    """What was done after the first steps, as NumPy arrays."""
    return jax.tree.map(lambda x: np.asarray(x[FIRST:]), done)


def figures_of(late) -> dict:
    """The figures of steady steps."""
    return figures(late.seconds, late.arrived, late.right, late.attempts)


def bandwidth(late) -> dict:
    """GB sent per hour, failed attempts included, at one arriving tensor per second."""
    sent = late.sent.sum() / late.arrived.sum()
    return {"gb_per_hour": float(3600 * TENSOR_GB * sent)}


def simulated(requests: int, network_of, seeds: int, more) -> dict:
    """Figures of every policy, lists over seeds, on the network that each seed draws.

    `more(late, state, network)` adds figures to those of a run, whose last state it gets.
    """
    found = {}
    for policy in RANKS:
        run, rows = simulation(policy, requests), []
        for seed in range(seeds):
            network = network_of(seed)
            state, done = run(network, jr.key(seed))
            late = steady(done)
            rows.append(figures_of(late) | more(late, state, network))
        found[policy] = {of: [row[of] for row in rows] for of in rows[0]}
        means = {of: round(float(np.mean(v)), 3) for of, v in found[policy].items()}
        print(policy, means)
    return found


def compared(size: int, fitted: dict) -> dict:
    """Table 6 for one size: figures of each policy, and the time per simulated request."""
    network, rows = population(size, fitted), {}
    requests = max(1, size // SHARE)
    for policy in RANKS:
        compiled = simulation(policy, requests).lower(network, jr.key(1)).compile()
        started = time.perf_counter()
        _, done = jax.block_until_ready(compiled(network, jr.key(1)))
        took = time.perf_counter() - started
        late = steady(done)
        rows[policy] = figures_of(late) | bandwidth(late)
        rows[policy]["lost"] = float(1 - late.arrived.mean())
        rows[policy]["simulation_us_per_request"] = 1e6 * took / (STEPS * requests)
    return rows


def tidy(record):
    """Four significant digits."""
    if isinstance(record, dict):
        return {name: tidy(value) for name, value in record.items()}
    return float(f"{record:.4g}") if isinstance(record, float) else record


def main():
    """Fit, predict, compare."""
    parser = parser_of(__doc__)
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=[10**n for n in (3, 4, 5, 6)]
    )
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--trace", type=Path, default=RESULTS / "five_peers_trace.json")
    options = parser.parse_args()
    trace = json.loads(options.trace.read_text())
    fitted = fit(trace)
    network, five = real_five(trace, fitted), {}
    turns = len(trace["policies"][FITTED][0])
    for name, runs in trace["policies"].items():
        real, model = measured(runs), predicted(network, name, turns, trace["routes"][name])
        error = {k: f"{100 * (model[k] / real[k] - 1):+.0f} %" for k in real}
        held_out = "no, parameters come from it" if name == FITTED else "yes"
        five[name] = {
            "held_out": held_out,
            "measured": real,
            "predicted": model,
            "error": error,
        }
        print(json.dumps(tidy({name: five[name]})), flush=True)
    table = {}
    for size in options.sizes:
        table[str(size)] = compared(size, fitted)
        print(json.dumps(tidy({str(size): table[str(size)]})), flush=True)
    record = tidy({"fitted": fitted, "five_peers": five, "table_6": table})
    write_json(options.out / "network.json", record)


if __name__ == "__main__":
    main()
