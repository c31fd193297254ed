"""The options of `sedma run`."""

import argparse
from typing import Any

from .._terminal import numbers as numbers
from .._terminal.device_names import PRESETS, PULSED, devices_or_file
from ..cluster import add_target


def add_parser(commands: Any) -> None:
    """Declare the options of `sedma run`."""
    run = commands.add_parser(
        "run",
        help="program a matrix on crossbars, multiply, and correct",
        description="Program a matrix on simulated crossbars by write-and-verify, "
        "multiply it by a vector, and correct the product to first and second order.",
    )
    run.set_defaults(command=_run)
    _add_product(run)
    _add_delivery(run)
    _add_outputs(run)


def _run(options: argparse.Namespace) -> int:
    from .command import run_matrix

    return run_matrix(options)


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
        type=devices_or_file,
        metavar="NAME|FILE",
        help=f"{', '.join(PULSED)}, all for the first {len(PRESETS)}, or a .json or .toml "
        "file; may be repeated (default: epiram)",
    )
    run.add_argument(
        "--seed", type=numbers.seed, default=0, help="seed of all draws (default: 0)"
    )
    run.add_argument(
        "--array",
        type=numbers.array_size,
        metavar="RxC",
        help="word lines and bit lines of one array (default: 256x256)",
    )
    run.add_argument(
        "--arrays",
        type=numbers.whole("arrays", 1),
        metavar="N",
        help="number of arrays (default: one per partition)",
    )
    run.add_argument(
        "--slices",
        # Each stores at least a bit more, and a float64 has 53.
        type=numbers.whole("slices", 1, 64),
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
        type=numbers.not_negative,
        metavar="L",
        help="regularisation parameter of the smoothing (default: "
        "1e-12, as in MELISO+; with --memory it is chosen from the product)",
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
