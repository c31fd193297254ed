"""Rules of each kind that the API server checks beyond the schema."""

import ipaddress
import re
from collections.abc import Callable

from .._json import JsonObject
from .name_rules import (
    PROTOCOLS,
    between,
    data_keys,
    dns_label,
    dns_subdomain,
    label_map,
    matches,
    metadata,
    one_of,
    port_number,
    selector,
)
from .pod_rules import pod
from .schema import Departures, Path

_LARGEST_DATA = 2**20
_LARGEST_PRIORITY = 10**9
_PERCENT = re.compile(r"[0-9]+%")
_SPEC: Path = ("spec",)


def rule_errors(manifest: JsonObject) -> Departures:
    """Yield where a manifest that fits its schema would be refused, and why."""
    kind = manifest["kind"]
    yield from metadata(kind, manifest.get("metadata", {}))
    if kind in _RULES:
        yield from _RULES[kind](manifest)


def _template(path: Path, spec: JsonObject, restarts: set[str]) -> Departures:
    template = spec.get("template", {})
    at = (*path, "template")
    yield from label_map((*at, "metadata", "labels"), _labels(template))
    yield from pod((*at, "spec"), template.get("spec", {}))
    policy = template.get("spec", {}).get("restartPolicy", "Always")
    if policy not in restarts:
        yield (*at, "spec", "restartPolicy"), one_of(restarts, policy)


def _labels(template: JsonObject) -> JsonObject:
    return template.get("metadata", {}).get("labels", {})


def _replicated(spec: JsonObject) -> Departures:
    """Yield for what Deployments, StatefulSets and DaemonSets have in common."""
    wanted = spec.get("selector", {})
    yield from selector((*_SPEC, "selector"), wanted)
    if not wanted.get("matchLabels") and not wanted.get("matchExpressions"):
        yield (*_SPEC, "selector"), "needs labels of the pods"
    elif "template" in spec and not matches(wanted, _labels(spec["template"])):
        yield (
            (*_SPEC, "template", "metadata", "labels"),
            f"needs labels that the selector matches. Got {_labels(spec['template'])}",
        )
    for name in ("replicas", "minReadySeconds", "revisionHistoryLimit"):
        yield from between((*_SPEC, name), spec.get(name), 0)
    yield from _template(_SPEC, spec, {"Always"})


def _deployment(manifest: JsonObject) -> Departures:
    spec = manifest.get("spec", {})
    yield from _replicated(spec)
    strategy, at = spec.get("strategy", {}), (*_SPEC, "strategy")
    kind = strategy.get("type", "RollingUpdate")
    if kind not in ("Recreate", "RollingUpdate"):
        yield at, one_of({"Recreate", "RollingUpdate"}, kind)
    elif kind == "Recreate" and "rollingUpdate" in strategy:
        yield (*at, "rollingUpdate"), "must be left out if the type is Recreate"
    elif "rollingUpdate" in strategy:
        rolling, at = strategy["rollingUpdate"], (*at, "rollingUpdate")
        for name in ("maxSurge", "maxUnavailable"):
            yield from _count((*at, name), rolling.get(name))
        zero = (0, "0%")
        if rolling.get("maxSurge") in zero and rolling.get("maxUnavailable") in zero:
            yield (*at, "maxUnavailable"), "must not be 0 if maxSurge is 0"
    deadline = spec.get("progressDeadlineSeconds", 600)
    if deadline <= spec.get("minReadySeconds", 0):
        yield (
            (*_SPEC, "progressDeadlineSeconds"),
            f"needs more than minReadySeconds. Got {deadline}",
        )


def _count(path: Path, value: object) -> Departures:
    """Yield unless `value` is a number, or a percentage of at most 100."""
    if isinstance(value, str):
        if not _PERCENT.fullmatch(value):
            yield path, f"needs a number or a percentage such as 25%. Got {value!r}"
        elif int(value[:-1]) > 100:
            yield path, f"needs at most 100%. Got {value}"
    yield from between(path, value, 0)


