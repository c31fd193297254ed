"""Learn from what came of a decision: measure it, and write it to memory.

What is written to long-term memory, all of it under the class of the workload (`classify`)
and the pool:

- `partition`: reward of a strategy (`_reward.py`): time and memory, energy, and error.
- `seconds`, `energy`, `error`: of a strategy, each by itself.
- `partition-law`: the log reward that the cost model (Eq. 4) expects of each strategy,
  `log(reference / cost)`, from before anything was measured.
- `speed`: logarithm of measured over expected seconds, for each material.
- `lambda`: logarithm of the regularisation parameter λ that the data of a product asked
  for (`stein_lambda`), for each pattern of its errors. The pool, and so the material, is
  in the name.

Every choice also carries the number of the regime (`_device_change.py`).
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from .. import devices
from .._long_term import LongTermMemory
from .._products.correction import CorrectionInfo
from .._programming.program_stats import ProgramStats
from .._tiling.planning import weigh
from .._tiling.pool import PartitionPlan
from ..kernels import ERROR_PATTERNS, Device
from ._decision import Ablation, Decision
from ._device_change import notice_change
from ._reward import Measured, RewardWeights, mean_error, reward
from ._short_term import ShortTerm
from ._strategy import Record, of_regime

# Kind, choice and value of one reward.
_Found = tuple[str, dict[str, Any], float]


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
    memory: LongTermMemory | None,
    short_term: ShortTerm,
    ablation: Ablation,
    weights: RewardWeights,
) -> tuple[Outcome, ShortTerm]:
    """Measure what a decision brought, notice changes, and write it to memory."""
    speeds = _speeds(decision, stats)
    measured = _measured(decision, stats, correction)
    value = reward(measured, decision.reference, weights)
    regime, changed = decision.regime, False
    if ablation.short_term:
        short_term, changed = _remember(
            short_term, decision, speeds, measured, value, correction
        )
        regime = short_term.regime
    records = []
    if memory is not None and ablation.long_term:
        found: list[_Found] = [("speed", {"device": d}, v) for d, v in speeds.items()]
        if ablation.adaptive_partition:
            found += _of_strategy(decision, measured, value, changed)
        if correction.choice is not None:
            pattern = ERROR_PATTERNS[int(correction.choice.pattern)]
            log_lam = float(correction.choice.own.log_lam)
            found.append(("lambda", {"errors": pattern}, log_lam))
        records = _records(decision, found, regime)
        memory.record_all(records)
    outcome = Outcome(
        reward=value, measured=measured, changed=changed, written=len(records)
    )
    return outcome, short_term


def _remember(
    short_term: ShortTerm,
    decision: Decision,
    speeds: dict[str, float],
    measured: Measured,
    value: float,
    correction: CorrectionInfo,
) -> tuple[ShortTerm, bool]:
    """Notice a change, then add the samples to short-term memory."""
    name, strategy, regime = decision.name, decision.strategy, decision.regime
    statistic = f"reward {name} {strategy}"
    earlier = of_regime(decision.recalled["partition"], regime, strategy=strategy)
    short_term = dataclasses.replace(short_term, regime=regime)
    short_term, changed = notice_change(short_term, statistic, value, earlier)
    short_term = short_term.add(
        **{f"speed {device}": v for device, v in speeds.items()},
        seconds=measured.seconds,
        energy=measured.energy,
        error=measured.error,
        reward=value,
        **{statistic: value},
    )
    if correction.choice is not None:
        short_term = short_term.add_product(name, correction.choice.statistics)
    return short_term, changed


def _of_strategy(
    decision: Decision, measured: Measured, value: float, changed: bool
) -> list[_Found]:
    """Figures of the strategy taken and, unless devices changed, the model's of all."""
    figures = {"partition": value} | dataclasses.asdict(measured)
    del figures["cost"]  # it depends on the price of memory at this moment
    found = [(kind, {"strategy": decision.strategy}, v) for kind, v in figures.items()]
    if not changed:
        expected = decision.expected.items()
        found += [("partition-law", {"strategy": name}, v) for name, v in expected]
    return found


def _records(decision: Decision, found: Sequence[_Found], regime: int) -> list[Record]:
    features = np.asarray(decision.workload.features)
    return [
        Record(
            kind=kind,
            workload=decision.name,
            choice=choice | {"regime": regime},
            reward=figure,
            features=features,
        )
        for kind, choice, figure in found
        # Numbers near the end of a dtype's range overflow in norms: nothing is learnt.
        if math.isfinite(figure)
    ]


def _measured(
    decision: Decision, stats: ProgramStats, correction: CorrectionInfo
) -> Measured:
    plan = decision.plan
    used = [plan.pool.kinds[k].device for k in {r.kind for r in plan.rectangles}]
    read = max((float(cast(Device, device).t_read) for device in used), default=0.0)
    seconds = float(stats.latency) + plan.passes * read
    occupied = decision.occupied
    entries = math.prod(plan.shape) if occupied is None else len(occupied[0])
    return Measured(
        seconds=seconds,
        cost=seconds + decision.lam_mem * decision.megabytes,
        energy=float(stats.energy) / max(entries, 1),
        error=mean_error(correction.relative_l2_corrected),
    )


def _speeds(decision: Decision, stats: ProgramStats) -> dict[str, float]:
    """Logarithm of measured seconds over those of the data sheet, of each material."""
    plan = decision.plan
    write, verify = stats.per_array.write_latency, stats.per_array.verify_latency
    latency = np.asarray(write) + np.asarray(verify)
    kinds = np.array([r.kind for r in plan.rectangles])
    found: dict[str, list[float]] = {}
    for number in np.unique(kinds):
        rectangles = [
            r._replace(pass_number=i)
            for i, r in enumerate(r for r in plan.rectangles if r.kind == number)
        ]
        alone = PartitionPlan(plan.pool, tuple(rectangles), plan.shape)
        sheet = weigh([alone], occupied=decision.occupied)
        ratio = float(latency[kinds == number].sum()) / float(sheet.seconds[0])
        device = devices.name_of(cast(Device, plan.pool.kinds[number].device))
        found.setdefault(device, []).append(math.log(max(ratio, 1e-6)))
    return {device: float(np.mean(ratios)) for device, ratios in found.items()}
