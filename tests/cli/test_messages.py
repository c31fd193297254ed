"""Messages that name the cause: overflow, locks, damage, edited rows, long inputs."""

import json
import sqlite3

import numpy as np
import pytest

from sedma_jax import memory
from sedma_jax._cli._terminal.streams import complain
from sedma_jax._cli.main import main


@pytest.fixture
def patterns(tmp_path):
    """A memory of one pattern: its file and its URL."""
    path = tmp_path / "m.db"
    url = f"sqlite:///{path}"
    with memory.open(url) as opened:
        opened.record("k", "w", {"a": 1}, 1.0, features=[1.0])
    return path, url


@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid value")
@pytest.mark.parametrize("adaptive", [False, True])
def test_a_product_that_overflows_is_kept(tmp_path, capsys, patterns, adaptive):
    path = tmp_path / "m.npy"
    np.save(path, np.full((6, 6), 3e38, np.float32))
    more = ["--memory", patterns[1]] if adaptive else []
    out = ["--out", str(tmp_path / "out"), "--seed", "1"]
    assert main(["run", str(path), "--json", *out, *more]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["shape"] == [6, 6]
    errors = [record[f"relative_{n}_corrected"] for n in ("l2", "linf")]
    assert None in errors
    assert np.load(tmp_path / "out" / "y.npy").shape == (6,)
    assert main(["run", str(path), *out, *more]) == 0
    assert "overflow" in capsys.readouterr().out


def test_an_error_does_not_repeat_a_large_input(capsys):
    complain("begins " + "x" * 50_000_000 + " and ends")
    error = capsys.readouterr().err
    assert len(error) < 5000 and error.count("\n") == 1
    assert "begins" in error and "and ends" in error and "characters)" in error


def test_a_locked_memory_says_that_it_is_locked(patterns, capsys, monkeypatch, tmp_path):
    path, url = patterns
    monkeypatch.setattr("sedma_jax.memory._connection._PATIENCE", 0)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        assert main(["memory", "prune", "--keep", "0", "--memory", url]) == 1
    finally:
        other.close()
    error = capsys.readouterr().err
    assert "Another process has held it" in error and "permissions" not in error


@pytest.mark.parametrize(
    "edit, told",
    [
        ("choice = 'nonsense'", "needs rows that `record` wrote"),
        ("updated = 9000000000000000000", "needs rows that `record` wrote"),
        ("count = 2, m2 = -1.0", "needs rows that `record` wrote"),
        ("features = x'00'", "needs rows that `record` wrote"),
        ("workload = CAST(x'ff' AS TEXT)", "an intact SQLite file"),
    ],
)
def test_an_edited_row_is_named(patterns, capsys, edit, told):
    path, url = patterns
    with sqlite3.connect(path) as data:
        data.execute(f"UPDATE sedma_patterns SET {edit}")
    data.close()
    assert main(["memory", "show", "--memory", url]) == 2
    error = capsys.readouterr().err
    assert told in error and error.count("\n") == 1
