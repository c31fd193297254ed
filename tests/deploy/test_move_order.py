"""The steps of a migration fit one after another, with as few stops as possible."""

import itertools
import random
from collections import deque

import pytest

from sedma_jax.deploy._placing.move_order import (
    NoOrder,
    Replica,
    Room,
    Step,
    order_moves,
    waves,
)


def holds(room, members, weights):
    """Whether a node holds these replicas, written without the code under test."""
    memory = room.base * bool(members) + sum(m.memory for m in members)
    memory += sum(weights[k] for k in {m.model for m in members if m.model})
    groups = [m.group for m in members if m.group]
    return (
        memory <= room.memory + 1e-9
        and sum(m.cpu for m in members) <= room.cpu + 1e-9
        and len(groups) == len(set(groups))
    )


def fewest_stops(replicas, rooms, start, target, weights):
    """Search all states for the fewest stops; None if no order exists."""
    names = [r.name for r in replicas]
    of = {r.name: r for r in replicas}
    first = tuple(start[n] for n in names)
    goal = tuple(target[n] for n in names)
    best, queue = {first: 0}, deque([first])
    while queue:
        state = queue.popleft()
        for k, name in enumerate(names):
            if state[k] == goal[k]:
                continue
            stopped = [
                names[i]
                for i, q in enumerate(state)
                if q is None and i != k and of[names[i]].group == of[name].group
            ]
            if state[k] is not None and of[name].group and stopped:
                continue
            for there in {goal[k], None} - {state[k]}:
                new = (*state[:k], there, *state[k + 1 :])
                members = [of[n] for n, q in zip(names, new, strict=True) if q == there]
                if there is not None and not holds(rooms[there], members, weights):
                    continue
                cost = best[state] + (there is None)
                if cost < best.get(new, 99):
                    best[new] = cost
                    queue.append(new)
    return best.get(goal)


def drawn(seed):
    draw = random.Random(seed)
    weights = {"words": 2.0}
    rooms = {
        f"n{q}": Room(draw.choice([6, 8, 10]), 100, draw.choice([0, 1])) for q in "abc"
    }
    replicas = [
        Replica(
            f"r{i}",
            draw.choice([1, 2, 3]),
            1,
            draw.choice([None, None, "words"]),
            draw.choice([None, None, "g"]),
        )
        for i in range(6)
    ]

    def placement():
        for _ in range(200):
            at = {r.name: draw.choice(list(rooms)) for r in replicas}
            if all(
                holds(room, [r for r in replicas if at[r.name] == q], weights)
                for q, room in rooms.items()
            ):
                return at
        return None

    start, target = placement(), placement()
    if start and target:
        for name in list(start):
            if draw.random() < 0.1:
                start[name] = None
    return replicas, rooms, start, target, weights


def replayed(steps, replicas, rooms, start, weights):
    at = dict(start)
    of = {r.name: r for r in replicas}
    for step in steps:
        assert at[step.replica] == step.source
        at[step.replica] = step.target
        if step.target:
            members = [of[n] for n, q in at.items() if q == step.target]
            assert holds(rooms[step.target], members, weights), step
        stopped = [of[n].group for n, q in at.items() if q is None and of[n].group]
        before = [of[n].group for n, q in start.items() if q is None and of[n].group]
        assert len(stopped) - len(set(stopped)) <= max(0, len(before) - len(set(before)))
    return at


def test_brute_force_finds_no_order_with_fewer_stops():
    tried = stopped = 0
    for seed in range(400):
        replicas, rooms, start, target, weights = drawn(seed)
        if not (start and target):
            continue
        expected = fewest_stops(replicas, rooms, start, target, weights)
        case = (replicas, rooms, start, target)
        if expected is None:
            with pytest.raises(NoOrder):
                order_moves(*case, weights=weights)
            continue
        steps = order_moves(*case, weights=weights)
        assert replayed(steps, replicas, rooms, start, weights) == target
        assert sum(s.target is None for s in steps) == expected, seed
        tried, stopped = tried + 1, stopped + (expected > 0)
    assert tried > 100 and stopped > 10


def circle(count):
    replicas = [Replica(f"r{i}", 6, 1) for i in range(count)]
    rooms = {f"n{i}": Room(8, 4) for i in range(count)}
    start = {f"r{i}": f"n{i}" for i in range(count)}
    return replicas, rooms, start, {f"r{i}": f"n{(i + 1) % count}" for i in range(count)}


@pytest.mark.parametrize("most_states", [20_000, 1])
def test_a_circle_of_full_nodes_needs_one_stop(most_states):
    replicas, rooms, start, target = circle(7)
    steps = order_moves(replicas, rooms, start, target, most_states=most_states)
    assert replayed(steps, replicas, rooms, start, {}) == target
    assert sum(s.target is None for s in steps) == 1


def test_large_migrations_end_too():
    replicas, rooms, start, target = circle(60)
    steps = order_moves(replicas, rooms, start, target)
    assert replayed(steps, replicas, rooms, start, {}) == target


def test_steps_of_a_wave_fit_in_any_order():
    for seed in range(60):
        replicas, rooms, start, target, weights = drawn(seed)
        if not (start and target):
            continue
        try:
            steps = order_moves(replicas, rooms, start, target, weights=weights)
        except NoOrder:
            continue
        found = waves(steps, replicas, rooms, start, weights=weights)
        assert [s for wave in found for s in wave] == steps
        at = dict(start)
        for wave in found:
            for order in itertools.islice(itertools.permutations(wave), 6):
                replayed(order, replicas, rooms, at, weights)
            at |= {s.replica: s.target for s in wave}


def test_a_target_that_does_not_fit_is_refused():
    replicas, rooms, start, _ = circle(2)
    with pytest.raises(NoOrder, match=r"r0, r1 on n0"):
        order_moves(replicas, rooms, start, {"r0": "n0", "r1": "n0"})


def test_two_of_a_group_never_stop_together():
    pair = [Replica("a", 6, 1, group="g"), Replica("b", 6, 1, group="g")]
    rooms = {"n0": Room(8, 4), "n1": Room(8, 4), "n2": Room(8, 4)}
    start, target = {"a": "n0", "b": "n1"}, {"a": "n1", "b": "n2"}
    steps = order_moves(pair, rooms, start, target)
    assert steps == [Step("b", "n1", "n2"), Step("a", "n0", "n1")]
    assert len(waves(steps, pair, rooms, start)) == 2
