"""Rules of pods that the API server checks beyond the schema."""

from collections.abc import Collection

from ..._json import JsonObject
from ..schema import Departures, Path
from .container import container
from .name import (
    address,
    between,
    choice,
    dns_label,
    dns_subdomain,
    qualified_name,
)
from .scheduling import scheduling
from .security import LARGEST_ID, pod_security
from .volume import volume

_DEFAULT_GRACE = 30
_KINDS = ("initContainers", "containers")
_CHOICES = {
    "restartPolicy": {"Always", "OnFailure", "Never"},
    "dnsPolicy": {"ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"},
}


def pod(
    path: Path, spec: JsonObject, *, claims: Collection[str] = (), bare: bool = False
) -> Departures:
    """Yield for the spec of a pod at `path`.

    **Arguments:**

    - `claims`: names of the volumes that a StatefulSet adds to its own.
    - `bare`: whether it is in no template of pods.
    """
    if not spec.get("containers"):
        yield (*path, "containers"), "is required"
    for k, item in enumerate(spec.get("volumes", [])):
        yield from volume((*path, "volumes", k), item)
    yield from _containers(path, spec, claims, bare)
    yield from _host_ports(path, spec, bare)
    yield from scheduling(path, spec)
    yield from pod_security((*path, "securityContext"), spec.get("securityContext", {}))
    for name, allowed in _CHOICES.items():
        yield from choice((*path, name), spec.get(name), allowed, empty=True)
    policy, policies = spec.get("preemptionPolicy"), {"Never", "PreemptLowerPriority"}
    yield from choice((*path, "preemptionPolicy"), policy, policies)
    yield from _resolving(path, spec)
    yield from _named(path, spec)
    yield from between(
        (*path, "activeDeadlineSeconds"), spec.get("activeDeadlineSeconds"), 1, LARGEST_ID
    )
    if spec.get("hostPID") and spec.get("shareProcessNamespace"):
        yield (*path, "shareProcessNamespace"), "must not be true beside hostPID"
    yield from choice((*path, "os", "name"), spec.get("os", {}).get("name"), _SYSTEMS)


_SYSTEMS = {"linux", "windows"}


def _named(path: Path, spec: JsonObject) -> Departures:
    for name in ("hostname", "subdomain"):
        if spec.get(name):
            yield from dns_label((*path, name), spec[name])
    for name in (
        "serviceAccountName",
        "priorityClassName",
        "nodeName",
        "runtimeClassName",
    ):
        if spec.get(name) or (name == "runtimeClassName" and name in spec):
            yield from dns_subdomain((*path, name), spec[name])
    for k, secret in enumerate(spec.get("imagePullSecrets", [])):
        if not secret.get("name"):
            yield (*path, "imagePullSecrets", k, "name"), "is required"
    for k, gate in enumerate(spec.get("readinessGates", [])):
        if gate.get("conditionType"):
            at = (*path, "readinessGates", k, "conditionType")
            yield from qualified_name(at, gate["conditionType"])


def _containers(
    path: Path, spec: JsonObject, claims: Collection[str], bare: bool
) -> Departures:
    volumes = {*claims, *(item.get("name") for item in spec.get("volumes", []))}
    grace = spec.get("terminationGracePeriodSeconds", _DEFAULT_GRACE)
    first = {item.get("name") for item in spec.get("containers", [])}
    for kind in _KINDS:
        for k, item in enumerate(spec.get(kind, [])):
            initial, at = kind == "initContainers", (*path, kind, k)
            yield from container(at, item, volumes, initial=initial, grace=grace, bare=bare)
            if initial and item.get("name") in first:
                yield (*at, "name"), f"is given twice among containers: {item['name']!r}"


def _host_ports(path: Path, spec: JsonObject, bare: bool) -> Departures:
    """Yield for ports of the node that are taken, or differ on the node's own network."""
    taken = set()
    for kind in _KINDS:
        for k, item in enumerate(spec.get(kind, [])):
            for n, port in enumerate(item.get("ports", [])):
                at = (*path, kind, k, "ports", n, "hostPort")
                host = port.get("hostPort", 0)
                if spec.get("hostNetwork") and host not in (0, port.get("containerPort")):
                    yield at, f"needs the containerPort on the host's network. Got {host}"
                entry = (port.get("protocol") or "TCP", port.get("hostIP", ""), host)
                if host and entry in taken and kind == "containers":
                    yield at, f"is given twice: {host}"
                if kind == "containers":
                    taken.add(entry)


def _resolving(path: Path, spec: JsonObject) -> Departures:
    config, at = spec.get("dnsConfig", {}), (*path, "dnsConfig")
    servers, searches = config.get("nameservers", []), config.get("searches", [])
    if spec.get("dnsPolicy") == "None":
        if "dnsConfig" not in spec:
            yield at, "is required if dnsPolicy is None"
        elif not servers:
            yield (*at, "nameservers"), "needs a server if dnsPolicy is None"
    if len(servers) > 3:
        yield (*at, "nameservers"), f"needs at most 3. Got {len(servers)}"
    for k, server in enumerate(servers):
        yield from address((*at, "nameservers", k), server)
    if len(searches) > 32 or len(" ".join(searches)) > 2048:
        yield (*at, "searches"), "needs at most 32 domains and 2048 characters"
    for k, domain in enumerate(searches):
        # One '.' at the end is allowed, and '_'.
        plain = domain.removesuffix(".").replace("_", "-")
        if domain != ".":
            yield from dns_subdomain((*at, "searches", k), f"a{plain}a" if plain else "")
    for k, option in enumerate(config.get("options", [])):
        if not option.get("name"):
            yield (*at, "options", k), "needs a name"
    for k, alias in enumerate(spec.get("hostAliases", [])):
        if alias.get("ip"):
            yield from address((*path, "hostAliases", k, "ip"), alias["ip"])
        for name in alias.get("hostnames", []):
            yield from dns_subdomain((*path, "hostAliases", k, "hostnames"), name)
