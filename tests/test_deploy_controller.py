"""A workflow is applied, moved, rolled back and healed on a control plane."""

import dataclasses

import pytest
from control_plane import DoublePlane

from sedma_jax import deploy
from sedma_jax.deploy._apply import changes
from sedma_jax.deploy._cluster import ClusterError
from sedma_jax.deploy._controller import Controller, RolloutFailed, Settings
from sedma_jax.deploy._lease import Lease, LeaseLost
from sedma_jax.deploy._record import Deployed

WORKFLOW = """\
name: tour
agents:
  - {name: front, entry: "tour:front", image: "local/front:1", memory: 1G, cpu: 1}
  - {name: critic, entry: "tour:critic", image: "local/critic:1", memory: 1G, cpu: 1, replicas: 2}
edges:
  - {source: front, target: critic, volume: 2}
nodes:
  - {name: n0, memory: 3G, cpu: 3, base: 64M}
  - {name: n1, memory: 3G, cpu: 3, base: 64M}
  - {name: n2, memory: 3G, cpu: 3, base: 64M}
"""
FIRST = {"front-0": "n0", "critic-0": "n0", "critic-1": "n1"}
SECOND = {"front-0": "n2", "critic-0": "n2", "critic-1": "n1"}
SETTINGS = Settings(deadline=30, lost_after=0.5, interval=0.5)


@pytest.fixture
def plane(control_plane):
    for name in ("n0", "n1", "n2"):
        control_plane.add_node(name, 3, "3G")
    return control_plane


@pytest.fixture
def control_plane():
    plane = DoublePlane()
    yield plane
    plane.close()


@pytest.fixture
def workflow():
    return deploy.parse_workflow(WORKFLOW)


@pytest.fixture
def controller(plane, workflow):
    return Controller(plane.cluster(patience=5), workflow, SETTINGS)


def where(controller):
    """Agent and node of every pod that is ready, sorted, and the pods' names."""
    items, _ = controller.cluster.list("v1", "Pod", "default")
    found = sorted(
        (i["metadata"]["labels"]["app.kubernetes.io/name"], i["spec"]["nodeName"])
        for i in items
    )
    return found, {i["metadata"]["name"] for i in items}


def as_found(nodes):
    return sorted((name.rpartition("-")[0], node) for name, node in nodes.items())


def with_image(workflow, agent, image):
    agents = [
        a.model_copy(update={"image": image}) if a.name == agent else a
        for a in workflow.agents
    ]
    return workflow.model_copy(update={"agents": tuple(agents)})


def test_apply_places_every_replica_and_again_changes_nothing(controller, workflow):
    deployed = Deployed(workflow, FIRST)
    status = controller.roll_out(deployed)
    assert status.settled and status.ready == 3
    found, pods = where(controller)
    assert found == as_found(FIRST)
    assert {c.action for c in changes(controller.cluster, deployed, controller.keeper)} == {
        "same"
    }
    controller.roll_out(deployed)
    assert where(controller) == (found, pods)


def test_a_move_evicts_what_moves_and_nothing_else(controller, workflow):
    controller.roll_out(Deployed(workflow, FIRST))
    _, before = where(controller)
    assert controller.move(SECOND, "test").settled
    found, after = where(controller)
    assert found == as_found(SECOND)
    assert len(before & after) == 1 and controller.moves == 2
