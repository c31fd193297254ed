"""Records of products, for JSON."""

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import csr_array

from ... import devices
from ..._crossbar.crossbar import Crossbar
from ..._products.correction import CorrectionInfo
from ..._tiling.pool import PartitionPlan
from ..._tiling.tile_source import TileSource

if TYPE_CHECKING:  # an extra
    from ...memory import AdaptiveInfo


def product_record(
    name: str,
    matrix: np.ndarray | csr_array,
    seed: int,
    lam: float,
    layout: dict[str, Any],
    info: CorrectionInfo,
) -> dict[str, Any]:
    """The fields of a corrected product, except the wall time."""
    dense = isinstance(matrix, np.ndarray)
    stored = np.count_nonzero(matrix) if dense else matrix.nnz
    m, n = matrix.shape
    stats = info.stats
    record = {
        "shape": [m, n],
        "nnz": int(stored),
        "device": name,
        "seed": seed,
        **layout,
        "relative_l2_raw": _mean(info.relative_l2_raw),
        "relative_l2_corrected": _mean(info.relative_l2_corrected),
        "relative_linf_raw": _mean(info.relative_linf_raw),
        "relative_linf_corrected": _mean(info.relative_linf_corrected),
        "lambda": float(lam),
        "pulses": int(stats.pulses),
        "write_energy_j": float(stats.write_energy),
        "verify_energy_j": float(stats.energy - stats.write_energy),
        "write_latency_s": float(stats.write_latency),
        "programming_latency_s": float(stats.latency),
        "unfinished_cells": int(np.sum(np.asarray(stats.per_array.unfinished))),
        "accounting": "physical",
    }
    return {name: _number(value) for name, value in record.items()}


def adaptive_record(
    name: str, matrix: np.ndarray | csr_array, seed: int, info: "AdaptiveInfo"
) -> dict[str, Any]:
    """The fields of a product that memory steered, for one vector or a batch."""
    correction = info.correction
    choice: Any = correction.choice  # never None where memory takes part
    layout = pool_layout(info.plan)
    before = info.before
    lam = float(correction.lam)
    found = {
        "lambda_alpha": float(choice.alpha),
        "lambda_recent": float(choice.recent.lam),
        "workload": info.workload.name,
        "strategy": info.strategy,
        "explored": not info.searched,
        "recalled": info.recalled,
        "written": info.written,
        "changed": info.changed,
        "reward": info.reward,
        "reward_before": before.mean,
        "runs_before": before.count,
        "best_before": before.best,
        "best_reward_before": before.best_mean,
    }
    record = product_record(name, matrix, seed, lam, layout, correction)
    return record | {name: _number(value) for name, value in found.items()}


def _number(value: Any) -> Any:
    """A value for JSON, which has no infinity and no NaN: None stands for them.

    Numbers near the end of a dtype's range overflow in norms, but their product stays.
    """
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _mean(errors: ArrayLike) -> float:
    """The mean over the vectors of a batch."""
    return float(np.mean(np.asarray(errors)))


def pool_layout(plan: PartitionPlan) -> dict[str, Any]:
    """How a matrix lies on a pool: the fields that replace `array` there."""
    kinds = zip(plan.pool.kinds, plan.arrays, plan.counts, strict=True)
    return {
        "pool": [
            {
                "device": devices.name_of(kind.device),
                "rows": kind.rows,
                "cols": kind.cols,
                "count": kind.count,
                "arrays": arrays,
                "partitions": count,
            }
            for kind, arrays, count in kinds
            if count
        ],
        "partitions": len(plan.rectangles),
        "passes": plan.passes,
        "memory_efficiency": plan.memory_efficiency,
    }


def memory_efficiency(placed: Crossbar | TileSource, array: tuple[int, int]) -> float:
    """Cells that hold a matrix entry, as a fraction of the cells of all reserved arrays."""
    rows, cols = array
    m, n = placed.shape
    held = np.minimum(n - np.asarray(placed.inputs) * rows, rows) * np.minimum(
        m - np.asarray(placed.outputs) * cols, cols
    )
    return float(np.sum(held) / (len(held) * rows * cols)) if len(held) else 1.0
