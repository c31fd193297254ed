"""`sedma deploy diff|apply|watch|rollback`: a workflow on a Kubernetes cluster."""

import argparse
import contextlib
import functools
import json
import os
import signal
import socket
import sys
import time
import uuid

import jax.random as jr
from rich.console import Console
from rich.table import Table


def add_actions(actions) -> None:
    """Say how the actions on a cluster are called."""
    for name, action, about in (
        ("diff", diff, "ask the cluster what `apply` would change"),
        ("apply", apply, "deploy to a cluster, and wait until it is ready"),
        ("watch", watch, "keep it deployed, and place it anew when it gets slow"),
        ("rollback", rollback, "return to the last good deployment before this one"),
    ):
        parser = actions.add_parser(name, help=about)
        parser.set_defaults(command=action)
        parser.add_argument("spec", metavar="SPEC", help="workflow, a YAML file")
        parser.add_argument("--kubeconfig", metavar="FILE")
        parser.add_argument("--context", metavar="NAME", help="of the kubeconfig")
        if name in ("diff", "apply"):
            parser.add_argument("--seed", type=int, default=0, help="of the placement")
            parser.add_argument(
                "--force", action="store_true", help="take fields that others manage"
            )
        if name == "apply":
            parser.add_argument("--dry-run", action="store_true", help="the same as diff")
        if name != "diff":
            parser.add_argument(
                "--timeout",
                type=float,
                default=300.0,
                metavar="SECONDS",
                help="to be ready",
            )
            parser.add_argument(
                "--lost-after",
                type=float,
                default=30.0,
                metavar="SECONDS",
                help="that a node may be silent",
            )
        parser.add_argument("--json", action="store_true", help="print JSON")
        if name == "watch":
            _add_limits(parser)


def _add_limits(parser) -> None:
    number = functools.partial(parser.add_argument, type=float)
    parser.add_argument("--prometheus", metavar="URL", help="where throughput is measured")
    parser.add_argument("--query", metavar="PROMQL", help="one number, more is better")
    parser.add_argument(
        "--traffic", metavar="PROMQL", help="bytes/s with labels source and target"
    )
    parser.add_argument("--memory", metavar="URL", help="long-term memory")
    number("--interval", default=10.0, metavar="SECONDS", help="between measurements")
    number("--theta", default=0.8, help="least performance over expected")
    number("--rho", default=0.85, help="most utilisation of a node")
    number("--cool-down", default=120.0, metavar="SECONDS", help="between placements")
    number("--move-cost", default=0.01, help="share of the present cost, for each move")
    parser.add_argument("--moves", type=int, default=10, help="most of one placement")


def diff(options: argparse.Namespace) -> int:
    """Show what applying would change; the exit status."""
    from .deploy._apply import changes

    workflow, controller = _opened(options)
    record = controller.keeper.load()
    deployed = _placed(options, workflow, controller, record)
    found = changes(controller.cluster, deployed, controller.keeper, force=options.force)
    old = record.wanted.nodes if record.wanted else {}
    moves = {
        name: (old.get(name), node)
        for name, node in deployed.nodes.items()
        if old.get(name) != node
    }
    if options.json:
        rows = [
            {"action": c.action, "kind": c.kind, "name": c.name, "fields": list(c.lines)}
            for c in found
        ]
        print(json.dumps({"objects": rows, "moves": moves}))
        return 0
    table = Table()
    for heading in ("change", "object", "fields"):
        table.add_column(heading, overflow="fold")
    for change in found:
        if change.action != "same":
            table.add_row(
                change.action, f"{change.kind}/{change.name}", "\n".join(change.lines)
            )
    for name, (source, target) in moves.items():
        table.add_row("move", name, f"{source or '(none)'} -> {target}")
    if table.row_count:
        Console(width=None if sys.stdout.isatty() else 120).print(table)
    same = sum(change.action == "same" for change in found)
    print(f"{len(found) - same} objects change, {same} stay, {len(moves)} replicas move.")
    return 0


def apply(options: argparse.Namespace) -> int:
    """Deploy, and wait until all is ready; the exit status."""
    if options.dry_run:
        return diff(options)
    workflow, controller = _opened(options)
    with _interruptible(), _lease(controller):
        record = controller.keeper.load()
        deployed = _placed(options, workflow, controller, record)
        start = time.monotonic()
        status = controller.roll_out(deployed, force=options.force)
    _said(
        options,
        f"{workflow.name}: {status.ready} replicas ready in "
        f"{time.monotonic() - start:.1f} s.",
        {"ready": status.ready, "placement": deployed.nodes},
    )
    return 0


