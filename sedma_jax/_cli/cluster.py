"""`sedma deploy diff|apply|watch|rollback`: a workflow on a Kubernetes cluster."""

import argparse
import functools
import json
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from .._files.read_files import check_input
from .._trace import Trace
from ._terminal import numbers as numbers
from ._terminal.tables import print_table

if TYPE_CHECKING:
    from ..deploy import Target, Workflow
    from ..deploy._control.changes import Change
    from ..deploy._control.controller import Controller, Report
    from ..deploy._control.measure import Prometheus
    from ..deploy._control.recompile import Recompiler


def add_actions(actions: "argparse._SubParsersAction") -> None:
    """Add the actions on a cluster to those of `sedma deploy`."""
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
            parser.add_argument(
                "--seed", type=numbers.seed, default=0, help="of the placement"
            )
            _add_force(parser)
        if name == "apply":
            parser.add_argument("--dry-run", action="store_true", help="the same as diff")
        if name != "diff":
            _add_patience(parser)
        parser.add_argument("--json", action="store_true", help="print JSON")
        if name == "watch":
            _add_limits(parser)


def add_target(parser: argparse.ArgumentParser) -> None:
    """Add the options of a cluster, and of how to roll out there."""
    _add_cluster(parser)
    _add_force(parser)
    _add_patience(parser)


