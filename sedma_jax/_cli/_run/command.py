"""The course of `sedma run`: load, multiply, correct, show the errors and costs."""

import argparse
import json
from collections.abc import Collection
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.sparse import csr_array

from ... import devices
from ..._files.load import load_matrix, load_vector
from ..._products.correction import BASELINE_LAMBDA
from ..._run import STAGES
from ..._tiling.number_range import narrowed
from ..._tiling.pool import Pool
from ..._tiling.pool_file import load_pool
from ..._trace import Trace, write_chrome_trace
from ...devices._file import load_device
from .._terminal.output import (
    plot_errors,
    show_delivery,
    show_runs,
    stage_display,
    write_outputs,
)
from .._terminal.streams import complain
from .checks import check_end_to_end, check_memory, check_outputs, check_streaming
from .products import run_delivery, run_device, run_with_memory
from .resume import (
    PENDING,
    delivery_of,
    digest_of,
    inputs_of,
    load_run,
    stages_of,
)

if TYPE_CHECKING:  # an extra
    from ...deploy import Workflow


def run_matrix(options: argparse.Namespace) -> int:
    """Perform `sedma run`; return the exit status."""
    check_outputs(options)
    workflow = check_end_to_end(options)
    adaptive = check_memory(options)
    options.lam = BASELINE_LAMBDA if options.lam is None else options.lam
    if options.float64:
        jax.config.update("jax_enable_x64", True)
    # Without memory, the progress of programming is shown instead.
    with stage_display() if adaptive else nullcontext() as watch:
        return _run(options, workflow, adaptive, Trace(watch))


def _run(
    options: argparse.Namespace, workflow: "Workflow | None", adaptive: bool, trace: Trace
) -> int:
    """Load the inputs, make the products or load earlier ones, and finish."""
    matrix, x = _load(options, trace)
    loaded = trace.seconds()["load"]
    pool, names = _arrays(options)
    options.stream = options.stream or options.checkpoint is not None
    check_streaming(options, names)
    options.array = options.array or (256, 256)
    options.slices = 1 if options.slices is None else options.slices
    inputs = {}
    if options.end_to_end:
        inputs = inputs_of(names[0], matrix, x, pool, options)
    if options.resume is not None:
        with trace.stage("resume") as outcome:
            result, y = load_run(Path(options.resume), inputs)
            stages = stages_of(result, delivery_of(options), options.apply)
            outcome["stages"] = stages
        trace.follow(result["trace"])
        return _finish(options, workflow, trace, [result], [y], stages)
    records, outputs = [], []
    for name in names:
        run = run_with_memory if adaptive else run_device
        part = trace.part()
        record, y = run(name, matrix, jnp.asarray(x), pool, options, part)
        seconds = {"load": loaded} | part.seconds()
        records.append({"matrix": options.matrix} | record | {"seconds": seconds})
        outputs.append(y)
    if options.end_to_end:
        records[0]["inputs"] = inputs | {"y": digest_of(outputs[0])}
    return _finish(options, workflow, trace, records, outputs, STAGES)


def _load(
    options: argparse.Namespace, trace: Trace
) -> tuple[np.ndarray | csr_array, np.ndarray]:
    """The matrix and the vector, in the precision of the run."""
    with trace.stage("load"):
        matrix = load_matrix(options.matrix)
        if options.vector is None:
            x = np.random.default_rng(options.seed).random(matrix.shape[1])
        else:
            x = load_vector(options.vector)
    dtype = np.float64 if options.float64 else np.float32
    return narrowed(matrix, dtype, options.matrix), narrowed(
        x, dtype, options.vector or "x"
    )


def _arrays(options: argparse.Namespace) -> tuple[Pool | None, list[str]]:
    """The pool that `--pool` names, if any, and the names of what is run.

    Without a pool `options.devices` then has the device of each name.
    """
    pool = _pool(options)
    if pool is not None:
        materials = (devices.name_of(k.device) for k in pool.kinds if k.device is not None)
        return pool, ["+".join(dict.fromkeys(materials))]
    names = list(dict.fromkeys(options.device or ["epiram"]))
    if "all" in names:
        names = list(devices.PRESETS)
    known = devices.PULSED
    # Read once, and what is no device is refused before the work starts.
    options.devices = {n: known[n] if n in known else load_device(n) for n in names}
    return None, names


def _finish(
    options: argparse.Namespace,
    workflow: "Workflow | None",
    trace: Trace,
    records: list[dict[str, Any]],
    outputs: list[np.ndarray],
    stages: Collection[str],
) -> int:
    """Perform the stages after the product, if they were asked for, and show it all."""
    names = [record["device"] for record in records]
    result: dict[str, Any] = records[0] if len(records) == 1 else {"runs": records}
    failed: dict[str, str] = {}
    if options.end_to_end:
        # The product is on disk before a later stage can fail.
        result["delivery"], result["trace"] = delivery_of(options), trace.records
        for stage in stages:
            result |= PENDING[stage]
        write_outputs(Path(options.out), result, outputs)
        try:
            record, failed = run_delivery(outputs[0], workflow, options, stages, trace)
        except KeyboardInterrupt:
            complain(f"interrupted. {_resuming(options)}")
            return 130
        result |= record | {"seconds": result["seconds"] | record["seconds"]}
    if options.trace:
        write_chrome_trace(options.trace, trace.records)
    if options.plot:
        plot_errors(options.plot, names, records)
    if options.out:
        write_outputs(Path(options.out), result, outputs)
    if options.json:
        print(json.dumps(result, allow_nan=False))
    else:
        show_runs(records)
        if options.end_to_end:
            show_delivery(result)
    for stage, reason in failed.items():
        complain(f"the stage {stage!r} failed: {reason} {_resuming(options)}")
    return 1 if failed else 0


def _resuming(options: argparse.Namespace) -> str:
    return (
        f"The results so far are in {options.out}; the same command with --resume "
        f"{options.out} goes on from there."
    )


def _pool(options: argparse.Namespace) -> Pool | None:
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
