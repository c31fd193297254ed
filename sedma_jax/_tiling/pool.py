"""The pool of crossbar arrays, and how a matrix is laid out on it."""

import math
import operator
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import equinox as eqx
import numpy as np
from numpy.typing import ArrayLike

from .._arguments import device_of
from ..kernels import Device, check_kind, shown, whole
from .packing import Known, Place, pack


def _device(device):
    return None if device is None else device_of("ArrayKind", device)


class ArrayKind(eqx.Module):
    """Crossbar arrays of one size and material.

    - `rows`, `cols`: word lines (inputs) and bit lines (outputs) of one array.
    - `count`: number of arrays of this kind.
    - `device`: the technology; if left out, `plan_partitions` has to supply it.

    **Example:**

        >>> kind = sj.ArrayKind(128, 64, count=16, device="taox-hfox")
        >>> kind.rows * kind.cols * kind.count  # cells of a polarity
        131072
    """

    rows: int = eqx.field(static=True)
    cols: int = eqx.field(static=True)
    count: int = eqx.field(static=True, default=1)
    device: Device | None = eqx.field(default=None, converter=_device)

    def __check_init__(self):
        for name in ("rows", "cols", "count"):
            value = getattr(self, name)
            if (whole(value) or 0) < 1:
                raise ValueError(
                    f"`sedma_jax.ArrayKind` needs a whole `{name}` of at least 1. "
                    f"Got {value!r}. Write `ArrayKind(256, 256, 16)`."
                )
        if self.rows * self.cols > 2**30:
            raise ValueError(
                "`sedma_jax.ArrayKind` needs at most 2**30 cells. "
                f"Got {self.rows} x {self.cols}. Use more and smaller arrays."
            )


def _kinds(kinds):
    """A tuple of kinds; of one kind alone too."""
    if isinstance(kinds, ArrayKind):
        return (kinds,)
    return tuple(kinds) if isinstance(kinds, Iterable) else kinds


class Pool(eqx.Module):
    """The crossbar arrays available to a computation, of one or several kinds.

    - `kinds`: each an `ArrayKind`, or one alone; a plan names them by their place.

    **Raises:** `ValueError` for none, or for what is no `ArrayKind`.

    **Example:**

        >>> pool = sj.Pool((
        ...     sj.ArrayKind(256, 256, count=4, device="epiram"),
        ...     sj.ArrayKind(64, 64, count=32, device="taox-hfox"),
        ... ))
        >>> sum(kind.count for kind in pool.kinds)
        36
    """

    kinds: tuple[ArrayKind, ...] = eqx.field(converter=_kinds)

    def __check_init__(self):
        kinds = self.kinds if isinstance(self.kinds, tuple) else ()
        if not kinds or not all(isinstance(k, ArrayKind) for k in kinds):
            raise ValueError(
                "`sedma_jax.Pool` needs `kinds` to be one `ArrayKind` or more. "
                f"Got {shown(self.kinds)}. Write `Pool([ArrayKind(256, 256, 16, device)])`."
            )


class Rectangle(NamedTuple):
    """The part of a matrix that one array holds in one pass.

    - `top`, `bottom`; `left`, `right`: half-open ranges of rows (outputs) and columns
        (inputs) of the matrix.
    - `kind`: place of the kind of array in the pool.
    - `pass_number`: number of the pass, from 0. Arrays of a pass work side by side.

    **Example:**

        >>> part = sj.Rectangle(0, 256, 256, 300, kind=0, pass_number=0)
        >>> part.bottom - part.top, part.right - part.left  # outputs, inputs
        (256, 44)
    """

    top: int
    bottom: int
    left: int
    right: int
    kind: int
    pass_number: int


