"""Kubernetes objects of a JAX job on several hosts, as dictionaries."""

from .._json import JsonObject
from .._workflow.specification import JaxJob, Workflow
from .objects import (
    CONFINED,
    DNS,
    TMP,
    UNPRIVILEGED,
    kubernetes_object,
    labels,
    metadata,
    priority_class_name,
)
from .pod_node import HOST

_COORDINATOR = 55527  # where jax.distributed listens on Kubernetes
_RBAC = "rbac.authorization.k8s.io"


def job_objects(workflow: Workflow, job: JaxJob) -> list[JsonObject]:
    """Make a multi-host JAX job that `jax.distributed.initialize()` finds by itself."""
    objects = [*_access(workflow, job), _network_policy(workflow, job)]
    spec = {
        "completionMode": "Indexed",
        "completions": job.processes,
        "parallelism": job.processes,
        "backoffLimit": 0,  # one process that starts again cannot rejoin the others
        "template": {
            "metadata": {"labels": labels(workflow, job.name)},
            "spec": _pod(workflow, job),
        },
    }
    meta = lambda: metadata(workflow, job.name)
    if job.carrier == "jobset":
        return [*objects, _job_set(meta(), spec)]
    return [
        *objects,
        _headless_service(meta(), job),
        kubernetes_object("batch/v1", "Job", meta(), spec=spec),
    ]


def _access(workflow: Workflow, job: JaxJob) -> list[JsonObject]:
    """Let the processes ask the API server where they run."""
    meta = lambda: metadata(workflow, job.name)
    verbs = lambda: ["get", "list", "watch"]
    rules = [
        {"apiGroups": [""], "resources": ["pods", "services"], "verbs": verbs()},
        {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": verbs()},
    ]
    role = {"apiGroup": _RBAC, "kind": "Role", "name": job.name}
    subject = {
        "kind": "ServiceAccount",
        "name": job.name,
        "namespace": workflow.namespace,
    }
    version = f"{_RBAC}/v1"
    return [
        kubernetes_object("v1", "ServiceAccount", meta()),
        kubernetes_object(version, "Role", meta(), rules=rules),
        kubernetes_object(version, "RoleBinding", meta(), roleRef=role, subjects=[subject]),
    ]


def _network_policy(workflow: Workflow, job: JaxJob) -> JsonObject:
    """Let processes meet each other, and ask the API server where they run."""
    selector = {"matchLabels": labels(workflow, job.name)}
    each_other = [{"podSelector": selector}]
    api = [{"port": port, "protocol": "TCP"} for port in (443, 6443)]
    return kubernetes_object(
        "networking.k8s.io/v1",
        "NetworkPolicy",
        metadata(workflow, job.name),
        spec={
            "podSelector": selector,
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"from": each_other}],
            "egress": [{"to": each_other}, {"ports": api}, DNS],
        },
    )


def _pod(workflow: Workflow, job: JaxJob) -> JsonObject:
    """Write the pod of one process, each on a node of its own."""
    return {
        "subdomain": job.name,
        "serviceAccountName": job.name,
        "restartPolicy": "Never",
        "enableServiceLinks": False,
        "priorityClassName": priority_class_name(workflow),
        "securityContext": UNPRIVILEGED,
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": HOST,
                "whenUnsatisfiable": "DoNotSchedule",
                "labelSelector": {"matchLabels": labels(workflow, job.name)},
            }
        ],
        "containers": [_container(job)],
        "volumes": [TMP],
    }


def _container(job: JaxJob) -> JsonObject:
    first = f"{job.name}-hosts-0-0" if job.carrier == "jobset" else f"{job.name}-0"
    return {
        "name": "jax",
        "image": job.image,
        "command": list(job.command),
        # For programs that do not ask the API server where they run.
        "env": [
            {"name": "NUM_PROCESSES", "value": str(job.processes)},
            {"name": "JAX_COORDINATOR", "value": f"{first}.{job.name}:{_COORDINATOR}"},
        ],
        "ports": [{"name": "coordinator", "containerPort": _COORDINATOR}],
        "resources": {
            "requests": {"cpu": job.cpu, "memory": job.memory},
            "limits": {"memory": job.memory},
        },
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
        "securityContext": CONFINED,
    }


def _job_set(meta: JsonObject, spec: JsonObject) -> JsonObject:
    """Write a JobSet; it makes the headless Service itself, and restarts all at once."""
    replicated = {"name": "hosts", "replicas": 1, "template": {"spec": spec}}
    job_set = {
        "failurePolicy": {"maxRestarts": 3},
        "network": {"enableDNSHostnames": True, "publishNotReadyAddresses": True},
        "replicatedJobs": [replicated],
    }
    return kubernetes_object("jobset.x-k8s.io/v1alpha2", "JobSet", meta, spec=job_set)


def _headless_service(meta: JsonObject, job: JaxJob) -> JsonObject:
    """Give every process of a Job a host name."""
    service = {
        "clusterIP": "None",
        "publishNotReadyAddresses": True,  # the processes meet before any is ready
        "selector": {"batch.kubernetes.io/job-name": job.name},
    }
    return kubernetes_object("v1", "Service", meta, spec=service)
