"""Read a manifest as the API server decodes it, by the published schema of its kind."""

import base64
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Any

from kubernetes_validate.utils import schema_contents

from .._json import JsonObject
from .._workflow.quantity import parse_quantity

VERSION = "1.36"
_FOLDER = "kubernetes-json-schema/v1.36.0-local-strict"

Path = tuple[str | int, ...]
Departures = Iterator[tuple[Path, str]]  # where a manifest is wrong, and why


class Key(str):
    """A step of a path into a map whose keys the user chooses: `data[a/b]`."""


@dataclass
class Reading:
    """A manifest without nulls, and what the server would say of it."""

    manifest: JsonObject
    unreadable: list[tuple[Path, str]] = field(default_factory=list)  # status 400
    lacking: list[tuple[Path, str]] = field(default_factory=list)  # status 422


def read(manifest: JsonObject) -> Reading:
    """Read a manifest as the server decodes it.

    A null is a field that is left out; in a list or a map it is an empty value. A field
    that is required is lacking too if it is empty, as Go cannot tell the two apart.

    Kinds of groups other than Kubernetes's own are defined by the cluster: only their
    `metadata` is read, and the jobs of a JobSet.
    """
    reading = Reading(manifest=dict(manifest))
    version, kind = manifest.get("apiVersion"), manifest.get("kind")
    for name, value, form in (("apiVersion", version, _GROUP), ("kind", kind, _KIND)):
        if not isinstance(value, str) or not form.fullmatch(value):
            reason = f"is required, as in apps/v1 and Deployment. Got {shown(value)}"
            reading.unreadable.append(((name,), reason))
            return reading
    schema = _schema(str(version), str(kind))
    group = str(version).rpartition("/")[0]
    if schema is not None:
        reading.manifest = _decoded(manifest, schema, (), reading)
        reading.lacking = [x for x in reading.lacking if x[0][0] != "status"]
    elif "." not in group or (group.endswith(".k8s.io") and group not in _ADDED):
        reason = (
            f"Kubernetes {VERSION} has no {kind} of {version}; write the present version"
        )
        reading.unreadable.append((("apiVersion",), reason))
    else:
        _read_part("ServiceAccount", "v1", "metadata", reading.manifest, (), reading)
        if kind == "JobSet":
            _read_jobs(reading)
    return reading


_GROUP = re.compile(r"([a-z0-9-]+(\.[a-z0-9-]+)*/)?v[0-9]+((alpha|beta)[0-9]+)?")
_KIND = re.compile(r"[A-Z][A-Za-z0-9]{0,62}")
# Groups under k8s.io that are installed beside Kubernetes.
_ADDED = {"jobset.x-k8s.io", "leaderworkerset.x-k8s.io", "kueue.x-k8s.io"}


def _read_part(
    kind: str,
    version: str,
    part: str,
    manifest: JsonObject,
    path: Path,
    reading: Reading,
) -> None:
    """Read one part of a manifest in place, by the schema of a kind with the same part."""
    schema = _schema(version, kind)
    assert schema is not None
    if manifest.get(part) is None:
        manifest[part] = {}
    schema = schema["properties"][part]
    manifest[part] = _decoded(manifest[part], schema, (*path, part), reading)


def _read_jobs(reading: Reading) -> None:
    spec = reading.manifest.get("spec")
    jobs = spec.get("replicatedJobs") if isinstance(spec, dict) else None
    path: Path = ("spec", "replicatedJobs")
    if not isinstance(jobs, list) or not jobs:
        reading.unreadable.append((path, "needs a job"))
        return
    read_jobs = []
    for k, job in enumerate(jobs):
        if not isinstance(job, dict) or not isinstance(job.get("name"), str):
            reading.unreadable.append(((*path, k, "name"), "is required"))
        elif not isinstance(job.get("template"), dict):
            reading.unreadable.append(((*path, k, "template"), "is required"))
        else:
            template = dict(job["template"])
            _read_part("Job", "batch/v1", "spec", template, (*path, k, "template"), reading)
            read_jobs.append({**job, "template": template})
    reading.manifest["spec"] = {"replicatedJobs": read_jobs}


