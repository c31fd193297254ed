"""Read from the cluster which pods of a workflow run where, and what nodes have left."""

import dataclasses

from .._json import JsonObject
from .._manifests.objects import labels
from .._manifests.pod_node import node_of, waits_for_node
from .._workflow.quantity import parse_quantity
from .._workflow.specification import Workflow, gigabytes
from .cluster import Cluster, ClusterError

_NAME = "app.kubernetes.io/name"


@dataclasses.dataclass(frozen=True)
class Pod:
    """One pod of the workflow.

    `state` is `gated` (waits for its node), `starting`, `ready`, `leaving` or `ended`.
    """

    meta: JsonObject
    agent: str
    node: str | None
    state: str
    memory: float  # GB requested
    cpu: float  # cores requested
    problem: str = ""  # why it does not get ready, in the words of the cluster

    @property
    def name(self) -> str:
        """The name of the pod."""
        return self.meta["name"]


@dataclasses.dataclass(frozen=True)
class NodeSeen:
    """One node: what it has for this workflow, and whether pods may be scheduled there.

    `allocatable` is GB and cores for all pods; `memory` and `cpu` are what the pods of
    others leave of them.
    """

    name: str
    allocatable: tuple[float, float]
    memory: float
    cpu: float
    ready: bool
    open: bool  # neither cordoned nor tainted


@dataclasses.dataclass(frozen=True)
class Observed:
    """All pods of a workflow and all nodes; `version` is that of the list of pods."""

    pods: tuple[Pod, ...]
    nodes: dict[str, NodeSeen]
    version: str


def observe(cluster: Cluster, workflow: Workflow) -> Observed:
    """List the pods of a workflow, and the nodes.

    If this user may list the pods of others, what they request is taken off the nodes.
    """
    try:
        items, version = cluster.list("v1", "Pod")
    except ClusterError as error:
        if error.status != 403:
            raise
        items, version = cluster.list("v1", "Pod", workflow.namespace)
    wanted = labels(workflow)
    pods: list[Pod] = []
    taken: dict[str, tuple[float, float]] = {}
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


def _pod(item: JsonObject) -> Pod:
    meta, spec, status = item["metadata"], item["spec"], item.get("status") or {}
    conditions = {c["type"]: c for c in status.get("conditions") or []}
    if meta.get("deletionTimestamp"):
        state = "leaving"
    elif status.get("phase") in ("Failed", "Succeeded"):
        state = "ended"
    elif waits_for_node(spec):
        state = "gated"
    elif conditions.get("Ready", {}).get("status") == "True":
        state = "ready"
    else:
        state = "starting"
    memory, cpu = _requests(spec)
    agent = (meta.get("labels") or {}).get(_NAME, "")
    kept = ("name", "namespace", "uid", "resourceVersion", "ownerReferences")
    meta = {k: meta[k] for k in kept if k in meta}
    problem = _problem(status, conditions) if state == "starting" else ""
    return Pod(
        meta=meta,
        agent=agent,
        node=node_of(spec),
        state=state,
        memory=memory,
        cpu=cpu,
        problem=problem,
    )


def _requests(spec: JsonObject) -> tuple[float, float]:
    """GB and cores: of all containers together, or of the largest init container."""

    def of(container: JsonObject, what: str) -> float:
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


def _problem(status: JsonObject, conditions: dict[str, JsonObject]) -> str:
    for container in status.get("containerStatuses") or []:
        state = container.get("state") or {}
        waiting = state.get("waiting") or state.get("terminated") or {}
        if reason := waiting.get("reason"):
            return f"{reason} {waiting.get('message', '')}".strip()[:200]
    scheduled = conditions.get("PodScheduled", {})
    if scheduled.get("status") == "False":
        return str(scheduled.get("message", scheduled.get("reason", "")))[:200]
    return ""


def _node(item: JsonObject, taken: tuple[float, float]) -> NodeSeen:
    status, spec = item.get("status") or {}, item.get("spec") or {}
    allocatable = status.get("allocatable") or {}
    conditions = {c["type"]: c["status"] for c in status.get("conditions") or []}
    barred = {"NoSchedule", "NoExecute"}
    taints = [t for t in spec.get("taints") or [] if t.get("effect") in barred]
    memory = gigabytes(allocatable.get("memory", "0"))
    cpu = float(parse_quantity(allocatable.get("cpu", "0")))
    return NodeSeen(
        name=item["metadata"]["name"],
        allocatable=(memory, cpu),
        memory=max(0.0, memory - taken[0]),
        cpu=max(0.0, cpu - taken[1]),
        ready=conditions.get("Ready") == "True",
        open=not spec.get("unschedulable") and not taints,
    )
