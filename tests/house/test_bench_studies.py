"""The judgements of benches on cases worked by hand, and that every bench imports."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bench.comm.peer_weights import relearnt
from bench.core.speed import cases
from bench.memory.phase_shift import latency

ROOT = Path(__file__).parents[2]
MODULES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in sorted((ROOT / "bench").glob("*/*.py"))
]


def test_every_bench_imports():
    """In a process of its own, since `caching` sets the clock of its process forward."""
    rivals = {"bench.comm.transport_lattica"}  # needs what only rivals' environments have
    text = "import importlib, sys\nfor name in sys.argv[1:]: importlib.import_module(name)"
    names = [name for name in MODULES if name not in rivals]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "tests")}
    command = [sys.executable, "-c", text, *names]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert not done.returncode, done.stderr


def test_no_bench_edits_the_path_of_imports():
    for path in (ROOT / "bench").rglob("*.py"):
        assert "sys.path" not in path.read_text(), path


@pytest.mark.parametrize(
    ("ratios", "decisions", "seconds", "lost"),
    [
        ([1.0, 1.0, 1.0, 1.0], 1, 1.0, 0.0),
        ([5.0, 1.05, 1.0, 1.0], 2, 2.0, 4.0),
        ([1.0, 5.0, 5.0, 1.0, 1.0, 1.0], 4, 4.0, 8.0),  # 3 of 6, then good ones only
        ([5.0, 5.0, 5.0], 3, 3.0, 8.0),  # never
    ],
)
def test_a_phase_is_adapted_to_when_decisions_stay_good(ratios, decisions, seconds, lost):
    found = latency([(ratio, ratio - 1, 1.0) for ratio in ratios])
    assert (found["decisions"], found["seconds"]) == (decisions, seconds)
    assert found["lost"] == pytest.approx(lost)


def test_weights_are_relearnt_when_nine_in_ten_choices_are_right():
    # From the fifth on, 2 of 25 are wrong; before that 3, since 22 of 25 is less.
    after = [0] * 7 + [1] * 60
    assert relearnt(after) == 5
    assert relearnt([0, 1] * 30) == 60


def test_the_corrected_product_that_is_timed_is_one():
    table, weights, inputs = cases(256)
    made = table["corrected matvec"][0]()
    exact = weights.astype(float) @ inputs[0]
    error = lambda y: np.linalg.norm(np.ravel(y) - exact)
    corrected, *_ = made["ours"]()
    # What is left is the product of two errors, each a few hundredths in relative size.
    assert error(corrected) < 0.1 * error(made["plain analog"]())
