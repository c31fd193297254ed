"""`sedma job`: submit jobs to a service, and get their products."""

import argparse
import json
import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from .._files.read_files import check_input
from .._files.whole_files import check_target, replacing
from ._terminal import numbers as numbers
from ._terminal.device_names import PULSED, device_or_file
from ._terminal.tables import figure, print_table
from .peer_options import state_folder


def add_parser(commands: Any) -> None:
    """Add `sedma job` to the subcommands."""
    job = commands.add_parser("job", help="submit jobs to a service (`sedma serve`)")
    actions = job.add_subparsers(required=True, metavar="ACTION")
    _action(actions, "id", show_id, "print the id that the service must --allow", at=False)

    submit = _action(
        actions, "submit", submit_job, "submit a product, and print its job's id"
    )
    submit.add_argument(
        "matrix", metavar="MATRIX", help="Matrix Market, .npy, .npz or .safetensors"
    )
    submit.add_argument(
        "--vector",
        metavar="FILE",
        help="x, one vector or a batch; drawn from [0, 1) by the seed if left out",
    )
    submit.add_argument(
        "--device",
        type=device_or_file,
        default="epiram",
        metavar="NAME|FILE",
        help=f"{', '.join(PULSED)}, or a .json or .toml file (default: epiram)",
    )
    submit.add_argument(
        "--seed", type=numbers.seed, default=0, help="seed of all randomness (default: 0)"
    )
    submit.add_argument("--float64", action="store_true", help="send double precision")
    submit.add_argument(
        "--id", help="id of the job; submitted again under it, it is the same job"
    )
    status = _action(actions, "status", show_status, "show a job")
    status.add_argument("id", metavar="JOB")
    result = _action(actions, "result", get_result, "wait for a job, and get its product")
    result.add_argument("id", metavar="JOB")
    result.add_argument("--out", type=Path, required=True, metavar="FILE.npy")
    result.add_argument(
        "--timeout",
        type=numbers.not_negative,
        default=600.0,
        metavar="SECONDS",
        help="how long to wait (600)",
    )
    _action(actions, "list", list_jobs, "list the newest hundred jobs of this client")


def _action(
    actions: Any, name: str, command: Callable[..., int], text: str, *, at: bool = True
) -> argparse.ArgumentParser:
    parser = actions.add_parser(name, help=text)
    parser.set_defaults(command=command)
    parser.add_argument(
        "--key",
        type=Path,
        default=state_folder() / "client.key",
        metavar="FILE",
        help="key of this client (~/.local/state/sedma/client.key)",
    )
    if at:
        parser.add_argument(
            "--at",
            metavar="ADDRESS",
            default=os.environ.get("SEDMA_SERVICE"),
            help="address of the service, with /p2p/ID (default: $SEDMA_SERVICE)",
        )
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object on stdout"
    )
    return parser


def show_id(options: argparse.Namespace) -> int:
    """Print the id of this client; the exit status."""
    from ..comm._jobs.client import client_id

    check_input(options.key, "`--key`")
    name = client_id(options.key)
    print(json.dumps({"id": name}) if options.json else name)
    return 0


def submit_job(options: argparse.Namespace) -> int:
    """Submit a job; the exit status."""
    import numpy as np

    from .._files.load import load_matrix, load_vector
    from .._tiling.number_range import narrowed
    from ..devices._file import load_device

    name = options.device
    device = name if name in PULSED else load_device(name)
    dtype = np.float64 if options.float64 else np.float32
    matrix = narrowed(load_matrix(options.matrix), dtype, options.matrix)
    if options.vector is None:
        x = np.random.default_rng(options.seed).random(matrix.shape[1])
    else:
        x = load_vector(options.vector)
    with _opened(options) as client:
        job = client.submit(
            matrix,
            narrowed(x, dtype, options.vector or "x"),
            device=device,
            seed=options.seed,
            id=options.id,
        )
    print(json.dumps(job) if options.json else job["id"])
    return 0


def show_status(options: argparse.Namespace) -> int:
    """Show one job; the exit status."""
    with _opened(options) as client:
        job = client.status(options.id)
    if options.json:
        print(json.dumps(job))
    else:
        _show([job])
        if job["error"]:
            print(job["error"])
    return 0


def get_result(options: argparse.Namespace) -> int:
    """Write the product of a job to a file; the exit status."""
    import numpy as np

    check_target(options.out, "`--out`")
    with _opened(options) as client:
        y, job = client.result(options.id, options.timeout)
    with replacing(options.out) as part, part.open("wb") as file:
        np.save(file, y, allow_pickle=False)
    if options.json:
        print(json.dumps(job | {"out": str(options.out)}))
    else:
        print(
            f"{options.out}: {y.dtype} {y.shape}, relative error "
            f"{figure(job['record']['relative_l2_corrected'])}, {job['cid']}"
        )
    return 0


def list_jobs(options: argparse.Namespace) -> int:
    """List jobs; the exit status."""
    with _opened(options) as client:
        jobs = client.jobs()
    if options.json:
        print(json.dumps({"jobs": jobs}))
    else:
        _show(jobs)
    return 0


def _opened(options: argparse.Namespace) -> AbstractContextManager[Any]:
    from .. import comm  # an extra

    if not options.at:
        raise ValueError(
            "`sedma job` needs the address of a service, with /p2p/ID. Got none. Name it "
            "by --at or SEDMA_SERVICE; `sedma serve` prints it."
        )
    check_input(options.key, "`--key`")
    return comm.open_jobs(options.at, key=options.key)


def _show(jobs: list[dict]) -> None:
    headings = ("job", "state", "accepted", "seconds", "attempts", "product")
    rows = []
    for job in jobs:
        took = (job["finished"] or time.time()) - (job["started"] or time.time())
        rows.append(
            (
                job["id"],
                job["state"],
                time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(job["accepted"])),
                f"{took:.1f}" if job["started"] else "",
                str(job["attempts"]),
                job["cid"] or "",
            )
        )
    print_table(headings, rows, right=("seconds", "attempts"))