def _stateful_set(manifest: JsonObject) -> Departures:
    spec = manifest.get("spec", {})
    yield from _replicated(spec)
    policies = {"OrderedReady", "Parallel"}
    if spec.get("podManagementPolicy", "Parallel") not in policies:
        policy = spec["podManagementPolicy"]
        yield (*_SPEC, "podManagementPolicy"), one_of(policies, policy)
    update = spec.get("updateStrategy", {}).get("type", "OnDelete")
    if update not in ("OnDelete", "RollingUpdate"):
        at = (*_SPEC, "updateStrategy", "type")
        yield at, one_of({"OnDelete", "RollingUpdate"}, update)


def _daemon_set(manifest: JsonObject) -> Departures:
    yield from _replicated(manifest.get("spec", {}))


def _job(manifest: JsonObject) -> Departures:
    yield from _job_spec(_SPEC, manifest.get("spec", {}), manifest["metadata"])


def _job_spec(path: Path, spec: JsonObject, meta: JsonObject) -> Departures:
    mode, count = spec.get("completionMode", "NonIndexed"), spec.get("completions")
    if mode not in ("NonIndexed", "Indexed"):
        yield (*path, "completionMode"), one_of({"NonIndexed", "Indexed"}, mode)
    elif mode == "Indexed" and count is None:
        yield (*path, "completions"), "is required if the mode is Indexed"
    elif mode == "Indexed" and count is not None and count > 0:
        last = f"{meta.get('name', '')}-{count - 1}"
        if len(last) > 63:
            yield (
                ("metadata", "name"),
                f"needs room for the index of the last pod: 63 characters. Got {len(last)}",
            )
    for name in (
        "completions",
        "parallelism",
        "backoffLimit",
        "backoffLimitPerIndex",
        "activeDeadlineSeconds",
        "ttlSecondsAfterFinished",
    ):
        yield from between((*path, name), spec.get(name), 0)
    yield from _template(path, spec, {"OnFailure", "Never"})


def _cron_job(manifest: JsonObject) -> Departures:
    spec = manifest.get("spec", {})
    name = manifest["metadata"].get("name", "")
    if len(name) > 52:
        yield ("metadata", "name"), f"needs at most 52 characters. Got {len(name)}"
    if len(spec.get("schedule", "").split()) != 5 and not spec.get(
        "schedule", ""
    ).startswith("@"):
        yield (*_SPEC, "schedule"), f"needs five fields. Got {spec.get('schedule', '')!r}"
    policies = {"Allow", "Forbid", "Replace"}
    if spec.get("concurrencyPolicy", "Allow") not in policies:
        yield (*_SPEC, "concurrencyPolicy"), one_of(policies, spec["concurrencyPolicy"])
    inner = spec.get("jobTemplate", {}).get("spec", {})
    yield from _job_spec((*_SPEC, "jobTemplate", "spec"), inner, {})


def _job_set(manifest: JsonObject) -> Departures:
    """Yield for the jobs of a JobSet; the schema of the JobSet is the cluster's."""
    path = (*_SPEC, "replicatedJobs")
    for k, job in enumerate(manifest["spec"]["replicatedJobs"]):
        inner, at = job.get("template", {}).get("spec", {}), (*path, k, "template", "spec")
        # A pod is named as the set, the job, its number, and its index.
        name = f"{manifest['metadata'].get('name', '')}-{job.get('name', '')}-0"
        yield from dns_label((*path, k, "name"), job.get("name", ""))
        yield from _job_spec(at, inner, {"name": name})


def _service(manifest: JsonObject) -> Departures:
    spec = manifest.get("spec", {})
    kind, ports = spec.get("type", "ClusterIP"), spec.get("ports", [])
    kinds = {"ClusterIP", "ExternalName", "LoadBalancer", "NodePort"}
    if kind not in kinds:
        yield (*_SPEC, "type"), one_of(kinds, kind)
    headless = spec.get("clusterIP") == "None"
    if not ports and not headless and kind != "ExternalName":
        yield (*_SPEC, "ports"), "needs a port, unless clusterIP is None"
    if kind == "ExternalName":
        yield from dns_subdomain((*_SPEC, "externalName"), spec.get("externalName", ""))
    if spec.get("clusterIP") not in (None, "", "None"):
        try:
            ipaddress.ip_address(spec["clusterIP"])
        except ValueError:
            yield (*_SPEC, "clusterIP"), f"needs an IP address. Got {spec['clusterIP']!r}"
    elif headless and kind in ("NodePort", "LoadBalancer"):
        yield (*_SPEC, "clusterIP"), f"must not be None if the type is {kind}"
    yield from label_map((*_SPEC, "selector"), spec.get("selector", {}))
    yield from _service_ports(kind, ports)


