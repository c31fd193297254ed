"""Decide how to lay out a matrix, and learn from what came of it.

What is written to long-term memory, all under the class of the workload (`classify`) and
the pool:

- `partition`: reward of a strategy (`_reward.py`): time and memory, energy, and error.
- `seconds`, `energy`, `error`: of a strategy, each by itself.
- `partition-law`: the logarithm of reference over cost, before anything was measured.
- `speed`: logarithm of measured over expected seconds, for each material.
- `lambda`: logarithm of the weight that a product asked for (`stein_lambda`), for each
  pattern of its errors. The pool, and so the material, is in the name.

Every choice carries the number of the *regime*, the changes noticed so far: what was
measured before a change does not count after it.
"""

import dataclasses
import hashlib
import math
from typing import Any, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from .. import devices
from .._products.correction import CorrectionInfo
from .._programming.program_stats import ProgramStats
from .._tiling.partition import Matrix, Sparse, checked_sparse
from .._tiling.planning import (
    MEMORY_PRICE,
    cheapest,
    grid_plan,
    strategy_names,
    strategy_plans,
    weigh,
)
from .._tiling.pool import PartitionPlan, Pool, checked_question
from .._trace import Trace
from ..kernels import ERROR_PATTERNS, Device, RememberedLambda, memory_price
from ._cold_start import neighbour
from ._pressure import memory_pressure
from ._reward import Measured, RewardWeights, mean_error, reward
from ._short_term import ShortTerm
from ._strategy import (
    PRIOR_STD,
    LongTerm,
    Recalls,
    Record,
    draw_strategy,
    moments,
    of_regime,
)
from ._workload import Workload, classify


@dataclasses.dataclass(frozen=True)
class Ablation:
    """Parts of the system to leave out, for comparison; by default none.

    - `long_term`: recall and write long-term memory.
    - `short_term`: correct expectations by recent measurements, and notice changes.
    - `adaptive_lambda`: choose the weight of the roughness; else that of MELISO+.
    - `adaptive_partition`: choose the tiling; else the largest arrays side by side.
    """

    long_term: bool = True
    short_term: bool = True
    adaptive_lambda: bool = True
    adaptive_partition: bool = True


@dataclasses.dataclass(frozen=True)
class Decision:
    """How a matrix is to be laid out, and what that was decided from.

    - `name`: of the workload and pool, in memory.
    - `law`: reward to expect of each strategy, where that is not in memory yet.
    - `searched`: whether every strategy was weighed.
    - `neighbour`: the class whose best strategy was taken over, for want of an own.
    - `reference`: Eq. 4 of the largest arrays side by side, by their data sheets.
    - `megabytes`: memory overhead of `plan`.
    """

    plan: PartitionPlan
    strategy: str
    workload: Workload
    name: str
    regime: int
    recalled: dict[str, Any]
    law: dict[str, float]
    searched: bool
    neighbour: str | None
    remembered_lambda: RememberedLambda
    reference: float
    megabytes: float
    lam_mem: float
    occupied: Any


