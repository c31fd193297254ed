"""Placements that memory holds are taken again, or the search starts from them."""

import jax.random as jr
import numpy as np
import pytest
from control_plane import TOUR as WORKFLOW

import sedma_jax as sj
from sedma_jax import deploy
from sedma_jax.deploy._placing import placement, remembered_plan
from sedma_jax.deploy._placing.patterns import MEASURED, PLANNED, features, structure


@pytest.fixture
def memory(tmp_path):
    with sj.memory.open(f"sqlite:///{tmp_path / 'memory.db'}") as opened:
        yield opened


def planned(memory, text=WORKFLOW):
    return deploy.remembered_plan(deploy.parse_workflow(text), memory, key=jr.key(0))


def test_a_proven_placement_is_taken_again_without_a_search(memory, monkeypatch):
    first, told = planned(memory)
    assert told == {"choice": "explored", "patterns": 0, "expected": None, "written": 1}
    assert first.optimal and first.cost.feasible

    def no_search(*_, **__):
        raise AssertionError("It was searched for.")

    monkeypatch.setattr(remembered_plan, "place", no_search)
    second, told = planned(memory)
    assert told["choice"] == "recalled" and told["patterns"] == 1
    assert told["expected"] == pytest.approx(float(first.cost.total))
    np.testing.assert_array_equal(second.nodes, first.nodes)
    assert second.optimal and second.bound == pytest.approx(float(first.cost.total))
    (pattern,) = memory.patterns(PLANNED)
    assert pattern.count == 2 and pattern.mean == pytest.approx(-told["expected"])


def test_other_traffic_starts_the_search_from_what_is_known(memory, monkeypatch):
    first, _ = planned(memory)
    starts, place = [], remembered_plan.place

    def watched(problem, *, start, **how):
        starts.append(start)
        return place(problem, start=start, **how)

    monkeypatch.setattr(remembered_plan, "place", watched)
    _, told = planned(memory, WORKFLOW.replace("volume: 2", "volume: 3"))
    np.testing.assert_array_equal(starts[0], first.nodes)
    assert told["patterns"] == 1
    # On other nodes it is not known.
    planned(memory, WORKFLOW.replace("n1", "n2"))
    assert starts[1] is None


def test_a_placement_that_was_measured_to_be_bad_gives_way(memory):
    workflow = deploy.parse_workflow(WORKFLOW)
    first, _ = planned(memory)
    names = np.array(["n0", "n1"])[first.nodes]
    bad = dict(zip(["front-0", "back-0"], names.tolist(), strict=True))
    good = {"front-0": "n0", "back-0": "n1"}
    for nodes, performance in ((bad, 1.0), (good, 2.0)):
        memory.record(
            *(MEASURED, structure(workflow), {"nodes": nodes}, performance),
            features=features(workflow),
        )
    second, told = planned(memory)
    assert told["choice"] == "recalled" and second.nodes.tolist() == [0, 1]
    assert not second.optimal and float(second.cost.total) > float(first.cost.total)


def test_a_known_start_is_never_lost(monkeypatch):
    problem = deploy.placement_problem(deploy.parse_workflow(WORKFLOW))
    best = deploy.place(problem, key=jr.key(0))
    apart = np.array([0, 1], np.int32), 0.0  # what the annealing comes to
    monkeypatch.setattr(placement, "_annealed", lambda *_: apart)
    how = {"prove_seconds": 0, "key": jr.key(1)}
    assert deploy.place(problem, **how).nodes.tolist() == [0, 1]
    found = deploy.place(problem, start=best.nodes, **how)
    assert found.nodes.tolist() == best.nodes.tolist()


def test_without_memory_it_is_the_plan(memory):
    workflow = deploy.parse_workflow(WORKFLOW)
    found, told = deploy.remembered_plan(workflow, None, key=jr.key(0))
    assert told == {"choice": "explored", "patterns": 0, "written": 0}
    np.testing.assert_array_equal(found.nodes, deploy.plan(workflow, key=jr.key(0)).nodes)
