"""Rules of pods that the API server checks beyond the schema."""

import re

from .._workflow.quantity import parse_quantity
from .name_rules import (
    Refused,
    between,
    dns_label,
    dns_subdomain,
    label_map,
    one_of,
    qualified_name,
    requirement,
    selector,
)
from .schema import Key, Path

_HANDLERS = ("exec", "httpGet", "tcpSocket", "grpc")
_PROTOCOLS = {"TCP", "UDP", "SCTP"}
_EFFECTS = {"NoSchedule", "PreferNoSchedule", "NoExecute"}
_NODE_OPERATORS = {"In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"}
_WHEN = {"DoNotSchedule", "ScheduleAnyway"}
_LARGEST_ID = 2**31 - 1


def pod(path: Path, spec: dict) -> Refused:
    """Yield for the spec of a pod at `path`."""
    if not spec.get("containers"):
        yield (*path, "containers"), "needs a container"
    volumes = {}
    for k, volume in enumerate(spec.get("volumes", [])):
        yield from _volume((*path, "volumes", k), volume)
        volumes[volume.get("name")] = volume
    seen = set()
    for kind in ("initContainers", "containers"):
        for k, item in enumerate(spec.get(kind, [])):
            at = (*path, kind, k)
            yield from _container(at, item, volumes, initial=kind == "initContainers")
            if item.get("name") in seen:
                yield (*at, "name"), f"stands twice among containers: {item['name']!r}"
            seen.add(item.get("name"))
    yield from _scheduling(path, spec)
    yield from _security((*path, "securityContext"), spec.get("securityContext", {}))
    choices = {
        "restartPolicy": {"Always", "OnFailure", "Never"},
        "dnsPolicy": {"ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"},
    }
    for name, allowed in choices.items():
        if spec.get(name, next(iter(allowed))) not in allowed:
            yield (*path, name), one_of(allowed, spec[name])
    for name in ("hostname", "subdomain"):
        if spec.get(name):
            yield from dns_label((*path, name), spec[name])
    for name in ("serviceAccountName", "priorityClassName", "nodeName"):
        if spec.get(name):
            yield from dns_subdomain((*path, name), spec[name])
    yield from between(
        (*path, "activeDeadlineSeconds"), spec.get("activeDeadlineSeconds"), 1, _LARGEST_ID
    )


def _container(path, item, volumes, initial) -> Refused:
    if not item.get("name"):
        yield (*path, "name"), "is required"
    else:
        yield from dns_label((*path, "name"), item["name"])
    if not item.get("image"):
        yield (*path, "image"), "is required"
    policies = {"Always", "IfNotPresent", "Never"}
    if item.get("imagePullPolicy", "Always") not in policies:
        yield (*path, "imagePullPolicy"), one_of(policies, item["imagePullPolicy"])
    if initial and item.get("restartPolicy", "Always") not in {
        "Always",
        "Never",
        "OnFailure",
    }:
        yield (*path, "restartPolicy"), one_of({"Always"}, item["restartPolicy"])
    names = set()
    for k, port in enumerate(item.get("ports", [])):
        at = (*path, "ports", k)
        if not port.get("containerPort"):
            yield (*at, "containerPort"), "is required, and is not 0"
        yield from between((*at, "containerPort"), port.get("containerPort"), 1, 65535)
        yield from between((*at, "hostPort"), port.get("hostPort"), 0, 65535)
        if port.get("protocol", "TCP") not in _PROTOCOLS:
            yield (*at, "protocol"), one_of(_PROTOCOLS, port["protocol"])
        if "name" in port:
            yield from port_name((*at, "name"), port["name"])
            if port["name"] in names:
                yield (*at, "name"), f"stands twice among ports: {port['name']!r}"
            names.add(port["name"])
    for k, variable in enumerate(item.get("env", [])):
        at = (*path, "env", k)
        name = variable.get("name", "")
        if not re.fullmatch(r"[ -<>-~]+", name):
            yield (*at, "name"), f"needs printable ASCII without '='. Got {name[:80]!r}"
        if variable.get("value") and variable.get("valueFrom"):
            yield (*at, "valueFrom"), "must be left out where there is a value"
    for k, source in enumerate(item.get("envFrom", [])):
        given = [name for name in ("configMapRef", "secretRef") if name in source]
        if len(given) != 1:
            yield (*path, "envFrom", k), "needs configMapRef or secretRef, one of them"
        elif not source[given[0]].get("name"):
            yield (*path, "envFrom", k, given[0], "name"), "is required"
    yield from _resources((*path, "resources"), item.get("resources", {}))
    paths = set()
    for k, mount in enumerate(item.get("volumeMounts", [])):
        at = (*path, "volumeMounts", k)
        if mount.get("name") not in volumes:
            yield (*at, "name"), f"names no volume of the pod. Got {mount.get('name')!r}"
        where = mount.get("mountPath")
        if not where:
            yield (*at, "mountPath"), "is required"
        elif where in paths:
            yield (*at, "mountPath"), f"stands twice: {where!r}"
        paths.add(where)
    for kind in ("livenessProbe", "readinessProbe", "startupProbe"):
        if kind in item and initial and item.get("restartPolicy") != "Always":
            yield (*path, kind), "needs an init container with restartPolicy Always"
        if kind in item:
            yield from _probe((*path, kind), item[kind])
    yield from _security((*path, "securityContext"), item.get("securityContext", {}))


