"""What runs where, read from the cluster."""

import dataclasses

from .._manifests.manifests import labels
from .._workflow.quantity import parse_quantity
from .._workflow.specification import Workflow, gigabytes
from .cluster import Cluster, ClusterError
from .server_objects import GATE

_NAME = "app.kubernetes.io/name"


@dataclasses.dataclass(frozen=True)
class Pod:
    """One pod of the workflow.

    `state` is `gated` (waits for its node), `starting`, `ready`, `leaving` or `ended`.
    """

    meta: dict
    agent: str
    node: str | None
    state: str
    memory: float  # GB requested
    cpu: float  # cores requested
    problem: str = ""  # why it does not get ready, as the cluster says it

    @property
    def name(self) -> str:
        """Of the pod."""
        return self.meta["name"]


@dataclasses.dataclass(frozen=True)
class NodeSeen:
    """One node: what it has for this workflow, and whether pods may come.

    `allocatable` is GB and cores for all pods; `memory` and `cpu` are what others left.
    """

    name: str
    allocatable: tuple[float, float]
    memory: float
    cpu: float
    ready: bool
    open: bool  # neither cordoned nor tainted


@dataclasses.dataclass(frozen=True)
class Observed:
    """All pods of the workflow and the nodes of the cluster, and the list's version."""

    pods: tuple[Pod, ...]
    nodes: dict[str, NodeSeen]
    version: str


def observe(cluster: Cluster, workflow: Workflow) -> Observed:
    """List pods and nodes.

    What pods of others request is taken off the nodes where this user may list them.
    """
    try:
        items, version = cluster.list("v1", "Pod")
    except ClusterError as error:
        if error.status != 403:
            raise
        items, version = cluster.list("v1", "Pod", workflow.namespace)
    wanted = labels(workflow)
    pods, taken = [], {}
    for item in items:
        meta, found = item["metadata"], item["metadata"].get("labels") or {}
        ours = meta.get("namespace") == workflow.namespace
        pod = _pod(item)
        if ours and all(found.get(k) == v for k, v in wanted.items()):
            pods.append(pod)
        elif pod.node and pod.state != "ended":
            memory, cpu = taken.get(pod.node, (0.0, 0.0))
            taken[pod.node] = (memory + pod.memory, cpu + pod.cpu)
    nodes = {}
    for item in cluster.list("v1", "Node")[0]:
        name = item["metadata"]["name"]
        nodes[name] = _node(item, taken.get(name, (0.0, 0.0)))
    return Observed(tuple(pods), nodes, version)


def _pod(item) -> Pod:
    meta, spec, status = item["metadata"], item["spec"], item.get("status") or {}
    gates = [gate["name"] for gate in spec.get("schedulingGates") or []]
    # Ungated, but not yet bound: it holds the room that it was given.
    selector = spec.get("nodeSelector") or {}
    node = spec.get("nodeName") or selector.get("kubernetes.io/hostname")
    conditions = {c["type"]: c for c in status.get("conditions") or []}
    if meta.get("deletionTimestamp"):
        state = "leaving"
    elif status.get("phase") in ("Failed", "Succeeded"):
        state = "ended"
    elif GATE in gates:
        state, node = "gated", None
    elif conditions.get("Ready", {}).get("status") == "True":
        state = "ready"
    else:
        state = "starting"
    memory, cpu = _requests(spec)
    agent = (meta.get("labels") or {}).get(_NAME, "")
    kept = ("name", "namespace", "uid", "resourceVersion", "ownerReferences")
    meta = {k: meta[k] for k in kept if k in meta}
    problem = _problem(status, conditions) if state == "starting" else ""
    return Pod(meta, agent, node, state, memory, cpu, problem)


def _requests(spec) -> tuple[float, float]:
    """GB and cores: of all containers at once, or of the largest that runs before them."""

    def of(container, what):
        asked = container.get("resources") or {}
        asked = (asked.get("limits") or {}) | (asked.get("requests") or {})
        return float(parse_quantity(asked.get(what, 0)))

    found = []
    for what in ("memory", "cpu"):
        together = sum(of(c, what) for c in spec.get("containers") or [])
        before = [of(c, what) for c in spec.get("initContainers") or []]
        over = float(parse_quantity((spec.get("overhead") or {}).get(what, 0)))
        found.append(max([together, *before]) + over)
    return found[0] / 1e9, found[1]


def _problem(status, conditions) -> str:
    for container in status.get("containerStatuses") or []:
        state = container.get("state") or {}
        waiting = state.get("waiting") or state.get("terminated") or {}
        if reason := waiting.get("reason"):
            return f"{reason} {waiting.get('message', '')}".strip()[:200]
    scheduled = conditions.get("PodScheduled", {})
    if scheduled.get("status") == "False":
        return str(scheduled.get("message", scheduled.get("reason", "")))[:200]
    return ""


def _node(item, taken) -> NodeSeen:
    status, spec = item.get("status") or {}, item.get("spec") or {}
    allocatable = status.get("allocatable") or {}
    conditions = {c["type"]: c["status"] for c in status.get("conditions") or []}
    barred = {"NoSchedule", "NoExecute"}
    taints = [t for t in spec.get("taints") or [] if t.get("effect") in barred]
    memory = gigabytes(allocatable.get("memory", "0"))
    cpu = float(parse_quantity(allocatable.get("cpu", "0")))
    return NodeSeen(
        item["metadata"]["name"],
        (memory, cpu),
        max(0.0, memory - taken[0]),
        max(0.0, cpu - taken[1]),
        conditions.get("Ready") == "True",
        not spec.get("unschedulable") and not taints,
    )
