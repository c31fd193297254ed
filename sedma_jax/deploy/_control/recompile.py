"""Measure what runs, and place it anew when Eq. 14 says so; remember what worked.

The expected performance is the best that long-term memory has for workflows of this
structure. Placements that were tried before under similar traffic compete with the
solver's, unless they were found bad. The performance of a new placement is measured and
written to memory; if it is worse than before the move, the old placement returns.
"""

import dataclasses
import json
import math
import statistics
import time
from collections.abc import Callable, Mapping

from ..._long_term import LongTermMemory
from .._placing.deployed import Deployed
from .._placing.move_order import Room
from .._placing.patterns import LARGEST_CHOICE, MEASURED, features, structure
from .._placing.placement import Infeasible
from .._placing.placing_anew import cost_of, place_anew
from .._placing.trigger import Limits, Trigger
from .._workflow.quantity import parse_quantity
from .._workflow.specification import Workflow, gigabytes
from .controller import Controller
from .measure import Measurement
from .observe import Observed, observe
from .reconcile import wanted_of
from .record import DeploymentRecord

_ALIKE = 1.0  # distance of features, in standard deviations
_GROWTH = 1.2  # memory that a pod is given over what it uses


class Recompiler:
    """Watches one deployment; `tick` measures once, and acts if it is time to.

    **Arguments:**

    - `controller`: moves replicas.
    - `source`: gives a measurement; see `measure`.
    - `memory`: long-term memory; without it, the best performance since the start is what
        is expected.
    - `limits`: of Eq. 14.
    - `clock`: monotonic seconds.
    """

    def __init__(
        self,
        controller: Controller,
        source: Callable[[], Measurement],
        *,
        memory: LongTermMemory | None = None,
        limits: Limits | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.controller, self.source, self.clock = controller, source, clock
        self.memory, self.limits = memory, limits or Limits()
        self.trigger = Trigger(self.limits)
        self._problems: tuple[str, ...] = ()
        self._window: list[float] = []
        self._best: float | None = None  # what is expected if there is no memory
        # Performance before the last move, and the nodes then, until the move is judged.
        self._judged: tuple[float, dict[str, str]] | None = None

    def tick(self) -> str | None:
        """Measure, and place anew, resize or go back if need be; return what was done."""
        measured = self.source()
        record = self.controller.keeper.load()
        if record.wanted is None or not record.wanted.nodes:
            return None
        if measured.problems != self._problems:
            self._problems = measured.problems
            for problem in measured.problems or ("all sources answer again",):
                self.controller.said(f"measuring: {problem}")
        now = with_traffic(record.wanted.workflow, measured.traffic)
        seen = observe(self.controller.cluster, now)
        expected = self.expected(now)
        ratio = None
        if measured.performance is not None and expected:
            ratio = measured.performance / expected
        if back := self._judge(measured, now, record):
            return back
        load = utilisation(measured, seen, set(record.wanted.nodes.values()))
        cause = self.trigger.observe(ratio, load, self.clock())
        if cause is None:
            return None
        self.trigger.fired(self.clock())
        self._window.clear()
        if cause == "utilisation" and self._grow(record, measured, seen):
            return "resized"
        record = self.controller.keeper.load()
        return self._place_anew(record, now, measured, seen, cause, load or 0.0)

    def expected(self, workflow: Workflow) -> float | None:
        """The best performance on record for workflows of this structure."""
        if self.memory is None:
            return self._best
        found = self.memory.recall(MEASURED, structure(workflow))
        return max((pattern.mean for pattern in found), default=None)

    def _judge(
        self, measured: Measurement, workflow: Workflow, record: DeploymentRecord
    ) -> str | None:
        """Write to memory how well a placement performs, once enough was measured.

        If the placement was new and is worse than the one before it, that one returns.
        """
        if measured.performance is None:
            return None
        self._window.append(measured.performance)
        if len(self._window) < self.limits.samples:
            return None
        middle = statistics.median(self._window)
        self._window.clear()
        self._best = max(self._best or 0.0, middle)
        self._remember(workflow, wanted_of(record, workflow).nodes, middle)
        if self._judged is None:
            return None
        (before, nodes), self._judged = self._judged, None
        rooms = self.controller.reconciler.rooms(
            record, observe(self.controller.cluster, workflow)
        )
        worse = middle < before * (1 - self.limits.margin)
        if not worse or cost_of(workflow, nodes, rooms) is None:
            return None
        self.trigger.fired(self.clock())
        self.controller.move(
            nodes, f"{middle:.4g} after {before:.4g}: it was better before"
        )
        return "went back"

    def _remember(
        self, workflow: Workflow, nodes: Mapping[str, str], performance: float
    ) -> None:
        choice = {"nodes": dict(nodes)}
        if self.memory is None or len(json.dumps(choice)) > LARGEST_CHOICE:
            return
        self.memory.record(
            MEASURED,
            structure(workflow),
            choice,
            performance,
            features=features(workflow),
        )

    def _grow(
        self, record: DeploymentRecord, measured: Measurement, seen: Observed
    ) -> bool:
        """Give agents that outgrew their memory more of it, if their nodes have room."""
        wanted = wanted_of(record, self.controller.workflow)
        sizes = grown(record, measured, seen, self.limits.rho)
        if sizes == record.sizes:
            return False
        wider = with_sizes(wanted.workflow, sizes)
        rooms = self.controller.reconciler.rooms(record, seen)
        if cost_of(wider, wanted.nodes, rooms) is None:
            return False  # no room where they are
        self.controller.keeper.save(dataclasses.replace(record, sizes=sizes))
        self.controller.event("Resizing", f"Memory in bytes: {sizes}")
        # A node that does not support it says so; then the next measurements move pods.
        status = self.controller.settle()
        if not status.settled:
            now = self.controller.keeper.load()
            self.controller.keeper.save(dataclasses.replace(now, sizes=record.sizes))
        return status.settled

    def _place_anew(
        self,
        record: DeploymentRecord,
        workflow: Workflow,
        measured: Measurement,
        seen: Observed,
        cause: str,
        load: float,
    ) -> str | None:
        """Move to a better placement, if there is one; return what was done, or None."""
        workflow, rooms = self._as_used(record, workflow, measured, seen, load)
        old = wanted_of(record, workflow).nodes
        before = cost_of(workflow, old, rooms)
        try:
            found = place_anew(
                Deployed(workflow, old),
                rooms,
                moves=self.limits.moves,
                move_share=self.limits.move_share,
            )
        except Infeasible as error:
            self.controller.event("NoRoom", str(error), warning=True)
            return None
        nodes = self._choose(workflow, found, rooms, old)
        after = cost_of(workflow, nodes, rooms)
        gained = before is None or (
            after is not None and after < before * (1 - self.limits.gain)
        )
        if nodes == old or not gained:
            self.controller.said(f"{cause} is poor, but no placement is better: all stay")
            return None
        # Relieving a full node may cost throughput, so that is no reason to go back.
        if cause == "performance" and measured.performance is not None:
            self._judged = (measured.performance, dict(old))
        shown = "none" if before is None else f"{before:.4g}"
        self.controller.move(nodes, f"{cause}: cost {shown} -> {after:.4g}")
        return f"placed anew for {cause}"

    def _as_used(
        self,
        record: DeploymentRecord,
        workflow: Workflow,
        measured: Measurement,
        seen: Observed,
        load: float,
    ) -> tuple[Workflow, dict[str, Room]]:
        """The workflow with what it uses, and what nodes offer; memory costs more if full.

        This does not depend on the cause: else one placement would undo the other's.
        """
        rooms = self.controller.reconciler.rooms(record, seen)
        if measured.nodes is not None:
            sizes = grown(record, measured, seen, self.limits.rho)
            workflow = with_sizes(workflow, sizes)
            workflow = with_usage(workflow, measured, seen, self.limits.rho)
            rooms = spared(rooms, measured, seen, self.limits.rho)
        pressure = min(max(load, 0.0), 0.99)
        price = workflow.lambda_mem / (1 - pressure)
        return workflow.model_copy(update={"lambda_mem": price}), rooms

    def _choose(
        self,
        workflow: Workflow,
        found: dict[str, str],
        rooms: Mapping[str, Room],
        old: dict[str, str],
    ) -> dict[str, str]:
        """The cheapest of the solver's placement and those on record, without bad ones."""
        if self.memory is None or not features(workflow):
            return found
        name, best = structure(workflow), self.expected(workflow) or 0.0
        tried = [
            (pattern.choice.get("nodes"), pattern.mean)
            for pattern in self.memory.nearest(MEASURED, features(workflow), k=16)
            if pattern.workload == name and (pattern.distance or 0.0) < _ALIKE
        ]
        bad = [nodes for nodes, mean in tried if mean < self.limits.theta * best]
        candidates = [] if found in bad else [found]
        for nodes, _ in tried:
            moved = isinstance(nodes, dict) and sum(
                nodes.get(k) != node for k, node in old.items()
            )
            if nodes not in bad and moved and moved <= self.limits.moves:
                candidates.append(nodes)
        cost = lambda nodes: cost_of(workflow, nodes, rooms)
        feasible = [(c, k) for k, n in enumerate(candidates) if (c := cost(n)) is not None]
        return candidates[min(feasible)[1]] if feasible else dict(old)


def utilisation(measured: Measurement, seen: Observed, used: set[str]) -> float | None:
    """The largest share of memory or CPU that is used of any of these nodes.

    A mean would hide the one node that a new placement can relieve.
    """
    if measured.nodes is None:
        return None
    shares = [
        amount / has
        for name, amounts in measured.nodes.items()
        if name in used and (node := seen.nodes.get(name))
        for amount, has in zip(amounts, node.allocatable, strict=True)
        if has > 0
    ]
    return max(shares, default=None)


def spared(
    rooms: Mapping[str, Room], measured: Measurement, seen: Observed, rho: float
) -> dict[str, Room]:
    """What nodes offer if at most `rho` of each is to be used, others' use included."""
    ours: dict[str, tuple[float, float]] = {}
    for pod in seen.pods:
        if pod.node and measured.pods and pod.name in measured.pods:
            used, so_far = measured.pods[pod.name], ours.get(pod.node, (0.0, 0.0))
            ours[pod.node] = (so_far[0] + used[0], so_far[1] + used[1])
    found = {}
    for name, room in rooms.items():
        own = ours.get(name, (0.0, 0.0))
        used = (measured.nodes or {}).get(name, own)
        left = [
            rho * has - max(0.0, everyone - mine)
            for has, everyone, mine in zip(
                seen.nodes[name].allocatable, used, own, strict=True
            )
        ]
        memory, cpu = min(rho * room.memory, left[0]), min(rho * room.cpu, left[1])
        found[name] = Room(max(memory, 0.0), max(cpu, 0.0), room.base)
    return found


def with_traffic(
    workflow: Workflow, traffic: Mapping[tuple[str, str], float] | None
) -> Workflow:
    """The workflow with the measured volumes, in MB/s, in place of those it states."""
    if not traffic:
        return workflow
    edges = tuple(
        edge.model_copy(
            update={"volume": max(traffic[edge.source, edge.target], 1e-9), "rate": 1.0}
        )
        if (edge.source, edge.target) in traffic
        else edge
        for edge in workflow.edges
    )
    return workflow.model_copy(update={"edges": edges})


def with_usage(
    workflow: Workflow, measured: Measurement, seen: Observed, rho: float
) -> Workflow:
    """The workflow as it has to fit in `rho` of every node.

    Each agent takes `rho` of its request, or what its busiest pod uses if that is more.
    Requests then fit in the whole node, and use fits in `rho` of it.
    """
    most: dict[str, tuple[float, float]] = {}
    for pod in seen.pods:
        if measured.pods and pod.name in measured.pods:
            memory, cpu = most.get(pod.agent, (0.0, 0.0))
            used = measured.pods[pod.name]
            most[pod.agent] = (max(memory, used[0]), max(cpu, used[1]))
    agents = []
    for agent in workflow.agents:
        memory, cpu = most.get(agent.name, (0.0, 0.0))
        memory = max(memory, rho * gigabytes(agent.memory))
        cpu = max(cpu, rho * float(parse_quantity(agent.cpu)))
        update = {"memory": str(math.ceil(memory * 1e9)), "cpu": f"{cpu:.6f}"}
        agents.append(agent.model_copy(update=update))
    return workflow.model_copy(update={"agents": tuple(agents)})


def with_sizes(workflow: Workflow, sizes: Mapping[str, int]) -> Workflow:
    """The workflow with the memory, in bytes, that agents were resized to."""
    agents = tuple(
        agent.model_copy(update={"memory": str(sizes[agent.name])})
        if sizes.get(agent.name, 0) / 1e9 > gigabytes(agent.memory)
        else agent
        for agent in workflow.agents
    )
    return workflow.model_copy(update={"agents": agents})


def grown(
    record: DeploymentRecord, measured: Measurement, seen: Observed, rho: float
) -> dict[str, int]:
    """Memory, in bytes, for the agents with a pod that uses more than `rho` of its own."""
    sizes = dict(record.sizes)
    for pod in seen.pods:
        used = (measured.pods or {}).get(pod.name, (0.0, 0.0))[0]
        if pod.state == "ready" and used > rho * pod.memory:
            sizes[pod.agent] = max(sizes.get(pod.agent, 0), math.ceil(used * _GROWTH * 1e9))
    return sizes
