"""What all Kubernetes objects of a workflow share: labels, metadata and security."""

from .._json import JsonObject
from .._workflow.specification import Workflow

OWNER = "sedma"  # field manager, and value of the label that marks what may be pruned
CONFINED: JsonObject = {  # securityContext of every container
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}
UNPRIVILEGED: JsonObject = {  # securityContext of every pod
    "runAsNonRoot": True,
    "runAsUser": 65532,
    "seccompProfile": {"type": "RuntimeDefault"},
}
TMP: JsonObject = {  # without this volume a container could not write anywhere
    "name": "tmp",
    "emptyDir": {"sizeLimit": "64Mi"},
}
DNS: JsonObject = {  # an egress rule that lets a pod resolve names
    "to": [{"namespaceSelector": {}}],
    "ports": [{"port": 53, "protocol": p} for p in ("UDP", "TCP")],
}


def labels(workflow: Workflow, name: str | None = None) -> dict[str, str]:
    """Give the labels of an object of this workflow, or of one agent or job of it."""
    found = {
        "app.kubernetes.io/managed-by": OWNER,
        "app.kubernetes.io/part-of": workflow.name,
    }
    return found | ({"app.kubernetes.io/name": name} if name else {})


def metadata(workflow: Workflow, name: str) -> JsonObject:
    """Give the metadata of an object that belongs to an agent or a job."""
    return {
        "name": name,
        "namespace": workflow.namespace,
        "labels": labels(workflow, name),
    }


def kubernetes_object(
    version: str, kind: str, metadata: JsonObject, **fields: object
) -> JsonObject:
    """Write an object, its fields in the order that a reader expects."""
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **fields}


def priority_class_name(workflow: Workflow) -> str:
    """Name the PriorityClass of a workflow.

    The class is cluster-wide: the namespace in its name keeps workflows of the same name
    apart, and the dots those whose names join to the same text. The server reserves names
    that begin with `system-`, which namespaces may do.
    """
    return f"{OWNER}.{workflow.namespace}.{workflow.name}"


def secret_name(workflow: Workflow) -> str:
    """Name the Secret with `SEDMA_SECRET`, from which agents derive their libp2p keys."""
    return f"{workflow.name}-identity"


def workflow_objects(workflow: Workflow) -> list[JsonObject]:
    """Make what all agents share: a priority, and a policy that denies all traffic."""
    meta = metadata(workflow, f"{workflow.name}-default-deny")
    meta["labels"] = labels(workflow)  # the name may be too long for a label
    deny = {
        "podSelector": {"matchLabels": labels(workflow)},
        "policyTypes": ["Ingress", "Egress"],
    }
    priority = kubernetes_object(
        "scheduling.k8s.io/v1",
        "PriorityClass",
        {"name": priority_class_name(workflow), "labels": labels(workflow)},
        value=1000,
        globalDefault=False,
        description=f"Agents of the workflow {workflow.name}.",
    )
    policy = kubernetes_object("networking.k8s.io/v1", "NetworkPolicy", meta, spec=deny)
    return [priority, policy]
