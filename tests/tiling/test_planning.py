import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse
from sedma_jax.kernels import CELL_BYTES, memory_price
from sedma_jax.kernels._programming.expected_latency import expected_line_latency

import sedma_jax as sj
from sedma_jax._tiling.planning import grid_plan, strategy_names, strategy_plans, weigh

FAST, SLOW = sj.devices.TAOX_HFOX, sj.devices.EPIRAM
POOL = sj.Pool([sj.ArrayKind(64, 64, 4, SLOW), sj.ArrayKind(16, 16, 8, FAST)])


def by_hand(plan, lam_mem, line):
    """Eq. 4 partition by partition; `line` gives the seconds of a word line."""
    slowest, megabytes = {}, 0.0
    for r in plan.rectangles:
        kind = plan.pool.kinds[r.kind]
        words, bits = r.right - r.left, r.bottom - r.top
        seconds = words * line(kind.device, bits) + kind.device.t_read
        slowest[r.pass_number] = max(slowest.get(r.pass_number, 0.0), seconds)
        empty = kind.rows * kind.cols - words * bits
        megabytes += 1e-6 * (12 * empty + 48 + 4 * (kind.rows + kind.cols + words + bits))
    return sum(slowest.values()) + lam_mem * megabytes


def test_plans_are_weighed_as_by_hand_and_the_cheapest_is_taken():
    shape = (100, 70)
    how = {"occupied": None, "lam_mem": 3.0}
    plans = [
        p for name in strategy_names(POOL) for p in strategy_plans(name, shape, POOL, **how)
    ]
    found = weigh(plans, **how).objective
    law = jax.jit(lambda d, c: expected_line_latency(d, sj.acceptance_band(d), c))
    line = lambda device, cells: float(law(device, jnp.asarray(float(cells))))
    known = {}
    cached = lambda d, c: known.setdefault((d, c), line(d, c))
    want = [by_hand(plan, 3.0, cached) for plan in plans]
    np.testing.assert_allclose(found, want, rtol=1e-9)
    best = sj.plan_partitions(shape, POOL, lam_mem=3.0)
    assert by_hand(best, 3.0, cached) == pytest.approx(min(want), rel=1e-6)


def test_memory_pressure_and_slow_arrays_move_the_plan():
    plans = [sj.plan_partitions((66, 66), POOL, lam_mem=v) for v in (1e-4, 1.0, 1e4)]
    cells = [plan.cells_reserved for plan in plans]
    assert cells[0] >= cells[1] >= cells[2]
    assert cells[0] > cells[2] or plans[0].counts != plans[2].counts
    assert plans[1].counts[1] > 0
    away = sj.plan_partitions((66, 66), POOL, lam_mem=1.0, slowdown=(1.0, 1e6))
    assert away.counts[1] == 0
    with pytest.raises(ValueError, match="lam_mem"):
        sj.plan_partitions((3, 3), POOL, lam_mem=0.0)


def test_the_price_of_memory_rises_as_it_runs_out():
    price = [float(memory_price(2.0, p)) for p in (0.0, 0.5, 1.0)]
    assert price == pytest.approx([2.0, 4.0, 2000.0], rel=1e-6)


def test_a_grid_holds_the_nonzeros_and_no_more():
    A = scipy.sparse.random_array((50, 90), density=0.01, rng=0).tocoo()
    plan = grid_plan(A.shape, POOL, 1, A.nonzero())
    tiles = {(r // 16, c // 16) for r, c in zip(*A.nonzero(), strict=True)}
    assert {(r.top // 16, r.left // 16) for r in plan.rectangles} == tiles
    assert plan.passes == -(-len(tiles) // 8)
    assert len(grid_plan(A.shape, POOL, 1).rectangles) == 4 * 6


@pytest.mark.parametrize("name", sj.devices.PRESETS)
def test_the_law_of_writing_is_within_a_factor_of_two(name):
    device = dataclasses.replace(sj.devices.PRESETS[name])
    A = np.random.default_rng(0).random((48, 16))
    _, stats = sj.program(A, device, array=(16, 48), key=jax.random.key(0))
    line = expected_line_latency(device, sj.acceptance_band(device), jnp.asarray(48.0))
    assert 0.5 < 16 * float(line) / float(stats.latency) < 2
    assert CELL_BYTES == 12
