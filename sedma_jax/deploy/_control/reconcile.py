"""One look at the cluster, and what is due then: nodes for pods, evictions, clearing up.

Pods wait for their node behind a scheduling gate, which names no revision of a Deployment:
a move evicts a pod, so that disruption budgets hold, and gives its successor the new node.
"""

import dataclasses
import time
from collections import Counter
from collections.abc import Callable

from .._manifests.manifests import labels
from .._placing.migration import NoOrder, Replica, Room, fits, migration, waves
from .._workflow.quantity import parse_quantity
from .._workflow.specification import Workflow, gigabytes
from .cluster import Cluster, ClusterError
from .observe import Observed, Pod, observe
from .record import Deployed, Record, RecordKeeper


@dataclasses.dataclass(frozen=True)
class Settings:
    """How patient a controller is, in seconds."""

    deadline: float = 300.0  # for a rollout to get ready
    lost_after: float = 30.0  # that a node may be away
    interval: float = 10.0  # between looks, if nothing changes


@dataclasses.dataclass(frozen=True)
class Status:
    """What one step found and did."""

    ready: int  # replicas that are ready on their node
    wanted: int
    settled: bool
    lost: tuple[str, ...] = ()  # nodes of the plan that are gone
    evicted: int = 0
    problems: tuple[str, ...] = ()


