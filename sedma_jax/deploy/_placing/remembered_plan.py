"""Place a workflow with the help of long-term memory, and remember the placement."""

import dataclasses
import hashlib
import json
import math
from collections.abc import Iterable
from typing import Any

import jax
import numpy as np

from ..._long_term import LongTermMemory
from ...kernels import PlacementProblem
from .._workflow.specification import Workflow, gigabytes
from .patterns import LARGEST_CHOICE, MEASURED, PLANNED, features, structure
from .placement import Placement, place, placed_cost
from .problem import placement_problem, replica_names
from .trigger import Limits

_FEATURES = 192  # nodes that give a feature; memory takes 256, with those of edges


def remembered_plan(
    workflow: Workflow,
    memory: LongTermMemory | None,
    *,
    prove_seconds: float = 10.0,
    key: jax.Array,
) -> tuple[Placement, dict[str, Any]]:
    """Place a workflow on its nodes, starting from what is remembered.

    A placement that was proven optimal for the very same problem is taken as it is. The
    search starts from placements of the same workflow on the same nodes under other
    traffic. A placement that `sedma deploy watch` measured and found bad (`theta` of
    Eq. 14) is not taken again if something better was measured.

    **Arguments:** as `place`; without `memory` nothing is recalled or written.

    **Returns:** the placement, and for the trace: `choice`, which is `recalled` if a
    remembered placement was taken and `explored` if the search found another one;
    `patterns`, the number found; `expected`, the least cost on record; `written`, the
    number of patterns written.

    **Raises:** as `place`.

    **Example:**

        >>> memory, flow = sj.memory.open("sqlite://"), sj.deploy.default_workflow()
        >>> for seed in range(2):
        ...     key = jr.key(seed)
        ...     found, told = sj.deploy.remembered_plan(flow, memory, key=key)
        ...     print(told["choice"], told["patterns"], found.nodes)
        explored 0 [0]
        recalled 1 [0]
    """
    problem = placement_problem(workflow)
    if memory is None:
        found = place(problem, prove_seconds=prove_seconds, key=key)
        return found, {"choice": "explored", "patterns": 0, "written": 0}
    known = _recalled(workflow, problem, memory)
    found = known.proven
    if found is None:
        start = known.cheapest
        found = place(problem, prove_seconds=prove_seconds, start=start, key=key)
    found = _unless_bad(found, problem, known)
    return found, {
        "choice": "recalled" if _among(found.nodes, known.starts) else "explored",
        "patterns": len(known.starts),
        "expected": known.expected,
        "written": int(_written(workflow, problem, found, memory)),
    }


@dataclasses.dataclass(frozen=True)
class _Recalled:
    """What memory has for a workflow on its nodes.

    - `starts`: placements that a search may start from, those measured good last.
    - `cheapest`: the one of them that is feasible and costs least; `expected`: its cost.
    - `proven`: a placement that was proven optimal for the very same problem.
    - `good`, `bad`: placements that `sedma deploy watch` measured, the best first.
    """

    starts: list[np.ndarray]
    cheapest: np.ndarray | None
    expected: float | None
    proven: Placement | None
    good: list[np.ndarray]
    bad: list[np.ndarray]


def _recalled(
    workflow: Workflow, problem: PlacementProblem, memory: LongTermMemory
) -> _Recalled:
    known = _placements(workflow, memory.recall(PLANNED, _class(workflow)))
    good, bad = _measured(workflow, memory)
    starts = [nodes for _, nodes in known] + good
    costs = [placed_cost(problem, nodes) for nodes in starts]
    ranked = sorted((float(c.total), k) for k, c in enumerate(costs) if bool(c.feasible))
    return _Recalled(
        starts=starts,
        cheapest=starts[ranked[0][1]] if ranked else None,
        expected=ranked[0][0] if ranked else None,
        proven=_proven(problem, known),
        good=good,
        bad=bad,
    )


