"""Rules of metadata that the API server checks."""

from ..._json import JsonObject
from ..schema import Departures, Path
from .name import (
    dns_label,
    dns_subdomain,
    label_map,
    path_segment,
    qualified_name,
)

_CLUSTER_WIDE = {
    "ClusterRole",
    "ClusterRoleBinding",
    "Namespace",
    "Node",
    "PersistentVolume",
    "PriorityClass",
    "StorageClass",
}
# Kinds whose names are only a part of a URL, and kinds whose names are labels of DNS.
_PATH_SEGMENTS = {
    "ClusterRole",
    "ClusterRoleBinding",
    "PodDisruptionBudget",
    "Role",
    "RoleBinding",
}
_LABELS = {"Namespace", "Service", "StatefulSet"}
_PATH: Path = ("metadata",)


def metadata(kind: str, meta: JsonObject) -> Departures:
    """Yield for metadata that objects of this kind may not have."""
    name, stem = meta.get("name", ""), meta.get("generateName", "")
    if not name and not stem:
        yield (*_PATH, "name"), "is required"
    if name:
        yield from _name(kind, (*_PATH, "name"), name)
    if stem:
        # The server adds letters to it, and so lets it end with '-'.
        whole = stem[:-1] + "a" if stem.endswith("-") else stem
        yield from _name(kind, (*_PATH, "generateName"), whole)
    namespace = meta.get("namespace")
    if namespace and kind in _CLUSTER_WIDE:
        yield (*_PATH, "namespace"), f"must be left out: a {kind} has no namespace"
    elif namespace:
        yield from dns_label((*_PATH, "namespace"), namespace)
    if meta.get("resourceVersion", "0") not in ("", "0"):
        yield (*_PATH, "resourceVersion"), "must be left out of a new object"
    yield from label_map((*_PATH, "labels"), meta.get("labels", {}))
    yield from annotations((*_PATH, "annotations"), meta.get("annotations", {}))
    yield from _owners((*_PATH, "ownerReferences"), meta.get("ownerReferences", []))
    for k, name in enumerate(meta.get("finalizers", [])):
        yield from qualified_name((*_PATH, "finalizers", k), name)
        if "/" not in name and name not in ("orphan", "foregroundDeletion", "kubernetes"):
            yield (*_PATH, "finalizers", k), f"needs a name with '/'. Got {name[:80]!r}"


def _name(kind: str, path: Path, name: str) -> Departures:
    if kind in _PATH_SEGMENTS:
        yield from path_segment(path, name)
    elif kind in _LABELS:
        yield from dns_label(path, name)
    else:
        yield from dns_subdomain(path, name)


def annotations(path: Path, given: JsonObject) -> Departures:
    """Yield for annotations that cannot be stored."""
    for key in given:
        yield from qualified_name(path, key.lower())
    size = sum(octets(key) + octets(value) for key, value in given.items())
    if size > 2**18:
        yield path, f"needs at most {2**18} bytes in all. Got {size}"


def octets(text: str) -> int:
    """Size in UTF-8, half a surrogate pair included."""
    return len(text.encode(errors="surrogatepass"))


def _owners(path: Path, owners: list[JsonObject]) -> Departures:
    controllers = 0
    for k, owner in enumerate(owners):
        controllers += owner.get("controller") is True
        if owner.get("apiVersion", "").count("/") > 1:
            yield (*path, k, "apiVersion"), "needs a group and a version"
    if controllers > 1:
        yield path, f"needs one controller at most. Got {controllers}"