@cache
def _definitions() -> dict[str, JsonObject]:
    definitions = schema_contents(f"{_FOLDER}/_definitions.json", VERSION)["$defs"]
    for name in definitions:
        definitions[name]["title"] = name.rpartition(".")[2]
    definitions["io.k8s.apimachinery.pkg.api.resource.Quantity"] = {"type": "quantity"}
    definitions["io.k8s.apimachinery.pkg.util.intstr.IntOrString"] = {
        "type": "int-or-string"
    }
    return definitions


@cache
def _schema(version: str, kind: str) -> JsonObject | None:
    group, _, number = version.rpartition("/")
    name = "-".join(x for x in (kind.lower(), group.partition(".")[0], number) if x)
    try:
        schema = schema_contents(f"{_FOLDER}/{name}.json", VERSION)
    except FileNotFoundError:
        return None
    if schema["properties"]["apiVersion"].get("enum", [version]) != [version]:
        return None
    return schema


def _resolved(schema: JsonObject) -> JsonObject:
    reference = schema.get("$ref")
    if not isinstance(reference, str):
        return schema
    return _definitions().get(reference.rpartition("/")[2], {})


def _type(schema: JsonObject) -> str:
    types = schema.get("type", "any")
    return types if isinstance(types, str) else next(t for t in types if t != "null")


def _decoded(value: Any, schema: JsonObject, path: Path, reading: Reading) -> Any:
    """Read `value`, which is not null, by a schema."""
    schema = _resolved(schema)
    kind = _type(schema)
    if kind == "object":
        return _object(value, schema, path, reading)
    if kind == "array":
        return _array(value, schema, path, reading)
    wrong = _WRONG[kind](value, schema.get("format", "")) if kind in _WRONG else None
    if wrong:
        reading.unreadable.append((path, wrong))
    # The server strips quantities, and no other text.
    return value.strip() if kind == "quantity" and isinstance(value, str) else value


def _empty(schema: JsonObject, path: Path, reading: Reading) -> Any:
    """Read a null within a list or a map."""
    kind = _type(_resolved(schema))
    return _decoded({}, schema, path, reading) if kind == "object" else _EMPTY.get(kind)


def _object(value: Any, schema: JsonObject, path: Path, reading: Reading) -> JsonObject:
    if not isinstance(value, dict):
        reading.unreadable.append((path, f"needs fields with values. Got {shown(value)}"))
        return {}
    fields = schema.get("properties", {})
    others = schema.get("additionalProperties", True)
    decoded: JsonObject = {}
    for name, item in value.items():
        at = (*path, name if isinstance(name, str) else shown(name))
        if not isinstance(name, str):
            reading.unreadable.append((at, "needs text as its name; quote it"))
        elif name in fields:
            if item is not None:
                decoded[name] = _decoded(item, fields[name], at, reading)
        elif isinstance(others, dict):
            reader = _empty(others, at, reading) if item is None else None
            decoded[name] = reader if item is None else _decoded(item, others, at, reading)
        elif others:
            decoded[name] = item
        else:
            reading.unreadable.append((at, "is no field of the schema; check its spelling"))
    for name in schema.get("required", ()):
        _require(decoded, schema, name, path, reading)
    return decoded


# Fields that schemas call required, although the server takes them when empty.
_MAY_BE_EMPTY = {
    ("HTTPHeader", "value"),
    ("ISCSIVolumeSource", "lun"),
    ("PodFailurePolicy", "rules"),
    ("SleepAction", "seconds"),
    ("Sysctl", "value"),
}


def _require(
    decoded: JsonObject, schema: JsonObject, name: str, path: Path, reading: Reading
) -> None:
    part = _resolved(schema.get("properties", {}).get(name, {}))
    at = (*path, name)
    if _type(part) == "object" and part.get("title") != "LabelSelector":
        # Go has no absent object here, only an empty one, whose own fields are lacking.
        if name not in decoded:
            decoded[name] = _decoded({}, part, at, reading)
    elif name in decoded and decoded[name] not in ("", 0, []):
        return
    elif (schema.get("title"), name) not in _MAY_BE_EMPTY:
        if not (name in decoded and part.get("title") == "LabelSelector"):
            reading.lacking.append((at, "is required"))


