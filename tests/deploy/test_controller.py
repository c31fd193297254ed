"""A workflow is applied, moved, rolled back and healed on a control plane."""

import dataclasses
import time

import pytest
from control_plane import DoublePlane
from real_control_plane import RealPlane, missing

from sedma_jax import deploy
from sedma_jax.deploy._control.changes import changes
from sedma_jax.deploy._control.cluster import ClusterError
from sedma_jax.deploy._control.controller import Controller, RolloutFailed
from sedma_jax.deploy._control.lease import Lease, LeaseLost
from sedma_jax.deploy._control.reconcile import Settings
from sedma_jax.deploy._placing.deployed import Deployed
from sedma_jax.deploy._workflow.quantity import parse_quantity

WORKFLOW = """\
name: tour
agents:
  - {name: front, entry: "tour:front", image: "local/front:1", memory: 1G, cpu: 1}
  - name: critic
    entry: "tour:critic"
    image: "local/critic:1"
    memory: 1G
    cpu: 1
    replicas: 2
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


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    if gap := missing():
        pytest.skip(f"no real control plane: {gap}")
    plane = RealPlane(tmp_path_factory.mktemp("control_plane"))
    yield plane
    plane.close()


@pytest.fixture(params=["double", "real"])
def plane(request):
    if request.param == "real":
        plane = request.getfixturevalue("real")
        plane.reset()
    else:
        plane = DoublePlane()
        request.addfinalizer(plane.close)
    return with_nodes(plane)


@pytest.fixture
def double():
    plane = DoublePlane()
    yield with_nodes(plane)
    plane.close()


def with_nodes(plane):
    for name in ("n0", "n1", "n2"):
        plane.add_node(name, 3, "3G")
    return plane


@pytest.fixture
def workflow():
    return deploy.parse_workflow(WORKFLOW)


@pytest.fixture
def controller(plane, workflow):
    return Controller(plane.cluster(patience=5), workflow, SETTINGS)


def pods(controller):
    return controller.cluster.list("v1", "Pod", "default")[0]


def where(controller):
    """Agent and node of every pod, sorted."""
    name = lambda pod: pod["metadata"]["labels"]["app.kubernetes.io/name"]
    return sorted((name(p), p["spec"].get("nodeName")) for p in pods(controller))


def names(controller):
    return {p["metadata"]["name"] for p in pods(controller)}


def as_found(nodes):
    return sorted((name.rpartition("-")[0], node) for name, node in nodes.items())


def with_image(workflow, agent, image):
    agents = [
        a.model_copy(update={"image": image}) if a.name == agent else a
        for a in workflow.agents
    ]
    return workflow.model_copy(update={"agents": tuple(agents)})


def events(controller):
    items, _ = controller.cluster.list("v1", "Event", "default")
    return [item["reason"] for item in items]


def test_apply_places_every_replica_and_again_changes_nothing(controller, workflow):
    deployed = Deployed(workflow, FIRST)
    status = controller.roll_out(deployed)
    assert status.settled and status.ready == 3
    assert where(controller) == as_found(FIRST)
    found = changes(controller.cluster, deployed, controller.keeper)
    assert {c.action for c in found} == {"same"}
    before = names(controller)
    controller.roll_out(deployed)
    assert names(controller) == before


def test_a_move_evicts_what_moves_and_nothing_else(controller, workflow):
    controller.roll_out(Deployed(workflow, FIRST))
    before = names(controller)
    assert controller.move(SECOND, "test").settled
    assert where(controller) == as_found(SECOND)
    assert len(before & names(controller)) == 1 and controller.reconciler.moves == 2


def test_full_nodes_change_places(plane, workflow):
    """A surge would wait for ever: every node is full, and all replicas have to move."""
    agents = [
        workflow.agents[0].model_copy(
            update={"name": f"a{k}", "cpu": "3", "memory": "2500M"}
        )
        for k in range(3)
    ]
    full = workflow.model_copy(update={"agents": tuple(agents), "edges": ()})
    controller = Controller(plane.cluster(patience=5), full, SETTINGS)
    controller.roll_out(Deployed(full, {"a0-0": "n0", "a1-0": "n1", "a2-0": "n2"}))
    turned = {"a0-0": "n1", "a1-0": "n2", "a2-0": "n0"}
    assert controller.move(turned, "test").settled
    assert where(controller) == as_found(turned)
    assert controller.reconciler.moves == 3


def test_a_budget_holds_off_the_second_eviction(controller, workflow):
    controller.roll_out(Deployed(workflow, FIRST))
    critics = [p["metadata"] for p in pods(controller) if "critic" in p["metadata"]["name"]]
    assert [controller.cluster.evict(meta) for meta in critics] == [True, False]
    assert controller.settle().settled
    assert where(controller) == as_found(FIRST)


def test_what_never_gets_ready_is_taken_back(controller, workflow):
    controller.roll_out(Deployed(workflow, FIRST))
    short = dataclasses.replace(SETTINGS, deadline=1.5)
    impatient = Controller(controller.cluster, workflow, short)
    broken = with_image(workflow, "front", "local/broken:1")
    with pytest.raises(RolloutFailed, match=r"ImagePullBackOff.*last good deployment runs"):
        impatient.roll_out(Deployed(broken, FIRST))
    assert where(controller) == as_found(FIRST)
    images = {p["spec"]["containers"][0]["image"] for p in pods(controller)}
    assert images == {"local/front:1", "local/critic:1"}
    assert controller.keeper.load().good == Deployed(workflow, FIRST)
    assert "RolledBack" in events(controller)


def test_roll_back_returns_to_the_deployment_before(controller, workflow):
    with pytest.raises(ValueError, match="There is none"):
        controller.roll_back()
    controller.roll_out(Deployed(workflow, FIRST))
    with pytest.raises(ValueError, match="none on record"):
        controller.roll_back()
    controller.roll_out(Deployed(with_image(workflow, "front", "local/front:2"), SECOND))
    assert controller.roll_back() == Deployed(workflow, FIRST)
    assert where(controller) == as_found(FIRST)
    assert all("front:2" not in str(p["spec"]) for p in pods(controller))


@pytest.mark.parametrize("gone", ["delete_node", "kill_node"])
def test_replicas_of_a_lost_node_go_elsewhere(controller, workflow, plane, gone):
    controller.roll_out(Deployed(workflow, FIRST))
    getattr(plane, gone)("n0")
    assert settles(controller)
    assert {node for _, node in where(controller)} == {"n1", "n2"}
    assert "NodeLost" in events(controller)


def settles(controller):
    """Settle until a lost node is noticed and made up for."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        status = controller.settle()
        if status.settled and not {n for _, n in where(controller)} & {"n0", None}:
            return True
    return False


