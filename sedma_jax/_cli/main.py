"""The `sedma` command."""

import argparse
import sys
from typing import Any, NoReturn

from .._compilation_cache import cache_of_commands
from .._trace import one_line
from . import bench, deploy, devices, job, memory, node, run, serve


class _Parser(argparse.ArgumentParser):
    """A parser that gives every command the options of the compilation cache."""

    def __init__(self, *arguments: Any, **options: Any):
        super().__init__(*arguments, **options)
        # Without a default, so that a subcommand does not overrule its parent.
        cache = self.add_argument_group("compiled programs").add_mutually_exclusive_group()
        cache.add_argument(
            "--compilation-cache",
            metavar="DIR",
            default=argparse.SUPPRESS,
            help="keep compiled programs there for the next command (default: "
            "$SEDMA_COMPILATION_CACHE, or the user's cache folder)",
        )
        cache.add_argument(
            "--no-compilation-cache",
            action="store_true",
            default=argparse.SUPPRESS,
            help="keep no compiled programs; SEDMA_COMPILATION_CACHE=off does the same",
        )

    def error(self, message: str) -> NoReturn:
        print(f"sedma: {message}. See `{self.prog} --help`.", file=sys.stderr)
        raise SystemExit(2)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return 0 for success, 1 for failed work, 2 for bad input."""
    options = _parser().parse_args(arguments)
    try:
        cache_of_commands(
            getattr(options, "compilation_cache", None),
            not getattr(options, "no_compilation_cache", False),
        )
        return options.command(options)
    except KeyboardInterrupt:
        print("sedma: interrupted; nothing was written.", file=sys.stderr)
        return 130
    except (ValueError, ImportError) as error:
        print(f"sedma: {one_line(error)}", file=sys.stderr)
        return 2
    except (OSError, RuntimeError, MemoryError) as error:
        print(f"sedma: the work failed: {one_line(error)}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="sedma", description="Simulate RRAM in-memory computing in JAX.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in (run, serve, job, devices, memory, node, deploy, bench):
        command.add_parser(commands)
    return parser
