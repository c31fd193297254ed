"""`sedma serve`: do the jobs that peers submit, and lose none."""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .._files.read_files import check_input
from .._files.whole_files import check_folder
from ._terminal import numbers as numbers
from .peer_options import add_peer_options, peer_settings, state_folder


def add_parser(commands: Any) -> None:
    """Add `sedma serve` to the subcommands."""
    serve = commands.add_parser(
        "serve",
        help="do the jobs that peers submit (needs the extras comm and memory)",
        description="Accept jobs from peers over libp2p (`sedma job submit`), compute the "
        "corrected products with a memory, in processes whose memory is limited, and give "
        "each product to the client whose job it is of. An accepted job is on disk: it is "
        "done even if the service is killed and started again. SIGTERM ends the service: "
        "running jobs get some time, the others stay in the journal.",
    )
    serve.set_defaults(command=serve_jobs)
    add = serve.add_argument
    add(
        "--dir",
        type=Path,
        default=state_folder() / "serve",
        help="folder of the key, journal and tensors (~/.local/state/sedma/serve)",
    )
    add_peer_options(
        serve,
        allow="a client that may submit jobs (`sedma job id`)",
        everyone="let every client in",
        join="that may hold products too",
        replicas="holders per product (1)",
    )
    _add_job_options(add)


def _add_job_options(add: Callable[..., Any]) -> None:
    add(
        "--memory",
        metavar="URL",
        help="long-term memory of the jobs (default: the user's, as for `sedma memory`)",
    )
    add(
        "--metrics",
        type=_address,
        metavar="[HOST:]PORT",
        help="serve /healthz, /readyz and /metrics (Prometheus) there; 0 for any port",
    )
    add(
        "--workers",
        type=numbers.whole("workers", 1, 1024),
        default=1,
        metavar="N",
        help="jobs at once, each in a process (1)",
    )
    add(
        "--worker-memory",
        type=numbers.whole("MB", 1),
        metavar="MB",
        help="memory that a job may take; what needs more is refused (default: half of "
        "the machine's or the container's, shared by the workers)",
    )
    add(
        "--queue",
        type=numbers.whole("jobs", 1),
        default=1000,
        metavar="N",
        help="jobs that wait or run, at most (1000)",
    )
    add(
        "--largest",
        type=numbers.whole("MB", 1),
        default=256,
        metavar="MB",
        help="size of the tensors of a job, and of its product, at most (256)",
    )
    add(
        "--grace",
        type=numbers.not_negative,
        default=30.0,
        metavar="SECONDS",
        help="time that running jobs get after SIGTERM (30)",
    )
    add(
        "--keep",
        type=numbers.whole("jobs", 1),
        default=1000,
        metavar="N",
        help="finished jobs to keep, with their products (1000)",
    )
    add("--verbose", action="store_true", help="log what peers do")
    add(
        "--json",
        action="store_true",
        help="print one JSON object at the start and one at the end",
    )


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not (port.isascii() and port.isdigit() and int(port) < 2**16):
        raise argparse.ArgumentTypeError(f"needs PORT or HOST:PORT, got {text!r}")
    return host.strip("[]") or "127.0.0.1", int(port)


def serve_jobs(options: argparse.Namespace) -> int:
    """Serve until a signal ends it; the exit status."""
    import jax

    from .. import comm, memory  # extras
    from ..comm._jobs.service import ServiceLimits
    from ..comm._jobs.service_process import run_service
    from ..comm._runners.daemon import log_to_stderr
    from ..memory._pressure import memory_size
    from .job_needs import bytes_needed
    from .job_work import COMMAND

    if not (options.allow or options.open):
        raise ValueError(
            "`sedma serve` needs clients that it lets in. Got none. Name them by --allow "
            "ID, as `sedma job id` prints it, or pass --open."
        )
    limits = ServiceLimits(
        workers=options.workers,
        queue=options.queue,
        largest=options.largest * 10**6,
        memory=options.worker_memory * 10**6
        if options.worker_memory
        else memory_size() // (2 * options.workers),
        grace=options.grace,
        keep=options.keep,
    )
    check_folder(options.dir, "`--dir`")
    check_input(options.dir / "key", "`sedma serve`")
    settings = comm.NodeSettings(**peer_settings(options))
    log_to_stderr(options.verbose)
    # Its workers use the accelerator.
    jax.config.update("jax_platforms", "cpu")
    url = options.memory or memory.default_url()
    cache = (
        getattr(options, "compilation_cache", None),
        not getattr(options, "no_compilation_cache", False),
    )
    with memory.open(url) as long_term:
        run_service(
            settings,
            options.dir,
            COMMAND,
            {"memory": url, "compilation_cache": cache},
            limits,
            needs=bytes_needed,
            memory=long_term,
            http=options.metrics,
            started=lambda status: _started(status, options),
            ended=lambda left, given_up: _ended(left, given_up, options),
        )
    return 0


def _started(status: dict, options: argparse.Namespace) -> None:
    if options.json:
        print(json.dumps(status), flush=True)
        return
    jobs = status["jobs"]
    print(f"service {status['id']}, {jobs['queued']} jobs in the journal, listens on")
    for address in status["addresses"]:
        print(f"  {address}")
    if status["http"]:
        print(f"health and metrics: http://{status['http']}/healthz")
    sys.stdout.flush()


def _ended(left: int, given_up: int, options: argparse.Namespace) -> None:
    if options.json:
        print(json.dumps({"left": left, "given_up": given_up}), flush=True)
    else:
        print(
            f"ended; {left} jobs stay in the journal, {given_up} of them were under way. "
            "The next start goes on with them.",
            flush=True,
        )