def test_a_node_lost_in_mid_migration(controller, workflow, plane):
    controller.roll_out(Deployed(workflow, FIRST))
    record = controller.keeper.load()
    wanted = dataclasses.replace(record.wanted, nodes=SECOND)
    controller.keeper.save(dataclasses.replace(record, wanted=wanted))
    assert controller.reconciler.step().evicted  # on its way to n2
    plane.delete_node("n2")
    assert controller.settle().settled
    assert {node for _, node in where(controller)} <= {"n0", "n1"}


def test_another_controller_goes_on_with_a_migration(controller, workflow, plane):
    controller.roll_out(Deployed(workflow, FIRST))
    record = controller.keeper.load()
    wanted = dataclasses.replace(record.wanted, nodes=SECOND)
    controller.keeper.save(dataclasses.replace(record, wanted=wanted))
    assert controller.reconciler.step().evicted
    again = Controller(plane.cluster(patience=5), workflow, SETTINGS)
    assert again.settle().settled
    assert where(again) == as_found(SECOND)


def test_a_rollout_that_was_cut_short_is_finished(controller, workflow, plane):
    controller.roll_out(Deployed(workflow, FIRST))
    record = controller.keeper.load()
    newer = Deployed(with_image(workflow, "front", "local/front:2"), SECOND)
    controller.keeper.save(dataclasses.replace(record, wanted=newer))  # and then it died
    again = Controller(plane.cluster(patience=5), workflow, SETTINGS)
    assert again.resume().settled
    assert where(again) == as_found(SECOND)
    assert any("front:2" in str(p["spec"]) for p in pods(again))
    assert again.keeper.load().previous == Deployed(workflow, FIRST)


def test_roll_back_goes_past_moves(controller, workflow):
    controller.roll_out(Deployed(workflow, FIRST))
    controller.roll_out(Deployed(with_image(workflow, "front", "local/front:2"), FIRST))
    controller.move(SECOND, "test")
    assert controller.roll_back() == Deployed(workflow, FIRST)


