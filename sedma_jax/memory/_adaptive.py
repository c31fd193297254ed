"""The product that gets better with use: recall, choose, run, measure, write back."""

from typing import cast

import equinox as eqx
import jax
from jaxtyping import Array, Float, PRNGKeyArray

from .._arguments import device_of
from .._keys import split_key
from .._long_term import LongTermMemory
from .._products.corrected import corrected_matvec
from .._products.correction import BASELINE_LAMBDA, CorrectionInfo
from .._programming.pooled import program_pool
from .._tiling.partition import Matrix, Vectors
from .._tiling.pool import ArrayKind, PartitionPlan, Pool
from .._trace import Trace
from ..kernels import SHARE, Device, RememberedLambda, check_numbers
from ._decision import Ablation, decide
from ._earlier_runs import EarlierRuns, earlier_runs
from ._learning import learn
from ._reward import Measured, RewardWeights
from ._short_term import ShortTerm
from ._workload import Workload

# How many arrays of 256 x 256 a device without a pool stands for.
_ARRAYS = 64
_NOTHING = Ablation()
_WEIGHTS = RewardWeights()


class AdaptiveInfo(eqx.Module):
    """What an adaptive product recalled, chose, measured and wrote.

    - `correction`: what correcting the product took and brought.
    - `plan`, `strategy`: how the matrix was laid out.
    - `workload`: the class of the matrix.
    - `recalled`, `written`: number of patterns found, and of rewards recorded.
    - `searched`: whether every strategy was weighed, instead of one drawn.
    - `neighbour`: the class that the strategy was taken over from, or None.
    - `changed`: whether a change of devices or load was noticed.
    - `reward`, `measured`: reward of the choice, and the figures that it is made of; see
        `RewardWeights`.
    - `before`: rewards of earlier runs.
    - `lam_mem`: price of memory, in seconds per MB.
    - `seconds`: of wall time, by stage.

    **Example:**

        >>> pool = sj.Pool((sj.ArrayKind(8, 8, 4, sj.devices.EPIRAM),))
        >>> how = dict(memory=sj.memory.open("sqlite://"), pressure=0.5)
        >>> A, x = np.ones((8, 8)), np.ones(8)
        >>> run = lambda n: sj.memory.adaptive_matvec(A, x, pool, **how, key=jr.key(n))[1]
        >>> first, second = run(0), run(1)
        >>> first.recalled, first.searched, second.recalled > 0, second.searched
        (0, True, True, False)
    """

    correction: CorrectionInfo
    plan: PartitionPlan
    strategy: str = eqx.field(static=True)
    workload: Workload = eqx.field(static=True)
    recalled: int = eqx.field(static=True)
    written: int = eqx.field(static=True)
    searched: bool = eqx.field(static=True)
    neighbour: str | None = eqx.field(static=True)
    changed: bool = eqx.field(static=True)
    reward: float = eqx.field(static=True)
    before: EarlierRuns = eqx.field(static=True)
    measured: Measured = eqx.field(static=True)
    lam_mem: float = eqx.field(static=True)
    seconds: dict[str, float] = eqx.field(static=True)


