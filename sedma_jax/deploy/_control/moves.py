"""Which pods are to move: where each belongs, and the first wave of moves towards that."""

import dataclasses
from collections import Counter
from collections.abc import Collection, Mapping

from .._placing.deployed import Deployed, nodes_by_agent
from .._placing.move_order import Replica, Room, Step, fits, order_moves, waves
from .._workflow.specification import Agent, gigabytes
from .observe import Observed, Pod


@dataclasses.dataclass(frozen=True)
class Goal:
    """Where pods are and where they belong, by the name of the pod.

    - `pods`: those that a plan can move: neither leaving, nor ended, nor on a lost node.
    - `replicas`: what each of them takes.
    - `start`: the node of each, None while it waits for one.
    - `target`: the node where it belongs; left out if no usable node is known for it.
    """

    pods: dict[str, Pod]
    replicas: dict[str, Replica]
    start: dict[str, str | None]
    target: dict[str, str]


def goal_of(
    deployed: Deployed,
    sizes: Mapping[str, int],
    seen: Observed,
    lost: Collection[str],
    rooms: Mapping[str, Room],
) -> Goal:
    """Decide where each pod belongs.

    A pod that runs on a node of its agent's plan stays there; the plan's free nodes go to
    the agent's other pods. Pods beyond the plan, which an autoscaler added, stay where they
    are or take the first node with room.

    **Arguments:**

    - `deployed`: the plan.
    - `sizes`: memory, in bytes, of agents that were resized.
    - `seen`: what runs now.
    - `lost`: names of lost nodes; their pods are gone or will be deleted.
    - `rooms`: nodes that may be used.
    """
    pods: dict[str, Pod] = {}
    replicas: dict[str, Replica] = {}
    planned: dict[str, str] = {}
    slots = nodes_by_agent(deployed)
    for agent in deployed.workflow.agents:
        mine = _movable(agent, seen, lost)
        size = sizes.get(agent.name, 0) / 1e9
        pods |= {pod.name: pod for pod in mine}
        replicas |= {pod.name: _replica(agent, pod, size) for pod in mine}
        planned |= _assigned(mine, slots[agent.name])
    start = {name: pod.node for name, pod in pods.items()}
    target = {name: node for name, node in planned.items() if node in rooms}
    extra = [name for name in start if name not in target and start[name] is None]
    weights = shared_weights(deployed)
    for name in extra:
        for node, room in rooms.items():
            there = [replicas[n] for n, q in target.items() if q == node]
            if fits(room, [*there, replicas[name]], weights):
                target[name] = node
                break
    for name, node in start.items():
        if name not in target and node is not None and node in rooms:
            target[name] = node  # it stays, and takes room there
    return Goal(pods=pods, replicas=replicas, start=start, target=target)


def first_wave(
    goal: Goal, rooms: Mapping[str, Room], weights: Mapping[str, float]
) -> list[Step]:
    """The steps towards a goal that may be done now, all at the same time.

    **Raises:** `NoOrder` if the goal cannot be reached.
    """
    names = [name for name in goal.start if name in goal.target]
    start = {name: goal.start[name] for name in names}
    target = {name: goal.target[name] for name in names}
    replicas = [goal.replicas[name] for name in names]
    order = order_moves(replicas, rooms, start, target, weights=weights)
    found = waves(order, replicas, rooms, start, weights=weights)
    return found[0] if found else []


def quiet(goal: Goal, seen: Observed) -> bool:
    """Whether the last wave is over: no pod is leaving, or starting where it belongs.

    A pod that starts where it does not belong need not get ready before it leaves.
    """
    arriving = lambda pod: (
        pod.state == "starting" and goal.target.get(pod.name, pod.node) == pod.node
    )
    return not any(pod.state == "leaving" or arriving(pod) for pod in seen.pods)


def present_on_nodes(goal: Goal, seen: Observed) -> dict[str, list[Replica]]:
    """What takes room on every node now, pods that are leaving included."""
    found: dict[str, list[Replica]] = {}
    for pod in seen.pods:
        known = goal.replicas.get(pod.name)
        if pod.node and (known or pod.state != "ended"):
            replica = known or Replica(name=pod.name, memory=pod.memory, cpu=pod.cpu)
            found.setdefault(pod.node, []).append(replica)
    return found


def shared_weights(deployed: Deployed) -> dict[str, float]:
    """GB of every model that the agents of one node share."""
    return {model.name: gigabytes(model.memory) for model in deployed.workflow.models}


def _movable(agent: Agent, seen: Observed, lost: Collection[str]) -> list[Pod]:
    return [
        pod
        for pod in sorted(seen.pods, key=lambda p: p.name)
        if pod.agent == agent.name
        and pod.state in ("gated", "starting", "ready")
        and pod.node not in lost
    ]


def _replica(agent: Agent, pod: Pod, size: float) -> Replica:
    """What a pod takes: what it requests, or what its agent or the record asks for now."""
    return Replica(
        name=pod.name,
        memory=max(pod.memory, gigabytes(agent.memory), size),
        cpu=pod.cpu,
        model=agent.model,
        group=agent.name if agent.replicas > 1 else None,
    )


def _assigned(pods: list[Pod], nodes: list[str]) -> dict[str, str]:
    """Give an agent's pods its planned nodes, those that they run on already first."""
    free = Counter(nodes)
    found: dict[str, str] = {}
    rest = []
    for pod in pods:
        if pod.node is not None and free[pod.node] > 0:
            free[pod.node] -= 1
            found[pod.name] = pod.node
        else:
            rest.append(pod)
    # Pods that wait for a node come first: they serve nobody where they are.
    rest.sort(key=lambda pod: (pod.node is not None, pod.name))
    return found | {
        pod.name: node for pod, node in zip(rest, free.elements(), strict=False)
    }
