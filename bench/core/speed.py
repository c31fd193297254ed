"""Time our kernels beside their rivals in one run, interleaved, as ratios.

    python -m bench.core.speed [--n 4096] [--quick] [--rivals build/rivals/bin/python]
    python -m bench.core.report

Each round times every contender of a case once, so that a disturbance of the machine
reaches all of them; figures are medians over rounds, of times and of ratios within a round.
The first call, which compiles, and the peak memory are measured in a fresh process per case
for our kernels, and in the one process that runs all cases for a rival.
Results go to `bench/results/speed.json`.
"""

import argparse
import datetime
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import jax
import jax.lax as lax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from sedma_jax.kernels import (
    cut_tiles,
    move_state,
    nominal_response,
    normal,
    normal_pair,
    visible_state,
    wide_jit,
)

# Private, but the baseline has to follow the rule of the kernel.
from sedma_jax.kernels._programming.closed_loop import pulses_for

import sedma_jax as sj
from bench.core.rivals import RIVALS, SKIPPED
from bench.shared import (
    RESULTS,
    ROOT,
    Rival,
    add_rivals,
    module_command,
    parser_of,
    write_json,
)

# Private, since `corrected_matvec` also encodes the input, which is timed apart.
from sedma_jax._products.corrected import _encoded_inputs, _exact
from sedma_jax._products.correction import correct

DEVICE = sj.devices.EPIRAM
RULE = sj.acceptance_band(DEVICE, iterations=20)
TILE, BATCHES = 256, (1, 32, 256)
NOISY = sj.Device(**{**vars(DEVICE), "sigma_read": 0.01})


