"""The `sedma` command."""

import argparse
import sys

from .._compilation_cache import cache_of_commands
from . import bench, deploy, devices, job, memory, node, run, serve


class _Parser(argparse.ArgumentParser):
    """A parser whose commands all take the options of the compilation cache."""

    def __init__(self, *arguments, **how):
        super().__init__(*arguments, **how)
        # Suppressed, so that a command does not overrule the one it belongs to.
        cache = self.add_argument_group("compiled programs").add_mutually_exclusive_group()
        cache.add_argument(
            "--compilation-cache",
            metavar="DIR",
            default=argparse.SUPPRESS,
            help="keep them there for the next command (default: $SEDMA_COMPILATION_CACHE, "
            "or the user's cache folder)",
        )
        cache.add_argument(
            "--no-compilation-cache",
            action="store_true",
            default=argparse.SUPPRESS,
            help="keep none; SEDMA_COMPILATION_CACHE=off does the same",
        )

    def error(self, message):
        print(f"sedma: {message}. See `{self.prog} --help`.", file=sys.stderr)
        raise SystemExit(2)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; 0 is done, 1 the work failed, 2 bad usage or input."""
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
        print(f"sedma: {_one_line(error)}", file=sys.stderr)
        return 2
    except (OSError, RuntimeError, MemoryError) as error:
        print(f"sedma: the work failed: {_one_line(error)}", file=sys.stderr)
        return 1


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="sedma", description="Simulate RRAM in-memory computing in JAX.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in (
        run,
        serve,
        job,
        devices,
        memory,
        node,
        deploy,
        bench,
    ):
        command.add_parser(commands)
    return parser
