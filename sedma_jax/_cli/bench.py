"""`sedma bench`: list the benches of a checkout, run them, and report on them."""

import argparse
import ast
import os
import subprocess
import sys
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

# The benches that the report is made from, and their arguments; inside bench/.
PLAN = "report/report.toml"
RIVALS = "build/rivals/bin/python"  # where bench/rivals-requirements.txt says to install
PAGE = "report.evaluation"  # the module, inside bench/, that writes the page


def add_parser(commands) -> None:
    """Add the command line of `sedma bench`."""
    bench = commands.add_parser(
        "bench",
        help="list, run and report the benches of a checkout",
        description="The benches are in bench/ of a checkout, not in the wheel. Full runs "
        "write to bench/results, those of --quick to build/bench.",
    )
    actions = bench.add_subparsers(required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="name the benches, one per line")
    listing.set_defaults(command=list_benches, compiles=False)
    run = actions.add_parser("run", help="run benches, one after another")
    run.set_defaults(command=run_benches, compiles=False)
    run.add_argument(
        "names", nargs="+", metavar="NAME", help="as `sedma bench list` has it"
    )
    report = actions.add_parser("report", help="write one HTML page of all tables")
    report.set_defaults(command=report_benches, compiles=False)
    report.add_argument(
        "--out", default="report.html", metavar="FILE", help="default: report.html"
    )
    report.add_argument(
        "--rerun", action="store_true", help="also run benches that have results already"
    )
    for action in (run, report):
        action.add_argument(
            "--quick", action="store_true", help="fewer seeds and smaller problems"
        )
        action.add_argument(
            "--rivals",
            "--peers",
            metavar="PYTHON",
            help="interpreter of an environment that has ray and torch (default: "
            f"{RIVALS} of the checkout, if there); without it these baselines are skipped",
        )
    for action in (listing, run, report):
        action.add_argument(
            "--bench-dir", metavar="DIR", help="bench/ of a checkout (default: found)"
        )


def list_benches(options: argparse.Namespace) -> int:
    """Print the name of each bench and the first line of its docstring."""
    found = _benches(_folder(options))
    width = max(map(len, found), default=0)
    for name, (path, _) in found.items():
        about = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
        print(f"{name:{width}}  {about.partition(chr(10))[0]}")
    return 0


def run_benches(options: argparse.Namespace) -> int:
    """Run the named benches; 1 if one of them fails."""
    folder = _folder(options)
    found = _benches(folder)
    unknown = [name for name in options.names if name not in found]
    if unknown:
        raise ValueError(
            f"`sedma bench run` needs names of benches. Got {', '.join(unknown)}. See "
            "`sedma bench list`."
        )
    return _run(folder, found, options.names, options)


def report_benches(options: argparse.Namespace) -> int:
    """Run the benches that lack results, and write the report; 1 if a bench fails."""
    folder = _folder(options)
    found, plan = _benches(folder), _plan(folder)
    results = _results(folder, options.quick)
    wanted = [
        name
        for name, entry in plan.items()
        if ("quick" in entry or not options.quick)
        and (options.rerun or not (results / entry["result"]).exists())
    ]
    failed = _run(folder, found, wanted, options)
    page = [*_module(folder, PAGE), "--results", str(results)]
    page += ["--out", str(Path(options.out).absolute())]
    page += ["--quick"] if options.quick else []
    if subprocess.run(page, cwd=folder.parent, check=False).returncode:
        raise RuntimeError("the page could not be made; see above.")
    print(options.out)
    return failed


def _folder(options) -> Path:
    """The folder that is named, bench/ in this one, or that of an editable install."""
    if options.bench_dir is not None:
        folder = Path(options.bench_dir).absolute()
        candidates = [folder]
    else:
        candidates = [Path.cwd() / "bench", Path(__file__).parents[2] / "bench"]
    for folder in candidates:
        if (folder / PLAN).is_file():
            return folder
    raise ValueError(
        f"`sedma bench` needs bench/ of a checkout, with {PLAN} inside: it is not in the "
        f"wheel. Found none at {candidates[0]}. Clone the repository and call it there, or "
        "name the folder by --bench-dir."
    )


