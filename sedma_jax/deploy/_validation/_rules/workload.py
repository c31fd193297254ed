"""Rules of Deployments, ReplicaSets, StatefulSets, DaemonSets and templates of pods."""

from ..._json import JsonObject
from ..schema import Departures, Path
from .metadata import annotations
from .name import (
    between,
    choice,
    count,
    dns_label,
    is_none,
    label_map,
    matches,
    one_of,
    selector,
)
from .pod import pod
from .resource import claim

_SPEC: Path = ("spec",)


def template(path: Path, spec: JsonObject, restarts: set[str]) -> Departures:
    """Yield for the template of pods in `spec`, which is at `path`."""
    claims = [
        item.get("metadata", {}).get("name", "")
        for item in spec.get("volumeClaimTemplates", [])
    ]
    given, at = spec.get("template", {}), (*path, "template")
    meta, inner = given.get("metadata", {}), given.get("spec", {})
    # The server leaves `metadata` out of these two fields.
    yield from label_map((*at, "labels"), meta.get("labels", {}))
    yield from annotations((*at, "annotations"), meta.get("annotations", {}))
    yield from pod((*at, "spec"), inner, claims=claims)
    policy = inner.get("restartPolicy") or "Always"
    if policy not in restarts:
        yield (*at, "spec", "restartPolicy"), one_of(restarts, policy)
    if inner.get("ephemeralContainers"):
        yield (*at, "spec", "ephemeralContainers"), "must be left out of a template"


def labels(spec: JsonObject) -> JsonObject:
    """Labels of the pods of a template."""
    return spec.get("template", {}).get("metadata", {}).get("labels", {})


def unmatched(path: Path, spec: JsonObject) -> Departures:
    """Yield unless the selector of `spec` matches the pods of its template."""
    if "selector" not in spec or not matches(spec["selector"], labels(spec)):
        yield (
            (*path, "template", "metadata", "labels"),
            f"needs labels that the selector matches. Got {str(labels(spec))[:80]}",
        )


def _replicated(spec: JsonObject) -> Departures:
    """Yield for what Deployments, StatefulSets and DaemonSets have in common."""
    for name in ("replicas", "minReadySeconds", "revisionHistoryLimit"):
        yield from between((*_SPEC, name), spec.get(name), 0)
    wanted = spec.get("selector", {})
    if not wanted.get("matchLabels") and not wanted.get("matchExpressions"):
        yield (*_SPEC, "selector"), "needs labels of the pods"
    wrong = list(selector((*_SPEC, "selector"), wanted))
    if wrong:
        yield from wrong
        yield (*_SPEC, "selector"), "must be mended before the template is looked at"
        return
    yield from unmatched(_SPEC, spec)
    yield from template(_SPEC, spec, {"Always"})
    if "activeDeadlineSeconds" in spec.get("template", {}).get("spec", {}):
        at = (*_SPEC, "template", "spec", "activeDeadlineSeconds")
        yield at, "must be left out of pods that are kept running"


def replica_set(manifest: JsonObject) -> Departures:
    """Yield for a ReplicaSet."""
    yield from _replicated(manifest.get("spec", {}))


def deployment(manifest: JsonObject) -> Departures:
    """Yield for a Deployment."""
    spec = manifest.get("spec", {})
    yield from _replicated(spec)
    strategy, at = spec.get("strategy", {}), (*_SPEC, "strategy")
    kind = strategy.get("type") or "RollingUpdate"
    if kind not in ("Recreate", "RollingUpdate"):
        yield at, one_of({"Recreate", "RollingUpdate"}, kind)
    elif kind == "Recreate" and "rollingUpdate" in strategy:
        yield (*at, "rollingUpdate"), "must be left out if the type is Recreate"
    elif "rollingUpdate" in strategy:
        rolling, at = strategy["rollingUpdate"], (*at, "rollingUpdate")
        surge = rolling.get("maxSurge", "25%")
        unavailable = rolling.get("maxUnavailable", "25%")
        yield from count((*at, "maxSurge"), surge, at_most_all=False)
        yield from count((*at, "maxUnavailable"), unavailable)
        if is_none(surge) and is_none(unavailable):
            yield (*at, "maxUnavailable"), "must not be 0 if maxSurge is 0"
    deadline = spec.get("progressDeadlineSeconds", 600)
    yield from between((*_SPEC, "progressDeadlineSeconds"), deadline, 0)
    if deadline <= spec.get("minReadySeconds", 0):
        yield (
            (*_SPEC, "progressDeadlineSeconds"),
            f"needs more than minReadySeconds. Got {deadline}",
        )


def stateful_set(manifest: JsonObject) -> Departures:
    """Yield for a StatefulSet."""
    spec = manifest.get("spec", {})
    yield from _replicated(spec)
    policy, policies = spec.get("podManagementPolicy"), {"OrderedReady", "Parallel"}
    yield from choice((*_SPEC, "podManagementPolicy"), policy, policies, empty=True)
    if spec.get("serviceName"):
        yield from dns_label((*_SPEC, "serviceName"), spec["serviceName"])
    update, at = spec.get("updateStrategy", {}), (*_SPEC, "updateStrategy")
    kind = update.get("type") or "RollingUpdate"
    if kind not in ("OnDelete", "RollingUpdate"):
        yield at, one_of({"OnDelete", "RollingUpdate"}, kind)
    elif kind == "OnDelete" and "rollingUpdate" in update:
        yield (*at, "rollingUpdate"), "must be left out if the type is OnDelete"
    else:
        rolling, at = update.get("rollingUpdate", {}), (*at, "rollingUpdate")
        yield from between((*at, "partition"), rolling.get("partition"), 0)
        yield from count((*at, "maxUnavailable"), rolling.get("maxUnavailable"))
        if is_none(rolling.get("maxUnavailable")):
            yield (*at, "maxUnavailable"), "must not be 0"
    at = (*_SPEC, "persistentVolumeClaimRetentionPolicy")
    for name in ("whenDeleted", "whenScaled"):
        kept = spec.get("persistentVolumeClaimRetentionPolicy", {}).get(name)
        yield from choice((*at, name), kept, {"Delete", "Retain"}, empty=True)
    start = spec.get("ordinals", {}).get("start")
    yield from between((*_SPEC, "ordinals", "start"), start, 0)
    for k, item in enumerate(spec.get("volumeClaimTemplates", [])):
        yield from claim((*_SPEC, "volumeClaimTemplates", k, "spec"), item.get("spec", {}))


def daemon_set(manifest: JsonObject) -> Departures:
    """Yield for a DaemonSet."""
    spec = manifest.get("spec", {})
    yield from _replicated(spec)
    update, at = spec.get("updateStrategy", {}), (*_SPEC, "updateStrategy")
    kind = update.get("type") or "RollingUpdate"
    if kind not in ("OnDelete", "RollingUpdate"):
        yield (*at, "type"), one_of({"OnDelete", "RollingUpdate"}, kind)
    elif kind == "RollingUpdate":
        rolling, at = update.get("rollingUpdate", {}), (*at, "rollingUpdate")
        surge = rolling.get("maxSurge", 0)
        unavailable = rolling.get("maxUnavailable", 1)
        yield from count((*at, "maxSurge"), surge)
        yield from count((*at, "maxUnavailable"), unavailable)
        if is_none(surge) and is_none(unavailable):
            yield (*at, "maxUnavailable"), "must not be 0 if maxSurge is 0"
        elif not is_none(surge) and not is_none(unavailable):
            yield (*at, "maxSurge"), "must be 0 unless maxUnavailable is 0"
