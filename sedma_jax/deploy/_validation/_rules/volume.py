"""Rules of volumes that the API server checks beyond the schema."""

import re

from ..._json import JsonObject
from ..._workflow.quantity import parse_quantity
from ..schema import Departures, Path
from .metadata import annotations
from .name import between, choice, dns_label, label_map
from .resource import claim

# Sources of volumes in the order in which the server looks for a second one.
_ORDER = (
    "emptyDir",
    "hostPath",
    "gitRepo",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "secret",
    "nfs",
    "iscsi",
    "glusterfs",
    "flocker",
    "configMap",
    "rbd",
    "persistentVolumeClaim",
    "cephfs",
    "cinder",
    "quobyte",
    "flexVolume",
    "downwardAPI",
    "fc",
    "azureFile",
)
_HOST_TYPES = {
    "BlockDevice",
    "CharDevice",
    "Directory",
    "DirectoryOrCreate",
    "File",
    "FileOrCreate",
    "Socket",
}
_MODE = 0o777
_KEYED = re.compile(r"metadata\.(labels|annotations)\['([^']+)'\]")


def volume(path: Path, item: JsonObject) -> Departures:
    """Yield for a volume of a pod; one without a source is an emptyDir."""
    if item.get("name"):
        yield from dns_label((*path, "name"), item["name"])
    given = [name for name in _ORDER if name in item]
    given += [name for name in item if name not in (*_ORDER, "name")]
    for name in given[1:]:
        yield (*path, name), "must be left out: a volume has one source"
    for name in given[:1]:
        yield from _source((*path, name), name, item[name])


def _source(path: Path, kind: str, source: JsonObject) -> Departures:
    if kind == "emptyDir" and parse_quantity(source.get("sizeLimit", 0)) < 0:
        yield (*path, "sizeLimit"), f"needs at least 0. Got {source['sizeLimit']!r}"
    elif kind == "hostPath":
        if ".." in source.get("path", "").split("/"):
            yield (*path, "path"), f"needs no '..'. Got {source['path'][:80]!r}"
        yield from choice((*path, "type"), source.get("type"), _HOST_TYPES, empty=True)
    elif kind in ("configMap", "secret"):
        name = "name" if kind == "configMap" else "secretName"
        if not source.get(name):
            yield (*path, name), "is required"
        yield from _files(path, source)
    elif kind == "downwardAPI":
        yield from _described(path, source)
    elif kind == "projected":
        yield from _mode((*path, "defaultMode"), source.get("defaultMode"))
        for k, part in enumerate(source.get("sources", [])):
            yield from _projected((*path, "sources", k), part)
    elif kind == "nfs" and not source.get("path", "/").startswith("/"):
        yield (*path, "path"), f"needs a path from the root. Got {source['path'][:80]!r}"
    elif kind == "ephemeral":
        template, at = source.get("volumeClaimTemplate"), (*path, "volumeClaimTemplate")
        if template is None:
            yield at, "is required"
        else:
            meta = template.get("metadata", {})
            yield from label_map((*at, "metadata", "labels"), meta.get("labels", {}))
            given = meta.get("annotations", {})
            yield from annotations((*at, "metadata", "annotations"), given)
            yield from claim((*at, "spec"), template.get("spec", {}))


def _projected(path: Path, part: JsonObject) -> Departures:
    for name in list(part)[1:]:
        yield (*path, name), "must be left out: an entry has one source"
    for name in list(part)[:1]:
        at, source = (*path, name), part[name]
        if name in ("configMap", "secret"):
            if not source.get("name"):
                yield (*at, "name"), "is required"
            yield from _files(at, source)
        elif name == "downwardAPI":
            yield from _described(at, source)
        elif name == "serviceAccountToken":
            seconds = source.get("expirationSeconds")
            yield from between((*at, "expirationSeconds"), seconds, 600, 2**32)
            yield from descending((*at, "path"), source.get("path", ""))


def _files(path: Path, source: JsonObject) -> Departures:
    yield from _mode((*path, "defaultMode"), source.get("defaultMode"))
    for k, item in enumerate(source.get("items", [])):
        at = (*path, "items", k)
        yield from _mode((*at, "mode"), item.get("mode"))
        yield from _inner((*at, "path"), item.get("path", ""))


