"""Look at the cluster once, and do what is due: assign nodes, evict, clear lost nodes.

Pods wait for their node behind a scheduling gate (`pod_node`). A move evicts a pod, so that
disruption budgets hold, and gives its successor the new node; `moves` decides which.
"""

import dataclasses
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping

from .._json import JsonObject
from .._manifests.objects import labels
from .._manifests.pod_node import node_assignment
from .._placing.deployed import Deployed, nodes_by_agent
from .._placing.move_order import NoOrder, Room, Step, fits
from .._workflow.quantity import parse_quantity
from .._workflow.specification import Workflow, gigabytes
from .cluster import Cluster, ClusterError
from .moves import Goal, first_wave, goal_of, present_on_nodes, quiet, shared_weights
from .observe import Observed, Pod, observe
from .record import DeploymentRecord, RecordKeeper


@dataclasses.dataclass(frozen=True)
class Settings:
    """How patient a controller is, in seconds."""

    deadline: float = 300.0  # for a rollout to get ready
    lost_after: float = 30.0  # that a node may be away
    interval: float = 10.0  # between looks, if nothing changes


@dataclasses.dataclass(frozen=True)
class DeploymentStatus:
    """What one step of the reconciler found and did."""

    ready: int  # replicas that are ready on their node
    wanted: int
    settled: bool
    lost: tuple[str, ...] = ()  # nodes of the plan that are lost
    evicted: int = 0
    problems: tuple[str, ...] = ()
    away: tuple[str, ...] = ()  # nodes of the workflow that are not ready, lost or not
    done: tuple[str, ...] = ()  # what this step did, a line each


