"""Disturb a deployment, and see how long it takes to adapt, and at what cost.

    PYTHONPATH=tests python -m bench.deploy.recompile [--out bench/results/recompile.json]

20 agents in communities run on 10 nodes of a double of the control plane; `site.py` has
the model. Measurements of throughput have noise of 3 %.

There are three arms: `sedma` watches; `static` is the same placement without a controller;
`default` leaves placement to LeastAllocated, the default scheduler's rule. Adaptation ends
when all replicas are ready and throughput is at least 0.8 of that of the optimum before
(load shift, node loss), or no node is above 0.85 of its memory (memory pressure).
"""

import json
import os
import platform
import statistics
import tempfile
import time
from pathlib import Path

from bench.deploy.drawn import AGENTS, draw_workflow
from bench.deploy.site import SCENARIOS, Site, optimum, shift, started, watching
from bench.shared import parser_of, write_json

HORIZON = 60.0  # seconds in which an arm may adapt


def adapted(site, scenario, before):
    """Whether the deployment is as the docstring of this file has it."""
    if len(site.where()) < AGENTS:
        return False
    if scenario == "memory pressure":
        return site.utilisation() <= 0.85
    return site.throughput() >= 0.8 * before


def disturbed(site, scenario, before):
    """Disturb, and observe until it has adapted for 3 s, or the horizon is over."""
    version = site.plane.server.store.version
    known = {p["metadata"]["uid"] for _, p in site.pods()}
    SCENARIOS[scenario](site)
    start, done, rates = time.perf_counter(), None, []
    while (now := time.perf_counter() - start) < HORIZON:
        rates.append(site.throughput())
        if adapted(site, scenario, before):
            done = now if done is None else done
            if now - done > 3:
                break
        else:
            done = None
        time.sleep(0.1)
    rest = rates[-1] * max(0.0, HORIZON - now) / HORIZON
    moved = {p["metadata"]["uid"] for _, p in site.pods()} - known
    assert site.plane.server.store.version >= version
    return {
        "adaptation_s": done,
        "pods_replaced": len(moved),
        "throughput_before": before,
        "throughput_after": rates[-1],
        "retained": (statistics.mean(rates) * now / HORIZON + rest) / before,
        "fullest_node": site.utilisation(),
    }


def scenario(workflow, name, arm, nodes, best):
    """One disturbance in one arm."""
    site = Site(workflow)
    try:
        site.best = best
        started(site, arm != "default", nodes)
        before = site.throughput()
        goal = 1000 / 2  # at the optimum
        if arm != "sedma":
            return disturbed(site, name, goal) | {"throughput_before": before}
        with tempfile.TemporaryDirectory() as folder:
            with watching(site, Path(folder)) as usage:
                found = disturbed(site, name, goal) | {"throughput_before": before}
            return found | {"events": usage["events"]}
    finally:
        site.close()


def steady(workflow, nodes, best, *, shifts=10, quiet=60.0, noise=0.05):
    """Shift the load `shifts` times, then leave it alone under noise."""
    site = Site(workflow, noise=noise)
    try:
        site.best = best
        started(site, True, nodes)
        times = []
        with tempfile.TemporaryDirectory() as folder:
            begin = time.perf_counter()
            with watching(site, Path(folder)) as usage:
                for seed in range(shifts):
                    shift(site, 100 + seed)
                    start = time.perf_counter()
                    while time.perf_counter() - start < 2 * HORIZON:
                        if adapted(site, "load shift", 500):
                            times.append(time.perf_counter() - start)
                            break
                        time.sleep(0.1)
                    time.sleep(12)
                lines = (Path(folder) / "log").read_text().count("placed anew")
                time.sleep(quiet)
            wall = time.perf_counter() - begin
        events = [json.loads(line).get("event", "") for line in usage.pop("events")]
        placements = sum(
            e.startswith("bench: placed") or "placed anew" in e for e in events
        )
        return usage | {
            "agents": AGENTS,
            "shifts": shifts,
            "adapted": len(times),
            "adaptation_s": times,
            "placements": placements,
            "placements_in_quiet": placements - lines,
            "went_back": sum("went back" in e for e in events),
            "noise": noise,
            "wall_s": wall,
            "cpu_share_of_one_core": usage["cpu_s"] / wall,
        }
    finally:
        site.close()


def main() -> None:
    """Run all, print a table and write the figures."""
    parser = parser_of(__doc__)
    parser.add_argument("--out", default="bench/results/recompile.json")
    parser.add_argument("--only", choices=[*SCENARIOS, "steady"], help="one part, printed")
    options = parser.parse_args()
    workflow = draw_workflow()
    nodes, placement = optimum(workflow)
    best = float(placement.cost.communication)
    results = {"machine": platform.platform(), "cores": os.cpu_count(), "scenarios": {}}
    for name in [options.only] if options.only else SCENARIOS:
        if name == "steady":
            break
        rows = results["scenarios"][name] = {}
        for arm in ("sedma", "static", "default"):
            rows[arm] = found = scenario(workflow, name, arm, nodes, best)
            seconds = found["adaptation_s"]
            shown = f"> {HORIZON:.0f}" if seconds is None else f"{seconds:.1f}"
            print(
                f"{name:16} {arm:8} adapted in {shown:>6} s, {found['pods_replaced']:2} "
                f"pods replaced, throughput {found['throughput_before']:.0f} -> "
                f"{found['throughput_after']:.0f}, retained {found['retained']:.2f}, "
                f"fullest node {found['fullest_node']:.2f}",
                flush=True,
            )
    if options.only and options.only != "steady":
        print(json.dumps(results["scenarios"]))
        if options.out != parser.get_default("out"):  # not over the whole of a full run
            write_json(Path(options.out), results)
        return
    results["steady"] = found = steady(workflow, nodes, best)
    print(
        f"{found['shifts']} shifts: {found['adapted']} adapted to, {found['placements']} "
        f"placements, {found['placements_in_quiet']} of them in a quiet minute, CPU "
        f"{found['cpu_s']:.1f} s of {found['wall_s']:.0f} s, {found['memory_mb']:.0f} MB"
    )
    if options.only:
        print(json.dumps(found))
    else:
        write_json(Path(options.out), results)


if __name__ == "__main__":
    main()
