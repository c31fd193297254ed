"""The validator agrees with the recorded verdicts of a Kubernetes 1.36 API server."""

import copy
import json
import re
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from sedma_jax import deploy
from sedma_jax._cli.main import main


def recorded(name):
    return json.loads((Path(__file__).parents[1] / "data" / name).read_text())["cases"]


CASES = recorded("kubernetes_verdicts.json")
# Manifests mutated at random; those that the server refused have its status and fields.
MUTATED = recorded("kubernetes_verdicts_mutated.json")


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
    # The server names owners as one.
    server = {"metadata.ownerReferences.uid": "metadata.ownerReferences[0].uid"}.get(
        server, server
    )
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


def test_mutated_manifests_have_the_servers_verdicts():
    confusion = Counter()
    for case in MUTATED:
        refused = bool(deploy.validate([case["manifest"]], namespaces=()))
        confusion["status" in case, refused] += 1
    assert confusion == {(True, True): 682, (False, False): 318}


def test_refusals_name_the_servers_fields():
    named = [case for case in MUTATED if case.get("fields")]
    same = sum(
        {refusal.field for refusal in deploy.validate([case["manifest"]], namespaces=())}
        == {*case["fields"]}
        for case in named
    )
    # Two have a field more: duplicates, which the server refuses in `apply` alone.
    assert (len(named), same) == (243, 241)


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
        ("memory: 1Gi", "memory: 1GiB", 18, "requests.memory: a quantity needs a Kub"),
        ("memory: 512Mi", "memory: 512Mi, cpu: -1", 19, "limits[cpu]: needs at least 0"),
        ("image: local/a:1", "imagee: x", 16, "imagee: is no field"),
        ("name: main", "name: Main", 15, "containers[0].name: needs a-z"),
        ("selector:", "replicas: two\n  selector:", 10, "spec.replicas: needs a wh"),
        ("app: a}}\n  template", "app: b}}\n  template", 12, "the selector matches"),
        ("labels: {app: a}", "labels: {app: a, b: -}", 12, "template.labels: needs values"),
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


def places(value, path=()):
    """Paths of all values within a JSON value."""
    inner = ()
    if isinstance(value, dict):
        inner = value.items()
    elif isinstance(value, list):
        inner = enumerate(value)
    yield from (place for key, item in inner for place in places(item, (*path, key)))
    yield path


def put(whole, path, value):
    """`whole` with another value at a path."""
    if not path:
        return value
    changed = copy.copy(whole)
    changed[path[0]] = put(whole[path[0]], path[1:], value)
    return changed


ODD = st.sampled_from(
    [10**4000, float("nan"), float("inf"), 1.0, "\ud800", " 1Gi ", "9" * 5000 + "%", "..",
     "\u0661Gi", {1: 2}, {None: None}, b"x", (), [[]], [None], {"": None}, "%", "-", "0/0"]
)  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | ODD,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=5,
)
VALID = [case["manifest"] for case in CASES + MUTATED if case.get("status", 200) < 300]


@settings(max_examples=500)
@given(st.data())
def test_any_json_in_any_place_is_refused_or_accepted(data):
    manifest = data.draw(st.sampled_from(VALID))
    for _ in range(data.draw(st.integers(1, 2))):
        path = data.draw(st.sampled_from(list(places(manifest))))
        manifest = put(manifest, path, data.draw(JSON))
    for refusal in deploy.validate([manifest], namespaces=()):
        assert refusal.reason and refusal.field
        assert "\n" not in str(refusal)


def test_what_cannot_be_shown_is_refused():
    nest = []
    for _ in range(100_000):
        nest = [nest]
    for odd in (nest, 10**5000):
        for manifest in (odd, {"kind": odd}, {**VALID[0], "spec": odd}):
            (refusal,) = deploy.validate([manifest])
            assert len(str(refusal)) < 200
