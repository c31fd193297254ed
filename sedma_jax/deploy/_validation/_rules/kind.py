"""The rules of each kind that the API server checks beyond the schema."""

import json
from collections.abc import Callable

from ..._json import JsonObject
from ..schema import Departures, Key, Path
from .access import priority, role, role_binding
from .job import cron_job, job, job_set
from .metadata import metadata, octets
from .network import network_policy, service
from .pod import pod
from .resource import claim
from .scaling import autoscaler, disruption_budget
from .volume import config_key
from .workload import daemon_set, deployment, replica_set, stateful_set

_LARGEST_DATA = 2**20


def rule_errors(manifest: JsonObject) -> Departures:
    """Yield where a manifest that fits its schema would be refused, and why."""
    kind, version = manifest["kind"], manifest["apiVersion"]
    group = version.rpartition("/")[0]
    # A cluster's own kinds may have the names of Kubernetes's.
    own = "." in group and not group.endswith(".k8s.io")
    yield from metadata("" if own else kind, manifest["metadata"])
    versions, rules = _RULES.get(kind, ("/", None))
    if rules is not None and version.startswith(versions):
        yield from rules(manifest)


def _config_map(manifest: JsonObject) -> Departures:
    text, binary = manifest.get("data", {}), manifest.get("binaryData", {})
    for field, data in (("data", text), ("binaryData", binary)):
        for key in data:
            yield from config_key((field, Key(key)), key)
    for key in text.keys() & binary.keys():
        yield ("data", Key(key)), "is a key of binaryData too"
    size = sum(map(octets, text.values())) + sum(map(_decoded_size, binary.values()))
    if size > _LARGEST_DATA:
        yield (), f"needs at most {_LARGEST_DATA} bytes of values. Got {size}"


def _decoded_size(text: str) -> int:
    """Bytes that a text in base64 stands for."""
    text = "".join(text.split())
    return len(text) // 4 * 3 - text[-2:].count("=")


# Keys that a secret of a type needs, one of them at least.
_NEEDED = {
    "kubernetes.io/basic-auth": ("username", "password"),
    "kubernetes.io/dockercfg": (".dockercfg",),
    "kubernetes.io/dockerconfigjson": (".dockerconfigjson",),
    "kubernetes.io/ssh-auth": ("ssh-privatekey",),
}


def _secret(manifest: JsonObject) -> Departures:
    data, text = manifest.get("data", {}), manifest.get("stringData", {})
    # The server merges both before it looks.
    for key in {**data, **text}:
        yield from config_key(("data", Key(key)), key)
    size = sum(_decoded_size(v) for k, v in data.items() if k not in text)
    size += sum(map(octets, text.values()))
    if size > _LARGEST_DATA:
        yield ("data",), f"needs at most {_LARGEST_DATA} bytes of values. Got {size}"
    kind, keys = manifest.get("type", ""), {*data, *text}
    needed = _NEEDED.get(kind, ())
    if needed and not keys & {*needed}:
        yield ("data", Key(needed[0])), f"is required of a secret of type {kind}"
    if kind == "kubernetes.io/tls":
        for key in ("tls.crt", "tls.key"):
            if key not in keys:
                yield ("data", Key(key)), f"is required of a secret of type {kind}"
    if kind.startswith("kubernetes.io/dockerc"):
        yield from _json_of(needed[0], text)
    owner = "kubernetes.io/service-account.name"
    if kind == "kubernetes.io/service-account-token":
        if not manifest.get("metadata", {}).get("annotations", {}).get(owner):
            yield ("metadata", "annotations", Key(owner)), "is required"


def _json_of(key: str, text: JsonObject) -> Departures:
    try:
        json.loads(text.get(key, "{}"))
    except (ValueError, RecursionError):
        yield ("data", Key(key)), "needs JSON"


def _claim(manifest: JsonObject) -> Departures:
    yield from claim(("spec",), manifest.get("spec", {}))


def _bare_pod(manifest: JsonObject) -> Departures:
    path: Path = ("spec",)
    yield from pod(path, manifest.get("spec", {}), bare=True)
    if manifest.get("spec", {}).get("ephemeralContainers"):
        yield (*path, "ephemeralContainers"), "must be left out of a new pod"


_RBAC = "rbac.authorization.k8s.io/v1"
# What the version of each kind begins with, and its rules.
_RULES: dict[str, tuple[str, Callable[[JsonObject], Departures]]] = {
    "ClusterRole": (_RBAC, role),
    "ClusterRoleBinding": (_RBAC, role_binding),
    "ConfigMap": ("v1", _config_map),
    "CronJob": ("batch/v1", cron_job),
    "DaemonSet": ("apps/v1", daemon_set),
    "Deployment": ("apps/v1", deployment),
    "HorizontalPodAutoscaler": ("autoscaling/", autoscaler),
    "Job": ("batch/v1", job),
    "JobSet": ("jobset.x-k8s.io/", job_set),
    "NetworkPolicy": ("networking.k8s.io/v1", network_policy),
    "PersistentVolumeClaim": ("v1", _claim),
    "Pod": ("v1", _bare_pod),
    "PodDisruptionBudget": ("policy/v1", disruption_budget),
    "PriorityClass": ("scheduling.k8s.io/v1", priority),
    "ReplicaSet": ("apps/v1", replica_set),
    "Role": (_RBAC, role),
    "RoleBinding": (_RBAC, role_binding),
    "Secret": ("v1", _secret),
    "Service": ("v1", service),
    "StatefulSet": ("apps/v1", stateful_set),
}