class PartitionPlan(eqx.Module):
    """How a matrix is cut into partitions, and which array holds each.

    - `pool`: the arrays, each kind with its device.
    - `rectangles`: the partitions. The noise of each depends on its place in this order.
    - `shape`: shape of the matrix.

    **Example:**

        >>> pool = sj.Pool(sj.ArrayKind(256, 256, count=1, device="epiram"))
        >>> plan = sj.plan_partitions((256, 512), pool)  # two halves on one array
        >>> sorted(part.pass_number for part in plan.rectangles)
        [0, 1]
    """

    pool: Pool
    rectangles: tuple[Rectangle, ...] = eqx.field(static=True)
    shape: tuple[int, int] = eqx.field(static=True)

    @property
    def passes(self) -> int:
        """How often the arrays are used one after another."""
        return max((r.pass_number for r in self.rectangles), default=-1) + 1

    @property
    def counts(self) -> tuple[int, ...]:
        """Number of partitions on each kind of array, over all passes."""
        counts = np.bincount(
            [r.kind for r in self.rectangles], minlength=len(self.pool.kinds)
        )
        return tuple(int(c) for c in counts)

    @property
    def arrays(self) -> tuple[int, ...]:
        """Number of arrays of each kind that are used."""
        kinds = zip(self.counts, self.pool.kinds, strict=True)
        return tuple(min(count, kind.count) for count, kind in kinds)

    @property
    def cells_reserved(self) -> int:
        """Cells of all reserved arrays; an array counts once per pass that uses it."""
        kinds = zip(self.counts, self.pool.kinds, strict=True)
        return sum(count * kind.rows * kind.cols for count, kind in kinds)

    @property
    def memory_efficiency(self) -> float:
        """Share of the reserved cells that hold an entry of the matrix."""
        held = sum((r.bottom - r.top) * (r.right - r.left) for r in self.rectangles)
        return held / self.cells_reserved if held else 1.0


def candidate_plans(
    shape: tuple[int, int],
    pool: Pool,
    device: Device | None = None,
    *,
    occupied: tuple[np.ndarray, np.ndarray] | None = None,
) -> tuple[PartitionPlan, ...]:
    """Plans that trade passes against reserved cells, from few passes to few cells.

    No plan is beaten by another in passes, reserved cells and number of partitions at
    once. Arguments and errors are those of `plan_partitions`.

    **Example:**

        >>> large = sj.ArrayKind(256, 256, count=2, device="epiram")
        >>> small = sj.ArrayKind(64, 64, count=4, device="epiram")
        >>> plans = sj.candidate_plans((300, 300), sj.Pool([large, small]))
        >>> passes = [max(p.pass_number for p in plan.rectangles) + 1 for plan in plans]
        >>> passes == sorted(passes), len(plans) > 1
        (True, True)
    """
    shape, pool, occupied = checked_question(shape, pool, device, occupied)
    found = {}
    for prices in PRICES.values():
        for turned in (False, True):
            for plan in packed_plans(shape, pool, prices(pool), turned, occupied):
                _keep(found, plan)
    return tuple(plan for _, plan in sorted(found.items(), key=operator.itemgetter(0)))


def _by_size(exponent: float) -> Callable[[Pool], list[float]]:
    # With equally many cells, fewer arrays are better.
    return lambda pool: [
        (k.rows * k.cols) ** exponent * (1 + 1e-9) + 1e-6 for k in pool.kinds
    ]


# Prices of an array of each kind, if few cells, few arrays, or both are wanted.
PRICES = {"cells": _by_size(1.0), "even": _by_size(0.5), "arrays": _by_size(0.0)}