def _measured(
    workflow: Workflow, memory: LongTermMemory
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Placements that `sedma deploy watch` measured: the good ones, then the bad ones."""
    patterns = memory.recall(MEASURED, structure(workflow))
    least = Limits().theta * max((pattern.mean for pattern in patterns), default=0.0)
    known = _placements(workflow, patterns)
    good = [nodes for pattern, nodes in known if pattern.mean >= least]
    return good, [nodes for pattern, nodes in known if pattern.mean < least]


def _proven(
    problem: PlacementProblem, known: list[tuple[Any, np.ndarray]]
) -> Placement | None:
    digest = _digest(problem)
    for pattern, nodes in known:
        same = pattern.choice.get("problem") == digest
        if same and pattern.choice.get("optimal") is True:
            cost = placed_cost(problem, nodes)
            return Placement(
                nodes=nodes,
                cost=cost,
                bound=float(cost.total),
                optimal=True,
                proposals=0.0,
            )
    return None


def _unless_bad(found: Placement, problem: PlacementProblem, known: _Recalled) -> Placement:
    """The placement; or a measured good one, if this one was measured bad."""
    if not _among(found.nodes, known.bad):
        return found
    for nodes in known.good:
        cost = placed_cost(problem, nodes)
        if bool(cost.feasible):
            return dataclasses.replace(found, nodes=nodes, cost=cost, optimal=False)
    return found


def _written(
    workflow: Workflow, problem: PlacementProblem, found: Placement, memory: LongTermMemory
) -> bool:
    """Write a placement to memory, unless it is too large; whether it was written."""
    names = [workflow.nodes[q].name for q in found.nodes.tolist()]
    choice = {
        "nodes": dict(zip(replica_names(workflow), names, strict=True)),
        "problem": _digest(problem),
        "optimal": bool(found.optimal),
    }
    if len(json.dumps(choice)) > LARGEST_CHOICE:
        return False
    reward = -float(found.cost.total)
    place_of = [*features(workflow), *_node_features(workflow)]
    memory.record(PLANNED, _class(workflow), choice, reward, features=place_of or None)
    return True


def _class(workflow: Workflow) -> str:
    """Name the structure of a workflow together with its nodes."""
    text = json.dumps(sorted(node.name for node in workflow.nodes))
    return f"{structure(workflow)}|{hashlib.sha256(text.encode()).hexdigest()[:10]}"


def _digest(problem: PlacementProblem) -> str:
    """Hash a problem; two with the same digest have the same optimum."""
    hashed = hashlib.sha256(str(problem.groups).encode())
    for leaf in jax.tree.leaves(problem):
        array = np.asarray(leaf)
        hashed.update(f"{array.shape}{array.dtype}".encode() + array.tobytes())
    return hashed.hexdigest()[:32]


def _placements(
    workflow: Workflow, patterns: Iterable[Any]
) -> list[tuple[Any, np.ndarray]]:
    """Patterns with their placement as numbers of nodes; those that apply here alone."""
    names = replica_names(workflow)
    number = {node.name: place for place, node in enumerate(workflow.nodes)}
    found = []
    for pattern in patterns:
        chosen = pattern.choice.get("nodes")
        if isinstance(chosen, dict) and all(chosen.get(name) in number for name in names):
            numbers = [number[chosen[name]] for name in names]
            found.append((pattern, np.array(numbers, np.int32)))
    return found


def _among(placement: np.ndarray, others: Iterable[np.ndarray]) -> bool:
    return any(np.array_equal(placement, other) for other in others)


def _node_features(workflow: Workflow) -> list[float]:
    """Give log2 of the memory in MB of the nodes, at most the first 192 by name."""
    nodes = sorted(workflow.nodes, key=lambda node: node.name)[:_FEATURES]
    return [math.log2(1 + 1e3 * gigabytes(node.memory)) for node in nodes]
