"""`sedma run`: program a matrix, multiply, correct, and show what it took."""

import argparse
import json
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from scipy.sparse import csr_array

from . import devices
from ._compilation_cache import enable_compilation_cache
from ._corrected import check_lambda, corrected_matvec
from ._files import load_matrix, load_vector
from ._pool import plan_partitions
from ._pool_file import load_pool
from ._pooled import program_pool
from ._residual import program_residual


def run_matrix(options: argparse.Namespace) -> int:
    """Do what `sedma run` was asked for; the exit status."""
    check_lambda(options.lam)
    if options.compilation_cache:
        enable_compilation_cache(options.compilation_cache)
    if options.float64:
        jax.config.update("jax_enable_x64", True)
    start = time.perf_counter()
    matrix = load_matrix(options.matrix)
    n = matrix.shape[1]
    if options.vector is None:
        x = np.random.default_rng(options.seed).random(n)
    else:
        x = load_vector(options.vector)
    loaded = time.perf_counter() - start
    dtype = np.float64 if options.float64 else np.float32
    names = list(dict.fromkeys(options.device or ["epiram"]))
    if "all" in names:
        names = list(devices.PRESETS)
    pool = _pool(options)
    if pool is not None:
        names = ["+".join(dict.fromkeys(_name(kind.device) for kind in pool.kinds))]
    options.array = options.array or (256, 256)
    options.slices = 1 if options.slices is None else options.slices
    records, outputs = [], []
    for name in names:
        record, y = _run_device(
            name, matrix.astype(dtype), jnp.asarray(x, dtype), pool, options
        )
        records.append({"matrix": options.matrix} | record)
        records[-1]["seconds"] = {"load": loaded} | record["seconds"]
        outputs.append(y)
    result = records[0] if len(records) == 1 else {"runs": records}
    if options.plot:
        _plot(options.plot, names, records)
    if options.out:
        _write(Path(options.out), result, outputs)
    if options.json:
        print(json.dumps(result, allow_nan=False))
    else:
        _show_runs(records)
    return 0


def _pool(options):
    """The arrays that `--pool` names, if any."""
    if options.pool is None:
        return None
    for option in ("device", "array", "arrays", "slices"):
        if getattr(options, option) is not None:
            raise ValueError(
                f"`--pool` names the devices and arrays itself. Got --{option} as well. "
                "Leave one of the two out."
            )
    return load_pool(options.pool)


def _name(device) -> str:
    return next(name for name, known in devices.PRESETS.items() if known is device)


def _run_device(name, matrix: np.ndarray | csr_array, x, pool, options):
    """Program, multiply and correct on one device or pool; its record, and the product."""
    m, n = matrix.shape
    program_key, run_key = jax.random.split(jax.random.key(options.seed))
    start = time.perf_counter()
    if pool is None:
        device, array = devices.PRESETS[name], options.array
        with _progress(f"programming {name}") as progress:
            programmed = program_residual(
                matrix,
                device,
                slices=options.slices,
                array=array,
                arrays=options.arrays,
                progress=progress,
                key=program_key,
            )
        crossbar, stats = jax.block_until_ready(programmed)
        layout = {
            "array": list(options.array),
            "partitions": len(crossbar.weights) // crossbar.slices,
            "passes": stats.passes,
            "memory_efficiency": memory_efficiency(crossbar),
        }
        if options.slices > 1:
            layout["slices"] = options.slices
    else:
        occupied = matrix.nonzero() if isinstance(matrix, csr_array) else None
        plan = plan_partitions((m, n), pool, occupied=occupied)
        with _progress(f"programming {name}") as progress:
            programmed = program_pool(matrix, plan, progress=progress, key=program_key)
        stats = jax.block_until_ready(programmed)[1]
        layout = _layout(plan)
        first = pool.kinds[0]  # holds the input
        device, array = first.device, (first.rows, first.cols)
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
    stored = matrix.nnz if isinstance(matrix, csr_array) else np.count_nonzero(matrix)
    record = {
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
        "seconds": {"program": middle - start, "correct": end - middle},
    }
    return record, y


def _layout(plan) -> dict:
    """How a matrix lies on a pool: the fields that `array` stands for elsewhere."""
    kinds = zip(plan.pool.kinds, plan.arrays, plan.counts, strict=True)
    return {
        "pool": [
            {
                "device": _name(kind.device),
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


def memory_efficiency(crossbar) -> float:
    """Cells that hold a matrix entry, over cells of all arrays reserved for it."""
    count, rows, cols = crossbar.weights.shape
    m, n = crossbar.shape
    held = np.minimum(n - np.asarray(crossbar.inputs) * rows, rows) * np.minimum(
        m - np.asarray(crossbar.outputs) * cols, cols
    )
    return float(np.sum(held) / (count * rows * cols)) if count else 1.0


@contextmanager
def _progress(title: str):
    """A bar on stderr once the work has taken a second, on a terminal."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("partitions"),
        console=console,
        transient=True,
    )
    task = bar.add_task(title, total=None)
    timer = threading.Timer(1.0, bar.start)
    timer.start()
    try:
        yield lambda done, total: bar.update(task, completed=done, total=total)
    finally:
        timer.cancel()
        timer.join()
        bar.stop()


def _show_runs(records):
    first = records[0]
    m, n = first["shape"]
    sizes = [first["array"]] if "array" in first else []
    sizes += [(kind["rows"], kind["cols"]) for kind in first.get("pool", [])]
    print(
        f"{first['matrix']}: {m} x {n}, {first['nnz']} nonzeros, "
        f"{first['partitions']} partitions of "
        f"{', '.join(f'{rows} x {cols}' for rows, cols in sizes)}, "
        f"memory efficiency {first['memory_efficiency']:.1%}"
    )
    table = Table()
    table.add_column("device")
    for heading in ("l2 raw", "l2 corrected", "linf raw", "linf corrected"):
        table.add_column(heading, justify="right")
    for heading in ("pulses", "write energy J", "write latency s", "seconds"):
        table.add_column(heading, justify="right")
    for record in records:
        table.add_row(
            record["device"],
            *(
                f"{record[f'relative_{norm}_{stage}']:.3g}"
                for norm in ("l2", "linf")
                for stage in ("raw", "corrected")
            ),
            f"{record['pulses']:,}",
            f"{record['write_energy_j']:.3g}",
            f"{record['write_latency_s']:.3g}",
            f"{sum(record['seconds'].values()):.2f}",
        )
    Console(width=None if sys.stdout.isatty() else 120).print(table)


def _plot(path, names, records):
    from .viz import correction_errors  # matplotlib is an extra

    raw = np.array([r["relative_l2_raw"] for r in records])
    corrected = np.array([r["relative_l2_corrected"] for r in records])
    figure = correction_errors(names, raw, corrected)
    path = Path(path)
    with _replacing(path) as part:
        figure.savefig(part, format=path.suffix[1:] or "png")


def _write(folder: Path, result, outputs):
    folder.mkdir(parents=True, exist_ok=True)
    with _replacing(folder / "y.npy") as part, open(part, "wb") as file:
        np.save(file, outputs[0] if len(outputs) == 1 else np.stack(outputs))
    with _replacing(folder / "result.json") as part:
        part.write_text(json.dumps(result, indent=2, allow_nan=False) + "\n")


@contextmanager
def _replacing(path: Path):
    """A file beside `path` that takes its place when it is whole."""
    handle, part = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    part = Path(part)
    try:
        open(handle, "wb").close()
        yield part
        part.chmod(0o644)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
