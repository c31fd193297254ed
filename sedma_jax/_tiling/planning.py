"""Choose how to lay a matrix out on a pool of arrays: SEDMA, Eq. 4."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ..kernels import (
    CELL_BYTES,
    POSITIVE,
    Device,
    Partitions,
    PlanCost,
    check_numbers,
    partition_seconds,
    plan_costs,
    shown,
)
from .pool import (
    PRICES,
    PartitionPlan,
    Pool,
    Rectangle,
    checked_question,
    packed_plans,
)

Occupied = tuple[np.ndarray, np.ndarray] | None

# Seconds that one MB of memory is worth while all memory is free.
MEMORY_PRICE = 1.0


def plan_partitions(
    shape: tuple[int, int],
    pool: Pool,
    device: Device | None = None,
    *,
    occupied: Occupied = None,
    lam_mem: float = MEMORY_PRICE,
    slowdown: tuple[float, ...] | None = None,
) -> PartitionPlan:
    """Lay a matrix out on a pool of arrays, at the lowest cost (SEDMA, Eq. 4).

    Among the plans of all strategies (`strategy_names`), this is the one with the smallest
    sum of the expected seconds of programming and reading and of `lam_mem` times its memory
    overhead in megabytes.

    **Arguments:**

    - `shape`: `(m, n)` of the matrix.
    - `pool`: the available arrays.
    - `device`: technology of the kinds that name none.
    - `occupied`: rows and columns of the nonzeros of a sparse matrix, as `A.nonzero()`
        returns them. Parts without any are not stored.
    - `lam_mem`: price of memory in seconds per MB, positive; see
        `sedma_jax.kernels.memory_price`.
    - `slowdown`: measured time of each kind over the time expected from its figures; 1
        if left out.

    **Returns:**

    The plan. Equal arguments give equal plans.

    **Raises:**

    - `ValueError`: if the shape is not two positive whole numbers, `occupied` lies
        outside of it, a kind has no device, or `lam_mem` or `slowdown` is not positive
        and finite.

    **Example:**

        >>> pool = sj.Pool(sj.ArrayKind(256, 256, count=4, device="epiram"))
        >>> plan = sj.plan_partitions((512, 300), pool)  # 300 inputs, 512 outputs
        >>> len(plan.rectangles)
        4
    """
    call = "sedma_jax.plan_partitions"
    remedy = f"It is in seconds per MB; the default is {MEMORY_PRICE}."
    check_numbers(call, POSITIVE, remedy, lam_mem=lam_mem)
    shape, pool, occupied = checked_question(shape, pool, device, occupied)
    if slowdown is not None:
        if np.shape(slowdown) != (len(pool.kinds),):
            raise ValueError(
                f"`{call}` needs a `slowdown` for each of the {len(pool.kinds)} kinds of "
                f"the pool. Got {shown(slowdown)}. Leave it out for 1."
            )
        remedy = "It is a ratio of times."
        check_numbers(call, POSITIVE, remedy, slowdown=np.asarray(slowdown))
    how = {"occupied": occupied, "lam_mem": lam_mem, "slowdown": slowdown}
    plans = [
        plan
        for name in strategy_names(pool)
        for plan in strategy_plans(name, shape, pool, **how)
    ]
    return plans[cheapest(weigh(plans, **how))]


def strategy_names(pool: Pool) -> tuple[str, ...]:
    """The names of the strategies for laying out a matrix on a pool.

    `cells` packs for few cells, `arrays` for few arrays, and `even` for a compromise;
    `cost` packs by the price that Eq. 4 gives each kind of array. With `-turned` columns
    are cut before rows. `grid-k` lays arrays of kind `k` alone side by side.
    """
    packed = [name + end for name in (*PRICES, "cost") for end in ("", "-turned")]
    return (*packed, *(f"grid-{k}" for k in range(len(pool.kinds))))


def strategy_plans(
    name: str,
    shape: tuple[int, int],
    pool: Pool,
    *,
    occupied: Occupied = None,
    lam_mem: float = MEMORY_PRICE,
    slowdown: tuple[float, ...] | None = None,
) -> list[PartitionPlan]:
    """The plans of one strategy; the arguments are checked already."""
    rule, _, detail = name.partition("-")
    if rule == "grid":
        return [grid_plan(shape, pool, int(detail), occupied)]
    if rule == "cost":
        prices = _array_prices(pool, lam_mem, slowdown)
    else:
        prices = PRICES[rule](pool)
    return packed_plans(shape, pool, prices, detail == "turned", occupied)


def grid_plan(
    shape: tuple[int, int], pool: Pool, kind: int, occupied: Occupied = None
) -> PartitionPlan:
    """Lay arrays of one kind side by side, leaving out those without a nonzero."""
    (m, n), arrays = shape, pool.kinds[kind]
    grid = -(-m // arrays.cols), -(-n // arrays.rows)
    if occupied is None:
        places = np.arange(grid[0] * grid[1])
    else:
        rows, cols = occupied
        places = np.unique(rows // arrays.cols * grid[1] + cols // arrays.rows)
    rectangles = []
    for number, (i, j) in enumerate(zip(*np.divmod(places, grid[1]), strict=True)):
        top, left = int(i) * arrays.cols, int(j) * arrays.rows
        bottom, right = min(top + arrays.cols, m), min(left + arrays.rows, n)
        rectangles.append(
            Rectangle(
                top=top,
                bottom=bottom,
                left=left,
                right=right,
                kind=kind,
                pass_number=number // arrays.count,
            )
        )
    return PartitionPlan(pool, tuple(rectangles), shape)


def weigh(
    plans: list[PartitionPlan],
    *,
    occupied: Occupied = None,
    lam_mem: float = MEMORY_PRICE,
    slowdown: tuple[float, ...] | None = None,
    vectors: int = 1,
) -> PlanCost:
    """Eq. 4 of plans on one pool, in one call of the kernel; figures are NumPy arrays.

    Every word line of a sparse matrix is taken to have the mean number of nonzeros of the
    plan.
    """
    pool = plans[0].pool
    columns = [
        _columns(plan, number, None if occupied is None else len(occupied[0]))
        for number, plan in enumerate(plans)
    ]
    table = np.concatenate(columns, axis=1)
    # Sizes are rounded up, so that matrices share compilations.
    count, size = len(plans), _rounded(max(table.shape[1], 1))
    slots, turns = _rounded(count), _rounded(max(plan.passes for plan in plans))
    padding = np.zeros((6, size - table.shape[1]))
    padding[0] = slots
    table = np.concatenate([table, padding], axis=1)
    # Equal partitions take equally long, so each is computed once.
    alike, which = np.unique(table[2:], axis=1, return_inverse=True)
    spare = np.zeros((4, _rounded(alike.shape[1]) - alike.shape[1]))
    cost = _weigh(
        table[:2].astype(np.int32),
        np.concatenate([alike, spare], axis=1).astype(jnp.result_type(float)),
        which.astype(np.int32),
        tuple(kind.device for kind in pool.kinds),
        _known(slowdown, pool),
        _sizes(pool),
        jnp.asarray(lam_mem, jnp.result_type(float)),
        plans=slots,
        turns=turns,
        vectors=vectors,
    )
    return jax.tree.map(lambda v: np.asarray(v)[:count], cost)


def cheapest(cost: PlanCost) -> int:
    """The number of the plan that costs least; the first among equals."""
    least = np.min(cost.objective)
    return int(np.argmax(cost.objective <= least * (1 + 1e-6)))


@partial(jax.jit, static_argnames=("plans", "turns", "vectors"))
def _weigh(
    place: Int[Array, "2 partitions"],
    alike: Float[Array, "4 kinds_of_partitions"],
    which: Int[Array, " partitions"],
    devices: tuple[Device, ...],
    slowdown: Float[Array, " kinds"],
    sizes: Float[Array, "kinds 2"],
    lam_mem: Float[Array, ""],
    **how: int,
) -> PlanCost:
    """Eq. 4 of the plans whose partitions are given.

    - `place`: plan and pass of each partition.
    - `alike`: kind, word lines, bit lines and cells per word line of each different one.
    - `which`: place of each partition in `alike`.
    - `sizes`: word lines and bit lines of each kind of array.
    """
    kind = alike[0].astype(jnp.int32)
    none = jnp.zeros_like(kind)
    partitions = Partitions(
        plan=none,
        turn=none,
        kind=kind,
        word_lines=alike[1],
        bit_lines=alike[2],
        cells=alike[3],
    )
    seconds = partition_seconds(partitions, devices, slowdown)
    word, bit, cells = alike[1:, which]
    partitions = Partitions(
        plan=place[0],
        turn=place[1],
        kind=kind[which],
        word_lines=word,
        bit_lines=bit,
        cells=cells,
    )
    return plan_costs(partitions, seconds[which], sizes, lam_mem, **how)


def _columns(plan: PartitionPlan, number: int, nonzeros: int | None) -> np.ndarray:
    """Plan, pass, kind, word lines, bit lines, cells per word line of each partition."""
    top, bottom, left, right, kind, turn = np.array(plan.rectangles).reshape(-1, 6).T
    held = np.sum((bottom - top) * (right - left))
    density = 1.0 if nonzeros is None else nonzeros / max(held, 1)
    word, bit = right - left, bottom - top
    return np.stack([np.full(len(top), number), turn, kind, word, bit, bit * density])


def _array_prices(
    pool: Pool, lam_mem: float, slowdown: tuple[float, ...] | None
) -> list[float]:
    """Eq. 4 of one full array of each kind, its seconds divided by the number of arrays."""
    plans = [
        grid_plan((kind.cols, kind.rows), pool, k) for k, kind in enumerate(pool.kinds)
    ]
    cost = weigh(plans, lam_mem=lam_mem, slowdown=slowdown)
    return [
        float(seconds / kind.count)
        + lam_mem * (float(megabytes) + 1e-6 * CELL_BYTES * kind.rows * kind.cols)
        for kind, seconds, megabytes in zip(
            pool.kinds, cost.seconds, cost.megabytes, strict=True
        )
    ]


def _known(slowdown: tuple[float, ...] | None, pool: Pool) -> Float[Array, " kinds"]:
    if slowdown is None:
        slowdown = (1.0,) * len(pool.kinds)
    return jnp.asarray(slowdown, jnp.result_type(float))


def _sizes(pool: Pool) -> Float[Array, "kinds 2"]:
    return jnp.asarray([(k.rows, k.cols) for k in pool.kinds], jnp.result_type(float))


def _rounded(count: int) -> int:
    """The next power of four, from 16 up."""
    return max(16, 4 ** math.ceil(math.log(max(count, 1), 4)))