@jax.jit
def lanes_baseline(A):
    """The loop of `write_and_verify` by `vmap` and `jax.random`, as one first writes it.

    It programs one cell per weight, as ours does: the sign only chooses which of the pair.
    """
    tiles = A.reshape(len(A) // TILE, TILE, -1, TILE).swapaxes(1, 2)
    tiles = tiles.reshape(-1, TILE, TILE).swapaxes(1, 2)
    target = jnp.abs(tiles) / jnp.max(jnp.abs(tiles), axis=1, keepdims=True)
    response = nominal_response(DEVICE, A.dtype)

    def program(target, key):
        def step(carry):
            i, state, pulses, spent = carry
            noise = jr.normal(jr.fold_in(key, i), target.shape, A.dtype)
            moved = move_state(state, pulses, DEVICE, response, noise)
            wanted = pulses_for(target - visible_state(moved, DEVICE), DEVICE, RULE)
            wanted = jnp.where((pulses != 0) | (i == 0), wanted, 0)
            return i + 1, moved, wanted, spent + jnp.sum(jnp.abs(pulses))

        start = (0, jnp.zeros_like(target), jnp.zeros_like(target), jnp.zeros((), A.dtype))
        go = lambda c: (c[0] == 0) | ((c[0] <= RULE.iterations) & jnp.any(c[2] != 0))
        return lax.while_loop(go, step, start)

    return jax.vmap(program)(target, jr.split(jr.key(0), len(target)))


def normals(n: int, rng) -> dict:
    """Draws of `n * n` normals."""
    shape, dtype = (n, n), np.dtype(np.float32)
    return {
        "ours": lambda: normal(jr.key(1), shape, dtype),
        "ours, as pairs": lambda: normal_pair(jr.key(1), (n, n // 2), dtype),
        "jax.random": bare_normals(n),
        "numpy": lambda: rng.standard_normal(shape, dtype=dtype),
    }


def bare_normals(n: int):
    return jax.jit(lambda: jr.normal(jr.key(1), (n, n), np.dtype(np.float32)))


def programmed(A, **how):
    return sj.program(A, DEVICE, rule=RULE, key=jr.key(0), **how)


def programming(A) -> dict:
    """Write-and-verify in a closed loop."""
    return {
        "ours": lambda: programmed(A),
        "vmap + jax.random": lambda: lanes_baseline(A),
    }


def exact_law(A) -> dict:
    """The outcome of write-and-verify, drawn from its distribution."""
    target = jnp.abs(cut_tiles(A, TILE, TILE).reshape(-1, 1, TILE, TILE))
    target = target / jnp.max(target)
    cells = (target, jnp.zeros_like(target), jnp.ones(target[:, 0].shape, bool))
    keys = jr.split(jr.key(0), len(target))
    response = nominal_response(DEVICE, target.dtype)

    def write(array):
        *cells, key = array
        return sj.sampled_rewrite(*cells, DEVICE, response, RULE, key=key)

    states = wide_jit(lambda cells: lax.map(write, (*cells, keys)))
    return {
        "ours": lambda: programmed(A, scheme=sj.sampled_rewrite),
        "ours, states and figures alone": lambda: states(cells),
        "bare jax.random.normal": bare_normals(len(A)),
    }


def matvec(A, weights, inputs, batch: int, noise: bool) -> dict:
    """Products with converters, of `batch` vectors."""
    crossbar = sj.program_exactly(A, NOISY if noise else DEVICE)
    x, key = jnp.asarray(inputs[:batch]), jr.key(2)
    dac = sj.DAC(8)
    adc = sj.calibrated_adc(crossbar, inputs[:32], bits=8, dac=dac, key=key)
    # XLA takes ten times as long if the vector is given as a matrix of one row.
    ideal = jax.jit(lambda x: jnp.matmul(A, x, precision=lax.Precision.HIGHEST))
    if batch > 1:
        ideal = jax.jit(lambda x: jnp.matmul(x, A.T, precision=lax.Precision.HIGHEST))
    x, own = (x[0], inputs[0]) if batch == 1 else (x, inputs[:batch])
    return {
        "ours": lambda: sj.matvec(crossbar, x, dac=dac, adc=adc, key=key),
        "ideal, XLA": lambda: ideal(x),
        "ideal, numpy": lambda: own @ weights.T,
    }


def corrected(A, x) -> dict:
    """A corrected product."""
    crossbar = programmed(A)
    how = dict(programmed=crossbar, key=jr.key(2))
    encoded = sj.program(x[None], DEVICE, array=(TILE, 1), key=jr.key(3))[0]
    one, taken = x[None], (crossbar[1], crossbar[1])

    def ours():
        x_tilde, inputs = _encoded_inputs(encoded, one)
        analog = crossbar[0].read(inputs, None, None, jr.key(2))
        exact = _exact(A, jnp.concatenate([x_tilde, one]))
        return correct(analog, exact, one, x_tilde, 1e-12, *taken, single=True)

    return {
        "ours": ours,
        "ours, and encode the input": lambda: sj.corrected_matvec(A, x, DEVICE, **how)[0],
        "plain analog": lambda: sj.matvec(crossbar[0], x, key=jr.key(2)),
    }


def denoise(A) -> dict:
    """The second-order correction alone."""
    copy = jax.jit(jnp.copy)
    return {"ours": lambda: sj.denoise(A, 0.3), "copy": lambda: copy(A)}


def cases(n, seed=0):
    """Contenders of every case, made on demand, and the bytes and operations each needs."""
    rng = np.random.default_rng(seed)
    weights = rng.standard_normal((n, n), dtype=np.float32)
    inputs = rng.standard_normal((max(BATCHES), n), dtype=np.float32)
    A = jnp.asarray(weights)
    draws, bytes_ = {"draws": n * n}, 4 * n * n
    table = {
        "normals": (lambda: normals(n, rng), draws),
        "programming": (lambda: programming(A), draws),
        "exact law": (lambda: exact_law(A), draws),
        "corrected matvec": (
            lambda: corrected(A, jnp.asarray(inputs[0])),
            {"bytes": 2 * bytes_},
        ),
        "denoise": (lambda: denoise(A), {"bytes": 2 * bytes_}),
    }
    for batch in BATCHES:
        for noise in (False, True):
            name = f"matvec, batch {batch}, read noise {'on' if noise else 'off'}"
            needs = {"bytes": bytes_, "flops": 2 * n * n * batch}
            table[name] = (partial(matvec, A, weights, inputs, batch, noise), needs)
    return table, weights, inputs


def seconds_of(work):
    """Seconds of one call, until its result is there."""
    start = time.perf_counter()
    jax.block_until_ready(work())
    return time.perf_counter() - start


def compare(contenders, rounds, budget, rest=0.02):
    """Times of all contenders, each called once per round, in rotating order.

    `rest` is a pause in seconds before each call: threads of the previous contender spin
    for a while, those of PyTorch and NumPy for 200 ms.
    """
    for work in contenders.values():
        seconds_of(work)
    times, start = {name: [] for name in contenders}, time.perf_counter()
    order = list(contenders)
    for i in range(rounds):
        for name in order[i % len(order) :] + order[: i % len(order)]:
            time.sleep(rest)
            times[name].append(seconds_of(contenders[name]))
        if i >= 2 and time.perf_counter() - start > budget:
            break
    return times


class Simulator(Rival):
    """A rival that programs and multiplies, with figures of its memory and compilation."""

    def __init__(self, python: Path | str, name: str):
        super().__init__(python, "bench.core.rivals", name)
        self.figures = {}

    def ask(self, **request):
        answer = super().ask(**request)
        if "peak_bytes" in answer:
            self.figures["peak_bytes"] = answer["peak_bytes"]
        if "first_seconds" in answer:
            self.figures["compile_seconds"] = answer["first_seconds"] - answer["seconds"]
        return answer

    def run(self, case: str) -> dict:
        """Do once what a case times."""
        if not case.startswith("matvec"):
            return self.ask(op="program")
        batch = int(case.split()[2].rstrip(","))
        return self.ask(
            op="matvec", batch=batch, noise=case.endswith("on"), converters=True
        )


def start_rivals(python: Path | str, weights, inputs, folder: Path):
    """Rivals that start and take the data; and why the others do not, by name."""
    np.save(folder / "w.npy", weights)
    np.save(folder / "x.npy", inputs)
    running, skipped = {}, dict(SKIPPED)
    for name in RIVALS:
        rival = Simulator(python, name)
        answer = rival.hello
        if "error" not in answer:
            where = {"weights": str(folder / "w.npy"), "inputs": str(folder / "x.npy")}
            answer = rival.ask(op="load", **where)
        if "error" in answer:
            skipped[name] = answer["error"]
            rival.close()
        else:
            running[name] = rival
    return running, skipped


def with_rivals(case: str, contenders: dict, rivals: dict, skipped: dict, options):
    """Times of a case, with those rivals among the contenders that can do it."""

    def call(rival, label):
        answer = rival.run(case)
        if "error" in answer:
            raise RuntimeError(f"{label}: {answer['error']}")

    for label, rival in rivals.items():
        if case in ("programming", "exact law") or case.startswith("matvec"):
            try:
                call(rival, label)
            except RuntimeError as error:
                skipped[f"{label} ({case})"] = str(error)
            else:
                contenders[label] = partial(call, rival, label)
    return compare(contenders, options.rounds, options.budget, rest=0.25)


def limits(n):
    """Bytes copied, operations done and normals drawn per second on this machine."""
    A = jnp.asarray(np.random.default_rng(1).standard_normal((n, n), dtype=np.float32))
    copy, product = jax.jit(jnp.copy), jax.jit(partial(jnp.matmul, precision="highest"))
    draws = {
        "normal": lambda: normal(jr.key(1), (n, n), jnp.float32),
        "pair": lambda: normal_pair(jr.key(1), (n, n // 2), np.dtype("f4")),
        "jax": jax.jit(lambda: jr.normal(jr.key(1), (n, n), jnp.float32)),
        "numpy": lambda: np.random.default_rng(1).standard_normal((n, n), dtype="f4"),
    }
    best = lambda work: statistics.median(compare({"": work}, 5, 5)[""])
    return {
        "bytes": 2 * A.nbytes / best(lambda: copy(A)),
        "flops": 2 * n * n * min(n, 1024) / best(lambda: product(A, A[:, : min(n, 1024)])),
        "draws": n * n / min(map(best, draws.values())),
    }


def record_of(times, needs, limits):
    """Medians, medians of the ratios to ours within a round, and percent of the limit."""
    least = max(amount / limits[kind] for kind, amount in needs.items())
    record = {}
    for name, own in times.items():
        median = statistics.median(own)
        ratios = [a / b for a, b in zip(own, times["ours"], strict=True)]
        record[name] = {
            "seconds": median,
            "rounds": len(own),
            "over_ours": statistics.median(ratios),
            "percent_of_limit": 100 * least / median,
        }
    return record


def fresh(name, n):
    """First call and peak memory of our own contender, in a new process."""
    command = module_command("bench.core.speed", "--n", n, "--only", name)
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    return json.loads(done.stdout.splitlines()[-1])


def show_fresh(name, n):
    table, *_ = cases(n)
    work = table[name][0]()["ours"]
    first = seconds_of(work)
    again = statistics.median(seconds_of(work) for _ in range(3))
    peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"compile_seconds": first - again, "peak_bytes": peak}))


def main():
    """Run all cases and write what they took."""
    parser = parser_of(__doc__)
    parser.add_argument("--n", type=int, help="size, a multiple of 256 (default: 4096)")
    parser.add_argument("--quick", action="store_true", help="1024 in place of 4096")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--budget", type=float, default=15, help="seconds per case")
    add_rivals(parser)
    parser.add_argument("--only", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=RESULTS / "speed.json", metavar="FILE")
    options = parser.parse_args()
    n = options.n or (1024 if options.quick else 4096)
    if options.only:
        return show_fresh(options.only, n)
    table, weights, inputs = cases(n)
    python = options.rivals if options.rivals.exists() else sys.executable
    measured = limits(n)
    result = {
        "date": datetime.date.today().isoformat(),
        "n": n,
        "device": f"{jax.devices()[0].device_kind}, {os.cpu_count()} cores, "
        f"{platform.machine()}",
        "versions": {"python": platform.python_version(), "jax": jax.__version__,
                     "numpy": np.__version__, "sedma-jax": sj.__version__},
        "limits_per_second": measured,
        "cases": {},
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        rivals, skipped = start_rivals(python, weights, inputs, Path(folder))
        result["versions"] |= {k: r.hello["version"] for k, r in rivals.items()}
        for name, (make, needs) in table.items():
            times = with_rivals(name, make(), rivals, skipped, options)
            contenders = record_of(times, needs, measured)
            contenders["ours"] |= fresh(name, n)
            for label in contenders.keys() & rivals.keys():
                contenders[label] |= rivals[label].figures
            result["cases"][name] = {"contenders": contenders}
            print(name, {k: f"{v['seconds']:.4g} s" for k, v in contenders.items()})
        for rival in rivals.values():
            rival.close()
    result["skipped"] = skipped
    for name, why in skipped.items():
        print(f"skipped {name}: {why}")
    write_json(options.out, result)


if __name__ == "__main__":
    main()
