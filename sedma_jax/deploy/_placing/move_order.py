"""The order in which replicas move, so that each finds room where it goes.

A replica that moves leaves its node first and then starts on the next. If replicas hold
each other's room in a circle, some have to stop for a while; a search finds how to stop as
few as possible (0-1 BFS; exact for small circles, else one replica at a time).
"""

from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

_STATES = 20_000  # that the search visits at most
_ROUNDING = 1 + 1e-6

_State = tuple[str | None, ...]  # the nodes of the replicas that are to move


@dataclass(frozen=True)
class Replica:
    """What a replica takes; of a `group`, one replica at a time may be stopped."""

    name: str
    memory: float  # GB
    cpu: float  # cores
    model: str | None = None
    group: str | None = None


@dataclass(frozen=True)
class Room:
    """What a node offers, and what it needs itself once a replica runs there."""

    memory: float  # GB
    cpu: float  # cores
    base: float = 0.0  # GB


@dataclass(frozen=True)
class Step:
    """A move of a replica; without a source it starts, without a target it stops."""

    replica: str
    source: str | None
    target: str | None


class NoOrder(ValueError):
    """The target does not fit, or nothing can move without breaking a group."""


def order_moves(
    replicas: Sequence[Replica],
    rooms: Mapping[str, Room],
    start: Mapping[str, str | None],
    target: Mapping[str, str],
    *,
    weights: Mapping[str, float] | None = None,
    most_states: int = _STATES,
) -> list[Step]:
    """Order the steps from one placement to another.

    After every step, no node that a replica moved to holds more memory or CPU than it has,
    with shared weights and base counted once per node, and no two replicas of a group
    share a node unless they do so in `start` or `target`. At most one replica of a group
    is stopped.

    **Arguments:**

    - `replicas`, `rooms`: what replicas take and what nodes offer.
    - `start`: node of every replica, None for one that is stopped.
    - `target`: node of every replica.
    - `weights`: GB of every shared model.
    - `most_states`: size of the search; beyond it, replicas are stopped one at a time.

    **Returns:**

    Steps in order, with as few stops as were found; replicas that stay have none.

    **Raises:** `NoOrder` if `target` exceeds a node, or groups forbid all orders.
    """
    task = _Task(replicas, rooms, start, target, weights or {})
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
    """Join steps that may be done at the same time, whatever the order they finish in.

    Within a wave, a replica that leaves still counts on its old node, and a group moves
    one replica.
    """
    found: list[list[Step]] = []
    task = _Task(replicas, rooms, start, {}, weights or {})
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
                task.at[done.replica] = done.target
            found.append([])
            arrivals, groups = {}, set()
        found[-1].append(step)
        if step.target:
            arrivals.setdefault(step.target, []).append(step.replica)
        if stops and group is not None:
            groups.add(group)
    return found


def fits(room: Room, members: Sequence[Replica], weights: Mapping[str, float]) -> bool:
    """Whether a node has room for these replicas, base and shared weights counted once."""
    models = {r.model for r in members if r.model is not None}
    memory = sum(r.memory for r in members) + (room.base if members else 0.0)
    memory += sum(weights.get(model, 0.0) for model in models)
    cpu = sum(r.cpu for r in members)
    return memory <= room.memory * _ROUNDING and cpu <= room.cpu * _ROUNDING


_Came = dict[_State, tuple[_State, Step] | None]  # the state before, and the step from it


class _Task:
    """Where replicas are while the order is sought."""

    def __init__(
        self,
        replicas: Sequence[Replica],
        rooms: Mapping[str, Room],
        start: Mapping[str, str | None],
        target: Mapping[str, str],
        weights: Mapping[str, float],
    ):
        self.replica = {r.name: r for r in replicas}
        self.rooms, self.weights = rooms, weights
        self.at, self.target = dict(start), dict(target)
        self.shared = self._shared(self.at) | self._shared(self.target)

    def _shared(self, where: Mapping[str, str | None]) -> set[tuple[str, str]]:
        """Groups with more than one replica on a node, and that node."""
        group_of = lambda name: self.replica[name].group
        count = Counter(
            (group, node)
            for name, node in where.items()
            if (group := group_of(name)) is not None and node is not None
        )
        return {pair for pair, members in count.items() if members > 1}

    def on(self, node: str, at: Mapping[str, str | None] | None = None) -> list[str]:
        """Replicas on a node, now or in the state `at`."""
        return [name for name, q in (at or self.at).items() if q == node]

    def fits(self, node: str, names: Sequence[str]) -> bool:
        """Whether a node has room for replicas, and they may share it."""
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

    def check_target(self) -> None:
        """Raise `NoOrder` if a node lacks room for what the target puts there."""
        for node in dict.fromkeys(self.target[name] for name in self.pending()):
            names = self.on(node, self.target)
            if not self.fits(node, names):
                raise NoOrder(
                    "Moving replicas needs a target that fits. Got "
                    f"{', '.join(sorted(names))} on {node}, which is more than it holds. "
                    "Place the workflow anew."
                )

    def pending(self) -> list[str]:
        """Replicas that are not where they belong."""
        return [name for name, q in self.target.items() if self.at[name] != q]

    def safe_moves(self) -> list[Step]:
        """Make the moves to nodes with room for all arrivals; they hinder no other."""
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

    def may_stop(self, name: str, at: Mapping[str, str | None] | None = None) -> bool:
        """Whether a replica is stopped already, or no other one of its group is."""
        at = at or self.at
        group = self.replica[name].group
        if group is None or at[name] is None:
            return True
        return not any(q is None and self.replica[n].group == group for n, q in at.items())

    def following(
        self, at: Mapping[str, str | None], names: Sequence[str]
    ) -> Iterator[tuple[int, Step]]:
        """Steps that are possible in the state `at`, each with the stops it adds."""
        for name in names:
            here, there = at[name], self.target[name]
            if here == there or not self.may_stop(name, at):
                continue
            if self.fits(there, [*self.on(there, at), name]):
                yield 0, Step(name, here, there)
            if here is not None:
                yield 1, Step(name, here, None)

    def search(self, most_states: int) -> list[Step] | None:
        """Find the steps with the fewest stops; None beyond `most_states`."""
        names = self.pending()
        first = tuple(self.at[name] for name in names)
        goal = tuple(self.target[name] for name in names)
        came: _Came = {first: None}
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
            "Moving replicas needs some that may stop. Got groups of which more than one "
            f"would have to: {', '.join(names)}. Allow more unavailable replicas, or free "
            "room on their nodes."
        )

    def one_at_a_time(self) -> list[Step]:
        """Move without a search: whatever can move, else stop what takes most memory."""
        steps: list[Step] = []
        while self.pending():
            # Safe moves come first: a stop interrupts service.
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
                    "Moving replicas needs some that may stop. Got none among "
                    f"{', '.join(names[:8])}. Free room on their nodes."
                )
            step = options[0][1]
            steps.append(step)
            self.at[step.replica] = step.target
        return steps


def _path(came: _Came, state: _State) -> list[Step]:
    """The steps that led to a state."""
    steps = []
    while (reached := came[state]) is not None:
        state, step = reached
        steps.append(step)
    return steps[::-1]
