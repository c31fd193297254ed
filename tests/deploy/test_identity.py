"""The secret that agents derive their libp2p keys from: made once, never read, not weak."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from control_plane import DoublePlane
from workflows import SECRET, TOUR

from sedma_jax import comm, deploy
from sedma_jax.deploy._control.changes import apply_objects, changes
from sedma_jax.deploy._control.controller import Controller
from sedma_jax.deploy._control.identity import made_secret
from sedma_jax.deploy._control.reconcile import Settings
from sedma_jax.deploy._manifests.serve import servers
from sedma_jax.deploy._placing.deployed import Deployed

LIBP2P = TOUR[: TOUR.index("nodes:")].replace("grpc", "libp2p")


@pytest.fixture
def plane():
    plane = DoublePlane()
    yield plane
    plane.close()


def controller_of(plane, text):
    workflow = deploy.parse_workflow(text)
    cluster = plane.cluster(patience=5)
    return Controller(cluster, workflow, Settings()), Deployed(workflow, {})


def applied(plane, text):
    """Apply the objects of a workflow; what was to be changed, and the secret there is."""
    controller, deployed = controller_of(plane, text)
    record = controller.keeper.load()
    if controller.keeper.uid is None:
        controller.keeper.save(record)
    found = changes(controller.cluster, deployed, controller.keeper)
    apply_objects(controller.cluster, deployed, controller.keeper)
    live = controller.cluster.get("v1", "Secret", "tour-identity", "default")
    return [(c.action, c.name) for c in found if c.kind == "Secret"], live


def test_apply_makes_a_secret_and_keeps_it(plane):
    said, first = applied(plane, LIBP2P)
    assert said == [("create", "tour-identity")] and first["immutable"] is True
    value = first["stringData"]["SEDMA_SECRET"]
    assert len(bytes.fromhex(value)) == 32
    (owner,) = first["metadata"]["ownerReferences"]
    assert owner["name"] == "sedma-record-tour"
    said, second = applied(plane, LIBP2P)
    assert said == [] and second == first
    # Another workflow has another secret.
    other, _ = controller_of(plane, LIBP2P.replace("name: tour", "name: other"))
    assert made_secret(other.cluster, other.workflow, None) == "other-identity"
    third = other.cluster.get("v1", "Secret", "other-identity", "default")
    assert third["stringData"]["SEDMA_SECRET"] != value


def test_a_dry_run_makes_no_secret(plane):
    controller, deployed = controller_of(plane, LIBP2P)
    found = controller.dry_run(deployed)
    assert ("create", "Secret") in {(c.action, c.kind) for c in found}
    assert controller.cluster.get("v1", "Secret", "tour-identity", "default") is None


def test_agents_without_libp2p_get_no_secret(plane):
    said, live = applied(plane, LIBP2P.replace("libp2p", "grpc"))
    assert said == [] and live is None


def test_no_agent_starts_without_the_secret():
    files = deploy.compile(deploy.parse_workflow(LIBP2P))
    for agent in ("planner", "critic"):
        objects = yaml.safe_load_all(files[f"manifests/10-{agent}.yaml"])
        (controller,) = (o for o in objects if o["kind"] == "Deployment")
        (container,) = controller["spec"]["template"]["spec"]["containers"]
        assert {"secretRef": {"name": "tour-identity"}} in container["envFrom"]
        services = yaml.safe_load(files["compose.yaml"])["services"]
        # ":?" ends compose with the text that follows where the variable is not set.
        needs = services[agent]["environment"]["SEDMA_SECRET"]
        assert needs.startswith("${SEDMA_SECRET:?") and "openssl rand" in needs
    assert "create secret generic" in files["manifests/00-workflow.yaml"]
    assert "SEDMA_SECRET" not in files["manifests/10-front.yaml"]


WEAK = ["", "sedma", "x" * 64, "password" * 8, "0" * 31 + "1", "ab" * 16, "abcdefgh" * 4]


@pytest.mark.parametrize("weak", WEAK)
def test_weak_secrets_are_refused_and_not_quoted(weak):
    for use in (comm.agent_id, lambda name, secret: comm.AgentPeer(name, secret=secret)):
        with pytest.raises(ValueError, match="openssl rand -hex 32") as caught:
            use("tour/a", weak)
        assert not weak or weak not in str(caught.value)
    assert comm.agent_id("tour/a", SECRET) != comm.agent_id("tour/b", SECRET)


@pytest.mark.parametrize("variables", [{}, {"SEDMA_SECRET": "changeme"}])
def test_an_agent_says_in_one_line_that_its_secret_is_weak(variables, tmp_path):
    (tmp_path / "tour.py").write_text("def front(request, call): return request")
    environment = {k: v for k, v in os.environ.items() if k != "SEDMA_SECRET"} | variables
    environment |= {
        "SEDMA_ENTRY": "tour:front",
        "SEDMA_PORTS": "http=0",
        "SEDMA_AGENT": "tour/front",
        "SEDMA_CALL_BACK": "libp2p://127.0.0.1:9",
        "PYTHONPATH": f"{Path(servers.__file__).parents[1]}{os.pathsep}{tmp_path}",
    }
    done = subprocess.run(
        [sys.executable, "-m", "serve"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert "at least 32 random characters" in done.stderr
