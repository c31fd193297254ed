"""The options of `sedma run`, and which of them go together."""

import argparse
from typing import TYPE_CHECKING

from .. import devices
from .._products.correction import BASELINE_LAMBDA
from .._run import check_node_key, read_workflow
from .cluster import add_target
from .resume import fill_in

if TYPE_CHECKING:  # an extra
    from ..deploy import Workflow


def add_options(run: argparse.ArgumentParser) -> None:
    """Declare the options."""
    _add_product(run)
    _add_delivery(run)
    _add_outputs(run)


def _add_product(run: argparse.ArgumentParser) -> None:
    """Options of the matrix, the arrays and the product."""
    run.add_argument(
        "matrix", metavar="MATRIX", help="Matrix Market, .npy, .npz or .safetensors"
    )
    run.add_argument(
        "--vector",
        metavar="FILE",
        help="x, in the same formats (default: uniform in [0, 1), from the seed)",
    )
    run.add_argument(
        "--device",
        action="append",
        type=lambda name: name.lower().replace("_", "-"),
        choices=[*devices.PRESETS, "all"],
        metavar="NAME",
        help=f"{', '.join(devices.PRESETS)} or all; may be repeated (default: epiram)",
    )
    run.add_argument("--seed", type=int, default=0, help="seed of all draws (default: 0)")
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
        help="number of arrays (default: one per partition)",
    )
    run.add_argument(
        "--slices",
        type=int,
        metavar="N",
        help="arrays per partition, each storing the error of those before it (default: 1)",
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
        help="program and multiply a few partitions at a time, in memory that does not "
        "grow with their number (one array per partition, --device only)",
    )
    run.add_argument(
        "--checkpoint",
        metavar="FILE",
        help="save progress there after each chunk of partitions, and resume from it when "
        "called again (implies --stream; one device)",
    )
    run.add_argument(
        "--lambda",
        dest="lam",
        type=float,
        metavar="L",
        help="regularisation parameter of the smoothing (default: "
        f"{BASELINE_LAMBDA:g}, as in MELISO+; with --memory it is chosen from the product)",
    )
    run.add_argument(
        "--memory",
        metavar="URL",
        help="choose tiling and lambda by what is remembered there, and write the results "
        "back: sqlite:///FILE or postgresql://... (needs the memory extra)",
    )


def _add_delivery(run: argparse.ArgumentParser) -> None:
    """Options of the stages after the product."""
    run.add_argument(
        "--end-to-end",
        action="store_true",
        help="perform all of Algorithm 1: use memory (the user's own unless --memory names "
        "one), publish y to peers, place the workflow and compile it into --out (needs the "
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
        help="libp2p key by which the peers admit this run (`sedma node start --allow "
        "ID`), made on first use (default: a new one each time; implies --end-to-end)",
    )
    run.add_argument(
        "--workflow",
        metavar="FILE",
        help="workflow to deploy, a YAML file (default: one agent that multiplies; implies "
        "--end-to-end)",
    )
    run.add_argument(
        "--apply",
        action="store_true",
        help="apply the workflow to a cluster, after a dry run there, and wait until it is "
        "ready, as `sedma deploy apply` does (implies --end-to-end)",
    )
    add_target(run)
    run.add_argument(
        "--resume",
        metavar="DIR",
        help="resume the run in DIR, whose later stages failed, from its product; the "
        "inputs must be the same, peers and workflow may differ (implies --end-to-end)",
    )


def _add_outputs(run: argparse.ArgumentParser) -> None:
    """Options of the precision and of what is written."""
    run.add_argument("--float64", action="store_true", help="compute in double precision")
    run.add_argument("--out", metavar="DIR", help="write y.npy and result.json there")
    run.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    run.add_argument(
        "--trace",
        metavar="FILE",
        help="write the stages there as trace events (JSON, for chrome://tracing)",
    )
    run.add_argument(
        "--plot",
        metavar="FILE",
        help="draw the errors before and after correction there (needs the viz extra)",
    )


def _array(text: str) -> tuple[int, int]:
    rows, _, cols = text.partition("x")
    if not (rows.isdigit() and cols.isdigit() and int(rows) and int(cols)):
        raise argparse.ArgumentTypeError(f"needs the form 256x256, got {text!r}")
    return int(rows), int(cols)


def check_end_to_end(options: argparse.Namespace) -> "Workflow | None":
    """The workflow of `--end-to-end`, read before any work; None for the default."""
    options.end_to_end |= any((options.peers, options.workflow, options.node_key))
    options.end_to_end |= options.apply or options.resume is not None
    if (options.kubeconfig or options.context) and not options.apply:
        raise ValueError(
            "`--kubeconfig` and `--context` need --apply. Got no --apply. Add it, or leave "
            "them out: nothing else uses a cluster."
        )
    if not options.end_to_end:
        return None
    if options.resume is not None:
        if options.out not in (None, options.resume):
            raise ValueError(
                f"`--resume` writes to its own folder. Got --out {options.out} and "
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


def check_streaming(options: argparse.Namespace, names: list[str]) -> None:
    """Refuse options that a streamed run does not support."""
    for option in ("pool", "slices"):
        if options.stream and getattr(options, option) is not None:
            raise ValueError(
                f"A streamed run needs one array per partition. Got --{option} as well. "
                "Leave one of the two out."
            )
    if options.checkpoint is not None and len(names) > 1:
        raise ValueError(
            f"`--checkpoint` needs a single device. Got {len(names)} devices. Call `sedma "
            "run` once per device, each time with another file."
        )


def check_memory(options: argparse.Namespace) -> bool:
    """Whether memory chooses; options that it would overrule are refused."""
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
                f"`--memory` chooses the tiling and lambda itself. Got --{name} as well. "
                "Leave one of the two out."
            )
    return True
