"""A slow deployment is placed anew, and how well that performs is remembered."""

import contextlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from control_plane import DoublePlane

from sedma_jax import deploy, memory as long_term
from sedma_jax.deploy._control.controller import Controller
from sedma_jax.deploy._control.measure import Measurement, Prometheus, measure
from sedma_jax.deploy._control.recompile import Recompiler
from sedma_jax.deploy._control.reconcile import Settings
from sedma_jax.deploy._placing.deployed import Deployed
from sedma_jax.deploy._placing.patterns import MEASURED, structure
from sedma_jax.deploy._placing.trigger import Limits

WORKFLOW = """\
name: tour
agents:
  - {name: a, entry: "tour:a", image: "local/a:1", memory: 1G, cpu: 1}
  - {name: b, entry: "tour:b", image: "local/b:1", memory: 1G, cpu: 1}
  - {name: c, entry: "tour:c", image: "local/c:1", memory: 1G, cpu: 1}
  - {name: d, entry: "tour:d", image: "local/d:1", memory: 1G, cpu: 1}
edges:
  - {source: a, target: b, volume: 10}
  - {source: c, target: d, volume: 10}
  - {source: a, target: c, volume: 0.1}
nodes:
  - {name: n0, memory: 3G, cpu: 2, base: 64M}
  - {name: n1, memory: 3G, cpu: 2, base: 64M}
"""
BEST = {"a-0": "n0", "b-0": "n0", "c-0": "n1", "d-0": "n1"}
SHIFTED = {("a", "b"): 0.1, ("c", "d"): 0.1, ("a", "c"): 10.0}  # MB/s


