"""A deployment on a double of the control plane, with its controller and its disturbances.

The double is that of the tests (HTTP on loopback): pods start in 1 s and stop in 0.5 s,
and pods of a deleted node go after 40 s, as measured on Kubernetes 1.36. The controller is
the command `sedma deploy watch`, a process of its own. Throughput is modelled: a request
takes one unit of time to compute, and `C / C*` to communicate, where `C` is Eq. 12's cost
of where the pods run and `C*` its value at the optimum before the disturbance. What needs
this file is run with `PYTHONPATH=tests`, where the double is.
"""

import contextlib
import json
import os
import random
import resource
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import jax.random as jr
from api_server import ready
from control_plane import DoublePlane

from bench.deploy.drawn import AGENTS, shifted_traffic
from sedma_jax import deploy

# Private: the first rollout is one of the controller, without its loop.
from sedma_jax.deploy._control.controller import Controller
from sedma_jax.deploy._placing.deployed import Deployed

SETTLING = 8  # seconds in which a controller measures what is normal


class Site:
    """The double of the control plane with a workflow, its traffic, and its Prometheus.

    Measurements of throughput have a relative noise of `noise`.
    """

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
        self.http = prometheus(self.answers)
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
        """The node of every agent that serves, which pods of a deleted node do not."""
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
        """Requests per second by the model; none while an agent is away."""
        where = self.where()
        if len(where) < AGENTS:
            return 0.0
        return 1000 / (1 + self.cost(where) / self.best)

    def utilisation(self):
        """Memory utilisation of the fullest node; also tells the metrics API all usage."""
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
        """What Prometheus answers: labels and value of each series."""
        self.utilisation()
        if query == "traffic":
            return [
                ({"source": s, "target": t}, v * 1e6) for (s, t), v in self.traffic.items()
            ]
        return [({}, self.throughput() * self.draw.gauss(1, self.noise))]


def prometheus(answers):
    """A server of Prometheus's query API, with what `answers` returns for a query."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            query = parse_qs(urlsplit(self.path).query)["query"][0]
            rows = answers(query)
            result = [{"metric": m, "value": [0, str(v)]} for m, v in rows]
            data = json.dumps({"data": {"result": result}}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def optimum(workflow, seconds=20):
    """Nodes by replica, and the placement, of a plan without any disturbance."""
    placement = deploy.plan(workflow, key=jr.key(0), prove_seconds=seconds)
    nodes = [workflow.nodes[q].name for q in placement.nodes.tolist()]
    return dict(zip(deploy.replica_names(workflow), nodes, strict=True)), placement


def watch_command(site, folder: Path, remembers: bool, options: dict) -> list[str]:
    """Write the files of `sedma deploy watch`; its command."""
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
    (folder / "bench.yaml").write_text(json.dumps(fields))  # JSON is YAML, too
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
    return command


@contextlib.contextmanager
def watching(site, folder, *, remembers=True, **options):
    """Run `sedma deploy watch`; `usage` has its CPU seconds, memory and log afterwards."""
    command = watch_command(site, folder, remembers, options)
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
        time.sleep(SETTLING)
        yield usage
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            # SIGTERM becomes an interrupt, which is lost if it meets JAX's callback of the
            # garbage collector: Python lets no exception out of that.
            process.kill()
            process.wait()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        usage["cpu_s"] = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        usage["memory_mb"] = after.ru_maxrss / 1024
        usage["events"] = (folder / "log").read_text().splitlines()


def started(site, placed, nodes):
    """Roll the workflow out, placed by us or left to the scheduler."""
    workflow = site.workflow
    if not placed:
        workflow, nodes = workflow.model_copy(update={"nodes": ()}), {}
    controller = Controller(site.plane.cluster(), workflow)
    if not controller.roll_out(Deployed(workflow, nodes)).settled:
        raise RuntimeError("The first rollout did not get ready.")
    return controller


def shift(site, seed):
    """Give the agents other partners."""
    site.traffic = {(f"a{i}", f"a{j}"): v for (i, j), v in shifted_traffic(seed).items()}


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
    """Delete the node that has most agents."""
    where = list(site.where().values())
    site.plane.delete_node(max(sorted(set(where)), key=where.count))


SCENARIOS = {
    "load shift": lambda site: shift(site, 1),
    "memory pressure": press,
    "node loss": lose,
}
