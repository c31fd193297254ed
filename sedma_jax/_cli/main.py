"""The `sedma` command.

What declares the options imports neither JAX nor any other large library: `--help` and a
mistake in the options answer at once. The functions that do the work import what they need.
"""

import argparse
from typing import Any, NoReturn

from .._trace import one_line
from . import bench, deploy, devices, job, memory, node, serve
from ._run import options as run_options
from ._terminal.streams import OutputClosedError, OutputError, complain, standard_streams


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
        message = " ".join(message.split()).removesuffix(".")
        complain(f"{message}. See `{self.prog} --help`.")
        raise SystemExit(2)


class _Version(argparse.Action):
    """Print the version, which takes some time to find, only if it is asked for."""

    def __call__(self, *_: object) -> NoReturn:
        from importlib.metadata import version

        print(f"sedma {version('sedma-jax')}")
        raise SystemExit(0)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line.

    **Returns:** 0 for success, 1 for failed work, 2 for bad input, 130 after Ctrl-C, and
    141, as other tools of Unix, if whoever read the output has closed it.
    """
    try:
        with standard_streams():
            try:
                options = _parser().parse_args(arguments)
            except SystemExit as stop:  # after --help, or a mistake
                return 2 if stop.code else 0
            return _perform(options)
    except OutputClosedError:
        return 141
    except OutputError as error:
        complain(f"the work failed: {error}")
        return 1
    except KeyboardInterrupt:
        complain("interrupted.")
        return 130


def _perform(options: argparse.Namespace) -> int:
    """Run the command that the options name."""
    try:
        if getattr(options, "compiles", True):
            from .._compilation_cache import cache_of_commands

            cache_of_commands(
                getattr(options, "compilation_cache", None),
                not getattr(options, "no_compilation_cache", False),
            )
        return options.command(options)
    except (ValueError, ImportError) as error:
        complain(one_line(error))
        return 2
    except (OSError, RuntimeError, MemoryError) as error:
        complain(f"the work failed: {one_line(error)}")
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="sedma", description="Simulate RRAM in-memory computing in JAX.")
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in (run_options, serve, job, devices, memory, node, deploy, bench):
        command.add_parser(commands)
    return parser
