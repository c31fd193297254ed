"""Place a running workflow anew, on the nodes that it can use now, where moves cost."""

import math
from collections.abc import Mapping

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from ...kernels import placement_cost
from .._workflow.specification import Workflow
from .deployed import Deployed
from .move_order import Room
from .placement import PROVABLE, Infeasible, place, shortages
from .problem import placement_problem, replica_names
from .proof import prove


def place_anew(
    deployed: Deployed,
    rooms: Mapping[str, Room],
    *,
    moves: float = math.inf,
    move_share: float = 0.01,
    seconds: float = 5.0,
    key: jax.Array | None = None,
) -> dict[str, str]:
    """Find nodes for all replicas near the optimum of Eq. 11-13, with a cost per move.

    **Arguments:**

    - `deployed`: the workflow, with volumes and rates as they are now, and where its
        replicas run.
    - `rooms`: nodes that may be used, and what they offer.
    - `moves`: the greatest number of replicas to move, not counting those without a node.
    - `move_share`: cost of a move, as a share of what the present placement costs.
    - `seconds`: wall time of the proof, for 30 replicas or fewer.
    - `key`: for the annealing of larger workflows.

    **Returns:** the node of every replica.

    **Raises:** `Infeasible`.
    """
    workflow = _on(deployed.workflow, rooms)
    at = {node.name: q for q, node in enumerate(workflow.nodes)}
    names = replica_names(workflow)
    kept = np.array([deployed.nodes.get(n) in at for n in names])
    home = np.array([at.get(deployed.nodes.get(n, ""), 0) for n in names], np.int32)
    before = placement_cost(placement_problem(workflow), jnp.asarray(home))
    problem = placement_problem(
        workflow,
        home=home,
        move_cost=move_share * float(before.total),
        move_budget=moves + int((~kept).sum()),
    )
    free = jnp.where(jnp.asarray(kept), problem.move_cost, 0)
    problem = eqx.tree_at(lambda p: p.move_cost, problem, free)
    found = None
    if len(names) <= PROVABLE and not shortages(problem):
        # No annealing first: compiling it takes longer than most of these proofs.
        found = prove(problem, hint=home, seconds=seconds).placement
    if found is None:
        key = jr.key(0) if key is None else key
        found = place(problem, prove_seconds=seconds, key=key).nodes
    return {n: workflow.nodes[q].name for n, q in zip(names, found.tolist(), strict=True)}


def cost_of(
    workflow: Workflow, nodes: Mapping[str, str], rooms: Mapping[str, Room]
) -> float | None:
    """Give the cost of a placement on these nodes; None if it is not feasible."""
    workflow = _on(workflow, rooms)
    at = {node.name: q for q, node in enumerate(workflow.nodes)}
    names = replica_names(workflow)
    if any(nodes.get(n) not in at for n in names):
        return None
    problem = placement_problem(workflow)
    placement = jnp.asarray(np.array([at[nodes[n]] for n in names], np.int32))
    cost = placement_cost(problem, placement)
    return float(cost.total) if bool(cost.feasible) else None


def _on(workflow: Workflow, rooms: Mapping[str, Room]) -> Workflow:
    """The workflow on the nodes that may be used, at their present capacity."""
    nodes = tuple(
        node.model_copy(
            update={
                "memory": str(int(rooms[node.name].memory * 1e9)),
                "cpu": f"{rooms[node.name].cpu:.6f}",
            }
        )
        for node in workflow.nodes
        if node.name in rooms
    )
    if not nodes:
        raise Infeasible("No placement is possible: no node of the workflow can be used.")
    names = {node.name for node in nodes}
    agents = []
    for agent in workflow.agents:
        left = tuple(n for n in agent.nodes if n in names)
        if agent.nodes and not left:
            raise Infeasible(
                f"No placement is possible: {agent.name} may run on "
                f"{', '.join(agent.nodes)} only, and none of these can be used."
            )
        agents.append(agent.model_copy(update={"nodes": left}))
    return workflow.model_copy(update={"nodes": nodes, "agents": tuple(agents)})
