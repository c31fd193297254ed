"""`sedma run`: program a matrix, multiply, correct, and show what it took."""

import argparse
import json
import sys
from contextlib import nullcontext
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from .. import devices
from .._files.load import load_matrix, load_vector
from .._products.corrected import BASELINE_LAMBDA, check_lambda
from .._run import STAGES, check_node_key, read_workflow
from .._tiling.pool_file import load_pool
from .._trace import Trace, write_chrome_trace
from .cluster import add_target
from .output import (
    plot_errors,
    show_delivery,
    show_runs,
    stage_display,
    write_outputs,
)
from .products import run_delivery, run_device, run_with_memory
from .resume import (
    PENDING,
    delivery_of,
    digest_of,
    fill_in,
    inputs_of,
    load_run,
    stages_of,
)


def add_parser(commands) -> None:
    """Say how `sedma run` is called."""
    run = commands.add_parser(
        "run",
        help="program a matrix on crossbars, multiply, and correct",
        description="Program a matrix on simulated crossbars by write-and-verify, "
        "multiply it by a vector, and correct the product to first and second order.",
    )
    run.set_defaults(command=run_matrix)
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
        metavar="N",
        help="arrays a partition, each storing what the ones before missed (default: 1)",
    )
    run.add_argument(
        "--pool",
        metavar="FILE",
        help="arrays of several sizes and devices, in place of --device, --array and "
        "--arrays: TOML or JSON, a list `arrays` of device, rows, cols, count",
    )
    run.add_argument(
        "--stream",
        action="store_true",
        help="program and multiply some partitions at a time, in memory that does not "
        "grow with their number (one array a partition, --device only)",
    )
    run.add_argument(
        "--checkpoint",
        metavar="FILE",
        help="keep what is done there after each chunk of partitions, and go on from it "
        "when called again (implies --stream; one device)",
    )
    run.add_argument(
        "--lambda",
        dest="lam",
        type=float,
        metavar="L",
        help=f"weight of the roughness (default: {BASELINE_LAMBDA:g}, as MELISO+; with "
        "--memory it is chosen from the product)",
    )
    run.add_argument(
        "--memory",
        metavar="URL",
        help="choose tiling and weight by what is remembered there, and write back what "
        "came of it: sqlite:///FILE or postgresql://... (needs the memory extra)",
    )
    run.add_argument(
        "--end-to-end",
        action="store_true",
        help="all of Algorithm 1: memory (the user's own unless --memory names one), y "
        "published to peers, the workflow placed and compiled into --out (needs the "
        "extras memory, comm and deploy; one device)",
    )
    run.add_argument(
        "--peers",
        action="append",
        metavar="ADDRESS",
        help="peer to hold y, with /p2p/ID; may be repeated (default: three in this "
        "process; implies --end-to-end)",
    )
    run.add_argument(
        "--node-key",
        metavar="FILE",
        help="libp2p key by which the peers let this run in (`sedma node start --allow "
        "ID`), made on first use (default: a new one each time; implies --end-to-end)",
    )
    run.add_argument(
        "--workflow",
        metavar="FILE",
        help="workflow to deploy, YAML (default: one agent that multiplies; implies "
        "--end-to-end)",
    )
    run.add_argument(
        "--apply",
        action="store_true",
        help="apply the workflow to a cluster, after a dry run there, and wait until it is "
        "ready; as `sedma deploy apply` (implies --end-to-end)",
    )
    add_target(run)
    run.add_argument(
        "--resume",
        metavar="DIR",
        help="go on with the run in DIR whose later stages failed, from its product; the "
        "inputs must be the same, peers and workflow may be others (implies --end-to-end)",
    )
    run.add_argument("--float64", action="store_true", help="compute in double precision")
    run.add_argument("--out", metavar="DIR", help="write y.npy and result.json there")
    run.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    run.add_argument(
        "--trace",
        metavar="FILE",
        help="write the stages as trace events there (JSON, for chrome://tracing)",
    )
    run.add_argument(
        "--plot",
        metavar="FILE",
        help="picture of the errors before and after correction (needs the viz extra)",
    )


def _array(text: str) -> tuple[int, int]:
    rows, _, cols = text.partition("x")
    if not (rows.isdigit() and cols.isdigit() and int(rows) and int(cols)):
        raise argparse.ArgumentTypeError(f"needs the form 256x256, got {text!r}")
    return int(rows), int(cols)


def run_matrix(options: argparse.Namespace) -> int:
    """Do what `sedma run` was asked for; the exit status."""
    workflow = _check_end_to_end(options)
    adaptive = _check_memory(options)
    options.lam = BASELINE_LAMBDA if options.lam is None else options.lam
    check_lambda(options.lam)
    if options.float64:
        jax.config.update("jax_enable_x64", True)
    # Without memory, bars of partitions are shown instead.
    with stage_display() if adaptive else nullcontext() as watch:
        return _run(options, workflow, adaptive, Trace(watch))