def _described(path: Path, source: JsonObject) -> Departures:
    """Yield for files that describe the pod."""
    yield from _mode((*path, "defaultMode"), source.get("defaultMode"))
    for item in source.get("items", []):
        # The server leaves out `items` and the index here.
        yield from _mode((*path, "mode"), item.get("mode"))
        yield from _inner((*path, "path"), item.get("path", ""))
        if "fieldRef" in item and "resourceFieldRef" in item:
            yield path, "needs fieldRef or resourceFieldRef, not both"
        elif "fieldRef" not in item and "resourceFieldRef" not in item:
            yield (*path, "fieldRef"), "needs fieldRef or resourceFieldRef"
        yield from field_reference(path, item, _FIELDS, keyed=True)
        if not item.get("resourceFieldRef", {"containerName": "x"}).get("containerName"):
            yield (*path, "resourceFieldRef", "containerName"), "is required"
        yield from resource_reference(path, item)


_FIELDS = {
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
}


def _mode(path: Path, mode: object) -> Departures:
    if isinstance(mode, int) and not 0 <= mode <= _MODE:
        yield path, f"needs 0 to 511, which is 0777 in octal. Got {mode}"


def _inner(path: Path, text: str) -> Departures:
    yield from descending(path, text)
    if text.startswith("..") and text.split("/")[0] != "..":
        yield path, f"must not start with '..'. Got {text[:80]!r}"


def descending(path: Path, text: str) -> Departures:
    """Yield unless `text` is a relative path that never leads up."""
    if text.startswith("/") or ".." in text.split("/"):
        yield path, f"needs a relative path without '..'. Got {text[:80]!r}"


def config_key(path: Path, key: str) -> Departures:
    """Yield for a key that a ConfigMap or a Secret may not have."""
    bad = not re.fullmatch(r"[-._a-zA-Z0-9]{1,253}", key)
    if bad or key == "." or key.startswith(".."):
        yield (
            path,
            f"needs 1 to 253 letters, digits, '-', '_' and '.'. Got {key[:80]!r}",
        )


def field_reference(
    path: Path, source: JsonObject, fields: set[str], *, keyed: bool
) -> Departures:
    """Yield unless `fieldRef` names a field that a pod can be told of."""
    reference = source.get("fieldRef")
    if reference is None:
        return
    at, field = (*path, "fieldRef", "fieldPath"), reference.get("fieldPath", "")
    if reference.get("apiVersion") not in (None, "", "v1"):
        yield at, f"needs apiVersion v1. Got {reference['apiVersion'][:80]!r}"
    elif field and field not in fields and not (keyed and _KEYED.fullmatch(field)):
        listed = ", ".join(sorted(fields))
        yield at, f"needs one of {listed}, or metadata.labels['key']. Got {field[:80]!r}"


_COUNTED = re.compile(r"(limits|requests)\.(cpu|memory|ephemeral-storage|hugepages-.+)")
_DIVISORS = {
    "cpu": {"1m", "1"},
    "memory": {"1", *(f"1{s}" for s in ("k", "M", "G", "T", "P", "E"))}
    | {f"1{s}i" for s in ("K", "M", "G", "T", "P", "E")},
}


def resource_reference(path: Path, source: JsonObject) -> Departures:
    """Yield unless `resourceFieldRef` names a resource of a container."""
    reference = source.get("resourceFieldRef")
    if reference is None:
        return
    at, name = (*path, "resourceFieldRef"), reference.get("resource", "")
    match = _COUNTED.fullmatch(name)
    if name and not match:
        yield (*at, "resource"), f"needs limits.cpu, requests.memory … Got {name[:80]!r}"
    divisor = reference.get("divisor", "0")
    allowed = _DIVISORS["cpu" if match and match[2] == "cpu" else "memory"]
    values = {parse_quantity(text) for text in allowed} | {0}
    if match and parse_quantity(divisor) not in values:
        yield (*at, "divisor"), f"needs one of {', '.join(sorted(allowed))}"
