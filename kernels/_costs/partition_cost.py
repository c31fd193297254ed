"""Compare all ways to cut a matrix into partitions at once (SEDMA, Eq. 4).

    argmin_p  sum_i compute_cost(p_i) + lam_mem memory_overhead(p_i)

*Compute cost*, in seconds, is the time of programming and reading. The arrays of one pass
work in parallel, so that a pass lasts as long as its slowest partition, and passes add up.
*Memory overhead*, in MB (1e6 bytes), is what a partition takes besides the entries it
holds: reserved cells that are empty, its place and the lines that it is wired to, and the
partial results of its products.

The price of memory rises as memory runs out:

    lam_mem = price / (1 - pressure)      seconds per MB

with `pressure` the share of memory in use, as the wait of a queue grows with its load. A MB
costs `price` with all memory free, twice as much with half of it free, and without bound as
the last of it is used.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from .._cells.device import Device, Scalar
from .._programming.closed_loop import VerifyRule, acceptance_band
from .._programming.expected_latency import expected_line_latency

CELL_BYTES = 12.0
"""Bytes of a cell pair: its weight and two conductances, in single precision."""

# Bytes of an index, a scale or a partial result; and of the six numbers of a rectangle.
_WORD_BYTES = 4.0
_PLACE_BYTES = 48.0
# Share of memory in use at which a MB costs a thousand times its price.
_MOST_PRESSURE = 0.999


class Partitions(eqx.Module):
    """The partitions of several plans in one list.

    - `plan`: number of the plan; a number that is too large marks padding.
    - `turn`: number of the pass within the plan.
    - `kind`: kind of array, which sets its size and device.
    - `word_lines`, `bit_lines`: number of lines that hold a part of the matrix.
    - `cells`: mean number of entries written per word line.

    **Example:**

        >>> parts = sj.kernels.Partitions(  # a plan of one 64 x 32 part, in one pass
        ...     plan=jnp.array([0]), turn=jnp.array([0]), kind=jnp.array([0]),
        ...     word_lines=jnp.array([64.0]), bit_lines=jnp.array([32.0]),
        ...     cells=jnp.array([32.0]),
        ... )
        >>> print(parts.word_lines * parts.cells)  # entries written
        [2048.]
    """

    plan: Int[Array, " partitions"]
    turn: Int[Array, " partitions"]
    kind: Int[Array, " partitions"]
    word_lines: Float[Array, " partitions"]
    bit_lines: Float[Array, " partitions"]
    cells: Float[Array, " partitions"]


class PlanCost(eqx.Module):
    """The costs of plans.

    - `objective`: Eq. 4, in seconds.
    - `seconds`: compute cost, in seconds.
    - `megabytes`: memory overhead, in MB.

    **Example:**

        >>> parts = sj.kernels.Partitions(
        ...     *3 * (jnp.array([0]),), *(jnp.array([v]) for v in (64.0, 32.0, 32.0))
        ... )
        >>> seconds, sizes = jnp.array([2.0]), jnp.array([[128.0, 128.0]])
        >>> cost = sj.kernels.plan_costs(parts, seconds, sizes, 10.0, plans=1, turns=1)
        >>> bool(jnp.allclose(cost.objective, cost.seconds + 10 * cost.megabytes))
        True
    """

    objective: Float[Array, " plans"]
    seconds: Float[Array, " plans"]
    megabytes: Float[Array, " plans"]


def memory_price(price: Scalar, pressure: Scalar) -> Float[Array, ""]:
    """Compute `lam_mem = price / (1 - pressure)`, in seconds per MB.

    **Arguments:**

    - `price`: of a MB with all memory free, in seconds per MB.
    - `pressure`: share of memory in use, from 0 to 1; above 0.999 it counts as that.

    **Example:**

        >>> print(sj.kernels.memory_price(0.1, pressure=0.5))  # twice that of free memory
        0.2
    """
    return price / (1 - jnp.clip(jnp.asarray(pressure), 0, _MOST_PRESSURE))


def partition_seconds(
    partitions: Partitions,
    devices: tuple[Device, ...],
    slowdown: Float[Array, " kinds"],
    *,
    rule: VerifyRule | None = None,
) -> Float[Array, " partitions"]:
    """Expected seconds to program each partition and to read it once.

    **Arguments:**

    - `devices`: the device of each kind of array.
    - `slowdown`: measured time of each kind over the expected time; 1 if not known.
    - `rule`: stopping rule for all kinds; by default the `acceptance_band` of each device.

    **Example:**

        >>> place, cols = jnp.zeros(2, jnp.int32), jnp.full(2, 32.0)
        >>> parts = sj.kernels.Partitions(
        ...     place, place, place, jnp.array([64.0, 128.0]), bit_lines=cols, cells=cols
        ... )
        >>> device = (sj.devices.EPIRAM,)
        >>> seconds = sj.kernels.partition_seconds(parts, device, jnp.ones(1))
        >>> print(np.asarray(seconds[1] / seconds[0]).round(2))  # rows in turn
        2.0
    """
    seconds = jnp.zeros_like(partitions.cells)
    for kind, device in enumerate(devices):
        own = acceptance_band(device) if rule is None else rule
        line = jax.vmap(expected_line_latency, (None, None, 0))
        lasting = partitions.word_lines * line(device, own, partitions.cells)
        lasting = lasting + jnp.asarray(device.t_read, lasting.dtype)
        seconds = jnp.where(partitions.kind == kind, lasting * slowdown[kind], seconds)
    return seconds


def plan_costs(
    partitions: Partitions,
    seconds: Float[Array, " partitions"],
    sizes: Float[Array, "kinds 2"],
    lam_mem: Scalar,
    *,
    plans: int,
    turns: int,
    vectors: int = 1,
) -> PlanCost:
    """Evaluate Eq. 4 for every plan.

    **Arguments:**

    - `partitions`: the partitions of all plans, in any order.
    - `seconds`: time of each partition, from `partition_seconds` or measured.
    - `sizes`: word lines and bit lines of each kind of array.
    - `lam_mem`: price of memory, in seconds per MB; see `memory_price`.
    - `plans`, `turns`: number of plans, and of passes in the longest one. Static.
    - `vectors`: number of vectors that are multiplied at once. Static.

    **Example:**

        >>> parts = sj.kernels.Partitions(
        ...     *3 * (jnp.array([0]),), *(jnp.array([v]) for v in (64.0, 32.0, 32.0))
        ... )
        >>> seconds, sizes = jnp.array([2.0]), jnp.array([[128.0, 128.0]])
        >>> cost = sj.kernels.plan_costs(parts, seconds, sizes, 0.0, plans=1, turns=1)
        >>> print(cost.objective)  # memory costs nothing here
        [2.]
    """
    place = partitions.plan * turns + partitions.turn
    slowest = jax.ops.segment_max(seconds, place, plans * turns)
    slowest = jnp.where(jnp.isfinite(slowest), slowest, 0).reshape(plans, turns)
    lines = jnp.sum(sizes, axis=1)[partitions.kind]
    empty = jnp.prod(sizes, axis=1)[partitions.kind]
    empty = empty - partitions.word_lines * partitions.bit_lines
    held = CELL_BYTES * empty + _PLACE_BYTES + _WORD_BYTES * lines
    held = held + _WORD_BYTES * vectors * (partitions.word_lines + partitions.bit_lines)
    megabytes = jax.ops.segment_sum(1e-6 * held, partitions.plan, plans)
    total = jnp.sum(slowest, axis=1)
    return PlanCost(total + lam_mem * megabytes, total, megabytes)
