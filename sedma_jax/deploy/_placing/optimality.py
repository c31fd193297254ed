"""Prove a placement optimal, or that there is none, by constraint programming.

OR-tools' CP-SAT works on integers: costs and sizes are scaled to 2**-20 of the largest,
sizes rounded up and capacities down, so that what it calls feasible is.
"""

import dataclasses
import math

import numpy as np

from ...kernels import PlacementProblem

try:
    from ortools.sat.python import cp_model
except ImportError as error:
    raise ImportError(
        "`sedma_jax.deploy` needs ortools, which is not installed. "
        "Install with `pip install 'sedma-jax[deploy]'`."
    ) from error

_UNITS = 2**20


@dataclasses.dataclass(frozen=True)
class Proof:
    """What CP-SAT found within its time."""

    placement: np.ndarray | None  # node of every agent; None if none was found
    bound: float  # no placement costs less
    optimal: bool
    infeasible: bool  # proven


def prove(
    problem: PlacementProblem,
    *,
    hint: np.ndarray | None = None,
    seconds: float = 10.0,
    workers: int = 4,
) -> Proof:
    """Search for the optimum, from `hint`, and prove it if time allows.

    **Arguments:**

    - `problem`: agents, edges and nodes; up to about 30 agents can be proven.
    - `hint`: a placement to start from.
    - `seconds`: wall time. `workers`: threads, of which each searches in another way: on
        two cores four prove sooner than two.

    **Returns:**

    The best placement found, and the bound proven.
    """
    model = cp_model.CpModel()
    p = _arrays(problem)
    agents, nodes = p["allowed"].shape
    on = [[model.new_bool_var(f"x{i}_{q}") for q in range(nodes)] for i in range(agents)]
    for i in range(agents):
        model.add_exactly_one(on[i])
        for q in np.flatnonzero(~p["allowed"][i]):
            model.add(on[i][q] == 0)
    terms, costs = _overhead(model, p, on)
    more, more_costs = _communication(model, p, on)
    terms, costs = terms + more, costs + more_costs
    moved = [(i, q) for i in range(agents) for q in [p["home"][i]]]
    fixed = 0.0
    for i, q in moved:
        if p["move_cost"][i] > 0:
            terms.append(on[i][q])
            costs.append(-float(p["move_cost"][i]))
            fixed += float(p["move_cost"][i])
    if math.isfinite(p["move_budget"]):
        stay = sum(on[i][q] for i, q in moved)
        model.add(stay >= agents - math.floor(p["move_budget"]))
    free = problem.groups - 1
    for group in range(free):
        of_group = np.flatnonzero(p["group"] == group)
        for q in range(nodes):
            model.add_at_most_one(on[i][q] for i in of_group)
    unit = max((abs(c) for c in costs), default=1.0) / _UNITS or 1.0
    model.minimize(sum(round(c / unit) * t for c, t in zip(costs, terms, strict=True)))
    if hint is not None:
        for i in range(agents):
            for q in range(nodes):
                model.add_hint(on[i][q], int(hint[i] == q))
    solver = cp_model.CpSolver()
    solver.parameters.max_time_in_seconds = seconds
    solver.parameters.num_workers = workers
    solver.parameters.random_seed = 0
    status = solver.solve(model)
    found = status in (cp_model.OPTIMAL, cp_model.FEASIBLE)
    placement = None
    if found:
        values = np.array([[solver.value(x) for x in row] for row in on])
        placement = values.argmax(axis=1).astype(np.int32)
    return Proof(
        placement,
        solver.best_objective_bound * unit + fixed,
        status == cp_model.OPTIMAL,
        status == cp_model.INFEASIBLE,
    )


def _arrays(problem: PlacementProblem) -> dict:
    return {
        field.name: np.asarray(getattr(problem, field.name))
        for field in dataclasses.fields(problem)
    }


def _overhead(model, p, on):
    """Capacities, and what the base and the shared weights of every node cost."""
    agents, nodes = p["allowed"].shape
    terms, costs = [], []
    size = max(p["node_memory"].max(), p["memory"].max(), 1e-12) / _UNITS
    cores = max(p["node_cpu"].max(), p["cpu"].max(), 1e-12) / _UNITS
    # Relative 1e-6: a capacity met exactly is met, as rounding in the kernel has it.
    up = lambda value, unit: math.ceil(value / unit * (1 - 1e-6))
    of_model = [np.flatnonzero(p["model"] == k) for k in range(len(p["weights"]))]
    for q in range(nodes):
        used = model.new_bool_var(f"y{q}")
        for i in range(agents):
            model.add_implication(on[i][q], used)
        memory = [up(p["base"][q], size) * used]
        memory += [up(p["memory"][i], size) * on[i][q] for i in range(agents)]
        terms.append(used)
        costs.append(float(p["lambda_mem"] * p["base"][q]))
        for k, members in enumerate(of_model):
            if p["weights"][k] <= 0 or not len(members):
                continue
            loaded = model.new_bool_var(f"z{k}_{q}")
            for i in members:
                model.add_implication(on[i][q], loaded)
            memory.append(up(p["weights"][k], size) * loaded)
            terms.append(loaded)
            costs.append(float(p["lambda_mem"] * p["weights"][k]))
        model.add(sum(memory) <= math.floor(p["node_memory"][q] / size))
        cpu = [up(p["cpu"][i], cores) * on[i][q] for i in range(agents)]
        model.add(sum(cpu) <= math.floor(p["node_cpu"][q] / cores))
    return terms, costs


def _communication(model, p, on):
    distance = p["distance"]
    edges = list(zip(p["first"], p["second"], p["volume"], strict=True))
    levels = tree_levels(distance)
    terms, costs = [], []
    if levels is None:
        ceiling = math.ceil(distance.max() / (unit := distance.max() / _UNITS or 1.0))
        scaled = np.round(distance / unit).astype(int).tolist()
        for e, (i, j, volume) in enumerate(edges):
            apart = model.new_int_var(0, ceiling, f"d{e}")
            for q in range(len(distance)):
                there = sum(scaled[q][r] * on[j][r] for r in range(len(distance)))
                model.add(apart >= there).only_enforce_if(on[i][q])
            terms.append(apart)
            costs.append(float(volume * unit))
        return terms, costs
    for step, parts in levels:
        count = parts.max() + 1
        inside = [[None] * count for _ in on]
        for i, row in enumerate(on):
            for part in range(count):
                members = np.flatnonzero(parts == part)
                if len(members) == 1:
                    inside[i][part] = row[members[0]]
                else:
                    inside[i][part] = model.new_bool_var("")
                    model.add(sum(row[q] for q in members) == inside[i][part])
        for i, j, volume in edges:
            apart = model.new_bool_var("")
            for part in range(count):
                model.add_bool_or(inside[i][part].negated(), inside[j][part], apart)
                model.add_bool_or(inside[j][part].negated(), inside[i][part], apart)
            terms.append(apart)
            costs.append(float(volume * step))
    return terms, costs


def tree_levels(distance: np.ndarray) -> list[tuple[float, np.ndarray]] | None:
    """Read node, rack and zone out of a distance that is the level of a common parent.

    Each level is what leaving its parts adds to the distance, and the part of every
    node. None where the distance is not of this kind (an ultrametric), or has more than
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
