"""Time lookups in a long-term memory of 10,000 patterns, by where the answer comes from.

    pytest bench/memory/bench_memory.py -o addopts=--import-mode=importlib

The option leaves out the type checks of the test run, which would take most of the time.

Every workload has ten patterns, every pattern sixteen features. The process keeps nothing
for `cold` lookups (`cache=0`), but the connection is open. `in process` answers are checked
against the database for changes, for PostgreSQL only once per second (`staleness=1`). The
first `nearest` of a process loads the features of all patterns; `after a write` another
process has changed one pattern. Redis does not keep features: its copy would be as long as
the original, and out of date after each write.

The bench ends with a table and writes `bench/results/memory.json`, with p50 and p99 in
microseconds; p99 only for 1,000 lookups or more. `share_of_run` is the share of opening the
memory and recalling in the wall time of `sedma run`, the start of Python included, in the
second of two runs of one command: the first finds no pattern of the matrix.
"""

import itertools
import json
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from rich.console import Console
from rich.table import Table
from services import postgres_schema, redis_server

import sedma_jax as sj
from bench.shared import DATA, RESULTS, ROOT, write_json

WORKLOADS, CHOICES, FEATURES = 1_000, 10, 16
LOOKUPS = 2_000
ENOUGH = 1_000  # lookups for p99, of which ten are slower
LOOKED_UP, SHARES = {}, []


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """URL of the same memory in each kind of database."""
    folder = tmp_path_factory.mktemp("memory")
    rng = np.random.default_rng(0)
    points = rng.normal(size=(WORKLOADS, CHOICES, FEATURES)).round(6).tolist()
    patterns = [
        {
            **{"kind": "partition", "workload": f"dense-{w}", "choice": {"tile": c}},
            **{"features": points[w][c], "count": 3, "mean": float(c), "m2": 1.0},
            "updated": 1_700_000_000_000_000 + w,
        }
        for w in range(WORKLOADS)
        for c in range(CHOICES)
    ]
    header = {
        **{"format": "sedma-memory", "version": 1, "memory": "0" * 32},
        **{"generation": 0, "patterns": len(patterns)},
    }
    lines = folder / "patterns.jsonl"
    lines.write_text("".join(json.dumps(line) + "\n" for line in (header, *patterns)))
    with postgres_schema() as postgres:
        urls = {"SQLite": f"sqlite:///{folder}/memory.db", "PostgreSQL": postgres}
        for url in urls.values():
            with sj.memory.open(url) as memory:
                memory.import_(lines)
                assert len(memory) == WORKLOADS * CHOICES
        yield urls
    _report()


def _report():
    table = Table(title="microseconds at 10,000 patterns")
    for heading in ("lookup", "from", "p50", "p99", "of"):
        table.add_column(
            heading, justify="left" if heading in ("lookup", "from") else "right"
        )
    for (lookup, source), result in LOOKED_UP.items():
        both = (result["p50_us"], result["p99_us"])
        figures = ("-" if v is None else f"{v:,.0f}" for v in both)
        table.add_row(lookup, source, *figures, str(result["lookups"]))
    console = Console(width=100, stderr=True)
    console.print()
    console.print(table)
    rows = [{"lookup": k[0], "from": k[1]} | v for k, v in LOOKED_UP.items()]
    for row in SHARES:
        shares = ", ".join(f"{name} {row[name]:.2%}" for name in ("open", "recall"))
        console.print(f"share of `sedma run`, {row['from']}: {shares}")
    if rows or SHARES:
        write_json(RESULTS / "memory.json", {"rows": rows, "share_of_run": SHARES})


def _time(benchmark, lookup, source, work, setup=None, rounds=LOOKUPS):
    benchmark.group = lookup
    benchmark.extra_info |= {"from": source, "device": str(jax.devices()[0])}
    benchmark.pedantic(work, setup=setup, rounds=rounds)
    if not benchmark.disabled:
        p50, p99 = np.percentile(benchmark.stats.stats.data, [50, 99]) * 1e6
        p99 = round(p99, 1) if rounds >= ENOUGH else None
        figures = {"p50_us": round(p50, 1), "p99_us": p99, "lookups": rounds}
        LOOKED_UP[lookup, source] = figures
        benchmark.extra_info |= figures


