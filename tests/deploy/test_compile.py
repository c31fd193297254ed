"""A workflow is compiled into files, and its serving code serves."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import jax.random as jr
import numpy as np
import pytest
import yaml
from workflows import SECRET, TOUR

from sedma_jax import deploy
from sedma_jax._cli.main import main
from sedma_jax.deploy._manifests.agent_objects import agent_objects
from sedma_jax.deploy._manifests.serve import calls, servers


@pytest.fixture(scope="module")
def placed():
    workflow = deploy.parse_workflow(TOUR)
    return workflow, deploy.plan(workflow, key=jr.key(0), prove_seconds=5)


def objects(files):
    for name, text in files.items():
        if name.startswith("manifests/"):
            yield from yaml.safe_load_all(text)


def test_the_proven_placement_keeps_replicas_apart(placed):
    workflow, placement = placed
    at = dict(zip(deploy.replica_names(workflow), placement.nodes.tolist(), strict=True))
    assert placement.optimal and bool(placement.cost.feasible)
    assert at["critic-0"] != at["critic-1"]
    assert at["front-0"] == at["planner-0"]  # sharing a node costs nothing here
    # By hand: one of two critics is across a rack's link of 0.05 ms / 25 Gbps, with half
    # of 2 MB/s; two nodes' base of 64 MiB, and 1 GiB of weights once.
    expected = 1 * 0.05 / 25 + 0.5 * (2 * 2**26 + 2**30) / 1e9
    np.testing.assert_allclose(placement.cost.total, expected, rtol=1e-5)


def test_compiling_twice_gives_the_same_bytes(placed):
    workflow, placement = placed
    again = deploy.plan(workflow, key=jr.key(0), prove_seconds=5)
    assert deploy.compile(workflow, placement) == deploy.compile(workflow, again)


def test_manifests_have_all_that_agents_need(placed):
    found = list(objects(deploy.compile(*placed)))
    kinds = [(o["kind"], o["metadata"]["name"]) for o in found]
    assert len(set(kinds)) == len(kinds)
    for agent in ("front", "planner", "critic"):
        for kind in ("Deployment", "Service", "ConfigMap", "ServiceAccount"):
            assert (kind, agent) in kinds
        assert ("NetworkPolicy", agent) in kinds
    assert ("PodDisruptionBudget", "critic") in kinds
    assert ("PodDisruptionBudget", "front") not in kinds  # it would block every drain
    for item in found:
        assert item["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "sedma"
        if item["kind"] == "Deployment":
            pod = item["spec"]["template"]["spec"]
            sizes = pod["containers"][0]["resources"]
            assert sizes["requests"]["memory"] == sizes["limits"]["memory"]
            selector = item["spec"]["selector"]["matchLabels"]
            assert (
                selector.items() <= item["spec"]["template"]["metadata"]["labels"].items()
            )
            assert item["spec"]["strategy"].get("rollingUpdate", {}).get("maxSurge", 0) == 0


def test_network_policies_are_the_edges(placed):
    for item in objects(deploy.compile(*placed)):
        if item["kind"] == "NetworkPolicy" and item["metadata"]["name"] == "critic":
            (rule,) = item["spec"]["ingress"]
            (source,) = rule["from"]
            labels = source["podSelector"]["matchLabels"]
            assert labels["app.kubernetes.io/name"] == "planner"
            assert rule["ports"] == [{"port": 8081, "protocol": "TCP"}]
            assert item["spec"]["egress"] == []
            break
    else:
        raise AssertionError("critic has no policy")


def test_a_multi_host_job_is_an_indexed_job_with_its_service():
    job = (
        "\njobs:\n  - {name: train, image: 'local/train:1', command: [python, t.py], "
        "processes: 4, memory: 1Gi, cpu: 1, carrier: CARRIER}\n"
    )
    by_kind = {}
    for carrier in ("job", "jobset"):
        text = TOUR + job.replace("CARRIER", carrier)
        files = deploy.compile(deploy.parse_workflow(text))
        items = yaml.safe_load_all(files["manifests/20-train.yaml"])
        by_kind[carrier] = {item["kind"]: item for item in items}
    spec = by_kind["job"]["Job"]["spec"]
    assert spec["completionMode"] == "Indexed" and spec["completions"] == 4
    service = by_kind["job"]["Service"]["spec"]
    # What jax.distributed's K8sCluster asks for: names that resolve before readiness.
    assert service["clusterIP"] == "None" and service["publishNotReadyAddresses"] is True
    assert spec["template"]["spec"]["subdomain"] == "train"
    assert {"JobSet", "Role"} <= by_kind["jobset"].keys()
    assert "Service" not in by_kind["jobset"]


ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests/data/refinement"


def test_the_example_is_compiled_into_the_files_on_record():
    """`sedma deploy compile docs/refinement/workflow.yaml --out tests/data/refinement`."""
    workflow = deploy.load_workflow(ROOT / "docs/refinement/workflow.yaml")
    files = deploy.compile(workflow)
    serving = {name for name in files if name.startswith("serve/")}
    assert {"serve/__init__.py", "serve/__main__.py"} < serving
    for name in serving:
        source = Path(servers.__file__).with_name(Path(name).name)
        assert files.pop(name) == source.read_text()
    recorded = {
        path.relative_to(GOLDEN).as_posix(): path.read_text()
        for path in GOLDEN.rglob("*")
        if path.is_file() and path.parent.name != "serve"
    }
    assert files == recorded


JOBS = """
jobs:
  - {name: train, image: "local/train:1", command: [python, t.py], processes: 4,
     memory: 1Gi, cpu: 1}
  - {name: tune, image: "local/train:1", command: [python, t.py], processes: 2,
     memory: 1Gi, cpu: 1, carrier: jobset}
