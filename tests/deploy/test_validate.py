"""The validator agrees with the recorded verdicts of a Kubernetes 1.36 API server."""

import json
import re
from pathlib import Path

import pytest

from sedma_jax import deploy
from sedma_jax._cli.main import main

CASES = json.loads(
    (Path(__file__).parents[1] / "data/kubernetes_verdicts.json").read_text()
)["cases"]


def manifest_of(case):
    """The object that was sent; values of a megabyte are stored as their length."""
    manifest = case["manifest"]
    if manifest.get("note") == "oversized value elided":
        return {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "c"},
            # The length is of the whole, with 9 bytes of key and quotes.
            "data": {"k": "x" * (manifest["length"] - 9)},
        }
    return manifest


def fields_of(case):
    """The fields that the server named, with numbers instead of the keys of list maps."""
    causes = [cause["field"] for cause in case["causes"] or []]
    if causes:
        return causes
    match = re.search(r"\): (\.[^:]*|\.\S*\[name=.*?\]\S*): ", case["message"])
    if match:
        place, at = case["manifest"], ""
        for step, key in re.findall(r"\.([^.\[]+)(\[[^\]]*\])?", match[1]):
            place, at = place.get(step), f"{at}.{step}"
            if key:
                name = key.split('"')[1]
                k = next(k for k, item in enumerate(place) if item["name"] == name)
                place, at = place[k], f"{at}[{k}]"
        return [at[1:]]
    # Verdicts in which the server names no field.
    return {
        400: ["apiVersion"],
        404: ["metadata.namespace"],
        500: ["spec.template.spec.containers[0].resources.requests.memory"],
    }[case["status"]]


def same_field(said, server):
    """Whether our field is the server's, or the entry within the list or map it named."""
    # The server copies clusterIP to clusterIPs[0] before it looks, and names owners as one.
    server = {
        "spec.clusterIPs[0]": "spec.clusterIP",
        "metadata.ownerReferences.uid": "metadata.ownerReferences[0].uid",
    }.get(server, server)
    rest = said.removeprefix(server)
    return said.startswith(server) and (
        not rest or re.fullmatch(r"(\[[^.]*\]|\.name)+", rest)
    )


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["case"])
def test_verdicts_are_the_servers(case):
    refusals = deploy.validate([manifest_of(case)], namespaces=())
    if case["status"] < 300:
        assert refusals == []
        return
    assert refusals, case["message"]
    assert any(
        same_field(refusal.field, server)
        # A missing object lacks the fields that the server asks for.
        or (refusal.reason == "is required" and server.startswith(f"{refusal.field}."))
        for refusal in refusals
        for server in fields_of(case)
    ), (refusals, case["message"])


def test_all_verdicts_are_compared():
    refused = sum(case["status"] >= 300 for case in CASES)
    assert (len(CASES), refused) == (107, 78)


DEPLOYMENT = """\
apiVersion: v1
kind: ConfigMap
metadata: {name: c}
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: a
spec:
  selector: {matchLabels: {app: a}}
  template:
    metadata: {labels: {app: a}}
    spec:
      containers:
        - name: main
          image: local/a:1
          resources:
            requests: {memory: 1Gi}
            limits: {memory: 512Mi}
"""


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        ("memory: 1Gi", "memory: 1GiB", 18, "requests.memory: '1GiB' is not a 'quantity'"),
        ("memory: 512Mi", "memory: 512Mi, cpu: -1", 19, "limits[cpu]: needs at least 0"),
        ("image: local/a:1", "imagee: x", 16, "imagee: is no field"),
        ("name: main", "name: Main", 15, "containers[0].name: needs a-z"),
        ("selector:", "replicas: two\n  selector:", 10, "spec.replicas: 'two'"),
        ("app: a}}\n  template", "app: b}}\n  template", 12, "the selector matches"),
        ("{name: c}", "{name: c, namespace: nowhere}", 3, "needs one of default"),
        ("kind: ConfigMap", "kind: ConfigMop", 1, "has no ConfigMop"),
        ("kind: ConfigMap", "kind: null", 2, "kind: is required"),
        ("metadata: {name: c}", "metadata: {}", 3, "metadata.name: is required"),
        ("metadata: {name: c}", "data: {a: *x}", 3, "alias"),
        ("kind: ConfigMap", "kind: ConfigMap\nkind: Job", 3, "twice"),
    ],
)
def test_refusals_of_a_file_have_their_line(old, new, line, says, save, capsys):
    text = DEPLOYMENT.replace("1Gi", "256Mi") if "1Gi" not in old else DEPLOYMENT
    path = save("manifest.yaml", text.replace(old, new, 1))
    assert old in text
    status = main(["deploy", "validate", str(path), "--namespace", "default"])
    captured = capsys.readouterr()
    said = captured.out + captured.err
    assert status != 0
    assert f"manifest.yaml:{line}:" in said and says in said


def test_a_valid_file_passes(save, capsys):
    path = str(save("manifest.yaml", DEPLOYMENT.replace("1Gi", "256Mi")))
    assert main(["deploy", "validate", path]) == 0
    assert "2 objects" in capsys.readouterr().out
    assert main(["deploy", "validate", path, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"objects": 2, "refused": []}


@pytest.mark.parametrize(
    "manifest",
    [
        None,
        [],
        "x",
        {},
        {"kind": 1},
        {"apiVersion": {}},
        {"apiVersion": "v1", "kind": "Pod", "metadata": 1},
        {"apiVersion": "x.org/v1", "kind": "Thing", "metadata": []},
        {"apiVersion": "jobset.x-k8s.io/v1alpha2", "kind": "JobSet", "spec": {}},
        {"apiVersion": "apps/v1", "kind": "Deployment"},
    ],
)
def test_what_is_no_object_is_refused(manifest):
    assert deploy.validate([manifest])


def test_a_job_in_a_job_set_is_checked():
    job = {"template": {"spec": {"restartPolicy": "Never", "containers": []}}}
    manifest = {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": {"name": "train"},
        "spec": {"replicatedJobs": [{"name": "hosts", "template": {"spec": job}}]},
    }
    (refusal,) = deploy.validate([manifest])
    at = "spec.replicatedJobs[0].template.spec.template.spec.containers"
    assert refusal.field == at
