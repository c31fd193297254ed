"""Rules of containers that the API server checks beyond the schema."""

import re
from collections.abc import Collection

from ..._json import JsonObject
from ..schema import Departures, Path
from .handler import lifecycle, probe
from .name import (
    PROTOCOLS,
    between,
    choice,
    dns_label,
    dns_subdomain,
    port_name,
)
from .resource import resources
from .security import container_security
from .volume import config_key, descending, field_reference, resource_reference

_PULL_POLICIES = {"Always", "IfNotPresent", "Never"}
_MESSAGE_POLICIES = {"FallbackToLogsOnError", "File"}
_RESTARTS = {"Always", "Never", "OnFailure"}
_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
_VALUES = (
    "fieldRef",
    "resourceFieldRef",
    "configMapKeyRef",
    "secretKeyRef",
    "fileKeyRef",
)


def container(
    path: Path,
    item: JsonObject,
    volumes: Collection[str | None],
    *,
    initial: bool,
    grace: int,
    bare: bool,
) -> Departures:
    """Yield for a container at `path`.

    **Arguments:**

    - `volumes`: names of the pod's volumes.
    - `initial`: whether it is an init container.
    - `grace`: seconds that the pod has to end.
    - `bare`: whether it is in a pod, not in a template of pods.
    """
    yield from _image(path, item, bare)
    yield from choice((*path, "restartPolicy"), item.get("restartPolicy"), _RESTARTS)
    yield from _ports(path, item)
    yield from _environment(path, item)
    yield from _sources((*path, "envFrom"), item.get("envFrom", []))
    yield from resources((*path, "resources"), item.get("resources", {}))
    yield from _resizing((*path, "resizePolicy"), item.get("resizePolicy", []))
    yield from _mounts(path, item, volumes)
    brief = initial and item.get("restartPolicy") != "Always"
    for kind in ("lifecycle", *_PROBES):
        if kind in item and brief:
            yield (*path, kind), "needs an init container with restartPolicy Always"
    for kind in _PROBES:
        if kind in item and not brief:
            yield from probe((*path, kind), item[kind])
    if not brief:
        yield from lifecycle((*path, "lifecycle"), item.get("lifecycle", {}), grace)
    at = (*path, "securityContext")
    yield from container_security(at, item.get("securityContext", {}))


def _image(path: Path, item: JsonObject, bare: bool) -> Departures:
    if item.get("name"):
        yield from dns_label((*path, "name"), item["name"])
    image = item.get("image", "")
    if not image:
        yield (*path, "image"), "is required"
    elif bare and image != image.strip():
        yield (*path, "image"), f"needs no spaces around it. Got {image[:80]!r}"
    policy = item.get("imagePullPolicy")
    yield from choice((*path, "imagePullPolicy"), policy, _PULL_POLICIES, empty=True)
    policy = item.get("terminationMessagePolicy")
    yield from choice(
        (*path, "terminationMessagePolicy"), policy, _MESSAGE_POLICIES, empty=True
    )


def _ports(path: Path, item: JsonObject) -> Departures:
    names = set()
    for k, port in enumerate(item.get("ports", [])):
        at = (*path, "ports", k)
        yield from between((*at, "containerPort"), port.get("containerPort"), 1, 65535)
        yield from between((*at, "hostPort"), port.get("hostPort"), 0, 65535)
        yield from choice((*at, "protocol"), port.get("protocol"), PROTOCOLS, empty=True)
        if port.get("name"):
            yield from port_name((*at, "name"), port["name"])
            if port["name"] in names:
                yield (*at, "name"), f"is given twice among ports: {port['name'][:80]!r}"
            names.add(port["name"])


def _environment(path: Path, item: JsonObject) -> Departures:
    for k, variable in enumerate(item.get("env", [])):
        at, name = (*path, "env", k), variable.get("name", "")
        if name and not re.fullmatch(r"[ -<>-~]+", name):
            yield (*at, "name"), f"needs printable ASCII without '='. Got {name[:80]!r}"
        if "valueFrom" in variable:
            yield from _value_from((*at, "valueFrom"), variable)