def test_no_room_left_is_said_and_nothing_is_torn_down(controller, workflow, plane):
    large = workflow.model_copy(
        update={"agents": (workflow.agents[0].model_copy(update={"nodes": ("n0",)}),)}
    )
    large = large.model_copy(update={"edges": ()})
    controller.roll_out(Deployed(large, {"front-0": "n0"}))
    plane.delete_node("n0")
    with pytest.raises(RolloutFailed, match="front may run on n0 only"):
        controller.settle()


def test_a_field_of_another_manager_is_left(controller, workflow):
    controller.roll_out(Deployed(workflow, FIRST))
    taken = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "front", "namespace": "default"},
        "spec": {"replicas": 4},
    }
    controller.cluster.apply(taken, force=True, manager="someone")
    before = controller.keeper.load()
    with pytest.raises(ClusterError, match=r'"someone": \.spec\.replicas') as caught:
        controller.roll_out(Deployed(workflow, SECOND))
    assert caught.value.status == 409
    assert controller.keeper.load() == before
    assert controller.roll_out(Deployed(workflow, FIRST), force=True).settled


def test_objects_of_others_are_refused_and_never_pruned(controller, workflow):
    note = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "critic", "namespace": "default"},
        "data": {"of": "another"},
    }
    controller.cluster.apply(note, manager="someone")
    with pytest.raises(ValueError, match="ConfigMap 'critic'"):
        controller.roll_out(Deployed(workflow, FIRST))
    assert controller.cluster.get("apps/v1", "Deployment", "front", "default") is None
    kept = controller.cluster.get("v1", "ConfigMap", "critic", "default")
    assert kept["data"] == {"of": "another"}
    controller.cluster.delete("v1", "ConfigMap", kept["metadata"])
    controller.roll_out(Deployed(workflow, FIRST))
    # The same labels, but no owner: made by someone who copied a manifest.
    front = controller.cluster.get("v1", "ConfigMap", "front", "default")
    note["metadata"] |= {"name": "copied", "labels": front["metadata"]["labels"]}
    controller.cluster.apply(note, manager="someone")
    alone = workflow.model_copy(update={"agents": workflow.agents[:1], "edges": ()})
    controller.roll_out(Deployed(alone, {"front-0": "n0"}))
    assert where(controller) == [("front", "n0")]
    get = lambda name: controller.cluster.get("v1", "ConfigMap", name, "default")
    assert get("critic") is None and get("copied") and get("front")


def test_scaled_replicas_are_left_to_whoever_scales(controller, workflow):
    controller.roll_out(Deployed(workflow, FIRST))
    scaled = {
        "metadata": {"name": "front", "namespace": "default"},
        "spec": {"replicas": 2},
    }
    controller.cluster._kind("apps/v1", "Deployment", "scale").patch(
        body=scaled, content_type="application/merge-patch+json", field_manager="autoscaler"
    )
    assert controller.settle().settled
    assert controller.roll_out(Deployed(workflow, SECOND)).settled
    live = controller.cluster.get("apps/v1", "Deployment", "front", "default")
    assert live["spec"]["replicas"] == 2


def test_one_controller_leads(plane, workflow):
    now = [0.0]
    first, second = plane.cluster(patience=1), plane.cluster(patience=1)
    one = Lease(first, "tour", "default", "one", clock=lambda: now[0])
    two = Lease(second, "tour", "default", "two", clock=lambda: now[0])
    assert one.try_acquire() is None
    with pytest.raises(LeaseLost, match="held by one"):
        two.acquire()
    now[0] += 14
    assert one.try_acquire() is None  # renewed in time
    now[0] += 14
    assert two.try_acquire() == "one"
    now[0] += 15.5  # no renewal seen for longer than the lease
    assert two.try_acquire() is None
    with pytest.raises(LeaseLost, match="could not be renewed"):
        one.check()
    assert one.try_acquire() == "two"
    two.release()
    assert one.try_acquire() is None


def test_without_the_lease_nothing_is_written(plane, workflow):
    now = [0.0]
    cluster = plane.cluster(patience=1)
    lease = Lease(cluster, "tour", "default", "one", clock=lambda: now[0])
    with lease:
        Controller(cluster, workflow, SETTINGS).roll_out(Deployed(workflow, FIRST))
        lease._stop.set()  # as if the process had been suspended
        lease._thread.join()
        now[0] += 20
        with pytest.raises(LeaseLost):
            Controller(cluster, workflow, SETTINGS).roll_out(Deployed(workflow, SECOND))
    assert where(Controller(cluster, workflow)) == as_found(FIRST)