def rollback(options: argparse.Namespace) -> int:
    """Return to the last good deployment; the exit status."""
    workflow, controller = _opened(options)
    with _interruptible(), _lease(controller):
        back = controller.roll_back()
    _said(
        options,
        f"{workflow.name}: the deployment before is ready.",
        {"placement": back.nodes},
    )
    return 0


def watch(options: argparse.Namespace) -> int:
    """Keep what was applied as it should be until interrupted; the exit status."""
    from .deploy._cluster import ClusterError
    from .deploy._controller import RolloutFailed
    from .deploy._lease import LeaseLost
    from .deploy._measure import Prometheus, measure
    from .deploy._recompile import Recompiler
    from .deploy._trigger import Limits

    if bool(options.prometheus) != bool(options.query):
        raise ValueError(
            "`watch` needs --prometheus and --query together. Got one of them. Give both, "
            "or none to watch utilisation alone."
        )
    limits = Limits(
        theta=options.theta,
        rho=options.rho,
        cool_down=options.cool_down,
        moves=options.moves,
        move_share=options.move_cost,
    )
    prometheus = None
    if options.prometheus:
        prometheus = Prometheus(options.prometheus, options.query, options.traffic)
    workflow, controller = _opened(options)
    memory = None
    if options.memory:
        from . import memory as long_term

        memory = long_term.open(options.memory)
    source = lambda: measure(controller.cluster, workflow.namespace, prometheus)
    recompiler = Recompiler(controller, source, memory=memory, limits=limits)
    said = lambda what: _said(options, f"{workflow.name}: {what}", {"event": what})
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    due = 0.0
    while True:
        try:
            lease = _lease(controller)
            lease.acquire(float("inf"))  # another one leads: stand by
            try:
                controller.resume()
                while True:
                    status = controller.settle()
                    if not status.settled:
                        said("not ready: " + "; ".join(status.problems))
                    elif time.monotonic() >= due:
                        due = time.monotonic() + options.interval
                        if done := recompiler.tick():
                            said(done)
                    controller.wait(max(0.5, due - time.monotonic()))
            finally:
                lease.release()
        except (ClusterError, LeaseLost, RolloutFailed) as error:
            said(str(error))
            time.sleep(1.0)
        except KeyboardInterrupt:
            return 0


def _opened(options):
    from . import deploy
    from .deploy._cluster import Cluster
    from .deploy._controller import Controller
    from .deploy._reconcile import Settings

    workflow = deploy.load_workflow(options.spec)
    cluster = Cluster.connect(options.kubeconfig, options.context)
    settings = Settings()
    if "timeout" in options:
        settings = Settings(deadline=options.timeout, lost_after=options.lost_after)
    controller = Controller(cluster, workflow, settings)
    if sys.stderr.isatty():
        show = lambda s: print(f"{s.ready}/{s.wanted} ready", end="\r", file=sys.stderr)
        controller.report = show
    return workflow, controller


def _placed(options, workflow, controller, record):
    """The workflow on nodes: near the optimum, with moves counted if it runs already."""
    from . import deploy
    from .deploy._observe import observe
    from .deploy._record import Deployed
    from .deploy._replacement import replaced

    if not workflow.nodes:
        return Deployed(workflow, {})
    old = record.wanted.nodes if record.wanted else {}
    names = set(deploy.replica_names(workflow))
    kept = {name: node for name, node in old.items() if name in names}
    seen = observe(controller.cluster, workflow)
    rooms = controller.reconciler.rooms_of(workflow, seen, ())
    key = jr.key(options.seed)
    return Deployed(workflow, replaced(Deployed(workflow, kept), rooms, key=key))


@contextlib.contextmanager
def _interruptible():
    try:
        yield
    except KeyboardInterrupt as error:
        raise RuntimeError(
            "interrupted; the record of the cluster has what is wanted. `sedma deploy "
            "watch` or `apply` goes on with it, `rollback` takes it back."
        ) from error


def _lease(controller):
    from .deploy._lease import Lease

    workflow = controller.workflow
    identity = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    name = f"sedma-{workflow.name}"
    return Lease(controller.cluster, name, workflow.namespace, identity)


def _said(options, text, value) -> None:
    print(json.dumps(value) if options.json else text, flush=True)
