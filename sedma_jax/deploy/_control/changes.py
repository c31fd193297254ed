"""Bring a workflow's objects to the server: what would change, then the change.

All objects are applied on the server under the field manager `sedma`, and as a dry run
before anything is written. Objects of others are refused, never adopted.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

from .._json import JsonObject
from .._manifests.agent_objects import agent_objects
from .._manifests.job_objects import job_objects
from .._manifests.objects import labels, workflow_objects
from .._manifests.pod_node import gates
from .._placing.deployed import Deployed
from .._workflow.specification import Workflow
from .cluster import Cluster, ClusterError
from .identity import made_secret
from .record import RecordKeeper

_KINDS = (  # what may be pruned, each before the objects that it refers to
    ("apps/v1", "Deployment"),
    ("apps/v1", "StatefulSet"),
    ("batch/v1", "Job"),
    ("jobset.x-k8s.io/v1alpha2", "JobSet"),
    ("policy/v1", "PodDisruptionBudget"),
    ("networking.k8s.io/v1", "NetworkPolicy"),
    ("v1", "Service"),
    ("v1", "ConfigMap"),
    ("rbac.authorization.k8s.io/v1", "RoleBinding"),
    ("rbac.authorization.k8s.io/v1", "Role"),
    ("v1", "ServiceAccount"),
)
_SET_BY_SERVER = {  # metadata that no difference is shown of
    "managedFields",
    "resourceVersion",
    "uid",
    "generation",
    "creationTimestamp",
    "ownerReferences",
}


@dataclasses.dataclass(frozen=True)
class Change:
    """What applying does to one object."""

    action: str  # create, change, prune or same
    kind: str
    name: str
    lines: tuple[str, ...] = ()  # field: before -> after


def desired_objects(deployed: Deployed, owner: JsonObject | None) -> list[JsonObject]:
    """Make all objects of a workflow; if it is placed, its pods wait for their node."""
    workflow = deployed.workflow
    objects = workflow_objects(workflow)
    for agent in sorted(workflow.agents, key=lambda a: a.name):
        made = agent_objects(workflow, agent)
        for item in made:
            if deployed.nodes and item["kind"] in ("Deployment", "StatefulSet"):
                item["spec"]["template"]["spec"]["schedulingGates"] = gates()
        objects += made
    for job in sorted(workflow.jobs, key=lambda j: j.name):
        objects += job_objects(workflow, job)
    if owner:
        for item in objects:
            if item["metadata"].get("namespace"):
                item["metadata"]["ownerReferences"] = [owner]
    return objects


def changes(
    cluster: Cluster, deployed: Deployed, keeper: RecordKeeper, *, force: bool = False
) -> list[Change]:
    """Ask the server what applying would change; nothing is written.

    **Raises:** `ClusterError` for what the server refuses, `ValueError` for an object of
    another owner in the way.
    """
    owner = keeper.reference() if keeper.uid else None
    found: list[Change] = []
    if name := made_secret(cluster, deployed.workflow, owner, dry_run=True):
        found.append(Change("create", "Secret", name))
    objects = desired_objects(deployed, owner)
    for item in objects:
        live = _live(cluster, item)
        _refuse_foreign(item, live, deployed, keeper.uid)
        item = _without_autoscaled(item, live)
        then = cluster.apply(item, dry_run=True, force=force)
        lines = tuple(_differences(_stripped(live or {}), _stripped(then))) if live else ()
        action = "create" if live is None else "change" if lines else "same"
        kind, name = str(item["kind"]), str(item["metadata"]["name"])
        found.append(Change(action, kind, name, lines))
    for _, kind, live in _surplus(cluster, deployed.workflow, objects, keeper):
        found.append(Change("prune", kind, live["metadata"]["name"]))
    return found


def apply_objects(
    cluster: Cluster, deployed: Deployed, keeper: RecordKeeper, *, force: bool = False
) -> None:
    """Apply all objects, then prune those that the workflow no longer has."""
    made_secret(cluster, deployed.workflow, keeper.reference())
    objects = desired_objects(deployed, keeper.reference())
    for item in objects:
        live = _live(cluster, item)
        _refuse_foreign(item, live, deployed, keeper.uid)
        cluster.apply(_without_autoscaled(item, live), force=force)
    for version, kind, live in _surplus(cluster, deployed.workflow, objects, keeper):
        cluster.delete(version, kind, live["metadata"])


def _live(cluster: Cluster, item: JsonObject) -> JsonObject | None:
    """The object on the server that has this one's kind and name."""
    meta = item["metadata"]
    return cluster.get(
        item["apiVersion"], item["kind"], meta["name"], meta.get("namespace")
    )