def _array(value: Any, schema: JsonObject, path: Path, reading: Reading) -> list[Any]:
    if not isinstance(value, list | tuple):
        reading.unreadable.append((path, f"needs a list. Got {shown(value)}"))
        return []
    items = schema.get("items", {})
    decoded = [
        _empty(items, (*path, k), reading)
        if item is None
        else _decoded(item, items, (*path, k), reading)
        for k, item in enumerate(value)
    ]
    _refuse_duplicates(decoded, schema.get("x-kubernetes-list-map-keys", []), path, reading)
    return decoded


def _refuse_duplicates(
    items: list[Any], keys: list[str], path: Path, reading: Reading
) -> None:
    """Refuse entries with the same keys, which the server cannot merge on apply."""
    own_rule = keys == ["topologyKey", "whenUnsatisfiable"]
    if not keys or own_rule or reading.unreadable:
        return
    seen = set()
    for k, item in enumerate(items):
        if not isinstance(item, dict):
            continue
        entry = tuple(
            str(item.get(key) or ("TCP" if key == "protocol" else "")) for key in keys
        )
        if entry in seen:
            at = (*path, k, keys[0]) if len(keys) == 1 else (*path, k)
            reason = f"is given twice by {', '.join(keys)}: {', '.join(entry)[:80]}"
            reading.lacking.append((at, reason))
        seen.add(entry)


def shown(value: object) -> str:
    """Say what was received, shortly, whatever it is."""
    try:
        return repr(value)[:80] if isinstance(value, str) else repr(str(value)[:60])
    except (ValueError, RecursionError):  # an integer of 4,300 digits, a deep nest
        return f"a {type(value).__name__}"


def _no_text(value: Any, form: str) -> str | None:
    if not isinstance(value, str):
        return f"needs text; quote it. Got {shown(value)}"
    if form == "byte":
        try:
            base64.b64decode(re.sub(r"[\r\n]", "", value), validate=True)
        except ValueError:
            return f"needs base64. Got {shown(value)}"
    if form == "date-time":
        try:
            if not _TIME.fullmatch(value):
                raise ValueError
            datetime.fromisoformat(value[:19])
        except ValueError:
            return f"needs a time such as 2030-01-31T12:00:00Z. Got {shown(value)}"
    return None


_TIME = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}"
    r"(\.[0-9]+)?(Z|[+-][0-9]{2}:[0-9]{2})"
)


def _no_integer(value: Any, form: str) -> str | None:
    largest = 2**31 if form == "int32" else 2**63
    if isinstance(value, bool) or not isinstance(value, int):
        return (
            f"needs a whole number such as 3, without quotes or point. Got {shown(value)}"
        )
    if not -largest <= value < largest:
        return f"needs at least {-largest} and at most {largest - 1}. Got {shown(value)}"
    return None


def _no_number(value: Any, _: str) -> str | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return f"needs a number, without quotes. Got {shown(value)}"
    return None


def _no_boolean(value: Any, _: str) -> str | None:
    if not isinstance(value, bool):
        return f"needs true or false, without quotes. Got {shown(value)}"
    return None


def _no_quantity(value: Any, _: str) -> str | None:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return f"needs a quantity such as 500m or 2Gi. Got {shown(value)}"
    try:
        if not str(value).isascii():
            raise ValueError(f"Needs ASCII. Got {shown(value)}")
        parse_quantity(value.strip() if isinstance(value, str) else value)
    except ValueError as error:
        text = str(error).rstrip(".")
        return text[0].lower() + text[1:]
    return None


def _no_port(value: Any, _: str) -> str | None:
    return None if isinstance(value, str) else _no_integer(value, "int32")


_WRONG: dict[str, Callable[[Any, str], str | None]] = {
    "string": _no_text,
    "integer": _no_integer,
    "number": _no_number,
    "boolean": _no_boolean,
    "quantity": _no_quantity,
    "int-or-string": _no_port,
}
_EMPTY: dict[str, object] = {
    "string": "",
    "integer": 0,
    "number": 0,
    "boolean": False,
    "quantity": 0,
    "int-or-string": 0,
}