def port_name(path: Path, name: str) -> Refused:
    """Yield unless `name` is a service name of RFC 6335."""
    if len(name) > 15:
        yield path, f"needs at most 15 characters. Got {len(name)}"
    elif not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name):
        yield path, f"needs a-z, 0-9 and single '-' between them. Got {name!r}"
    elif name.replace("-", "").isdigit():
        yield path, f"needs a letter. Got {name!r}"


def port_number(path: Path, port) -> Refused:
    """Yield unless `port` is a number from 1 to 65535 or the name of a port."""
    if isinstance(port, str):
        yield from port_name(path, port)
    else:
        yield from between(path, port, 1, 65535)


def _resources(path, resources) -> Refused:
    limits = resources.get("limits", {})
    for kind in ("requests", "limits"):
        for name, quantity in resources.get(kind, {}).items():
            at = (*path, kind, Key(name))
            value = parse_quantity(quantity)
            ours = "/" not in name
            if ours and name not in ("cpu", "memory", "ephemeral-storage"):
                if not re.fullmatch(r"hugepages-.+", name):
                    yield (
                        at,
                        f"needs cpu, memory, or a name with '/'. Got {name!r}",
                    )
            elif not ours:
                yield from qualified_name(at, name)
                if value % 1:
                    yield at, f"needs a whole number. Got {quantity!r}"
            if value < 0:
                yield at, f"needs at least 0. Got {quantity!r}"
    for name, quantity in resources.get("requests", {}).items():
        if name in limits and parse_quantity(quantity) > parse_quantity(limits[name]):
            yield (
                (*path, "requests"),
                f"needs at most the limit of {name}, {limits[name]}. Got {quantity!r}",
            )
        extended = "/" in name or name.startswith("hugepages-")
        if extended and parse_quantity(limits.get(name, "0")) != parse_quantity(quantity):
            yield (*path, "requests"), f"needs the limit of {name} to be the same"


def _probe(path, probe) -> Refused:
    given = [name for name in _HANDLERS if name in probe]
    if not given:
        yield path, f"needs one of {', '.join(_HANDLERS)}"
    for name in given[1:]:
        yield (*path, name), f"must be left out beside {given[0]}: one handler is allowed"
    for name in given:
        if name != "exec":
            yield from port_number((*path, name, "port"), probe[name].get("port"))
        elif not probe[name].get("command"):
            yield (*path, name, "command"), "is required"
    # Zero stands for the default.
    for name in (
        "initialDelaySeconds",
        "timeoutSeconds",
        "periodSeconds",
        "successThreshold",
        "failureThreshold",
    ):
        yield from between((*path, name), probe.get(name), 0)
    if path[-1] != "readinessProbe" and probe.get("successThreshold", 1) > 1:
        yield (*path, "successThreshold"), f"needs 1. Got {probe['successThreshold']}"


def _volume(path, volume) -> Refused:
    yield from dns_label((*path, "name"), volume.get("name", ""))
    sources = [name for name in volume if name != "name"]
    for name in sources[1:]:
        # The server goes through sources in an order of its own; emptyDir is early there.
        other = name if name != "emptyDir" else sources[0]
        yield (*path, other), "must be left out: a volume has one source"
    if not sources:
        yield path, "needs a source, such as `emptyDir: {}`"
    size = volume.get("emptyDir", {}).get("sizeLimit")
    if size is not None and parse_quantity(size) < 0:
        yield (*path, "emptyDir", "sizeLimit"), f"needs at least 0. Got {size!r}"


