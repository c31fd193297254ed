"""Cells that the packing reserves beyond the fewest possible, on small cases.

    python -m bench.memory.packing_gap [--cases 200] [--seed 0] [--out FILE]

Matrices have 4 to 12 rows and columns and are dense or have a fifth of the entries; pools
have two or three sizes of 2 to 6 lines. The fewest cells come from an integer program that
HiGHS solves to proven optimality (`scipy.optimize.milp`): it has one variable per kind and
place of an array, and covers each entry at least once. It allows overlaps, which no plan
has, so the gap is an upper bound.
"""

from pathlib import Path

import numpy as np
import scipy.optimize
import scipy.sparse

import sedma_jax as sj
from bench.shared import parser_of, write_json


def fewest_cells(occupied, sizes):
    """Cells of the cheapest arrays that cover all entries; `sizes` in rows and columns."""
    m, n = occupied.shape
    prices, columns = [], []
    for height, width in sizes:
        for top in range(max(m - height, 0) + 1):
            for left in range(max(n - width, 0) + 1):
                held = np.zeros_like(occupied)
                held[top : top + height, left : left + width] = True
                columns.append(held[occupied])
                prices.append(height * width)
    found = scipy.optimize.milp(
        prices,
        constraints=scipy.optimize.LinearConstraint(
            scipy.sparse.csr_array(np.array(columns, float).T), lb=1
        ),
        integrality=np.ones(len(prices)),
        bounds=scipy.optimize.Bounds(0, 1),
    )
    assert found.status == 0, found.message
    return round(found.fun)


def case(rng):
    """Cells reserved by the best plan, and the fewest."""
    m, n = rng.integers(4, 13, 2)
    dense = rng.random() < 0.5
    occupied = np.ones((m, n), bool) if dense else rng.random((m, n)) < 0.2
    occupied[0, 0] = True
    sizes = np.unique(rng.integers(2, 7, (rng.integers(2, 4), 2)), axis=0).tolist()
    pool = sj.Pool([sj.ArrayKind(w, h, 10**4, sj.devices.EPIRAM) for h, w in sizes])
    given = None if dense else occupied.nonzero()
    plans = sj.candidate_plans((int(m), int(n)), pool, occupied=given)
    reserved = min(plan.cells_reserved for plan in plans)
    fewest = fewest_cells(occupied, sizes)
    assert reserved >= fewest
    return dense, reserved, fewest


def main():
    parser = parser_of(__doc__)
    parser.add_argument("--cases", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", metavar="FILE", help="write the figures there, as JSON")
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    found = np.array([case(rng) for _ in range(options.cases)], float)
    rows = []
    for name, kind in (("dense", 1), ("sparse", 0)):
        reserved, fewest = found[found[:, 0] == kind, 1:].T
        gap = reserved / fewest - 1
        rows.append(
            {
                "matrices": name,
                "cases": len(gap),
                "optimal": float(np.mean(gap == 0)),
                "mean_gap": float(gap.mean()),
                "p90_gap": float(np.quantile(gap, 0.9)),
                "largest_gap": float(gap.max()),
            }
        )
        print(
            f"{name:7}{len(gap):5} cases: {np.mean(gap == 0):.0%} optimal, gap mean "
            f"{gap.mean():.1%}, p90 {np.quantile(gap, 0.9):.1%}, largest {gap.max():.1%}"
        )
    if options.out:
        write_json(Path(options.out), {"rows": rows})


if __name__ == "__main__":
    main()