def _value_from(path: Path, variable: JsonObject) -> Departures:
    source = variable["valueFrom"]
    given = [name for name in _VALUES if name in source]
    if not given:
        yield path, f"needs one of {', '.join(_VALUES)}"
    elif variable.get("value"):
        yield path, "must be left out if there is a value"
    elif len(given) > 1:
        yield path, f"needs one source. Got {', '.join(given)}"
    yield from field_reference(path, source, _FIELDS, keyed=True)
    yield from resource_reference(path, source)
    for name in ("configMapKeyRef", "secretKeyRef"):
        if name in source:
            yield from dns_subdomain((*path, name, "name"), source[name].get("name", ""))
            yield from config_key((*path, name, "key"), source[name].get("key", ""))


_FIELDS = {
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
}


def _sources(path: Path, sources: list[JsonObject]) -> Departures:
    for k, source in enumerate(sources):
        prefix = source.get("prefix", "")
        if not re.fullmatch(r"[ -<>-~]*", prefix):
            at = (*path, k, "prefix")
            yield at, f"needs printable ASCII without '='. Got {prefix[:80]!r}"
        given = [name for name in ("configMapRef", "secretRef") if name in source]
        if len(given) != 1:  # The server names the list here, not the entry.
            yield path, "needs configMapRef or secretRef in each entry, one of them"
        for name in given:
            at, text = (*path, k, name, "name"), source[name].get("name", "")
            if not text:
                yield at, "is required"
            else:  # Read as the stem of a name, which may end with '-'.
                stem = text[:-2] + "a" if len(text) > 1 and text.endswith("-") else text
                yield from dns_subdomain(at, stem)


def _mounts(path: Path, item: JsonObject, volumes: Collection[str | None]) -> Departures:
    for k, mount in enumerate(item.get("volumeMounts", [])):
        at, name = (*path, "volumeMounts", k), mount.get("name")
        if name and name not in volumes:
            yield (*at, "name"), f"names no volume of the pod. Got {name[:80]!r}"
        for field in ("subPath", "subPathExpr"):
            yield from descending((*at, field), mount.get(field, ""))
        if mount.get("subPath") and mount.get("subPathExpr"):
            yield (*at, "subPathExpr"), "must be left out beside subPath"
        propagation = {"Bidirectional", "HostToContainer", "None"}
        given = mount.get("mountPropagation")
        yield from choice((*at, "mountPropagation"), given, propagation)
        privileged = item.get("securityContext", {}).get("privileged") is True
        if given == "Bidirectional" and not privileged:
            yield (*at, "mountPropagation"), "needs a privileged container"
        recursive = {"Disabled", "Enabled", "IfPossible"}
        at, given = (*at, "recursiveReadOnly"), mount.get("recursiveReadOnly")
        yield from choice(at, given, recursive)
        if given in ("Enabled", "IfPossible") and not mount.get("readOnly"):
            yield at, "needs readOnly: true"
    paths = {mount.get("mountPath") for mount in item.get("volumeMounts", [])}
    for k, device in enumerate(item.get("volumeDevices", [])):
        at = (*path, "volumeDevices", k)
        if device.get("name") and device["name"] not in volumes:
            yield (*at, "name"), f"names no volume of the pod. Got {device['name'][:80]!r}"
        if device.get("devicePath") in paths:
            yield (*at, "devicePath"), "must not be the path of a mount"


def _resizing(path: Path, policies: list[JsonObject]) -> Departures:
    seen = set()
    for k, policy in enumerate(policies):
        name, restart = policy.get("resourceName"), policy.get("restartPolicy")
        yield from choice((*path, k, "resourceName"), name, {"cpu", "memory"})
        at = (*path, k, "restartPolicy")
        yield from choice(at, restart, {"NotRequired", "RestartContainer"})
        if name in seen:
            yield (*path, k), f"is given twice for {name}"
        seen.add(name)
