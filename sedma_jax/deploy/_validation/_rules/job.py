"""Rules of Jobs, CronJobs and JobSets that the API server checks."""

import re

from ..._json import JsonObject
from ..schema import Departures, Path
from .name import (
    between,
    choice,
    dns_label,
    dns_subdomain,
    label_value,
    one_of,
    qualified_name,
    selector,
)
from .workload import template, unmatched

_SPEC: Path = ("spec",)
_MOST_INDEXED = 100_000
_COUNTS = (
    "parallelism",
    "completions",
    "activeDeadlineSeconds",
    "backoffLimit",
    "ttlSecondsAfterFinished",
    "backoffLimitPerIndex",
    "maxFailedIndexes",
)


def job(manifest: JsonObject) -> Departures:
    """Yield for a Job."""
    spec, meta = manifest.get("spec", {}), manifest["metadata"]
    yield from _job_spec(_SPEC, spec, meta.get("name") or meta.get("generateName", ""))
    if spec.get("manualSelector"):
        if "selector" not in spec:
            yield (*_SPEC, "selector"), "is required if manualSelector is true"
        yield from unmatched(_SPEC, spec)
    elif "selector" in spec:
        yield (*_SPEC, "selector"), "must be left out, unless manualSelector is true"
    yield from selector((*_SPEC, "selector"), spec.get("selector", {}))


def _job_spec(path: Path, spec: JsonObject, name: str | None) -> Departures:
    """Yield for the spec of a job; the pods of one with a name are named after it."""
    for field in _COUNTS:
        yield from between((*path, field), spec.get(field), 0)
    mode = spec.get("completionMode", "NonIndexed")
    completions = spec.get("completions", 0)
    if mode not in ("NonIndexed", "Indexed"):
        yield (*path, "completionMode"), one_of({"NonIndexed", "Indexed"}, mode)
    if mode == "Indexed":
        yield from _indexed(path, spec, name)
    else:
        for field in ("backoffLimitPerIndex", "maxFailedIndexes", "successPolicy"):
            if field in spec:
                yield (*path, field), "needs completionMode: Indexed"
    if "maxFailedIndexes" in spec and "backoffLimitPerIndex" not in spec:
        yield (*path, "backoffLimitPerIndex"), "is required beside maxFailedIndexes"
    # A label of the pods has the name of the job.
    yield from label_value((*path, "template", "labels"), name or "")
    if mode == "Indexed" and name is not None and completions > 0:
        last = f"{name}-{completions - 1}"
        for _, reason in dns_label((), last):
            yield ("metadata", "name"), f"is no name for the last pod, which {reason}"
    yield from template(path, spec, {"OnFailure", "Never"})
    yield from _policies(path, spec)


def _indexed(path: Path, spec: JsonObject, name: str | None) -> Departures:
    completions, failed = spec.get("completions"), spec.get("maxFailedIndexes")
    if completions is None:
        yield (*path, "completions"), "is required if the mode is Indexed"
    yield from between(
        (*path, "parallelism"), spec.get("parallelism"), -(2**31), _MOST_INDEXED
    )
    most = _MOST_INDEXED if completions is None else min(completions, _MOST_INDEXED)
    yield from between((*path, "maxFailedIndexes"), failed, -(2**31), most)
    if (completions or 0) > _MOST_INDEXED and "backoffLimitPerIndex" in spec:
        if failed is None:
            yield (*path, "maxFailedIndexes"), "is required of over 100000 completions"
        for field in ("parallelism", "maxFailedIndexes"):
            yield from between((*path, field), spec.get(field), -(2**31), 10_000)


def _policies(path: Path, spec: JsonObject) -> Departures:
    policy = spec.get("podReplacementPolicy")
    allowed = {"Failed"}
    if "podFailurePolicy" not in spec:
        allowed.add("TerminatingOrFailed")
    if policy is not None and policy not in allowed:
        yield (*path, "podReplacementPolicy"), one_of(allowed, policy)
    manager = spec.get("managedBy")
    if manager is not None:
        at = (*path, "managedBy")
        if "/" not in manager or len(manager) > 63:
            yield at, f"needs a name with '/', of at most 63. Got {manager[:80]!r}"
        else:
            yield from dns_subdomain(at, manager.partition("/")[0])
    failure, at = spec.get("podFailurePolicy"), (*path, "podFailurePolicy", "rules")
    if failure is None:
        return
    restart = spec.get("template", {}).get("spec", {}).get("restartPolicy")
    if restart == "OnFailure":
        where = (*path, "template", "spec", "restartPolicy")
        yield where, "needs Never beside podFailurePolicy"
    for k, rule in enumerate(failure.get("rules", [])):
        actions = {"Count", "FailIndex", "FailJob", "Ignore"}
        yield from choice((*at, k, "action"), rule.get("action"), actions)
        given = [name for name in ("onExitCodes", "onPodConditions") if rule.get(name)]
        if len(given) != 1:
            yield (*at, k), "needs onExitCodes or onPodConditions, one of them"
        operator = rule.get("onExitCodes", {}).get("operator")
        yield from choice((*at, k, "onExitCodes", "operator"), operator, {"In", "NotIn"})
        for n, item in enumerate(rule.get("onPodConditions", [])):
            inner = (*at, k, "onPodConditions", n)
            yield from qualified_name((*inner, "type"), item.get("type", ""))
            status = item.get("status")
            allowed = {"True", "False", "Unknown"}
            yield from choice((*inner, "status"), status, allowed, empty=True)