class Reconciler:
    """Brings pods to where the record wants them, step by step; see `Controller`."""

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
        self._done: list[str] = []  # in this step

    def step(self) -> DeploymentStatus:
        """Do what is due now: assign waiting pods, evict what moves, clear lost nodes."""
        record = self.keeper.load()
        wanted = wanted_of(record, self.workflow)
        seen = observe(self.cluster, self.workflow)
        self.version = seen.version
        self._done.clear()
        lost = self._lost(wanted.workflow, seen)
        self._clear(wanted.workflow, seen, lost)
        problems: list[str] = []
        evicted = 0
        if wanted.nodes:
            try:
                evicted = self._place(wanted, record.sizes, seen, lost)
            except NoOrder as error:
                problems.append(str(error))
        problems += self._resize(record, seen)
        self.moves += evicted
        return self._status(wanted, seen, lost, evicted, problems)

    def rooms(self, record: DeploymentRecord, seen: Observed) -> dict[str, Room]:
        """Give what nodes offer now, without lost, cordoned and tainted ones."""
        workflow = wanted_of(record, self.workflow).workflow
        return self.rooms_of(workflow, seen, self._lost(workflow, seen))

    def rooms_of(
        self, workflow: Workflow, seen: Observed, lost: Collection[str]
    ) -> dict[str, Room]:
        """Give the rooms of a workflow that is not on record yet."""
        rooms = {}
        for node in workflow.nodes:
            live = seen.nodes.get(node.name)
            if live and live.ready and live.open and node.name not in lost:
                rooms[node.name] = Room(
                    min(gigabytes(node.memory), live.memory),
                    min(float(parse_quantity(node.cpu)), live.cpu),
                    gigabytes(node.base),
                )
        return rooms

    def _place(
        self,
        deployed: Deployed,
        sizes: Mapping[str, int],
        seen: Observed,
        lost: Collection[str],
    ) -> int:
        """Do the first wave of moves towards the plan; return the number of evictions."""
        rooms = self.rooms_of(deployed.workflow, seen, lost)
        weights = shared_weights(deployed)
        goal = goal_of(deployed, sizes, seen, lost, rooms)
        wave = first_wave(goal, rooms, weights)
        arrivals = [step for step in wave if step.source is None]
        self._assign_nodes(arrivals, goal, seen, rooms, weights)
        leaving = [step for step in wave if step.source is not None]
        if not quiet(goal, seen):
            return 0
        evicted = 0
        for step in leaving:
            pod = goal.pods[step.replica]
            if self.cluster.evict(pod.meta):
                self._done.append(f"evicted {pod.name} from {pod.node} for {step.target}")
                evicted += 1
            else:
                self._done.append(f"{pod.name} stays on {pod.node}: its budget")
        return evicted

    def _assign_nodes(
        self,
        arrivals: list[Step],
        goal: Goal,
        seen: Observed,
        rooms: Mapping[str, Room],
        weights: Mapping[str, float],
    ) -> None:
        """Give waiting pods their nodes, as far as these have room for them now."""
        present = present_on_nodes(goal, seen)
        for step in arrivals:
            assert step.target is not None
            here = present.setdefault(step.target, [])
            replica = goal.replicas[step.replica]
            if fits(rooms[step.target], [*here, replica], weights):
                here.append(replica)
                self._assign_node(goal.pods[step.replica], step.target)

    def _assign_node(self, pod: Pod, node: str) -> None:
        meta = {k: pod.meta[k] for k in ("name", "namespace", "resourceVersion")}
        try:
            body = {"metadata": meta, "spec": node_assignment(node)}
            self.cluster.patch("v1", "Pod", body)
            self._done.append(f"{pod.name} goes to {node}")
        except ClusterError as error:
            if error.status not in (404, 409):  # gone or changed: the next step sees it
                raise

    def _resize(self, record: DeploymentRecord, seen: Observed) -> list[str]:
        """Give running pods the memory that the record has for them; say what failed."""
        problems = []
        for pod in seen.pods:
            size = record.sizes.get(pod.agent, 0)
            if pod.state == "ready" and size / 1e9 > pod.memory * (1 + 1e-6):
                try:
                    self.resize(pod, size)
                except ClusterError as error:
                    if error.status not in (404, 405, 409, 422):
                        raise
                    problems.append(f"{pod.name} was not resized: {error.said}")
        return problems

    def resize(self, pod: Pod, size: int) -> None:
        """Set the memory of a running pod, in bytes, in place."""
        memory = {"memory": str(size)}
        body: JsonObject = {
            "metadata": {k: pod.meta[k] for k in ("name", "namespace")},
            "spec": {
                "containers": [
                    {"name": "agent", "resources": {"requests": memory, "limits": memory}}
                ]
            },
        }
        self.cluster.resize(body)
        self._done.append(f"{pod.name} gets {size} bytes of memory")

    def _lost(self, workflow: Workflow, seen: Observed) -> tuple[str, ...]:
        """Nodes that were deleted, or have not been ready for `lost_after` seconds."""
        now, lost = self.clock(), []
        for node in workflow.nodes:
            live = seen.nodes.get(node.name)
            if live is not None and live.ready:
                self._away.pop(node.name, None)
                continue
            since = self._away.setdefault(node.name, now)
            if live is None or now - since >= self.settings.lost_after:
                lost.append(node.name)
        return tuple(lost)

    def _clear(self, workflow: Workflow, seen: Observed, lost: Collection[str]) -> None:
        """Delete pods of lost nodes at once; their successors would wait for them.

        A stateful pod of a node that may still run is left: two pods of one name would
        write to one disk.
        """
        stateful = {agent.name for agent in workflow.agents if agent.stateful}
        for pod in seen.pods:
            gone = pod.node is not None and pod.node not in seen.nodes
            if gone or (pod.node in lost and pod.agent not in stateful):
                self.cluster.delete("v1", "Pod", pod.meta, seconds=0)
                self._done.append(f"deleted {pod.name} of the lost node {pod.node}")

    def _status(
        self,
        deployed: Deployed,
        seen: Observed,
        lost: Collection[str],
        evicted: int,
        problems: list[str],
    ) -> DeploymentStatus:
        alive = [pod for pod in seen.pods if pod.state != "ended"]
        ready, complete = _ready(deployed, alive)
        settled = complete and not problems
        problems = problems + [f"{p.name}: {p.problem}" for p in alive if p.problem]
        if settled:
            settled = not evicted and self._rolled_out(deployed.workflow)
        elif not problems:
            late = sorted(p.name for p in alive if p.state in ("gated", "starting"))
            if late:
                problems.append(f"not ready: {', '.join(late[:5])}")
        used = set(deployed.nodes.values())
        return DeploymentStatus(
            ready=ready,
            wanted=sum(agent.replicas for agent in deployed.workflow.agents),
            settled=settled,
            lost=tuple(node for node in lost if node in used),
            evicted=evicted,
            problems=tuple(problems),
            away=tuple(n.name for n in deployed.workflow.nodes if n.name in self._away),
            done=tuple(self._done),
        )

    def _rolled_out(self, workflow: Workflow) -> bool:
        """Whether the cluster's own controllers have carried out the last revision."""
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


def _ready(deployed: Deployed, alive: list[Pod]) -> tuple[int, bool]:
    """How many replicas are ready where they belong, and whether that is all there is."""
    slots = nodes_by_agent(deployed)
    total, complete = 0, True
    for agent in deployed.workflow.agents:
        mine = [pod for pod in alive if pod.agent == agent.name]
        at = Counter(pod.node for pod in mine if pod.state == "ready")
        plan: Counter[str | None] = Counter(slots[agent.name])
        placed = (at & plan).total() if deployed.nodes else at.total()
        total += placed
        complete &= placed >= agent.replicas and len(mine) == at.total()
    return total, complete


def wanted_of(record: DeploymentRecord, workflow: Workflow) -> Deployed:
    """What the record of a workflow wants.

    **Raises:** `ValueError` if nothing is on record.
    """
    if record.wanted is None:
        raise ValueError(
            f"`sedma deploy` needs a deployment of {workflow.name} on record. There is "
            "none. Apply it first."
        )
    return record.wanted
