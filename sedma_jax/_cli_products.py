"""The products of `sedma run`: program, multiply and correct, and a record of it."""

import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from scipy.sparse import csr_array

from . import devices
from ._cli_output import progress_bar
from ._corrected import corrected_matvec
from ._crossbar import Crossbar
from ._planning import plan_partitions
from ._pooled import program_pool
from ._replacing import replacing
from ._residual import program_residual
from ._streaming import stream_corrected_matvec
from ._system import deliver
from ._tile_source import TileSource, tile_source


def run_with_memory(name, matrix, x, pool, options):
    """`run_device`, with what is remembered of matrices like this one."""
    from . import memory as long_term  # an extra

    start = time.perf_counter()
    with long_term.open(options.memory) as memory:
        opened = time.perf_counter() - start
        y, info, _ = long_term.adaptive_matvec(
            matrix,
            x,
            devices.PRESETS[name] if pool is None else pool,
            memory=memory,
            key=jax.random.key(options.seed),
        )
    correction = info.correction
    choice: Any = correction.choice  # made wherever memory takes part
    record = _record(name, matrix, options, _layout(info.plan), correction)
    record |= {
        "lambda": float(correction.lam),
        "lambda_alpha": float(choice.alpha),
        "lambda_recent": float(choice.recent.lam),
        "workload": info.workload.name,
        "strategy": info.strategy,
        "explored": not info.searched,
        "recalled": info.recalled,
        "written": info.written,
        "changed": info.changed,
        "seconds": {"open": opened} | info.seconds,
    }
    return record, np.asarray(y)


def run_delivery(y, workflow, options):
    """Publish and deploy a product; their record, and what failed by stage."""
    place_key = jax.random.fold_in(jax.random.key(options.seed), 1)
    delivery = deliver(y, peers=options.peers or (), workflow=workflow, key=place_key)
    folder = Path(options.out) / "deploy"
    for name, text in delivery.files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        with replacing(folder / name) as part:
            part.write_text(text)
    published = delivery.publication
    record = {
        "cid": published and published.cid,
        "peers": published.peers if published else [],
        "peers_embedded": published is not None and published.embedded,
        "publish_latency_ms": published and 1000 * published.seconds,
        "placement": delivery.placement,
        "manifests": [
            str(folder / name) for name in delivery.files if name.startswith("manifests/")
        ],
        "failed": delivery.failed,
        "seconds": delivery.seconds,
    }
    return record, delivery.failed


def run_device(name, matrix: np.ndarray | csr_array, x, pool, options):
    """Program, multiply and correct on one device or pool; its record, and the product."""
    program_key, run_key = jax.random.split(jax.random.key(options.seed))
    start = time.perf_counter()
    if options.stream:
        y, info, layout = _stream(name, matrix, x, options, run_key)
        middle = start
    else:
        programmed, layout, device, array = _program(
            name, matrix, pool, options, program_key
        )
        middle = time.perf_counter()
        y, info = corrected_matvec(
            matrix,
            x,
            device,
            lam=options.lam,
            array=array,
            programmed=programmed,
            key=run_key,
        )
    y = np.asarray(y)
    end = time.perf_counter()
    record = _record(name, matrix, options, layout, info)
    seconds = {"program": middle - start, "correct": end - middle}
    if options.stream:
        seconds = {"stream": end - start}
    return record | {"seconds": seconds}, y


def _record(name, matrix, options, layout, info) -> dict:
    """The fields of a corrected product, but for the seconds."""
    stored = matrix.nnz if isinstance(matrix, csr_array) else np.count_nonzero(matrix)
    m, n = matrix.shape
    stats = info.stats
    return {
        "shape": [m, n],
        "nnz": int(stored),
        "device": name,
        "seed": options.seed,
        **layout,
        "relative_l2_raw": float(info.relative_l2_raw),
        "relative_l2_corrected": float(info.relative_l2_corrected),
        "relative_linf_raw": float(info.relative_linf_raw),
        "relative_linf_corrected": float(info.relative_linf_corrected),
        "lambda": float(options.lam),
        "pulses": int(np.sum(np.asarray(stats.per_array.pulses, np.int64))),
        "write_energy_j": float(stats.write_energy),
        "verify_energy_j": float(stats.energy - stats.write_energy),
        "write_latency_s": float(stats.write_latency),
        "programming_latency_s": float(stats.latency),
        "unfinished_cells": int(np.sum(np.asarray(stats.per_array.unfinished))),
        "accounting": "physical",
    }


def _program(name, matrix, pool, options, key):
    """The programmed matrix, its layout, and the device and array for the input."""
    if pool is None:
        device, array = devices.PRESETS[name], options.array
        with progress_bar(f"programming {name}") as progress:
            programmed = program_residual(
                matrix,
                device,
                slices=options.slices,
                array=array,
                arrays=options.arrays,
                progress=progress,
                key=key,
            )
        crossbar, stats = jax.block_until_ready(programmed)
        layout = {
            "array": list(array),
            "partitions": len(crossbar.scale) // crossbar.slices,
            "passes": stats.passes,
            "memory_efficiency": memory_efficiency(crossbar, array),
        }
        if options.slices > 1:
            layout["slices"] = options.slices
        return programmed, layout, device, array
    occupied = matrix.nonzero() if isinstance(matrix, csr_array) else None
    plan = plan_partitions(matrix.shape, pool, occupied=occupied)
    with progress_bar(f"programming {name}") as progress:
        programmed = program_pool(matrix, plan, progress=progress, key=key)
    jax.block_until_ready(programmed[1])
    first = pool.kinds[0]  # holds the input
    return programmed, _layout(plan), first.device, (first.rows, first.cols)


def _stream(name, matrix, x, options, key):
    """The corrected product, its record and its layout, some partitions at a time."""
    with progress_bar(f"streaming {name}") as progress:
        y, info = stream_corrected_matvec(
            matrix,
            x,
            devices.PRESETS[name],
            lam=options.lam,
            array=options.array,
            arrays=options.arrays,
            checkpoint=options.checkpoint,
            progress=progress,
            key=key,
        )
    layout = {
        "array": list(options.array),
        "partitions": len(info.stats.per_array.pulses),
        "passes": info.stats.passes,
        "memory_efficiency": memory_efficiency(
            tile_source(matrix, *options.array), options.array
        ),
    }
    return y, info, layout


def _layout(plan) -> dict:
    """How a matrix lies on a pool: the fields that `array` stands for elsewhere."""
    kinds = zip(plan.pool.kinds, plan.arrays, plan.counts, strict=True)
    return {
        "pool": [
            {
                "device": name_of(kind.device),
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


def name_of(device) -> str:
    return next(name for name, known in devices.PRESETS.items() if known is device)
