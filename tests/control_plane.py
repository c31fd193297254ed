"""A double of a control plane: the API server's double, with controllers and nodes.

One thread plays the scheduler, the controllers of Deployments and StatefulSets, and the
kubelets. A pod whose image has `broken` in its name never gets ready. `RealPlane` of
`real_control_plane.py` has the same methods; `deploy/test_controller.py` runs on both.
"""

import copy
import math
import threading
import time

import kubernetes.client
from api_server import ApiServer, ready
from kubernetes.utils.quantity import parse_quantity

from sedma_jax.deploy._control.cluster import Cluster

MANAGERS = "double"

# Two agents, and the two nodes that the fixture `plane` of conftest.py has.
TOUR = """\
name: tour
agents:
  - {name: front, entry: "tour:front", image: "local/front:1", memory: 1G, cpu: 1}
  - {name: back, entry: "tour:back", image: "local/back:1", memory: 1G, cpu: 1}
edges:
  - {source: front, target: back, volume: 2}
nodes:
  - {name: n0, memory: 3G, cpu: 3, base: 64M}
  - {name: n1, memory: 3G, cpu: 3, base: 64M}
"""


class DoublePlane:
    """The double with a scheduler, Deployments, StatefulSets and nodes in one thread.

    The scheduler filters by selector, affinity to hosts, taints and requests, and takes
    the node of the highest LeastAllocated score, as kube-scheduler does by default.
    """

    tier = "double"
    grace = 0.0  # seconds of silence until a node is not ready

    def __init__(self, *, start_seconds=0.0, stop_seconds=0.0, collect_seconds=40.0):
        self.server = ApiServer()
        self.server.grace = stop_seconds
        self._start, self._stop = start_seconds, stop_seconds
        self._collect = collect_seconds  # until pods of a deleted Node go by themselves
        self._down, self._since = set(), {}
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def cluster(self, **options):
        settings = kubernetes.client.Configuration(host=self.server.url)
        return Cluster(kubernetes.client.ApiClient(settings), **options)

    def close(self):
        self._end.set()
        with self.server.store.changed:
            self.server.store.changed.notify_all()
        self._thread.join()
        self.server.close()

    def wait_for(self, condition, seconds=120):
        """Wait until a condition on the store's objects holds."""
        with self.server.store.changed:
            assert self.server.store.changed.wait_for(condition, seconds)

    def add_node(self, name, cpu, memory):
        size = {"cpu": str(cpu), "memory": str(memory), "pods": "110"}
        node = {
            "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
            "spec": {},
            "status": {
                "allocatable": size,
                "capacity": size,
                "conditions": [{"type": "Ready", "status": "True"}],
            },
        }
        with self.server.store.changed:
            self.server._create("nodes", None, node, MANAGERS, False)

    def delete_node(self, name):
        with self.server.store.changed:
            node = self.server.store.get("nodes", None, name)
            self._down.add(name)
            self.server.store.drop("nodes", node)

    def kill_node(self, name):
        """Stop a node's heartbeat: the node and its pods are no longer ready."""
        with self.server.store.changed:
            self._down.add(name)
            node = copy.deepcopy(self.server.store.get("nodes", None, name))
            node["status"]["conditions"] = [{"type": "Ready", "status": "Unknown"}]
            self.server.store.put("nodes", node)
            for pod in self.server.store.all("pods"):
                if pod["spec"].get("nodeName") == name:
                    self._condition(pod, "Ready", "False")

    # The thread runs what follows.

    def _run(self):
        store, seen = self.server.store, -1
        while not self._end.is_set():
            with store.changed:
                if store.version == seen:
                    soon = self._nodes()
                    if store.version == seen:
                        store.changed.wait(min(0.5, soon))
                        if store.version == seen:
                            continue
                seen = store.version
                self._workloads("deployments")
                self._workloads("statefulsets")
                self._schedule()
                self._nodes()
                self._statuses()

    def _workloads(self, plural):
        for item in self.server.store.all(plural):
            spec = item["spec"]
            text = repr(sorted_items(spec["template"]))
            mark = f"{hash(text) & 0xFFFFFFFF:08x}"
            mine = self._pods_of(item)
            fresh = [p for p in mine if p["metadata"]["labels"]["template"] == mark]
            old = [p for p in mine if p not in fresh]
            alive = [p for p in old if "deletionTimestamp" not in p["metadata"]]
            live = [p for p in fresh if "deletionTimestamp" not in p["metadata"]]
            count = spec.get("replicas", 1)
            strategy = spec.get("strategy", {"type": "RollingUpdate"})
            rolling = strategy.get("rollingUpdate", {"maxSurge": 0, "maxUnavailable": 1})
            if strategy["type"] == "Recreate":
                for pod in alive:
                    self.server.stop_pod(pod)
                room = 0 if old else count
            else:
                surge = _share(rolling["maxSurge"], count, math.ceil)
                unavailable = _share(rolling["maxUnavailable"], count, math.floor)
                serving = sum(ready(p) for p in alive + live)
                for pod in sorted(alive, key=ready):
                    spare = serving - ready(pod) >= count - unavailable
                    if spare or not ready(pod):
                        serving -= ready(pod)
                        self.server.stop_pod(pod)
                        alive.remove(pod)
                room = count + surge - len(alive)
            for pod in live[count:]:
                self.server.stop_pod(pod)
            names = {p["metadata"]["name"] for p in mine}
            for k in range(min(count, room) - len(live)):
                self._make(plural, item, mark, k, names)

    def _make(self, plural, item, mark, k, names):
        meta = copy.deepcopy(item["spec"]["template"].get("metadata", {}))
        owner, name = item["metadata"], item["metadata"]["name"]
        meta.setdefault("labels", {})["template"] = mark
        if plural == "statefulsets":
            free = [f"{name}-{i}" for i in range(99) if f"{name}-{i}" not in names]
            meta["name"] = free[0]
            names.add(free[0])
        else:
            meta["generateName"] = f"{name}-"
        kind = {"deployments": "Deployment", "statefulsets": "StatefulSet"}[plural]
        reference = {"apiVersion": "apps/v1", "kind": kind, "name": name}
        meta["ownerReferences"] = [reference | {"uid": owner["uid"]}]
        pod = {"metadata": meta, "spec": copy.deepcopy(item["spec"]["template"]["spec"])}
        pod["status"] = {"phase": "Pending", "conditions": []}
        self.server._create("pods", owner["namespace"], pod, MANAGERS, False)

    def _pods_of(self, item):
        uid = item["metadata"]["uid"]
        return [
            p
            for p in self.server.store.all("pods")
            if any(o["uid"] == uid for o in p["metadata"].get("ownerReferences", []))
        ]

    def _schedule(self):
        pods = self.server.store.all("pods")
        nodes = self.server.store.all("nodes")
        used = {n["metadata"]["name"]: [0.0, 0.0] for n in nodes}
        for pod in pods:
            if (name := pod["spec"].get("nodeName")) in used:
                for k, amount in enumerate(_requests(pod)):
                    used[name][k] += amount
        for pod in pods:
            spec = pod["spec"]
            if spec.get("nodeName") or "deletionTimestamp" in pod["metadata"]:
                continue
            if spec.get("schedulingGates"):
                continue
            asked, best = _requests(pod), None
            for node in nodes:
                name = node["metadata"]["name"]
                room = [
                    _amount(node["status"]["allocatable"][k]) for k in ("memory", "cpu")
                ]
                left = [r - u - a for r, u, a in zip(room, used[name], asked, strict=True)]
                if min(left) < -1e-9 or not _admits(node, spec):
                    continue
                score = sum(x / r for x, r in zip(left, room, strict=True))
                if best is None or score > best[0]:
                    best = score, name
            if best:
                pod = copy.deepcopy(pod)
                pod["spec"]["nodeName"] = best[1]
                pod = self.server.store.put("pods", pod)
                self._condition(pod, "PodScheduled", "True")
                for k, amount in enumerate(asked):
                    used[best[1]][k] += amount
            else:
                said = f"0/{len(nodes)} nodes are available: Insufficient room."
                self._condition(pod, "PodScheduled", "False", said)

    def _nodes(self):
        """Play the kubelets; return the seconds until one has something to do."""
        now, soon = time.monotonic(), 0.5
        for pod in self.server.store.all("pods"):
            name = pod["spec"].get("nodeName")
            if name and ("nodes", None, name) not in self.server.store.objects:
                since = self._since.setdefault((pod["metadata"]["uid"], "gone"), now)
                if now - since >= self._collect:
                    self.server.store.drop("pods", pod)
            if not name or name in self._down:
                continue
            leaving = "deletionTimestamp" in pod["metadata"]
            if not leaving and pod["status"].get("phase") == "Running":
                continue
            since = self._since.setdefault((pod["metadata"]["uid"], leaving), now)
            left = since + (self._stop if leaving else self._start) - now
            if left > 0:
                soon = min(soon, left)
            elif leaving:
                self.server.store.drop("pods", pod)
            elif "broken" in pod["spec"]["containers"][0]["image"]:
                waiting = {"reason": "ImagePullBackOff", "message": "no such image"}
                self._statused(
                    pod, {"containerStatuses": [{"state": {"waiting": waiting}}]}
                )
            else:
                containers = pod["spec"]["containers"]
                states = [
                    {"name": c["name"], "ready": True, "resources": c.get("resources", {})}
                    for c in containers
                ]
                self._statused(pod, {"phase": "Running", "containerStatuses": states})
                uid = pod["metadata"]["uid"]
                for item in self.server.store.all("pods"):
                    if item["metadata"]["uid"] == uid:
                        self._condition(item, "Ready", "True")
        return max(soon, 0.001)

    def _statused(self, pod, status):
        pod = copy.deepcopy(pod)
        pod["status"] |= status
        self.server.store.put("pods", pod)

    def _condition(self, pod, kind, status, message=""):
        pod = copy.deepcopy(pod)
        found = pod["status"].setdefault("conditions", [])
        found[:] = [c for c in found if c["type"] != kind]
        found.append({"type": kind, "status": status, "message": message})
        self.server.store.put("pods", pod)

    def _statuses(self):
        for plural in ("deployments", "statefulsets"):
            for item in self.server.store.all(plural):
                text = repr(sorted_items(item["spec"]["template"]))
                mark = f"{hash(text) & 0xFFFFFFFF:08x}"
                mine = self._pods_of(item)
                fresh = [p for p in mine if p["metadata"]["labels"]["template"] == mark]
                item = copy.deepcopy(item)
                item["status"] = {
                    "observedGeneration": item["metadata"]["generation"],
                    "replicas": len(mine),
                    "updatedReplicas": len(fresh),
                    "readyReplicas": sum(ready(p) for p in mine),
                }
                self.server.store.put(plural, item)


