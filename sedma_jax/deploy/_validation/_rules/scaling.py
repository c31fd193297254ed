"""Rules of HorizontalPodAutoscalers and PodDisruptionBudgets that the server checks."""

from ..._json import JsonObject
from ..._workflow.quantity import parse_quantity
from ..schema import Departures, Path
from .name import between, choice, count, path_segment, selector

_SPEC: Path = ("spec",)
_SOURCES = {
    "Object": "object",
    "External": "external",
    "Pods": "pods",
    "Resource": "resource",
    "ContainerResource": "containerResource",
}
_TARGETS = {"AverageValue", "Utilization", "Value"}


def disruption_budget(manifest: JsonObject) -> Departures:
    """Yield for a PodDisruptionBudget."""
    spec = manifest.get("spec", {})
    if "minAvailable" in spec and "maxUnavailable" in spec:
        yield _SPEC, "needs minAvailable or maxUnavailable, not both"
    for name in ("minAvailable", "maxUnavailable"):
        yield from count((*_SPEC, name), spec.get(name))
    yield from selector((*_SPEC, "selector"), spec.get("selector", {}))
    policy, policies = "unhealthyPodEvictionPolicy", {"AlwaysAllow", "IfHealthyBudget"}
    yield from choice((*_SPEC, policy), spec.get(policy), policies)


def autoscaler(manifest: JsonObject) -> Departures:
    """Yield for a HorizontalPodAutoscaler."""
    spec = manifest.get("spec", {})
    least, most = spec.get("minReplicas", 1), spec.get("maxReplicas", 0)
    metrics = spec.get("metrics", [])
    outside = {"Object", "External"} & {metric.get("type") for metric in metrics}
    if least < 1 and not (least == 0 and outside):
        yield (*_SPEC, "minReplicas"), f"needs at least 1. Got {least}"
        if least == 0:
            yield (*_SPEC, "metrics"), "needs an Object or External metric to scale to 0"
    if most < max(least, 1):
        yield (*_SPEC, "maxReplicas"), f"needs at least minReplicas, {least}. Got {most}"
    target, at = spec.get("scaleTargetRef", {}), (*_SPEC, "scaleTargetRef")
    yield from _reference(at, target)
    if (
        not target.get("apiVersion", "").partition("/")[1]
        or target["apiVersion"][:1] == "/"
    ):
        if target.get("kind") != "ReplicationController":
            yield (*at, "apiVersion"), "needs a group, as in apps/v1"
    share = spec.get("targetCPUUtilizationPercentage")  # of autoscaling/v1
    yield from between((*_SPEC, "targetCPUUtilizationPercentage"), share, 1)
    for k, metric in enumerate(metrics):
        yield from _metric((*_SPEC, "metrics", k), metric)
    for name in ("scaleUp", "scaleDown"):
        rules = spec.get("behavior", {}).get(name, {})
        yield from _behaviour((*_SPEC, "behavior", name), rules)


def _reference(path: Path, reference: JsonObject) -> Departures:
    for name in ("kind", "name"):
        if reference.get(name):
            yield from path_segment((*path, name), reference[name])
    if reference.get("apiVersion", "").count("/") > 1:
        yield (*path, "apiVersion"), "needs a group and a version, as in apps/v1"


def _metric(path: Path, metric: JsonObject) -> Departures:
    kind = metric.get("type")
    given = [name for name in _SOURCES.values() if name in metric]
    yield from choice((*path, "type"), kind, _SOURCES)
    expected = _SOURCES.get(str(kind))
    if expected and expected not in given:
        yield (*path, expected), f"is required if the type is {kind}"
    for name in given:
        if len(given) > 1 and name != expected:
            yield (*path, name), f"must be left out if the type is {kind}"
    for name in given[:1]:
        yield from _source((*path, name), name, metric[name])


def _source(path: Path, kind: str, source: JsonObject) -> Departures:
    if "describedObject" in source:
        yield from _reference((*path, "describedObject"), source["describedObject"])
    name = source.get("metric", {}).get("name")
    if name:
        yield from path_segment((*path, "metric", "name"), name)
    target, at = source.get("target", {}), (*path, "target")
    yield from choice((*at, "type"), target.get("type"), _TARGETS)
    for field in ("value", "averageValue"):
        if field in target and parse_quantity(target[field]) <= 0:
            yield (*at, field), f"needs more than 0. Got {target[field]!r}"
    yield from between((*at, "averageUtilization"), target.get("averageUtilization"), 1)
    if kind in ("resource", "containerResource"):
        one, other = "averageUtilization", "averageValue"
    elif kind == "pods":
        one, other = "averageValue", "averageValue"
    else:
        one, other = "averageValue", "value"
    if one not in target and other not in target:
        yield (*at, one), "is required" if one == other else f"is required, or {other}"
    elif one != other and one in target and other in target and kind != "object":
        yield (*at, other), f"must be left out beside {one}"


def _behaviour(path: Path, rules: JsonObject) -> Departures:
    window, policies = rules.get("stabilizationWindowSeconds"), rules.get("policies")
    yield from between((*path, "stabilizationWindowSeconds"), window, 0, 3600)
    chosen = rules.get("selectPolicy")
    yield from choice((*path, "selectPolicy"), chosen, {"Disabled", "Max", "Min"})
    if policies == []:
        yield (*path, "policies"), "needs a policy"
    for k, policy in enumerate(policies or []):
        at = (*path, "policies", k)
        yield from choice((*at, "type"), policy.get("type"), {"Percent", "Pods"})
        if policy.get("value") != 0:
            yield from between((*at, "value"), policy.get("value"), 1)
        if policy.get("periodSeconds") != 0:
            yield from between((*at, "periodSeconds"), policy.get("periodSeconds"), 1, 1800)
    tolerance = rules.get("tolerance")
    if tolerance is not None and parse_quantity(tolerance) < 0:
        yield (*path, "tolerance"), f"needs at least 0. Got {tolerance!r}"
