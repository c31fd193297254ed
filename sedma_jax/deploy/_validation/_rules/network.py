"""Rules of Services and NetworkPolicies that the API server checks."""

import ipaddress

from ..._json import JsonObject
from ..schema import Departures, Path
from .name import (
    PROTOCOLS,
    address,
    between,
    choice,
    dns_label,
    dns_subdomain,
    label_map,
    network,
    one_of,
    port_name,
    port_number,
    qualified_name,
    selector,
)

_SPEC: Path = ("spec",)
_TYPES = {"ClusterIP", "ExternalName", "LoadBalancer", "NodePort"}
_CHOICES = {
    "sessionAffinity": {"ClientIP", "None"},
    "ipFamilyPolicy": {"PreferDualStack", "RequireDualStack", "SingleStack"},
    "internalTrafficPolicy": {"Cluster", "Local"},
    "externalTrafficPolicy": {"Cluster", "Local"},
    "trafficDistribution": {"PreferClose", "PreferSameNode", "PreferSameZone"},
}
_BALANCED = (
    "allocateLoadBalancerNodePorts",
    "loadBalancerClass",
    "loadBalancerSourceRanges",
)


def service(manifest: JsonObject) -> Departures:
    """Yield for a Service."""
    spec = manifest.get("spec", {})
    kind, ports = spec.get("type") or "ClusterIP", spec.get("ports", [])
    yield from choice((*_SPEC, "type"), kind, _TYPES)
    headless = spec.get("clusterIP") == "None" or spec.get("clusterIPs") == ["None"]
    if not ports and not headless and kind != "ExternalName":
        yield (*_SPEC, "ports"), "is required, unless clusterIP is None"
    yield from _addresses(kind, spec)
    yield from label_map((*_SPEC, "selector"), spec.get("selector", {}))
    for name, allowed in _CHOICES.items():
        empty = name in ("externalTrafficPolicy", "sessionAffinity")
        yield from choice((*_SPEC, name), spec.get(name), allowed, empty=empty)
    yield from _reached(kind, spec)
    yield from _service_ports(kind, ports)


def _addresses(kind: str, spec: JsonObject) -> Departures:
    if kind == "ExternalName":
        name = spec.get("externalName", "").removesuffix(".")
        yield from dns_subdomain((*_SPEC, "externalName"), name)
    given = spec.get("clusterIPs") or [spec[n] for n in ("clusterIP",) if spec.get(n)]
    at = (*_SPEC, "clusterIPs")
    if spec.get("clusterIP") and spec.get("clusterIPs"):
        if spec["clusterIP"] != given[0]:
            yield at, f"needs clusterIP as its first. Got {given[0][:80]!r}"
    if given and kind == "ExternalName":
        yield at, "must be left out if the type is ExternalName"
    elif "None" in given:
        if kind in ("NodePort", "LoadBalancer"):
            yield (*at, 0), f"must not be None if the type is {kind}"
        if len(given) > 1:
            yield at, "needs None alone"
    else:
        for k, text in enumerate(given):
            bad = list(address((*at, k), text))
            yield from bad
            # A range of a cluster's services holds none of these.
            if not bad and _is_special(text):
                yield at, f"needs an address of the cluster. Got {text}"
    families = spec.get("ipFamilies", [])
    for k, family in enumerate(families):
        yield from choice((*_SPEC, "ipFamilies", k), family, {"IPv4", "IPv6"})
        if family in families[:k]:
            yield (*_SPEC, "ipFamilies", k), f"is given twice: {family}"
    for k, text in enumerate(spec.get("externalIPs", [])):
        bad = list(address((*_SPEC, "externalIPs", k), text))
        yield from bad
        if not bad and _is_special(text):
            yield (*_SPEC, "externalIPs", k), f"needs an address of a network. Got {text}"


def _is_special(text: str) -> bool:
    ip = ipaddress.ip_address(text)
    return ip.is_loopback or ip.is_unspecified or ip.is_link_local or ip.is_multicast


