"""Kubernetes objects of one agent, as dictionaries."""

from .._json import JsonObject
from .._workflow.specification import Agent, Edge, Workflow
from .objects import (
    CONFINED,
    DNS,
    TMP,
    UNPRIVILEGED,
    kubernetes_object,
    labels,
    metadata,
    priority_class_name,
    secret_name,
)
from .pod_node import HOST, node_affinity

PORTS = {"http": 8080, "grpc": 8081, "libp2p": 8082}


def protocols(workflow: Workflow, agent: Agent) -> list[str]:
    """Give the protocols that an agent is called by.

    An agent that no other one calls serves HTTP to the outside.
    """
    called = {edge.protocol for edge in workflow.edges if edge.target == agent.name}
    return [name for name in PORTS if name in (called or {"http"})]


def speaks_libp2p(workflow: Workflow, agent: Agent) -> bool:
    """Whether an agent has a libp2p edge, and so a peer."""
    ends = [(e.source, e.target) for e in workflow.edges if e.protocol == "libp2p"]
    return any(agent.name in pair for pair in ends)


def agent_objects(
    workflow: Workflow, agent: Agent, nodes: list[str] | None = None
) -> list[JsonObject]:
    """Make all objects of one agent; `nodes` pins its replicas to those of a placement."""
    meta = lambda: metadata(workflow, agent.name)
    selector = {"matchLabels": labels(workflow, agent.name)}
    kind, controller = _controller(workflow, agent, nodes)
    service, environment = _service(workflow, agent), _environment(workflow, agent)
    objects = [
        kubernetes_object(
            "v1", "ServiceAccount", meta(), automountServiceAccountToken=False
        ),
        kubernetes_object("v1", "ConfigMap", meta(), data=environment),
        kubernetes_object("v1", "Service", meta(), spec=service),
        kubernetes_object("apps/v1", kind, meta(), spec=controller),
        _network_policy(workflow, agent),
    ]
    if agent.replicas > 1:
        budget = {"maxUnavailable": 1, "selector": selector}
        objects.append(
            kubernetes_object("policy/v1", "PodDisruptionBudget", meta(), spec=budget)
        )
    return objects


def _controller(
    workflow: Workflow, agent: Agent, nodes: list[str] | None
) -> tuple[str, JsonObject]:
    """Write what keeps the replicas running: its kind and its spec."""
    spec = {
        "replicas": agent.replicas,
        "selector": {"matchLabels": labels(workflow, agent.name)},
        "template": {
            "metadata": {"labels": labels(workflow, agent.name)},
            "spec": _pod(workflow, agent, nodes),
        },
    }
    if agent.stateful:
        return "StatefulSet", {"serviceName": agent.name} | spec
    # A surge needs room that a full cluster lacks: old and new pods would then wait for
    # each other for ever.
    strategy: JsonObject = {"type": "Recreate"}
    if agent.replicas > 1:
        rolling = {"maxSurge": 0, "maxUnavailable": 1}
        strategy = {"type": "RollingUpdate", "rollingUpdate": rolling}
    return "Deployment", {"strategy": strategy} | spec


def _service(workflow: Workflow, agent: Agent) -> JsonObject:
    spoken = protocols(workflow, agent)
    ports = [{"name": p, "port": PORTS[p], "targetPort": p} for p in spoken]
    service = {"selector": labels(workflow, agent.name), "ports": ports}
    return {"clusterIP": "None"} | service if agent.stateful else service


def _pod(workflow: Workflow, agent: Agent, nodes: list[str] | None) -> JsonObject:
    pod = {
        "serviceAccountName": agent.name,
        "automountServiceAccountToken": False,
        # Variables of Services would mix with SEDMA_*, and with those of any library.
        "enableServiceLinks": False,
        "priorityClassName": priority_class_name(workflow),
        "securityContext": UNPRIVILEGED,
        "containers": [_container(workflow, agent)],
        "volumes": [TMP],
    }
    if nodes:
        pod["affinity"] = node_affinity(nodes)
    if agent.replicas > 1:
        # A placement has one node per replica; without a placement, spreading is a wish.
        spread = len(set(nodes or ())) == agent.replicas
        pod["topologySpreadConstraints"] = [
            {
                "maxSkew": 1,
                "topologyKey": HOST,
                "whenUnsatisfiable": "DoNotSchedule" if spread else "ScheduleAnyway",
                "labelSelector": {"matchLabels": labels(workflow, agent.name)},
            }
        ]
    return pod


def _container(workflow: Workflow, agent: Agent) -> JsonObject:
    # Peers derive their keys from SEDMA_SECRET; a pod does not start without it.
    secret = {"secretRef": {"name": secret_name(workflow)}}
    secrets = [secret] * speaks_libp2p(workflow, agent)
    spoken = protocols(workflow, agent)
    probe = {"tcpSocket": {"port": spoken[0]}}
    return {
        "name": "agent",
        "image": agent.image or f"localhost/{workflow.name}:latest",
        "envFrom": [{"configMapRef": {"name": agent.name}}, *secrets],
        "ports": [{"name": p, "containerPort": PORTS[p]} for p in spoken],
        "resources": {
            "requests": {"cpu": agent.cpu, "memory": agent.memory},
            "limits": {"memory": agent.memory},
        },
        "startupProbe": probe | {"periodSeconds": 1, "failureThreshold": 120},
        "readinessProbe": probe | {"periodSeconds": 5},
        "livenessProbe": probe | {"periodSeconds": 20, "failureThreshold": 3},
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
        "securityContext": CONFINED,
    }


def _environment(workflow: Workflow, agent: Agent) -> dict[str, str]:
    """Write the variables that `agent_server` reads."""
    ports = ",".join(f"{p}={PORTS[p]}" for p in protocols(workflow, agent))
    found = {"SEDMA_ENTRY": agent.entry, "SEDMA_PORTS": ports}
    for edge in sorted(workflow.edges, key=lambda e: (e.target, e.protocol)):
        if edge.source == agent.name:
            name = edge.target.upper().replace("-", "_")
            found[f"SEDMA_CALL_{name}"] = (
                f"{edge.protocol}://{edge.target}:{PORTS[edge.protocol]}"
            )
    peers = [e for e in workflow.edges if e.protocol == "libp2p"]
    if callers := sorted({e.source for e in peers if e.target == agent.name}):
        found["SEDMA_CALLERS"] = ",".join(callers)
    if speaks_libp2p(workflow, agent):
        found["SEDMA_AGENT"] = f"{workflow.name}/{agent.name}"
    return found


def _network_policy(workflow: Workflow, agent: Agent) -> JsonObject:
    """Allow the calls of the edges; an agent without callers is open to the outside."""
    pods_of = lambda name: {"podSelector": {"matchLabels": labels(workflow, name)}}
    port = lambda protocol: {"port": PORTS[protocol], "protocol": "TCP"}

    def allowed(side: str, other: str, edge: Edge) -> JsonObject:
        return {side: [pods_of(other)], "ports": [port(edge.protocol)]}

    edges = workflow.edges
    ingress = [allowed("from", e.source, e) for e in edges if e.target == agent.name]
    if not ingress:
        ingress = [{"ports": [port(p) for p in protocols(workflow, agent)]}]
    egress = [allowed("to", e.target, e) for e in edges if e.source == agent.name]
    if egress:
        egress.append(DNS)
    return kubernetes_object(
        "networking.k8s.io/v1",
        "NetworkPolicy",
        metadata(workflow, agent.name),
        spec={
            "podSelector": {"matchLabels": labels(workflow, agent.name)},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": ingress,
            "egress": egress,
        },
    )
