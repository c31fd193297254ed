import itertools
import math
from functools import lru_cache

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given, settings, strategies as st

import sedma_jax as sj

DEVICE = sj.devices.EPIRAM
MIXED = ((256, 256, 16), (128, 128, 16), (64, 64, 32), (32, 32, 64))


def pool(*kinds):
    return sj.Pool([sj.ArrayKind(*kind, DEVICE) for kind in kinds])


def check(plan):
    """Every cell covered at most once, by an array that is large enough and free."""
    held = np.zeros(plan.shape, int)
    used = {}
    for r in plan.rectangles:
        kind = plan.pool.kinds[r.kind]
        assert 0 < r.bottom - r.top <= kind.cols
        assert 0 < r.right - r.left <= kind.rows
        held[r.top : r.bottom, r.left : r.right] += 1
        used[r.pass_number, r.kind] = used.get((r.pass_number, r.kind), 0) + 1
    assert all(n <= plan.pool.kinds[kind].count for (_, kind), n in used.items())
    assert {p for p, _ in used} == set(range(plan.passes))
    reserved = sum(
        n * plan.pool.kinds[kind].rows * plan.pool.kinds[kind].cols
        for (_, kind), n in used.items()
    )
    assert plan.cells_reserved == reserved
    assert plan.memory_efficiency == pytest.approx(held.sum() / max(reserved, 1), rel=1e-12)
    return held


sides = st.integers(1, 40)
kinds = st.lists(st.tuples(sides, sides, st.integers(1, 5)), min_size=1, max_size=4)


@given(st.tuples(st.integers(1, 120), st.integers(1, 120)), kinds)
@settings(max_examples=60)
def test_every_cell_is_covered_once(shape, kinds):
    for plan in sj.candidate_plans(shape, pool(*kinds)):
        assert (check(plan) == 1).all()


@pytest.mark.slow
@given(st.integers(0, 2**31), st.floats(0.001, 0.2), kinds)
@settings(max_examples=30)
def test_every_nonzero_is_covered_once(seed, density, kinds):
    A = scipy.sparse.random_array((70, 90), density=density, rng=seed)
    (rows, cols), arrays = A.nonzero(), pool(*kinds)
    for plan in sj.candidate_plans(A.shape, arrays, occupied=(rows, cols)):
        held = check(plan)
        assert held.max() == 1
        assert (held[rows, cols] == 1).all()
        dense = A.toarray()
        for r in plan.rectangles:
            assert dense[r.top : r.bottom, r.left : r.right].any()


@pytest.mark.slow
def test_blocks_of_a_large_matrix_cover_it():
    # Above 1024 rows the matrix is packed block by block.
    shape = (2500, 1100)
    assert (check(sj.plan_partitions(shape, pool((300, 256, 2), (47, 61, 9)))) == 1).all()
    A = scipy.sparse.diags_array(np.ones(2500), shape=shape).tocoo()
    plan = sj.plan_partitions(shape, pool((64, 64, 8), (9, 5, 4)), occupied=A.nonzero())
    held = check(plan)
    assert held.max() == 1
    assert (held[A.nonzero()] == 1).all()


def fewest_cells(shape, sizes, stock):
    """Least cells of arrays that hold all of a tiny matrix, over all ways to cut it."""
    m, n = shape

    @lru_cache(None)
    def best(mask, stock):
        free = next((i for i in range(m * n) if not mask >> i & 1), None)
        if free is None:
            return 0
        top, left = divmod(free, n)
        least = math.inf
        for k, (h, w) in enumerate(sizes):
            rest = (*stock[:k], stock[k] - 1, *stock[k + 1 :])
            for width in range(1, min(w, n - left) + 1) if stock[k] else ():
                for height in range(1, min(h, m - top) + 1):
                    block = sum(
                        ((1 << width) - 1) << ((top + i) * n + left) for i in range(height)
                    )
                    if mask & block:
                        break
                    least = min(least, h * w + best(mask | block, rest))
        return least

    return best(0, tuple(stock))


@pytest.mark.parametrize(
    "sizes", [((2, 2), (3, 1), (1, 4)), ((3, 3), (2, 2)), ((3, 2), (2, 3))]
)
def test_tiny_matrices_reserve_as_few_cells_as_any_cut(sizes):
    arrays = pool(*((w, h, 99) for h, w in sizes))
    for shape in itertools.product(range(1, 6), repeat=2):
        plans = sj.candidate_plans(shape, arrays)
        best = fewest_cells(shape, sizes, (math.inf,) * len(sizes))
        assert min(plan.cells_reserved for plan in plans) == best