def _reached(kind: str, spec: JsonObject) -> Departures:
    if spec.get("sessionAffinity") == "ClientIP":
        client = spec.get("sessionAffinityConfig", {}).get("clientIP", {})
        at = (*_SPEC, "sessionAffinityConfig", "clientIP", "timeoutSeconds")
        yield from between(at, client.get("timeoutSeconds"), 1, 86400)
    elif "sessionAffinityConfig" in spec:
        yield (*_SPEC, "sessionAffinityConfig"), "needs sessionAffinity: ClientIP"
    for name in _BALANCED:
        if name in spec and kind != "LoadBalancer":
            yield (*_SPEC, name), "needs the type LoadBalancer"
    if "loadBalancerClass" in spec:
        yield from qualified_name((*_SPEC, "loadBalancerClass"), spec["loadBalancerClass"])
    for k, text in enumerate(spec.get("loadBalancerSourceRanges", [])):
        if network(text.strip()) is None:
            at = (*_SPEC, "loadBalancerSourceRanges", k)
            yield at, f"needs a network such as 10.0.0.0/8. Got {text[:80]!r}"
    outside = kind in ("NodePort", "LoadBalancer") or spec.get("externalIPs")
    if spec.get("externalTrafficPolicy") and not outside:
        yield (*_SPEC, "externalTrafficPolicy"), f"must be left out if the type is {kind}"
    local = kind == "LoadBalancer" and spec.get("externalTrafficPolicy") == "Local"
    if spec.get("healthCheckNodePort") and not local:
        at = (*_SPEC, "healthCheckNodePort")
        yield at, "needs the type LoadBalancer and externalTrafficPolicy: Local"


def _service_ports(kind: str, ports: list[JsonObject]) -> Departures:
    names, taken = set(), set()
    for k, port in enumerate(ports):
        at = (*_SPEC, "ports", k)
        if port.get("name"):
            yield from dns_label((*at, "name"), port["name"])
            if port["name"] in names:
                yield (*at, "name"), f"is given twice among ports: {port['name'][:80]!r}"
            names.add(port["name"])
        elif len(ports) > 1:
            yield (*at, "name"), "is required if there are two ports"
        number = port.get("port", 0)
        yield from between((*at, "port"), number, 1, 65535)
        # An empty target is the port itself.
        yield from port_number((*at, "targetPort"), port.get("targetPort") or number)
        protocol = port.get("protocol")
        yield from choice((*at, "protocol"), protocol, PROTOCOLS, empty=True)
        if "appProtocol" in port:
            yield from qualified_name((*at, "appProtocol"), port["appProtocol"])
        node = port.get("nodePort", 0)
        if node and kind == "ClusterIP":
            yield (*at, "nodePort"), f"must be left out if the type is {kind}"
        elif node:
            yield from between((*at, "nodePort"), node, 1, 65535)
            entry = (node, port.get("protocol") or "TCP")
            if entry in taken:
                yield (*at, "nodePort"), f"is given twice: {node}"
            taken.add(entry)


def network_policy(manifest: JsonObject) -> Departures:
    """Yield for a NetworkPolicy."""
    spec = manifest.get("spec", {})
    yield from selector((*_SPEC, "podSelector"), spec.get("podSelector", {}))
    types = spec.get("policyTypes", [])
    if len(types) > 2:
        yield (*_SPEC, "policyTypes"), f"needs at most two. Got {len(types)}"
    else:
        for k, kind in enumerate(types):
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
    number, end = port.get("port"), port.get("endPort")
    if isinstance(number, str):
        yield from port_name((*path, "port"), number)
    else:
        yield from between((*path, "port"), number, 1, 65535)
    if port.get("protocol", "TCP") not in PROTOCOLS:
        yield (*path, "protocol"), one_of(PROTOCOLS, port["protocol"])
    if end is not None:
        if not isinstance(number, int) or end < number:
            yield (*path, "endPort"), "needs a number in port that is no larger"
        yield from between((*path, "endPort"), end, 1, 65535)


def _policy_peer(path: Path, peer: JsonObject) -> Departures:
    if not peer:
        yield path, "needs podSelector, namespaceSelector or ipBlock"
    if "ipBlock" in peer and len(peer) > 1:
        yield path, "needs ipBlock alone, or selectors"
    for name in ("podSelector", "namespaceSelector"):
        yield from selector((*path, name), peer.get(name, {}))
    block, at = peer.get("ipBlock", {}), (*path, "ipBlock")
    if not block.get("cidr"):
        return
    whole = network(block["cidr"])
    if whole is None:
        yield (
            (*at, "cidr"),
            f"needs a network such as 10.0.0.0/8. Got {block['cidr'][:80]!r}",
        )
        return
    for k, text in enumerate(block.get("except", [])):
        part = network(text)
        if part is None:
            yield (*at, "except", k), f"needs a network. Got {text[:80]!r}"
        elif part == whole or not _within(part, whole):
            yield (*at, "except", k), f"needs a part of {whole}. Got {text}"


def _within(
    part: ipaddress.IPv4Network | ipaddress.IPv6Network,
    whole: ipaddress.IPv4Network | ipaddress.IPv6Network,
) -> bool:
    if isinstance(part, ipaddress.IPv4Network) and isinstance(whole, ipaddress.IPv4Network):
        return part.subnet_of(whole)
    if isinstance(part, ipaddress.IPv6Network) and isinstance(whole, ipaddress.IPv6Network):
        return part.subnet_of(whole)
    return False
