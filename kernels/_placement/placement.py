"""Cost and constraints of a placement of agents on nodes (Eq. 11-13).

Agent `i` on node `p` takes `memory_i` GB and `cpu_i` cores there. The first agent on a
node adds `base_p` GB of runtime, and the first agent of shared model `k` adds the weights
of the model, `weights_k` GB, which later agents of that model share. The cost is

    sum_ij volume_ij distance[p_i, p_j] + lambda_mem overhead + sum_i move_cost_i [moved],

where `overhead` is the base memory and weights in GB, and `distance` is the latency /
bandwidth of Eq. 13, zero within one node.
"""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int


class PlacementProblem(eqx.Module):
    """Agents, their edges, and the nodes they may be placed on.

    Every edge occurs once in `first`, `second` and `volume`, and twice in the rows of
    `neighbours` and `neighbour_volume`, which are padded with the agent itself at volume 0.

    - `first`, `second`: the agents of each edge; `volume`: its GB in the planning period.
    - `memory`, `cpu`: GB and cores of each agent.
    - `model`: its shared model; the last one means none.
    - `group`: at most one agent of a group per node; the last one means none.
    - `allowed`: nodes that each agent may run on.
    - `home`: node on which it runs now; `move_cost`: cost of moving it from there.
    - `move_budget`: most agents that may move; infinite for no limit.
    - `distance`: between nodes, symmetric, zero on the diagonal.
    - `node_memory`, `node_cpu`: GB and cores of each node.
    - `base`: GB of runtime on a node in use.
    - `weights`: GB of each shared model; the last one is 0.
    - `lambda_mem`: cost of one GB of overhead.
    - `groups`: number of groups, the last included. Static.

    **Example:**

        >>> what = dict(entry="app:answer", memory="1Gi", cpu="1")
        >>> agents = tuple(sj.deploy.Agent(name=n, **what) for n in ("front", "back"))
        >>> edge = sj.deploy.Edge(source="front", target="back", volume=2.0, rate=10.0)
        >>> sizes = dict(memory="4Gi", cpu="2")
        >>> nodes = tuple(sj.deploy.ClusterNode(name=n, **sizes) for n in "ab")
        >>> flow = sj.deploy.Workflow(name="w", agents=agents, edges=(edge,), nodes=nodes)
        >>> problem = sj.deploy.placement_problem(flow)
        >>> print(problem.volume, problem.allowed.shape)  # 2 MB, 10 times a second
        [20.] (2, 2)
    """

    first: Int[Array, " edges"]
    second: Int[Array, " edges"]
    volume: Float[Array, " edges"]
    neighbours: Int[Array, "agents degree"]
    neighbour_volume: Float[Array, "agents degree"]
    memory: Float[Array, " agents"]
    cpu: Float[Array, " agents"]
    model: Int[Array, " agents"]
    group: Int[Array, " agents"]
    allowed: Bool[Array, "agents nodes"]
    home: Int[Array, " agents"]
    move_cost: Float[Array, " agents"]
    move_budget: Float[Array, ""]
    distance: Float[Array, "nodes nodes"]
    node_memory: Float[Array, " nodes"]
    node_cpu: Float[Array, " nodes"]
    base: Float[Array, " nodes"]
    weights: Float[Array, " models"]
    lambda_mem: Float[Array, ""]
    groups: int = eqx.field(static=True)


class PlacementCost(eqx.Module):
    """The parts of a placement's cost, and by how much it breaks its constraints.

    - `total`: Eq. 11, `communication + lambda_mem overhead + migration`.
    - `communication`: the sum of `volume * distance`.
    - `overhead`: GB of runtime and of shared models.
    - `migration`: cost of the agents away from home.
    - `memory_excess`, `cpu_excess`: GB and cores above the capacity of each node.
    - `conflicts`: agents beyond the first of their group on a node.
    - `budget_excess`: moves above the budget.
    - `feasible`: whether all of these are zero within rounding.

    **Example:**

        >>> problem = sj.deploy.placement_problem(sj.deploy.default_workflow())
        >>> start = jnp.zeros(len(problem.memory), jnp.int32)
        >>> cost = sj.kernels.placement_cost(problem, start)
        >>> bool(cost.total == cost.communication + problem.lambda_mem * cost.overhead)
        True
        >>> bool(cost.feasible), float(cost.communication)  # all agents on one node
        (True, 0.0)
    """

    total: Float[Array, ""]
    communication: Float[Array, ""]
    overhead: Float[Array, ""]
    migration: Float[Array, ""]
    memory_excess: Float[Array, " nodes"]
    cpu_excess: Float[Array, " nodes"]
    conflicts: Float[Array, ""]
    budget_excess: Float[Array, ""]
    feasible: Bool[Array, ""]


