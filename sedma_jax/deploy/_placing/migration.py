"""In what order replicas move, so that every one finds room where it goes.

A replica that moves leaves its node first and then starts on the next. Where replicas hold
each other's room in a circle, some have to stop before they can start: as few as a search
finds (0-1 BFS; exact while the circle is small, else one at a time).
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_STATES = 20_000  # of the search
_ROUNDING = 1 + 1e-6


@dataclass(frozen=True)
class Replica:
    """What a replica takes; of a `group`, one at a time may be stopped or moving."""

    name: str
    memory: float  # GB
    cpu: float  # cores
    model: str | None = None
    group: str | None = None


@dataclass(frozen=True)
class Room:
    """What a node offers, and what it needs itself where any replica runs."""

    memory: float  # GB
    cpu: float  # cores
    base: float = 0.0  # GB


@dataclass(frozen=True)
class Step:
    """Move a replica; without a source it starts, without a target it stops."""

    replica: str
    source: str | None
    target: str | None


class NoOrder(ValueError):
    """The target does not fit, or nothing can move without breaking a group."""


def migration(
    replicas: Sequence[Replica],
    rooms: Mapping[str, Room],
    start: Mapping[str, str | None],
    target: Mapping[str, str],
    *,
    weights: Mapping[str, float] | None = None,
    most_states: int = _STATES,
) -> list[Step]:
    """Order the steps from one placement to another.

    After every step, no node that was reached holds more memory or CPU than it has, shared
    weights and base counted once a node, and no two replicas of a group share a node
    unless the target or the start has it so. Of a group at most one is stopped.

    **Arguments:**

    - `replicas`, `rooms`: what they take and what nodes offer.
    - `start`: node of every replica, None for one that is stopped.
    - `target`: node of every replica.
    - `weights`: GB of every shared model.
    - `most_states`: size of the search; beyond it replicas are stopped one at a time.

    **Returns:**

    Steps in order, each replica that does not move left out, the fewest stops first.

    **Raises:** `NoOrder`, where `target` exceeds a node, or groups forbid all orders.
    """
    task = _Task(replicas, rooms, dict(start), dict(target), dict(weights or {}))
    task.check_target()
    steps = task.safe_moves()
    rest = task.search(most_states)
    if rest is None:
        rest = task.one_at_a_time()
    return steps + rest


def waves(
    steps: Sequence[Step],
    replicas: Sequence[Replica],
    rooms: Mapping[str, Room],
    start: Mapping[str, str | None],
    *,
    weights: Mapping[str, float] | None = None,
) -> list[list[Step]]:
    """Join steps that may be done at the same time, in whichever order they finish.

    In a wave, what leaves still counts where it was, and a group moves one replica.
    """
    found: list[list[Step]] = []
    at = dict(start)
    task = _Task(replicas, rooms, at, {}, dict(weights or {}))
    arrivals: dict[str, list[str]] = {}
    groups: set[str] = set()
    for step in steps:
        group = task.replica[step.replica].group
        stops = step.source is not None and group is not None
        joined = bool(found) and not (stops and group in groups)
        joined &= step.replica not in {s.replica for s in (found or [[]])[-1]}
        if joined and step.target:
            members = [*task.on(step.target), *arrivals.get(step.target, [])]
            joined = task.fits(step.target, [*members, step.replica])
        if not joined:
            for done in found[-1] if found else []:
                at[done.replica] = done.target
            found.append([])
            arrivals, groups = {}, set()
        found[-1].append(step)
        if step.target:
            arrivals.setdefault(step.target, []).append(step.replica)
        if stops and group is not None:
            groups.add(group)
    return found


def fits(room: Room, members: Sequence[Replica], weights: Mapping[str, float]) -> bool:
    """Whether a node holds these replicas, base and shared weights counted once."""
    models = {r.model for r in members if r.model is not None}
    memory = sum(r.memory for r in members) + (room.base if members else 0.0)
    memory += sum(weights.get(model, 0.0) for model in models)
    cpu = sum(r.cpu for r in members)
    return memory <= room.memory * _ROUNDING and cpu <= room.cpu * _ROUNDING


class _Task:
    """Where replicas are while the order is sought."""

    def __init__(self, replicas, rooms, at, target, weights):
        self.replica = {r.name: r for r in replicas}
        self.rooms, self.at, self.target, self.weights = rooms, at, target, weights
        share = lambda where: {
            (self.replica[a].group, node)
            for a, node in where.items()
            if self.replica[a].group is not None and node is not None
            for b, other in where.items()
            if a < b and node == other and self.replica[a].group == self.replica[b].group
        }
        self.shared = share(at) | share(target)

    def on(self, node, at=None):
        return [name for name, q in (at or self.at).items() if q == node]

    def fits(self, node, names) -> bool:
        room = self.rooms.get(node)
        if room is None:
            return False
        members = [self.replica[name] for name in names]
        if not fits(room, members, self.weights):
            return False
        groups = [r.group for r in members if r.group is not None]
        return all(
            groups.count(g) == 1 or (g, node) in self.shared for g in dict.fromkeys(groups)
        )

    def check_target(self):
        for node in dict.fromkeys(self.target[name] for name in self.pending()):
            names = self.on(node, self.target)
            if not self.fits(node, names):
                raise NoOrder(
                    "A migration needs a target that fits. Got "
                    f"{', '.join(sorted(names))} on {node}, which is more than it holds. "
                    "Place anew."
                )

    def pending(self):
        return [name for name, q in self.target.items() if self.at[name] != q]

    def safe_moves(self) -> list[Step]:
        """Moves to nodes that hold all that is still to come: they never hinder others."""
        steps, moved = [], True
        while moved:
            moved = False
            for name in self.pending():
                node = self.target[name]
                coming = [n for n in self.pending() if self.target[n] == node]
                if self.fits(node, [*self.on(node), *coming]) and self.may_stop(name):
                    steps.append(Step(name, self.at[name], node))
                    self.at[name] = node
                    moved = True
        return steps

    def may_stop(self, name, at=None) -> bool:
        """Whether it is stopped already, or no other replica of its group is."""
        at = at or self.at
        group = self.replica[name].group
        if group is None or at[name] is None:
            return True
        return not any(q is None and self.replica[n].group == group for n, q in at.items())

    def following(self, at, names):
        """Steps that are possible now, with the stops they add."""
        for name in names:
            here, there = at[name], self.target[name]
            if here == there or not self.may_stop(name, at):
                continue
            if self.fits(there, [*self.on(there, at), name]):
                yield 0, Step(name, here, there)
            if here is not None:
                yield 1, Step(name, here, None)

    def search(self, most_states) -> list[Step] | None:
        names = self.pending()
        first = tuple(self.at[name] for name in names)
        goal = tuple(self.target[name] for name in names)
        came: dict[tuple, tuple[tuple, Step] | None] = {first: None}
        cost = {first: 0}
        queue = deque([first])
        done = set()
        while queue and len(came) <= most_states:
            state = queue.popleft()
            if state in done:
                continue
            done.add(state)
            if state == goal:
                return _path(came, state)
            at = self.at | dict(zip(names, state, strict=True))
            for stops, step in self.following(at, names):
                k = names.index(step.replica)
                new = (*state[:k], step.target, *state[k + 1 :])
                if cost[state] + stops < cost.get(new, len(names) + 1):
                    cost[new] = cost[state] + stops
                    came[new] = (state, step)
                    (queue.append if stops else queue.appendleft)(new)
        if queue:
            return None
        raise NoOrder(
            "A migration needs replicas that may stop. Got groups of which more than one "
            f"would have to: {', '.join(names)}. Allow more unavailable replicas, or free "
            "room on their nodes."
        )

    def one_at_a_time(self) -> list[Step]:
        steps: list[Step] = []
        while names := self.pending():
            # Safe moves first: a stop costs service.
            steps += self.safe_moves()
            names = self.pending()
            options = sorted(
                self.following(self.at, names),
                key=lambda o: (o[0], -self.replica[o[1].replica].memory, o[1].replica),
            )
            if not options:
                if not names:
                    break
                raise NoOrder(
                    "A migration needs replicas that may stop. Got none among "
                    f"{', '.join(names[:8])}. Free room on their nodes."
                )
            step = options[0][1]
            steps.append(step)
            self.at[step.replica] = step.target
        return steps


def _path(came, state) -> list[Step]:
    steps = []
    while came[state] is not None:
        state, step = came[state]
        steps.append(step)
    return steps[::-1]
