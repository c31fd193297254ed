"""Disturb a deployment, and see how long until it has adapted, and what that takes.

    python bench/recompile.py [--out bench/results/recompile.json]

The control plane is the double of the tests (HTTP on loopback, pods start in 1 s and stop
in 0.5 s, pods of a deleted node go after 40 s, as measured on Kubernetes 1.36); the
controller is the command `sedma deploy watch`, a process of its own. 20 agents in
communities on 10 nodes. Throughput is modelled: a request takes one unit of time to
compute, and `C / C*` to communicate, `C` being Eq. 12's cost where the pods run and `C*`
its value at the optimum before the disturbance; measurements have noise of 3 %.

Three arms: `sedma` watches; `static` is the same placement and no controller; `default`
leaves placement to LeastAllocated, the default scheduler's rule. Adaptation ends when all
replicas are ready and throughput is at least 0.8 of what the optimum before had (load
shift, node loss), or no node is above 0.85 of its memory (memory pressure).
"""

import argparse
import contextlib
import json
import os
import platform
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import jax.random as jr

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from api_server import ready
from control_plane import DoublePlane

from sedma_jax import deploy
from sedma_jax.deploy._control.controller import Controller
from sedma_jax.deploy._placing.deployed import Deployed
from sedma_jax.deploy._workflow.yaml_files import to_yaml

HORIZON = 60.0  # seconds in which an arm may adapt
NODES = 10
AGENTS = 20


def made(seed: int = 0) -> deploy.Workflow:
    """Draw a workflow of agents in communities of five."""
    draw = random.Random(seed)
    agents = [
        deploy.Agent(
            name=f"a{k}",
            entry=f"bench:a{k}",
            image="local/agent:1",
            memory=f"{draw.randrange(200, 500)}M",
            cpu=f"{draw.randrange(200, 500)}m",
        )
        for k in range(AGENTS)
    ]
    edges = [
        deploy.Edge(source=f"a{i}", target=f"a{j}", volume=v)
        for (i, j), v in traffic(draw, list(range(AGENTS))).items()
    ]
    nodes = [
        deploy.Node(name=f"n{q}", memory="1500M", cpu="2", rack=f"r{q // 3}", zone="z0")
        for q in range(NODES)
    ]
    return deploy.Workflow(
        name="bench", agents=tuple(agents), edges=tuple(edges), nodes=tuple(nodes)
    )


