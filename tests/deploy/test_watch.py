"""The loop of `sedma deploy watch` keeps a deployment, reports, and ends when told to."""

import threading

import pytest
from control_plane import TOUR, DoublePlane

from sedma_jax import deploy
from sedma_jax.deploy._control.apply import lease_of
from sedma_jax.deploy._control.controller import Controller
from sedma_jax.deploy._control.measure import Measurement
from sedma_jax.deploy._control.recompile import Recompiler
from sedma_jax.deploy._control.reconcile import Settings
from sedma_jax.deploy._control.watch import watch
from sedma_jax.deploy._placing.deployed import Deployed

SECONDS = 60  # until the loop does what is due, on a machine that does other things too


@pytest.fixture
def plane():
    plane = DoublePlane()
    for name in ("n0", "n1"):
        plane.add_node(name, 3, "3G")
    yield plane
    plane.close()


@pytest.fixture
def controller(plane):
    workflow = deploy.parse_workflow(TOUR)
    settings = Settings(deadline=30, lost_after=0.5, interval=0.5)
    controller = Controller(plane.cluster(patience=5), workflow, settings)
    controller.roll_out(Deployed(workflow, {"front-0": "n0", "back-0": "n0"}))
    return controller


class Loop:
    """The loop in a thread; `ended` ends it."""

    def __init__(self, controller):
        self.ended, self.measured = threading.Event(), threading.Event()
        self.said, self.heard = [], threading.Condition()
        recompiler = Recompiler(controller, self.measure)
        how = {"interval": 0.0, "said": self.hear, "ended": self.ended}
        self.thread = threading.Thread(
            target=watch, args=(controller, recompiler), kwargs=how, daemon=True
        )

    def measure(self):
        self.measured.set()
        return Measurement()

    def hear(self, what):
        with self.heard:
            self.said.append(what)
            self.heard.notify_all()

    def hears(self, part):
        """Whether a line with this part is said in time."""
        with self.heard:
            found = lambda: any(part in line for line in self.said)
            return self.heard.wait_for(found, SECONDS)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join(SECONDS)
        assert not self.thread.is_alive()


def holder(plane):
    (lease,) = plane.server.store.all("leases")
    return lease["spec"]["holderIdentity"]


def test_it_measures_while_it_leads_and_gives_the_lease_back(controller, plane):
    with Loop(controller) as loop:
        assert loop.measured.wait(SECONDS)
        assert holder(plane) != ""
        assert loop.said == ["leads", "Applied: 2 replicas are ready."]
    assert holder(plane) == ""


def test_it_stands_by_while_another_one_leads(controller, plane):
    other = Controller(plane.cluster(patience=5), controller.workflow)
    asked = threading.Event()

    def note(method, path, query):
        if method == "GET" and "/leases/" in path:
            asked.set()
        return False  # no fault

    with lease_of(other) as lease:
        plane.server.faults.append([note, 0, 1, ""])
        with Loop(controller) as loop:
            assert asked.wait(SECONDS)
            assert not loop.measured.is_set() and holder(plane) == lease.identity
            assert loop.hears(f"stands by: {lease.identity} leads")
            lease.release()
            assert loop.measured.wait(SECONDS)


def test_what_fails_is_said_and_the_loop_goes_on(controller, plane):
    refuse = lambda method, path, query: method == "PATCH"
    plane.server.faults.append([refuse, 403, 1, "front is forbidden"])
    with Loop(controller) as loop:
        assert loop.hears("front is forbidden")
        assert loop.measured.wait(SECONDS)


def test_it_says_what_it_does_about_a_lost_node(controller, plane):
    with Loop(controller) as loop:
        assert loop.measured.wait(SECONDS)
        plane.kill_node("n0")
        assert loop.hears("Healed: 2 replicas are ready.")
        said = list(loop.said)
    order = [
        "n0 is not ready; after 0.5 s it counts as lost",
        "deleted ",  # both pods
        "NodeLost: n0; its replicas are placed anew: front-0 n0 -> n1, back-0 n0 -> n1.",
        "goes to n1",
        "Healed: ",
    ]
    at = [next(k for k, line in enumerate(said) if part in line) for part in order]
    assert at == sorted(at), said
    assert sum("of the lost node n0" in line for line in said) == 2
    assert len(set(said)) == len(said)  # nothing again and again


def test_a_source_that_fails_is_named_once(controller):
    silent = Measurement(problems=("Prometheus at http://x did not answer",))
    said = controller_said(controller)
    recompiler = Recompiler(controller, lambda: silent)
    for _ in range(3):
        recompiler.tick()
    assert said == ["measuring: Prometheus at http://x did not answer"]
    recompiler.source = Measurement
    recompiler.tick()
    assert said[1:] == ["measuring: all sources answer again"]


def controller_said(controller):
    said = []
    controller.said = said.append
    return said
