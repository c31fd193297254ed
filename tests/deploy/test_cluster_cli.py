"""`sedma deploy diff|apply|rollback|watch` as a user runs them."""

import json
import os
import signal
import subprocess
import sys

import pytest
from control_plane import TOUR as WORKFLOW, kubeconfig

from sedma_jax._cli.cluster import _print_changes
from sedma_jax._cli.main import main
from sedma_jax.deploy._control.changes import Change


@pytest.fixture
def run(plane, save, capsys):
    config = save("config.json", json.dumps(kubeconfig(plane.server.url)))

    def run(action, text=WORKFLOW, *more):
        arguments = ["deploy", action, str(save("tour.yaml", text)), "--json"]
        status = main([*arguments, "--kubeconfig", str(config), *more])
        shown = capsys.readouterr()
        return status, json.loads(shown.out) if shown.out else shown.err

    return run


def test_diff_apply_and_rollback(run, plane):
    status, found = run("diff")
    assert status == 0 and {o["action"] for o in found["objects"]} == {"create"}
    assert not plane.server.store.all("deployments")
    status, done = run("apply")
    assert status == 0 and done["ready"] == 2
    assert len(set(done["placement"].values())) == 1  # they talk to each other
    status, found = run("diff")
    assert {o["action"] for o in found["objects"]} == {"same"} and not found["moves"]
    newer = WORKFLOW.replace("front:1", "front:2")
    status, found = run("diff", newer)
    fields = {o["name"]: o["fields"] for o in found["objects"] if o["action"] == "change"}
    image = "spec.template.spec.containers[agent].image"
    assert fields == {"front": [f"{image}: local/front:1 -> local/front:2"]}
    assert run("apply", newer)[0] == 0
    assert run("rollback")[0] == 0
    images = {
        pod["spec"]["containers"][0]["image"] for pod in plane.server.store.all("pods")
    }
    assert images == {"local/front:1", "local/back:1"}


def test_the_table_of_a_diff_has_fields_as_they_are(capsys):
    """rich would take `[agent]` for a style, and leave it out."""
    line = "spec.template.spec.containers[agent].image: a:1 -> a:2"
    _print_changes([Change("change", "Deployment", "front", (line,))], {})
    shown = "".join(capsys.readouterr().out.split())
    assert "containers[agent].image" in shown


def test_diff_shows_the_nodes_that_apply_then_takes(run, plane):
    """Many placements cost the same here: nodes are alike, and agents come in rings."""
    agents = [f"a{k}" for k in range(12)]
    lines = ["name: ring", "agents:"]
    lines += [
        f'  - {{name: {a}, entry: "t:f", image: "local/a:1", memory: 400M, cpu: 300m}}'
        for a in agents
    ]
    lines.append("edges:")
    lines += [
        f"  - {{source: {agents[k]}, target: {agents[j]}, volume: {1 + (k + j) % 3}}}"
        for k in range(12)
        for j in range(k + 1, 12)
        if (j - k) % 5 in (1, 3)
    ]
    lines.append("nodes:")
    for name in ("n2", "n3", "n4"):
        plane.add_node(name, 3, "3G")
    lines += [f"  - {{name: n{q}, memory: 1500M, cpu: 2, base: 64M}}" for q in range(5)]
    text = "\n".join(lines) + "\n"
    shown = [run("diff", text)[1]["moves"] for _ in range(3)]
    assert shown[0] == shown[1] == shown[2]
    status, done = run("apply", text)
    assert status == 0
    assert done["placement"] == {name: to for name, (_, to) in shown[0].items()}


def test_what_the_server_refuses_is_said_in_one_line(run, plane):
    refuse = lambda method, path, query: method == "PATCH"
    plane.server.faults.append([refuse, 403, 1, "front is forbidden"])
    status, said = run("apply")
    assert status == 1 and said.count("\n") == 1
    assert "front is forbidden" in said and "Role" in said
    assert not plane.server.store.all("deployments")


@pytest.mark.parametrize(
    ("action", "option"),
    [("apply", "--timeout"), ("apply", "--lost-after"), ("watch", "--interval")],
)
@pytest.mark.parametrize("value", ["nan", "-1"])
def test_times_that_are_none_are_refused(run, action, option, value):
    status, said = run(action, WORKFLOW, f"{option}={value}")
    assert status == 2 and said.count("\n") == 1 and "that is not negative" in said


def test_no_cluster_is_said(save, capsys):
    status = main(
        ["deploy", "diff", str(save("t.yaml", WORKFLOW)), "--kubeconfig", "/nowhere"]
    )
    assert status == 2 and "KUBECONFIG" in capsys.readouterr().err


@pytest.mark.slow
def test_watch_heals_and_ends_cleanly(run, plane, save):
    assert run("apply")[0] == 0
    config = save("config.json", json.dumps(kubeconfig(plane.server.url)))
    command = [sys.executable, "-m", "sedma_jax._cli", "deploy", "watch"]
    command += [str(save("tour.yaml", WORKFLOW)), "--kubeconfig", str(config)]
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    process = subprocess.Popen(command, env=environment)
    try:
        nodes = lambda: {p["spec"].get("nodeName") for p in plane.server.store.all("pods")}
        gone = nodes().pop()
        plane.wait_for(lambda: plane.server.store.all("leases"))
        plane.delete_node(gone)
        plane.wait_for(lambda: nodes() == {"n0", "n1"} - {gone})
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    finally:
        process.kill()
    (lease,) = plane.server.store.all("leases")
    assert lease["spec"]["holderIdentity"] == ""
