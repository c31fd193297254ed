"""`sedma deploy`: place a workflow, compile it, and check manifests."""

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._files.whole_files import check_folder, check_target, replacing
from ._terminal import numbers as numbers
from ._terminal.tables import print_table
from .cluster import add_actions

if TYPE_CHECKING:
    from ..deploy import Placement, Workflow


def add_parser(commands: "argparse._SubParsersAction") -> None:
    """Add `sedma deploy` to the commands."""
    deploy = commands.add_parser("deploy", help="place and compile agent workflows")
    actions = deploy.add_subparsers(required=True, metavar="ACTION")
    for name, action, about in (
        ("plan", plan, "place the agents on the nodes, and show the placement"),
        ("compile", compile_files, "write Dockerfile, compose file and manifests"),
    ):
        parser = actions.add_parser(name, help=about)
        parser.set_defaults(command=action)
        parser.add_argument("spec", metavar="SPEC", help="workflow, a YAML file")
        parser.add_argument("--seed", type=numbers.seed, default=0, help="of the placement")
        parser.add_argument(
            "--prove",
            type=numbers.not_negative,
            default=10.0,
            metavar="SECONDS",
            help="0 for no proof",
        )
        parser.add_argument("--json", action="store_true", help="print one JSON object")
        if name == "plan":
            parser.add_argument("--plot", metavar="FILE", help="picture of the placement")
        else:
            parser.add_argument("--out", default="deploy", metavar="DIR")
            parser.add_argument("--dry-run", action="store_true", help="write nothing")
    parser = actions.add_parser("validate", help="refuse what the API server would refuse")
    parser.set_defaults(command=validate)
    parser.add_argument("files", nargs="+", metavar="FILE", help="manifests, YAML")
    parser.add_argument(
        "--namespace",
        action="append",
        metavar="NAME",
        help="of the cluster; objects in namespaces that are not given are refused",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    add_actions(actions)


def validate(options: argparse.Namespace) -> int:
    """Check files of manifests; return the exit status, 1 if one is refused."""
    from .. import deploy

    count, refusals = deploy.validate_files(options.files, namespaces=options.namespace)
    if not count and not refusals:
        raise ValueError(
            "`sedma deploy validate` needs at least one object. Got none in "
            f"{', '.join(options.files)[:200]}. Name files of manifests."
        )
    if options.json:
        print(json.dumps({"objects": count, "refused": [asdict(r) for r in refusals]}))
    elif refusals:
        print("\n".join(map(str, refusals)))
    else:
        print(f"{count} objects, none refused")
    return 1 if refusals else 0


def plan(options: argparse.Namespace) -> int:
    """Place the workflow, and show where every replica goes; return the exit status."""
    from .. import deploy

    if options.plot:
        check_target(Path(options.plot), "`--plot`")
    workflow, placement = _placed(options)
    if placement is None:
        deploy.placement_problem(workflow)  # raises: there are no nodes
        raise AssertionError("A workflow without nodes was placed.")
    shares = deploy.node_shares(workflow, placement)
    if options.plot:
        _plot(Path(options.plot), workflow, shares)
    if options.json:
        print(json.dumps(deploy.describe(workflow, placement) | {"nodes": shares}))
    else:
        _print_plan(workflow, placement, shares)
    return 0


def _plot(path: Path, workflow: "Workflow", shares: list[dict[str, Any]]) -> None:
    from ..viz import placement_map  # matplotlib is an extra

    edges = [(e.source, e.target, e.volume * e.rate) for e in workflow.edges]
    figure = placement_map(shares, edges)
    with replacing(path) as part:
        figure.savefig(part, format=path.suffix[1:] or "png")


def _print_plan(
    workflow: "Workflow", placement: "Placement", shares: list[dict[str, Any]]
) -> None:
    said = "proven optimal" if placement.optimal else "not proven optimal"
    cost = placement.cost
    print(
        f"{workflow.name}: cost {float(cost.total):.4g} ({said}): communication "
        f"{float(cost.communication):.4g}, overhead {float(cost.overhead):.4g} GB"
    )
    print_table(
        ("node", "memory", "CPU", "replicas"),
        [
            (
                share["node"],
                f"{share['memory']:.0%}",
                f"{share['cpu']:.0%}",
                " ".join(share["replicas"]),
            )
            for share in shares
        ],
        right=("memory", "CPU"),
    )


def compile_files(options: argparse.Namespace) -> int:
    """Write the files of a workflow, with `--dry-run` only their names; the exit status."""
    from .. import deploy

    if not options.dry_run:
        check_folder(Path(options.out), "`--out`")
    workflow, placement = _placed(options)
    files = deploy.compile(workflow, placement)
    folder = Path(options.out)
    if not options.dry_run:
        for name, text in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as part:
                part.write_text(text)
    written = [str(folder / name) for name in files]
    if options.json:
        print(json.dumps({"files": written, "written": not options.dry_run}))
    else:
        print("\n".join(written))
    return 0


def _placed(options: argparse.Namespace) -> "tuple[Workflow, Placement | None]":
    """The workflow, and its placement if it names nodes."""
    import jax.random as jr

    from .. import deploy

    workflow = deploy.load_workflow(options.spec)
    if not workflow.nodes:
        return workflow, None
    key = jr.key(options.seed)
    return workflow, deploy.plan(workflow, key=key, prove_seconds=options.prove)