def _surplus(
    cluster: Cluster, workflow: Workflow, objects: list[JsonObject], keeper: RecordKeeper
) -> Iterator[tuple[str, str, JsonObject]]:
    """Version, kind and object of what the record owns and the workflow no longer has."""
    wanted = {(o["kind"], o["metadata"]["name"]) for o in objects}
    for version, kind in _KINDS:
        try:
            items, _ = cluster.list(
                version, kind, workflow.namespace, labels=labels(workflow)
            )
        except ClusterError as error:
            if error.status == 404:  # the kind is not installed
                continue
            raise
        for live in items:
            if (kind, live["metadata"]["name"]) not in wanted and _owned(live, keeper.uid):
                yield version, kind, live


def _owned(live: JsonObject, uid: str | None) -> bool:
    owners = live["metadata"].get("ownerReferences") or []
    return uid is not None and any(o.get("uid") == uid for o in owners)


def _refuse_foreign(
    item: JsonObject, live: JsonObject | None, deployed: Deployed, uid: str | None
) -> None:
    if live is None:
        return
    found = live["metadata"].get("labels") or {}
    ours = all(found.get(k) == v for k, v in labels(deployed.workflow).items())
    if item["metadata"].get("namespace"):
        ours = ours and _owned(live, uid)
    if not ours:
        raise ValueError(
            f"`sedma deploy` needs {item['kind']} {item['metadata']['name']!r} to be its "
            "own or absent. Got one that it did not make. Rename the agent, or delete "
            "that object; nothing was written to it."
        )


def _without_autoscaled(item: JsonObject, live: JsonObject | None) -> JsonObject:
    """Leave out `replicas` if an autoscaler took the field through `scale`."""
    for entry in (live or {}).get("metadata", {}).get("managedFields") or []:
        fields = entry.get("fieldsV1", {}).get("f:spec", {})
        if entry.get("subresource") == "scale" and "f:replicas" in fields:
            spec = {k: v for k, v in item["spec"].items() if k != "replicas"}
            return item | {"spec": spec}
    return item


def _stripped(item: JsonObject) -> JsonObject:
    """The object without its status and what else the server sets."""
    meta = {k: v for k, v in item.get("metadata", {}).items() if k not in _SET_BY_SERVER}
    return {k: v for k, v in item.items() if k != "status"} | {"metadata": meta}


def _differences(before: Any, after: Any, path: str = "") -> Iterator[str]:
    """Lines of what differs; entries of a list are matched by their names."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in dict.fromkeys([*before, *after]):
            where = f"{path}.{key}" if path else key
            yield from _differences(before.get(key), after.get(key), where)
    elif isinstance(before, list) and isinstance(after, list):
        named = lambda items: all(isinstance(i, dict) and "name" in i for i in items)
        if named([*before, *after]) and before and after:
            old, new = ({i["name"]: i for i in items} for items in (before, after))
            for name in dict.fromkeys([*old, *new]):
                yield from _differences(old.get(name), new.get(name), f"{path}[{name}]")
        elif before != after:
            yield f"{path}: {before} -> {after}"
    elif before != after:
        shown = lambda value: "(none)" if value is None else value
        yield f"{path}: {shown(before)} -> {shown(after)}"
