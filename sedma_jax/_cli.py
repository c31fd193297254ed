"""The `sedma` command."""

import argparse
import json
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import jax
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from . import devices
from ._corrected import BASELINE_LAMBDA, check_lambda, corrected_matvec
from ._files import load_matrix, load_vector
from ._residual import program_residual


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        print(f"sedma: {message}. See `{self.prog} --help`.", file=sys.stderr)
        raise SystemExit(2)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; 0 is done, 1 the work failed, 2 bad usage or input."""
    options = _parser().parse_args(arguments)
    try:
        return options.command(options)
    except KeyboardInterrupt:
        print("sedma: interrupted; nothing was written.", file=sys.stderr)
        return 130
    except (ValueError, ImportError) as error:
        print(f"sedma: {_one_line(error)}", file=sys.stderr)
        return 2
    except (OSError, RuntimeError, MemoryError) as error:
        print(f"sedma: the work failed: {_one_line(error)}", file=sys.stderr)
        return 1


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="sedma", description="Simulate RRAM in-memory computing in JAX.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run = commands.add_parser(
        "run",
        help="program a matrix on crossbars, multiply, and correct",
        description="Program a matrix on simulated crossbars by write-and-verify, "
        "multiply it by a vector, and correct the product to first and second order.",
    )
    run.set_defaults(command=_run)
    run.add_argument(
        "matrix", metavar="MATRIX", help="Matrix Market, .npy, .npz or .safetensors"
    )
    run.add_argument(
        "--vector",
        metavar="FILE",
        help="x, in the same formats; uniform in [0, 1) from the seed if left out",
    )
    run.add_argument(
        "--device",
        action="append",
        type=lambda name: name.lower().replace("_", "-"),
        choices=[*devices.PRESETS, "all"],
        metavar="NAME",
        help=f"{', '.join(devices.PRESETS)} or all; may be repeated (default: epiram)",
    )
    run.add_argument("--seed", type=int, default=0, help="of all randomness (default: 0)")
    run.add_argument(
        "--array",
        type=_array,
        default=(256, 256),
        metavar="RxC",
        help="word lines and bit lines of one array (default: 256x256)",
    )
    run.add_argument(
        "--arrays",
        type=int,
        metavar="N",
        help="arrays there are (default: one a partition)",
    )
    run.add_argument(
        "--slices",
        type=int,
        default=1,
        metavar="N",
        help="arrays a partition, each storing what the ones before missed (default: 1)",
    )
    run.add_argument(
        "--lambda",
        dest="lam",
        type=float,
        default=BASELINE_LAMBDA,
        metavar="L",
        help=f"weight of the roughness (default: {BASELINE_LAMBDA:g}, as MELISO+)",
    )
    run.add_argument("--float64", action="store_true", help="compute in double precision")
    run.add_argument("--out", metavar="DIR", help="write y.npy and result.json there")
    run.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    run.add_argument(
        "--plot",
        metavar="FILE",
        help="picture of the errors before and after correction (needs the viz extra)",
    )
    listing = commands.add_parser("devices", help="list the devices and their figures")
    listing.set_defaults(command=_devices)
    listing.add_argument(
        "--json", action="store_true", help="print one JSON object on stdout"
    )
    return parser


def _array(text: str) -> tuple[int, int]:
    rows, _, cols = text.partition("x")
    if not (rows.isdigit() and cols.isdigit() and int(rows) and int(cols)):
        raise argparse.ArgumentTypeError(f"needs the form 256x256, got {text!r}")
    return int(rows), int(cols)


def _run(options: argparse.Namespace) -> int:
    check_lambda(options.lam)
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
    records, outputs = [], []
    for name in names:
        record, y = _run_device(name, matrix.astype(dtype), x.astype(dtype), options)
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


def _run_device(name, matrix, x, options):
    """Program, multiply and correct on one device; its record, and the product."""
    device = devices.PRESETS[name]
    program_key, run_key = jax.random.split(jax.random.key(options.seed))
    shared = dict(array=options.array, arrays=options.arrays)
    start = time.perf_counter()
    with _progress(f"programming {name}") as progress:
        programmed = program_residual(
            matrix,
            device,
            slices=options.slices,
            progress=progress,
            key=program_key,
            **shared,
        )
    crossbar, stats = jax.block_until_ready(programmed)
    middle = time.perf_counter()
    y, info = corrected_matvec(
        matrix,
        x,
        device,
        lam=options.lam,
        programmed=programmed,
        key=run_key,
        **shared,
    )
    y = np.asarray(y)
    end = time.perf_counter()
    m, n = matrix.shape
    record = {
        "shape": [m, n],
        "nnz": int(matrix.nnz if hasattr(matrix, "nnz") else np.count_nonzero(matrix)),
        "device": name,
        "seed": options.seed,
        "array": list(options.array),
        "partitions": len(crossbar.weights) // crossbar.slices,
        "passes": stats.passes,
        "memory_efficiency": memory_efficiency(crossbar),
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
    if options.slices > 1:
        record["slices"] = options.slices
    return record, y


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
    print(
        f"{first['matrix']}: {m} x {n}, {first['nnz']} nonzeros, "
        f"{first['partitions']} partitions of {first['array'][0]} x "
        f"{first['array'][1]}, memory efficiency {first['memory_efficiency']:.1%}"
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


def _devices(options: argparse.Namespace) -> int:
    figures = {name: vars(device) for name, device in devices.PRESETS.items()}
    if options.json:
        print(json.dumps(figures))
        return 0
    table = Table(title="SI units; sigma in fractions of the window")
    table.add_column("")
    for name in figures:
        table.add_column(name, justify="right")
    for field in next(iter(figures.values())):
        table.add_row(field, *(f"{f[field]:g}" for f in figures.values()))
    Console(width=None if sys.stdout.isatty() else 120).print(table)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
