"""Place a workflow by what is remembered of placing it, and write back what was found."""

import dataclasses
import hashlib
import json
import math
from typing import Any

import jax
import numpy as np

from ...kernels import PlacementProblem
from .._control.trigger import Limits
from .._workflow.specification import Workflow, gigabytes
from .patterns import KIND as MEASURED, Remembers, features, structure
from .placement import Placement, place, placed_cost
from .problem import placement_problem, replica_names

KIND = "placement"  # of patterns in long-term memory; the reward is minus the cost
_LARGEST = 2**14 - 512  # bytes of a choice that memory takes
_FEATURES = 192  # of nodes; with those of edges, memory takes 256


def remembered_plan(
    workflow: Workflow,
    memory: Remembers | None,
    *,
    prove_seconds: float = 10.0,
    key: jax.Array,
) -> tuple[Placement, dict[str, Any]]:
    """Place a workflow on its nodes, starting from what is remembered.

    A placement that was proven optimal for the very same problem is taken as it is. One of
    the same workflow on the same nodes under other traffic is where the search starts. What
    `sedma deploy watch` measured and found bad (`theta` of Eq. 14) is not taken again
    where something better was measured.

    **Arguments:** as `place`; without `memory` nothing is recalled or written.

    **Returns:** the placement, and for the trace: `choice`, `recalled` where a remembered
    placement was taken and `explored` where another was searched for and found;
    `patterns` found; `expected`, the least cost on record; `written` patterns.

    **Raises:** as `place`.
    """
    problem = placement_problem(workflow)
    if memory is None:
        found = place(problem, prove_seconds=prove_seconds, key=key)
        return found, {"choice": "explored", "patterns": 0, "written": 0}
    names, nodes = replica_names(workflow), [node.name for node in workflow.nodes]
    digest = _digest(problem)
    patterns = memory.recall(KIND, _class(workflow))
    known = [(p, n) for p in patterns if (n := _nodes(p, names, nodes)) is not None]
    good, bad = _measured(workflow, memory, names, nodes)
    starts = [n for _, n in known] + good
    costs = [placed_cost(problem, n) for n in starts]
    ranked = sorted((float(c.total), k) for k, c in enumerate(costs) if bool(c.feasible))
    start = starts[ranked[0][1]] if ranked else None
    proven = [
        n
        for p, n in known
        if p.choice.get("problem") == digest and p.choice.get("optimal") is True
    ]
    if proven:
        cost = placed_cost(problem, proven[0])
        found = Placement(proven[0], cost, float(cost.total), True, 0.0)
    else:
        found = place(problem, prove_seconds=prove_seconds, start=start, key=key)
    if _among(found.nodes, bad) and (better := [n for n in good if _fits(problem, n)]):
        found = dataclasses.replace(
            found, nodes=better[0], cost=placed_cost(problem, better[0]), optimal=False
        )
    choice = {
        "nodes": dict(zip(names, (nodes[q] for q in found.nodes.tolist()), strict=True)),
        "problem": digest,
        "optimal": bool(found.optimal),
    }
    written = len(json.dumps(choice)) <= _LARGEST
    if written:
        reward = -float(found.cost.total)
        place_of = [*features(workflow), *_node_features(workflow)]
        memory.record(KIND, _class(workflow), choice, reward, features=place_of or None)
    return found, {
        "choice": "recalled" if _among(found.nodes, starts) else "explored",
        "patterns": len(starts),
        "expected": ranked[0][0] if ranked else None,
        "written": int(written),
    }


def _class(workflow: Workflow) -> str:
    """The structure of a workflow, and the names of the nodes it may go to."""
    text = json.dumps(sorted(node.name for node in workflow.nodes))
    return f"{structure(workflow)}|{hashlib.sha256(text.encode()).hexdigest()[:10]}"


def _digest(problem: PlacementProblem) -> str:
    """What tells one problem from another: of the same, the same placement is best."""
    hashed = hashlib.sha256(str(problem.groups).encode())
    for leaf in jax.tree.leaves(problem):
        array = np.asarray(leaf)
        hashed.update(f"{array.shape}{array.dtype}".encode() + array.tobytes())
    return hashed.hexdigest()[:32]


def _nodes(pattern, names, nodes) -> np.ndarray | None:
    """The placement of a pattern as places in `nodes`; None where it does not apply."""
    chosen = pattern.choice.get("nodes")
    if not isinstance(chosen, dict) or any(chosen.get(n) not in nodes for n in names):
        return None
    return np.array([nodes.index(chosen[name]) for name in names], np.int32)


def _measured(workflow, memory, names, nodes):
    """Placements that `sedma deploy watch` measured: those to take, best first, and bad."""
    patterns = memory.recall(MEASURED, structure(workflow))
    least = Limits().theta * max((p.mean for p in patterns), default=0.0)
    known = [(p.mean, n) for p in patterns if (n := _nodes(p, names, nodes)) is not None]
    good = [n for mean, n in known if mean >= least]
    return good, [n for mean, n in known if mean < least]


def _among(placement, others) -> bool:
    return any(np.array_equal(placement, other) for other in others)


def _fits(problem, placement) -> bool:
    return bool(placed_cost(problem, placement).feasible)


def _node_features(workflow: Workflow) -> list[float]:
    """log2 of the memory in MB of every node, at most some, by name."""
    nodes = sorted(workflow.nodes, key=lambda node: node.name)[:_FEATURES]
    return [math.log2(1 + 1e3 * gigabytes(node.memory)) for node in nodes]