def adaptive_matvec(
    A: Matrix,
    x: Vectors,
    arrays: Device | Pool | str,
    *,
    memory: LongTermMemory | None,
    short_term: ShortTerm | None = None,
    ablation: Ablation = _NOTHING,
    weights: RewardWeights = _WEIGHTS,
    pressure: float | None = None,
    actual: Pool | None = None,
    trace: Trace | None = None,
    key: PRNGKeyArray,
) -> tuple[Float[Array, "*batch m"], AdaptiveInfo, ShortTerm]:
    """Multiply by a matrix with choices drawn from memory, and write back what they bring.

    This is Algorithm 1 up to the product: the tiling by Eq. 4, the correction by Eq. 5, its
    λ by Eq. 6.

    **Arguments:**

    - `A`, `x`: as in `corrected_matvec`.
    - `arrays`: the pool, or a device of which there are 64 arrays of 256 x 256.
    - `memory`: long-term memory, from `sedma_jax.memory.open`; None to go without.
    - `short_term`: what the last call returned.
    - `ablation`: parts to leave out.
    - `weights`: weights of energy and error in the reward, beside time and memory.
    - `pressure`: share of memory in use, from 0 to 1; measured if left out.
    - `actual`: the arrays as they really are, if they differ from what `arrays` says: this
        simulates devices that changed without notice.
    - `trace`: records the stages: classify, recall, plan, program, correct, learn.
    - `key`: typed key of all randomness, including that of exploration.

    **Returns:**

    The product, a record of what was done, and the short-term memory for the next call.

    **Raises:**

    - `ValueError`: as `plan_partitions`, `program_pool` and `corrected_matvec` do; if
        `pressure` is not from 0 to 1.
    - `ConnectionError`: as the memory does.

    **Example:**

        >>> pool = sj.Pool((sj.ArrayKind(8, 8, 4, sj.devices.EPIRAM),))
        >>> A, x = np.ones((8, 8)), np.ones(8)
        >>> y, info, short_term = sj.memory.adaptive_matvec(
        ...     A, x, pool, memory=None, pressure=0.5, key=jr.key(0)
        ... )
        >>> bool(jnp.max(jnp.abs(y - 8)) < 0.08), info.searched  # nothing is remembered yet
        (True, True)
    """
    trace = (trace or Trace()).part()
    short_term = ShortTerm() if short_term is None else short_term
    choice_key, program_key, product_key = split_key(key, 3)
    if pressure is not None:
        remedy = "It is the share of memory in use; leave it out to measure it."
        call = "sedma_jax.memory.adaptive_matvec"
        check_numbers(call, SHARE, remedy, pressure=pressure)
    if not isinstance(arrays, Pool):
        arrays = device_of("memory.adaptive_matvec", arrays, "arrays")
        arrays = Pool((ArrayKind(256, 256, _ARRAYS, arrays),))
    decision = decide(
        A, arrays, memory, short_term, ablation, pressure, trace=trace, key=choice_key
    )
    plan = decision.plan
    hardware = plan.pool if actual is None else actual
    with trace.stage("program") as said:
        programmed = program_pool(
            A, PartitionPlan(hardware, plan.rectangles, plan.shape), key=program_key
        )
        jax.block_until_ready(programmed)
        said |= {"partitions": len(plan.rectangles), "passes": plan.passes}
    lam: float | RememberedLambda = BASELINE_LAMBDA
    if ablation.adaptive_lambda:
        lam = decision.remembered_lambda
    first = hardware.kinds[plan.rectangles[0].kind if plan.rectangles else 0]
    with trace.stage("correct") as said:
        y, correction = corrected_matvec(
            A,
            x,
            cast(Device, first.device),  # every kind of a plan's pool has one
            array=(first.rows, first.cols),
            lam=lam,
            programmed=programmed,
            key=product_key,
        )
        jax.block_until_ready(y)
        said["lambda"] = float(correction.lam)
    with trace.stage("learn") as said:
        outcome, short_term = learn(
            decision, programmed[1], correction, memory, short_term, ablation, weights
        )
        said |= {
            "reward": outcome.reward,
            "written": outcome.written,
            "changed": outcome.changed,
        }
    info = AdaptiveInfo(
        correction=correction,
        plan=plan,
        strategy=decision.strategy,
        workload=decision.workload,
        recalled=sum(map(len, decision.recalled.values())),
        written=outcome.written,
        searched=decision.searched,
        neighbour=decision.neighbour,
        changed=outcome.changed,
        reward=outcome.reward,
        before=earlier_runs(
            decision.recalled["partition"], decision.regime, decision.strategy
        ),
        measured=outcome.measured,
        lam_mem=decision.lam_mem,
        seconds=trace.seconds(),
    )
    return y, info, short_term