def _add_cluster(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--kubeconfig", metavar="FILE")
    parser.add_argument("--context", metavar="NAME", help="of the kubeconfig")


def _add_force(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--force", action="store_true", help="take fields that others manage"
    )


def _add_patience(parser: argparse.ArgumentParser) -> None:
    number = functools.partial(
        parser.add_argument, type=numbers.not_negative, metavar="SECONDS"
    )
    number("--timeout", default=300.0, help="until all is ready")
    number("--lost-after", default=30.0, help="of silence until a node is lost")


def _add_limits(parser: argparse.ArgumentParser) -> None:
    number = functools.partial(parser.add_argument, type=numbers.not_negative)
    parser.add_argument("--prometheus", metavar="URL", help="where throughput is measured")
    parser.add_argument("--query", metavar="PROMQL", help="one number; more is better")
    parser.add_argument(
        "--traffic", metavar="PROMQL", help="bytes/s with labels source and target"
    )
    parser.add_argument("--memory", metavar="URL", help="long-term memory")
    number("--interval", default=10.0, metavar="SECONDS", help="between measurements")
    number("--theta", default=0.8, help="least performance over the expected one")
    number("--rho", default=0.85, help="greatest utilisation of a node")
    number("--cool-down", default=120.0, metavar="SECONDS", help="between placements")
    number("--move-cost", default=0.01, help="per move, as a share of the present cost")
    parser.add_argument(
        "--moves", type=numbers.whole("moves", 0), default=10, help="at most, per placement"
    )


def diff(options: argparse.Namespace) -> int:
    """Show what applying would change; return the exit status."""
    import jax.random as jr

    from ..deploy._control.apply import placed_on

    _, controller = _opened(options)
    record = controller.keeper.load()
    deployed = placed_on(controller, jr.key(options.seed))
    changes = controller.dry_run(deployed, force=options.force)
    old = record.wanted.nodes if record.wanted else {}
    moves = {
        name: (old.get(name), node)
        for name, node in deployed.nodes.items()
        if old.get(name) != node
    }
    if options.json:
        rows = [
            {"action": c.action, "kind": c.kind, "name": c.name, "fields": list(c.lines)}
            for c in changes
        ]
        print(json.dumps({"objects": rows, "moves": moves}))
    else:
        _print_changes(changes, moves)
    return 0


def _print_changes(
    changes: "list[Change]", moves: dict[str, tuple[str | None, str]]
) -> None:
    rows = [
        (change.action, f"{change.kind}/{change.name}", "\n".join(change.lines))
        for change in changes
        if change.action != "same"
    ]
    rows += [
        ("move", name, f"{source or '(none)'} -> {target}")
        for name, (source, target) in moves.items()
    ]
    if rows:
        print_table(("change", "object", "fields"), rows)
    same = sum(change.action == "same" for change in changes)
    print(f"{len(changes) - same} objects change, {same} stay, {len(moves)} replicas move.")


def apply(options: argparse.Namespace) -> int:
    """Deploy, and wait until all replicas are ready; return the exit status."""
    if options.dry_run:
        return diff(options)
    import jax.random as jr

    from .. import deploy
    from ..deploy._control.apply import roll_out

    workflow = deploy.load_workflow(options.spec)
    start = time.monotonic()
    applied = roll_out(
        workflow,
        target_of(options),
        trace=Trace(),
        report=_report(),
        key=jr.key(options.seed),
    )
    _said(
        options,
        f"{workflow.name}: {applied.ready} replicas ready in "
        f"{time.monotonic() - start:.1f} s.",
        {"ready": applied.ready, "placement": applied.placement},
    )
    return 0


def rollback(options: argparse.Namespace) -> int:
    """Return to the last good deployment; return the exit status."""
    from ..deploy._control.apply import interruptible, lease_of

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
    """Keep what was applied as it should be until interrupted; return the exit status."""
    from ..deploy._control import watch as loop

    workflow, controller = _opened(options)
    loop.watch(
        controller,
        _recompiler(controller, options),
        interval=options.interval,
        said=lambda what: _said(options, f"{workflow.name}: {what}", {"event": what}),
        ended=_ended_by_sigterm(),
    )
    return 0


def _recompiler(controller: "Controller", options: argparse.Namespace) -> "Recompiler":
    """What measures and places anew, as the options say."""
    from ..deploy._control.measure import measure
    from ..deploy._control.recompile import Recompiler
    from ..deploy._placing.trigger import Limits

    prometheus = _prometheus(options)
    memory = None
    if options.memory:
        from .. import memory as long_term

        memory = long_term.open(options.memory)
    namespace = controller.workflow.namespace
    return Recompiler(
        controller,
        lambda: measure(controller.cluster, namespace, prometheus),
        memory=memory,
        limits=Limits(
            theta=options.theta,
            rho=options.rho,
            cool_down=options.cool_down,
            moves=options.moves,
            move_share=options.move_cost,
        ),
    )


def _prometheus(options: argparse.Namespace) -> "Prometheus | None":
    from ..deploy._control.measure import Prometheus

    if bool(options.prometheus) != bool(options.query):
        raise ValueError(
            "`sedma deploy watch` needs --prometheus and --query together. Got one of "
            "them. Give both, or none to watch utilisation alone."
        )
    if not options.prometheus:
        return None
    return Prometheus(options.prometheus, options.query, options.traffic)


def _ended_by_sigterm() -> threading.Event:
    """An event that SIGTERM sets; it also interrupts whatever is waiting."""
    ended = threading.Event()

    def end(*_: object) -> None:
        # A callback of a library may swallow the exception; the event stays set.
        ended.set()
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, end)
    return ended


def _opened(options: argparse.Namespace) -> "tuple[Workflow, Controller]":
    from .. import deploy
    from ..deploy._control.apply import connect

    workflow = deploy.load_workflow(options.spec)
    return workflow, connect(workflow, target_of(options), _report())


def _report() -> "Report":
    """What shows the progress of a roll-out on a terminal."""
    from ..deploy._control.controller import silent

    if not sys.stderr.isatty():
        return silent
    return lambda s: print(f"{s.ready}/{s.wanted} ready", end="\r", file=sys.stderr)


def target_of(options: argparse.Namespace) -> "Target":
    """Make the target that the options name, with defaults for those not given."""
    from .. import deploy

    names = {"kubeconfig", "context", "timeout", "lost_after", "force"}
    given = {name: value for name, value in vars(options).items() if name in names}
    if given.get("kubeconfig"):
        check_input(given["kubeconfig"], "`--kubeconfig`")
    return deploy.Target(**given)


def _said(options: argparse.Namespace, text: str, value: dict[str, Any]) -> None:
    print(json.dumps(value) if options.json else text, flush=True)
