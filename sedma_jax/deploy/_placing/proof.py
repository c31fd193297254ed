"""Prove a placement optimal, or that there is none, by constraint programming.

OR-tools' CP-SAT works on integers: costs and sizes are scaled to 2**-20 of the largest.
Sizes are rounded up and capacities down, so that a placement it calls feasible is feasible.
"""

import dataclasses
import math

import numpy as np
from ortools.sat.python import cp_model

from ...kernels import PlacementProblem

_UNITS = 2**20

_Arrays = dict[str, np.ndarray]  # the fields of a problem
_Assignments = list[list[cp_model.IntVar]]  # [agent][node]: whether the agent is there
_Edge = tuple[np.integer, np.integer, np.floating]  # two agents, and their MB/s
_Term = tuple[float, cp_model.IntVar]  # of the cost: what the variable costs per unit


@dataclasses.dataclass(frozen=True)
class Proof:
    """What CP-SAT found within its time.

    - `placement`: number of the node of every agent; None if none was found.
    - `bound`: no placement costs less.
    - `optimal`, `infeasible`: whether that is proven.

    **Example:**

        >>> problem = sj.deploy.placement_problem(sj.deploy.default_workflow())
        >>> proof = sj.deploy.prove(problem)
        >>> proof.optimal, proof.infeasible, round(proof.bound, 4)  # half of 64Mi, in GB
        (True, False, 0.0336)
    """

    placement: np.ndarray | None
    bound: float
    optimal: bool
    infeasible: bool


def prove(
    problem: PlacementProblem,
    *,
    hint: np.ndarray | None = None,
    seconds: float = 10.0,
    workers: int = 1,
) -> Proof:
    """Search for the optimum, from `hint`, and prove it if time allows.

    **Arguments:**

    - `problem`: agents, edges and nodes; up to about 30 agents can be proven.
    - `hint`: a placement to start from.
    - `seconds`: wall time, and CP-SAT's own deterministic time.
    - `workers`: threads, each of which searches in another way; with several, the
        placement of the least cost that is found first differs from run to run. On two
        cores one thread proves as soon as four do.

    **Returns:**

    The best placement found, and the bound proven. One worker finds the same each time,
    unless wall time ends first.

    **Example:**

        >>> what = dict(entry="app:answer", memory="3Gi", cpu="1")
        >>> agents = tuple(sj.deploy.Agent(name=n, **what) for n in ("front", "back"))
        >>> node = sj.deploy.ClusterNode(name="small", memory="4Gi", cpu="2")
        >>> flow = sj.deploy.Workflow(name="tour", agents=agents, nodes=(node,))
        >>> sj.deploy.prove(sj.deploy.placement_problem(flow)).infeasible  # 6 of 4 Gi
        True
    """
    model = cp_model.CpModel()
    p = _arrays(problem)
    on = _assignments(model, p["allowed"])
    terms = [
        *_overhead(model, p, on),
        *_communication(model, p, on),
        *_savings(p, on),
    ]
    _limit_moves(model, p, on)
    _spread(model, p["group"], problem.groups - 1, on)
    unit = max((abs(cost) for cost, _ in terms), default=1.0) / _UNITS or 1.0
    model.minimize(sum(round(cost / unit) * term for cost, term in terms))
    if hint is not None:
        for i, row in enumerate(on):
            for q, here in enumerate(row):
                model.add_hint(here, int(hint[i] == q))
    solver = cp_model.CpSolver()
    solver.parameters.max_time_in_seconds = seconds
    solver.parameters.max_deterministic_time = seconds
    solver.parameters.num_workers = workers
    solver.parameters.random_seed = 0
    status = solver.solve(model)
    placement = None
    if status in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        values = np.array([[solver.value(x) for x in row] for row in on])
        placement = values.argmax(axis=1).astype(np.int32)
    return Proof(
        placement=placement,
        bound=solver.best_objective_bound * unit
        + float(p["move_cost"].clip(0).sum(dtype=float)),
        optimal=status == cp_model.OPTIMAL,
        infeasible=status == cp_model.INFEASIBLE,
    )


def _assignments(model: cp_model.CpModel, allowed: np.ndarray) -> _Assignments:
    """Variables that say which agent is on which node, each on one that it may run on."""
    agents, nodes = allowed.shape
    on = [[model.new_bool_var(f"x{i}_{q}") for q in range(nodes)] for i in range(agents)]
    for i, row in enumerate(on):
        model.add_exactly_one(row)
        for q in np.flatnonzero(~allowed[i]):
            model.add(row[q] == 0)
    return on


def _savings(p: _Arrays, on: _Assignments) -> list[_Term]:
    """What every agent that stays saves of the cost of moving all agents."""
    pairs = zip(p["move_cost"], p["home"], on, strict=True)
    return [(-float(cost), row[home]) for cost, home, row in pairs if cost > 0]


def _limit_moves(model: cp_model.CpModel, p: _Arrays, on: _Assignments) -> None:
    if math.isfinite(p["move_budget"]):
        stay = sum(row[home] for row, home in zip(on, p["home"], strict=True))
        model.add(stay >= len(on) - math.floor(p["move_budget"]))


