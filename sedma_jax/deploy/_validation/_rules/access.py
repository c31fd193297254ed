"""Rules of roles, their bindings and priorities that the API server checks."""

from ..._json import JsonObject
from ..schema import Departures, Path
from .name import dns_subdomain, one_of, path_segment, selector

_LARGEST_PRIORITY = 10**9
_GROUP = "rbac.authorization.k8s.io"


def role(manifest: JsonObject) -> Departures:
    """Yield for a Role or a ClusterRole."""
    for k, rule in enumerate(manifest.get("rules", [])):
        at: Path = ("rules", k)
        if rule.get("nonResourceURLs"):
            if manifest["kind"] == "Role":
                yield (*at, "nonResourceURLs"), "must be left out of a Role"
            if any(rule.get(name) for name in ("apiGroups", "resources", "resourceNames")):
                yield (*at, "nonResourceURLs"), "must be left out beside resources"
            continue
        for name in ("apiGroups", "resources"):
            if not rule.get(name):
                yield (*at, name), "needs a value; '' is the core group"
    if "aggregationRule" in manifest:
        path: Path = ("aggregationRule", "clusterRoleSelectors")
        selectors = manifest["aggregationRule"].get("clusterRoleSelectors", [])
        if not selectors:
            yield path, "needs a selector"
        for k, item in enumerate(selectors):
            yield from selector((*path, k), item)


def role_binding(manifest: JsonObject) -> Departures:
    """Yield for a RoleBinding or a ClusterRoleBinding."""
    reference = manifest.get("roleRef", {})
    if reference.get("apiGroup") not in (None, "", _GROUP):
        yield ("roleRef", "apiGroup"), one_of({_GROUP}, reference["apiGroup"])
    inside = manifest["kind"] == "RoleBinding"
    kinds = {"ClusterRole"} | ({"Role"} if inside else set())
    if reference.get("kind") not in kinds:
        yield ("roleRef", "kind"), one_of(kinds, reference.get("kind"))
    if reference.get("name"):
        yield from path_segment(("roleRef", "name"), reference["name"])
    for k, subject in enumerate(manifest.get("subjects", [])):
        at: Path = ("subjects", k)
        kind, group = subject.get("kind"), subject.get("apiGroup")
        if kind not in ("ServiceAccount", "User", "Group"):
            yield (*at, "kind"), one_of({"Group", "ServiceAccount", "User"}, kind)
        elif kind == "ServiceAccount":
            if subject.get("name"):
                yield from dns_subdomain((*at, "name"), subject["name"])
            if group:
                yield (*at, "apiGroup"), f"must be left out of a {kind}"
            if not inside and not subject.get("namespace"):
                yield (*at, "namespace"), "is required for a ServiceAccount"
        elif group not in (None, "", _GROUP):
            yield (*at, "apiGroup"), one_of({_GROUP}, group)


_SYSTEM = {
    "system-cluster-critical": 2 * _LARGEST_PRIORITY,
    "system-node-critical": 2 * _LARGEST_PRIORITY + 1000,
}


def priority(manifest: JsonObject) -> Departures:
    """Yield for a PriorityClass."""
    value, name = manifest.get("value", 0), manifest["metadata"].get("name", "")
    if name.startswith("system-"):
        if _SYSTEM.get(name) != value or manifest.get("globalDefault"):
            yield ("metadata", "name"), f"must not start with system-. Got {name[:80]!r}"
    elif value > _LARGEST_PRIORITY:
        yield ("value",), f"needs at most {_LARGEST_PRIORITY}. Got {value}"
    policies = {"Never", "PreemptLowerPriority"}
    if manifest.get("preemptionPolicy", "Never") not in policies:
        yield ("preemptionPolicy",), one_of(policies, manifest["preemptionPolicy"])
