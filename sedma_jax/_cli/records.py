"""What products came to, as records for JSON."""

from typing import TYPE_CHECKING, Any

import numpy as np

from .. import devices
from .._crossbar.crossbar import Crossbar
from .._tiling.tile_source import TileSource

if TYPE_CHECKING:  # an extra
    from ..memory import AdaptiveInfo


def product_record(name, matrix, seed: int, lam: float, layout: dict, info) -> dict:
    """The fields of a corrected product, but for the seconds."""
    dense = isinstance(matrix, np.ndarray)
    stored = np.count_nonzero(matrix) if dense else matrix.nnz
    m, n = matrix.shape
    stats = info.stats
    return {
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
        "pulses": int(np.sum(np.asarray(stats.per_array.pulses, np.int64))),
        "write_energy_j": float(stats.write_energy),
        "verify_energy_j": float(stats.energy - stats.write_energy),
        "write_latency_s": float(stats.write_latency),
        "programming_latency_s": float(stats.latency),
        "unfinished_cells": int(np.sum(np.asarray(stats.per_array.unfinished))),
        "accounting": "physical",
    }


def adaptive_record(name: str, matrix, seed: int, info: "AdaptiveInfo") -> dict:
    """The fields of a product that memory steered, of one vector or of a batch."""
    correction = info.correction
    choice: Any = correction.choice  # made wherever memory takes part
    layout = pool_layout(info.plan)
    before = info.before
    return product_record(name, matrix, seed, float(correction.lam), layout, correction) | {
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


def _mean(errors) -> float:
    """Over the vectors of a batch."""
    return float(np.mean(np.asarray(errors)))


def pool_layout(plan) -> dict:
    """How a matrix lies on a pool: the fields that `array` stands for elsewhere."""
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
    """Cells that hold a matrix entry, over cells of all arrays reserved for it."""
    rows, cols = array
    m, n = placed.shape
    held = np.minimum(n - np.asarray(placed.inputs) * rows, rows) * np.minimum(
        m - np.asarray(placed.outputs) * cols, cols
    )
    return float(np.sum(held) / (len(held) * rows * cols)) if len(held) else 1.0
