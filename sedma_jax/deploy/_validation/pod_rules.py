"""Rules of pods that the API server checks beyond the schema."""

from .._json import JsonObject
from .._workflow.quantity import parse_quantity
from .container_rules import LARGEST_ID, container, security
from .name_rules import (
    between,
    dns_label,
    dns_subdomain,
    label_map,
    one_of,
    qualified_name,
    requirement,
    selector,
)
from .schema import Departures, Path

_EFFECTS = {"NoSchedule", "PreferNoSchedule", "NoExecute"}
_NODE_OPERATORS = {"In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"}
_WHEN = {"DoNotSchedule", "ScheduleAnyway"}
_CHOICES = {
    "restartPolicy": {"Always", "OnFailure", "Never"},
    "dnsPolicy": {"ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"},
}


def pod(path: Path, spec: JsonObject) -> Departures:
    """Yield for the spec of a pod at `path`."""
    if not spec.get("containers"):
        yield (*path, "containers"), "needs a container"
    for k, volume in enumerate(spec.get("volumes", [])):
        yield from _volume((*path, "volumes", k), volume)
    yield from _containers(path, spec)
    yield from _scheduling(path, spec)
    yield from security((*path, "securityContext"), spec.get("securityContext", {}))
    for name, allowed in _CHOICES.items():
        if name in spec and spec[name] not in allowed:
            yield (*path, name), one_of(allowed, spec[name])
    for name in ("hostname", "subdomain"):
        if spec.get(name):
            yield from dns_label((*path, name), spec[name])
    for name in ("serviceAccountName", "priorityClassName", "nodeName"):
        if spec.get(name):
            yield from dns_subdomain((*path, name), spec[name])
    yield from between(
        (*path, "activeDeadlineSeconds"), spec.get("activeDeadlineSeconds"), 1, LARGEST_ID
    )


def _containers(path: Path, spec: JsonObject) -> Departures:
    volumes = {volume.get("name") for volume in spec.get("volumes", [])}
    seen = set()
    for kind in ("initContainers", "containers"):
        for k, item in enumerate(spec.get(kind, [])):
            at = (*path, kind, k)
            yield from container(at, item, volumes, initial=kind == "initContainers")
            if item.get("name") in seen:
                yield (*at, "name"), f"is given twice among containers: {item['name']!r}"
            seen.add(item.get("name"))


def _volume(path: Path, volume: JsonObject) -> Departures:
    yield from dns_label((*path, "name"), volume.get("name", ""))
    sources = [name for name in volume if name != "name"]
    for name in sources[1:]:
        # The server checks sources in an order of its own, in which emptyDir comes early.
        other = name if name != "emptyDir" else sources[0]
        yield (*path, other), "must be left out: a volume has one source"
    if not sources:
        yield path, "needs a source, such as `emptyDir: {}`"
    size = volume.get("emptyDir", {}).get("sizeLimit")
    if size is not None and parse_quantity(size) < 0:
        yield (*path, "emptyDir", "sizeLimit"), f"needs at least 0. Got {size!r}"


def _scheduling(path: Path, spec: JsonObject) -> Departures:
    yield from label_map((*path, "nodeSelector"), spec.get("nodeSelector", {}))
    for k, gate in enumerate(spec.get("schedulingGates", [])):
        yield from qualified_name((*path, "schedulingGates", k), gate.get("name", ""))
    yield from _tolerations(path, spec)
    yield from _spreading(path, spec)
    yield from _affinity((*path, "affinity"), spec.get("affinity", {}))


def _tolerations(path: Path, spec: JsonObject) -> Departures:
    for k, item in enumerate(spec.get("tolerations", [])):
        at = (*path, "tolerations", k)
        operator = item.get("operator") or "Equal"
        if operator not in ("Equal", "Exists", "Lt", "Gt"):
            yield (*at, "operator"), one_of({"Equal", "Exists"}, operator)
        if operator == "Exists" and item.get("value"):
            yield (*at, "operator"), "needs no value if it is Exists"
        if not item.get("key") and operator != "Exists":
            yield (*at, "operator"), f"needs Exists if there is no key. Got {operator!r}"
        effect = item.get("effect")
        if effect and effect not in _EFFECTS:
            yield (*at, "effect"), one_of(_EFFECTS, effect)
        elif "tolerationSeconds" in item and effect != "NoExecute":
            yield (*at, "effect"), "needs NoExecute if tolerationSeconds is set"


def _spreading(path: Path, spec: JsonObject) -> Departures:
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
            yield at, f"is given twice for {pair[0]!r} and {pair[1]!r}"
        seen.add(pair)
        yield from selector((*at, "labelSelector"), item.get("labelSelector", {}))


def _affinity(path: Path, affinity: JsonObject) -> Departures:
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


def _weight(path: Path, item: JsonObject) -> Departures:
    if not 1 <= item.get("weight", 0) <= 100:
        yield (*path, "weight"), f"needs 1 to 100. Got {item.get('weight')}"


def _node_term(path: Path, term: JsonObject) -> Departures:
    for kind in ("matchExpressions", "matchFields"):
        for k, item in enumerate(term.get(kind, [])):
            yield from requirement((*path, kind, k), item, _NODE_OPERATORS)
            yield from qualified_name((*path, kind, k, "key"), item.get("key", ""))


def _pod_term(path: Path, term: JsonObject) -> Departures:
    if not term.get("topologyKey"):
        yield (*path, "topologyKey"), "is required"
    yield from selector((*path, "labelSelector"), term.get("labelSelector", {}))