"""


@pytest.mark.parametrize(
    "text",
    [
        TOUR,
        TOUR + JOBS,
        TOUR.replace("grpc", "libp2p"),
        TOUR.replace("replicas: 2", "replicas: 3, stateful: true"),
        TOUR.replace("name: tour", "name: tour\nnamespace: other"),
        TOUR.replace("name: tour", "name: tour\nnamespace: system-agents") + JOBS,
        TOUR.replace("critic", "c" * 52),
        TOUR.replace("name: tour", "name: " + "t" * 52)
        + JOBS.replace("train,", "t" * 52 + ","),
    ],
)
def test_what_is_compiled_is_valid(text):
    workflow = deploy.parse_workflow(text)
    found = list(objects(deploy.compile(workflow)))
    assert len(found) >= 5 * len(workflow.agents)
    for agent in workflow.agents:
        found += agent_objects(workflow, agent, ["n0", "n1"])  # pinned to a placement
    assert deploy.validate(found, namespaces=[workflow.namespace]) == []


def test_agents_answer_over_libp2p_along_the_edges_alone(monkeypatch, capsys):
    def shout(request, call):
        if request == b"fail":
            raise ValueError("secret")
        return request.upper()

    monkeypatch.setenv("SEDMA_SECRET", SECRET)
    monkeypatch.setenv("SEDMA_AGENT", "tour/back")
    monkeypatch.setenv("SEDMA_CALLERS", "front")
    ((stop_back, port),) = servers.serve(shout, {"libp2p": 0})
    try:
        monkeypatch.setenv("SEDMA_CALL_BACK", f"libp2p://127.0.0.1:{port}")
        monkeypatch.setenv("SEDMA_AGENT", "tour/front")
        assert calls.call("back", b"hello" * 1000) == b"HELLO" * 1000
        calls._peers.pop("tour/front").close()
        monkeypatch.setenv("SEDMA_CALL_BACK", f"libp2p://[::1]:{port}")
        assert calls.call("back", b"hello") == b"HELLO"
        with pytest.raises(OSError, match="its log says why"):
            calls.call("back", b"fail")
        assert "secret" in capsys.readouterr().err
        monkeypatch.setenv("SEDMA_AGENT", "tour/stranger")
        monkeypatch.setattr(calls, "SECONDS", 5.0)
        with pytest.raises(OSError):
            calls.call("back", b"hello")
    finally:
        for name in ("tour/front", "tour/stranger"):
            if name in calls._peers:
                calls._peers.pop(name).close()
        monkeypatch.setenv("SEDMA_AGENT", "tour/back")
        stop_back()


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("cpu: 100m}", "cpu: 3}", "1 more than the largest node"),
        ("memory: 1Gi}", "memory: 5Gi}", "more than the roomiest node"),
        ("replicas: 2}", "replicas: 30}", "cores more than the 4 of all nodes"),
    ],
)
def test_impossible_capacities_are_said_with_by_how_much(old, new, says):
    workflow = deploy.parse_workflow(TOUR.replace(old, new))
    with pytest.raises(deploy.Infeasible, match=says):
        deploy.plan(workflow, key=jr.key(0))


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
@pytest.mark.parametrize("protocol", ["http", "grpc", "libp2p"])
def test_agents_listen_on_both_families(protocol, family, monkeypatch):
    """A kubelet connects to the address of the pod, which may be of IPv6 alone."""
    if not socket.has_dualstack_ipv6():
        pytest.skip("no IPv6 on this machine")
    monkeypatch.setenv("SEDMA_AGENT", "tour/back")
    monkeypatch.setenv("SEDMA_SECRET", SECRET)
    ((stop, port),) = servers.serve(lambda request, call: request, {protocol: 0})
    try:
        with socket.socket(family) as probe:
            probe.settimeout(10)
            probe.connect(("127.0.0.1" if family == socket.AF_INET else "::1", port))
    finally:
        stop()


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_agents_answer_each_other(protocol, host, monkeypatch):
    shout = lambda request, call: request.upper()
    ((stop_back, port),) = servers.serve(shout, {protocol: 0})
    monkeypatch.setenv("SEDMA_CALL_BACK_OFFICE", f"{protocol}://{host}:{port}")
    ask = lambda request, call: b"it said " + call("back-office", request)
    ((stop_front, port),) = servers.serve(ask, {protocol: 0})
    monkeypatch.setenv("SEDMA_CALL_FRONT", f"{protocol}://{host}:{port}")
    try:
        assert calls.call("front", b"hello") == b"it said HELLO"
        with pytest.raises(LookupError, match="no edge"):
            calls.call("other", b"")
    finally:
        stop_front()
        stop_back()


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_an_agent_that_fails_keeps_its_reasons_to_its_log(protocol, monkeypatch, capsys):

    def fail(request, call):
        raise RuntimeError("secret")

    ((stop, port),) = servers.serve(fail, {protocol: 0})
    monkeypatch.setenv("SEDMA_CALL_BACK", f"{protocol}://127.0.0.1:{port}")
    try:
        with pytest.raises(OSError) as caught:
            calls.call("back", b"")
        if hasattr(caught.value, "close"):
            caught.value.close()
        assert "secret" not in str(caught.value)
        assert "secret" in capsys.readouterr().err
    finally:
        stop()


def test_serving_needs_python_alone():
    folder = Path(servers.__file__).parents[1]
    code = (
        f"import sys; sys.path[:0] = [{str(folder)!r}]; import serve.__main__; "
        "assert not {'jax', 'numpy', 'grpc', 'uvicorn'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-S", "-I", "-c", code], check=True)


def test_cli_compiles_and_plans(save, tmp_path, capsys):
    spec = str(save("tour.yaml", TOUR))
    out = tmp_path / "out"
    assert main(["deploy", "compile", spec, "--out", str(out), "--dry-run", "--json"]) == 0
    assert not out.exists() and json.loads(capsys.readouterr().out)["written"] is False
    assert main(["deploy", "compile", spec, "--out", str(out), "--prove", "0"]) == 0
    assert (out / "Dockerfile").read_text().startswith("# Agents of tour")
    placement = json.loads((out / "placement.json").read_text())["placement"]
    assert placement["critic-0"] != placement["critic-1"]
    capsys.readouterr()
    picture = tmp_path / "placement.png"
    assert main(["deploy", "plan", spec, "--json", "--plot", str(picture)]) == 0
    assert json.loads(capsys.readouterr().out)["optimal"] is True
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_cli_refuses_a_bad_workflow_in_one_line(save, capsys):
    spec = str(save("tour.yaml", TOUR.replace("64Mi", "64MiB")))
    assert main(["deploy", "plan", spec]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "tour.yaml:3: agents.0.memory" in said


def test_the_default_workflow_is_an_agent_that_works():
    workflow = deploy.default_workflow()
    files = deploy.compile()
    assert files == deploy.compile(workflow)
    import safetensors.numpy

    from sedma_jax.deploy.agents import crossbar

    random = np.random.default_rng(0)
    A, x = random.normal(size=(8, 8)), random.normal(size=8)
    answer = crossbar(safetensors.numpy.save({"A": A, "x": x}), calls.call)
    y = safetensors.numpy.load(answer)["y"]
    assert np.linalg.norm(y - A @ x) < 0.05 * np.linalg.norm(A @ x)
    with pytest.raises(ValueError, match="Send both"):
        crossbar(safetensors.numpy.save({"A": A}), calls.call)
