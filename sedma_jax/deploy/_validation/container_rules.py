"""Rules of containers that the API server checks beyond the schema."""

import re
from collections.abc import Collection

from .._json import JsonObject
from .._workflow.quantity import parse_quantity
from .name_rules import (
    PROTOCOLS,
    between,
    dns_label,
    one_of,
    port_name,
    port_number,
    qualified_name,
)
from .schema import Departures, Key, Path

LARGEST_ID = 2**31 - 1
_HANDLERS = ("exec", "httpGet", "tcpSocket", "grpc")
_RESOURCES = {"cpu", "memory", "ephemeral-storage"}
_PULL_POLICIES = {"Always", "IfNotPresent", "Never"}
_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
_PROFILES = {"Localhost", "RuntimeDefault", "Unconfined"}


def container(
    path: Path, item: JsonObject, volumes: Collection[str | None], *, initial: bool
) -> Departures:
    """Yield for a container at `path`.

    **Arguments:**

    - `volumes`: names of the pod's volumes.
    - `initial`: whether it is an init container.
    """
    yield from _image(path, item)
    restart = item.get("restartPolicy", "Always")
    if initial and restart not in {"Always", "Never", "OnFailure"}:
        yield (*path, "restartPolicy"), one_of({"Always"}, restart)
    yield from _ports(path, item)
    yield from _environment(path, item)
    yield from _resources((*path, "resources"), item.get("resources", {}))
    yield from _mounts(path, item, volumes)
    for kind in _PROBES:
        if kind in item and initial and item.get("restartPolicy") != "Always":
            yield (*path, kind), "needs an init container with restartPolicy Always"
        if kind in item:
            yield from _probe((*path, kind), item[kind])
    yield from security((*path, "securityContext"), item.get("securityContext", {}))


def _image(path: Path, item: JsonObject) -> Departures:
    if not item.get("name"):
        yield (*path, "name"), "is required"
    else:
        yield from dns_label((*path, "name"), item["name"])
    if not item.get("image"):
        yield (*path, "image"), "is required"
    if item.get("imagePullPolicy", "Always") not in _PULL_POLICIES:
        yield (*path, "imagePullPolicy"), one_of(_PULL_POLICIES, item["imagePullPolicy"])


def _ports(path: Path, item: JsonObject) -> Departures:
    names = set()
    for k, port in enumerate(item.get("ports", [])):
        at = (*path, "ports", k)
        if not port.get("containerPort"):
            yield (*at, "containerPort"), "is required, and must not be 0"
        yield from between((*at, "containerPort"), port.get("containerPort"), 1, 65535)
        yield from between((*at, "hostPort"), port.get("hostPort"), 0, 65535)
        if port.get("protocol", "TCP") not in PROTOCOLS:
            yield (*at, "protocol"), one_of(PROTOCOLS, port["protocol"])
        if "name" in port:
            yield from port_name((*at, "name"), port["name"])
            if port["name"] in names:
                yield (*at, "name"), f"is given twice among ports: {port['name']!r}"
            names.add(port["name"])


def _environment(path: Path, item: JsonObject) -> Departures:
    for k, variable in enumerate(item.get("env", [])):
        at = (*path, "env", k)
        name = variable.get("name", "")
        if not re.fullmatch(r"[ -<>-~]+", name):
            yield (*at, "name"), f"needs printable ASCII without '='. Got {name[:80]!r}"
        if variable.get("value") and variable.get("valueFrom"):
            yield (*at, "valueFrom"), "must be left out if there is a value"
    for k, source in enumerate(item.get("envFrom", [])):
        given = [name for name in ("configMapRef", "secretRef") if name in source]
        if len(given) != 1:
            yield (*path, "envFrom", k), "needs configMapRef or secretRef, one of them"
        elif not source[given[0]].get("name"):
            yield (*path, "envFrom", k, given[0], "name"), "is required"


def _mounts(path: Path, item: JsonObject, volumes: Collection[str | None]) -> Departures:
    paths = set()
    for k, mount in enumerate(item.get("volumeMounts", [])):
        at = (*path, "volumeMounts", k)
        if mount.get("name") not in volumes:
            yield (*at, "name"), f"names no volume of the pod. Got {mount.get('name')!r}"
        where = mount.get("mountPath")
        if not where:
            yield (*at, "mountPath"), "is required"
        elif where in paths:
            yield (*at, "mountPath"), f"is given twice: {where!r}"
        paths.add(where)


def _resources(path: Path, resources: JsonObject) -> Departures:
    for kind in ("requests", "limits"):
        for name, quantity in resources.get(kind, {}).items():
            yield from _amount((*path, kind, Key(name)), name, quantity)
    limits = resources.get("limits", {})
    for name, quantity in resources.get("requests", {}).items():
        if name in limits and parse_quantity(quantity) > parse_quantity(limits[name]):
            yield (
                (*path, "requests"),
                f"needs at most the limit of {name}, {limits[name]}. Got {quantity!r}",
            )
        extended = "/" in name or name.startswith("hugepages-")
        if extended and parse_quantity(limits.get(name, "0")) != parse_quantity(quantity):
            yield (*path, "requests"), f"needs the limit of {name} to be the same"


def _amount(path: Path, name: str, quantity: str | float) -> Departures:
    """Yield unless `name` is a resource that can be asked for in this quantity."""
    value = parse_quantity(quantity)
    if "/" in name:
        yield from qualified_name(path, name)
        if value % 1:
            yield path, f"needs a whole number. Got {quantity!r}"
    elif name not in _RESOURCES and not re.fullmatch(r"hugepages-.+", name):
        yield path, f"needs cpu, memory, or a name with '/'. Got {name!r}"
    if value < 0:
        yield path, f"needs at least 0. Got {quantity!r}"


def _probe(path: Path, probe: JsonObject) -> Departures:
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
    # Zero means the default.
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


def security(path: Path, context: JsonObject) -> Departures:
    """Yield for the security context of a pod or of a container."""
    for name in ("runAsUser", "runAsGroup", "fsGroup"):
        yield from between((*path, name), context.get(name), 0, LARGEST_ID)
    profile = context.get("seccompProfile")
    if profile is not None:
        if profile.get("type") not in _PROFILES:
            yield (*path, "seccompProfile", "type"), one_of(_PROFILES, profile.get("type"))
    privileged = context.get("privileged") or "SYS_ADMIN" in context.get(
        "capabilities", {}
    ).get("add", [])
    if context.get("allowPrivilegeEscalation") is False and privileged:
        yield (
            (*path, "allowPrivilegeEscalation"),
            "needs true beside privileged or SYS_ADMIN",
        )