def traffic(draw, order) -> dict[tuple[int, int], float]:
    """Volumes, MB/s, of all pairs i < j: as `bench/placement.py` draws them."""
    community = {agent: k // 5 for k, agent in enumerate(order)}
    volumes = {}
    for i in range(AGENTS):
        for j in range(i + 1, AGENTS):
            near = community[i] == community[j]
            talk = draw.random() < (0.6 if near else 0.12)
            volume = draw.lognormvariate(*((1.5, 0.8) if near else (-0.5, 0.8)))
            volumes[i, j] = volume if talk else 1e-6
    return volumes


class Site:
    """The double with the bench's workflow, its traffic, and its Prometheus."""

    def __init__(self, workflow, noise=0.03, seed=0):
        self.workflow, self.noise, self.draw = workflow, noise, random.Random(seed)
        self.plane = DoublePlane(start_seconds=1.0, stop_seconds=0.5)
        for node in workflow.nodes:
            self.plane.add_node(node.name, node.cpu, node.memory)
        self.traffic = {(e.source, e.target): e.volume for e in workflow.edges}
        self.distance = deploy.distances(workflow)
        self.at = {node.name: q for q, node in enumerate(workflow.nodes)}
        self.best = None  # Eq. 12's cost at the optimum
        self.memory_of = {}  # bytes used by agents that use more than requested
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                query = parse_qs(urlsplit(self.path).query)["query"][0]
                rows = site.answers(query)
                result = [{"metric": m, "value": [0, str(v)]} for m, v in rows]
                data = json.dumps({"data": {"result": result}}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"

    def close(self):
        self.http.shutdown()
        self.plane.close()

    def pods(self):
        return [
            (p["metadata"]["labels"]["app.kubernetes.io/name"], p)
            for p in self.plane.server.store.all("pods")
        ]

    def where(self):
        """Node of every agent that serves; a pod of a node that is gone does not."""
        here = {n["metadata"]["name"] for n in self.plane.server.store.all("nodes")}
        return {
            a: p["spec"]["nodeName"]
            for a, p in self.pods()
            if ready(p) and p["spec"]["nodeName"] in here
        }

    def cost(self, where):
        return sum(
            volume * self.distance[self.at[where[s]], self.at[where[t]]]
            for (s, t), volume in self.traffic.items()
        )

    def throughput(self):
        """Requests per second of the model; none while an agent is away."""
        where = self.where()
        if len(where) < AGENTS:
            return 0.0
        return 1000 / (1 + self.cost(where) / self.best)

    def utilisation(self):
        """Of the fullest node, of memory; as the metrics API is told."""
        used = {n.name: [0.0, 0.0] for n in self.workflow.nodes}
        asked = {a.name: a for a in self.workflow.agents}
        usage = {}
        for agent, pod in self.pods():
            node = pod["spec"].get("nodeName")
            if node in used and ready(pod):
                least = 0.7 * float(deploy.parse_quantity(asked[agent].memory))
                memory = self.memory_of.get(agent, least)
                cpu = 0.5 * float(deploy.parse_quantity(asked[agent].cpu))
                used[node][0] += memory
                used[node][1] += cpu
                usage[pod["metadata"]["name"]] = {
                    "memory": str(int(memory)),
                    "cpu": f"{cpu:.4f}",
                }
        self.plane.server.usage = {
            "pods": usage,
            "nodes": {
                n: {"memory": str(int(m)), "cpu": f"{c:.4f}"} for n, (m, c) in used.items()
            },
        }
        return max(m for m, _ in used.values()) / 1.5e9

    def answers(self, query):
        self.utilisation()
        if query == "traffic":
            return [
                ({"source": s, "target": t}, v * 1e6) for (s, t), v in self.traffic.items()
            ]
        return [({}, self.throughput() * self.draw.gauss(1, self.noise))]


def optimum(workflow, seconds=20):
    placement = deploy.plan(workflow, key=jr.key(0), prove_seconds=seconds)
    nodes = [workflow.nodes[q].name for q in placement.nodes.tolist()]
    return dict(zip(deploy.replica_names(workflow), nodes, strict=True)), placement


@contextlib.contextmanager
def watching(site, folder, *, remembers=True, **options):
    """Run `sedma deploy watch`; afterwards `usage` has its CPU seconds and memory."""
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": site.plane.server.url}}],
        "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    }
    (folder / "config").write_text(json.dumps(config))
    fields = site.workflow.model_dump(mode="json", exclude_defaults=True)
    (folder / "bench.yaml").write_text(to_yaml(fields))
    command = [sys.executable, "-m", "sedma_jax._cli", "deploy", "watch"]
    command += [
        str(folder / "bench.yaml"),
        "--kubeconfig",
        str(folder / "config"),
        "--json",
    ]
    command += ["--prometheus", site.url, "--query", "throughput", "--traffic", "traffic"]
    command += ["--memory", f"sqlite:///{folder}/memory.db"] if remembers else []
    command += ["--lost-after", "2"]
    options = {"interval": 1, "cool_down": 8, "moves": AGENTS} | options
    for name, value in options.items():
        command += [f"--{name.replace('_', '-')}", str(value)]
    log = (folder / "log").open("w+")
    process = subprocess.Popen(
        command, stdout=log, stderr=log, env=os.environ | {"JAX_PLATFORMS": "cpu"}
    )
    usage = {}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    try:
        while not site.plane.server.store.all("leases"):
            if process.poll() is not None:
                raise RuntimeError((folder / "log").read_text())
            time.sleep(0.05)
        time.sleep(8)  # it has measured what is normal
        yield usage
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            # The interrupt that SIGTERM becomes is lost where it meets JAX's callback of
            # the garbage collector, from which Python lets no exception out.
            process.kill()
            process.wait()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        usage["cpu_s"] = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        usage["memory_mb"] = after.ru_maxrss / 1024
        usage["events"] = (folder / "log").read_text().splitlines()


def started(site, placed, nodes):
    """Roll the workflow out, placed or left to the scheduler."""
    workflow = site.workflow
    if not placed:
        workflow, nodes = workflow.model_copy(update={"nodes": ()}), {}
    controller = Controller(site.plane.cluster(), workflow)
    if not controller.roll_out(Deployed(workflow, nodes)).settled:
        raise RuntimeError("The first rollout did not get ready.")
    return controller


def shift(site, seed):
    """Give the agents other partners."""
    draw = random.Random(seed)
    order = list(range(AGENTS))
    draw.shuffle(order)
    site.traffic = {(f"a{i}", f"a{j}"): v for (i, j), v in traffic(draw, order).items()}


def press(site):
    """Let the agents of the fullest node use more than they asked for."""
    where = site.where()
    nodes = list(where.values())
    node = max(sorted(set(nodes)), key=nodes.count)
    mine = [a for a, q in where.items() if q == node]
    for agent in mine:
        site.memory_of[agent] = 1.4e9 / len(mine)
    site.utilisation()


def lose(site):
    where = list(site.where().values())
    site.plane.delete_node(max(sorted(set(where)), key=where.count))


SCENARIOS = {
    "load shift": lambda site: shift(site, 1),
    "memory pressure": press,
    "node loss": lose,
}


def adapted(site, scenario, before):
    if len(site.where()) < AGENTS:
        return False
    if scenario == "memory pressure":
        return site.utilisation() <= 0.85
    return site.throughput() >= 0.8 * before


def disturbed(site, scenario, before):
    """Disturb, and look until it has adapted and is quiet, or the horizon is over."""
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
    """Shift the load ten times, then leave it alone under noise."""
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
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default="bench/results/recompile.json")
    parser.add_argument("--only", choices=[*SCENARIOS, "steady"], help="one part, printed")
    options = parser.parse_args()
    workflow = made()
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
            Path(options.out).write_text(json.dumps(results, indent=1) + "\n")
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
        Path(options.out).write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