def _plan(folder: Path) -> dict:
    """The benches that the report needs, in order; the file explains its fields."""
    return tomllib.loads((folder / PLAN).read_text("utf-8"))


def _benches(folder: Path) -> dict[str, tuple[Path, dict]]:
    """The file of every bench by name, and its entry in the plan."""
    plan, found = _plan(folder), {}
    for path in sorted(folder.glob("*/*.py"), key=lambda path: path.stem):
        names = {
            node.name
            for node in ast.parse(path.read_text("utf-8")).body
            if isinstance(node, ast.FunctionDef)
        }
        if path.stem.startswith("bench_") or "main" in names:
            found[path.stem] = path, plan.get(path.stem, {})
    return found


def _results(folder: Path, quick: bool) -> Path:
    """The folder for results, made if missing."""
    results = folder.parent / "build/bench" if quick else folder / "results"
    results.mkdir(parents=True, exist_ok=True)
    return results


def _run(folder: Path, found, names, options) -> int:
    """Run benches in processes of their own, with progress on stderr.

    Those that need the machine for themselves run one after another, then the others
    together; with `--quick` all run together.
    """
    shares = lambda entry: "full" in entry and (options.quick or not entry.get("alone"))
    together = [name for name in names if shares(found[name][1])]
    together = together if len(together) > 1 else []
    ordered = [name for name in names if name not in together] + together

    def one(name):
        print(
            f"[{ordered.index(name) + 1}/{len(names)}] {name}", file=sys.stderr, flush=True
        )
        path, entry = found[name]
        if options.quick and "quick" not in entry:
            print(f"  {name} has no short form: it runs in full.", file=sys.stderr)
        start = time.perf_counter()
        done = subprocess.run(
            _command(folder, path, entry, options),
            cwd=folder.parent,
            env=_environment(folder, entry),
            check=False,
            # The output of those that run together would be mixed.
            stdout=subprocess.PIPE if name in together else None,
            stderr=subprocess.STDOUT if name in together else None,
            text=True,
        )
        seconds = time.perf_counter() - start
        outcome = f"failed with status {done.returncode}" if done.returncode else "done"
        said = f"  {name}: {outcome} in {seconds:.0f} s"
        print((done.stdout or "") + said, file=sys.stderr, flush=True)
        return done.returncode

    statuses = {name: one(name) for name in ordered if name not in together}
    with ThreadPoolExecutor(3) as pool:
        statuses |= zip(together, pool.map(one, together), strict=True)
    failed = [name for name in names if statuses[name]]
    if failed:
        print(
            f"sedma: the benches {', '.join(failed)} failed, see above. Run them alone by "
            "`sedma bench run`.",
            file=sys.stderr,
        )
    return 1 if failed else 0


def _command(folder: Path, path: Path, entry: dict, options) -> list[str]:
    """The command line of a bench, from the root of the checkout."""
    if path.stem.startswith("bench_"):
        command = [sys.executable, "-m", "pytest", "-o"]
        return [*command, "addopts=--import-mode=importlib", str(path)]
    results = str(_results(folder, options.quick))
    arguments = entry.get("quick" if options.quick else "full", [])
    command = _module(folder, f"{path.parent.name}.{path.stem}")
    command += [text.replace("{results}", results) for text in arguments]
    rivals = Path(options.rivals) if options.rivals else folder.parent / RIVALS
    if entry.get("rivals") and (options.rivals or rivals.exists()):
        command += ["--rivals", str(rivals)]
    return command


def _module(folder: Path, name: str) -> list[str]:
    """The command of a module in bench/, which is a package of that folder's name."""
    return [sys.executable, "-m", f"{folder.name}.{name}"]


def _environment(folder: Path, entry: dict) -> dict[str, str]:
    """The variables of a bench.

    Its compiled programs are kept for the next run, since no figure includes compilation;
    a bench that `compiles` is the exception, and neither keeps nor finds any. The double
    of the control plane is among the modules in tests/.
    """
    path = [str(folder.parent / "tests"), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, path))}
    cache = {
        "JAX_COMPILATION_CACHE_DIR": str(folder.parent / "build/compilations"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    if entry.get("compiles"):
        return {k: v for k, v in environment.items() if k not in cache}
    return cache | environment
