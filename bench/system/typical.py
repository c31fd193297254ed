"""The paper's typical problem, stage by stage, cold and warm.

    python -m bench.system.typical [--repeats 3] [--shifts 10] [--results DIR]

n = m = 1000, 16 partitions of 256 x 256, 50 peers, 20 agents, 10 recompilations. The best 3
of 50 peers in a table of drawn figures are chosen by Eq. 7, and the product goes to peers
in this process over loopback, since 50 real ones are not here. Agents are placed, and then
placed anew after each of ten shifts of their traffic, from where they are; optimality is
not proven (`prove_seconds=0`) and nothing is applied to a cluster. Cold is the first pass
in a fresh process, compilation included; warm is the median of the passes after it.
"""

import time

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from sedma_jax.kernels import peer_scores, peer_terms, select_peers

import sedma_jax as sj
from bench.deploy.drawn import draw_workflow, edges_of, shifted_traffic
from bench.shared import machine, parser_of, write_json
from sedma_jax import deploy

SIZE, PEERS = 1000, 50


@jax.jit
def choose(weights, terms):
    return select_peers(peer_scores(weights, terms), jnp.ones(PEERS, bool), 3)


def shifted(workflow, seed):
    """The same agents with other partners."""
    return workflow.model_copy(update={"edges": edges_of(shifted_traffic(seed))})


def once(seed, shifts):
    """Seconds of each stage, and the error of the product."""
    seconds, start = {}, time.perf_counter()

    def lap(stage):
        nonlocal start
        seconds[stage], start = time.perf_counter() - start, time.perf_counter()

    rng = np.random.default_rng(seed)
    A = rng.standard_normal((SIZE, SIZE), np.float32)
    x = rng.standard_normal(SIZE, np.float32)
    start = time.perf_counter()
    key = jr.key(seed)
    programmed = jax.block_until_ready(sj.program(A, sj.devices.TAOX_HFOX, key=key))
    lap("program 16 partitions")
    y, _ = sj.corrected_matvec(
        A,
        x,
        sj.devices.TAOX_HFOX,
        programmed=programmed,
        lam=sj.RememberedLambda(),
        key=key,
    )
    y = np.asarray(jax.block_until_ready(y))
    lap("multiply and correct")
    terms = peer_terms(
        *(
            jnp.asarray(rng.uniform(*span, PEERS), jnp.float32)
            for span in ((0, 1), (1, 150), (1, 32))
        )
    )
    jax.block_until_ready(choose(jnp.ones(3), terms))
    lap("choose among 50 peers")
    sj.comm.publish(y)
    lap("start peers, publish y")
    workflow = draw_workflow(seed)
    problem = deploy.placement_problem(workflow)
    nodes = deploy.place(problem, prove_seconds=0, key=key).nodes
    lap("place 20 agents")
    for shift in range(shifts):
        moved = deploy.placement_problem(shifted(workflow, shift), home=np.asarray(nodes))
        placement = deploy.place(
            moved, prove_seconds=0, start=nodes, key=jr.fold_in(key, shift)
        )
        nodes = placement.nodes
        if not bool(placement.cost.feasible):
            raise AssertionError("no placement that fits")
    lap(f"recompile {shifts} times")
    exact = A.astype(np.float64) @ x
    error = np.linalg.norm(y - exact) / np.linalg.norm(exact)
    return seconds | {"all": sum(seconds.values())}, float(error), len(programmed[0].scale)


def main():
    """Time and write `typical.json`."""
    parser = parser_of(__doc__, results=True)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--shifts", type=int, default=10, help="recompilations")
    options = parser.parse_args()
    about = machine()
    cold, error, partitions = once(0, options.shifts)
    print("cold", cold, flush=True)
    passes = [once(1 + k, options.shifts)[0] for k in range(options.repeats)]
    warm = {stage: float(np.median([p[stage] for p in passes])) for stage in cold}
    print("warm", warm, f"error {error:.2g}, {partitions} partitions")
    record = {
        "machine": about,
        "partitions": partitions,
        "relative_l2": error,
        "cold": cold,
        "warm": warm,
        "passes": passes,
    }
    write_json(options.results / "typical.json", record)


if __name__ == "__main__":
    main()
