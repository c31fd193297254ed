"""Node loss, memory pressure, a shift of the load, over seeds: what adapts and how fast.

    PYTHONPATH=tests python -m bench.deploy.disturbances [--seeds 10] [--only SCENARIO]

Control plane, controller and model of throughput are those of `site.py`, arms those of
`recompile.py`; a seed draws agents and traffic. "no long-term" is the controller without
`--memory`. A disturbance is adapted to once a pod was replaced or, under memory pressure,
resized, all replicas are ready, no node is above 0.85 of its memory and throughput is at
least 0.8 of the arm's own before it, and all of this lasts 3 s. An arm that does not adapt
within the horizon of 60 s counts as 60 s, which flatters it. Throughput kept is the mean
from the disturbance to the horizon over the arm's own before it. Resource utilisation is
what is requested on nodes in use, as the mean of memory and CPU, at the end; the request
time is 1 + C / C* of the model there. Three controllers run at a time, beside the arms that
do nothing.
"""

import json
import statistics
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from bench.deploy.drawn import AGENTS, draw_workflow
from bench.deploy.recompile import HORIZON
from bench.deploy.site import SCENARIOS, Site, optimum, shift, started, watching
from bench.shared import machine, parser_of
from sedma_jax import deploy

FORGETFUL = "no long-term"  # in node loss alone, since a run takes half a minute
CONTROLLED = ("sedma", FORGETFUL)
ARMS = (*CONTROLLED, "static", "default")
IDLE, BUSY = 15, 3  # how many arms of either kind run at once
QUIET, EVERY = 3.0, 0.25  # seconds


def utilisation(site):
    """Mean over nodes in use of the mean of memory and CPU requested over allocatable."""
    agents = {a.name: a for a in site.workflow.agents}
    sizes = {n.name: n for n in site.workflow.nodes}
    memory, cpu = Counter(), Counter()
    for name, node in site.where().items():
        memory[node] += float(deploy.parse_quantity(agents[name].memory))
        cpu[node] += float(deploy.parse_quantity(agents[name].cpu))
    shares = [
        memory[node] / float(deploy.parse_quantity(sizes[node].memory)) / 2
        + cpu[node] / float(deploy.parse_quantity(sizes[node].cpu)) / 2
        for node in memory
    ]
    return statistics.mean(shares) if shares else 0.0


def observed(site, name, seed, horizon):
    """Disturb, and observe until it is adapted to; figures, and throughput over time."""
    before = site.throughput()
    known = {p["metadata"]["uid"] for _, p in site.pods()}

    def replaced():
        return {p["metadata"]["uid"] for _, p in site.pods()} - known

    def good():
        if len(site.where()) < AGENTS:
            return False
        if name != "memory pressure" and not replaced():  # which may resize only
            return False
        return site.utilisation() <= 0.85 and site.throughput() >= 0.8 * before

    if name == "load shift":
        shift(site, 1000 + seed)
    else:
        SCENARIOS[name](site)
    start, since, rates = time.perf_counter(), None, []
    while (now := time.perf_counter() - start) < horizon:
        rates.append((round(now, 2), round(site.throughput() / before, 4)))
        since = (since if since is not None else now) if good() else None
        if since is not None and now - since > QUIET:
            break
        time.sleep(EVERY)
    # The last throughput stays until the horizon.
    ends = [t for t, _ in rates[1:]] + [horizon]
    pairs = zip(rates, ends, strict=True)
    kept = sum(rate * (end - begin) for (begin, rate), end in pairs) / horizon
    rate = site.throughput()
    return {
        "adaptation_s": horizon if since is None else since,
        "adapted": since is not None,
        "retained": kept,
        "throughput_before": before,
        "utilisation": utilisation(site),
        # Infinite while an agent is away.
        "request_time": 1000 / rate if rate else None,
        "moved": len(replaced()),
        "timeline": rates,
    }


def once(workflow, nodes, best, name, arm, seed, horizon):
    """One disturbance in one arm."""
    site = Site(workflow, seed=seed)
    with ExitStack() as stack:
        stack.callback(site.close)
        site.best = best
        started(site, arm != "default", nodes)
        if arm in CONTROLLED:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            remembers = arm == "sedma"
            stack.enter_context(watching(site, Path(folder), remembers=remembers))
        return observed(site, name, seed, horizon)


def main():
    """Disturb every arm, and write `disturbances.json`."""
    parser = parser_of(__doc__, seeds=10, results=True)
    parser.add_argument("--only", choices=SCENARIOS)
    parser.add_argument("--horizon", type=float, default=HORIZON, help="seconds")
    parser.add_argument("--prove", type=float, default=5, help="seconds per placement")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=ARMS)
    options = parser.parse_args()
    about = machine()
    names = [options.only] if options.only else list(SCENARIOS)
    drawn = []
    for seed in range(options.seeds):
        workflow = draw_workflow(seed)
        nodes, placement = optimum(workflow, seconds=options.prove)
        drawn.append((workflow, nodes, float(placement.cost.communication)))
    arms = {
        n: [a for a in options.arms if a != FORGETFUL or n == "node loss"] for n in names
    }
    cases = [(n, a, s) for n in names for a in arms[n] for s in range(options.seeds)]
    found = {}

    def run(case):
        name, arm, seed = case
        row = once(*drawn[seed], name, arm, seed, options.horizon)
        shown = {k: v for k, v in row.items() if k != "timeline"}
        print(*case, json.dumps(shown), flush=True)
        found[case] = row

    with ThreadPoolExecutor(IDLE) as idle, ThreadPoolExecutor(BUSY) as busy:
        pools = {arm: busy if arm in CONTROLLED else idle for arm in ARMS}
        for task in [pools[case[1]].submit(run, case) for case in cases]:
            task.result()
    keys = found[cases[0]].keys()
    seeds = range(options.seeds)
    scenarios = {
        n: {a: {k: [found[n, a, s][k] for s in seeds] for k in keys} for a in arms[n]}
        for n in names
    }
    file = options.results / "disturbances.json"
    record = {"machine": about, "seeds": options.seeds, "horizon_s": options.horizon}
    if options.only and file.exists():  # keep what was run before in the same way
        before = json.loads(file.read_text())
        if all(before[k] == record[k] for k in ("seeds", "horizon_s")):
            scenarios = before["scenarios"] | scenarios
    file.write_text(json.dumps(record | {"scenarios": scenarios}) + "\n")


if __name__ == "__main__":
    main()