def _service_ports(kind: str, ports: list[JsonObject]) -> Departures:
    names = set()
    for k, port in enumerate(ports):
        at = (*_SPEC, "ports", k)
        if port.get("name"):
            yield from dns_label((*at, "name"), port["name"])
            if port["name"] in names:
                yield (*at, "name"), f"is given twice among ports: {port['name']!r}"
            names.add(port["name"])
        elif len(ports) > 1:
            yield (*at, "name"), "is required if there are two ports"
        yield from between((*at, "port"), port.get("port"), 1, 65535)
        if "targetPort" in port:
            yield from port_number((*at, "targetPort"), port["targetPort"])
        if port.get("protocol", "TCP") not in PROTOCOLS:
            yield (*at, "protocol"), one_of(PROTOCOLS, port["protocol"])
        if "nodePort" in port and kind not in ("NodePort", "LoadBalancer"):
            yield (*at, "nodePort"), f"must be left out if the type is {kind}"


def _config_map(manifest: JsonObject) -> Departures:
    text, binary = manifest.get("data", {}), manifest.get("binaryData", {})
    yield from data_keys(("data",), text)
    yield from data_keys(("binaryData",), binary)
    for key in sorted(text.keys() & binary.keys()):
        yield ("data",), f"has a key of binaryData too: {key!r}"
    size = sum(len(v.encode()) for v in text.values())
    size += sum(len(v) * 3 // 4 for v in binary.values())
    if size > _LARGEST_DATA:
        yield (), f"needs at most {_LARGEST_DATA} bytes of values. Got {size}"


def _secret(manifest: JsonObject) -> Departures:
    for field in ("data", "stringData"):
        yield from data_keys((field,), manifest.get(field, {}))
    size = sum(len(v) * 3 // 4 for v in manifest.get("data", {}).values())
    size += sum(len(v.encode()) for v in manifest.get("stringData", {}).values())
    if size > _LARGEST_DATA:
        yield ("data",), f"needs at most {_LARGEST_DATA} bytes of values. Got {size}"


def _disruption_budget(manifest: JsonObject) -> Departures:
    spec = manifest.get("spec", {})
    if "minAvailable" in spec and "maxUnavailable" in spec:
        yield _SPEC, "needs minAvailable or maxUnavailable, not both"
    for name in ("minAvailable", "maxUnavailable"):
        yield from _count((*_SPEC, name), spec.get(name))
    yield from selector((*_SPEC, "selector"), spec.get("selector", {}))


def _autoscaler(manifest: JsonObject) -> Departures:
    spec = manifest.get("spec", {})
    least, most = spec.get("minReplicas", 1), spec.get("maxReplicas", 0)
    outside = {"Object", "External"} & {m.get("type") for m in spec.get("metrics", [])}
    if least < 1 and not (least == 0 and outside):
        yield (*_SPEC, "minReplicas"), f"needs at least 1. Got {least}"
    if most < max(least, 1):
        yield (*_SPEC, "maxReplicas"), f"needs at least minReplicas, {least}. Got {most}"
    target = spec.get("scaleTargetRef", {})
    for name in ("kind", "name", "apiVersion"):
        if not target.get(name):
            yield (*_SPEC, "scaleTargetRef", name), "is required"


def _network_policy(manifest: JsonObject) -> Departures:
    spec = manifest.get("spec", {})
    yield from selector((*_SPEC, "podSelector"), spec.get("podSelector", {}))
    for k, kind in enumerate(spec.get("policyTypes", [])):
        if kind not in ("Ingress", "Egress"):
            yield (*_SPEC, "policyTypes", k), one_of({"Ingress", "Egress"}, kind)
    for direction, side in (("ingress", "from"), ("egress", "to")):
        for k, rule in enumerate(spec.get(direction, [])):
            at = (*_SPEC, direction, k)
            for n, port in enumerate(rule.get("ports", [])):
                yield from _policy_port((*at, "ports", n), port)
            for n, peer in enumerate(rule.get(side, [])):
                yield from _policy_peer((*at, side, n), peer)


def _policy_port(path: Path, port: JsonObject) -> Departures:
    yield from port_number((*path, "port"), port.get("port"))
    if port.get("protocol", "TCP") not in PROTOCOLS:
        yield (*path, "protocol"), one_of(PROTOCOLS, port["protocol"])
    if "endPort" in port:
        yield from between((*path, "endPort"), port["endPort"], 1, 65535)
        if not isinstance(port.get("port"), int) or port["endPort"] < port["port"]:
            yield (*path, "endPort"), "needs a number in port that is no larger"


def _policy_peer(path: Path, peer: JsonObject) -> Departures:
    if not peer:
        yield path, "needs podSelector, namespaceSelector or ipBlock"
    if "ipBlock" in peer and len(peer) > 1:
        yield path, "needs ipBlock alone, or selectors"
    for name in ("podSelector", "namespaceSelector"):
        yield from selector((*path, name), peer.get(name, {}))
    block = peer.get("ipBlock", {})
    if block:
        try:
            ipaddress.ip_network(block.get("cidr", ""))
        except ValueError:
            at = (*path, "ipBlock", "cidr")
            yield at, f"needs a network such as 10.0.0.0/8. Got {block.get('cidr')!r}"


def _role(manifest: JsonObject) -> Departures:
    for k, rule in enumerate(manifest.get("rules", [])):
        at: Path = ("rules", k)
        if not rule.get("verbs"):
            yield (*at, "verbs"), "needs a verb"
        if rule.get("nonResourceURLs"):
            if manifest["kind"] == "Role":
                yield (*at, "nonResourceURLs"), "must be left out of a Role"
            continue
        for name in ("apiGroups", "resources"):
            if not rule.get(name):
                yield (*at, name), "needs a value; '' is the core group"


def _role_binding(manifest: JsonObject) -> Departures:
    reference = manifest.get("roleRef", {})
    if reference.get("apiGroup") not in (None, "", "rbac.authorization.k8s.io"):
        group = {"rbac.authorization.k8s.io"}
        yield ("roleRef", "apiGroup"), one_of(group, reference["apiGroup"])
    kinds = {"ClusterRole"} | ({"Role"} if manifest["kind"] == "RoleBinding" else set())
    if reference.get("kind") not in kinds:
        yield ("roleRef", "kind"), one_of(kinds, reference.get("kind"))
    if not reference.get("name"):
        yield ("roleRef", "name"), "is required"
    for k, subject in enumerate(manifest.get("subjects", [])):
        at: Path = ("subjects", k)
        if not subject.get("name"):
            yield (*at, "name"), "is required"
        if subject.get("kind") not in ("ServiceAccount", "User", "Group"):
            yield (
                (*at, "kind"),
                one_of({"Group", "ServiceAccount", "User"}, subject.get("kind")),
            )
        elif subject["kind"] == "ServiceAccount" and not subject.get("namespace"):
            yield (*at, "namespace"), "is required for a ServiceAccount"


def _priority(manifest: JsonObject) -> Departures:
    value, name = manifest.get("value", 0), manifest["metadata"].get("name", "")
    if value > _LARGEST_PRIORITY:
        yield ("value",), f"needs at most {_LARGEST_PRIORITY}. Got {value}"
    if name.startswith("system-"):
        yield ("metadata", "name"), f"must not start with system-. Got {name!r}"
    policies = {"Never", "PreemptLowerPriority"}
    if manifest.get("preemptionPolicy", "Never") not in policies:
        yield ("preemptionPolicy",), one_of(policies, manifest["preemptionPolicy"])


def _bare_pod(manifest: JsonObject) -> Departures:
    yield from pod(_SPEC, manifest.get("spec", {}))


_RULES: dict[str, Callable[[JsonObject], Departures]] = {
    "ClusterRole": _role,
    "ClusterRoleBinding": _role_binding,
    "ConfigMap": _config_map,
    "CronJob": _cron_job,
    "DaemonSet": _daemon_set,
    "Deployment": _deployment,
    "HorizontalPodAutoscaler": _autoscaler,
    "Job": _job,
    "JobSet": _job_set,
    "NetworkPolicy": _network_policy,
    "Pod": _bare_pod,
    "PodDisruptionBudget": _disruption_budget,
    "PriorityClass": _priority,
    "Role": _role,
    "RoleBinding": _role_binding,
    "Secret": _secret,
    "Service": _service,
    "StatefulSet": _stateful_set,
}
