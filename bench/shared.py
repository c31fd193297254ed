"""What benches share: paths, recurring options, results, the machine, and rivals.

Imports nothing but the standard library, since rivals run it in environments of their own.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
DATA, RESULTS = ROOT / "data", ROOT / "bench/results"
# Where bench/rivals-requirements.txt says to install.
RIVALS = ROOT / "build/rivals/bin/python"
PACKAGES = ("sedma-jax", "jax", "jaxlib", "equinox", "numpy", "scipy", "libp2p", "ortools")


def parser_of(
    doc: str | None, *, seeds: int | None = None, results: bool = False
) -> argparse.ArgumentParser:
    """A parser described by the first line of a docstring.

    With `seeds` it has the option `--seeds` with this default; with `results` it has
    `--results`, the folder to write to.
    """
    parser = argparse.ArgumentParser(description=(doc or "").partition("\n")[0])
    if seeds is not None:
        parser.add_argument("--seeds", type=int, default=seeds)
    if results:
        parser.add_argument("--results", type=Path, default=RESULTS, metavar="DIR")
    return parser


def add_rivals(parser: argparse.ArgumentParser, default: Path | None = RIVALS) -> None:
    """Add `--rivals`, with its former name `--peers`."""
    parser.add_argument(
        "--rivals",
        "--peers",
        type=Path,
        default=default,
        metavar="PYTHON",
        help="interpreter that has the rivals (see bench/rivals-requirements.txt)",
    )


def write_json(path: Path, record: Any) -> None:
    """Write a record as JSON, indented by one, as all files in bench/results are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1) + "\n")


def module_command(module: str, *arguments: Any) -> list[str]:
    """The command that runs a module of the benches in this interpreter, from `ROOT`."""
    return [sys.executable, "-m", module, *map(str, arguments)]


def read_matrix(name: str):
    """A matrix of data/, sparse, read as `sedma run` reads it."""
    # The public way to this reader is the command alone.
    from sedma_jax._files.load import load_matrix

    return load_matrix(DATA / name)


def machine() -> dict:
    """CPU, cores, memory in GB, load, versions, commit and date, as far as known."""
    about: dict[str, Any] = {"cores": os.cpu_count(), "platform": platform.platform()}
    cpu, memory = Path("/proc/cpuinfo"), Path("/proc/meminfo")
    about["cpu"] = platform.processor() or platform.machine()
    if cpu.exists():
        names = [t for t in cpu.read_text().splitlines() if t.startswith("model name")]
        about["cpu"] = names[0].partition(":")[2].strip() if names else about["cpu"]
    if memory.exists():
        kilobytes = int(memory.read_text().split()[1])
        about["memory_gb"] = round(kilobytes * 1024 / 1e9, 1)
    about["load_before"] = round(os.getloadavg()[0], 1)
    about["versions"] = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            about["versions"][name] = version(name)
        except PackageNotFoundError:
            continue
    about["commit"] = commit()
    about["date"] = time.strftime("%Y-%m-%d")
    return about


def commit() -> str:
    """The commit of the checkout, marked if files differ from it."""
    asked = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return asked.stdout.strip() or "unknown"


class Rival:
    """A rival in a process of its own; calls return once it has answered.

    `module` runs `serve_rival` below. `hello` is what the rival said when it started.
    """

    def __init__(self, python: str | Path, module: str, name: str):
        self.process = subprocess.Popen(
            [str(python), "-m", module, name],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.hello = self._answer("no start")

    def _answer(self, without: str) -> dict:
        return json.loads(self.process.stdout.readline() or json.dumps({"error": without}))

    def ask(self, **request: Any) -> dict:
        """Send a request; the answer, in which `error` says what went wrong."""
        print(json.dumps(request), file=self.process.stdin, flush=True)
        return self._answer("the process ended")

    def close(self) -> None:
        """Let the process end."""
        self.process.stdin.close()
        self.process.wait()


def serve_rival(make: Callable[[], Any], answer_to: Callable[[Any, dict], dict]) -> None:
    """Be a rival: answer requests, one JSON object per line of stdin, until it closes.

    `make` builds the rival, whose `distribution` names its package; `answer_to(rival,
    request)` does what a request asks for.
    """
    warnings.simplefilter("ignore")
    answers, sys.stdout = sys.stdout, sys.stderr  # rivals print

    def guarded(work, *arguments):
        try:
            answer = work(*arguments)
        except Exception as error:  # whatever a rival raises is its answer
            answer = {"error": f"{type(error).__name__}: {error}"[:200]}
        print(json.dumps(answer), file=answers, flush=True)

    rival = None

    def start():
        nonlocal rival
        rival = make()
        return {"version": version(rival.distribution)}

    guarded(start)
    for line in sys.stdin:
        guarded(lambda line=line: answer_to(rival, json.loads(line)))