class NodeLoads(eqx.Module):
    """The load that the agents of a placement put on every node."""

    memory: Float[Array, " nodes"]  # GB, base and weights included
    cpu: Float[Array, " nodes"]  # cores
    agents: Float[Array, " nodes"]
    of_model: Float[Array, "nodes models"]  # agents of each model
    of_group: Float[Array, "nodes groups"]  # agents of each group
    moved: Float[Array, ""]  # agents away from home


def node_loads(problem: PlacementProblem, placement: Int[Array, " agents"]) -> NodeLoads:
    """Compute the load that a placement puts on every node.

    **Arguments:**

    - `problem`: agents, edges and nodes.
    - `placement`: the node of every agent, `0 <= placement < nodes`.

    **Returns:**

    Memory in GB, cores and agents of each node.

    **Example:**

        >>> problem = sj.deploy.placement_problem(sj.deploy.default_workflow())
        >>> start = jnp.zeros(len(problem.memory), jnp.int32)
        >>> loads = sj.kernels.node_loads(problem, start)
        >>> bool(loads.cpu[0] == jnp.sum(problem.cpu))
        True
    """
    dtype, nodes = problem.memory.dtype, problem.node_memory.shape[0]
    zeros = jnp.zeros(nodes, dtype)
    agents = zeros.at[placement].add(1)
    of_model = jnp.zeros((nodes, problem.weights.shape[0]), dtype)
    of_model = of_model.at[placement, problem.model].add(1)
    of_group = jnp.zeros((nodes, problem.groups), dtype)
    of_group = of_group.at[placement, problem.group].add(1)
    shared = jnp.sum(jnp.where(of_model > 0, problem.weights[None], 0), axis=1)
    memory = zeros.at[placement].add(problem.memory)
    return NodeLoads(
        memory=memory + jnp.where(agents > 0, problem.base, 0) + shared,
        cpu=zeros.at[placement].add(problem.cpu),
        agents=agents,
        of_model=of_model,
        of_group=of_group,
        moved=jnp.sum(placement != problem.home, dtype=dtype),
    )


def placement_cost(
    problem: PlacementProblem, placement: Int[Array, " agents"]
) -> PlacementCost:
    """Evaluate Eq. 11-13 for one placement, in O(edges + nodes models).

    **Arguments:**

    - `problem`: agents, edges and nodes.
    - `placement`: the node of every agent, `0 <= placement < nodes`.

    **Returns:**

    The cost in the units of `volume * distance`, and the excess over each constraint. A
    placement is feasible if it meets all constraints within the rounding of the loads.

    **Example:**

        >>> what = dict(entry="app:answer", memory="1Gi", cpu="1")
        >>> agents = tuple(sj.deploy.Agent(name=n, **what) for n in ("front", "back"))
        >>> edge = sj.deploy.Edge(source="front", target="back", volume=2.0, rate=10.0)
        >>> sizes = dict(memory="4Gi", cpu="2")
        >>> nodes = tuple(sj.deploy.ClusterNode(name=n, **sizes) for n in "ab")
        >>> flow = sj.deploy.Workflow(name="w", agents=agents, edges=(edge,), nodes=nodes)
        >>> problem = sj.deploy.placement_problem(flow)
        >>> apart = sj.kernels.placement_cost(problem, jnp.array([0, 1], jnp.int32))
        >>> print(np.asarray(apart.communication).round(3))  # 20 MB/s, 0.05 ms over 25 Gbps
        0.04
    """
    dtype = problem.memory.dtype
    load = node_loads(problem, placement)
    communication = jnp.sum(
        problem.volume
        * problem.distance[placement[problem.first], placement[problem.second]]
    )
    overhead = jnp.sum(jnp.where(load.agents > 0, problem.base, 0)) + jnp.sum(
        jnp.where(load.of_model > 0, problem.weights[None], 0)
    )
    migration = jnp.sum(jnp.where(placement != problem.home, problem.move_cost, 0))
    # A node may hold all agents, so its load has one rounding per agent and per model.
    terms = problem.memory.shape[0] + problem.weights.shape[0]
    slack = terms * np.finfo(dtype).eps
    memory_excess = load.memory - problem.node_memory * (1 + slack)
    cpu_excess = load.cpu - problem.node_cpu * (1 + slack)
    # The last group means none.
    conflicts = jnp.sum(jnp.maximum(load.of_group[:, :-1] - 1, 0))
    budget_excess = jnp.maximum(load.moved - problem.move_budget, 0)
    inside = jnp.take_along_axis(problem.allowed, placement[:, None], axis=1)
    return PlacementCost(
        total=communication + problem.lambda_mem * overhead + migration,
        communication=communication,
        overhead=overhead,
        migration=migration,
        memory_excess=jnp.maximum(memory_excess, 0),
        cpu_excess=jnp.maximum(cpu_excess, 0),
        conflicts=conflicts,
        budget_excess=budget_excess,
        feasible=jnp.all(memory_excess <= 0)
        & jnp.all(cpu_excess <= 0)
        & (conflicts == 0)
        & (budget_excess == 0)
        & jnp.all(inside),
    )