def _security(path, context) -> Refused:
    for name in ("runAsUser", "runAsGroup", "fsGroup"):
        yield from between((*path, name), context.get(name), 0, _LARGEST_ID)
    profile = context.get("seccompProfile")
    if profile is not None:
        kinds = {"Localhost", "RuntimeDefault", "Unconfined"}
        if profile.get("type") not in kinds:
            yield (*path, "seccompProfile", "type"), one_of(kinds, profile.get("type"))
    privileged = context.get("privileged") or "SYS_ADMIN" in context.get(
        "capabilities", {}
    ).get("add", [])
    if context.get("allowPrivilegeEscalation") is False and privileged:
        yield (
            (*path, "allowPrivilegeEscalation"),
            "needs true beside privileged or SYS_ADMIN",
        )


def _scheduling(path, spec) -> Refused:
    yield from label_map((*path, "nodeSelector"), spec.get("nodeSelector", {}))
    for k, gate in enumerate(spec.get("schedulingGates", [])):
        yield from qualified_name((*path, "schedulingGates", k), gate.get("name", ""))
    for k, item in enumerate(spec.get("tolerations", [])):
        at = (*path, "tolerations", k)
        operator = item.get("operator") or "Equal"
        if operator not in ("Equal", "Exists", "Lt", "Gt"):
            yield (*at, "operator"), one_of({"Equal", "Exists"}, operator)
        if operator == "Exists" and item.get("value"):
            yield (*at, "operator"), "needs no value where it is Exists"
        if not item.get("key") and operator != "Exists":
            yield (*at, "operator"), f"needs Exists where there is no key. Got {operator!r}"
        effect = item.get("effect")
        if effect and effect not in _EFFECTS:
            yield (*at, "effect"), one_of(_EFFECTS, effect)
        elif "tolerationSeconds" in item and effect != "NoExecute":
            yield (*at, "effect"), "needs NoExecute where tolerationSeconds is set"
    seen = set()
    for k, item in enumerate(spec.get("topologySpreadConstraints", [])):
        at = (*path, "topologySpreadConstraints", k)
        if item.get("maxSkew", 0) <= 0:
            yield (*at, "maxSkew"), f"needs at least 1. Got {item.get('maxSkew')}"
        if not item.get("topologyKey"):
            yield (*at, "topologyKey"), "is required"
        when = item.get("whenUnsatisfiable")
        if when not in _WHEN:
            yield (*at, "whenUnsatisfiable"), one_of(_WHEN, when)
        pair = (item.get("topologyKey"), when)
        if pair in seen:
            yield at, f"stands twice for {pair[0]!r} and {pair[1]!r}"
        seen.add(pair)
        yield from selector((*at, "labelSelector"), item.get("labelSelector", {}))
    yield from _affinity((*path, "affinity"), spec.get("affinity", {}))


def _affinity(path, affinity) -> Refused:
    node = affinity.get("nodeAffinity", {})
    required = "requiredDuringSchedulingIgnoredDuringExecution"
    preferred = "preferredDuringSchedulingIgnoredDuringExecution"
    if required in node:
        at = (*path, "nodeAffinity", required, "nodeSelectorTerms")
        if not node[required].get("nodeSelectorTerms"):
            yield at, "needs a term"
        for k, term in enumerate(node[required].get("nodeSelectorTerms", [])):
            yield from _node_term((*at, k), term)
    for k, item in enumerate(node.get(preferred, [])):
        at = (*path, "nodeAffinity", preferred, k)
        yield from _weight(at, item)
        yield from _node_term((*at, "preference"), item.get("preference", {}))
    for kind in ("podAffinity", "podAntiAffinity"):
        rules = affinity.get(kind, {})
        for k, term in enumerate(rules.get(required, [])):
            yield from _pod_term((*path, kind, required, k), term)
        for k, item in enumerate(rules.get(preferred, [])):
            at = (*path, kind, preferred, k)
            yield from _weight(at, item)
            yield from _pod_term((*at, "podAffinityTerm"), item.get("podAffinityTerm", {}))


def _weight(path, item):
    if not 1 <= item.get("weight", 0) <= 100:
        yield (*path, "weight"), f"needs 1 to 100. Got {item.get('weight')}"


def _node_term(path, term):
    for kind in ("matchExpressions", "matchFields"):
        for k, item in enumerate(term.get(kind, [])):
            yield from requirement((*path, kind, k), item, _NODE_OPERATORS)
            yield from qualified_name((*path, kind, k, "key"), item.get("key", ""))


def _pod_term(path, term):
    if not term.get("topologyKey"):
        yield (*path, "topologyKey"), "is required"
    yield from selector((*path, "labelSelector"), term.get("labelSelector", {}))
