"""The controller's record of a deployment, in a ConfigMap of the cluster.

The ConfigMap owns all namespaced objects of the workflow (ownerReferences), so that
deleting it deletes them. A write names the version that was read: of two writers one gets
status 409.
"""

import dataclasses
import json

from .._json import JsonObject
from .._manifests.objects import OWNER, labels
from .._placing.deployed import Deployed
from .._workflow.specification import Workflow
from .cluster import Cluster, ClusterError

_FIELD = "record.json"
_LARGEST = 900 * 1024  # bytes; a ConfigMap takes 1 MiB


@dataclasses.dataclass(frozen=True)
class DeploymentRecord:
    """The state of one workflow on a cluster.

    - `wanted`: what is being rolled out or runs.
    - `good`: the last one that got ready; `previous`: the good one before it.
    - `sizes`: memory, in bytes, of agents that were resized in place.
    """

    wanted: Deployed | None = None
    good: Deployed | None = None
    previous: Deployed | None = None
    sizes: dict[str, int] = dataclasses.field(default_factory=dict)


def record_name(workflow_name: str) -> str:
    """Name the ConfigMap that holds the record of a workflow."""
    return f"{OWNER}-record-{workflow_name}"


class RecordKeeper:
    """Reads and writes the record of one workflow.

    **Raises:** `ValueError` for a ConfigMap of this name that is not of this workflow, or
    holds no record.
    """

    def __init__(self, cluster: Cluster, workflow: Workflow):
        self.cluster, self._labels = cluster, labels(workflow)
        self.name, self.namespace = record_name(workflow.name), workflow.namespace
        self._live: JsonObject | None = None

    def load(self) -> DeploymentRecord:
        """Read the record; an empty one if there is none."""
        self._live = self.cluster.get("v1", "ConfigMap", self.name, self.namespace)
        if self._live is None:
            return DeploymentRecord()
        found = self._live["metadata"].get("labels") or {}
        if any(found.get(k) != v for k, v in self._labels.items()):
            raise ValueError(
                f"`sedma deploy` needs the name {self.name} for its record. Got a "
                "ConfigMap that it did not make. Rename that, or the workflow."
            )
        try:
            return _parse((self._live.get("data") or {})[_FIELD])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(
                f"ConfigMap {self.name} needs a record of a deployment. Got something "
                f"else: {str(error)[:200]}. Delete it (and with it all objects of the "
                "workflow), then apply again."
            ) from error

    def save(self, record: DeploymentRecord) -> None:
        """Write the record over the version that was read last."""
        text = json.dumps(_plain(record), sort_keys=True)
        if len(text) > _LARGEST:
            raise ValueError(
                f"A record needs at most {_LARGEST} bytes. Got {len(text)}. Split the "
                "workflow."
            )
        body = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": self.name,
                "namespace": self.namespace,
                "labels": self._labels,
            },
            "data": {_FIELD: text},
        }
        if self._live is None:
            self._live = self.cluster.create(body)
            return
        meta = self._live["metadata"]
        body["metadata"] |= {"uid": meta["uid"], "resourceVersion": meta["resourceVersion"]}
        try:
            self._live = self.cluster.replace(body)
        except ClusterError as error:
            if error.status == 404:
                self._live = None
            raise

    @property
    def uid(self) -> str | None:
        """The uid of the ConfigMap that was read or written last."""
        return self._live["metadata"]["uid"] if self._live else None

    def reference(self) -> JsonObject:
        """How an event or an owned object refers to the ConfigMap."""
        return {"apiVersion": "v1", "kind": "ConfigMap", "name": self.name, "uid": self.uid}


def _plain(record: DeploymentRecord) -> JsonObject:
    def plain(deployed: Deployed | None) -> JsonObject | None:
        if deployed is None:
            return None
        workflow = deployed.workflow.model_dump(mode="json")
        return {"workflow": workflow, "nodes": deployed.nodes}

    kept = {k: plain(getattr(record, k)) for k in ("wanted", "good", "previous")}
    return kept | {"sizes": record.sizes}


def _parse(text: str) -> DeploymentRecord:
    value = json.loads(text)

    def deployed(part: JsonObject | None) -> Deployed | None:
        if part is None:
            return None
        nodes = {str(k): str(v) for k, v in part["nodes"].items()}
        return Deployed(Workflow.model_validate(part["workflow"]), nodes)

    kept = {k: deployed(value[k]) for k in ("wanted", "good", "previous")}
    sizes = {str(k): int(v) for k, v in value["sizes"].items()}
    return DeploymentRecord(**kept, sizes=sizes)