def _run(options, workflow, adaptive, trace) -> int:
    with trace.stage("load"):
        matrix = load_matrix(options.matrix)
        n = matrix.shape[1]
        if options.vector is None:
            x = np.random.default_rng(options.seed).random(n)
        else:
            x = load_vector(options.vector)
    loaded = trace.seconds()["load"]
    dtype = np.float64 if options.float64 else np.float32
    names = list(dict.fromkeys(options.device or ["epiram"]))
    if "all" in names:
        names = list(devices.PRESETS)
    pool = _pool(options)
    if pool is not None:
        materials = (devices.name_of(k.device) for k in pool.kinds if k.device is not None)
        names = ["+".join(dict.fromkeys(materials))]
    options.stream = options.stream or options.checkpoint is not None
    _check_streaming(options, names)
    options.array = options.array or (256, 256)
    options.slices = 1 if options.slices is None else options.slices
    inputs = {}
    if options.end_to_end:
        inputs = inputs_of(names[0], matrix.astype(dtype), x.astype(dtype), pool, options)
    if options.resume is not None:
        with trace.stage("resume") as said:
            result, y = load_run(Path(options.resume), inputs)
            said["stages"] = stages_of(result, delivery_of(options), options.apply)
        trace.follow(result["trace"])
        return _finish(options, workflow, trace, [result], [y], said["stages"])
    records, outputs = [], []
    for name in names:
        run = run_with_memory if adaptive else run_device
        part = trace.part()
        record, y = run(
            name, matrix.astype(dtype), jnp.asarray(x, dtype), pool, options, part
        )
        records.append({"matrix": options.matrix} | record)
        records[-1]["seconds"] = {"load": loaded} | part.seconds()
        outputs.append(y)
    if options.end_to_end:
        records[0]["inputs"] = inputs | {"y": digest_of(outputs[0])}
    return _finish(options, workflow, trace, records, outputs, STAGES)


def _finish(options, workflow, trace, records, outputs, stages) -> int:
    """Do the stages after the product, if they were asked for, and show it all."""
    names = [record["device"] for record in records]
    result = records[0] if len(records) == 1 else {"runs": records}
    failed: dict[str, str] = {}
    if options.end_to_end:
        # What there is already is kept, whatever becomes of the later stages.
        result["delivery"], result["trace"] = delivery_of(options), trace.records
        for stage in stages:
            result |= PENDING[stage]
        write_outputs(Path(options.out), result, outputs)
        try:
            record, failed = run_delivery(outputs[0], workflow, options, stages, trace)
        except KeyboardInterrupt:
            print(f"sedma: interrupted. {_resuming(options)}", file=sys.stderr)
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
        said = f"sedma: the stage {stage!r} failed: {reason} {_resuming(options)}"
        print(said, file=sys.stderr)
    return 1 if failed else 0


def _resuming(options) -> str:
    return (
        f"What came before it is in {options.out}; the same command with --resume "
        f"{options.out} goes on from there."
    )


def _check_end_to_end(options):
    """The workflow of `--end-to-end`, read before any work; None for the default."""
    options.end_to_end |= any((options.peers, options.workflow, options.node_key))
    options.end_to_end |= options.apply or options.resume is not None
    if (options.kubeconfig or options.context) and not options.apply:
        raise ValueError(
            "`--kubeconfig` and `--context` need --apply. Got none. Nothing else asks a "
            "cluster."
        )
    if not options.end_to_end:
        return None
    if options.resume is not None:
        if options.out not in (None, options.resume):
            raise ValueError(
                f"`--resume` goes on in its own folder. Got --out {options.out} and "
                f"--resume {options.resume}. Leave --out out."
            )
        options.out = options.resume
        fill_in(options)
    if (
        options.out is None
        or len(set(options.device or [0])) > 1
        or options.device == ["all"]
    ):
        raise ValueError(
            "`--end-to-end` needs --out DIR and one device. Got "
            f"--out {options.out}, --device {options.device}. Name both."
        )
    if options.memory is None:
        from .. import memory  # an extra

        options.memory = memory.default_url()
    check_node_key(options.node_key)
    return read_workflow(options.workflow)


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


def _check_streaming(options, names):
    """Refuse what is not streamed."""
    for option in ("pool", "slices"):
        if options.stream and getattr(options, option) is not None:
            raise ValueError(
                f"A streamed run needs one array a partition. Got --{option} as well. "
                "Leave one of the two out."
            )
    if options.checkpoint is not None and len(names) > 1:
        raise ValueError(
            f"`--checkpoint` is of one run. Got {len(names)} devices. Call `sedma run` "
            "for each, with a file of its own."
        )


def _check_memory(options) -> bool:
    """Whether to choose by memory; options that it would overrule are refused."""
    if options.memory is None:
        return False
    for option, name in (
        ("lam", "lambda"),
        ("array", "array"),
        ("arrays", "arrays"),
        ("slices", "slices"),
        ("stream", "stream"),
        ("checkpoint", "checkpoint"),
    ):
        if getattr(options, option) not in (None, False):
            raise ValueError(
                f"`--memory` chooses the tiling and the weight itself. Got --{name} as "
                "well. Leave one of the two out."
            )
    return True
