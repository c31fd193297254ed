"""Rows that others wrote, and a file that another process holds, are called so."""

import sqlite3

import pytest

import sedma_jax as sj
from sedma_jax._cli.main import main


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "m.db"
    with sj.memory.open(f"sqlite:///{path}") as memory:
        memory.record("k", "w", {"a": 1}, [1.0, 2.0], features=[1.0, 2.0])
        memory.record("k", "w", {"a": 2}, 2.0, features=[1.0, 3.0])
    return path


USES = {
    "recall": lambda memory, out: memory.recall("k", "w"),
    "patterns": lambda memory, out: memory.patterns(),
    "nearest": lambda memory, out: memory.nearest("k", [1.0, 2.0]),
    "record": lambda memory, out: memory.record("k", "w", {"a": 1}, 1.0),
    "export": lambda memory, out: memory.export(out),
}
DAMAGE = [
    ("choice", "not JSON", "recall patterns nearest export"),
    ("choice", "[" * 5000, "recall patterns nearest export"),
    ("choice", b"\xff", "recall patterns nearest record export"),
    ("features", "text", "recall patterns nearest record export"),
    ("features", b"\0\0\0", "recall patterns nearest record export"),
    ("count", "many", "recall patterns nearest record export"),
    ("count", -1, "recall patterns nearest record export"),
    ("count", 0, "recall patterns nearest record export"),
    ("mean", "x", "recall patterns nearest record export"),
    ("mean", 1e300, "recall patterns nearest record export"),
    ("mean", float("inf"), "recall patterns nearest record export"),
    ("m2", -1.0, "recall patterns nearest record export"),
    ("m2", "x", "recall patterns nearest record export"),
    ("updated", "never", "recall patterns nearest record export"),
    ("updated", -(2**60), "recall patterns nearest record export"),
    ("updated", 2**62, "recall patterns nearest record export"),
    ("kind", b"\xff", "export patterns record"),
    ("value", "x", "recall patterns nearest record export"),
]


@pytest.mark.parametrize(("column", "value", "uses"), DAMAGE)
def test_a_row_that_was_edited_by_hand_is_shown(path, tmp_path, column, value, uses):
    with sqlite3.connect(path) as connection:
        change = f"UPDATE sedma_patterns SET {column} = ? WHERE choice = '{{\"a\":1}}'"
        assert connection.execute(change, (value,)).rowcount == 1
    connection.close()
    for use in uses.split():
        with sj.memory.open(f"sqlite:///{path}") as memory:
            with pytest.raises(ValueError) as caught:
                USES[use](memory, tmp_path / "out")
        said = str(caught.value)
        assert "damaged one" in said and f"{column}=" in said and len(said) < 800
    assert not (tmp_path / "out").exists()
    with sj.memory.open(f"sqlite:///{path}") as memory:
        assert len(memory) == 2


def test_the_command_line_refuses_such_a_row_in_a_line(path, capsys):
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE sedma_patterns SET count = 'many'")
    connection.close()
    assert main(["memory", "show", "--memory", f"sqlite:///{path}"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "count='many'" in said


def test_a_locked_file_is_not_taken_for_a_matter_of_permissions(path):
    other = sqlite3.connect(path, isolation_level=None)
    with sj.memory.open(f"sqlite:///{path}") as memory:
        memory._store._database._raw.execute("PRAGMA busy_timeout = 50")
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(ConnectionError, match="locked") as caught:
            memory.record("k", "w", {"a": 1}, 1.0)
        assert "Another process has held it" in str(caught.value)
        assert "permissions" not in str(caught.value)
        other.execute("ROLLBACK")
        memory.record("k", "w", {"a": 1}, 1.0)
        assert [p.count for p in memory.recall("k", "w")] == [1, 3]
    other.close()
