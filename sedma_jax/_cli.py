"""The `sedma` command."""

import argparse
import json
import sys

from rich.console import Console
from rich.table import Table

from . import devices
from ._cli_run import run_matrix
from ._corrected import BASELINE_LAMBDA


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        print(f"sedma: {message}. See `{self.prog} --help`.", file=sys.stderr)
        raise SystemExit(2)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; 0 is done, 1 the work failed, 2 bad usage or input."""
    options = _parser().parse_args(arguments)
    try:
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
    run = commands.add_parser(
        "run",
        help="program a matrix on crossbars, multiply, and correct",
        description="Program a matrix on simulated crossbars by write-and-verify, "
        "multiply it by a vector, and correct the product to first and second order.",
    )
    run.set_defaults(command=run_matrix)
    run.add_argument(
        "matrix", metavar="MATRIX", help="Matrix Market, .npy, .npz or .safetensors"
    )
    run.add_argument(
        "--vector",
        metavar="FILE",
        help="x, in the same formats; uniform in [0, 1) from the seed if left out",
    )
    run.add_argument(
        "--device",
        action="append",
        type=lambda name: name.lower().replace("_", "-"),
        choices=[*devices.PRESETS, "all"],
        metavar="NAME",
        help=f"{', '.join(devices.PRESETS)} or all; may be repeated (default: epiram)",
    )
    run.add_argument("--seed", type=int, default=0, help="of all randomness (default: 0)")
    run.add_argument(
        "--array",
        type=_array,
        metavar="RxC",
        help="word lines and bit lines of one array (default: 256x256)",
    )
    run.add_argument(
        "--arrays",
        type=int,
        metavar="N",
        help="arrays there are (default: one a partition)",
    )
    run.add_argument(
        "--slices",
        type=int,
        metavar="N",
        help="arrays a partition, each storing what the ones before missed (default: 1)",
    )
    run.add_argument(
        "--pool",
        metavar="FILE",
        help="arrays of several sizes and devices, in place of --device, --array and "
        "--arrays: TOML or JSON, a list `arrays` of device, rows, cols, count",
    )
    run.add_argument(
        "--lambda",
        dest="lam",
        type=float,
        default=BASELINE_LAMBDA,
        metavar="L",
        help=f"weight of the roughness (default: {BASELINE_LAMBDA:g}, as MELISO+)",
    )
    run.add_argument(
        "--compilation-cache",
        metavar="DIR",
        help="keep compiled programs there for the next run",
    )
    run.add_argument("--float64", action="store_true", help="compute in double precision")
    run.add_argument("--out", metavar="DIR", help="write y.npy and result.json there")
    run.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    run.add_argument(
        "--plot",
        metavar="FILE",
        help="picture of the errors before and after correction (needs the viz extra)",
    )
    listing = commands.add_parser("devices", help="list the devices and their figures")
    listing.set_defaults(command=_devices)
    listing.add_argument(
        "--json", action="store_true", help="print one JSON object on stdout"
    )
    return parser


def _array(text: str) -> tuple[int, int]:
    rows, _, cols = text.partition("x")
    if not (rows.isdigit() and cols.isdigit() and int(rows) and int(cols)):
        raise argparse.ArgumentTypeError(f"needs the form 256x256, got {text!r}")
    return int(rows), int(cols)


def _devices(options: argparse.Namespace) -> int:
    figures = {name: vars(device) for name, device in devices.PRESETS.items()}
    if options.json:
        print(json.dumps(figures))
        return 0
    table = Table(title="SI units; sigma in fractions of the window")
    table.add_column("")
    for name in figures:
        table.add_column(name, justify="right")
    for field in next(iter(figures.values())):
        table.add_row(field, *(f"{f[field]:g}" for f in figures.values()))
    Console(width=None if sys.stdout.isatty() else 120).print(table)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