class Reconciler:
    """Brings pods where the record wants them, a step at a time; see `Controller`."""

    def __init__(
        self,
        cluster: Cluster,
        workflow: Workflow,
        settings: Settings,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.cluster, self.workflow = cluster, workflow
        self.settings, self.clock = settings, clock
        self.keeper = RecordKeeper(cluster, workflow)
        self.moves = 0  # evictions so far
        self.version = "0"  # of the pods that were seen last
        self._away: dict[str, float] = {}

    def step(self) -> Status:
        """Do what is due now: assign waiting pods, evict what moves, free lost nodes."""
        record = self.keeper.load()
        if record.wanted is None:
            raise ValueError(NOTHING.format(name=self.workflow.name))
        seen = observe(self.cluster, self.workflow)
        self.version = seen.version
        lost = self._lost(record, seen)
        self._free(record.wanted.workflow, seen, lost)
        problems: list[str] = []
        evicted = 0
        if record.wanted.nodes:
            try:
                evicted = self._place(record, seen, lost)
            except NoOrder as error:
                problems.append(str(error))
        self._resize(record, seen, problems)
        self.moves += evicted
        return self._status(record.wanted, seen, lost, evicted, problems)

    def rooms(self, record: Record, seen: Observed) -> dict[str, Room]:
        """What nodes of the workflow offer now, without lost, cordoned and tainted ones."""
        assert record.wanted is not None
        return self.rooms_of(record.wanted.workflow, seen, self._lost(record, seen))

    def rooms_of(self, workflow: Workflow, seen: Observed, away) -> dict[str, Room]:
        """The same for nodes of a workflow that is not on record yet."""
        rooms = {}
        for node in workflow.nodes:
            live = seen.nodes.get(node.name)
            if live and live.ready and live.open and node.name not in away:
                rooms[node.name] = Room(
                    min(gigabytes(node.memory), live.memory),
                    min(float(parse_quantity(node.cpu)), live.cpu),
                    gigabytes(node.base),
                )
        return rooms

    def _place(self, record: Record, seen: Observed, lost) -> int:
        deployed = record.wanted
        assert deployed is not None
        rooms = self.rooms(record, seen)
        weights = {m.name: gigabytes(m.memory) for m in deployed.workflow.models}
        pods, replicas, start, target = self._positions(record, seen, lost)
        held = [p for p in seen.pods if p.name not in pods and p.state != "ended"]
        target = {name: node for name, node in target.items() if node in rooms}
        for name in start:
            if name not in target and start[name] is None:  # more than planned: scaled up
                for node, room in rooms.items():
                    there = [replicas[n] for n, q in target.items() if q == node]
                    if fits(room, [*there, replicas[name]], weights):
                        target[name] = node
                        break
        # What stays where it is takes room, and has nowhere to go.
        moving = {n: target.get(n, start[n]) for n in start}
        known = [replicas[n] for n in start if moving[n] is not None]
        begin = {n: start[n] for n in start if moving[n] is not None}
        for name, node in moving.items():
            if node is not None and node not in rooms:
                begin.pop(name)
        goal = {n: node for n in begin if (node := moving[n]) is not None}
        known = [r for r in known if r.name in begin]
        order = migration(known, rooms, begin, goal, weights=weights)
        first = waves(order, known, rooms, begin, weights=weights)[:1]
        # One wave after the other; what is to leave need not get ready first.
        arriving = lambda p: p.state == "starting" and target.get(p.name, p.node) == p.node
        quiet = not any(p.state == "leaving" or arriving(p) for p in seen.pods)
        present: dict[str, list[Replica]] = {}
        for pod in [*pods.values(), *held]:
            if pod.node:
                replica = replicas.get(pod.name) or Replica(pod.name, pod.memory, pod.cpu)
                present.setdefault(pod.node, []).append(replica)
        evicted = 0
        for step in first[0] if first else []:
            pod = pods[step.replica]
            if step.source is None and step.target is not None:
                here = present.setdefault(step.target, [])
                if fits(rooms[step.target], [*here, replicas[pod.name]], weights):
                    here.append(replicas[pod.name])
                    self._assign(pod, step.target)
            elif quiet and self.cluster.evict(pod.meta):
                evicted += 1
        return evicted

    def _positions(self, record: Record, seen: Observed, lost):
        """Pods by name, what they take, where they are, and where each belongs."""
        assert record.wanted is not None
        pods, replicas, start, target = {}, {}, {}, {}
        slots = _slots(record.wanted)
        for agent in record.wanted.workflow.agents:
            mine = [
                pod
                for pod in sorted(seen.pods, key=lambda p: p.name)
                if pod.agent == agent.name
                and pod.state in ("gated", "starting", "ready")
                and pod.node not in lost
            ]
            free = Counter(slots[agent.name])
            rest = []
            size = record.sizes.get(agent.name, 0) / 1e9
            for pod in mine:
                pods[pod.name] = pod
                memory = max(pod.memory, gigabytes(agent.memory), size)
                group = agent.name if agent.replicas > 1 else None
                replicas[pod.name] = Replica(pod.name, memory, pod.cpu, agent.model, group)
                start[pod.name] = pod.node
                if pod.node is not None and free[pod.node] > 0:
                    free[pod.node] -= 1
                    target[pod.name] = pod.node
                else:
                    rest.append(pod)
            places = list(free.elements())
            # Those that wait come first: they serve nobody where they are.
            rest.sort(key=lambda p: (p.node is not None, p.name))
            for pod, node in zip(rest, places, strict=False):
                target[pod.name] = node
        return pods, replicas, start, target

    def _assign(self, pod: Pod, node: str) -> None:
        meta = {k: pod.meta[k] for k in ("name", "namespace", "resourceVersion")}
        spec = {
            "nodeSelector": {"kubernetes.io/hostname": node},
            "schedulingGates": None,
        }
        try:
            self.cluster.patch("v1", "Pod", {"metadata": meta, "spec": spec})
        except ClusterError as error:
            if error.status not in (404, 409):  # gone or changed: the next look sees it
                raise

    def _resize(self, record: Record, seen: Observed, problems: list[str]) -> None:
        """Give running pods the memory that the record has for their agent."""
        for pod in seen.pods:
            size = record.sizes.get(pod.agent, 0)
            if pod.state == "ready" and size / 1e9 > pod.memory * (1 + 1e-6):
                try:
                    self.resize(pod, size)
                except ClusterError as error:
                    if error.status not in (404, 405, 409, 422):
                        raise
                    problems.append(f"{pod.name} was not resized: {error.said}")

    def resize(self, pod: Pod, size: int) -> None:
        """Set the memory of a running pod, in bytes, where it runs."""
        memory = {"memory": str(size)}
        body = {
            "metadata": {k: pod.meta[k] for k in ("name", "namespace")},
            "spec": {
                "containers": [
                    {"name": "agent", "resources": {"requests": memory, "limits": memory}}
                ]
            },
        }
        self.cluster.resize(body)

    def _lost(self, record: Record, seen: Observed) -> tuple[str, ...]:
        assert record.wanted is not None
        now, lost = self.clock(), []
        for node in record.wanted.workflow.nodes:
            live = seen.nodes.get(node.name)
            if live is not None and live.ready:
                self._away.pop(node.name, None)
                continue
            since = self._away.setdefault(node.name, now)
            if live is None or now - since >= self.settings.lost_after:
                lost.append(node.name)
        return tuple(lost)

    def _free(self, workflow: Workflow, seen: Observed, lost) -> None:
        """Delete pods of lost nodes at once, or their successors would wait for them.

        A stateful pod of a node that may still run is left: two of one name would write
        to one disk.
        """
        stateful = {agent.name for agent in workflow.agents if agent.stateful}
        for pod in seen.pods:
            gone = pod.node is not None and pod.node not in seen.nodes
            if gone or (pod.node in lost and pod.agent not in stateful):
                self.cluster.delete("v1", "Pod", pod.meta, seconds=0)

    def _status(
        self, deployed: Deployed, seen: Observed, lost, evicted, problems
    ) -> Status:
        slots = _slots(deployed)
        ready = wanted = 0
        settled = not problems
        alive = [p for p in seen.pods if p.state != "ended"]
        for agent in deployed.workflow.agents:
            mine = [p for p in alive if p.agent == agent.name]
            wanted += agent.replicas
            at = Counter(p.node for p in mine if p.state == "ready")
            plan: Counter[str | None] = Counter(slots[agent.name])
            placed = (at & plan).total() if deployed.nodes else at.total()
            ready += placed
            settled &= placed >= agent.replicas and len(mine) == at.total()
        for pod in alive:
            if pod.problem:
                problems.append(f"{pod.name}: {pod.problem}")
        if settled:
            settled = not evicted and self._rolled_out(deployed.workflow)
        elif not problems:
            late = sorted(p.name for p in alive if p.state in ("gated", "starting"))
            if late:
                problems.append(f"not ready: {', '.join(late[:5])}")
        used = set(deployed.nodes.values())
        return Status(
            ready,
            wanted,
            settled,
            tuple(node for node in lost if node in used),
            evicted,
            tuple(problems),
        )

    def _rolled_out(self, workflow: Workflow) -> bool:
        """Whether the controllers of the cluster have seen the last revision."""
        for kind in ("Deployment", "StatefulSet"):
            items, _ = self.cluster.list(
                "apps/v1", kind, workflow.namespace, labels=labels(workflow)
            )
            for item in items:
                status = item.get("status") or {}
                count = item["spec"].get("replicas", 1)
                if (
                    status.get("observedGeneration", 0) < item["metadata"]["generation"]
                    or status.get("updatedReplicas", 0) < count
                    or status.get("readyReplicas", 0) < count
                ):
                    return False
        return True


def _slots(deployed: Deployed) -> dict[str, list[str]]:
    """The nodes of every agent, one for each replica."""
    slots: dict[str, list[str]] = {}
    for agent in deployed.workflow.agents:
        names = [f"{agent.name}-{r}" for r in range(agent.replicas)]
        slots[agent.name] = [deployed.nodes[n] for n in names if n in deployed.nodes]
    return slots


NOTHING = (
    "`sedma deploy` needs a deployment of {name} on record. There is none. Apply it first."
)
