"""Check a manifest against the published schema of its kind."""

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator, FormatChecker
from jsonschema.exceptions import ValidationError
from jsonschema.protocols import Validator
from jsonschema.validators import extend
from kubernetes_validate.utils import schema_contents
from referencing import Registry, Resource

from .._json import JsonObject
from .._workflow.quantity import parse_quantity

VERSION = "1.36"
_FOLDER = "kubernetes-json-schema/v1.36.0-local-strict"
_QUANTITY = "io.k8s.apimachinery.pkg.api.resource.Quantity"

Path = tuple[str | int, ...]
Departures = Iterator[tuple[Path, str]]  # where a manifest is wrong, and why


class Key(str):
    """A step of a path into a map whose keys the user chooses: `data[a/b]`."""


def schema_errors(manifest: JsonObject) -> Departures:
    """Yield where a manifest departs from its schema, and why.

    Kinds of groups other than Kubernetes's own are defined by the cluster: only their
    `metadata` is checked, and the jobs of a JobSet.
    """
    version, kind = manifest.get("apiVersion"), manifest.get("kind")
    for name, value, form in (("apiVersion", version, _GROUP), ("kind", kind, _KIND)):
        if not isinstance(value, str) or not form.fullmatch(value):
            yield (
                (name,),
                f"is required, as in apps/v1 and Deployment. Got {str(value)[:60]!r}",
            )
            return
    checker = _checker(str(version), str(kind))
    group = str(version).rpartition("/")[0]
    if checker is not None:
        yield from _departures(checker, manifest)
    elif "." not in group or (group.endswith(".k8s.io") and group not in _ADDED):
        newer = "write the present version"
        yield ("apiVersion",), f"Kubernetes {VERSION} has no {kind} of {version}; {newer}"
    else:
        yield from _of_part("ServiceAccount", "v1", "metadata", manifest, ())
        if kind == "JobSet":
            yield from _jobs(manifest.get("spec"))


_GROUP = re.compile(r"([a-z0-9-]+(\.[a-z0-9-]+)*/)?v[0-9]+((alpha|beta)[0-9]+)?")
_KIND = re.compile(r"[A-Z][A-Za-z0-9]{0,62}")
# Groups under k8s.io that are installed beside Kubernetes.
_ADDED = {"jobset.x-k8s.io", "leaderworkerset.x-k8s.io", "kueue.x-k8s.io"}


def _jobs(spec: object) -> Departures:
    jobs = spec.get("replicatedJobs") if isinstance(spec, dict) else None
    path: Path = ("spec", "replicatedJobs")
    if not isinstance(jobs, list) or not jobs:
        yield path, "needs a job"
        return
    for k, job in enumerate(jobs):
        if not isinstance(job, dict) or not isinstance(job.get("name"), str):
            yield (*path, k, "name"), "is required"
        elif not isinstance(job.get("template"), dict):
            yield (*path, k, "template"), "is required"
        else:
            at = (*path, k, "template")
            yield from _of_part("Job", "batch/v1", "spec", job["template"], at)


def _of_part(
    kind: str, version: str, part: str, manifest: JsonObject, path: Path
) -> Departures:
    """Yield for one part of a manifest, by the schema of a kind with the same part."""
    checker = _checker(version, kind)
    assert checker is not None
    whole = {"apiVersion": version, "kind": kind, part: manifest.get(part)}
    for at, reason in _departures(checker, whole):
        yield (*path, *at), reason


def _departures(checker: Validator, manifest: JsonObject) -> Departures:
    for error in checker.iter_errors(manifest):
        yield from _said(error)


def _said(error: ValidationError) -> Departures:
    path: Path = tuple(error.absolute_path)
    if error.validator == "required" and isinstance(error.instance, dict):
        wanted = error.validator_value
        assert isinstance(wanted, list)
        for name in wanted:
            if name not in error.instance:
                yield (*path, name), "is required"
    elif error.validator == "additionalProperties" and isinstance(error.instance, dict):
        assert isinstance(error.schema, dict)
        for name in sorted(set(error.instance) - set(error.schema.get("properties", ()))):
            yield (*path, name), "is no field of the schema; check its spelling"
    else:
        text = error.message
        yield path, text if len(text) < 200 else text[:200] + "..."


@cache
def _registry() -> Registry:
    definitions = schema_contents(f"{_FOLDER}/_definitions.json", VERSION)
    definitions["$defs"][_QUANTITY] = {
        "type": ["string", "number", "null"],
        "format": "quantity",
    }
    return Resource.from_contents(definitions) @ Registry()


@cache
def _checker(version: str, kind: str) -> Validator | None:
    group, _, number = version.rpartition("/")
    name = "-".join(x for x in (kind.lower(), group.partition(".")[0], number) if x)
    try:
        schema = schema_contents(f"{_FOLDER}/{name}.json", VERSION)
    except FileNotFoundError:
        return None
    if schema["properties"]["apiVersion"].get("enum", [version]) != [version]:
        return None
    registry = Resource.from_contents(schema) @ _registry()
    return _Checker(schema, registry=registry, format_checker=_formats)


def _list_map_keys(
    validator: object, keys: list[str], value: object, schema: object
) -> Iterator[ValidationError]:
    """Yield for entries with the same keys in a list that the server merges by keys."""
    seen = set()
    for k, item in enumerate(value if isinstance(value, list) else ()):
        if isinstance(item, dict):
            defaults = {"protocol": "TCP"}
            entry = tuple(str(item.get(key, defaults.get(key))) for key in keys)
            if entry in seen:
                error = ValidationError(
                    f"is given twice by {', '.join(keys)}: {', '.join(entry)}"
                )
                error.path.append(k)
                yield error
            seen.add(entry)


_Checker = extend(Draft202012Validator, {"x-kubernetes-list-map-keys": _list_map_keys})
_formats = FormatChecker(formats=())


@_formats.checks("quantity", raises=ValueError)
def _is_quantity(value: Any) -> bool:
    if value is not None:
        parse_quantity(value)
    return True