def _workloads():
    order = np.random.default_rng(1).permutation(WORKLOADS).tolist()
    return itertools.cycle(f"dense-{w}" for w in order)


SOURCES = {
    "SQLite, cold": ("SQLite", {"cache": 0}),
    "PostgreSQL, cold": ("PostgreSQL", {"cache": 0}),
    "Redis, warm (PostgreSQL behind)": ("PostgreSQL", {"cache": 0, "redis": True}),
    "in process (SQLite behind)": ("SQLite", {}),
    "in process (PostgreSQL behind)": ("PostgreSQL", {"staleness": 1.0}),
}


@pytest.mark.parametrize("source", SOURCES)
def bench_recall(benchmark, filled, source):
    database, options = SOURCES[source]
    with redis_server() as redis:
        options = options | ({"redis": redis} if "redis" in options else {})
        with sj.memory.open(filled[database], **options) as memory:
            names = _workloads()
            for _ in range(WORKLOADS):  # warms whatever keeps answers
                found = memory.recall("partition", next(names))
                assert [p.choice["tile"] for p in found] == list(range(CHOICES))[::-1]
            _time(
                benchmark, "recall", source, lambda: memory.recall("partition", next(names))
            )


@pytest.mark.parametrize("database", ["SQLite", "PostgreSQL"])
def bench_nearest_first(benchmark, filled, database):
    def setup():
        memory = sj.memory.open(filled[database])
        memory.recall("partition", "dense-0")
        return (memory,), {}

    def first(memory):
        memory.nearest("partition", [0.0] * FEATURES)
        memory.close()

    first(*setup()[0])  # compiles
    _time(benchmark, "nearest", f"{database}, first", first, setup, rounds=100)


@pytest.mark.parametrize("database", ["SQLite", "PostgreSQL"])
@pytest.mark.parametrize("when", ["in process", "after a write"])
def bench_nearest(benchmark, filled, database, when):
    queries = np.random.default_rng(2).normal(size=(LOOKUPS, FEATURES))
    query = itertools.cycle(queries)
    with (
        sj.memory.open(filled[database]) as memory,
        sj.memory.open(filled[database]) as writer,
    ):
        work = lambda: memory.nearest("partition", next(query))
        setup = None
        if when == "after a write":
            features = queries[0].tolist()
            setup = lambda: writer.record(
                *("partition", "dense-0", {"tile": 0}, 0.0), features=features
            )
        known = memory.patterns("partition")
        table = np.array([p.features for p in known])
        exact = np.linalg.norm((table - queries[0]) / table.std(axis=0), axis=1)
        names = [(known[i].workload, known[i].choice) for i in np.argsort(exact)[:8]]
        assert [(p.workload, p.choice) for p in work()] == names
        rounds = LOOKUPS if setup is None else ENOUGH
        _time(benchmark, "nearest", f"{database}, {when}", work, setup, rounds)


@pytest.mark.parametrize("database", ["SQLite", "PostgreSQL"])
def bench_share_of_run(benchmark, filled, database):
    """Measured outside pytest-benchmark, whose table compares times."""
    if benchmark.disabled:
        pytest.skip("measures whole commands")
    command = [sys.executable, "-m", "sedma_jax._cli", "run", DATA / "bcsstk02.mtx"]
    command += ["--device", "taox-hfox", "--memory", filled[database], "--json"]
    for _ in range(2):
        start = time.perf_counter()
        done = subprocess.run(command, check=True, capture_output=True, cwd=ROOT)
        wall = time.perf_counter() - start
    record = json.loads(done.stdout)
    assert record["recalled"] > 0
    seconds = {name: record["seconds"][name] for name in ("open", "recall")}
    shares = {name: value / wall for name, value in seconds.items()}
    SHARES.append({"from": database, "wall_s": wall, **shares})
    benchmark.pedantic(lambda: None)
