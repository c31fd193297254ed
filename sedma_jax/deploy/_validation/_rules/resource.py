"""Rules of the resources of containers and of claims that the API server checks."""

import re

from ..._json import JsonObject
from ..._workflow.quantity import parse_quantity
from ..schema import Departures, Key, Path
from .name import choice, dns_subdomain, qualified_name, selector

_RESOURCES = {"cpu", "memory", "ephemeral-storage"}
_ACCESS = {"ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"}


def resources(path: Path, given: JsonObject) -> Departures:
    """Yield for the resources of a container."""
    limits, requests = given.get("limits", {}), given.get("requests", {})
    for kind, amounts in (("limits", limits), ("requests", requests)):
        for name, quantity in amounts.items():
            yield from _amount((*path, kind, Key(name)), name, quantity)
    for name, quantity in requests.items():
        limit = limits.get(name)
        whole = _extended(name) or name.startswith("hugepages-")
        if limit is None:
            if whole:
                yield (*path, "limits"), f"needs a limit of {name[:80]}"
        elif parse_quantity(quantity) > parse_quantity(limit):
            yield (
                (*path, "requests"),
                f"needs at most the limit of {name}, {limit}. Got {quantity!r}",
            )
        elif whole and parse_quantity(limit) != parse_quantity(quantity):
            yield (*path, "requests"), f"needs the limit of {name[:80]} to be the same"
    asked = {*limits, *requests}
    large = any(name.startswith("hugepages-") for name in asked)
    if large and not asked & {"cpu", "memory"}:
        yield path, "needs cpu or memory beside hugepages"


def _extended(name: str) -> bool:
    native = "/" not in name or "kubernetes.io/" in name
    return not native and not name.startswith("requests.")


def _amount(path: Path, name: str, quantity: str | float) -> Departures:
    """Yield unless `name` is a resource that can be asked for in this quantity."""
    value = parse_quantity(quantity)
    yield from qualified_name(path, name)
    if "/" not in name:
        if name not in _RESOURCES and not re.fullmatch(r"hugepages-.+", name):
            yield path, f"needs cpu, memory, or a name with '/'. Got {name[:80]!r}"
    elif _extended(name) and value % 1:
        yield path, f"needs a whole number. Got {quantity!r}"
    if value < 0:
        yield path, f"needs at least 0. Got {quantity!r}"


def claim(path: Path, spec: JsonObject) -> Departures:
    """Yield for the spec of a PersistentVolumeClaim."""
    modes, at = spec.get("accessModes", []), (*path, "accessModes")
    if not modes:
        yield at, "needs an access mode, such as ReadWriteOnce"
    for mode in modes:
        yield from choice(at, mode, _ACCESS)
    if "ReadWriteOncePod" in modes and len(modes) > 1:
        yield at, "needs ReadWriteOncePod alone, or others"
    yield from selector((*path, "selector"), spec.get("selector", {}))
    size = spec.get("resources", {}).get("requests", {}).get("storage")
    at = (*path, "resources", Key("storage"))
    if size is None:
        yield at, "is required"
    elif parse_quantity(size) <= 0:
        yield at, f"needs more than 0. Got {size!r}"
    for name in ("storageClassName", "volumeAttributesClassName"):
        if spec.get(name):
            yield from dns_subdomain((*path, name), spec[name])
    volume_mode = spec.get("volumeMode")
    yield from choice((*path, "volumeMode"), volume_mode, {"Block", "Filesystem"})
