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
        self.ended, self.measured, self.heard = (threading.Event() for _ in range(3))
        self.said = []
        recompiler = Recompiler(controller, self.measure)
        how = {"interval": 0.0, "said": self.hear, "ended": self.ended}
        self.thread = threading.Thread(
            target=watch, args=(controller, recompiler), kwargs=how, daemon=True
        )

    def measure(self):
        self.measured.set()
        return Measurement()

    def hear(self, what):
        self.said.append(what)
        self.heard.set()

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
        assert holder(plane) != "" and not loop.said
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
            lease.release()
            assert loop.measured.wait(SECONDS)


def test_what_fails_is_said_and_the_loop_goes_on(controller, plane):
    refuse = lambda method, path, query: method == "PATCH"
    plane.server.faults.append([refuse, 403, 1, "front is forbidden"])
    with Loop(controller) as loop:
        assert loop.heard.wait(SECONDS)
        assert "front is forbidden" in loop.said[0]
        assert loop.measured.wait(SECONDS)