def _spread(
    model: cp_model.CpModel, group: np.ndarray, groups: int, on: _Assignments
) -> None:
    """Keep the agents of each of the first `groups` groups on different nodes."""
    for k in range(groups):
        members = np.flatnonzero(group == k)
        for q in range(len(on[0])):
            model.add_at_most_one(on[i][q] for i in members)


def _arrays(problem: PlacementProblem) -> _Arrays:
    return {
        field.name: np.asarray(getattr(problem, field.name))
        for field in dataclasses.fields(problem)
    }


def _overhead(model: cp_model.CpModel, p: _Arrays, on: _Assignments) -> list[_Term]:
    """Capacities, and what the base and the shared weights of every node cost."""
    agents, nodes = p["allowed"].shape
    terms: list[_Term] = []
    size = max(p["node_memory"].max(), p["memory"].max(), 1e-12) / _UNITS
    cores = max(p["node_cpu"].max(), p["cpu"].max(), 1e-12) / _UNITS
    # Within 1e-6 a capacity counts as met: the kernel rounds to float32.
    up = lambda value, unit: math.ceil(value / unit * (1 - 1e-6))
    of_model = [np.flatnonzero(p["model"] == k) for k in range(len(p["weights"]))]
    for q in range(nodes):
        used = model.new_bool_var(f"y{q}")
        for i in range(agents):
            model.add_implication(on[i][q], used)
        memory = [up(p["base"][q], size) * used]
        memory += [up(p["memory"][i], size) * on[i][q] for i in range(agents)]
        terms.append((float(p["lambda_mem"] * p["base"][q]), used))
        for k, members in enumerate(of_model):
            if p["weights"][k] <= 0 or not len(members):
                continue
            loaded = model.new_bool_var(f"z{k}_{q}")
            for i in members:
                model.add_implication(on[i][q], loaded)
            memory.append(up(p["weights"][k], size) * loaded)
            terms.append((float(p["lambda_mem"] * p["weights"][k]), loaded))
        model.add(sum(memory) <= math.floor(p["node_memory"][q] / size))
        cpu = [up(p["cpu"][i], cores) * on[i][q] for i in range(agents)]
        model.add(sum(cpu) <= math.floor(p["node_cpu"][q] / cores))
    return terms


def _communication(model: cp_model.CpModel, p: _Arrays, on: _Assignments) -> list[_Term]:
    edges = list(zip(p["first"], p["second"], p["volume"], strict=True))
    levels = tree_levels(p["distance"])
    if levels is None:
        return _by_distance(model, p["distance"], edges, on)
    return [
        term for step, parts in levels for term in _by_level(model, step, parts, edges, on)
    ]


def _by_distance(
    model: cp_model.CpModel, distance: np.ndarray, edges: list[_Edge], on: _Assignments
) -> list[_Term]:
    """The cost of every edge by an integer variable for the distance of its ends."""
    nodes = len(distance)
    unit = distance.max() / _UNITS or 1.0
    ceiling = math.ceil(distance.max() / unit)
    scaled = np.round(distance / unit).astype(int).tolist()
    terms: list[_Term] = []
    for e, (i, j, volume) in enumerate(edges):
        apart = model.new_int_var(0, ceiling, f"d{e}")
        for q in range(nodes):
            there = sum(scaled[q][r] * on[j][r] for r in range(nodes))
            model.add(apart >= there).only_enforce_if(on[i][q])
        terms.append((float(volume * unit), apart))
    return terms


def _by_level(
    model: cp_model.CpModel,
    step: float,
    parts: np.ndarray,
    edges: list[_Edge],
    on: _Assignments,
) -> list[_Term]:
    """What edges between parts of one level cost: `step` times their volume."""
    inside = [
        [_in_part(model, row, parts == k) for k in range(parts.max() + 1)] for row in on
    ]
    terms: list[_Term] = []
    for i, j, volume in edges:
        apart = model.new_bool_var("")
        for here, there in zip(inside[i], inside[j], strict=True):
            model.add_bool_or(here.negated(), there, apart)
            model.add_bool_or(there.negated(), here, apart)
        terms.append((float(volume * step), apart))
    return terms


def _in_part(
    model: cp_model.CpModel, row: list[cp_model.IntVar], part: np.ndarray
) -> cp_model.IntVar:
    """A variable that says whether an agent is on a node of a part."""
    members = np.flatnonzero(part)
    if len(members) == 1:
        return row[members[0]]
    inside = model.new_bool_var("")
    model.add(sum(row[q] for q in members) == inside)
    return inside


def tree_levels(distance: np.ndarray) -> list[tuple[float, np.ndarray]] | None:
    """Find racks and zones in distances that depend on the nearest common part alone.

    Each level is what leaving its parts adds to the distance, and the part of every
    node. None if the distances are not of this kind (an ultrametric), or have more than
    eight levels.
    """
    values = np.unique(distance[~np.eye(len(distance), dtype=bool)])
    values = values[values > 0]
    if len(values) > 8:
        return None
    levels, below = [], 0.0
    for value in values:
        near = distance < value
        parts = np.full(len(distance), -1)
        for q in range(len(distance)):
            if parts[q] < 0:
                parts[near[q] & (parts < 0)] = parts.max() + 1
        if not np.array_equal(parts[:, None] == parts[None], near):
            return None
        levels.append((float(value - below), parts))
        below = float(value)
    return levels
