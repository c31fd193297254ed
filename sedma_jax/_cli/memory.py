"""`sedma memory`: show, export, import and prune the patterns that were learnt."""

import argparse
import dataclasses
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._files.whole_files import check_target
from ._terminal import numbers as numbers
from ._terminal.tables import print_table

if TYPE_CHECKING:  # an extra
    from ..memory import Memory, Pattern


def add_parser(commands: Any) -> None:
    """Declare the actions and options of `sedma memory`."""
    memory = commands.add_parser("memory", help="show, export, import and prune memories")
    actions = memory.add_subparsers(required=True, metavar="ACTION")
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument(
        "--memory",
        metavar="URL",
        help="sqlite:///FILE or postgresql://... (default: $SEDMA_MEMORY, or memory.db in "
        "the user's data folder, on Linux ~/.local/share/sedma)",
    )
    shared.add_argument(
        "--json", action="store_true", help="print one JSON object on stdout"
    )

    show = actions.add_parser("show", parents=[shared], help="list patterns")
    show.set_defaults(command=show_patterns)
    show.add_argument("--kind", help="show only patterns of this kind")
    show.add_argument("--workload", help="show only patterns of this workload")
    show.add_argument(
        "--limit",
        type=numbers.whole("rows", 0),
        metavar="N",
        help="print at most N rows (default: 50, or all with --json)",
    )

    export = actions.add_parser("export", parents=[shared], help="write JSON Lines")
    export.set_defaults(command=export_patterns)
    export.add_argument("file", metavar="FILE", help="file to write, whole or not at all")

    import_ = actions.add_parser("import", parents=[shared], help="merge JSON Lines")
    import_.set_defaults(command=import_patterns)
    import_.add_argument("file", metavar="FILE", help="that `sedma memory export` wrote")
    import_.add_argument(
        "--again",
        action="store_true",
        help="count rewards that are counted already",
    )

    prune = actions.add_parser("prune", parents=[shared], help="delete the least valuable")
    prune.set_defaults(command=prune_patterns)
    prune.add_argument(
        "--keep",
        type=numbers.whole("patterns", 0),
        required=True,
        metavar="N",
        help="number of patterns to keep",
    )


def show_patterns(options: argparse.Namespace) -> int:
    """Perform `sedma memory show`; return the exit status."""
    with _opened(options) as memory:
        name, patterns = memory.name, memory.patterns(options.kind, options.workload)
    shown = patterns[: options.limit]
    if options.json:
        print(
            json.dumps(
                {
                    "memory": name,
                    "count": len(patterns),
                    "patterns": [_fields(pattern) for pattern in shown],
                },
                allow_nan=False,
            )
        )
        return 0
    shown = patterns[: 50 if options.limit is None else options.limit]
    print(f"{name}: {len(patterns)} patterns, {len(shown)} shown, times in UTC")
    print_table(
        ("kind", "workload", "choice", "count", "mean", "spread", "updated"),
        [
            (
                pattern.kind,
                pattern.workload,
                json.dumps(pattern.choice, ensure_ascii=True),
                f"{pattern.count:,}",
                f"{pattern.mean:.4g}",
                "" if math.isnan(pattern.spread) else f"{pattern.spread:.3g}",
                f"{pattern.updated:%Y-%m-%d %H:%M}",
            )
            for pattern in shown
        ],
        right=("count", "mean", "spread", "updated"),
    )
    return 0


def export_patterns(options: argparse.Namespace) -> int:
    """Perform `sedma memory export`; return the exit status."""
    check_target(Path(options.file), "`sedma memory export`")
    with _opened(options) as memory:
        name, count = memory.name, memory.export(options.file)
    return _say(
        options,
        {"memory": name, "exported": count, "file": options.file},
        f"{count} patterns of {name} were written to {options.file}.",
    )


def import_patterns(options: argparse.Namespace) -> int:
    """Perform `sedma memory import`; return the exit status."""
    with _opened(options, create=True) as memory:
        count = memory.import_(options.file, again=options.again)
        name, total = memory.name, len(memory)
    return _say(
        options,
        {"memory": name, "imported": count, "count": total},
        f"{count} patterns were imported into {name}, which now has {total}.",
    )


def prune_patterns(options: argparse.Namespace) -> int:
    """Perform `sedma memory prune`; return the exit status."""
    with _opened(options) as memory:
        count = memory.prune(options.keep)
        name, total = memory.name, len(memory)
    return _say(
        options,
        {"memory": name, "deleted": count, "count": total},
        f"{count} patterns were deleted from {name}, which now has {total}.",
    )


def _opened(options: argparse.Namespace, create: bool = False) -> "Memory":
    from .. import memory  # an extra

    url = options.memory or memory.default_url()
    return memory.open(url, create=create)


def _say(options: argparse.Namespace, record: dict[str, Any], sentence: str) -> int:
    """Print the record or the sentence; return the exit status."""
    print(json.dumps(record) if options.json else sentence)
    return 0


def _fields(pattern: "Pattern") -> dict[str, Any]:
    fields = dataclasses.asdict(pattern) | {"updated": pattern.updated.isoformat()}
    del fields["distance"]
    fields["spread"] = None if math.isnan(pattern.spread) else pattern.spread
    return fields