def sorted_items(value):
    if isinstance(value, dict):
        return [(k, sorted_items(v)) for k, v in sorted(value.items())]
    return [sorted_items(v) for v in value] if isinstance(value, list) else value


def _share(value, count, rounded):
    if isinstance(value, str):
        return rounded(int(value.rstrip("%")) / 100 * count)
    return value


def _amount(text):
    return float(parse_quantity(text))


def _requests(pod):
    asked = [c.get("resources", {}).get("requests", {}) for c in pod["spec"]["containers"]]
    return [sum(_amount(a.get(k, 0)) for a in asked) for k in ("memory", "cpu")]


def _admits(node, spec):
    labels = node["metadata"].get("labels", {})
    wanted = spec.get("nodeSelector") or {}
    terms = (
        spec.get("affinity", {})
        .get("nodeAffinity", {})
        .get("requiredDuringSchedulingIgnoredDuringExecution", {})
        .get("nodeSelectorTerms", [{}])
    )
    conditions = node["status"]["conditions"]
    return (
        all(labels.get(k) == v for k, v in wanted.items())
        and any(
            all(labels.get(e["key"]) in e["values"] for e in t.get("matchExpressions", []))
            for t in terms
        )
        and not node["spec"].get("unschedulable")
        and not node["spec"].get("taints")
        and any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
    )


def kubeconfig(url):
    """A kubeconfig for the double."""
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": url}}],
        "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    }