@contextlib.contextmanager
def prometheus(answers):
    """Answer instant queries as Prometheus does; `answers` gives rows by query."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            from urllib.parse import parse_qs, urlsplit

            query = parse_qs(urlsplit(self.path).query)["query"][0]
            rows = [
                {"metric": labels, "value": [0.0, str(value)]}
                for labels, value in answers(query)
            ]
            data = {"status": "success", "data": {"resultType": "vector", "result": rows}}
            content = json.dumps(data).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    serve = lambda: server.serve_forever(poll_interval=0.02)
    threading.Thread(target=serve, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def plane():
    plane = DoublePlane()
    for name in ("n0", "n1"):
        plane.add_node(name, 2, "3G")
    yield plane
    plane.close()


class World:
    """The deployment, its traffic, and how fast it is where its pods are."""

    def __init__(self, plane, traffic):
        self.plane, self.traffic, self.now, self.slow = plane, traffic, 0.0, set()

    def nodes(self):
        return {
            p["metadata"]["labels"]["app.kubernetes.io/name"]: p["spec"].get("nodeName")
            for p in self.plane.server.store.all("pods")
        }

    def answers(self, query):
        if query == "traffic":
            return [
                ({"source": s, "target": t}, volume * 1e6)
                for (s, t), volume in self.traffic.items()
            ]
        at = self.nodes()
        apart = sum(v for (s, t), v in self.traffic.items() if at.get(s) != at.get(t))
        slowed = any(at.get(agent) == node for agent, node in self.slow)
        return [({}, 100 / (1 + apart / 5) * (0.3 if slowed else 1))]

    def ticks(self, recompiler, count):
        done = []
        for _ in range(count):
            self.now += 10
            if what := recompiler.tick():
                done.append(what)
        return done


@pytest.fixture
def world(plane):
    return World(plane, {("a", "b"): 10.0, ("c", "d"): 10.0, ("a", "c"): 0.1})


@pytest.fixture
def recompiler(plane, world):
    workflow = deploy.parse_workflow(WORKFLOW)
    settings = Settings(deadline=30, interval=0.5)
    controller = Controller(plane.cluster(patience=5), workflow, settings)
    controller.roll_out(Deployed(workflow, BEST))
    with (
        prometheus(lambda query: world.answers(query)) as url,
        long_term.open("sqlite://") as memory,
    ):
        asked = Prometheus(url, "performance", "traffic")
        source = lambda: measure(controller.cluster, "default", asked)
        limits = Limits(samples=3, cool_down=60)
        yield Recompiler(
            controller, source, memory=memory, limits=limits, clock=lambda: world.now
        )


def test_a_shift_of_load_is_answered_once_and_remembered(recompiler, world):
    assert world.ticks(recompiler, 8) == []
    world.traffic = SHIFTED
    assert world.ticks(recompiler, 20) == ["placed anew for performance"]
    at = world.nodes()
    assert at["a"] == at["c"]
    assert recompiler.controller.reconciler.moves == 2  # they change places
    wanted = recompiler.controller.keeper.load().wanted
    found = recompiler.memory.recall(MEASURED, structure(wanted.workflow))
    together = [p.choice["nodes"]["a-0"] == p.choice["nodes"]["c-0"] for p in found]
    assert sorted(together) == [False, True]
    means = dict(zip(together, [p.mean for p in found], strict=True))
    # By the formula of `World.answers`: 0.2 MB/s cross between nodes afterwards.
    assert means[True] == pytest.approx(100 / (1 + 0.2 / 5))
    assert recompiler.expected(wanted.workflow) == max(means.values())


def test_a_placement_that_turns_out_worse_is_taken_back_and_not_tried_again(
    recompiler, world
):
    world.ticks(recompiler, 8)
    # Whatever leaves n0 gets slow for reasons that no traffic shows.
    world.traffic = SHIFTED
    world.slow = {("a", "n1"), ("c", "n0"), ("b", "n1"), ("d", "n0")}
    done = world.ticks(recompiler, 60)
    assert done[:2] == ["placed anew for performance", "went back"]
    assert done.count("went back") == 1
    assert recompiler.controller.keeper.load().wanted.nodes == BEST


def test_nothing_moves_while_measurements_are_missing(recompiler, world):
    world.ticks(recompiler, 8)
    recompiler.source = lambda: Measurement()
    assert world.ticks(recompiler, 20) == []


def test_memory_grows_in_place_before_anything_moves(recompiler, world, plane):
    usage = plane.server.usage
    usage["nodes"] = {n: {"memory": "2600M", "cpu": "1"} for n in ("n0", "n1")}
    pod = next(
        p["metadata"]["name"]
        for p in plane.server.store.all("pods")
        if p["metadata"]["name"].startswith("a-")
    )
    usage["pods"] = {pod: {"memory": "960M", "cpu": "500m"}}
    assert world.ticks(recompiler, 6) == ["resized"]
    assert recompiler.controller.keeper.load().sizes == {"a": 1_152_000_000}
    assert recompiler.controller.reconciler.moves == 0


def test_a_full_node_is_relieved_although_that_costs_throughput(recompiler, world, plane):
    usage = plane.server.usage

    def pressed():
        at = world.nodes()
        names = {p["metadata"]["name"]: p for p in plane.server.store.all("pods")}
        used = {"a": 1.1e9, "b": 1.1e9, "c": 4e8, "d": 4e8}
        usage["pods"] = {n: {"memory": str(int(used[n[0]])), "cpu": "500m"} for n in names}
        of_node = lambda q: 5e8 + sum(used[k] for k in used if at[k] == q)
        usage["nodes"] = {
            q: {"memory": str(int(of_node(q))), "cpu": "1"} for q in ("n0", "n1")
        }
        return before()

    before, recompiler.source = recompiler.source, pressed
    done = world.ticks(recompiler, 30)
    assert done == ["resized", "placed anew for utilisation"]
    at = world.nodes()
    assert at["a"] != at["b"]


def test_the_metrics_api_is_read(plane, recompiler):
    plane.server.usage = {
        "nodes": {"n0": {"memory": "1500000Ki", "cpu": "250m"}},
        "pods": {"a-1": {"memory": "1Gi", "cpu": "1n"}},
    }
    found = measure(recompiler.controller.cluster, "default", None)
    assert found.nodes == {"n0": (1.536, 0.25)}
    assert found.pods == {"a-1": (2**30 / 1e9, 1e-9)}
    assert found.performance is None


@pytest.mark.parametrize("answer", [[], [({}, float("nan"))], [({}, 1.0), ({}, 2.0)]])
def test_what_is_no_single_number_is_no_measurement(recompiler, answer):
    with prometheus(lambda query: answer) as url:
        found = measure(recompiler.controller.cluster, "default", Prometheus(url, "x"))
    assert found.performance is None


def test_a_prometheus_that_is_away_is_no_measurement(recompiler):
    away = Prometheus("http://127.0.0.1:9", "x")
    assert measure(recompiler.controller.cluster, "default", away).performance is None
    with pytest.raises(ValueError, match="http or https"):
        Prometheus("ftp://x", "x")