def cron_job(manifest: JsonObject) -> Departures:
    """Yield for a CronJob."""
    spec = manifest.get("spec", {})
    name = manifest["metadata"].get("name", "")
    if len(name) > 52:
        yield ("metadata", "name"), f"needs at most 52 characters. Got {len(name)}"
    schedule = spec.get("schedule", "")
    if schedule and not _is_schedule(schedule):
        yield (
            (*_SPEC, "schedule"),
            f"needs five fields, such as '0 * * * *'. Got {schedule[:80]!r}",
        )
    policies = {"Allow", "Forbid", "Replace"}
    policy = spec.get("concurrencyPolicy")
    yield from choice((*_SPEC, "concurrencyPolicy"), policy, policies, empty=True)
    for field in (
        "startingDeadlineSeconds",
        "successfulJobsHistoryLimit",
        "failedJobsHistoryLimit",
    ):
        yield from between((*_SPEC, field), spec.get(field), 0)
    if "timeZone" in spec and not re.fullmatch(r"[A-Za-z][\w+/-]*", spec["timeZone"]):
        yield (*_SPEC, "timeZone"), f"needs a time zone. Got {spec['timeZone'][:80]!r}"
    inner, at = spec.get("jobTemplate", {}).get("spec", {}), (*_SPEC, "jobTemplate", "spec")
    yield from _job_spec(at, inner, None)
    if "selector" in inner:
        yield (*at, "selector"), "must be left out: it is made"


_FIELDS = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 6))
_MONTHS = "jan feb mar apr may jun jul aug sep oct nov dec".split()
_NAMES = {
    3: {name: k + 1 for k, name in enumerate(_MONTHS)},
    4: {name: k for k, name in enumerate("sun mon tue wed thu fri sat".split())},
}
_SHORT = {"yearly", "annually", "monthly", "weekly", "daily", "midnight", "hourly"}


def _is_schedule(text: str) -> bool:
    if text.startswith("@"):
        every = re.fullmatch(r"@every ([0-9]+(\.[0-9]*)?(ns|us|µs|ms|s|m|h))+", text)
        return text[1:] in _SHORT or every is not None
    parts = text.split()
    return len(parts) == 5 and all(
        any(part.split(",")) and all(_is_term(x, k) for x in part.split(",") if x)
        for k, part in enumerate(parts)
    )


def _is_term(term: str, k: int) -> bool:
    """Whether a part of a schedule's `k`-th field is a range, with a step or without."""
    least, most = _FIELDS[k]
    span, slash, step = term.partition("/")
    if slash and not (re.fullmatch("[0-9]{1,9}", step) and int(step) > 0):
        return False
    if span in ("*", "?"):
        return True
    first, dash, last = span.partition("-")
    ends = [_number(end, k) for end in ([first, last] if dash else [first])]
    if None in ends:
        return False
    numbers = [end for end in ends if end is not None]
    return least <= numbers[0] <= numbers[-1] <= most


def _number(text: str, k: int) -> int | None:
    if re.fullmatch("[0-9]{1,9}", text):
        return int(text)
    return _NAMES.get(k, {}).get(text.lower())


def job_set(manifest: JsonObject) -> Departures:
    """Yield for the jobs of a JobSet; the schema of the JobSet is the cluster's."""
    path = (*_SPEC, "replicatedJobs")
    for k, item in enumerate(manifest["spec"]["replicatedJobs"]):
        inner, at = item.get("template", {}).get("spec", {}), (*path, k, "template", "spec")
        # A pod is named as the set, the job, its number, and its index.
        name = f"{manifest['metadata'].get('name', '')}-{item.get('name', '')}-0"
        yield from dns_label((*path, k, "name"), item.get("name", ""))
        yield from _job_spec(at, inner, name)
