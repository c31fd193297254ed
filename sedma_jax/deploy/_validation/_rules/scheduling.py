"""Rules of where pods may run that the API server checks: affinity, taints, spreading."""

from ..._json import JsonObject
from ..schema import Departures, Path
from .name import (
    between,
    choice,
    dns_label,
    label_map,
    label_value,
    label_values,
    one_of,
    qualified_name,
    requirement,
    selector,
)

_EFFECTS = {"NoSchedule", "PreferNoSchedule", "NoExecute"}
_NODE_OPERATORS = {"In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"}
_WHEN = {"DoNotSchedule", "ScheduleAnyway"}
_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"


def scheduling(path: Path, spec: JsonObject) -> Departures:
    """Yield for what the spec of a pod says of nodes."""
    yield from label_map((*path, "nodeSelector"), spec.get("nodeSelector", {}))
    for k, gate in enumerate(spec.get("schedulingGates", [])):
        yield from qualified_name((*path, "schedulingGates", k), gate.get("name", ""))
    yield from _tolerations(path, spec)
    yield from _spreading(path, spec)
    yield from _affinity((*path, "affinity"), spec.get("affinity", {}))


def _tolerations(path: Path, spec: JsonObject) -> Departures:
    for k, item in enumerate(spec.get("tolerations", [])):
        at = (*path, "tolerations", k)
        operator, value = item.get("operator") or "Equal", item.get("value", "")
        if item.get("key"):
            yield from qualified_name((*at, "key"), item["key"])
        elif operator != "Exists":
            yield (*at, "operator"), f"needs Exists if there is no key. Got {operator!r}"
        if operator not in ("Equal", "Exists", "Lt", "Gt"):
            yield (*at, "operator"), one_of({"Equal", "Exists"}, operator)
        elif operator == "Exists" and value:
            yield (*at, "operator"), "needs no value if it is Exists"
        elif operator == "Equal":
            yield from label_value((*at, "operator"), value)
        effect = item.get("effect")
        yield from choice((*at, "effect"), effect, _EFFECTS, empty=True)
        if "tolerationSeconds" in item and effect != "NoExecute":
            yield (*at, "effect"), "needs NoExecute if tolerationSeconds is set"


def _spreading(path: Path, spec: JsonObject) -> Departures:
    items = spec.get("topologySpreadConstraints", [])
    pairs = [(item.get("topologyKey"), item.get("whenUnsatisfiable")) for item in items]
    for k, item in enumerate(items):
        at, when = (*path, "topologySpreadConstraints", k), item.get("whenUnsatisfiable")
        if item.get("maxSkew", 0) < 0:
            yield (*at, "maxSkew"), f"needs at least 1. Got {item['maxSkew']}"
        yield from choice((*at, "whenUnsatisfiable"), when, _WHEN)
        if pairs[k] in pairs[k + 1 :]:
            pair = (*at, "{topologyKey, whenUnsatisfiable}")
            yield pair, "is given twice"
        yield from between((*at, "minDomains"), item.get("minDomains"), 1)
        if "minDomains" in item and when != "DoNotSchedule":
            yield (*at, "minDomains"), "needs whenUnsatisfiable: DoNotSchedule"
        for name in ("nodeAffinityPolicy", "nodeTaintsPolicy"):
            yield from choice((*at, name), item.get(name), {"Honor", "Ignore"})
        chosen = item.get("labelSelector", {})
        yield from selector((*at, "labelSelector"), chosen)
        yield from _label_keys(at, item, "labelSelector", ("matchLabelKeys",))


def _label_keys(
    path: Path, item: JsonObject, chooser: str, names: tuple[str, ...]
) -> Departures:
    """Yield for keys of labels that are merged into a selector."""
    chosen = item.get(chooser, {})
    used = {*chosen.get("matchLabels", {})}
    used |= {term.get("key") for term in chosen.get("matchExpressions", [])}
    for name in names:
        keys = item.get(name, [])
        if keys and chooser not in item:
            yield (*path, name), f"needs a {chooser}"
        for k, key in enumerate(keys):
            yield from qualified_name((*path, name, k), key)
            if key in used and name == "matchLabelKeys":
                yield (*path, name, k), f"must not be in {chooser} too. Got {key[:80]!r}"
            if key in keys[:k]:
                yield (*path, name, k), f"is given twice: {key[:80]!r}"


def _affinity(path: Path, affinity: JsonObject) -> Departures:
    node, at = affinity.get("nodeAffinity", {}), (*path, "nodeAffinity")
    terms = node.get(_REQUIRED, {}).get("nodeSelectorTerms", [])
    for k, term in enumerate(terms):
        inner = (*at, _REQUIRED, "nodeSelectorTerms", k)
        yield from _node_term(inner, term)
        for n, item in enumerate(term.get("matchExpressions", [])):
            yield from label_values((*inner, "matchExpressions", n), item)
    for k, item in enumerate(node.get(_PREFERRED, [])):
        yield from _weight((*at, _PREFERRED, k), item)
        inner = (*at, _PREFERRED, k, "preference")
        yield from _node_term(inner, item.get("preference", {}))
    for kind in ("podAffinity", "podAntiAffinity"):
        rules = affinity.get(kind, {})
        for k, term in enumerate(rules.get(_REQUIRED, [])):
            yield from _pod_term((*path, kind, _REQUIRED, k), term)
        for k, item in enumerate(rules.get(_PREFERRED, [])):
            at = (*path, kind, _PREFERRED, k)
            yield from _weight(at, item)
            yield from _pod_term((*at, "podAffinityTerm"), item.get("podAffinityTerm", {}))


def _weight(path: Path, item: JsonObject) -> Departures:
    if item.get("weight") != 0:
        yield from between((*path, "weight"), item.get("weight"), 1, 100)


def _node_term(path: Path, term: JsonObject) -> Departures:
    for k, item in enumerate(term.get("matchExpressions", [])):
        at = (*path, "matchExpressions", k)
        yield from requirement(at, item, _NODE_OPERATORS)
        yield from qualified_name((*at, "key"), item.get("key", ""))
    for k, item in enumerate(term.get("matchFields", [])):
        at, values = (*path, "matchFields", k), item.get("values", [])
        if item.get("operator") not in ("In", "NotIn"):
            yield (*at, "operator"), one_of({"In", "NotIn"}, item.get("operator"))
        elif len(values) != 1:
            yield (*at, "values"), f"needs one value. Got {len(values)}"
        if item.get("key") != "metadata.name":
            yield (*at, "key"), one_of({"metadata.name"}, item.get("key"))


def _pod_term(path: Path, term: JsonObject) -> Departures:
    if term.get("topologyKey"):
        yield from qualified_name((*path, "topologyKey"), term["topologyKey"])
    for name in ("labelSelector", "namespaceSelector"):
        yield from selector((*path, name), term.get(name, {}))
    for name in term.get("namespaces", []):
        yield from dns_label((*path, "namespace"), name)
    names = ("matchLabelKeys", "mismatchLabelKeys")
    yield from _label_keys(path, term, "labelSelector", names)