def test_a_stateful_pod_of_a_silent_node_is_left(plane, workflow):
    """Until its Node is deleted it may still run, and two of a name must not."""
    agent = workflow.agents[0].model_copy(update={"stateful": True})
    stateful = workflow.model_copy(update={"agents": (agent,), "edges": ()})
    short = dataclasses.replace(SETTINGS, deadline=2)
    controller = Controller(plane.cluster(patience=5), stateful, short)
    controller.roll_out(Deployed(stateful, {"front-0": "n0"}))
    plane.kill_node("n0")
    # A real node is not ready once its grace period is over, and lost some time later.
    noticed = lambda: "n0" in controller.reconciler.step().away
    assert comes_true(noticed, 3 * plane.grace + 10)
    time.sleep(2 * SETTINGS.lost_after)
    assert not controller.settle(2).settled
    assert where(controller) == [("front", "n0")]
    plane.delete_node("n0")
    assert settles(controller)


def comes_true(condition, seconds):
    """Whether a condition holds within some seconds."""
    end = time.monotonic() + seconds
    while not (held := condition()) and time.monotonic() < end:
        time.sleep(0.1)
    return held


def test_memory_grows_in_place(controller, workflow):
    controller.roll_out(Deployed(workflow, FIRST))
    before = names(controller)
    record = controller.keeper.load()
    controller.keeper.save(dataclasses.replace(record, sizes={"front": 1_500_000_000}))
    assert controller.settle().settled
    found = [
        p["spec"]["containers"][0]["resources"]["limits"]["memory"]
        for p in pods(controller)
        if p["metadata"]["name"].startswith("front")
    ]
    # The server writes 1500M.
    assert [parse_quantity(text) for text in found] == [1_500_000_000]
    assert names(controller) == before


# Faults that only the double can have.


def test_a_server_that_is_gone_for_a_while(double, workflow):
    server = double.server
    controller = Controller(double.cluster(patience=30), workflow, SETTINGS)
    controller.roll_out(Deployed(workflow, FIRST))
    server.down = 9  # requests; urllib3 itself tries each of them a few times
    assert controller.move(SECOND, "test").settled
    assert server.down == 0 and where(controller) == as_found(SECOND)


def test_a_server_that_stays_away_is_reported(double, workflow):
    cluster = double.cluster(patience=0.5)
    double.server.down = True
    with pytest.raises(ClusterError, match="Check the kubeconfig") as caught:
        cluster.get("v1", "ConfigMap", "x", "default")
    assert caught.value.status == 0


def test_an_expired_watch_is_begun_anew(double, workflow):
    controller = Controller(double.cluster(patience=5), workflow, SETTINGS)
    controller.roll_out(Deployed(workflow, FIRST))
    double.server.store.oldest = 10**9
    assert controller.cluster.changed("Pod", "default", {}, "1", 0.1)
    assert controller.move(SECOND, "test").settled


@pytest.mark.parametrize(
    ("status", "message"),
    [(403, "exceeded quota: small"), (500, "failed to create typed patch object")],
)
def test_a_refusal_half_way_is_undone(double, workflow, status, message):
    controller = Controller(double.cluster(patience=5), workflow, SETTINGS)
    controller.roll_out(Deployed(workflow, FIRST))
    patched = "/deployments/front"
    # The dry run passes; what follows does not.
    dry_runs = sum(p.endswith(patched) for _, p in double.server.requests)
    assert dry_runs
    other = with_image(workflow, "front", "local/front:2")

    def refuse(method, path, query):
        return method == "PATCH" and path.endswith(patched) and "dryRun" not in query

    double.server.faults.append([refuse, status, 1, message])
    with pytest.raises(RolloutFailed, match=message):
        controller.roll_out(Deployed(other, SECOND))
    assert where(controller) == as_found(FIRST)


def test_pages_of_a_list_are_joined(double, workflow):
    controller = Controller(double.cluster(patience=5), workflow, SETTINGS)
    for k in range(7):
        note = {"metadata": {"name": f"note-{k}", "namespace": "default"}, "data": {}}
        controller.cluster.apply({"apiVersion": "v1", "kind": "ConfigMap"} | note)
    double.server.page = 3
    assert len(controller.cluster.list("v1", "ConfigMap", "default")[0]) == 7
