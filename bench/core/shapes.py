"""Start times, and a process that meets thousands of shapes.

    python -m bench.core.shapes [--count 2000] [--quick] [--plot FILE]

First `start`: seconds from the start of a process to its first corrected product of a
300 x 200 matrix, without and with a filled compilation cache; of `sedma run`, of
`sedma --help`, and of `import sedma_jax` beside `import jax, equinox`. Then `shapes`: in
one process, `program`, `matvec` and `corrected_matvec` of matrices of random shapes, from
1 x 1 to 3000 x 3000, evenly over the logarithm: seconds for the three, memory mappings and
resident memory after each. Every 100th result is compared, bit for bit, with that of a
process which meets this shape alone. Results go to `bench/results/shapes.json`, the plot
(which needs the viz extra) to `shapes.png` beside it.
"""

import hashlib
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax
import jax.random as jr
import numpy as np

import sedma_jax as sj
from bench.shared import RESULTS, ROOT, machine, module_command, parser_of, write_json

_LARGEST = 3000
_FIRST = """
import jax, jax.random as jr, numpy as np, sys, sedma_jax as sj
if len(sys.argv) > 1:
    sj.enable_compilation_cache(sys.argv[1])
A = np.random.default_rng(0).standard_normal((300, 200), dtype=np.float32)
x = np.ones(200, np.float32)
jax.block_until_ready(sj.corrected_matvec(A, x, "epiram", key=jr.key(0))[0])
"""


def shape_of(number: int) -> tuple[int, int]:
    """The shape of this number, which other processes find too."""
    low, high = np.log(1), np.log(_LARGEST + 1)
    m, n = np.exp(np.random.default_rng(number).uniform(low, high, 2))
    return int(m), int(n)


def work(number: int) -> tuple[float, str]:
    """Seconds for the three calls, and a digest of all that they return."""
    m, n = shape_of(number)
    rng = np.random.default_rng(number)
    A = rng.standard_normal((m, n), dtype=np.float32)
    x = rng.standard_normal(n, dtype=np.float32)
    device, key = sj.devices.EPIRAM, jr.key(number)
    begin = time.perf_counter()
    crossbar, stats = sj.program(A, device, key=key)
    y = sj.matvec(crossbar, x, key=key)
    corrected, info = sj.corrected_matvec(A, x, device, key=key)
    results = jax.block_until_ready((crossbar.strips, stats.energy, y, corrected, info.raw))
    seconds = time.perf_counter() - begin
    digest = hashlib.sha256()
    for result in results:
        digest.update(np.ascontiguousarray(result).tobytes())
    return seconds, digest.hexdigest()


def mappings() -> int:
    """Memory mappings of this process."""
    return Path("/proc/self/maps").read_bytes().count(b"\n")


def resident() -> float:
    """Resident memory of this process, in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def sweep(count: int, compared: int) -> dict:
    """All shapes in this process, and some of them in processes of their own."""
    rows, differing = [], []
    for number in range(count):
        seconds, digest = work(number)
        rows.append([*shape_of(number), seconds, mappings(), resident()])
        if number % compared == compared - 1:
            alone = module_command("bench.core.shapes", "--alone", number)
            done = subprocess.run(
                alone, capture_output=True, text=True, check=True, cwd=ROOT
            )
            if done.stdout.split()[-1] != digest:
                differing.append(number)
            median = statistics.median(row[2] for row in rows[-compared:])
            print(f"{number + 1} shapes, {median:.3f} s each, {rows[-1][3]} mappings")
    return {
        "columns": ["m", "n", "seconds", "mappings", "resident MB"],
        "rows": rows,
        "compared": count // compared,
        "differing": differing,
    }


def timed(command: list[str], runs: int, **environment: str) -> float:
    """Median seconds of a command."""
    times = []
    for _ in range(runs):
        begin = time.perf_counter()
        subprocess.run(
            command, check=True, capture_output=True, cwd=ROOT, env=os.environ | environment
        )
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def start(runs: int) -> dict:
    """Seconds of whole processes, by what they do."""
    python = lambda code, *rest: [sys.executable, "-c", code, *rest]
    sedma = [sys.executable, "-m", "sedma_jax._cli"]
    matrix = [*sedma, "run", "data/bcsstk02.mtx"]
    with tempfile.TemporaryDirectory() as cache:
        off = {"SEDMA_COMPILATION_CACHE": "off"}
        on = {"SEDMA_COMPILATION_CACHE": f"{cache}/run"}
        timed(python(_FIRST, f"{cache}/first"), 1)
        timed(matrix, 1, **on)
        return {
            "first corrected product, cold": timed(python(_FIRST), runs),
            "first corrected product, warm": timed(python(_FIRST, f"{cache}/first"), runs),
            "sedma run, cold": timed(matrix, runs, **off),
            "sedma run, warm": timed(matrix, runs, **on),
            "sedma --help": timed([*sedma, "--help"], runs),
            "import sedma_jax": timed(python("import sedma_jax"), runs),
            "import jax, equinox": timed(python("import jax, equinox"), runs),
        }


def plot(rows, path):
    """Mappings and seconds over the number of shapes met."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot([row[3] for row in rows])
    left.set(xlabel="shapes", ylabel="memory mappings", ylim=(0, None))
    right.semilogy([row[2] for row in rows], ".", markersize=3)
    right.set(xlabel="shapes", ylabel="seconds for the three calls")
    figure.savefig(path)


def main():
    """Measure, and write the figures and the plot."""
    parser = parser_of(__doc__)
    parser.add_argument("--count", type=int, default=2000, help="number of shapes")
    parser.add_argument("--quick", action="store_true", help="20 shapes, one run each")
    parser.add_argument("--alone", type=int, help="print the digest of one shape, and end")
    parser.add_argument("--out", type=Path, default=RESULTS / "shapes.json", metavar="FILE")
    parser.add_argument("--plot", default=str(RESULTS / "shapes.png"), metavar="FILE")
    options = parser.parse_args()
    if options.alone is not None:
        print(work(options.alone)[1])
        return
    count, compared = (20, 10) if options.quick else (options.count, 100)
    begun = start(1 if options.quick else 3)
    for name, seconds in begun.items():
        print(f"{name}: {seconds:.2f} s", flush=True)
    result = {"machine": machine(), "start": begun, "shapes": sweep(count, compared)}
    write_json(options.out, result)
    plot(result["shapes"]["rows"], options.plot)


if __name__ == "__main__":
    main()