@pytest.mark.parametrize(
    ("sizes", "counts", "exceptions"),
    [
        # Mixed stacks are not among the patterns: a corner of one array is left over.
        (((2, 2), (3, 1), (1, 4)), (1, 1, 1), {(3, 3)}),
        (((3, 3), (2, 2)), (1, 2), set()),
        (((2, 2), (1, 1)), (1, 2), set()),
        (((4, 4), (2, 2)), (1, 4), set()),
    ],
)
def test_tiny_pools_take_as_few_passes_as_any_cut(sizes, counts, exceptions):
    arrays = pool(*((w, h, c) for (h, w), c in zip(sizes, counts, strict=True)))
    for shape in itertools.product(range(1, 5), repeat=2):
        plan = sj.candidate_plans(shape, arrays)[0]
        for passes in itertools.count(1):
            cells = fewest_cells(shape, sizes, [c * passes for c in counts])
            if cells < math.inf:
                break
        if shape in exceptions:
            assert plan.passes == passes + 1
        else:
            assert (plan.passes, plan.cells_reserved) == (passes, cells)


@pytest.mark.parametrize(
    ("shape", "efficiency", "static"),
    [
        # Multiples of 32 rows and columns are the least that these arrays reserve.
        ((66, 66), 66**2 / 96**2, 66**2 / 256**2),
        ((67, 67), 67**2 / 96**2, 67**2 / 256**2),
        ((183, 183), 183**2 / 192**2, 183**2 / 256**2),
        ((1000, 1000), 1000**2 / 1024**2, 1000**2 / 1024**2),
        ((1, 500), 500 / (32 * 512), 500 / (256 * 512)),
        ((500, 1), 500 / (32 * 512), 500 / (256 * 512)),
        ((700, 300), 700 * 300 / (704 * 320), 700 * 300 / (768 * 512)),
    ],
)
def test_memory_efficiency_of_a_mixed_pool(shape, efficiency, static):
    plan = sj.candidate_plans(shape, pool(*MIXED))[0]
    assert plan.passes == 1
    assert plan.memory_efficiency == pytest.approx(efficiency, rel=1e-12)
    grid = sj.plan_partitions(shape, pool((256, 256, 99)))
    assert grid.memory_efficiency == pytest.approx(static, rel=1e-12)


def test_plans_are_data():
    one, two = (sj.plan_partitions((66, 40), pool((32, 16, 2), (8, 8, 3))) for _ in "ab")
    assert one == two
    assert hash(one) == hash(two)
    assert one.counts == tuple(
        sum(r.kind == kind for r in one.rectangles) for kind in range(2)
    )
    assert one.arrays == (2, min(3, one.counts[1]))


def test_candidates_trade_passes_against_cells():
    plans = sj.candidate_plans((66, 66), pool((256, 256, 1), (32, 32, 4)))
    figures = [(p.passes, p.cells_reserved) for p in plans]
    assert figures == [(1, 256**2), (3, 9 * 32**2)]


def test_the_device_of_the_call_fills_in():
    bare = sj.Pool([sj.ArrayKind(4, 4), sj.ArrayKind(2, 2, 1, sj.devices.AG_ASI)])
    plan = sj.plan_partitions((5, 5), bare, sj.devices.TAOX_HFOX)
    devices = [kind.device for kind in plan.pool.kinds]
    assert devices == [sj.devices.TAOX_HFOX, sj.devices.AG_ASI]
    with pytest.raises(ValueError, match="device for every kind"):
        sj.plan_partitions((5, 5), bare)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: sj.ArrayKind(0, 4), "whole `rows`"),
        (lambda: sj.ArrayKind(4, 4, -1), "whole `count`"),
        (lambda: sj.ArrayKind(2**20, 2**20), "cells"),
        (lambda: sj.Pool(()), "one `ArrayKind` or more"),
        (lambda: sj.plan_partitions((0, 3), pool((4, 4, 1))), "at least one entry"),
        (
            lambda: sj.plan_partitions(
                (3, 3), pool((4, 4, 1)), occupied=(np.array([3]), np.array([0]))
            ),
            "occupied",
        ),
    ],
)
def test_impossible_pools_and_plans_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
