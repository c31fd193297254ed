"""The double of the API server answers as a real one did, through the real client."""

import itertools
import json
from pathlib import Path

import kubernetes.client
import pytest
from api_server import ApiServer

from sedma_jax.deploy._control.cluster import Cluster, ClusterError

RECORDED = json.loads(
    (Path(__file__).parents[1] / "data" / "ssa_sequence.json").read_text()
)["steps"]
OTHERS = "kube-controller-manager"  # ran beside the recording, not in this test


@pytest.fixture
def server():
    server = ApiServer()
    yield server
    server.close()


@pytest.fixture
def cluster(server):
    settings = kubernetes.client.Configuration(host=server.url)
    return Cluster(kubernetes.client.ApiClient(settings), patience=5)


def normal(item):
    """An object without what clocks, counters or other controllers write there."""
    meta = item["metadata"]
    fields = [
        {k: v for k, v in entry.items() if k != "time"}
        for entry in meta["managedFields"]
        if entry["manager"] != OTHERS
    ]
    kept = ("name", "namespace", "labels", "generation")
    return {k: item[k] for k in ("apiVersion", "kind", "spec")} | {
        "metadata": {k: meta[k] for k in kept} | {"managedFields": fields}
    }


def test_server_side_apply_goes_as_recorded(cluster):
    versions, recorded_versions = [], []
    for step in RECORDED:
        body = json.loads(json.dumps(step["body"]))
        body["metadata"]["namespace"] = "default"
        force = step["kw"].get("force", False)
        try:
            made = cluster.apply(body, force=force, manager=step["kw"]["fm"])
        except ClusterError as error:
            assert (error.status, error.said) == (step["status"], step["message"]), step
            continue
        assert step["status"] in (200, 201), step["step"]
        assert normal(made) == normal(step["result"]), step["step"]
        versions.append(made["metadata"]["resourceVersion"])
        recorded_versions.append(step["result"]["metadata"]["resourceVersion"])
    same = lambda found: [a == b for a, b in itertools.pairwise(found)]
    assert same(versions) == same(recorded_versions)


def test_a_dry_run_changes_nothing(cluster, server):
    body = json.loads(json.dumps(RECORDED[0]["body"]))
    body["metadata"]["namespace"] = "default"
    cluster.apply(body, dry_run=True)
    assert cluster.get("apps/v1", "Deployment", "q", "default") is None
    version = server.store.version
    made = cluster.apply(body)
    assert int(made["metadata"]["resourceVersion"]) == version + 1


def test_an_undeclared_field_is_refused_for_good(cluster, server):
    body = json.loads(json.dumps(RECORDED[0]["body"]))
    body["metadata"]["namespace"] = "default"
    body["spec"]["template"]["spec"]["containers"][0]["resourcez"] = {}
    with pytest.raises(ClusterError, match="field not declared in schema") as caught:
        cluster.apply(body)
    assert caught.value.status == 500
    assert sum(method == "PATCH" for method, _ in server.requests) == 1  # not asked again
