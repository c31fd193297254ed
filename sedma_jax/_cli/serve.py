"""`sedma serve`: do the jobs that peers hand in, and lose none."""

import argparse
import json
import os
import sys
from pathlib import Path

from .job_work import job_worker


def add_parser(commands) -> None:
    """Say how `sedma serve` is called."""
    serve = commands.add_parser(
        "serve",
        help="do the jobs that peers hand in (needs the extras comm and memory)",
        description="Take jobs from peers over libp2p (`sedma job submit`), compute their "
        "corrected products with a memory, and offer these by CID. A job that was taken "
        "is on the disk: it is done even where the service is killed and started again. "
        "SIGTERM ends it: running jobs get a while, the others stay in the journal.",
    )
    serve.set_defaults(command=serve_jobs)
    add = serve.add_argument
    add(
        "--dir",
        type=Path,
        default=state_folder() / "serve",
        help="folder of the service: key, journal, tensors (~/.local/state/sedma/serve)",
    )
    add(
        "--listen",
        action="append",
        metavar="ADDRESS",
        help="where to listen, default /ip4/127.0.0.1/tcp/0; may be given again",
    )
    add("--announce", action="append", default=[], metavar="ADDRESS", help="told to others")
    add(
        "--allow",
        action="append",
        default=[],
        metavar="ID",
        help="a client that may hand in jobs (`sedma job id`); may be given again",
    )
    add("--open", action="store_true", help="let every client in")
    add(
        "--join",
        action="append",
        default=[],
        metavar="ADDRESS",
        help="address, with /p2p/ID, of a peer to connect to, as a holder of products",
    )
    add("--replicas", type=int, default=1, metavar="K", help="holders of a product (1)")
    add(
        "--memory",
        metavar="URL",
        help="long-term memory of the jobs (default: the user's own, as `sedma memory`)",
    )
    add(
        "--metrics",
        type=_address,
        metavar="[HOST:]PORT",
        help="answer /healthz, /readyz and /metrics (Prometheus) there; 0 for any port",
    )
    add("--workers", type=int, default=1, metavar="N", help="jobs at once (1)")
    add("--queue", type=int, default=1000, metavar="N", help="jobs taken at most (1000)")
    add(
        "--largest",
        type=int,
        default=256,
        metavar="MB",
        help="of the tensors of a job (256)",
    )
    add(
        "--grace",
        type=float,
        default=30.0,
        metavar="SECONDS",
        help="that running jobs get after SIGTERM (30)",
    )
    add(
        "--keep",
        type=int,
        default=1000,
        metavar="N",
        help="finished jobs to remember, with their products (1000)",
    )
    add("--verbose", action="store_true", help="log what others do")
    add(
        "--json",
        action="store_true",
        help="print JSON: one object at the start, one more at the end",
    )


def state_folder() -> Path:
    """Where the user's services and clients keep what is theirs."""
    return Path(os.environ.get("XDG_STATE_HOME") or "~/.local/state").expanduser() / "sedma"


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not (port.isascii() and port.isdigit() and int(port) < 2**16):
        raise argparse.ArgumentTypeError(f"needs PORT or HOST:PORT, got {text!r}")
    return host.strip("[]") or "127.0.0.1", int(port)


def serve_jobs(options: argparse.Namespace) -> int:
    """Serve until a signal ends it; the exit status."""
    from .. import comm, memory  # extras
    from ..comm._jobs import service, service_process
    from ..comm._runners import daemon

    if not (options.allow or options.open):
        raise ValueError(
            "`serve` needs clients that it lets in. Got none. Name them by --allow ID, as "
            "`sedma job id` prints it, or say --open."
        )
    limits = service.ServiceLimits(
        workers=options.workers,
        queue=options.queue,
        largest=options.largest * 10**6,
        grace=options.grace,
        keep=options.keep,
    )
    settings = comm.NodeSettings(
        listen=tuple(options.listen or ["/ip4/127.0.0.1/tcp/0"]),
        announce=tuple(options.announce),
        key=options.dir / "key",
        allowed=frozenset([*options.allow, *([comm.EVERYONE] if options.open else [])]),
        bootstrap=tuple(options.join),
        replicas=options.replicas,
    )
    daemon.log_to_stderr(options.verbose)
    with memory.open(options.memory or memory.default_url()) as long_term:
        service_process.run_service(
            settings,
            options.dir,
            lambda: job_worker(long_term),
            limits,
            memory=long_term,
            http=options.metrics,
            started=lambda status: _started(status, options),
            ended=lambda left, given_up: _ended(left, given_up, options),
        )
    return 0


def _started(status: dict, options) -> None:
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


def _ended(left: int, given_up: int, options) -> None:
    if options.json:
        print(json.dumps({"left": left, "given_up": given_up}), flush=True)
    else:
        print(
            f"ended; {left} jobs stay in the journal, {given_up} of them were under way. "
            "The next start goes on with them.",
            flush=True,
        )