def decide(
    A: Matrix,
    pool: Pool,
    memory: Recalls | None,
    short_term: ShortTerm,
    ablation: Ablation,
    pressure: float | None,
    *,
    trace: Trace | None = None,
    key: PRNGKeyArray,
) -> Decision:
    """Recall what is known of matrices like `A`, and choose a tiling."""
    trace = Trace() if trace is None else trace
    memory = memory if ablation.long_term else None
    with trace.stage("classify") as said:
        occupied = checked_sparse(A).coords if isinstance(A, Sparse) else None
        workload = classify(A)
        shape, pool, occupied = checked_question(cast(Any, A).shape, pool, None, occupied)
        said["workload"] = workload.name
    pressure = memory_pressure() if pressure is None else pressure
    lam_mem = float(_price(MEMORY_PRICE, pressure))
    # Pools differ in what is best on them.
    suffix = f"|{_signature(pool)}"
    name = workload.name + suffix
    names = strategy_names(pool)
    with trace.stage("recall") as said:
        recalled = _recall(memory, name)
        regime = _regime(short_term, recalled["partition"], ablation)
        unknown = not _covers(recalled["partition-law"], names, regime)
        found = None
        if memory is not None and unknown:
            found = neighbour(memory, workload, suffix, regime)
        like, strategy = (None, "") if found is None else found
        known = recalled if like is None else _recall(memory, like)
        said |= {"patterns": sum(map(len, recalled.values())), "neighbour": like}
    with trace.stage("plan") as said:
        how: dict[str, Any] = {
            "occupied": occupied,
            "lam_mem": lam_mem,
            "slowdown": _slowdown(pool, known["speed"], short_term, ablation, regime),
        }
        reference_plan = grid_plan(shape, pool, _largest(pool), occupied)
        law, searched = {}, False
        expected = {
            p.choice["strategy"]: p.mean for p in of_regime(known["partition-law"], regime)
        }
        if not ablation.adaptive_partition:
            strategy, plan = f"grid-{_largest(pool)}", reference_plan
        elif not set(names) <= expected.keys():
            strategy, plan, law = _search(names, shape, pool, how, reference_plan)
            searched = True
        else:
            if like is None:
                laws = [expected[n] for n in names]
                seen = [of_regime(recalled["partition"], regime, strategy=n) for n in names]
                strategy = names[draw_strategy(names, laws, seen, key=key)]
            else:
                law = expected
            plans = strategy_plans(strategy, shape, pool, **how)
            plan = plans[cheapest(weigh(plans, **how))]
        said |= {"strategy": strategy, "explored": not searched}
    # The reference is the data sheet's, so that a change of the arrays shows.
    sheet = weigh([reference_plan, plan], occupied=occupied, lam_mem=lam_mem)
    return Decision(
        plan,
        strategy,
        workload,
        name,
        regime,
        recalled,
        law,
        searched,
        like,
        _remembered_lambda(known, regime, short_term, name, ablation, like is not None),
        float(sheet.objective[0]),
        float(sheet.megabytes[1]),
        lam_mem,
        occupied,
    )


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What came of a decision: figures measured, and their reward."""

    reward: float
    measured: Measured
    changed: bool
    written: int


def learn(
    decision: Decision,
    stats: ProgramStats,
    correction: CorrectionInfo,
    memory: LongTerm | None,
    short_term: ShortTerm,
    ablation: Ablation,
    weights: RewardWeights,
) -> tuple[Outcome, ShortTerm]:
    """Measure what a decision brought, notice changes, and write it back."""
    name, strategy = decision.name, decision.strategy
    regime, recalled = decision.regime, decision.recalled
    speeds = _speeds(decision, stats)
    measured = _measured(decision, stats, correction)
    value = reward(measured, decision.reference, weights)
    choice = correction.choice
    changed = False
    if ablation.short_term:
        before = of_regime(recalled["partition"], regime, strategy=strategy)
        short_term = dataclasses.replace(short_term, regime=regime)
        short_term, changed = _watch(short_term, strategy, name, value, before)
        samples = {f"speed {device}": v for device, v in speeds.items()}
        short_term = short_term.add(
            **samples,
            seconds=measured.seconds,
            energy=measured.energy,
            error=measured.error,
            reward=value,
            **{f"reward {name} {strategy}": value},
        )
        if choice is not None:
            short_term = short_term.add_product(name, choice.statistics)
        regime = short_term.regime
    records = []
    if memory is not None and ablation.long_term:
        found = [("speed", {"device": d}, v) for d, v in speeds.items()]
        if ablation.adaptive_partition:
            of_strategy = {"partition": value} | dataclasses.asdict(measured)
            del of_strategy["cost"]  # the price of memory is of the moment
            found += [(k, {"strategy": strategy}, v) for k, v in of_strategy.items()]
            if not changed:
                found += [
                    ("partition-law", {"strategy": n}, v) for n, v in decision.law.items()
                ]
        if choice is not None:
            pattern = ERROR_PATTERNS[int(choice.pattern)]
            found.append(("lambda", {"errors": pattern}, float(choice.own.log_lam)))
        features = np.asarray(decision.workload.features)
        records = [
            Record(kind, name, chosen | {"regime": regime}, figure, features)
            for kind, chosen, figure in found
        ]
        memory.record_all(records)
    return Outcome(value, measured, changed, len(records)), short_term


_price = jax.jit(memory_price)


def _recall(memory: Recalls | None, name: str) -> dict[str, Any]:
    kinds = ("partition", "partition-law", "speed", "lambda")
    return {kind: [] if memory is None else memory.recall(kind, name) for kind in kinds}


def _covers(laws, names, regime) -> bool:
    """Whether the reward to expect of every strategy is known."""
    return set(names) <= {p.choice["strategy"] for p in of_regime(laws, regime)}


def _remembered_lambda(known, regime, short_term, name, ablation, borrowed):
    """What both memories say of the weight of the roughness."""
    patterns = known["lambda"]
    figures = [moments(of_regime(patterns, regime, errors=e)) for e in ERROR_PATTERNS]
    count, mean, spread = np.asarray(figures, jnp.result_type(float)).T
    if borrowed:  # of another class: worth one sample
        count = np.minimum(count, 1)
    recent = short_term if ablation.short_term else ShortTerm()
    count, mean, spread = (jnp.asarray(v) for v in (count, mean, spread))
    return RememberedLambda(count, mean, spread, recent.recent_products(name))


def _search(names, shape, pool, how, reference):
    """The cheapest plan of all strategies, and the reward to expect of each."""
    plans, owners = [], []
    for name in names:
        own = strategy_plans(name, shape, pool, **how)
        plans += own
        owners += [name] * len(own)
    cost = weigh([*plans, reference], **how).objective
    base, cost = float(cost[-1]), cost[:-1]
    law = {
        name: math.log(
            base / min(c for c, o in zip(cost, owners, strict=True) if o == name)
        )
        for name in names
    }
    best = int(np.argmin(cost))
    return owners[best], plans[best], law


def _watch(short_term, strategy, name, reward, before):
    """Compare a reward with those of the same strategy before, in standard deviations."""
    count, mean, spread = moments(before)
    if not count:
        recent = short_term.summary(f"reward {name} {strategy}")
        count, mean = int(recent.count), float(recent.mean)
        spread = math.sqrt(float(recent.variance))
    if not count:
        return short_term, False
    # The spread of few rewards is uncertain; the prior's counts as one of them.
    spread = math.sqrt((PRIOR_STD**2 + (count - 1) * spread**2) / count)
    surprise = (reward - mean) / (spread * math.sqrt(1 + 1 / count))
    return short_term.watched(surprise)


def _measured(decision, stats, correction) -> Measured:
    plan = decision.plan
    used = {r.kind for r in plan.rectangles}
    read = max((float(plan.pool.kinds[k].device.t_read) for k in used), default=0.0)
    seconds = float(stats.latency) + plan.passes * read
    occupied = decision.occupied
    entries = math.prod(plan.shape) if occupied is None else len(occupied[0])
    return Measured(
        seconds,
        seconds + decision.lam_mem * decision.megabytes,
        float(stats.energy) / max(entries, 1),
        mean_error(correction.relative_l2_corrected),
    )


def _speeds(decision, stats) -> dict[str, float]:
    """Logarithm of measured over expected seconds of each material, by the data sheet."""
    plan = decision.plan
    write, verify = stats.per_array.write_latency, stats.per_array.verify_latency
    latency = np.asarray(write) + np.asarray(verify)
    kinds = np.array([r.kind for r in plan.rectangles])
    found = {}
    for number in np.unique(kinds):
        rectangles = [
            r._replace(pass_number=i)
            for i, r in enumerate(r for r in plan.rectangles if r.kind == number)
        ]
        alone = PartitionPlan(plan.pool, tuple(rectangles), plan.shape)
        sheet = weigh([alone], occupied=decision.occupied)
        ratio = float(latency[kinds == number].sum()) / float(sheet.seconds[0])
        found.setdefault(device_name(plan.pool.kinds[number].device), []).append(
            math.log(max(ratio, 1e-6))
        )
    return {device: float(np.mean(ratios)) for device, ratios in found.items()}


def _slowdown(pool, speeds, short_term, ablation, regime):
    """Measured over expected time of each kind: recent figures, or else remembered."""
    factors = []
    for kind in pool.kinds:
        device = device_name(kind.device)
        count, mean, _ = moments(of_regime(speeds, regime, device=device))
        if not count and ablation.short_term:
            mean = float(short_term.summary(f"speed {device}", 20).mean)
        factors.append(math.exp(mean))
    return tuple(factors)


def _regime(short_term, patterns, ablation) -> int:
    """The latest change that this process or, in memory, another one noticed."""
    if not ablation.short_term:
        return 0
    known = (p.choice.get("regime", 0) for p in patterns)
    return max([short_term.regime, *known])


def device_name(device: Device) -> str:
    """Name of a preset; of another device its figures, in short."""
    for name, known in devices.PRESETS.items():
        if known is device or bool(eqx.tree_equal(known, device)):
            return name
    leaves = [f"{float(jnp.asarray(v)):.3g}" for v in jax.tree.leaves(device)]
    return "custom-" + "-".join(leaves[i] for i in (0, 1, 2, 6, 11))


def _signature(pool: Pool) -> str:
    """A few characters that tell pools apart."""
    kinds = [
        (k.rows, k.cols, k.count, device_name(cast(Device, k.device))) for k in pool.kinds
    ]
    return hashlib.sha256(repr(kinds).encode()).hexdigest()[:10]


def _largest(pool: Pool) -> int:
    sizes = [k.rows * k.cols for k in pool.kinds]
    return sizes.index(max(sizes))