def packed_plans(
    shape: tuple[int, int],
    pool: Pool,
    prices: Sequence[float],
    turned: bool,
    occupied: tuple[np.ndarray, np.ndarray] | None,
) -> list[PartitionPlan]:
    """The plan of the lowest price, and plans with fewer passes, down to the fewest.

    `turned` cuts columns first. Arguments are checked already.
    """
    entries = shape[0] * shape[1] if occupied is None else len(occupied[0])
    capacity = sum(k.rows * k.cols * k.count for k in pool.kinds)
    known: Known = {}
    plan = _plan(shape, pool, math.inf, prices, turned, occupied, known)
    assert plan is not None  # with enough passes any matrix fits
    plans = [plan]
    low, high = -(-entries // capacity), plan.passes
    while low < high:
        middle = (low + high) // 2
        plan = _plan(shape, pool, middle, prices, turned, occupied, known)
        if plan is None:
            low = middle + 1
        else:
            plans.append(plan)
            high = plan.passes
    return plans


def _keep(found: dict[tuple[int, int, int], PartitionPlan], plan: PartitionPlan) -> None:
    """Add a plan, unless one of those found is as good; drop those that it beats."""
    figures = (plan.passes, plan.cells_reserved, len(plan.rectangles))
    worse = lambda a, b: all(x >= y for x, y in zip(a, b, strict=True))
    if not any(worse(figures, other) for other in found):
        for other in [o for o in found if worse(o, figures)]:
            del found[other]
        found[figures] = plan


def _plan(
    shape: tuple[int, int],
    pool: Pool,
    passes: float,
    prices: Sequence[float],
    turned: bool,
    occupied: tuple[np.ndarray, np.ndarray] | None,
    known: Known,
) -> PartitionPlan | None:
    """A plan of at most `passes` passes, or None; `turned` cuts columns first."""
    kinds = pool.kinds
    turn = (lambda pair: pair[::-1]) if turned else (lambda pair: pair)
    places = pack(
        turn(shape),
        [turn((k.cols, k.rows)) for k in kinds],
        [k.count * passes for k in kinds],
        prices,
        None if occupied is None else turn(occupied),
        known,
    )
    if places is None:
        return None
    if turned:
        places = [
            Place(top=p.left, bottom=p.right, left=p.top, right=p.bottom, kind=p.kind)
            for p in places
        ]
    used = [0] * len(kinds)
    rectangles = []
    for place in places:
        turn_number = used[place.kind] // kinds[place.kind].count
        rectangles.append(Rectangle(**place._asdict(), pass_number=turn_number))
        used[place.kind] += 1
    return PartitionPlan(pool, tuple(rectangles), shape)


def checked_question(
    shape: Sequence[int],
    pool: Pool,
    device: Device | None,
    occupied: Sequence[ArrayLike] | None,
) -> tuple[tuple[int, int], Pool, tuple[np.ndarray, np.ndarray] | None]:
    """Check the arguments of `plan_partitions`; every kind of the pool gets a device."""
    call = "sedma_jax.plan_partitions"
    remedy = "Write `Pool([ArrayKind(256, 256, 16, device)])`."
    check_kind(call, Pool, "a `sedma_jax.Pool`", remedy, pool=pool)
    device = None if device is None else device_of("plan_partitions", device)
    m, n = _checked_shape(shape)
    nonzeros = None if occupied is None else _checked_occupied(occupied, (m, n))
    return (m, n), _equipped(pool, device), nonzeros


def _checked_shape(shape: Sequence[int]) -> tuple[int, int]:
    sides = list(shape) if isinstance(shape, Sequence) else []
    numbers = [whole(side) or 0 for side in sides]
    if len(numbers) != 2 or min(numbers) < 1:
        raise ValueError(
            "`sedma_jax.plan_partitions` needs the shape (m, n) of a matrix with at "
            f"least one entry. Got {shown(shape)}. Pass `A.shape`."
        )
    return numbers[0], numbers[1]


def _checked_occupied(
    occupied: Sequence[ArrayLike], shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    rows, cols = (np.asarray(index).astype(np.int64).ravel() for index in occupied)
    for index, extent in ((rows, shape[0]), (cols, shape[1])):
        if rows.size != cols.size or (
            index.size and not 0 <= index.min() <= index.max() < extent
        ):
            raise ValueError(
                "`sedma_jax.plan_partitions` needs `occupied` to be the rows and columns "
                f"of entries of a matrix of shape {shape}. Got {rows.size} rows and "
                f"{cols.size} columns, or some outside. Pass `A.nonzero()`."
            )
    return rows, cols


def _equipped(pool: Pool, device: Device | None) -> Pool:
    """The pool with a device for every kind."""
    if device is None and any(k.device is None for k in pool.kinds):
        raise ValueError(
            "`sedma_jax.plan_partitions` needs a device for every kind of array in the "
            "pool. Got a kind without one. "
            "Pass `ArrayKind(rows, cols, count, device)`, or `device` for all of them."
        )
    kinds = (
        ArrayKind(k.rows, k.cols, k.count, device if k.device is None else k.device)
        for k in pool.kinds
    )
    return Pool(tuple(kinds))
