"""`sedma deploy diff|apply|watch|rollback`: a workflow on a Kubernetes cluster."""

import argparse
import functools
import json
import signal
import sys
import threading
import time

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
        _add_cluster(parser)
        if name in ("diff", "apply"):
            parser.add_argument("--seed", type=int, default=0, help="of the placement")
            _add_force(parser)
        if name == "apply":
            parser.add_argument("--dry-run", action="store_true", help="the same as diff")
        if name != "diff":
            _add_patience(parser)
        parser.add_argument("--json", action="store_true", help="print JSON")
        if name == "watch":
            _add_limits(parser)


def add_target(parser) -> None:
    """Options of a cluster, and of how to roll out there."""
    _add_cluster(parser)
    _add_force(parser)
    _add_patience(parser)


def _add_cluster(parser) -> None:
    parser.add_argument("--kubeconfig", metavar="FILE")
    parser.add_argument("--context", metavar="NAME", help="of the kubeconfig")


def _add_force(parser) -> None:
    parser.add_argument(
        "--force", action="store_true", help="take fields that others manage"
    )


def _add_patience(parser) -> None:
    number = functools.partial(parser.add_argument, type=float, metavar="SECONDS")
    number("--timeout", default=300.0, help="to be ready")
    number("--lost-after", default=30.0, help="that a node may be silent")


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
    from ..deploy._control.rollout import placed_on
    from ..deploy._control.server_objects import changes

    _, controller = _opened(options)
    record = controller.keeper.load()
    deployed = placed_on(controller, jr.key(options.seed))
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
    from ..deploy._control.rollout import interruptible, lease_of, placed_on

    workflow, controller = _opened(options)
    with interruptible(), lease_of(controller):
        deployed = placed_on(controller, jr.key(options.seed))
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
    from ..deploy._control.rollout import interruptible, lease_of

    workflow, controller = _opened(options)
    with interruptible(), lease_of(controller):
        back = controller.roll_back()
    _said(
        options,
        f"{workflow.name}: the deployment before is ready.",
        {"placement": back.nodes},
    )
    return 0


def watch(options: argparse.Namespace) -> int:
    """Keep what was applied as it should be until interrupted; the exit status."""
    from ..deploy._control.cluster import ClusterError
    from ..deploy._control.controller import RolloutFailed
    from ..deploy._control.lease import LeaseLost
    from ..deploy._control.measure import Prometheus, measure
    from ..deploy._control.recompile import Recompiler
    from ..deploy._control.rollout import lease_of
    from ..deploy._control.trigger import Limits

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
        from .. import memory as long_term

        memory = long_term.open(options.memory)
    source = lambda: measure(controller.cluster, workflow.namespace, prometheus)
    recompiler = Recompiler(controller, source, memory=memory, limits=limits)
    said = lambda what: _said(options, f"{workflow.name}: {what}", {"event": what})
    ended = threading.Event()

    def end(*_):
        # A callback of a library may swallow what is raised into it; the event stays.
        ended.set()
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, end)
    due = 0.0
    while not ended.is_set():
        try:
            lease = lease_of(controller)
            lease.acquire(float("inf"))  # another one leads: stand by
            try:
                controller.resume()
                while not ended.is_set():
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
            break
    return 0


def _opened(options):
    from .. import deploy
    from ..deploy._control import rollout as _rollout

    workflow = deploy.load_workflow(options.spec)
    controller = _rollout.connect(workflow, target_of(options))
    if sys.stderr.isatty():
        show = lambda s: print(f"{s.ready}/{s.wanted} ready", end="\r", file=sys.stderr)
        controller.report = show
    return workflow, controller


def target_of(options: argparse.Namespace):
    """The cluster that the options name; those not given have their defaults."""
    from .. import deploy

    names = {"kubeconfig", "context", "timeout", "lost_after", "force"}
    given = {name: value for name, value in vars(options).items() if name in names}
    return deploy.Target(**given)


def _said(options, text, value) -> None:
    print(json.dumps(value) if options.json else text, flush=True)
