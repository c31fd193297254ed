"""A simulated network of peers: against the real five, then at 10^3 to 10^6.

    python bench/network.py [--sizes 1000 10000 100000 1000000] [--out bench/results]

First the parameters of each of the five peers are fitted to the attempts that
`five_peers.py` recorded in its runs by lot. Then the runs of the two other policies, of
which nothing was used, are predicted and compared with what was measured.

Then the comparison of Table 6 (routing by score, by distance alone, by lot) on networks
whose attempts take what the good, the slow and the lying peer of the trace took. Assumed,
not fitted: 2 % of peers lie and 10 % are slow, sessions last an hour and absences ten
minutes, 8 peers hold a tensor, a plane of 75 ms across one way, 5 ms of access, mean idle
fractions of 0.2 to 0.9, 1 to 32 GB free, and in a step of a second one request of 1 MiB for
every 20 peers. What peers do is known to all (see the kernel). Writes `network.json`.
"""

import argparse
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

from sedma_jax.comm import WeightLearner

RANKS = {"full": rank_by_score, "DHT only": rank_by_distance, "random": rank_at_random}
FITTED = "random"  # the policy whose runs the parameters come from
SAMPLES = 400  # simulated runs of the five peers
HOLDERS, STEPS, SHARE = 8, 120, 20  # SHARE: peers for each request of a step
SESSION, ABSENCE = 3600.0, 600.0  # seconds
TENSOR_GB = 2**20 / 1e9
FIRST = 60  # steps until the network is as it will be


def times_of(trace):
    """Milliseconds of every peer in each turn of the fitted runs, negative if it failed."""
    runs = trace["policies"][FITTED]
    turns = [turn for run in runs for turn in run]
    return np.array([turn[2] for turn in turns]), [set(turn[0]) for turn in turns]


def fit(trace):
    """For each of the five peers log mean and spread of success and failure."""
    times, asked = times_of(trace)
    kinds = trace["kinds"]
    good = [i for i, kind in enumerate(kinds) if kind == "good"]
    means, own, shared = fit_shared_log_normal(jnp.asarray(times[:, good] / 1e3))
    fitted = {"shared_log_spread": float(shared)}
    for i, kind in enumerate(kinds):
        came, failed = times[:, i][times[:, i] > 0] / 1e3, -times[:, i][times[:, i] < 0]
        if kind == "lying":
            # Caught by this client before, it is not asked, and costs nothing.
            first = [i not in who for who in asked]
            failed = -times[:, i][np.array(first) & (times[:, i] < 0)]
        failure = fit_log_normal(jnp.asarray(failed / 1e3)) if len(failed) else (0.0, 0.0)
        # All are the same machine and program: who is slower waits before it answers.
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
    """What is compared, of arrays of one shape."""
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
    """Peers in the order of one of these routes, as XOR of real keys had them."""
    position = jnp.argsort(jnp.asarray(routes), axis=1)

    def rank(model, terms, names, content, exiled, *, key):
        return -position[content % len(position)].astype(terms.dtype)

    return rank


def predicted(network, name, turns, routes):
    """Figures of many simulated runs, with round trips of their own.

    The order of routing by distance depends on keys that each run draws: they are input.
    """
    optimiser = WeightLearner()._optimiser if name == "full" else None
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
        # So that no peer is the first among equals in every run.
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
    """A network of the kinds in the trace; see the top for what is assumed."""
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


KINDS = ("good", "slow", "lying")


def compared(size, fitted):
    """Table 6 for one size: each policy, and the time of a simulated request."""
    network, rows = population(size, fitted), {}
    requests = max(1, size // SHARE)
    for name, rank in {**RANKS, "static weights": rank_by_score}.items():
        optimiser = WeightLearner()._optimiser if name == "full" else None

        @eqx.filter_jit
        def run(key, rank=rank, optimiser=optimiser):
            return simulate_network(
                network,
                initial_network_state(network, optimiser),
                rank,
                steps=STEPS,
                requests=requests,
                holders=HOLDERS,
                optimiser=optimiser,
                learning_steps=25,
                key=key,
            )[1]

        compiled = run.lower(jr.key(1)).compile()
        started = time.perf_counter()
        done = jax.block_until_ready(compiled(jr.key(1)))
        took = time.perf_counter() - started
        late = jax.tree.map(lambda x: np.asarray(x[FIRST:]), done)
        row = figures(late.seconds, late.arrived, late.right, late.attempts)
        # Of every tensor that arrived, what was sent for it, at one a second.
        row["gb_per_hour"] = float(3600 * TENSOR_GB * late.sent.sum() / late.arrived.sum())
        row["lost"] = float(1 - late.arrived.mean())
        row["simulation_us_per_request"] = 1e6 * took / (STEPS * requests)
        rows[name] = row
    return rows


def tidy(record):
    """Four significant digits."""
    if isinstance(record, dict):
        return {name: tidy(value) for name, value in record.items()}
    return float(f"{record:.4g}") if isinstance(record, float) else record


def main():
    """Fit, predict, compare."""
    results = Path(__file__).parent / "results"
    parser = argparse.ArgumentParser()
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=[10**n for n in (3, 4, 5, 6)]
    )
    parser.add_argument("--out", type=Path, default=results)
    parser.add_argument("--trace", type=Path, default=results / "five_peers_trace.json")
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
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "network.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
